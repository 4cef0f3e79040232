/*
 * The end of a job, on its executor's thread, or the scheduler's before it has begun: results into the store, then the job's status and terminal event, then
 * it retires from the list of live jobs. A crash in between repeats the job, and it comes out the same.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/json.h"
#include "server/base/clock.h"
#include "server/jobs/scheduler_internal.h"

static void log_end(struct srv_scheduler *c, struct srv_job *job, const struct srv_outcome *o, double seconds,
                    const char *detail)
{
    char number[32];

    srv_log(c->parts.log, o->status == SRV_FAILED ? SRV_ERROR : SRV_INFO, "job_finished", "id", job->record.id,
            "status", srv_status_name(o->status), "seconds", srv_log_number(number, seconds), "detail", detail, NULL);
}

void srv_scheduler_note_store(struct srv_scheduler *c, int status)
{
    atomic_store(&c->store_works, status >= 0);
}

static void count_end(struct srv_scheduler *c, enum srv_status status, double seconds)
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
static bool pause_or_stop(struct srv_scheduler *c)
{
    const struct timespec tick = {.tv_nsec = 50 * 1000000L};

    for (int ms = 0; ms < SRV_SCHEDULER_IDLE_MS && !atomic_load(&c->stopping); ms += 50)
        nanosleep(&tick, NULL);
    return !atomic_load(&c->stopping);
}

/* From here on the job can no longer be cancelled; what has been before, is. */
static void decide(struct srv_job *job, struct srv_outcome *o)
{
    if (o->status != SRV_CANCELLED && !srv_job_begin_end(job))
        *o = (struct srv_outcome){.status = SRV_CANCELLED, .finished = o->finished, .last_event = o->last_event,
                                  .steps_done = o->steps_done};
}

/*
 * Stores the outcome. When not even a few bytes can be stored (the disk is full, or gone), it waits until they can:
 * the job was accepted. Meanwhile it can be cancelled. ELS_ECANCELLED: the daemon
 * is to end first; the next start repeats the job. Another failure is about this outcome.
 */
static int store_outcome(struct srv_scheduler *c, struct srv_job *job, struct srv_outcome *o, struct els_error *err)
{
    bool told = false;
    int status;

    decide(job, o);
    while ((status = srv_store_finish(c->parts.store, job->record.id, o, err)) < 0) {
        if (!told)
            srv_log(c->parts.log, SRV_ERROR, "store_failed", "id", job->record.id, "detail", err->message, NULL);
        told = true;
        if (status != ELS_EIO || srv_store_probe(c->parts.store, NULL) == 0)
            break;
        srv_scheduler_note_store(c, status);
        if (o->status != SRV_CANCELLED)
            srv_job_reopen(job);
        if (!pause_or_stop(c))
            return ELS_ECANCELLED;
        decide(job, o);
    }
    /* What is too large says nothing about the store. */
    srv_scheduler_note_store(c, status == ELS_ELIMIT ? 0 : status);
    return status;
}

/* Stores the outcome, or that it could not be stored; then tells everyone. */
static void end_job(struct srv_scheduler *c, struct srv_job *job, struct srv_outcome *o, double seconds,
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
    log_end(c, job, o, seconds, o->status == SRV_FAILED ? detail : NULL);
    c->parts.retired(c->parts.user, job);
    free(unstored);
}

void srv_scheduler_fail(struct srv_scheduler *c, struct srv_job *job, const struct srv_job_run *run, int status,
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

void srv_scheduler_cancel(struct srv_scheduler *c, struct srv_job *job, const struct srv_job_run *run)
{
    struct srv_outcome o = {.status = SRV_CANCELLED, .steps_done = run ? run->next : 0};

    end_job(c, job, &o, run ? run->seconds : 0, NULL);
}

void srv_scheduler_succeed(struct srv_scheduler *c, struct srv_job_run *run, struct srv_outcome *outcome)
{
    srv_queue_note_duration(c->parts.queue, run->seconds);
    end_job(c, run->job, outcome, run->seconds, NULL);
}
