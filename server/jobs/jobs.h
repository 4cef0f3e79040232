/*
 * jobs: the job service: accepts, queues, runs, keeps and tells.
 *
 *     struct srv_jobs *jobs = NULL;
 *     srv_jobs_new(&jobs, daemon, &err);      // opens the store, re-queues what was unfinished
 *     srv_jobs_start(jobs);                   // the scheduler thread and its pool begin to work
 *     …                                       // HTTP handlers in api_jobs.c call the rest
 *     srv_jobs_drain(jobs);                   // SIGTERM: no new ones; running jobs stop; unfinished jobs stay
 *                                             // in the store and are re-queued at the next start
 *     jobs = srv_jobs_free(jobs);
 *
 * What is where: job (one job's state, events, waiters), queue (a bounded FIFO), scheduler (lets jobs begin),
 * executor (computes them, in turns), job_run (one job while it computes), events (the ring of server-sent events).
 * server/params reads what a job is asked for, server/types computes it, server/store keeps it, server/api has the routes.
 */
#ifndef SRV_JOBS_H
#define SRV_JOBS_H

#include "els/error.h"
#include "server/http/http.h"

struct srv_jobs;

int srv_jobs_new(struct srv_jobs **out, struct srv_daemon *daemon, struct els_error *err);
int srv_jobs_start(struct srv_jobs *jobs);
/* Blocks until nothing is computed or stored any more; parked requests are woken. */
void srv_jobs_drain(struct srv_jobs *jobs);
/* NULL is fine. Returns NULL. */
struct srv_jobs *srv_jobs_free(struct srv_jobs *jobs);

/* Counts for health, capabilities and metrics; atomics, never waits behind work. */
struct srv_jobs_counts {
    int queued, running, queue_capacity;
    int workers, workers_busy; /* threads that compute */
};
struct srv_jobs_counts srv_jobs_counts(const struct srv_jobs *jobs);

/* Could the store be written to, the last time it was tried? Never waits. */
bool srv_jobs_store_works(const struct srv_jobs *jobs);

/* The sampling body as GET /v1/capabilities describes it: {"defaults": {…}, "limits": {…}, "outputs": […]}.
 * A new reference; NULL when out of memory. */
json_t *srv_jobs_capabilities(const struct srv_daemon *daemon);

/* Routes under /v1/samples and /v1/jobs. */
extern const struct srv_route srv_jobs_routes[];

#endif
