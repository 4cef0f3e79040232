/*
 * The router compares a path with the patterns of the tables, segment by segment. Called once per
 * request on an HTTP thread; there are a few dozen routes, so a plain walk is fast enough. No path
 * ever becomes a file name: a segment is only compared and decoded into a bounded array.
 */
#include "server/http/router.h"

#include <stdio.h>
#include <string.h>

#include "server/base/metrics.h"

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool srv_percent_decode(const char *in, size_t n, char *out, size_t size, bool plus)
{
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        char c = in[i];

        if (c == '%') {
            int high = i + 2 < n ? hex_digit(in[i + 1]) : -1;
            int low = i + 2 < n ? hex_digit(in[i + 2]) : -1;

            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (!c || used + 1 >= size)
            return false;
        out[used++] = c;
    }
    if (used >= size)
        return false;
    out[used] = '\0';
    return true;
}

/* Does the path have the pattern's form? Fills the arguments. */
static bool matches(const char *pattern, const char *path, struct srv_match *out)
{
    size_t num_args = 0;

    while (*pattern) {
        size_t want = strcspn(pattern + 1, "/") + 1;
        size_t have;

        if (*path != '/')
            return false;
        have = strcspn(path + 1, "/") + 1;
        if (pattern[1] == '{') {
            if (have == 1 || num_args == SRV_MAX_ARGS ||
                !srv_percent_decode(path + 1, have - 1, out->args[num_args], SRV_MAX_ARG, false))
                return false;
            num_args++;
        } else if (want != have || memcmp(pattern, path, want) != 0) {
            return false;
        }
        pattern += want;
        path += have;
    }
    out->num_args = num_args;
    return !*path;
}

static void allow(struct srv_match *out, const char *method)
{
    size_t n = strlen(out->allowed);

    snprintf(out->allowed + n, sizeof(out->allowed) - n, "%s%s", n ? ", " : "", method);
}

void srv_router_find(const struct srv_route *const *tables, const char *method, const char *path,
                     struct srv_match *out)
{
    bool head = strcmp(method, "HEAD") == 0;

    out->route = NULL;
    out->pattern = NULL;
    out->allowed[0] = '\0';
    out->num_args = 0;
    for (; *tables; tables++)
        for (const struct srv_route *route = *tables; route->method; route++) {
            if (!matches(route->pattern, path, out))
                continue;
            out->pattern = route->pattern;
            allow(out, route->method);
            if (strcmp(route->method, "GET") == 0)
                allow(out, "HEAD");
            if (strcmp(route->method, head ? "GET" : method) == 0) {
                out->route = route;
                return;
            }
        }
    if (out->allowed[0])
        allow(out, "OPTIONS");
}

int srv_routes_add_to_metrics(const struct srv_route *const *tables, struct srv_metrics *metrics)
{
    int status = 0;

    for (; status == 0 && *tables; tables++)
        for (const struct srv_route *route = *tables; status == 0 && route->method; route++)
            status = srv_metrics_add_route(metrics, route->pattern);
    return status;
}
