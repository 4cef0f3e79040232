/*
 * The job service as a whole: store, queue, scheduler, and the list of live jobs. Made and ended by the main thread;
 * the handlers call the rest from the handler pool.
 *
 * A job is live from just before the store accepts it until its end is in the store. So whoever looks for it in the
 * live list first and in the store second always finds it. After the end the store is the only truth.
 *
 * Lock: jobs->lock guards the live list, for pointer moves. Nothing else is locked under it.
 */
#include "server/jobs/jobs.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "server/base/clock.h"
#include "server/base/json_body.h"
#include "server/jobs/job_service.h"

/* SQLite takes no larger blob. */
enum { MAX_INPUTS = 1000 * 1000 * 1000 };

/* ---- live jobs ---- */

bool srv_jobs_is_id(const char *id)
{
    size_t n = strspn(id, "0123456789abcdef");

    return n == SRV_ID_SIZE - 1 && id[n] == '\0';
}

static struct srv_job **bucket(struct srv_jobs *jobs, const char *id)
{
    char digits[4] = {id[0], id[1], id[2], '\0'};

    return &jobs->live[strtoul(digits, NULL, 16) % SRV_LIVE_BUCKETS];
}

struct srv_job *srv_jobs_live(struct srv_jobs *jobs, const char *id)
{
    struct srv_job *job;

    pthread_mutex_lock(&jobs->lock);
    for (job = *bucket(jobs, id); job && strcmp(job->record.id, id) != 0; job = job->next_live)
        ;
    if (job)
        srv_job_ref(job);
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

bool srv_jobs_may_see(const char *key, const char *owner)
{
    return !*key || strcmp(key, owner) == 0;
}

struct srv_job *srv_jobs_live_for(struct srv_jobs *jobs, const char *id, const char *key)
{
    struct srv_job *job = srv_jobs_is_id(id) ? srv_jobs_live(jobs, id) : NULL;

    return job && !srv_jobs_may_see(key, job->record.owner) ? srv_job_unref(job) : job;
}

static void add_live(struct srv_jobs *jobs, struct srv_job *job)
{
    struct srv_job **head = bucket(jobs, job->record.id);

    pthread_mutex_lock(&jobs->lock);
    job->next_live = *head;
    *head = srv_job_ref(job);
    pthread_mutex_unlock(&jobs->lock);
}

static void remove_live(void *user, struct srv_job *job)
{
    struct srv_jobs *jobs = user;
    struct srv_job **link = bucket(jobs, job->record.id);
    bool found;

    pthread_mutex_lock(&jobs->lock);
    while (*link && *link != job)
        link = &(*link)->next_live;
    found = *link == job;
    if (found)
        *link = job->next_live;
    pthread_mutex_unlock(&jobs->lock);
    if (!found)
        return;
    srv_quota_give(jobs->per_key, job->record.owner);
    srv_quota_give(jobs->per_address, job->peer);
    srv_charge_give(&job->disk);
    srv_job_unref(job);
}

/* A live job counts for its owner and its address until remove_live. */
static int take_quotas(struct srv_jobs *jobs, const struct srv_job *job, struct els_error *err)
{
    const struct srv_config *config = jobs->daemon->config;
    int status = srv_quota_take(jobs->per_key, job->record.owner);

    if (status == ELS_ELIMIT) {
        srv_metrics_count(jobs->daemon->metrics, SRV_REFUSED_KEY);
        return els_fail(err, status, "max_jobs_per_key",
                        "The API key \"%s\" has %lld unfinished jobs, which is the most.",
                        job->record.owner, (long long)config->max_jobs_per_key);
    }
    if (status == 0) {
        status = srv_quota_take(jobs->per_address, job->peer);
        if (status < 0)
            srv_quota_give(jobs->per_key, job->record.owner);
    }
    if (status == ELS_ELIMIT) {
        srv_metrics_count(jobs->daemon->metrics, SRV_REFUSED_ADDRESS);
        return els_fail(err, status, "max_jobs_per_address",
                        "%s has %lld unfinished jobs, which is the most.", job->peer,
                        (long long)config->max_jobs_per_address);
    }
    return status < 0 ? els_fail(err, status, NULL, "Out of memory.") : 0;
}

/* ---- in and out ---- */

/* What a job takes in the store while it waits. */
static int64_t stored_bytes(const struct srv_job *job)
{
    return srv_store_input_cost(strlen(job->record.params) + srv_params_input_bytes(job->params));
}

static bool is_on_disk(const struct srv_jobs *jobs)
{
    return *jobs->daemon->config->state_dir;
}

int srv_jobs_submit(struct srv_jobs *jobs, struct srv_job *job, const char *idempotency_key, const char *body_sha256,
                    struct srv_refusal *why, struct els_error *err)
{
    _cleanup_(els_buffer_deinit) struct els_buffer inputs = ELS_BUFFER_INIT(MAX_INPUTS);
    struct srv_acceptance acceptance = {
        .record = &job->record, .idempotency_key = idempotency_key, .body_sha256 = body_sha256};
    int status = srv_store_has_room(jobs->store, strlen(job->record.params) + srv_params_input_bytes(job->params), err);

