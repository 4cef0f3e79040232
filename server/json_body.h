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

/*
 * A body. The largest that means anything leaves out 65,536 images and as many classes, and gives 10,000 levels, times,
 * scales and seeds; tensors inside it are texts of at most 4 MiB.
 */
enum {
    SRV_JSON_MAX_DEPTH = 64,
    SRV_JSON_MAX_VALUES = 200000,
    SRV_JSON_MAX_STRING = 8 << 20,
    SRV_JSON_STORED_VALUES = 4 << 20, /* of a text in the store: whatever an earlier version accepted */
};

struct srv_json_error {
    int status; /* 400: not JSON as we take it, or deeper than that; 413: more than the other limits allow;
                 * 422: JSON, but no object; 500: out of memory */
    const char *code;
    char detail[320];
    char pointer[128]; /* 422: where, as a JSON pointer; "" for the whole */
};

/* A new reference to an object ({} for nothing but white space), or NULL and *error. */
json_t *srv_json_parse(const void *bytes, size_t size, struct srv_json_error *error);

/* Any JSON value from a text of the store, of a bank, or of our own making. A new reference; NULL for NULL, for what is
 * damaged, and when memory is out. */
json_t *srv_json_stored(const char *text);

#endif
