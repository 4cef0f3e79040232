/*
 * The conductor owns the pool. It takes jobs out of the queue and runs one step of one job at a time.
 *
 * Who runs: as long as jobs are short, one after the other, in the queue's order, because that gives everybody their
 * result soonest. But a small job must not wait behind hours of a large one: a job that has waited for a second and
 * is much smaller than what is left of every running one is started beside them. Running jobs share the time
 * evenly: the next step is of the job that has computed least since it came in.
 *
 * The pictures of one job share a pass over the bank; jobs on the same bank do not. Four noisy images in one pass take
 * between nothing and a fifth less time than one after the other (P = 7, P = 3), and with that whoever came first would
 * wait for whoever came last.
 *
 * What a running job holds in memory is bounded: all together at most twice what one job may take.
 *
 * The order of the end: results into the store, then the job's status and terminal event, then it retires from the
 * list of live jobs. A crash in between repeats the job, and it comes out the same.
 *
 * Lock: c->lock guards `gone` alone, for drain's waiting. Nothing else is locked under it.
 */
#include "conductor.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "json.h"
#include "run.h"

enum {
    MOST_RUNNING = 8,
    PATIENCE_MS = 1000,     /* so long a small job waits for its turn in the line first */
    MUCH_SMALLER = 4,       /* a quarter of what is left, or less */
    IDLE_MS = 1000,
    SWEEP_MS = 60 * 1000,
};

struct srv_conductor {
    struct srv_conductor_parts parts;
    struct els_pool *pool;
    struct srv_run *runs; /* being computed; the thread's own */
    uint64_t bytes;       /* of their results */
    int64_t next_sweep, next_probe;
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

/* ---- the end of a job ---- */

static void log_end(struct srv_conductor *c, struct srv_job *job, const struct srv_outcome *o, double seconds,
                    const char *detail)
{
    char number[32];

    srv_log(c->parts.log, o->status == SRV_FAILED ? SRV_ERROR : SRV_INFO, "job_finished", "id", job->record.id,
            "status", srv_status_name(o->status), "seconds", srv_log_number(number, seconds), "detail", detail, NULL);
}

static void note_store(struct srv_conductor *c, int status)
{
    atomic_store(&c->store_works, status >= 0);
}

static void count_end(struct srv_conductor *c, enum srv_status status, double seconds)
{
    srv_metrics_count(c->parts.metrics, status == SRV_SUCCEEDED ? SRV_JOBS_SUCCEEDED
                                        : status == SRV_FAILED  ? SRV_JOBS_FAILED
                                                                : SRV_JOBS_CANCELLED);
    srv_metrics_observe(c->parts.metrics, SRV_RUN_SECONDS, seconds);
}

static char *error_text(const char *code, const char *detail)
{
    json_t *json = json_pack("{s:s, s:s}", "code", code, "detail", detail);
    char *text = els_json_text(json, JSON_COMPACT);

    json_decref(json);
    return text;
}

/* A while. False when the daemon is to end. */
static bool pause_or_stop(struct srv_conductor *c)
{
    const struct timespec tick = {.tv_nsec = 50 * 1000000L};

    for (int ms = 0; ms < IDLE_MS && !atomic_load(&c->stopping); ms += 50)
        nanosleep(&tick, NULL);
    return !atomic_load(&c->stopping);
}

/*
 * Stores the outcome. When not even a few bytes can be stored (the disk is full, or gone), it waits until they can:
 * the job was accepted, and nothing else that is computed meanwhile could be kept either. ELS_ECANCELLED: the daemon
 * is to end first; the next start repeats the job. Another failure is about this outcome.
 */
static int store_outcome(struct srv_conductor *c, const struct srv_job *job, const struct srv_outcome *o,
                         struct els_error *err)
{
    bool told = false;
    int status;

