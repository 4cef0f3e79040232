/*
 * One job as plain data, and as the JSON that people and programs get. Any thread; no state.
 */
#include "server/store/job_record.h"

#include <stdlib.h>
#include <string.h>

#include "els/error.h"
#include "server/base/clock.h"
#include "server/base/json_body.h"

static const char *const names[SRV_STATUS_COUNT] = {
    [SRV_QUEUED] = "queued",       [SRV_RUNNING] = "running", [SRV_SUCCEEDED] = "succeeded",
    [SRV_FAILED] = "failed",       [SRV_CANCELLED] = "cancelled",
};

const char *srv_status_name(enum srv_status status)
{
    return (unsigned)status < SRV_STATUS_COUNT ? names[status] : NULL;
}

int srv_status_parse(const char *name, enum srv_status *out)
{
    for (int i = 0; i < SRV_STATUS_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum srv_status)i;
            return 0;
        }
    }
    return ELS_ENOENT;
}

bool srv_status_ended(enum srv_status status)
{
    return status >= SRV_SUCCEEDED;
}

void srv_job_record_deinit(struct srv_job_record *record)
{
    free(record->params);
    free(record->result);
    free(record->error);
    free(record->engine);
    *record = (struct srv_job_record){0};
}

/* True when the copy failed. NULL copies to NULL. */
static bool copy_text(char **out, const char *from)
{
    *out = from ? strdup(from) : NULL;
    return from && !*out;
}

int srv_job_record_copy(struct srv_job_record *out, const struct srv_job_record *from)
{
    bool failed;

    *out = *from;
    failed = copy_text(&out->params, from->params);
    failed |= copy_text(&out->result, from->result);
    failed |= copy_text(&out->error, from->error);
    failed |= copy_text(&out->engine, from->engine);
    if (!failed)
        return 0;
    srv_job_record_deinit(out);
    return ELS_ENOMEM;
}

/* ---- JSON ---- */

static json_t *time_json(int64_t ms)
{
    char text[SRV_TIME_TEXT];

    return ms ? json_string(srv_time_text(ms, text)) : json_null();
}

/* Stored JSON text as a value; NULL text is null. */
static json_t *text_json(const char *text)
{
    return text ? srv_json_stored(text) : json_null();
}

static json_t *progress_json(const struct srv_job_record *record)
{
    const struct srv_progress *p = &record->progress;

    if (record->status == SRV_SUCCEEDED)
        return json_pack("{s:I, s:i, s:i, s:f}", "image", (json_int_t)record->num_images, "step",
                         record->num_steps, "steps", record->num_steps, "eta_seconds", 0.0);
    return json_pack("{s:I, s:i, s:i, s:o}", "image", (json_int_t)p->image, "step", p->step, "steps",
                     record->num_steps, "eta_seconds",
                     p->eta_seconds >= 0 && record->status == SRV_RUNNING ? json_real(p->eta_seconds)
                                                                          : json_null());
}

/* Those of a comparison are a list of its parameters; those of a sample follow each other; the rest has none. */
static json_t *seeds_json(const struct srv_job_record *record, const json_t *params)
{
    json_t *list = json_object_get(params, "seeds"), *seeds;

    if (json_is_array(list))
        return json_incref(list);
    seeds = json_array();
    for (int64_t i = 0; seeds && json_object_get(params, "seed") && i < record->num_images; i++) {
        if (json_array_append_new(seeds, json_integer((json_int_t)(record->seed + (uint64_t)i))) < 0) {
            json_decref(seeds);
            seeds = NULL;
        }
    }
    return seeds;
}

int srv_name_uploads(json_t *params)
{
    const char *key;
    json_t *value;

    json_object_foreach(params, key, value)
        if (json_object_get(value, "npy_base64") && json_object_set_new(params, key, json_string("uploaded")) < 0)
            return -1;
    return 0;
}

json_t *srv_job_record_json(const struct srv_job_record *record, enum srv_job_record_detail detail)
{
    json_t *json = json_object(), *params = text_json(record->params);
    int failed = !json || !params || (detail == SRV_RECORD_BRIEF && srv_name_uploads(params) < 0);

    if (failed) {
        json_decref(json);
        json_decref(params);
        return NULL;
    }
    failed |= json_object_set_new(json, "id", json_string(record->id));
    failed |= json_object_set_new(json, "kind", json_string(record->kind));
    failed |= json_object_set_new(json, "status", json_string(srv_status_name(record->status)));
    failed |= json_object_set_new(json, "created_at", time_json(record->created));
    failed |= json_object_set_new(json, "started_at", time_json(record->started));
    failed |= json_object_set_new(json, "finished_at", time_json(record->finished));
    failed |= json_object_set_new(json, "queue_position",
                                  record->queue_position ? json_integer(record->queue_position) : json_null());
    failed |= json_object_set_new(json, "progress", progress_json(record));
    failed |= json_object_set(json, "params", params);
    failed |= json_object_set_new(json, "seeds", seeds_json(record, params));
    if (detail == SRV_RECORD_WHOLE)
        failed |= json_object_set_new(json, "result", text_json(record->result));
    failed |= json_object_set_new(json, "error", text_json(record->error));
    failed |= json_object_set_new(json, "engine", text_json(record->engine));
    json_decref(params);
    if (failed) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* ---- in events ---- */

static size_t text_bytes(const char *text)
{
    return text ? strlen(text) : 0;
}

static size_t texts_bytes(const struct srv_job_record *record)
{
    return text_bytes(record->params) + text_bytes(record->result) + text_bytes(record->error) +
           text_bytes(record->engine);
}

size_t srv_job_record_event_bytes(const struct srv_job_record *record)
{
    enum { FIELDS = 2048, SEED = 21 };
    size_t texts = texts_bytes(record), seeds = SEED * (size_t)record->num_images;

    if (texts > SRV_EVENTS_RECORD)
        texts = text_bytes(record->error) + text_bytes(record->engine);
    return FIELDS + seeds + texts;
}

json_t *srv_job_record_event(const struct srv_job_record *record)
{
    struct srv_job_record brief = *record; /* borrows the texts */

    if (texts_bytes(record) > SRV_EVENTS_RECORD)
        brief.params = brief.result = NULL;
    return srv_job_record_json(&brief, SRV_RECORD_WHOLE);
}
