/*
 * Counters and histograms. Any thread counts, with relaxed atomics: the numbers order nothing else. What the page says
 * about them and about the rest of the daemon is in server/api/metrics_page.c.
 */
#include "server/base/metrics.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/clock.h"

enum {
    MAX_ROUTES = 256,
    CODES = 600,
    HUNG_UP = 499,
};

/* Upper ends of the buckets, in seconds: from one small step to a day of computing. */
static const double bounds[] = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5,   1,
                                5,     10,    30,   60,   300, 1800, 86400};

enum { BOUNDS = sizeof(bounds) / sizeof(*bounds) };

struct histogram {
    atomic_uint_fast64_t bucket[BOUNDS + 1]; /* not cumulative; the last has no upper end */
    atomic_uint_fast64_t microseconds;
};

struct srv_metrics {
    double start_time; /* seconds since 1970 */
    atomic_uint_fast64_t counters[SRV_COUNTER_COUNT];
    struct histogram histograms[SRV_HISTOGRAM_COUNT];
    size_t num_routes;
    const char *routes[MAX_ROUTES + 1];          /* the last: no route has the path */
    atomic_uint_fast64_t (*requests)[CODES];     /* [MAX_ROUTES + 1][CODES]; num_routes: no route */
};

static uint64_t read_count(const atomic_uint_fast64_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed);
}

/* ---- counting ---- */

int srv_metrics_add_route(struct srv_metrics *m, const char *pattern)
{
    for (size_t i = 0; i < m->num_routes; i++)
        if (strcmp(m->routes[i], pattern) == 0)
            return 0;
    if (m->num_routes == MAX_ROUTES)
        return ELS_ELIMIT;
    m->routes[m->num_routes++] = pattern;
    return 0;
}

int srv_metrics_new(struct srv_metrics **out)
{
    struct srv_metrics *m = els_alloc_array(1, sizeof(*m));

    if (!m)
        return ELS_ENOMEM;
    m->start_time = (double)srv_now_ms() / 1000;
    m->requests = els_alloc_array(MAX_ROUTES + 1, sizeof(*m->requests));
    if (!m->requests) {
        srv_metrics_free(m);
        return ELS_ENOMEM;
    }
    *out = m;
    return 0;
}

struct srv_metrics *srv_metrics_free(struct srv_metrics *metrics)
{
    if (metrics)
        free(metrics->requests);
    free(metrics);
    return NULL;
}

void srv_metrics_count(struct srv_metrics *metrics, enum srv_counter which)
{
    if (metrics)
        atomic_fetch_add_explicit(&metrics->counters[which], 1, memory_order_relaxed);
}

void srv_metrics_observe(struct srv_metrics *metrics, enum srv_histogram which, double seconds)
{
    struct histogram *h;
    size_t i = 0;

    if (!metrics)
        return;
    h = &metrics->histograms[which];
    while (i < BOUNDS && seconds > bounds[i])
        i++;
    atomic_fetch_add_explicit(&h->bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->microseconds, (uint64_t)(seconds * 1e6), memory_order_relaxed);
}

void srv_metrics_request(struct srv_metrics *metrics, const char *pattern, int status)
{
    size_t i = 0;

    if (!metrics)
        return;
    while (i < metrics->num_routes && (!pattern || strcmp(metrics->routes[i], pattern) != 0))
        i++;
    if (status <= 0 || status >= CODES)
        status = HUNG_UP;
    atomic_fetch_add_explicit(&metrics->requests[i][status], 1, memory_order_relaxed);
}

/* ---- reading ---- */

uint64_t srv_metrics_counter(const struct srv_metrics *metrics, enum srv_counter which)
{
    return read_count(&metrics->counters[which]);
}

double srv_metrics_start_time(const struct srv_metrics *metrics)
{
    return metrics->start_time;
}

int srv_metrics_write_requests(const struct srv_metrics *metrics, const char *name, struct els_buffer *out)
{
    int status = 0;

    for (size_t i = 0; i <= metrics->num_routes; i++)
        for (int code = 0; status == 0 && code < CODES; code++) {
            uint64_t n = read_count(&metrics->requests[i][code]);

            if (n)
                status = els_buffer_printf(out, "%s{route=\"%s\",code=\"%d\"} %llu\n", name,
                                           i < metrics->num_routes ? metrics->routes[i] : "none", code,
                                           (unsigned long long)n);
        }
    return status;
}

int srv_metrics_write_histogram(const struct srv_metrics *metrics, enum srv_histogram which, const char *name,
                                struct els_buffer *out)
{
    const struct histogram *h = &metrics->histograms[which];
    double seconds = (double)read_count(&h->microseconds) / 1e6;
    uint64_t n = 0;
    int status = 0;

    for (size_t i = 0; i <= BOUNDS && status == 0; i++) {
        char end[32] = "+Inf";

        if (i < BOUNDS)
            snprintf(end, sizeof(end), "%g", bounds[i]);
        n += read_count(&h->bucket[i]);
        status = els_buffer_printf(out, "%s_bucket{le=\"%s\"} %llu\n", name, end,
                                   (unsigned long long)n);
    }
    if (status == 0)
        status = els_buffer_printf(out, "%s_sum %.15g\n%s_count %llu\n", name, seconds,
                                   name, (unsigned long long)n);
    return status;
}
