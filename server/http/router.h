/*
 * router: which handler a method and a path belong to.
 *
 *     struct srv_match match;
 *     srv_router_find(tables, "GET", "/v1/banks/digits", &match);
 *     // match.route, match.args[0] is "digits"; match.allowed is "GET, HEAD, OPTIONS" when the
 * path is known
 *
 * Pure functions; any thread.
 */
#ifndef SRV_ROUTER_H
#define SRV_ROUTER_H

#include "server/http/http.h"

enum {
    SRV_MAX_ARGS = 4,
    SRV_MAX_ARG = 256, /* bytes of one {…}, with the final NUL */
    SRV_MAX_ALLOWED = 96,
};

struct srv_metrics;

struct srv_match {
    const struct srv_route *route; /* NULL: none; see allowed */
    const char *pattern;           /* of the path, also when the method does not fit; or NULL */
    char allowed[SRV_MAX_ALLOWED]; /* "" when no route has this path */
    char args[SRV_MAX_ARGS][SRV_MAX_ARG];
    size_t num_args;
};

void srv_router_find(const struct srv_route *const *tables, const char *method, const char *path,
                     struct srv_match *out);
/* Percent-decodes n bytes of `in` into out (with a final NUL). False on a malformed escape, a NUL,
 * or too little room. With `plus`, '+' stands for a space, as in queries. */
bool srv_percent_decode(const char *in, size_t n, char *out, size_t size, bool plus);

/* Adds the patterns of all tables to what the metrics label requests with. ELS_ELIMIT. */
int srv_routes_add_to_metrics(const struct srv_route *const *tables, struct srv_metrics *metrics);

#endif