    if (status < 0)
        return status;
    status = srv_job_charge(job, stored_bytes(job), is_on_disk(jobs), srv_params_input_bytes(job->params), why);
    if (status < 0)
        return els_fail(err, status, "account", "%s", why->detail);
    status = srv_params_write_inputs(job->params, &inputs);
    if (status < 0)
        return els_fail(err, status == ELS_ELIMIT ? ELS_EINVAL : status, NULL, "The tensors cannot be kept: %s.",
                        els_status_text(status));
    acceptance.inputs = inputs.data;
    acceptance.inputs_size = inputs.size;
    status = take_quotas(jobs, job, err);
    if (status < 0)
        return status;
    if (!srv_queue_reserve(jobs->queue)) {
        srv_quota_give(jobs->per_key, job->record.owner);
        srv_quota_give(jobs->per_address, job->peer);
        srv_metrics_count(jobs->daemon->metrics, SRV_REFUSED_QUEUE);
        return els_fail(err, ELS_ELIMIT, "queue_length", "%lld jobs are waiting, which is all that may.",
                        (long long)jobs->daemon->config->queue_length);
    }
    add_live(jobs, job);
    status = srv_store_accept(jobs->store, &acceptance, err);
    if (status == ELS_EIO || status == ELS_EFORMAT)
        srv_scheduler_store_failed(jobs->scheduler);
    if (status != 0) {
        srv_queue_release(jobs->queue);
        remove_live(jobs, job);
        return status;
    }
    srv_params_drop_inputs(job->params);
    els_buffer_deinit(&inputs);
    (void)!srv_job_charge(job, stored_bytes(job), is_on_disk(jobs), 0, NULL); /* less than before */
    status = srv_queue_push(jobs->queue, job);
    if (status < 0) {
        /* Nobody would run it, and the client is told so: it must not come back at the next start. */
        srv_store_remove(jobs->store, job->record.id, NULL, srv_now_ms(), NULL);
        remove_live(jobs, job);
        els_fail(err, status, NULL, "Out of memory.");
    }
    if (status == 0)
        srv_metrics_count(jobs->daemon->metrics, SRV_JOBS_ACCEPTED);
    return status;
}

int srv_jobs_cancel(struct srv_jobs *jobs, struct srv_job *job, struct els_error *err)
{
    struct srv_outcome outcome = {.status = SRV_CANCELLED, .finished = srv_now_ms()};
    int status;

    if (!srv_queue_remove(jobs->queue, job)) {
        if (!srv_job_cancel(job))
            return SRV_JOBS_ENDING;
        srv_scheduler_wake(jobs->scheduler);
        return ELS_ECANCELLED;
    }
    /* The job is this thread's own now, and so is the queue's reference. */
    outcome.last_event = srv_job_last_event(job);
    status = srv_store_finish(jobs->store, job->record.id, &outcome, err);
    srv_metrics_count(jobs->daemon->metrics, SRV_JOBS_CANCELLED);
    srv_job_end(job, &outcome);
    srv_log(jobs->daemon->log, SRV_INFO, "job_finished", "id", job->record.id, "status", "cancelled", NULL);
    remove_live(jobs, job);
    srv_job_unref(job);
    return status;
}

int srv_jobs_live_record(struct srv_jobs *jobs, struct srv_job *job, struct srv_job_record *out)
{
    int64_t position = srv_queue_position(jobs->queue, job);
    int status = srv_job_snapshot(job, out);

    if (status == 0 && out->status == SRV_QUEUED)
        out->queue_position = position;
    return status;
}

int srv_jobs_record(struct srv_jobs *jobs, const char *id, const char *key, struct srv_job_record *out,
                    struct els_error *err)
{
    struct srv_job *job;
    int status;

