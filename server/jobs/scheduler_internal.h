/*
 * scheduler_internal: what the parts of the scheduler share: scheduler.c lets jobs begin, executor.c computes them,
 * scheduler_end.c ends them.
 */
#ifndef SRV_SCHEDULER_INTERNAL_H
#define SRV_SCHEDULER_INTERNAL_H

#include "server/jobs/scheduler.h"
#include "server/jobs/job_run.h"

enum { SRV_SCHEDULER_IDLE_MS = 1000 };

/* A thread with a pool, which computes the jobs of one group. */
struct srv_executor {
    struct srv_scheduler *scheduler;
    struct els_pool *pool;
    pthread_t thread;
    struct srv_turn turn;     /* joined while it has runs */
    struct srv_job_run *runs[SRV_MOST_RUNS]; /* that it computes; its thread's own */
    int count;
    /* Under the scheduler's lock: what it is to compute next. */
    pthread_cond_t assigned;
    bool busy; /* it has runs, here or there */
    struct srv_job_run *next_runs[SRV_MOST_RUNS];
    int next_count;
};

struct srv_scheduler {
    struct srv_scheduler_parts parts;
    struct srv_turns turns;
    struct srv_charge next; /* of the job that is about to begin */
    int64_t groups;       /* that have begun so far */
    int64_t next_tidy, next_probe;
    int64_t expired;      /* jobs, as last logged */
    bool untidy;          /* there is more to tidy in the store */
    atomic_int running;   /* jobs being computed */
    atomic_bool store_works;
    atomic_bool stopping; /* nothing more is computed */
    bool started;
    pthread_t thread;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t left;  /* a run has ended */
    struct srv_job_run *runs; /* of all executors */
    uint64_t bytes;       /* of their results */

    struct srv_executor executor[SRV_MOST_RUNS];
    atomic_int executors; /* how many there are: they are made when they are first needed */
};

/* Makes one more, with its thread and its pool. ELS_ENOMEM: not even its threads could be had. */
int srv_executor_new(struct srv_scheduler *c);
/* The runs of an idle one, all at once: it sets out. They are in c->runs already. Under the lock. */
void srv_executor_assign(struct srv_executor *e, struct srv_job_run *const *runs, int count);
/* Once c->stopping is true: waits until all threads have ended. What they have not computed stays in c->runs. */
void srv_executors_join(struct srv_scheduler *c);
void srv_executors_deinit(struct srv_scheduler *c);
/* Out of c->runs, and freed; with `e`, whose last run it was, that one is idle. Not under the lock. */
void srv_scheduler_leave(struct srv_scheduler *c, struct srv_job_run *run, struct srv_executor *e);

/*
 * The end of a job: its outcome goes into the store, then everyone is told. `run` is NULL for a job that has not
 * begun, and stays the caller's. Of a job that is cancelled meanwhile, the end is that.
 */
void srv_scheduler_succeed(struct srv_scheduler *c, struct srv_job_run *run, struct srv_outcome *outcome);
void srv_scheduler_fail(struct srv_scheduler *c, struct srv_job *job, const struct srv_job_run *run, int status,
                        const struct els_error *err);
void srv_scheduler_cancel(struct srv_scheduler *c, struct srv_job *job, const struct srv_job_run *run);

/* A write to the store has ended so. */
void srv_scheduler_note_store(struct srv_scheduler *c, int status);

#endif
