/*
 * Every POST that makes a job: a body becomes a stored, queued job; whoever wants to wait is parked until it has
 * ended. Handlers run in the handler pool, a waiting one once more each time it is woken.
 *
 * A job is accepted when the store has it: from then on it will be run, whether the client stays or not.
 */
#include "server/api/submit.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/sha256.h"
#include "server/api/results.h"
#include "server/base/account.h"
#include "server/base/clock.h"
#include "server/base/json_body.h"
#include "server/jobs/job_service.h"
#include "server/params/params_fields.h"

enum { MAX_KEY = 255 };

/* ---- what the client sent ---- */

struct submission {
    const struct srv_job_type *kind;
    json_t *body;
    struct els_safetensors *tensors;
    const char *key; /* Idempotency-Key, or NULL */
    char body_sha256[ELS_SHA256_HEX];
};

static void submission_deinit(struct submission *s)
{
    json_decref(s->body);
    els_safetensors_free(s->tensors);
}

/* Parameters as JSON in __metadata__.params, tensors beside them. */
static bool read_safetensors(struct srv_request *req, struct srv_response *res, struct submission *s)
{
    struct els_error err = {0};
    size_t size;
    const void *bytes = srv_request_body(req, &size);
    char pointer[96];
    const char *params;
    int status;

    if (!srv_request_charge_json(req, res, els_safetensors_memory(bytes, size)))
        return false;
    status = els_safetensors_parse(&s->tensors, bytes, size, &err);
    if (status == ELS_ENOMEM) {
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
        return false;
    }
    if (status < 0) {
        srv_problem(res, 422, "bad_safetensors", "The body is not whole safetensors: %s.", err.message);
        srv_problem_error(res, strcmp(err.field, "safetensors") == 0 ? "" : srv_pointer(pointer, "", err.field), "%s",
                          err.message);
        return false;
    }
    params = els_safetensors_metadata(s->tensors, "params");
    s->body = srv_request_json_text(req, res, params ? params : "", params ? strlen(params) : 0, "__metadata__.params");
    return s->body != NULL;
}

static bool read_key(struct srv_request *req, struct srv_response *res, struct submission *s)
{
    const char *key = srv_request_header(req, "Idempotency-Key");
    const char *type = srv_request_content_type(req);
    struct els_sha256 hash;
    size_t size;
    const void *bytes = srv_request_body(req, &size);

    if (!key)
        return true;
    for (const char *c = key; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f || c - key >= MAX_KEY) {
            key = "";
            break;
        }
    }
    if (!*key) {
        srv_problem(res, 422, "invalid_idempotency_key",
                    "Idempotency-Key must have 1 to %d characters without control characters.", MAX_KEY);
        return false;
    }
    els_sha256_init(&hash);
    els_sha256_update(&hash, s->kind->name, strlen(s->kind->name) + 1);
    els_sha256_update(&hash, type, strlen(type) + 1);
    els_sha256_update(&hash, bytes, size);
    els_sha256_hex(&hash, s->body_sha256);
    s->key = key;
    return true;
}

static bool read_submission(struct srv_request *req, struct srv_response *res, struct submission *s)
{
    if (!read_key(req, res, s))
        return false;
    if (strcmp(srv_request_content_type(req), SRV_SAFETENSORS_TYPE) == 0)
        return read_safetensors(req, res, s);
    s->body = srv_request_json(req, res);
    return s->body != NULL;
}

/* ---- accepting ---- */

enum verdict {
    REFUSED,  /* the problem is in the response */
    NEW,      /* look for the key found nothing */
    ACCEPTED, /* `id` is the job's */
};

/* Has a request with this key made a job already? */
static enum verdict find_key(struct srv_request *req, struct srv_response *res, const struct submission *s,
                             char id[SRV_ID_SIZE])
{
    char body_sha256[65];
    struct els_error err = {0};
    int status;

    if (!s->key)
        return NEW;
    status = srv_store_find_key(srv_request_daemon(req)->jobs->store, srv_request_key(req), s->key, id, body_sha256,
                                &err);
    if (status == ELS_ENOENT)
        return NEW;
    if (status < 0)
        srv_results_store_problem(res, status, &err, "");
    else if (strcmp(body_sha256, s->body_sha256) != 0)
        srv_problem(res, 409, "idempotency_conflict",
                    "The Idempotency-Key \"%.60s\" was used before, with another body.", s->key);
    else
        return ACCEPTED;
    return REFUSED;
}

