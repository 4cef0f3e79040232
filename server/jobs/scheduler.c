/*
 * The scheduler lets jobs begin and looks after the store; it never computes itself, so neither waits for a step. Jobs
 * are computed by executors (executor.c), which take turns.
 *
 * Who runs: as long as jobs are short, one after the other, in the queue's order, because that gives everybody their
 * result soonest. But a small job must not wait behind hours of a large one: a job that has waited for a second and
 * is much smaller than what is left of every running one is started beside them. Running jobs share the time
 * evenly, slice by slice: the next is of the job that has computed least since it came in.
 *
 * Who computes together: jobs that ask the bank the same at every step (they differ in their seeds, say) and stand one
 * behind the other in the line begin together as a group, up to images_per_pass images and four jobs, and their steps
 * share a pass over the bank. Two together take 2 % less time than one after the other, 6 % with P = 3, 14 % with `es`;
 * in exchange the first ends when the last does. With two, the mean wait in a long line stays what it was; with more it
 * grows (tests/bench/sharing.py). Nobody is overtaken.
 *
 * What running jobs hold in memory is charged before they begin (account.h); a job whose memory is not to be had yet goes on
 * waiting. Their results are at most twice what one job may keep.
 *
 * How a job ends is in scheduler_end.c.
 *
 * Lock order: the queue's, then c->lock, then the turns'.
 */
#include <stdlib.h>
#include <time.h>

#include "server/base/clock.h"
#include "server/jobs/scheduler_internal.h"

enum {
    PATIENCE_MS = 1000,     /* so long a small job waits for its turn in the line first */
    LOOK_MS = 100,          /* so often we look whose patience is over */
    SLICE_MS = 200,         /* of a job's turn */
    MUCH_SMALLER = 4,       /* a quarter of what is left, or less */
    MOST_TOGETHER = SRV_MOST_RUNS / 2, /* so that places are left for small jobs */
    TIDY_MS = 60 * 1000,
    UNTIDY_MS = 10,         /* between two pieces of tidying, when there is nothing else to do */
};

/* ---- who runs ---- */

/* All of these under the lock: executors change c->runs and c->bytes. */

static bool has_room(const struct srv_scheduler *c, const struct srv_job *job)
{
    return !c->runs || c->bytes + job->params->result_bytes <= 2 * (uint64_t)c->parts.config->max_result_bytes;
}

/* Charges it: true, and c->next holds the charge. Where nothing else runs it is charged whatever the limits say: the job
 * was accepted, and what its client has beside it (inputs that wait, say) goes only when jobs end. */
static bool can_pay(struct srv_scheduler *c, const struct srv_job *job)
{
    struct srv_payer *payer = job->inputs.payer;
    int64_t bytes = (int64_t)job->params->run_bytes;
    bool paid = srv_charge_take(&c->next, payer, SRV_CHARGE_RUNS, bytes, NULL) == 0;

    if (!paid && !c->runs) {
        srv_charge_take_any(&c->next, payer, SRV_CHARGE_RUNS, bytes);
        paid = true;
    }
    return paid;
}

/* Is the job much smaller than what is left of this run? */
static bool is_small_beside(const struct srv_job *job, const struct srv_job_run *run)
{
    return job->params->cost * MUCH_SMALLER <= srv_job_run_left(run);
}

/* May the job begin beside what is running? */
static bool fits(void *user, const struct srv_job *job)
{
    struct srv_scheduler *c = user;
    bool beside = srv_monotonic_ms() - job->born >= PATIENCE_MS, may;

    pthread_mutex_lock(&c->lock);
    for (const struct srv_job_run *run = c->runs; run; run = run->next_run)
        beside = beside && is_small_beside(job, run);
    may = has_room(c, job) && (beside || !c->runs) && can_pay(c, job);
    pthread_mutex_unlock(&c->lock);
    return may;
}

/* Runs that are about to begin together. */
struct group {
    struct srv_scheduler *c;
    struct srv_job_run *runs[SRV_MOST_RUNS];
    int count;
    int64_t images;
};

/* May the job begin with them? Beside others only if it is small, as they are. */
static bool joins(void *user, const struct srv_job *job)
{
    const struct group *group = user;
    struct srv_scheduler *c = group->c;
    bool may;

    if (group->images + job->params->spec.num_images > c->parts.config->images_per_pass ||
        !srv_params_alike(group->runs[0]->job->params, job->params))
        return false;
    pthread_mutex_lock(&c->lock);
    may = has_room(c, job);
    for (const struct srv_job_run *run = c->runs; run; run = run->next_run)
        may = may && (run->group == group->runs[0]->group || is_small_beside(job, run));
    may = may && can_pay(c, job);
    pthread_mutex_unlock(&c->lock);
    return may;
}

