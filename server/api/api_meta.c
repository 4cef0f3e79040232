/*
 * What the daemon says about itself: whether it lives, whether it is ready, what it has done and
 * what it can do. Health, readiness and metrics run on the HTTP threads and only read memory, so
 * they never wait behind work.
 */
#include "server/api/api_meta.h"

#include "core/base/json.h"
#include "els/engine.h"
#include "server/api/metrics_page.h"
#include "server/banks/bank_loads.h"
#include "server/base/daemon.h"
#include "server/jobs/jobs.h"

enum {
    MAX_PAGE = 4 << 20,
    MAX_FIELDS = 1 << 20, /* what the program says of itself, whoever asks: 60 KB of text */
};

static void get_health(struct srv_request *req, struct srv_response *res)
{
    static const char body[] = "{\"status\":\"ok\"}";

    srv_response_static(res, 200, "application/json", body, sizeof(body) - 1);
}

static void get_ready(struct srv_request *req, struct srv_response *res)
{
    static const char body[] = "{\"status\":\"ready\"}";
    struct srv_daemon *daemon = srv_request_daemon(req);

    if (atomic_load(&daemon->draining)) {
        srv_problem(res, 503, "draining", "The daemon is shutting down.");
    } else if (!atomic_load(&daemon->ready)) {
        srv_problem(res, 503, "loading", "The daemon is still loading its banks.");
        srv_response_header(res, "Retry-After", "1");
    } else if (!srv_jobs_store_works(daemon->jobs)) {
        srv_problem(res, 503, "store_failed",
                    "The job store cannot be written to; the log says why.");
        srv_response_header(res, "Retry-After", "10");
    } else {
        srv_response_static(res, 200, "application/json", body, sizeof(body) - 1);
    }
}

static void get_metrics(struct srv_request *req, struct srv_response *res)
{
    struct srv_daemon *daemon = srv_request_daemon(req);
    struct els_buffer page = ELS_BUFFER_INIT(MAX_PAGE);

    if (srv_metrics_page(daemon, &page) == 0) {
        srv_response_bytes(res, 200, "text/plain; version=0.0.4; charset=utf-8", page.data,
                           page.size);
    } else {
        els_buffer_deinit(&page);
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
    }
}

static void get_capabilities(struct srv_request *req, struct srv_response *res)
{
    struct srv_daemon *daemon = srv_request_daemon(req);
    json_t *about, *sampling, *value;
    const char *name;

    if (!srv_response_charge(res, MAX_FIELDS + srv_banks_room(daemon->banks)))
        return;
    about = json_pack("{s:s, s:s, s:o, s:{s:i}}", "version", ELS_VERSION, "kernel", els_engine_kernel(), "banks",
                      srv_banks_summary(daemon->banks), "queue", "capacity",
                      srv_jobs_counts(daemon->jobs).queue_capacity);
    sampling = srv_jobs_capabilities(daemon);
    els_json_set(&about, "bank_loading", srv_bank_loads_capabilities(daemon, srv_request_key(req)));
    /* jansson's own way of joining two objects passes over what it has no memory for. */
    json_object_foreach(sampling, name, value)
        els_json_set(&about, name, json_incref(value));
    if (about && sampling) {
        srv_response_json(res, 200, about);
    } else {
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
        json_decref(about);
    }
    json_decref(sampling);
}

const struct srv_route srv_meta_routes[] = {
    {"GET", "/healthz", get_health, SRV_ROUTE_INLINE | SRV_ROUTE_OPEN},
    {"GET", "/readyz", get_ready, SRV_ROUTE_INLINE | SRV_ROUTE_OPEN},
    {"GET", "/metrics", get_metrics, SRV_ROUTE_INLINE},
    {"GET", "/v1/capabilities", get_capabilities, 0},
    {0},
};
