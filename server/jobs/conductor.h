/*
 * conductor: lets jobs begin, and has them computed step by step.
 *
 *     struct srv_conductor *c = NULL;
 *     srv_conductor_new(&c, &(struct srv_conductor_parts){…}, &err);
 *     srv_conductor_start(c);
 *     …
 *     srv_conductor_drain(c);          // nothing more is computed; what has not ended stays in the store
 *     c = srv_conductor_free(c);
 */
#ifndef SRV_CONDUCTOR_H
#define SRV_CONDUCTOR_H

#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/config/config.h"
#include "server/jobs/queue.h"

struct srv_conductor;

struct srv_conductor_parts {
    const struct srv_config *config;
    struct srv_log *log;
    struct srv_metrics *metrics;
    struct srv_store *store;
    struct srv_queue *queue;
    struct srv_accounts *accounts; /* that running jobs are charged to */
    /* A job has ended and the store knows: it is no longer live. On the conductor's thread, or an executor's. */
    void (*retired)(void *user, struct srv_job *job);
    void *user;
};

int srv_conductor_new(struct srv_conductor **out, const struct srv_conductor_parts *parts, struct els_error *err);
int srv_conductor_start(struct srv_conductor *c);
/* Jobs stop where they are; returns when all threads have ended. An outcome that is being stored is stored first. */
void srv_conductor_drain(struct srv_conductor *c);
/* A job has been cancelled: it is noticed even where it waits for its turn. Any thread. */
void srv_conductor_wake(struct srv_conductor *c);
/* NULL is fine. Returns NULL. */
struct srv_conductor *srv_conductor_free(struct srv_conductor *c);
/* Jobs being computed. Any thread. */
int srv_conductor_running(const struct srv_conductor *c);
/* Threads that compute, and how many of them are doing so now. Any thread. */
int srv_conductor_workers(const struct srv_conductor *c);
int srv_conductor_workers_busy(const struct srv_conductor *c);
/* A write of somebody else's has failed. Any thread. */
void srv_conductor_store_failed(struct srv_conductor *c);
/* False from a failed write until a later one succeeds (it is tried every second). Any thread. */
bool srv_conductor_store_works(const struct srv_conductor *c);

#endif
