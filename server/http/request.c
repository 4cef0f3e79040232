/*
 * What a handler can ask of a request. Called in the handler's thread, while the connection rests
 * (or, for inline routes, on its own thread), so nothing changes underneath. Everything was bounded
 * when it came in: the URI and the headers by libmicrohttpd's memory limit, the body by
 * max_body_bytes.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/base/json_body.h"
#include "server/http/negotiate.h"
#include "server/http/connection.h"
#include "server/http/wire.h"

enum { MAX_WAIT = 86400 };

/* The absolute form's path: "http://host/path" is "/path" to us; its host must be the Host
 * header's. */
static const char *strip_authority(const char *uri)
{
    static const char marks[] = {'/', '?', SRV_WIRE_QUERY, '\0'};
    const char *rest = strncasecmp(uri, "http://", 7) == 0    ? uri + 7
                       : strncasecmp(uri, "https://", 8) == 0 ? uri + 8
                                                              : NULL;

    return rest ? rest + strcspn(rest, marks) : uri;
}

/* Decodes "a=1&b=2" into name NUL value NUL …: an argument of n bytes becomes at most n + 2, and has
 * at least one. */
static int parse_query(struct srv_request *req)
{
    size_t space = 3 * strlen(req->query), used = 0;
    const char *s = req->query;

    req->arguments = els_alloc_array(space, 1);
    if (!req->arguments)
        return ELS_ENOMEM;
    while (*s) {
        size_t n = strcspn(s, "&"), name = strcspn(s, "=&");
        const char *value = name < n ? s + name + 1 : s + n;

        if (n && (!srv_percent_decode(s, name, req->arguments + used, space - used, true)))
            return ELS_EINVAL;
        if (n) {
            used += strlen(req->arguments + used) + 1;
            if (!srv_percent_decode(value, (size_t)(s + n - value), req->arguments + used,
                                    space - used, true))
                return ELS_EINVAL;
            used += strlen(req->arguments + used) + 1;
        }
        s += n;
        s += *s == '&';
    }
    req->arguments_size = used;
    return 0;
}

int srv_request_parse_uri(struct srv_request *req, const char *uri)
{
    static const char query_marks[] = {'?', SRV_WIRE_QUERY, '\0'};
    char *mark;

    if (strlen(uri) > SRV_MAX_PATH)
        return ELS_EINVAL;
    req->uri = strdup(strip_authority(uri));
    if (!req->uri)
        return ELS_ENOMEM;
    req->path = req->uri;
    mark = req->uri + strcspn(req->uri, query_marks);
    req->query = *mark ? mark + 1 : mark;
    *mark = '\0';
    if (req->path[0] != '/' && strcmp(req->path, "*") != 0)
        return ELS_EINVAL;
    return parse_query(req);
}

struct srv_daemon *srv_request_daemon(const struct srv_request *req)
{
    return req->http->daemon;
}

const char *srv_request_method(const struct srv_request *req)
{
    return req->method;
}

const char *srv_request_path(const struct srv_request *req)
{
    return req->path;
}

const char *srv_request_arg(const struct srv_request *req, size_t i)
{
    return i < req->match.num_args ? req->match.args[i] : "";
}

const char *srv_request_header(const struct srv_request *req, const char *name)
{
    return MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name);
}

const char *srv_request_query(const struct srv_request *req, const char *name)
{
    const char *end = req->arguments + req->arguments_size;

    for (const char *s = req->arguments; s < end;) {
        const char *value = s + strlen(s) + 1;

        if (strcmp(s, name) == 0)
            return value;
        s = value + strlen(value) + 1;
    }
    return NULL;
}

bool srv_request_query_int(const struct srv_request *req, struct srv_response *res,
                           const char *name, int64_t min, int64_t max, int64_t otherwise,
                           int64_t *out)
{
    const char *text = srv_request_query(req, name);
    char pointer[64], *end = NULL;
    long long value;

    if (!text) {
        *out = otherwise;
        return true;
    }
    errno = 0;
    value = strtoll(text, &end, 10);
    if (isspace((unsigned char)*text) || *text == '+' || end == text || *end || errno ||
        value < min || value > max) {
        snprintf(pointer, sizeof(pointer), "?%s", name);
        srv_problem_invalid(res, pointer,
                            "The query argument %s is \"%.64s\"; it must be a whole number from "
                            "%" PRId64 " to %" PRId64 ".",
                            name, text, min, max);
        return false;
    }
    *out = value;
    return true;
}

