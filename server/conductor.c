/*
 * The conductor owns the pool. It takes jobs out of the queue and runs one step of one job at a time, or of several
 * that are alike.
 *
 * Who runs: as long as jobs are short, one after the other, in the queue's order, because that gives everybody their
 * result soonest. But a small job must not wait behind hours of a large one: a job that has waited for a second and
 * is much smaller than what is left of every running one is started beside them. Running jobs share the time
 * evenly: the next step is of the job that has computed least since it came in.
 *
 * Who computes together: jobs that ask the bank the same at every step (they differ in their seeds, say) and stand one
 * behind the other in the line begin together, up to images_per_pass images and four jobs, and their steps share a pass
 * over the bank. Two together take 2 % less time than one after the other, 6 % with P = 3, 14 % with `es`; in exchange
 * the first ends when the last does. With two, the mean wait in a long line stays what it was; with more it grows
 * (tests/bench/sharing.py). Nobody is overtaken. When one of them is cancelled or late, the step is stopped and taken
 * again without it: so it goes at once, at the price of a part of a step for those who stay.
 *
 * What a running job holds in memory is bounded: all together at most twice what one job may take.
 *
 * How a job ends is in conductor_end.c.
 *
 * Lock: c->lock guards `gone` alone, for drain's waiting. Nothing else is locked under it.
 */
#include <stdlib.h>
#include <time.h>

#include "clock.h"
#include "conductor_internal.h"

enum {
    PATIENCE_MS = 1000,     /* so long a small job waits for its turn in the line first */
    MUCH_SMALLER = 4,       /* a quarter of what is left, or less */
    MOST_TOGETHER = SRV_MOST_RUNS / 2, /* so that places are left for small jobs */
    TIDY_MS = 60 * 1000,
    UNTIDY_MS = 10,         /* between two pieces of tidying, when there is nothing else to do */
};

/* ---- who runs ---- */

static bool has_room(const struct srv_conductor *c, const struct srv_job *job)
{
    return !c->runs || c->bytes + job->params->result_bytes <= 2 * (uint64_t)c->parts.config->max_result_bytes;
}

/* Is the job much smaller than what is left of this run? */
static bool is_small_beside(const struct srv_job *job, const struct srv_run *run)
{
    return job->params->cost * MUCH_SMALLER <= srv_run_left(run);
}

/* May the job begin beside what is running? */
static bool fits(void *user, const struct srv_job *job)
{
    const struct srv_conductor *c = user;
    bool beside = srv_monotonic_ms() - job->born >= PATIENCE_MS;

    for (const struct srv_run *run = c->runs; run; run = run->next_run)
        beside = beside && is_small_beside(job, run);
    return has_room(c, job) && (beside || !c->runs);
}

/* Runs that are about to begin together. */
struct company {
    const struct srv_conductor *c;
    const struct srv_run *first;
    int count;
    int64_t images;
};

/* May the job begin with them? Beside others only if it is small, as they are. */
static bool joins(void *user, const struct srv_job *job)
{
    const struct company *company = user;
    const struct srv_conductor *c = company->c;

    if (company->images + job->params->spec.num_images > c->parts.config->images_per_pass ||
        !srv_params_alike(company->first->job->params, job->params) || !has_room(c, job))
        return false;
    for (const struct srv_run *run = c->runs; run; run = run->next_run)
        if (run->company != company->first->company && !is_small_beside(job, run))
            return false;
    return true;
}

/* A newcomer begins level with the job that has had least. */
static double least_share(const struct srv_conductor *c)
{
    double least = c->runs ? c->runs->share : 0;

    for (const struct srv_run *run = c->runs; run; run = run->next_run)
        least = run->share < least ? run->share : least;
    return least;
}

/* Takes the reference. NULL: the job has ended already. */
static struct srv_run *begin(struct srv_conductor *c, struct srv_job *job, int64_t company)
{
    struct srv_run *run = NULL;
    struct els_error err = {0};
    int64_t now = srv_now_ms();
    int status;

