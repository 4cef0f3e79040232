/*
 * json_body: a client's JSON, with the checks that jansson leaves to us.
 *
 *     struct srv_json_error error;
 *     json_t *object = srv_json_parse(bytes, size, &error);
 *     if (!object)
 *         srv_problem(res, error.status, error.code, "%s", error.detail);
 *
 * Pure; any thread.
 */
#ifndef SRV_JSON_BODY_H
#define SRV_JSON_BODY_H

#include <jansson.h>
#include <stddef.h>

enum { SRV_JSON_MAX_DEPTH = 64 };

struct srv_json_error {
    int status; /* 400: not JSON as we take it; 422: JSON, but no object; 500: out of memory */
    const char *code;
    char detail[320];
    char pointer[128]; /* 422: where, as a JSON pointer; "" for the whole */
};

/* A new reference to an object ({} for nothing but white space), or NULL and *error. */
json_t *srv_json_parse(const void *bytes, size_t size, struct srv_json_error *error);

#endif
