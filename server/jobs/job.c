/*
 * One job's state. Any thread may look; the transitions are made by
 *
 *     from \ to   running      succeeded    failed       cancelled
 *     queued      scheduler    never        scheduler    DELETE's handler (it took the job out of the queue),
 *                                                        or the scheduler (cancelled before its first step)
 *     running     never        scheduler    scheduler    scheduler
 *     ended       never        never        never        never
 *
 * and one more that happens only in the store: what is queued or running when the process ends is queued again by
 * the next one. At any moment one party owns a job: the queue, then the handler that took it out or the
 * scheduler. Only the owner changes its status, after the store knows, so an ended job always has its results.
 *
 * Lock order: job->lock is held for copying fields only. Publishing and waking happen after it is given up.
 */
#include "server/jobs/job.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/json.h"
#include "els/mem.h"
#include "server/base/clock.h"

enum { PROGRESS_MS = 200 };

bool srv_job_may(enum srv_status from, enum srv_status to)
{
    static const bool may[SRV_STATUS_COUNT][SRV_STATUS_COUNT] = {
        [SRV_QUEUED] = {[SRV_RUNNING] = true, [SRV_FAILED] = true, [SRV_CANCELLED] = true},
        [SRV_RUNNING] = {[SRV_SUCCEEDED] = true, [SRV_FAILED] = true, [SRV_CANCELLED] = true},
    };

    return may[from][to];
}

/* ---- birth and death ---- */

