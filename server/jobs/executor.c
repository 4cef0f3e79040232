/*
 * An executor: a thread with a pool of its own that computes the jobs of one group, step by step, and ends them. There
 * are as many as jobs, or groups of them, may run beside each other; only the one whose turn it is computes
 * (turns.h), the others stand still wherever they polled last, and sleep. So a step may be as long as it likes, and what a
 * job gets does not depend on when it stood still.
 *
 * Who computes together: the runs of a group that ask the bank the same at their next step take it in one pass. When one
 * of them is cancelled or late, the step is stopped and taken again without it: so it goes at once, at the price of a
 * part of a step for those who stay.
 *
 * Everything here runs on the executor's thread, but for srv_executor_new and srv_executor_assign (the scheduler's) and
 * the ends of all (the main thread's).
 */
#include <string.h>

#include "server/jobs/scheduler_internal.h"

/* ---- runs that go ---- */

void srv_scheduler_leave(struct srv_scheduler *c, struct srv_job_run *run, struct srv_executor *e)
{
    struct srv_job_run **link = &c->runs;

    pthread_mutex_lock(&c->lock);
    while (*link != run)
        link = &(*link)->next_run;
    *link = run->next_run;
    c->bytes -= run->job->params->result_bytes;
    if (e)
        e->busy = false;
    pthread_mutex_unlock(&c->lock);
    srv_job_run_free(run);
    pthread_mutex_lock(&c->lock);
    atomic_fetch_sub(&c->running, 1);
    pthread_cond_signal(&c->left);
    pthread_mutex_unlock(&c->lock);
    srv_queue_wake(c->parts.queue);
}

static void leave(struct srv_executor *e, int i)
{
    struct srv_job_run *run = e->runs[i];

    e->count--;
    memmove(e->runs + i, e->runs + i + 1, (size_t)(e->count - i) * sizeof(struct srv_job_run *));
    srv_turn_weigh(&e->turn, e->count);
    srv_scheduler_leave(e->scheduler, run, e->count == 0 ? e : NULL);
}

static int index_of(const struct srv_executor *e, const struct srv_job_run *run)
{
    int i = 0;

    while (e->runs[i] != run)
        i++;
    return i;
}

/* While an end is stored, somebody else computes. */
static void fail(struct srv_executor *e, struct srv_job_run *run, int status, const struct els_error *err)
{
    srv_turn_rest(&e->turn);
    srv_scheduler_fail(e->scheduler, run->job, run, status, err);
    leave(e, index_of(e, run));
}

static void reap(struct srv_executor *e)
{
    for (int i = 0; i < e->count;) {
        if (!srv_job_is_cancelled(e->runs[i]->job)) {
            i++;
            continue;
        }
        srv_turn_rest(&e->turn);
        srv_scheduler_cancel(e->scheduler, e->runs[i]->job, e->runs[i]);
        leave(e, i);
    }
}

/* ---- a step ---- */

static struct srv_compute means(struct srv_executor *e)
{
    return (struct srv_compute){e->pool, &e->turn, &e->scheduler->stopping};
}

/* Something has ended with `status`. What is cancelled goes with the next reap; when all is to stop, nothing does. */
static void settle(struct srv_executor *e, struct srv_job_run *run, int status, struct els_error *err)
{
    if (srv_job_is_cancelled(run->job) || (status == ELS_ECANCELLED && atomic_load(&e->scheduler->stopping)))
        return;
    if (srv_job_run_late(run)) {
        els_fail(err, ELS_ELIMIT, "job_timeout", "The job has computed for %lld s, which is all that it may.",
                 (long long)e->scheduler->parts.config->job_timeout);
        fail(e, run, ELS_ELIMIT, err);
    } else if (status < 0 && status != ELS_ECANCELLED) {
        fail(e, run, status, err);
    }
}

static void finish(struct srv_executor *e, struct srv_job_run *run)
{
    struct srv_compute with = means(e);
    struct srv_outcome outcome;
    struct els_error err = {0};
    int status = srv_job_run_outcome(run, &with, &outcome, &err);

    if (status == ELS_ECANCELLED)
        return; /* it goes with the next reap, or all is to stop */
    if (status < 0) {
        fail(e, run, status, &err);
        return;
    }
    srv_turn_rest(&e->turn);
    srv_scheduler_succeed(e->scheduler, run, &outcome);
    leave(e, index_of(e, run));
}

/* The run that has computed least, and those that stand at the same step. Returns how many. */
static int choose(const struct srv_executor *e, struct srv_job_run *chosen[SRV_MOST_RUNS])
{
    struct srv_job_run *first = e->runs[0];
    int count = 1;

    for (int i = 1; i < e->count; i++)
        if (e->runs[i]->share < first->share)
            first = e->runs[i];
    chosen[0] = first;
    for (int i = 0; i < e->count; i++)
        if (e->runs[i] != first && srv_job_runs_alike(first, e->runs[i]))
            chosen[count++] = e->runs[i];
    return count;
}

