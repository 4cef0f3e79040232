/*
 * conductor_internal: what the two halves of the conductor share: conductor.c runs the jobs, conductor_end.c ends them.
 */
#ifndef SRV_CONDUCTOR_INTERNAL_H
#define SRV_CONDUCTOR_INTERNAL_H

#include "conductor.h"
#include "run.h"

enum { SRV_CONDUCTOR_IDLE_MS = 1000 };

struct srv_conductor {
    struct srv_conductor_parts parts;
    struct els_pool *pool;
    struct srv_run *runs; /* being computed; the thread's own */
    uint64_t bytes;       /* of their results */
    int64_t companies;    /* that have begun so far */
    int64_t next_tidy, next_probe;
    int64_t expired;      /* jobs, as last logged */
    bool untidy;          /* there is more to tidy in the store */
    atomic_int running;   /* the length of `runs` */
    atomic_bool store_works;
    atomic_bool stopping; /* no further step */
    atomic_bool cut;      /* nor the rest of this one */
    bool started;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t went;
    bool gone; /* the thread has nothing more to do */
};

/*
 * The end of a job: its outcome goes into the store, then everyone is told. `run` is NULL for a job that has not
 * begun, and stays the caller's.
 */
void srv_conductor_succeed(struct srv_conductor *c, struct srv_run *run, struct srv_outcome *outcome);
void srv_conductor_fail(struct srv_conductor *c, struct srv_job *job, const struct srv_run *run, int status,
                        const struct els_error *err);
void srv_conductor_cancel(struct srv_conductor *c, struct srv_job *job, const struct srv_run *run);

/* A write to the store has ended so. */
void srv_conductor_note_store(struct srv_conductor *c, int status);

#endif