/* Takes the reference. NULL: the job has ended already. */
static struct srv_job_run *begin(struct srv_scheduler *c, struct srv_job *job)
{
    int64_t now = srv_now_ms();
    struct srv_job_run *run = NULL;
    struct els_error err = {0};

    if (srv_job_is_cancelled(job)) {
        srv_scheduler_cancel(c, job, NULL);
    } else if (!(run = srv_job_run_new(job))) {
        els_fail(&err, ELS_ENOMEM, NULL, "Out of memory.");
        srv_scheduler_fail(c, job, NULL, ELS_ENOMEM, &err);
    }
    if (!run) {
        srv_charge_give(&c->next);
        srv_job_unref(job);
        return NULL;
    }
    srv_charge_move(&run->charge, &c->next);
    if (srv_store_start(c->parts.store, job->record.id, now, &err) < 0) {
        /* The mark "running" is for lists only; a store that is truly broken shows at the end. */
        srv_log(c->parts.log, SRV_WARNING, "store_failed", "id", job->record.id, "detail", err.message, NULL);
    }
    run->limit = (double)c->parts.config->job_timeout;
    run->group = c->groups;
    pthread_mutex_lock(&c->lock);
    run->next_run = c->runs;
    c->runs = run;
    c->bytes += job->params->result_bytes;
    pthread_mutex_unlock(&c->lock);
    atomic_fetch_add(&c->running, 1);
    srv_job_start(job, now);
    srv_metrics_observe(c->parts.metrics, SRV_QUEUE_SECONDS,
                        (double)(srv_monotonic_ms() - job->born) / 1000);
    srv_log(c->parts.log, SRV_INFO, "job_started", "id", job->record.id, NULL);
    return run;
}

static bool has_places(const struct srv_scheduler *c)
{
    return atomic_load(&c->running) < SRV_MOST_RUNS && !atomic_load(&c->stopping);
}

/* The first, and those next in line that are alike. */
static void admit_group(struct srv_scheduler *c, struct srv_executor *e, struct srv_job *job)
{
    struct group group = {.c = c};

    c->groups++;
    while (job) {
        struct srv_job_run *run = begin(c, job);

        if (run) {
            group.images += run->job->params->spec.num_images;
            group.runs[group.count++] = run;
        }
        job = group.count > 0 && group.count < MOST_TOGETHER && has_places(c)
                  ? srv_queue_pop_next(c->parts.queue, joins, &group)
                  : NULL;
    }
    pthread_mutex_lock(&c->lock);
    if (group.count > 0)
        srv_executor_assign(e, group.runs, group.count);
    pthread_mutex_unlock(&c->lock);
}

/* One that has nothing to do. With `more`, if need be, another one is made. NULL: not now. */
static struct srv_executor *idle_executor(struct srv_scheduler *c, bool more)
{
    struct srv_executor *idle = NULL;
    int n = atomic_load(&c->executors);

    pthread_mutex_lock(&c->lock);
    for (int i = n - 1; i >= 0; i--)
        if (!c->executor[i].busy)
            idle = &c->executor[i];
    pthread_mutex_unlock(&c->lock);
    if (!idle && more && n < SRV_MOST_RUNS && srv_executor_new(c) == 0)
        idle = &c->executor[n];
    return idle;
}

/* Until a job ends, or for a while. */
static void await_place(struct srv_scheduler *c)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += SRV_SCHEDULER_IDLE_MS / 1000;
    pthread_mutex_lock(&c->lock);
    if (!c->untidy && !has_places(c) && !atomic_load(&c->stopping))
        pthread_cond_timedwait(&c->left, &c->lock, &until);
    pthread_mutex_unlock(&c->lock);
}

static bool none_fits(void *user, const struct srv_job *job)
{
    return false;
}

/* Lets those begin that may, and waits a little for one. */
static void admit(struct srv_scheduler *c)
{
    struct srv_queue *queue = c->parts.queue;

    while (has_places(c)) {
        struct srv_executor *e = idle_executor(c, srv_queue_length(queue) > 0);
        struct srv_job *job = srv_queue_pop(queue, e ? fits : none_fits, c,
                                            c->untidy                        ? UNTIDY_MS
                                            : atomic_load(&c->running) > 0 ? LOOK_MS
                                                                           : SRV_SCHEDULER_IDLE_MS);

        if (!job)
            return;
        admit_group(c, e, job);
    }
    await_place(c);
}