static void refuse(struct srv_request *req, struct srv_response *res, int status, const struct els_error *err)
{
    struct srv_jobs *jobs = srv_request_daemon(req)->jobs;
    char seconds[16];

    if (status == ELS_ELIMIT && strcmp(err->field, "inputs") == 0) {
        srv_problem(res, 413, "inputs_too_large", "%s", err->message);
        return;
    }
    if (status != ELS_ELIMIT) {
        srv_problem(res, 503, "store_failed", "The job could not be accepted. %s", err->message);
        srv_response_header(res, "Retry-After", "10");
        return;
    }
    snprintf(seconds, sizeof(seconds), "%d", srv_queue_retry_after(jobs->queue));
    srv_problem(res, 429,
                strcmp(err->field, "max_jobs_per_key") == 0       ? "key_limit"
                : strcmp(err->field, "max_jobs_per_address") == 0 ? "address_limit"
                                                                  : "queue_full",
                "%s Try again in about %s s.", err->message, seconds);
    srv_response_header(res, "Retry-After", seconds);
}

/* The body's job, or the faults in `res`. */
static struct srv_job *make_job(struct srv_request *req, struct srv_response *res, const struct submission *s)
{
    struct srv_daemon *daemon = srv_request_daemon(req);
    struct srv_params_source source = {.kind = s->kind, .banks = daemon->banks,
                                       .store = daemon->jobs->store, .owner = srv_request_key(req),
                                       .limits = srv_limits_of(daemon->config),
                                       .body = s->body, .tensors = s->tensors};
    struct srv_params *params = NULL;
    struct srv_job *job = NULL;
    struct srv_faults faults;

    source.limits.max_run_bytes = srv_accounts_share(daemon->accounts, SRV_MEMORY);
    if (srv_params_new(&params, &source, &faults) < 0)
        srv_faults_answer(&faults, res);
    else if (srv_job_new(&job, params, srv_request_key(req), srv_request_peer(req)) < 0)
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
    return job;
}

/*
 * Charges the most that the job may hold before anything of it is made: its parameters, and the tensors of the body,
 * which has no more bytes than they have values of four. False: the refusal is in `res`.
 */
static bool charge_inputs(struct srv_request *req, struct srv_response *res, const struct submission *s,
                          struct srv_charge *charge)
{
    const char *params = s->tensors ? els_safetensors_metadata(s->tensors, "params") : NULL;
    struct srv_payer *payer = srv_request_payer(req);
    struct srv_refusal why;
    size_t size, bytes;

    srv_request_body(req, &size);
    bytes = s->tensors ? srv_params_text_memory(params ? strlen(params) : 0) + size : srv_params_text_memory(size);
    if (srv_charge_take(charge, payer, SRV_CHARGE_INPUTS, (int64_t)bytes, &why) == 0)
        return true;
    srv_problem_refused(res, &why);
    return false;
}

static enum verdict submit(struct srv_request *req, struct srv_response *res, const struct submission *s,
                           char id[SRV_ID_SIZE])
{
    struct srv_daemon *daemon = srv_request_daemon(req);
    enum verdict verdict = REFUSED;
    struct srv_charge charge = {0};
    struct srv_refusal why = {0};
    struct srv_job *job = NULL;
    struct els_error err = {0};
    size_t size;
    int status;

    /* Before anything is made of the body; what it comes to exactly is asked for once more when it is known. */
    srv_request_body(req, &size);
    status = srv_store_has_room(daemon->jobs->store, s->tensors ? size : 0, &err);
    if (status < 0)
        refuse(req, res, status, &err);
    else if (charge_inputs(req, res, s, &charge))
        job = make_job(req, res, s);
    if (!job) {
        srv_charge_give(&charge);
        return REFUSED;
    }
    srv_charge_move(&job->inputs, &charge);
    status = srv_jobs_submit(daemon->jobs, job, s->key, s->key ? s->body_sha256 : NULL, &why, &err);
    if (status == 0) {
        memcpy(id, job->record.id, SRV_ID_SIZE);
        srv_log(daemon->log, SRV_INFO, "job_accepted", "id", id, "request", srv_request_id(req), "peer",
                srv_request_peer(req), "key", srv_request_key(req), NULL);
        verdict = ACCEPTED;
    } else if (status == SRV_STORE_TAKEN) {
        /* Another request with the same key was faster. */
        verdict = find_key(req, res, s, id);
        if (verdict == NEW)
            srv_problem(res, 409, "idempotency_conflict", "The job of this Idempotency-Key has just been deleted.");
    } else if (why.status) {
        srv_problem_refused(res, &why);
    } else {
        refuse(req, res, status, &err);
    }
    srv_job_unref(job);
    return verdict == ACCEPTED ? ACCEPTED : REFUSED;
}