    while ((status = srv_store_finish(c->parts.store, job->record.id, o, err)) < 0) {
        if (!told)
            srv_log(c->parts.log, SRV_ERROR, "store_failed", "id", job->record.id, "detail", err->message, NULL);
        told = true;
        if (status != ELS_EIO || srv_store_probe(c->parts.store, NULL) == 0)
            break;
        note_store(c, status);
        if (!pause_or_stop(c))
            return ELS_ECANCELLED;
    }
    note_store(c, status);
    return status;
}

/* Stores the outcome, or that it could not be stored; then tells everyone. */
static void end_job(struct srv_conductor *c, struct srv_job *job, struct srv_outcome *o, double seconds,
                    const char *detail)
{
    struct els_error err = {0};
    char *unstored = NULL;
    int status;

    o->finished = srv_now_ms();
    o->last_event = srv_job_last_event(job);
    status = store_outcome(c, job, o, &err);
    if (status == ELS_ECANCELLED)
        return;
    if (status != 0) {
        unstored = error_text("result_not_stored", err.message);
        *o = (struct srv_outcome){.status = o->status == SRV_CANCELLED ? SRV_CANCELLED : SRV_FAILED,
                                  .finished = o->finished, .last_event = o->last_event,
                                  .steps_done = o->steps_done, .error = unstored};
        /* Without the large parts there may be room for the word. If not, the next start repeats the job. */
        srv_store_finish(c->parts.store, job->record.id, o, NULL);
        detail = err.message;
    }
    count_end(c, o->status, seconds); /* first: who is told of the end may ask for the count */
    srv_job_end(job, o);
    log_end(c, job, o, seconds, detail);
    c->parts.retired(c->parts.user, job);
    free(unstored);
}

static void fail_job(struct srv_conductor *c, struct srv_job *job, const struct srv_run *run, int status,
                     const struct els_error *err)
{
    const char *detail = err->message[0] ? err->message : els_status_text(status);
    bool late = strcmp(err->field, "job_timeout") == 0;
    char *text = error_text(late ? "job_timeout" : status == ELS_ENOMEM ? "out_of_memory" : "job_failed", detail);
    struct srv_outcome o = {.status = SRV_FAILED, .error = text,
                            .steps_done = run ? run->next : 0};

    end_job(c, job, &o, run ? run->seconds : 0, detail);
    free(text);
}

static void cancel_job(struct srv_conductor *c, struct srv_job *job, const struct srv_run *run)
{
    struct srv_outcome o = {.status = SRV_CANCELLED, .steps_done = run ? run->next : 0};

    end_job(c, job, &o, run ? run->seconds : 0, NULL);
}

/* ---- who runs ---- */

static bool fits(void *user, const struct srv_job *job)
{
    const struct srv_conductor *c = user;
    bool beside = srv_monotonic_ms() - job->born >= PATIENCE_MS;

    if (job->params->result_bytes > 2 * (uint64_t)c->parts.config->max_result_bytes - c->bytes && c->runs)
        return false;
    for (const struct srv_run *run = c->runs; run; run = run->next_run)
        beside = beside && job->params->cost * MUCH_SMALLER <= srv_run_left(run);
    return beside || !c->runs;
}

/* A newcomer begins level with the job that has had least. */
static double least_share(const struct srv_conductor *c)
{
    double least = c->runs ? c->runs->share : 0;

    for (const struct srv_run *run = c->runs; run; run = run->next_run)
        least = run->share < least ? run->share : least;
    return least;
}

static void begin(struct srv_conductor *c, struct srv_job *job)
{
    struct srv_run *run = NULL;
    struct els_error err = {0};
    int64_t now = srv_now_ms();
    int status;

    if (atomic_load(&job->cancelled)) {
        cancel_job(c, job, NULL);
        srv_job_unref(job);
        return;
    }
    status = srv_run_new(&run, job, &err);
    if (status == 0 && srv_store_start(c->parts.store, job->record.id, now, &err) < 0) {
        /* The mark "running" is for lists only; a store that is truly broken shows at the end. */
        srv_log(c->parts.log, SRV_WARNING, "store_failed", "id", job->record.id, "detail", err.message, NULL);
    }
    if (status < 0) {
        fail_job(c, job, NULL, status, &err);
        srv_job_unref(job);
        return;
    }
    run->limit = (double)c->parts.config->job_timeout;
    run->share = least_share(c);
    run->next_run = c->runs;
    c->runs = run;
    c->bytes += job->params->result_bytes;
    atomic_fetch_add(&c->running, 1);
    srv_job_start(job, now);
    srv_metrics_observe(c->parts.metrics, SRV_QUEUE_SECONDS,
                        (double)(srv_monotonic_ms() - job->born) / 1000);
    srv_log(c->parts.log, SRV_INFO, "job_started", "id", job->record.id, NULL);
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

static void admit(struct srv_conductor *c)
{
    while (atomic_load(&c->running) < MOST_RUNNING && !atomic_load(&c->stopping)) {
        struct srv_job *job = srv_queue_pop(c->parts.queue, fits, c, c->runs ? 0 : IDLE_MS);

        if (!job)
            return;
        begin(c, job);
    }
}

/* ---- the thread ---- */

static void finish(struct srv_conductor *c, struct srv_run *run)
{
    struct srv_outcome outcome;
    struct els_error err = {0};
    int status = srv_run_outcome(run, c->pool, &outcome, &err);

    if (status < 0) {
        fail_job(c, run->job, run, status, &err);
    } else {
        srv_queue_note_duration(c->parts.queue, run->seconds);
        end_job(c, run->job, &outcome, run->seconds, NULL);
    }
    leave(c, run);
}

/* Cancelled jobs go at once, not when it would be their turn again. */
static void reap(struct srv_conductor *c)
{
    struct srv_run *next;

    for (struct srv_run *run = c->runs; run; run = next) {
        next = run->next_run;
        if (atomic_load(&run->job->cancelled)) {
            cancel_job(c, run->job, run);
            leave(c, run);
        }
    }
}

/* One step of the job whose turn it is. What stops it short is noticed by the next reap, or by draining. */
static void step(struct srv_conductor *c)
{
    struct srv_run *run = c->runs;
    struct els_error err = {0};
    double before;
    int status;

    for (struct srv_run *other = c->runs; other; other = other->next_run)
        if (other->share < run->share)
            run = other;
    before = run->seconds;
    status = srv_run_step(run, c->pool, &c->cut, &err);
    if (status == 0)
        srv_metrics_observe(c->parts.metrics, SRV_STEP_SECONDS, run->seconds - before);
    if (status == 0 && srv_run_finished(run)) {
        finish(c, run);
    } else if (srv_run_late(run) && !atomic_load(&run->job->cancelled)) {
        els_fail(&err, ELS_ELIMIT, "job_timeout", "The job has computed for %lld s, which is all that it may.",
                 (long long)c->parts.config->job_timeout);
        fail_job(c, run->job, run, ELS_ELIMIT, &err);
        leave(c, run);
    } else if (status < 0 && status != ELS_ECANCELLED) {
        fail_job(c, run->job, run, status, &err);
        leave(c, run);
    }
}

static void sweep(struct srv_conductor *c)
{
    const struct srv_config *config = c->parts.config;
    struct els_error err = {0};
    char number[32];
    int64_t now = srv_monotonic_ms();
    int removed;

    if (!atomic_load(&c->store_works) && now >= c->next_probe) {
        c->next_probe = now + IDLE_MS;
        if (srv_store_probe(c->parts.store, NULL) == 0)
            note_store(c, 0);
    }
    if (now < c->next_sweep)
        return;
    removed = srv_store_sweep(c->parts.store, srv_now_ms(), config->retention_seconds, config->retention_bytes, &err);
    if (removed < 0) {
        note_store(c, removed);
        srv_log(c->parts.log, SRV_ERROR, "store_failed", "detail", err.message, NULL);
    }
    if (removed > 0)
        srv_log(c->parts.log, SRV_INFO, "jobs_expired", "count", srv_log_number(number, removed), NULL);
    /* A sweep removes a bounded number: after one that removed some there may be more. */
    c->next_sweep = srv_monotonic_ms() + (removed > 0 ? IDLE_MS : SWEEP_MS);
}

static void *conduct(void *user)
{
    struct srv_conductor *c = user;

    while (!atomic_load(&c->stopping)) {
        admit(c);
        reap(c);
        if (c->runs && !atomic_load(&c->stopping))
            step(c);
        sweep(c);
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
    note_store(c, ELS_EIO);
}

bool srv_conductor_store_works(const struct srv_conductor *c)
{
    return atomic_load_explicit(&c->store_works, memory_order_relaxed);
}