static int random_id(char out[SRV_ID_SIZE])
{
    unsigned char bytes[(SRV_ID_SIZE - 1) / 2];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return ELS_EIO;
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

static int describe(struct srv_job_record *record, const struct srv_params *params)
{
    snprintf(record->kind, sizeof(record->kind), "%s", params->kind->name);
    record->status = SRV_QUEUED;
    record->shape = params->shape;
    record->num_images = params->spec.num_images;
    record->num_steps = params->num_steps;
    record->depth = params->depth;
    record->outputs = params->outputs;
    record->seed = params->spec.seed;
    record->progress = (struct srv_progress){.steps = params->num_steps, .eta_seconds = -1};
    snprintf(record->bank_sha256, sizeof(record->bank_sha256), "%s", els_bank_info(params->spec.bank)->sha256);
    record->params = strdup(params->json);
    return record->params ? 0 : ELS_ENOMEM;
}

/* A job around `params`, which it takes. */
static int job_new(struct srv_job **out, struct srv_params *params)
{
    struct srv_job *job = els_alloc_array(1, sizeof(*job));
    int status = ELS_ENOMEM;

    if (!job) {
        srv_params_free(params);
        return status;
    }
    atomic_init(&job->refs, 1);
    atomic_init(&job->fate, SRV_FATE_OPEN);
    pthread_mutex_init(&job->lock, NULL);
    srv_waiters_init(&job->watchers);
    job->params = params;
    job->born = srv_monotonic_ms();
    status = srv_events_new(&job->events);
    if (status == 0)
        status = describe(&job->record, params);
    if (status < 0)
        srv_job_unref(job);
    else
        *out = job;
    return status;
}

int srv_job_new(struct srv_job **out, struct srv_params *params, const char *owner, const char *peer)
{
    struct srv_job *job = NULL;
    int status = job_new(&job, params);

    if (status < 0)
        return status;
    status = random_id(job->record.id);
    if (status < 0) {
        srv_job_unref(job);
        return status;
    }
    job->record.created = srv_now_ms();
    snprintf(job->record.owner, sizeof(job->record.owner), "%s", owner);
    snprintf(job->peer, sizeof(job->peer), "%s", peer);
    *out = job;
    return 0;
}

int srv_job_restore(struct srv_job **out, struct srv_params *params, const struct srv_job_record *record)
{
    struct srv_job *job = NULL;
    int status = job_new(&job, params);

    if (status < 0)
        return status;
    job->record.sequence = record->sequence;
    job->record.created = record->created;
    memcpy(job->record.id, record->id, sizeof(record->id));
    memcpy(job->record.owner, record->owner, sizeof(record->owner));
    *out = job;
    return 0;
}

struct srv_job *srv_job_ref(struct srv_job *job)
{
    /* relaxed: whoever hands the job over holds a reference itself */
    atomic_fetch_add_explicit(&job->refs, 1, memory_order_relaxed);
    return job;
}

struct srv_job *srv_job_unref(struct srv_job *job)
{
    /* acq_rel: the last holder sees everything the others did before it frees */
    if (job && atomic_fetch_sub_explicit(&job->refs, 1, memory_order_acq_rel) == 1) {
        srv_params_free(job->params);
        srv_charge_give(&job->disk);
        srv_charge_give(&job->inputs);
        srv_events_unref(job->events);
        srv_waiters_deinit(&job->watchers);
        srv_job_record_deinit(&job->record);
        pthread_mutex_destroy(&job->lock);
        free(job);
    }
    return NULL;
}

/* ---- what it holds while it waits ---- */

static int64_t memory(const struct srv_job *job, int64_t stored, bool on_disk)
{
    return (int64_t)(sizeof(*job) + srv_params_memory(job->params)) + (on_disk ? 0 : stored);
}

int srv_job_charge(struct srv_job *job, int64_t stored, bool on_disk, size_t more, struct srv_refusal *why)
{
    int status = srv_charge_resize(&job->inputs, memory(job, stored, on_disk) + (int64_t)more, why);

    if (status < 0 || !on_disk)
        return status;
    if (job->disk.payer)
        return srv_charge_resize(&job->disk, stored, why);
    return srv_charge_take(&job->disk, job->inputs.payer, SRV_CHARGE_DISK_INPUTS, stored, why);
}

void srv_job_charge_any(struct srv_job *job, struct srv_payer *payer, int64_t stored, bool on_disk)
{
    srv_charge_take_any(&job->inputs, payer, SRV_CHARGE_INPUTS, memory(job, stored, on_disk));
    if (on_disk)
        srv_charge_take_any(&job->disk, payer, SRV_CHARGE_DISK_INPUTS, stored);
}

/* ---- looking ---- */

enum srv_status srv_job_status(struct srv_job *job)
{
    enum srv_status status;

    pthread_mutex_lock(&job->lock);
    status = job->record.status;
    pthread_mutex_unlock(&job->lock);
    return status;
}

int srv_job_snapshot(struct srv_job *job, struct srv_job_record *out)
{
    int status;

    pthread_mutex_lock(&job->lock);
    status = srv_job_record_copy(out, &job->record);
    pthread_mutex_unlock(&job->lock);
    return status;
}

char *srv_job_text(struct srv_job *job)
{
    struct srv_job_record record = {0};
    char *text = NULL;
    json_t *json;

    if (srv_job_snapshot(job, &record) < 0)
        return NULL;
    json = srv_job_record_event(&record);
    if (json)
        text = els_json_text(json, JSON_COMPACT);
    json_decref(json);
    srv_job_record_deinit(&record);
    return text;
}

uint64_t srv_job_last_event(struct srv_job *job)
{
    return srv_events_last(job->events) + 1;
}

int srv_job_load_inputs(struct srv_job *job, struct srv_store *store, struct els_error *err)
{
    struct els_buffer bytes = ELS_BUFFER_INIT(SIZE_MAX);
    struct els_safetensors *inputs = NULL;
    struct srv_charge charge = {0};
    int status;

    if (!srv_params_lack_inputs(job->params))
        return 0;
    /* The values themselves are part of what a running job is charged; this is their container, as it was stored. */
    if (job->inputs.payer)
        srv_charge_take_any(&charge, job->inputs.payer, SRV_CHARGE_INPUTS, (int64_t)srv_params_input_bytes(job->params));
    status = srv_store_read_inputs(store, job->record.id, &bytes, err);
    if (status == ELS_ENOENT)
        status = els_fail(err, ELS_EFORMAT, NULL, "The store does not hold the tensors of the job.");
    if (status == 0)
        status = els_safetensors_parse(&inputs, bytes.data, bytes.size, err);
    if (status == 0)
        status = srv_params_load_inputs(job->params, inputs, err);
    els_safetensors_free(inputs);
    els_buffer_deinit(&bytes);
    srv_charge_give(&charge);
    return status;
}

/* ---- moving ---- */

static bool decide(struct srv_job *job, int fate)
{
    int found = SRV_FATE_OPEN;

    return atomic_compare_exchange_strong(&job->fate, &found, fate) || found == fate;
}

bool srv_job_cancel(struct srv_job *job)
{
    return decide(job, SRV_FATE_CANCELLED);
}

bool srv_job_begin_end(struct srv_job *job)
{
    return decide(job, SRV_FATE_ENDING);
}

void srv_job_reopen(struct srv_job *job)
{
    atomic_store(&job->fate, SRV_FATE_OPEN);
}

bool srv_job_is_cancelled(const struct srv_job *job)
{
    /* relaxed: nothing but the flag itself is read */
    return atomic_load_explicit(&job->fate, memory_order_relaxed) == SRV_FATE_CANCELLED;
}

void srv_job_start(struct srv_job *job, int64_t now)
{
    pthread_mutex_lock(&job->lock);
    assert(srv_job_may(job->record.status, SRV_RUNNING));
    job->record.status = SRV_RUNNING;
    job->record.started = now;
    job->record.queue_position = 0;
    job->started_monotonic = srv_monotonic_ms();
    pthread_mutex_unlock(&job->lock);
    srv_job_progress(job, 0, 0, true);
}

/* Notes the progress. True when it is time to tell. */
static bool note_progress(struct srv_job *job, int step, double done, bool now, struct srv_progress *out)
{
    struct srv_progress *p = &job->record.progress;
    int64_t clock = srv_monotonic_ms();
    bool due;

    pthread_mutex_lock(&job->lock);
    p->step = step;
    p->image = step == p->steps ? job->record.num_images : 0;
    p->eta_seconds = done > 0 ? (double)(clock - job->started_monotonic) / 1000 * (1 - done) / done : -1;
    due = now || clock - job->last_told >= PROGRESS_MS;
    if (due)
        job->last_told = clock;
    *out = *p;
    pthread_mutex_unlock(&job->lock);
    return due;
}

void srv_job_progress(struct srv_job *job, int step, double done, bool now)
{
    struct srv_progress p;
    char eta[32] = "null", text[160];

    if (!note_progress(job, step, done, now, &p))
        return;
    if (p.eta_seconds >= 0)
        snprintf(eta, sizeof(eta), "%.3f", p.eta_seconds);
    snprintf(text, sizeof(text), "{\"image\":%lld,\"step\":%d,\"steps\":%d,\"eta_seconds\":%s}",
             (long long)p.image, p.step, p.steps, eta);
    srv_events_publish(job->events, "progress", text);
    srv_waiters_wake(&job->watchers);
}

static char *copy_text(const char *text)
{
    /* Without memory the live job shows null; the store has the text. */
    return text ? strdup(text) : NULL;
}

void srv_job_end(struct srv_job *job, const struct srv_outcome *outcome)
{
    char *text;

    pthread_mutex_lock(&job->lock);
    assert(srv_job_may(job->record.status, outcome->status));
    job->record.status = outcome->status;
    job->record.finished = outcome->finished;
    job->record.last_event = outcome->last_event;
    job->record.queue_position = 0;
    job->record.result = copy_text(outcome->result);
    job->record.error = copy_text(outcome->error);
    job->record.engine = copy_text(outcome->engine);
    job->record.progress.step = outcome->steps_done;
    pthread_mutex_unlock(&job->lock);
    text = srv_job_text(job);
    srv_events_end(job->events, srv_status_name(outcome->status), text ? text : "{}");
    free(text);
    srv_waiters_wake(&job->watchers);
}
