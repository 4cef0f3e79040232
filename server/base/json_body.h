/*
 * json_body: a client's JSON, with the checks that jansson leaves to us.
 *
 *     struct srv_json_error error;
 *     json_t *object = srv_json_parse(bytes, size, &(struct srv_json_bill){payer, &charge}, &error);
 *     if (!object)
 *         srv_problem(res, error.status, error.code, "%s", error.detail);
 *
 * Pure; any thread.
 */
#ifndef SRV_JSON_BODY_H
#define SRV_JSON_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "server/base/account.h"

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

/* Who pays for the trees of a request, and what has been charged for them so far. */
struct srv_json_bill {
    struct srv_payer *payer;
    struct srv_charge *charge; /* of class json; each tree adds to it, and whoever holds it gives it back */
};

struct srv_json_error {
    int status; /* 400: not JSON as we take it, or deeper than that; 413: more than the other limits allow;
                 * 422: JSON, but no object; 500: out of memory */
    const char *code;
    char detail[320];
    char pointer[128]; /* 422: where, as a JSON pointer; "" for the whole */
    bool refused;      /* the charge was: `why` is all there is to say */
    struct srv_refusal why;
};

/* A new reference to an object ({} for nothing but white space), or NULL and *error. What jansson will take is charged
 * before; `bill` NULL: to nobody. */
json_t *srv_json_parse(const void *bytes, size_t size, const struct srv_json_bill *bill, struct srv_json_error *error);

/* Adds to the bill. False: it was refused, and *why says why. */
bool srv_json_charge(const struct srv_json_bill *bill, size_t bytes, struct srv_refusal *why);

/* Any JSON value from a text of the store, of a bank, or of our own making. A new reference; NULL for NULL, for what is
 * damaged, and when out of memory. */
json_t *srv_json_stored(const char *text);

#endif