/* ---- the thread ---- */

/* A piece of tidying in the store, and whether it can be written to again. Removing for want of room is the store's own,
 * when a result is inserted. */
static void tidy(struct srv_scheduler *c)
{
    struct els_error err = {0};
    char number[32];
    int64_t now = srv_monotonic_ms(), expired;
    int more;

    if (!atomic_load(&c->store_works) && now >= c->next_probe) {
        c->next_probe = now + SRV_SCHEDULER_IDLE_MS;
        if (srv_store_probe(c->parts.store, NULL) == 0)
            srv_scheduler_note_store(c, 0);
    }
    if (!c->untidy && now < c->next_tidy)
        return;
    more = srv_store_tidy(c->parts.store, srv_now_ms(), c->parts.config->retention_seconds, &err);
    if (more < 0) {
        srv_scheduler_note_store(c, more);
        srv_log(c->parts.log, SRV_ERROR, "store_failed", "detail", err.message, NULL);
    }
    c->untidy = more > 0;
    if (c->untidy)
        return;
    c->next_tidy = srv_monotonic_ms() + TIDY_MS;
    expired = srv_store_usage(c->parts.store).expired;
    if (expired > c->expired)
        srv_log(c->parts.log, SRV_INFO, "jobs_expired", "count", srv_log_number(number, (double)(expired - c->expired)),
                NULL);
    c->expired = expired;
}

static void *conduct(void *user)
{
    struct srv_scheduler *c = user;

    while (!atomic_load(&c->stopping)) {
        admit(c);
        tidy(c);
    }
    return NULL;
}

/* ---- life ---- */

int srv_scheduler_new(struct srv_scheduler **out, const struct srv_scheduler_parts *parts, struct els_error *err)
{
    struct srv_scheduler *c = els_alloc_array(1, sizeof(*c));
    pthread_condattr_t attr;
    int status;

    if (!c)
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    c->parts = *parts;
    atomic_init(&c->store_works, true);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->left, &attr);
    pthread_condattr_destroy(&attr);
    srv_turns_init(&c->turns, SLICE_MS);
    status = srv_executor_new(c);
    if (status < 0) {
        srv_scheduler_free(c);
        return els_fail(err, status, "threads", "The pool of %lld threads cannot be made: %s.",
                        (long long)parts->config->threads, els_status_text(status));
    }
    *out = c;
    return 0;
}

int srv_scheduler_start(struct srv_scheduler *c)
{
    if (pthread_create(&c->thread, NULL, conduct, c) != 0)
        return ELS_ENOMEM;
    c->started = true;
    return 0;
}

void srv_scheduler_wake(struct srv_scheduler *c)
{
    srv_turns_wake(&c->turns);
}

void srv_scheduler_drain(struct srv_scheduler *c)
{
    if (atomic_exchange(&c->stopping, true))
        return;
    srv_queue_close(c->parts.queue);
    pthread_mutex_lock(&c->lock);
    pthread_cond_signal(&c->left);
    pthread_mutex_unlock(&c->lock);
    if (c->started)
        pthread_join(c->thread, NULL);
    srv_executors_join(c);
}

struct srv_scheduler *srv_scheduler_free(struct srv_scheduler *c)
{
    if (!c)
        return NULL;
    srv_scheduler_drain(c);
    while (c->runs)
        srv_scheduler_leave(c, c->runs, NULL);
    srv_executors_deinit(c);
    srv_turns_deinit(&c->turns);
    pthread_cond_destroy(&c->left);
    pthread_mutex_destroy(&c->lock);
    free(c);
    return NULL;
}

int srv_scheduler_running(const struct srv_scheduler *c)
{
    return atomic_load_explicit(&c->running, memory_order_relaxed);
}

int srv_scheduler_workers(const struct srv_scheduler *c)
{
    return els_pool_threads(c->executor[0].pool);
}

int srv_scheduler_workers_busy(const struct srv_scheduler *c)
{
    int busy = 0;

    /* Those who stand still are not. */
    for (int i = 0; i < atomic_load(&c->executors); i++)
        if (srv_turn_held(&c->turns, &c->executor[i].turn))
            busy = els_pool_busy(c->executor[i].pool);
    return busy;
}

void srv_scheduler_store_failed(struct srv_scheduler *c)
{
    srv_scheduler_note_store(c, ELS_EIO);
}

bool srv_scheduler_store_works(const struct srv_scheduler *c)
{
    return atomic_load_explicit(&c->store_works, memory_order_relaxed);
}