    if (atomic_load(&job->cancelled)) {
        srv_conductor_cancel(c, job, NULL);
        srv_job_unref(job);
        return NULL;
    }
    status = srv_job_load_inputs(job, c->parts.store, &err);
    if (status == 0)
        status = srv_run_new(&run, job, &err);
    if (status == 0 && srv_store_start(c->parts.store, job->record.id, now, &err) < 0) {
        /* The mark "running" is for lists only; a store that is truly broken shows at the end. */
        srv_log(c->parts.log, SRV_WARNING, "store_failed", "id", job->record.id, "detail", err.message, NULL);
    }
    if (status < 0) {
        srv_conductor_fail(c, job, NULL, status, &err);
        srv_job_unref(job);
        return NULL;
    }
    run->limit = (double)c->parts.config->job_timeout;
    run->share = least_share(c);
    run->company = company;
    run->next_run = c->runs;
    c->runs = run;
    c->bytes += job->params->result_bytes;
    atomic_fetch_add(&c->running, 1);
    srv_job_start(job, now);
    srv_metrics_observe(c->parts.metrics, SRV_QUEUE_SECONDS,
                        (double)(srv_monotonic_ms() - job->born) / 1000);
    srv_log(c->parts.log, SRV_INFO, "job_started", "id", job->record.id, NULL);
    return run;
}

static void leave(struct srv_conductor *c, struct srv_run *run)
{
    struct srv_run **link = &c->runs;

    while (*link != run)
        link = &(*link)->next_run;
    *link = run->next_run;
    c->bytes -= run->job->params->result_bytes;
    atomic_fetch_sub(&c->running, 1);
    srv_run_free(run);
}

static bool has_places(const struct srv_conductor *c)
{
    return atomic_load(&c->running) < SRV_MOST_RUNS && !atomic_load(&c->stopping);
}

/* Those next in line that are alike begin with `first`. */
static void admit_company(struct srv_conductor *c, const struct srv_run *first)
{
    struct company company = {c, first, 1, first->job->params->spec.num_images};

    while (company.count < MOST_TOGETHER && has_places(c)) {
        struct srv_job *job = srv_queue_pop_next(c->parts.queue, joins, &company);

        if (!job)
            return;
        company.images += job->params->spec.num_images;
        company.count++;
        begin(c, job, first->company);
    }
}

static void admit(struct srv_conductor *c)
{
    while (has_places(c)) {
        struct srv_job *job = srv_queue_pop(c->parts.queue, fits, c, c->runs ? 0 : c->untidy ? UNTIDY_MS : SRV_CONDUCTOR_IDLE_MS);
        const struct srv_run *run = job ? begin(c, job, ++c->companies) : NULL;

        if (!job)
            return;
        if (run)
            admit_company(c, run);
    }
}

/* ---- the thread ---- */

static void finish(struct srv_conductor *c, struct srv_run *run)
{
    struct srv_outcome outcome;
    struct els_error err = {0};
    int status = srv_run_outcome(run, c->pool, &outcome, &err);

    if (status < 0)
        srv_conductor_fail(c, run->job, run, status, &err);
    else
        srv_conductor_succeed(c, run, &outcome);
    leave(c, run);
}

/* Cancelled jobs go at once, not when it would be their turn again. */
static void reap(struct srv_conductor *c)
{
    struct srv_run *next;

    for (struct srv_run *run = c->runs; run; run = next) {
        next = run->next_run;
        if (atomic_load(&run->job->cancelled)) {
            srv_conductor_cancel(c, run->job, run);
            leave(c, run);
        }
    }
}

/* The run whose turn it is, and those that began with it and stand at the same step. Returns how many. */
static int choose(const struct srv_conductor *c, struct srv_run *chosen[SRV_MOST_RUNS])
{
    struct srv_run *first = c->runs;
    int count = 1;

    for (struct srv_run *run = c->runs; run; run = run->next_run)
        if (run->share < first->share)
            first = run;
    chosen[0] = first;
    for (struct srv_run *run = c->runs; run; run = run->next_run)
        if (run != first && run->company == first->company && srv_runs_alike(first, run))
            chosen[count++] = run;
    return count;
}

/* A step of the run has ended with `status`. What stopped it short is noticed by the next reap, or by draining. */
static void settle(struct srv_conductor *c, struct srv_run *run, int status, struct els_error *err)
{
    bool cancelled = atomic_load(&run->job->cancelled);

    if (status == 0 && srv_run_finished(run) && !cancelled) {
        finish(c, run);
    } else if (srv_run_late(run) && !cancelled) {
        els_fail(err, ELS_ELIMIT, "job_timeout", "The job has computed for %lld s, which is all that it may.",
                 (long long)c->parts.config->job_timeout);
        srv_conductor_fail(c, run->job, run, ELS_ELIMIT, err);
        leave(c, run);
    } else if (status < 0 && status != ELS_ECANCELLED) {
        srv_conductor_fail(c, run->job, run, status, err);
        leave(c, run);
    }
}

