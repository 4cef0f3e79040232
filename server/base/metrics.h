/*
 * metrics: what the daemon counts and times, and the page that Prometheus reads.
 *
 *     struct srv_metrics *metrics = NULL;
 *     srv_metrics_new(&metrics, tables);
 *     srv_metrics_count(metrics, SRV_JOBS_ACCEPTED);               // any thread, never waits
 *     srv_metrics_observe(metrics, SRV_STEP_SECONDS, 0.125);
 *     srv_metrics_request(metrics, "/v1/jobs/{id}", 200);
 *     srv_metrics_write(metrics, daemon, &text);                    // GET /metrics
 *     metrics = srv_metrics_free(metrics);
 *
 * One table in metrics.c declares every metric: name, type, help and where its values come from.
 * Everything here is an atomic; NULL metrics count nothing.
 */
#ifndef SRV_METRICS_H
#define SRV_METRICS_H

#include "els/mem.h"
#include "server/http/http.h"

struct srv_metrics;

enum srv_counter {
    SRV_JOBS_ACCEPTED,
    SRV_JOBS_REQUEUED,
    /* finished, by how */
    SRV_JOBS_SUCCEEDED,
    SRV_JOBS_FAILED,
    SRV_JOBS_CANCELLED,
    /* refused, by why */
    SRV_REFUSED_QUEUE,
    SRV_REFUSED_KEY,
    SRV_REFUSED_ADDRESS,
    SRV_SHARED_PASSES,
    /* SIGHUP */
    SRV_RELOADS_DONE,
    SRV_RELOADS_FAILED,
    /* banks over HTTP */
    SRV_BANK_LOADS_DONE,
    SRV_BANK_LOADS_FAILED,
    SRV_COUNTER_COUNT,
};

enum srv_histogram {
    SRV_QUEUE_SECONDS, /* from acceptance to the first step */
    SRV_RUN_SECONDS,   /* computing time of a job that ended */
    SRV_STEP_SECONDS,
    SRV_HISTOGRAM_COUNT,
};

/* `tables` are the server's routes: their patterns label the requests. */
int srv_metrics_new(struct srv_metrics **out, const struct srv_route *const *tables);
/* NULL is fine. Returns NULL. */
struct srv_metrics *srv_metrics_free(struct srv_metrics *metrics);

void srv_metrics_count(struct srv_metrics *metrics, enum srv_counter which);
void srv_metrics_observe(struct srv_metrics *metrics, enum srv_histogram which, double seconds);
/* An answer was sent. `pattern` is one of the tables' (the pointer itself), or NULL for a path that
 * no route has; `status` 0: the client hung up before there was one (told as 499). */
void srv_metrics_request(struct srv_metrics *metrics, const char *pattern, int status);

/* Appends the page in Prometheus' text format 0.0.4. ELS_ENOMEM or ELS_ELIMIT. */
int srv_metrics_write(const struct srv_metrics *metrics, struct srv_daemon *daemon,
                      struct els_buffer *out);

#endif
