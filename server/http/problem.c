/*
 * Problems: errors as RFC 9457 documents. Called by handlers, in whatever thread they run. A
 * problem can grow (srv_problem_error) until the answer is finished; when out of memory, a fixed 500
 * takes its place.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/account.h"
#include "server/http/connection.h"

enum { MAX_DETAIL = 1024, MAX_ERRORS = 32 };

/* A JSON string of the text, whatever its bytes: what is not UTF-8 in it becomes '?'. */
static json_t *text_value(char *text)
{
    json_t *value = json_string(text);

    if (!value) {
        for (char *c = text; *c; c++)
            if ((unsigned char)*c >= 0x80)
                *c = '?';
        value = json_string(text);
    }
    return value;
}

static json_t *format_value(const char *format, va_list ap)
{
    char text[MAX_DETAIL];

    vsnprintf(text, sizeof(text), format, ap);
    return text_value(text);
}

/* Sets a member; when out of memory the whole answer becomes the one that needs none. */
static void put(struct srv_response *res, json_t *object, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, value) < 0)
        srv_response_out_of_memory(res);
}

static void begin(struct srv_response *res, int status, const char *code, json_t *detail)
{
    struct {
        const char *name;
        json_t *value;
    } members[] = {
        {"type", json_string("about:blank")},
        {"title", json_string(srv_status_text(status))},
        {"status", json_integer(status)},
        {"detail", detail},
        {"instance", NULL},
        {"code", json_string(code)},
        {"request_id", json_string(res->req->id)},
    };
    char path[SRV_MAX_PATH + 1];

    snprintf(path, sizeof(path), "%s", res->req->path ? res->req->path : "");
    members[4].value = text_value(path);
    srv_response_bytes(res, status, "application/problem+json", NULL, 0);
    res->problem = json_object();
    if (!res->problem)
        srv_response_out_of_memory(res);
    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
        if (res->problem)
            put(res, res->problem, members[i].name, members[i].value);
        else
            json_decref(members[i].value);
    }
}

void srv_problem(struct srv_response *res, int status, const char *code, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    begin(res, status, code, format_value(format, ap));
    va_end(ap);
}

static void add_error(struct srv_response *res, const char *pointer, const char *format, va_list ap)
{
    json_t *errors = json_object_get(res->problem, "errors"), *error;
    char where[MAX_DETAIL];

    if (!res->problem || json_array_size(errors) >= MAX_ERRORS)
        return;
    snprintf(where, sizeof(where), "%s", pointer);
    error = json_pack("{s:o, s:o}", "pointer", text_value(where), "detail", format_value(format, ap));
    if (!errors) {
        errors = json_array();
        put(res, res->problem, "errors", errors);
    }
    /* `put` has given `errors` away, also when it failed: then there is no problem any more. */
    if (!res->problem)
        json_decref(error);
    else if (json_array_append_new(errors, error) < 0)
        srv_response_out_of_memory(res);
}

void srv_problem_error(struct srv_response *res, const char *pointer, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    add_error(res, pointer, format, ap);
    va_end(ap);
}

void srv_problem_invalid(struct srv_response *res, const char *pointer, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    begin(res, 422, "invalid_value", format_value(format, ap));
    va_end(ap);
    va_start(ap, format);
    add_error(res, pointer, format, ap);
    va_end(ap);
}

void srv_problem_refused(struct srv_response *res, const struct srv_refusal *why)
{
    srv_problem(res, why->status, why->code, "%s", why->detail);
    if (why->status != 413)
        srv_response_header(res, "Retry-After", "2");
}
