/*
 * scheduler: lets jobs begin, and has them computed step by step.
 *
 *     struct srv_scheduler *c = NULL;
 *     srv_scheduler_new(&c, &(struct srv_scheduler_parts){…}, &err);
 *     srv_scheduler_start(c);
 *     …
 *     srv_scheduler_drain(c);          // nothing more is computed; what has not ended stays in the store
 *     c = srv_scheduler_free(c);
 */
#ifndef SRV_SCHEDULER_H
#define SRV_SCHEDULER_H

#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/config/config.h"
#include "server/jobs/queue.h"

struct srv_scheduler;

struct srv_scheduler_parts {
    const struct srv_config *config;
    struct srv_log *log;
    struct srv_metrics *metrics;
    struct srv_store *store;
    struct srv_queue *queue;
    struct srv_accounts *accounts; /* that running jobs are charged to */
    /* A job has ended and the store knows: it is no longer live. On the scheduler's thread, or an executor's. */
    void (*retired)(void *user, struct srv_job *job);
    void *user;
};

int srv_scheduler_new(struct srv_scheduler **out, const struct srv_scheduler_parts *parts, struct els_error *err);
int srv_scheduler_start(struct srv_scheduler *c);
/* Jobs stop where they are; returns when all threads have ended. An outcome that is being stored is stored first. */
void srv_scheduler_drain(struct srv_scheduler *c);
/* A job has been cancelled: it is noticed even where it waits for its turn. Any thread. */
void srv_scheduler_wake(struct srv_scheduler *c);
/* NULL is fine. Returns NULL. */
struct srv_scheduler *srv_scheduler_free(struct srv_scheduler *c);
/* Jobs being computed. Any thread. */
int srv_scheduler_running(const struct srv_scheduler *c);
/* Threads that compute, and how many of them are doing so now. Any thread. */
int srv_scheduler_workers(const struct srv_scheduler *c);
int srv_scheduler_workers_busy(const struct srv_scheduler *c);
/* A write of somebody else's has failed. Any thread. */
void srv_scheduler_store_failed(struct srv_scheduler *c);
/* False from a failed write until a later one succeeds (it is tried every second). Any thread. */
bool srv_scheduler_store_works(const struct srv_scheduler *c);

#endif
