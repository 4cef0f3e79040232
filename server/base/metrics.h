/*
 * metrics: what the daemon counts and times.
 *
 *     struct srv_metrics *metrics = NULL;
 *     srv_metrics_new(&metrics);
 *     srv_metrics_add_route(metrics, "/v1/jobs/{id}");              // before other threads use it
 *     srv_metrics_count(metrics, SRV_JOBS_ACCEPTED);               // any thread, never waits
 *     srv_metrics_observe(metrics, SRV_STEP_SECONDS, 0.125);
 *     srv_metrics_request(metrics, "/v1/jobs/{id}", 200);
 *     srv_metrics_counter(metrics, SRV_JOBS_ACCEPTED);              // 1
 *     metrics = srv_metrics_free(metrics);
 *
 * Whoever counts passes the numbers in; server/api/metrics_page.c gives each its name and its help.
 * Everything here is an atomic; NULL metrics count nothing.
 */
#ifndef SRV_METRICS_H
#define SRV_METRICS_H

#include <stdint.h>

#include "els/error.h"
#include "els/mem.h"

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

int srv_metrics_new(struct srv_metrics **out);
/* A pattern that labels requests; it is not copied. The same again changes nothing. ELS_ELIMIT: there are 256. */
int srv_metrics_add_route(struct srv_metrics *metrics, const char *pattern);
/* NULL is fine. Returns NULL. */
struct srv_metrics *srv_metrics_free(struct srv_metrics *metrics);

void srv_metrics_count(struct srv_metrics *metrics, enum srv_counter which);
void srv_metrics_observe(struct srv_metrics *metrics, enum srv_histogram which, double seconds);
/* An answer was sent. `pattern` is one that was added, or NULL for a path that
 * no route has; `status` 0: the client hung up before there was one (told as 499). */
void srv_metrics_request(struct srv_metrics *metrics, const char *pattern, int status);

uint64_t srv_metrics_counter(const struct srv_metrics *metrics, enum srv_counter which);
/* Seconds since 1970. */
double srv_metrics_start_time(const struct srv_metrics *metrics);
/* Append samples in Prometheus' text format, under `name`. ELS_ENOMEM or ELS_ELIMIT. */
int srv_metrics_write_requests(const struct srv_metrics *metrics, const char *name, struct els_buffer *out);
int srv_metrics_write_histogram(const struct srv_metrics *metrics, enum srv_histogram which, const char *name,
                                struct els_buffer *out);

#endif
