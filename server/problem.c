/*
 * Problems: errors as RFC 9457 documents. Called by handlers, in whatever thread they run. A
 * problem can grow (srv_problem_error) until the answer is finished; when memory is out the status
 * alone is sent.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"

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

static void begin(struct srv_response *res, int status, const char *code, json_t *detail)
{
    char path[SRV_MAX_PATH + 1];

    snprintf(path, sizeof(path), "%s", res->req->path ? res->req->path : "");
    srv_response_bytes(res, status, "application/problem+json", NULL, 0);
    res->problem = json_object();
    json_object_set_new(res->problem, "type", json_string("about:blank"));
    json_object_set_new(res->problem, "title", json_string(srv_status_text(status)));
    json_object_set_new(res->problem, "status", json_integer(status));
    json_object_set_new(res->problem, "detail", detail);
    json_object_set_new(res->problem, "instance", text_value(path));
    json_object_set_new(res->problem, "code", json_string(code));
    json_object_set_new(res->problem, "request_id", json_string(res->req->id));
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
    json_t *errors = json_object_get(res->problem, "errors");
    char where[MAX_DETAIL];
    json_t *error;

    if (!errors) {
        json_object_set_new(res->problem, "errors", json_array());
        errors = json_object_get(res->problem, "errors");
    }
    if (json_array_size(errors) >= MAX_ERRORS)
        return;
    snprintf(where, sizeof(where), "%s", pointer);
    error = json_object();
    json_object_set_new(error, "pointer", text_value(where));
    json_object_set_new(error, "detail", format_value(format, ap));
    json_array_append_new(errors, error);
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