static bool accept_job(struct srv_request *req, struct srv_response *res, const struct srv_job_type *kind,
                       char id[SRV_ID_SIZE])
{
    struct submission s = {.kind = kind};
    enum verdict verdict = REFUSED;

    if (read_submission(req, res, &s)) {
        verdict = find_key(req, res, &s, id);
        if (verdict == NEW)
            verdict = submit(req, res, &s, id);
    }
    submission_deinit(&s);
    return verdict == ACCEPTED;
}

/* ---- waiting ---- */

/* What a waiting request holds on to, from the first run of the handler to the last. */
struct waiting {
    char id[SRV_ID_SIZE];
    struct srv_job *job; /* NULL: it had ended when we looked */
    struct srv_waker *waker;
    int64_t until; /* monotonic ms */
    bool parked;
};

static void free_waiting(void *user)
{
    struct waiting *w = user;

    if (w->waker)
        srv_waiters_remove(&w->job->watchers, w->waker);
    srv_waker_unref(w->waker);
    srv_job_unref(w->job);
    free(w);
}

static struct waiting *begin_waiting(struct srv_request *req, struct srv_response *res, const struct srv_job_type *kind,
                                     int seconds)
{
    struct waiting *w = els_alloc_array(1, sizeof(*w));
    struct srv_waker *waker = srv_request_waker(req);

    if (!w) {
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
        return NULL;
    }
    if (!accept_job(req, res, kind, w->id)) {
        free_waiting(w);
        return NULL;
    }
    w->until = srv_monotonic_ms() + (int64_t)seconds * 1000;
    w->job = srv_jobs_live(srv_request_daemon(req)->jobs, w->id);
    if (w->job && seconds > 0 && srv_waiters_add(&w->job->watchers, waker) == 0)
        w->waker = srv_waker_ref(waker); /* without it we do not wait: the job is accepted all the same */
    return w;
}

static void answer_ended(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                         const char *type)
{
    json_t *error = srv_json_stored(record->error);
    const char *detail = json_string_value(json_object_get(error, "detail"));

    if (!type)
        srv_results_json(req, res, 200, record);
    else if (record->status == SRV_SUCCEEDED)
        srv_results_answer(req, res, record, type);
    else if (record->status == SRV_FAILED)
        srv_problem(res, 500, "job_failed", "The job %s failed: %s", record->id, detail ? detail : "no reason is known.");
    else
        srv_problem(res, 409, "job_cancelled", "The job %s was cancelled while this request waited for it.", record->id);
    json_decref(error);
}

/* The answer, whatever has become of the job. `type` NULL: always JSON. */
static void answer(struct srv_request *req, struct srv_response *res, const struct waiting *w, const char *type)
{
    struct srv_job_record record = {0};
    char location[64];

    if (!srv_results_find(req, res, w->id, &record))
        return;
    if (srv_status_ended(record.status)) {
        answer_ended(req, res, &record, type);
    } else {
        snprintf(location, sizeof(location), "/v1/jobs/%s", record.id);
        srv_response_header(res, "Location", location);
        srv_results_json(req, res, 202, &record);
    }
    srv_job_record_deinit(&record);
}

/* Makes the job in the handler's first run; answers in its last. */
static void post(struct srv_request *req, struct srv_response *res, const struct srv_job_type *kind, int seconds,
                 const char *type)
{
    struct waiting *w = srv_request_state(req);
    bool ended, late;

    if (!w)
        w = begin_waiting(req, res, kind, seconds);
    if (!w)
        return;
    ended = !w->job || srv_status_ended(srv_job_status(w->job));
    late = !w->waker || srv_monotonic_ms() >= w->until || srv_request_timed_out(req) ||
           atomic_load(&srv_request_daemon(req)->draining);
    if (!ended && !late) {
        w->parked = true;
        srv_response_park(req, res, (int)(w->until - srv_monotonic_ms()), w, free_waiting);
        return;
    }
    answer(req, res, w, type);
    if (!w->parked)
        free_waiting(w); /* else the request frees it */
}

int srv_patience(const struct srv_request *req, int otherwise)
{
    int64_t most = srv_request_daemon(req)->config->sync_timeout;
    int wish = srv_request_prefer_wait(req);

    if (wish < 0)
        return otherwise;
    return wish < most ? wish : (int)most;
}

void srv_post_and_wait(struct srv_request *req, struct srv_response *res, const struct srv_job_type *kind)
{
    const char *type = srv_request_accepts(req, res, srv_results_types);

    if (type)
        post(req, res, kind, srv_patience(req, (int)srv_request_daemon(req)->config->sync_timeout), type);
}

void srv_post_job(struct srv_request *req, struct srv_response *res, const struct srv_job_type *kind)
{
    post(req, res, kind, srv_patience(req, 0), NULL);
}