    if (!srv_jobs_is_id(id))
        return ELS_ENOENT;
    job = srv_jobs_live_for(jobs, id, key);
    if (!job)
        return srv_store_get(jobs->store, id, key, out, err);
    status = srv_jobs_live_record(jobs, job, out);
    srv_job_unref(job);
    return status < 0 ? els_fail(err, status, NULL, "Out of memory.") : status;
}

/* ---- what an earlier process left ---- */

/* The tensors that came with the job, as a container over `bytes`; NULL when there were none. */
static int stored_inputs(struct srv_jobs *jobs, const struct srv_job_record *record, struct els_buffer *bytes,
                         struct els_safetensors **out, struct els_error *err)
{
    int status = srv_store_read_inputs(jobs->store, record->id, bytes, err);

    if (status == 0)
        return els_safetensors_parse(out, bytes->data, bytes->size, err);
    return status == ELS_ENOENT ? 0 : status;
}

static int check_bank(const struct srv_params *params, const struct srv_job_record *record, struct els_error *err)
{
    if (strcmp(els_bank_info(params->spec.bank)->sha256, record->bank_sha256) == 0)
        return 0;
    return els_fail(err, ELS_EINVAL, "bank", "The bank \"%s\" has changed since the job was accepted.",
                    els_bank_info(params->spec.bank)->name);
}

/* A live job from what the store holds. */
static int restore(struct srv_jobs *jobs, const struct srv_job_record *record, struct srv_job **out, struct els_error *err)
{
    _cleanup_(els_buffer_deinit) struct els_buffer bytes = ELS_BUFFER_INIT(MAX_INPUTS);
    json_t *body = srv_json_stored(record->params);
    struct srv_params_source source = {.kind = srv_job_type_find(record->kind), .banks = jobs->daemon->banks,
                                       .store = jobs->store, .owner = record->owner,
                                       .bank_sha256 = record->bank_sha256,
                                       .limits = srv_limits_widest(), .body = body};
    struct els_safetensors *tensors = NULL;
    struct srv_params *params = NULL;
    struct srv_faults faults;
    int status = body ? stored_inputs(jobs, record, &bytes, &tensors, err)
                      : els_fail(err, ELS_EFORMAT, NULL, "The stored parameters are not JSON.");

    source.tensors = tensors;
    if (status == 0 && !source.kind)
        status = els_fail(err, ELS_EFORMAT, NULL, "There is no kind of job \"%s\".", record->kind);
    if (status == 0 && srv_params_new(&params, &source, &faults) < 0)
        status = els_fail(err, ELS_EINVAL, NULL, "%s", faults.fault[0].detail);
    if (status == 0)
        status = check_bank(params, record, err);
    if (status == 0) {
        srv_params_drop_inputs(params);
        status = srv_job_restore(out, params, record);
    } else {
        srv_params_free(params);
    }
    els_safetensors_free(tensors);
    json_decref(body);
    return status;
}

static char *error_json(const char *code, const char *detail)
{
    json_t *json = json_pack("{s:s, s:s}", "code", code, "detail", detail);
    char *text = els_json_text(json, JSON_COMPACT);

    json_decref(json);
    return text;
}

/* The job can no longer be run: it is stored as failed. */
static int give_up(struct srv_jobs *jobs, const struct srv_job_record *record, const struct els_error *why,
                   struct els_error *err)
{
    _cleanup_(els_freep) char *text = error_json("not_restored", why->message);
    struct srv_outcome outcome = {.status = SRV_FAILED, .finished = srv_now_ms(), .last_event = 1, .error = text};