const void *srv_request_body(const struct srv_request *req, size_t *size)
{
    *size = req->body.size;
    return req->body.data;
}

const char *srv_request_content_type(const struct srv_request *req)
{
    return req->content_type;
}

struct srv_payer *srv_request_payer(const struct srv_request *req)
{
    return req->payer;
}

bool srv_request_charge_json(struct srv_request *req, struct srv_response *res, size_t bytes)
{
    struct srv_json_bill bill = {req->payer, &req->json};
    struct srv_refusal why;
    bool paid = !bill.payer || srv_json_charge(&bill, bytes, &why);

    if (!paid)
        srv_problem_refused(res, &why);
    return paid;
}

/* `where` "": the body itself. */
static json_t *parse(struct srv_request *req, struct srv_response *res, const void *text, size_t size,
                     const char *where)
{
    struct srv_json_bill bill = {req->payer, &req->json};
    struct srv_json_error error;
    json_t *json = srv_json_parse(text, size, bill.payer ? &bill : NULL, &error);

    if (!json && error.refused)
        srv_problem_refused(res, &error.why);
    else if (!json && *where)
        srv_problem(res, error.status, error.code, "%s: %s", where, error.detail);
    else if (!json && error.status == 422)
        srv_problem_invalid(res, error.pointer, "%s", error.detail);
    else if (!json)
        srv_problem(res, error.status, error.code, "%s", error.detail);
    return json;
}

json_t *srv_request_json(struct srv_request *req, struct srv_response *res)
{
    if (strcmp(req->content_type, "application/json") != 0) {
        /* The first thing that a newcomer with curl meets. */
        bool form = strcmp(req->content_type, "application/x-www-form-urlencoded") == 0;

        srv_problem(res, 415, "unsupported_media_type",
                    "The body is %.80s; this resource takes application/json%s.", req->content_type,
                    form ? " (with curl: --json instead of -d)" : "");
        return NULL;
    }
    return parse(req, res, req->body.data, req->body.size, "");
}

json_t *srv_request_json_text(struct srv_request *req, struct srv_response *res, const char *text, size_t size,
                              const char *where)
{
    return parse(req, res, text, size, where);
}

const char *srv_request_accepts(const struct srv_request *req, struct srv_response *res,
                                const char *const *offers)
{
    const char *best = srv_negotiate_best(req->accept, offers);
    char list[512] = "";

    if (offers[1])
        srv_response_header(res, "Vary", "Accept");
    if (best)
        return best;
    for (size_t i = 0; offers[i]; i++) {
        size_t n = strlen(list);

        snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", offers[i]);
    }
    srv_problem(res, 406, "not_acceptable",
                "The Accept header takes none of what there is here: %s.", list);
    return NULL;
}

int srv_request_prefer_wait(const struct srv_request *req)
{
    const char *s = srv_request_header(req, "Prefer");

    while (s && *s) {
        s += strspn(s, ",; \t");
        if (strncasecmp(s, "wait=", 5) == 0 && isdigit((unsigned char)s[5])) {
            long wait = strtol(s + 5, NULL, 10);

            return wait > MAX_WAIT ? MAX_WAIT : (int)wait;
        }
        s += strcspn(s, ",;");
    }
    return -1;
}

const char *srv_request_id(const struct srv_request *req)
{
    return req->id;
}

const char *srv_request_key(const struct srv_request *req)
{
    return req->key.name;
}

const char *srv_request_peer(const struct srv_request *req)
{
    return srv_socket_peer(req->link);
}

struct srv_waker *srv_request_waker(struct srv_request *req)
{
    return req->waker;
}

void *srv_request_state(const struct srv_request *req)
{
    return req->state;
}

bool srv_request_timed_out(const struct srv_request *req)
{
    return req->timed_out;
}
