/*
 * Answers: what a handler made, its headers, and the way to the socket. A handler fills it in one
 * thread; when the request is ANSWERED the HTTP thread hands it to libmicrohttpd. The bytes are
 * owned here until then.
 *
 * Every answer carries X-Request-Id and nosniff; one without an ETag of its own is not to be
 * stored.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/json.h"
#include "server/http/connection.h"

static const char out_of_memory[] =
    "{\"type\":\"about:blank\",\"status\":500,\"code\":\"out_of_memory\"}";

const char *srv_status_text(int status)
{
    const char *text = MHD_get_reason_phrase_for((unsigned)status);

    return text ? text : "Error";
}

void srv_response_init(struct srv_response *res, struct srv_request *req)
{
    *res = (struct srv_response){.req = req, .park_ms = -1};
}

static void drop_body(struct srv_response *res)
{
    if (!res->is_static)
        free(res->bytes);
    res->bytes = NULL;
    res->size = 0;
    res->is_static = false;
    json_decref(res->problem);
    res->problem = NULL;
    if (res->stream.read && res->stream.free)
        res->stream.free(res->stream.user);
    res->stream = (struct srv_stream){0};
    res->pieces = srv_pieces_free(res->pieces);
}

void srv_response_deinit(struct srv_response *res)
{
    drop_body(res);
    for (size_t i = 0; i < res->num_headers; i++) {
        free(res->headers[i].name);
        free(res->headers[i].value);
    }
    res->num_headers = 0;
    srv_charge_give(&res->charge);
}

/* What tells how the daemon is must be answered when there is no room for anything else. */
static bool is_inline(const struct srv_request *req)
{
    return req->match.route && (req->match.route->flags & SRV_ROUTE_INLINE);
}

bool srv_response_charge(struct srv_response *res, size_t bytes)
{
    struct srv_payer *payer = res->req->payer;
    int64_t total = bytes < INT64_MAX ? (int64_t)bytes : INT64_MAX;
    struct srv_refusal why;
    int status = 0;

    if (payer && total > 0 && is_inline(res->req)) {
        srv_charge_give(&res->charge);
        srv_charge_take_any(&res->charge, payer, SRV_CHARGE_ANSWERS, total);
    } else if (res->charge.payer) {
        status = srv_charge_resize(&res->charge, total, &why);
    } else if (payer && total > 0) {
        status = srv_charge_take(&res->charge, payer, SRV_CHARGE_ANSWERS, total, &why);
    }
    if (status < 0)
        srv_problem_refused(res, &why);
    return status == 0;
}

void srv_response_header(struct srv_response *res, const char *name, const char *value)
{
    struct srv_header header = {strdup(name), strdup(value)};

    /* A line break in a value would begin a header of the client's choice. */
    if (!header.name || !header.value || res->num_headers == SRV_MAX_HEADERS ||
        value[strcspn(value, "\r\n")]) {
        free(header.name);
        free(header.value);
        return;
    }
    res->headers[res->num_headers++] = header;
}

static void set_body(struct srv_response *res, int status, const char *content_type, void *bytes,
                     size_t size, bool is_static)
{
    drop_body(res);
    res->park_ms = -1;
    res->status = status;
    res->bytes = bytes;
    res->size = size;
    res->is_static = is_static;
    snprintf(res->content_type, sizeof(res->content_type), "%s", content_type);
}

void srv_response_begin(struct srv_response *res, int status, const char *content_type)
{
    set_body(res, status, content_type, NULL, 0, true);
}

void srv_response_bytes(struct srv_response *res, int status, const char *content_type, void *bytes,
                        size_t size)
{
    if (srv_response_charge(res, size))
        set_body(res, status, content_type, bytes, size, false);
    else
        free(bytes);
}

void srv_response_static(struct srv_response *res, int status, const char *content_type,
                         const void *bytes, size_t size)
{
    set_body(res, status, content_type, (void *)bytes, size, true);
}

void srv_response_out_of_memory(struct srv_response *res)
{
    srv_response_static(res, 500, "application/problem+json", out_of_memory,
                        sizeof(out_of_memory) - 1);
}

/* A problem is small, and must be answered when nothing can be charged any more. */
static void set_json(struct srv_response *res, int status, const char *content_type,
                     const json_t *body)
{
    char *text = els_json_text(body, JSON_COMPACT | JSON_ENCODE_ANY);

    if (text)
        set_body(res, status, content_type, text, strlen(text), false);
    else
        srv_response_out_of_memory(res);
}

void srv_response_json(struct srv_response *res, int status, json_t *body)
{
    char *text = els_json_text(body, JSON_COMPACT | JSON_ENCODE_ANY);

    json_decref(body);
    if (text)
        srv_response_bytes(res, status, "application/json", text, strlen(text));
    else
        srv_response_out_of_memory(res);
}

