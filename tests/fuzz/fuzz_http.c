/*
 * A request's head as it comes out of libmicrohttpd: the request line and header fields, each on a
 * line of its own, go through the checks checks, the URI, the router and content negotiation. A
 * head that passes must name one length at most and a host that is ours.
 */
#include <string.h>
#include <strings.h>

#include "fuzz.h"
#include "server/api/api_meta.h"
#include "server/api/assets.h"
#include "server/banks/banks.h"
#include "server/http/negotiate.h"
#include "server/http/connection.h"
#include "server/jobs/jobs.h"

static const struct srv_route *const tables[] = {srv_meta_routes, srv_banks_routes, srv_jobs_routes,
                                                 srv_assets_routes, NULL};
static const struct srv_policy policy = {"els.example", "https://notebook.example"};

static void check_passed(const struct srv_request_checks *checks)
{
    FUZZ_CHECK(checks->lengths + checks->codings <= 1 && checks->hosts <= 1);
    FUZZ_CHECK(!checks->bad_name && !checks->bad_length && !checks->bad_coding);
}

static void route(const char *method, const char *uri)
{
    struct srv_request req = {0};

    if (srv_request_parse_uri(&req, uri) == 0) {
        srv_router_find(tables, method, req.path, &req.match);
        FUZZ_CHECK(!req.match.route || req.match.pattern);
        for (size_t i = 0; i < req.match.num_args; i++)
            FUZZ_CHECK(strlen(req.match.args[i]) < SRV_MAX_ARG);
        srv_request_query(&req, "limit");
    }
    free(req.arguments);
    free(req.uri);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const offers[] = {"application/json", "image/png", "application/x-npy", NULL};
    char *text = strndup((const char *)data, size), *rest = text, *line;
    const char *method, *uri, *version;
    struct srv_request_checks checks = {0};
    struct srv_verdict verdict;

    FUZZ_CHECK(text);
    line = strsep(&rest, "\n");
    method = strsep(&line, " ");
    uri = strsep(&line, " ");
    version = line ? line : "HTTP/1.1";
    while ((line = strsep(&rest, "\n"))) {
        char *name = strsep(&line, ":");
        const char *value = line ? line + strspn(line, " ") : "";

        srv_request_check_field(&checks, name, value);
        if (strcasecmp(name, "Accept") == 0)
            srv_negotiate_best(value, offers);
    }
    if (srv_request_check(&checks, version, &policy, &verdict))
        check_passed(&checks);
    else
        FUZZ_CHECK(verdict.status >= 400 && verdict.code && verdict.detail[0]);
    if (uri)
        route(method, uri);
    free(text);
    return 0;
}