static void step(struct srv_conductor *c)
{
    struct srv_run *chosen[SRV_MOST_RUNS];
    double before[SRV_MOST_RUNS];
    struct els_error err = {0};
    int count = choose(c, chosen), status;

    for (int i = 0; i < count; i++)
        before[i] = chosen[i]->seconds;
    status = srv_runs_step(chosen, count, c->pool, &c->cut, &err);
    if (status == 0 && count > 1)
        srv_metrics_count(c->parts.metrics, SRV_SHARED_PASSES);
    if (status < 0 && status != ELS_ECANCELLED && count > 1) {
        /* Whose fault it is shows when each computes by itself. */
        count = 1;
        before[0] = chosen[0]->seconds;
        status = srv_runs_step(chosen, count, c->pool, &c->cut, &err);
    }
    for (int i = 0; i < count; i++) {
        if (status == 0)
            srv_metrics_observe(c->parts.metrics, SRV_STEP_SECONDS, chosen[i]->seconds - before[i]);
        settle(c, chosen[i], status, &err);
    }
}

/* A piece of tidying in the store, and whether it can be written to again. Removing for want of room is the store's own,
 * when a result is inserted. */
static void tidy(struct srv_conductor *c)
{
    struct els_error err = {0};
    char number[32];
    int64_t now = srv_monotonic_ms(), expired;
    int more;

    if (!atomic_load(&c->store_works) && now >= c->next_probe) {
        c->next_probe = now + SRV_CONDUCTOR_IDLE_MS;
        if (srv_store_probe(c->parts.store, NULL) == 0)
            srv_conductor_note_store(c, 0);
    }
    if (!c->untidy && now < c->next_tidy)
        return;
    more = srv_store_tidy(c->parts.store, srv_now_ms(), c->parts.config->retention_seconds, &err);
    if (more < 0) {
        srv_conductor_note_store(c, more);
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
    struct srv_conductor *c = user;

    while (!atomic_load(&c->stopping)) {
        admit(c);
        reap(c);
        if (c->runs && !atomic_load(&c->stopping))
            step(c);
        tidy(c);
    }
    pthread_mutex_lock(&c->lock);
    c->gone = true;
    pthread_cond_broadcast(&c->went);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- life ---- */

int srv_conductor_new(struct srv_conductor **out, const struct srv_conductor_parts *parts, struct els_error *err)
{
    struct srv_conductor *c = els_alloc_array(1, sizeof(*c));
    pthread_condattr_t attr;
    int status;

    if (!c)
        return els_fail(err, ELS_ENOMEM, NULL, "Memory is out.");
    c->parts = *parts;
    atomic_init(&c->store_works, true);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->went, &attr);
    pthread_condattr_destroy(&attr);
    status = els_pool_new(&c->pool, (int)parts->config->threads);
    if (status < 0) {
        srv_conductor_free(c);
        return els_fail(err, status, "threads", "The pool of %lld threads cannot be made: %s.",
                        (long long)parts->config->threads, els_status_text(status));
    }
    *out = c;
    return 0;
}

int srv_conductor_start(struct srv_conductor *c)
{
    if (pthread_create(&c->thread, NULL, conduct, c) != 0)
        return ELS_ENOMEM;
    c->started = true;
    return 0;
}

void srv_conductor_drain(struct srv_conductor *c, int timeout_ms)
{
    struct timespec until;

    atomic_store(&c->stopping, true);
    srv_queue_close(c->parts.queue);
    if (!c->started)
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000 + 1;
    pthread_mutex_lock(&c->lock);
    while (!c->gone && pthread_cond_timedwait(&c->went, &c->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&c->lock);
    atomic_store(&c->cut, true);
    pthread_join(c->thread, NULL);
    c->started = false;
}

struct srv_conductor *srv_conductor_free(struct srv_conductor *c)
{
    if (!c)
        return NULL;
    srv_conductor_drain(c, 0);
    while (c->runs)
        leave(c, c->runs);
    els_pool_free(c->pool);
    pthread_cond_destroy(&c->went);
    pthread_mutex_destroy(&c->lock);
    free(c);
    return NULL;
}

int srv_conductor_running(const struct srv_conductor *c)
{
    return atomic_load_explicit(&c->running, memory_order_relaxed);
}

int srv_conductor_workers(const struct srv_conductor *c)
{
    return els_pool_threads(c->pool);
}

int srv_conductor_workers_busy(const struct srv_conductor *c)
{
    return els_pool_busy(c->pool);
}

void srv_conductor_store_failed(struct srv_conductor *c)
{
    srv_conductor_note_store(c, ELS_EIO);
}

bool srv_conductor_store_works(const struct srv_conductor *c)
{
    return atomic_load_explicit(&c->store_works, memory_order_relaxed);
}