void srv_response_stream(struct srv_response *res, const char *content_type,
                         const struct srv_stream *stream)
{
    set_body(res, 200, content_type, NULL, 0, true);
    res->stream = *stream;
}

void srv_response_park(struct srv_request *req, struct srv_response *res, int timeout_ms,
                       void *state, void (*free_state)(void *state))
{
    drop_body(res);
    res->park_ms = timeout_ms > 0 ? timeout_ms : 0;
    if (req->free_state && req->state != state)
        req->free_state(req->state);
    req->state = state;
    req->free_state = free_state;
}

/* Does If-None-Match name the tag? Weak comparison: W/ is passed over. */
static bool names_tag(const char *list, const char *quoted)
{
    size_t n = strlen(quoted);

    while (*list) {
        size_t length;

        list += strspn(list, ", \t");
        if (*list == '*')
            return true;
        if (strncmp(list, "W/", 2) == 0)
            list += 2;
        length = *list == '"' ? strcspn(list + 1, "\"") + 2 : strcspn(list, ",");
        if (length == n && strncmp(list, quoted, n) == 0)
            return true;
        list += strnlen(list, length);
    }
    return false;
}

bool srv_response_etag(struct srv_request *req, struct srv_response *res, const char *tag)
{
    const char *list = srv_request_header(req, "If-None-Match");
    char quoted[160];

    snprintf(quoted, sizeof(quoted), "\"%s\"", tag);
    srv_response_header(res, "ETag", quoted);
    srv_response_header(res, "Cache-Control", "no-cache");
    if (!list || !names_tag(list, quoted))
        return false;
    set_body(res, 304, "", NULL, 0, true);
    return true;
}

void srv_response_finish(struct srv_response *res)
{
    json_t *problem;

    if (!res->status)
        srv_problem(res, 500, "no_answer", "The daemon has no answer to this request: a bug.");
    problem = res->problem;
    if (!problem)
        return;
    res->problem = NULL;
    set_json(res, res->status, "application/problem+json", problem);
    json_decref(problem);
}

static bool has_header(const struct srv_response *res, const char *name)
{
    for (size_t i = 0; i < res->num_headers; i++)
        if (strcasecmp(res->headers[i].name, name) == 0)
            return true;
    return false;
}

/* Every header of the answer, the standing ones included. */
static void each_header(const struct srv_response *res,
                        void (*visit)(void *user, const char *name, const char *value), void *user)
{
    const struct srv_request *req = res->req;

    if (*res->content_type)
        visit(user, "Content-Type", res->content_type);
    for (size_t i = 0; i < res->num_headers; i++)
        visit(user, res->headers[i].name, res->headers[i].value);
    visit(user, "X-Request-Id", req->id);
    visit(user, "X-Content-Type-Options", "nosniff");
    if (!has_header(res, "Cache-Control"))
        visit(user, "Cache-Control", "no-store");
    if (srv_request_is_cors(&req->http->policy, req->checks.origin)) {
        visit(user, "Access-Control-Allow-Origin", req->checks.origin);
        visit(user, "Access-Control-Expose-Headers", "Location, Retry-After, X-Request-Id, ETag");
        visit(user, "Vary", "Origin");
    }
    if (res->must_close)
        visit(user, "Connection", "close");
}

static void add_to_mhd(void *user, const char *name, const char *value)
{
    MHD_add_response_header(user, name, value);
}

bool srv_response_queue(struct srv_response *res, struct MHD_Connection *mhd)
{
    struct MHD_Response *response;
    bool queued;

    if (res->stream.read)
        response = srv_stream_create(res);
    else if (res->pieces)
        response = srv_pieces_create(res);
    else
        response = MHD_create_response_from_buffer(
            res->size, res->bytes, res->is_static ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_FREE);
    if (!response)
        return false;
    if (!res->stream.read && !res->pieces) {
        res->bytes = NULL; /* libmicrohttpd's now */
        res->is_static = true;
    }
    each_header(res, add_to_mhd, response);
    queued = MHD_queue_response(mhd, (unsigned)res->status, response) == MHD_YES;
    MHD_destroy_response(response);
    return queued;
}

static void add_to_buffer(void *user, const char *name, const char *value)
{
    /* A head that does not fit is short of a header; its end is checked by the caller. */
    (void)!els_buffer_printf(user, "%s: %s\r\n", name, value);
}

int srv_response_write(const struct srv_response *res, struct els_buffer *out, bool with_body)
{
    int r = els_buffer_printf(out, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\n", res->status,
                              srv_status_text(res->status), res->size);

    if (r == 0)
        each_header(res, add_to_buffer, out);
    if (r == 0)
        r = els_buffer_printf(out, "\r\n");
    if (r == 0 && with_body)
        r = els_buffer_append(out, res->bytes, res->size);
    return r;
}