static void step(struct srv_executor *e, struct srv_job_run *const *chosen, int count)
{
    struct srv_metrics *metrics = e->scheduler->parts.metrics;
    struct srv_compute with = means(e);
    double before[SRV_MOST_RUNS];
    struct els_error err = {0};
    int status;

    for (int i = 0; i < count; i++)
        before[i] = chosen[i]->seconds;
    status = srv_job_runs_step(chosen, count, &with, &err);
    if (status == 0 && count > 1)
        srv_metrics_count(metrics, SRV_SHARED_PASSES);
    if (status < 0 && status != ELS_ECANCELLED && count > 1) {
        /* Whose fault it is shows when each computes by itself. */
        count = 1;
        before[0] = chosen[0]->seconds;
        status = srv_job_runs_step(chosen, count, &with, &err);
    }
    for (int i = 0; i < count; i++) {
        if (status == 0)
            srv_metrics_observe(metrics, SRV_STEP_SECONDS, chosen[i]->seconds - before[i]);
        if (status < 0 || !srv_job_run_finished(chosen[i]))
            settle(e, chosen[i], status, &err);
    }
}

/* Its uploaded tensors are in the store while it waits. */
static int begin(struct srv_executor *e, struct srv_job_run *run, struct els_error *err)
{
    struct srv_compute with = means(e);
    int status = srv_job_load_inputs(run->job, e->scheduler->parts.store, err);

    return status == 0 ? srv_job_run_begin(run, &with, err) : status;
}

/* The next that there is to do: one begins, one ends, or a step. */
static void advance(struct srv_executor *e)
{
    struct srv_job_run *chosen[SRV_MOST_RUNS];
    int count;

    for (int i = 0; i < e->count; i++) {
        struct srv_job_run *run = e->runs[i];
        struct els_error err = {0};

        if (!run->begun) {
            int status = begin(e, run, &err);

            run->begun = status == 0;
            settle(e, run, status, &err);
            return;
        }
        if (srv_job_run_finished(run)) {
            finish(e, run);
            return;
        }
    }
    count = choose(e, chosen);
    step(e, chosen, count);
}

/* ---- life ---- */

/* False: all is to end. */
static bool await_runs(struct srv_executor *e)
{
    struct srv_scheduler *c = e->scheduler;

    pthread_mutex_lock(&c->lock);
    while (e->next_count == 0 && !atomic_load(&c->stopping))
        pthread_cond_wait(&e->assigned, &c->lock);
    memcpy(e->runs, e->next_runs, sizeof(e->runs));
    e->count = e->next_count;
    e->next_count = 0;
    pthread_mutex_unlock(&c->lock);
    return !atomic_load(&c->stopping);
}

static void *execute(void *user)
{
    struct srv_executor *e = user;

    while (await_runs(e)) {
        srv_turn_join(&e->turn, &e->scheduler->turns);
        srv_turn_weigh(&e->turn, e->count);
        while (e->count > 0 && !atomic_load(&e->scheduler->stopping)) {
            reap(e);
            if (e->count > 0)
                advance(e);
        }
        srv_turn_leave(&e->turn);
    }
    return NULL;
}

int srv_executor_new(struct srv_scheduler *c)
{
    struct srv_executor *e = &c->executor[atomic_load(&c->executors)];
    int status;

    *e = (struct srv_executor){.scheduler = c};
    status = els_pool_new(&e->pool, (int)c->parts.config->threads);
    if (status < 0)
        return status;
    pthread_cond_init(&e->assigned, NULL);
    if (pthread_create(&e->thread, NULL, execute, e) != 0) {
        pthread_cond_destroy(&e->assigned);
        e->pool = els_pool_free(e->pool);
        return ELS_ENOMEM;
    }
    atomic_fetch_add(&c->executors, 1);
    return 0;
}

void srv_executor_assign(struct srv_executor *e, struct srv_job_run *const *runs, int count)
{
    memcpy(e->next_runs, runs, (size_t)count * sizeof(*runs));
    e->next_count = count;
    e->busy = true;
    pthread_cond_signal(&e->assigned);
}

void srv_executors_join(struct srv_scheduler *c)
{
    pthread_mutex_lock(&c->lock);
    for (int i = 0; i < atomic_load(&c->executors); i++)
        pthread_cond_signal(&c->executor[i].assigned);
    pthread_mutex_unlock(&c->lock);
    srv_turns_wake(&c->turns);
    for (int i = 0; i < atomic_load(&c->executors); i++)
        pthread_join(c->executor[i].thread, NULL);
}

void srv_executors_deinit(struct srv_scheduler *c)
{
    for (int i = 0; i < atomic_load(&c->executors); i++) {
        pthread_cond_destroy(&c->executor[i].assigned);
        els_pool_free(c->executor[i].pool);
    }
}
