/*
 * What a request takes before its handler runs, and who pays for it: the API key that it came with and the network of
 * its address, so that an IPv6 /64 counts as one. Called by HTTP threads.
 *
 * Nobody is known before the head is there; what a request takes until then is bounded by the connections. A body is
 * charged before there is space for it: all of it at once where its length is given, so that one that cannot fit is
 * refused before it is sent; else in the steps in which its buffer grows.
 */
#include "server/http/connection.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SPACE = 4096 };

/* The library's pool, and what we copy out of it. */
static int64_t head_bytes(const struct srv_request *req)
{
    size_t bytes = SRV_CONNECTION_MEMORY + sizeof(*req) + req->arguments_size;

    if (req->uri)
        bytes += strlen(req->uri) + 1;
    if (req->accept)
        bytes += strlen(req->accept) + 1;
    return (int64_t)bytes;
}

static void out_of_memory(struct srv_request *req)
{
    srv_problem(&req->res, 500, "out_of_memory", "Out of memory.");
}

bool srv_request_charge_head(struct srv_request *req, bool always)
{
    struct srv_accounts *accounts = req->http->daemon->accounts;
    struct srv_refusal why;

    if (!accounts)
        return true;
    req->payer = srv_payer_new(accounts, req->key.name, srv_socket_network(req->link));
    if (!req->payer) {
        if (!always)
            out_of_memory(req);
        return always;
    }
    if (always) {
        srv_charge_take_any(&req->head, req->payer, SRV_CHARGE_REQUESTS, head_bytes(req));
        return true;
    }
    if (srv_charge_take(&req->head, req->payer, SRV_CHARGE_REQUESTS, head_bytes(req), &why) == 0)
        return true;
    srv_problem_refused(&req->res, &why);
    return false;
}

/* Space for so many bytes, charged before it is there. */
static bool make_space(struct srv_request *req, size_t space)
{
    struct srv_refusal why;
    int status = 0;
    void *data;

    if (req->space.payer)
        status = srv_charge_resize(&req->space, (int64_t)space, &why);
    else if (req->payer)
        status = srv_charge_take(&req->space, req->payer, SRV_CHARGE_BODIES, (int64_t)space, &why);
    if (status < 0) {
        srv_problem_refused(&req->res, &why);
        return false;
    }
    data = realloc(req->body.data, space);
    if (!data) {
        out_of_memory(req);
        return false;
    }
    req->body.data = data;
    req->body.space = space;
    return true;
}

bool srv_request_expect_body(struct srv_request *req, size_t size)
{
    return make_space(req, size);
}

bool srv_request_grow_body(struct srv_request *req, size_t size)
{
    size_t space = req->body.space, whole = req->body.size + size, most = req->body.maximum;

    if (whole <= space)
        return true;
    if (space < FIRST_SPACE)
        space = FIRST_SPACE < most ? FIRST_SPACE : most;
    while (space < whole)
        space = space > most / 2 ? most : space * 2;
    return make_space(req, space);
}