    srv_log(jobs->daemon->log, SRV_ERROR, "job_not_restored", "id", record->id, "detail", why->message, NULL);
    return srv_store_finish(jobs->store, record->id, &outcome, err);
}

static int requeue(struct srv_jobs *jobs, const struct srv_job_record *record, struct els_error *err)
{
    struct srv_payer *payer = srv_payer_new(jobs->daemon->accounts, record->owner, "");
    struct srv_job *job = NULL;
    struct els_error why = {0};
    int status = payer ? restore(jobs, record, &job, &why) : ELS_ENOMEM;

    if (status == 0)
        srv_job_charge_any(job, payer, stored_bytes(job), is_on_disk(jobs));
    srv_payer_unref(payer);
    if (status == ELS_EINVAL || status == ELS_EFORMAT)
        return give_up(jobs, record, &why, err);
    if (status == 0 && srv_quota_take_any(jobs->per_key, job->record.owner) < 0) {
        srv_job_unref(job);
        status = ELS_ENOMEM;
    }
    if (status == 0) {
        add_live(jobs, job);
        srv_metrics_count(jobs->daemon->metrics, SRV_JOBS_REQUEUED);
        status = srv_queue_push_stored(jobs->queue, job);
        srv_job_unref(job);
    }
    return status < 0 ? els_fail(err, status, NULL, "A stored job cannot be queued again: %.300s",
                                 why.message[0] ? why.message : els_status_text(status))
                      : 0;
}

/* Its row makes no sense: it ends as failed, and the others are queued. */
static int condemn(struct srv_jobs *jobs, int64_t sequence, const struct els_error *why, struct els_error *err)
{
    _cleanup_(els_freep) char *text = error_json("damaged", why->message);

    return srv_store_condemn(jobs->store, sequence, srv_now_ms(), text, err);
}

static int requeue_all(struct srv_jobs *jobs, struct els_error *err)
{
    struct srv_job_record record = {0};
    int64_t after = 0;
    char number[32];
    int status, count = 0;

    while (true) {
        struct els_error why = {0};
        bool sound;

        status = srv_store_next_unfinished(jobs->store, after, &record, &why);
        sound = status == 0;
        if (status < 0 && !srv_store_is_damage(&why)) {
            if (err && status != ELS_ENOENT)
                *err = why;
            break;
        }
        after = record.sequence;
        status = sound ? requeue(jobs, &record, err) : condemn(jobs, record.sequence, &why, err);
        srv_job_record_deinit(&record);
        if (status < 0)
            return status;
        count += sound;
    }
    if (count > 0)
        srv_log(jobs->daemon->log, SRV_INFO, "jobs_requeued", "count", srv_log_number(number, count), NULL);
    return status == ELS_ENOENT ? 0 : status;
}

/* ---- life ---- */

static void log_damage(void *user, const char *id, const char *why)
{
    srv_log(user, SRV_ERROR, "store_damaged", "id", id, "detail", why, NULL);
}

static int open_store(struct srv_jobs *jobs, struct els_error *err)
{
    const struct srv_config *config = jobs->daemon->config;
    struct srv_log *log = jobs->daemon->log;
    int status = srv_store_open(&jobs->store, config->state_dir, err);

    if (status < 0)
        return status;
    srv_store_limit(jobs->store, &(struct srv_store_limits){config->retention_bytes, config->queue_bytes});
    srv_store_on_damage(jobs->store, log_damage, log);
    status = srv_store_charge(jobs->store, jobs->daemon->accounts, err);
    if (status < 0)
        return status;
    if (*config->state_dir)
        srv_log(log, SRV_INFO, "store_opened", "where", config->state_dir, NULL);
    else
        srv_log(log, SRV_INFO, "store_opened", "where", "memory",
                "note", "jobs are lost when the daemon ends; set state_dir to keep them", NULL);
    return 0;
}

int srv_jobs_new(struct srv_jobs **out, struct srv_daemon *daemon, struct els_error *err)
{
    const struct srv_config *config = daemon->config;
    struct srv_jobs *jobs = els_alloc_array(1, sizeof(*jobs));
    int status;

    if (!jobs)
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    jobs->daemon = daemon;
    pthread_mutex_init(&jobs->lock, NULL);
    status = open_store(jobs, err);
    if (status == 0 && (srv_queue_new(&jobs->queue, config->queue_length) < 0 ||
                        srv_quota_new(&jobs->per_key, config->max_jobs_per_key) < 0 ||
                        srv_quota_new(&jobs->per_address, config->max_jobs_per_address) < 0))
        status = els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    if (status == 0)
        status = requeue_all(jobs, err);
    if (status == 0)
        status = srv_scheduler_new(&jobs->scheduler,
                                   &(struct srv_scheduler_parts){.config = config, .log = daemon->log,
                                                                 .metrics = daemon->metrics,
                                                                 .store = jobs->store, .queue = jobs->queue,
                                                                 .accounts = daemon->accounts,
                                                                 .retired = remove_live, .user = jobs},
                                   err);
    if (status < 0) {
        srv_jobs_free(jobs);
        return status;
    }
    *out = jobs;
    return 0;
}

int srv_jobs_start(struct srv_jobs *jobs)
{
    return srv_scheduler_start(jobs->scheduler);
}

void srv_jobs_drain(struct srv_jobs *jobs)
{
    struct srv_job *job;
    int left = 0;
    char number[32];

    srv_scheduler_drain(jobs->scheduler);
    pthread_mutex_lock(&jobs->lock);
    for (size_t i = 0; i < SRV_LIVE_BUCKETS; i++) {
        for (job = jobs->live[i]; job; job = job->next_live, left++)
            srv_events_close(job->events); /* their streams have nothing more to expect */
    }
    pthread_mutex_unlock(&jobs->lock);
    if (left > 0)
        srv_log(jobs->daemon->log, SRV_INFO, *jobs->daemon->config->state_dir ? "jobs_left_for_next_start" : "jobs_lost",
                "count", srv_log_number(number, left), NULL);
}

struct srv_jobs *srv_jobs_free(struct srv_jobs *jobs)
{
    struct srv_job *job;

    if (!jobs)
        return NULL;
    srv_scheduler_free(jobs->scheduler);
    srv_queue_free(jobs->queue);
    for (size_t i = 0; i < SRV_LIVE_BUCKETS; i++)
        while ((job = jobs->live[i]))
            remove_live(jobs, job);
    srv_quota_free(jobs->per_key);
    srv_quota_free(jobs->per_address);
    srv_store_close(jobs->store);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
    return NULL;
}

struct srv_jobs_counts srv_jobs_counts(const struct srv_jobs *jobs)
{
    return (struct srv_jobs_counts){
        .queued = srv_queue_length(jobs->queue),
        .running = srv_scheduler_running(jobs->scheduler),
        .queue_capacity = (int)jobs->daemon->config->queue_length,
        .workers = srv_scheduler_workers(jobs->scheduler),
        .workers_busy = srv_scheduler_workers_busy(jobs->scheduler),
    };
}

bool srv_jobs_store_works(const struct srv_jobs *jobs)
{
    return srv_scheduler_store_works(jobs->scheduler);
}
