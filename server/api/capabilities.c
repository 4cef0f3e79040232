/*
 * What a sampling request may say, as GET /v1/capabilities tells it: made from the same table that reads the requests,
 * so it cannot be wrong about it. Called from the handler pool; no state.
 */
#include <string.h>

#include "core/base/json.h"
#include "server/base/daemon.h"
#include "server/base/json_body.h"
#include "server/config/config.h"
#include "server/jobs/jobs.h"
#include "server/params/params_fields.h"

/* The words that a field may hold. */
static json_t *words(const struct srv_job_type *kind, const struct srv_field *f)
{
    json_t *list = json_array();
    const char *word;

    for (int i = 0; list && (word = f->choice(kind, i)); i++) {
        if (*word)
            els_json_append(&list, json_string(word));
    }
    return list;
}

static json_t *field_words(const char *name)
{
    return words(&srv_job_type_sample, srv_field_find(&srv_job_type_sample, name));
}

/* What an empty body means here, resolved; the seed stays null. */
static json_t *defaults(const struct srv_daemon *daemon)
{
    json_t *body = json_object(), *resolved = NULL;
    struct srv_params_source source = {.kind = &srv_job_type_sample, .banks = daemon->banks,
                                       .limits = srv_limits_of(daemon->config), .body = body};
    struct srv_params *params = NULL;
    struct srv_faults faults;
    int status = body ? srv_params_new(&params, &source, &faults) : ELS_ENOMEM;

    if (status == 0) {
        resolved = srv_json_stored(params->json);
        els_json_set(&resolved, "seed", json_null());
    } else if (status != ELS_ENOMEM) {
        resolved = json_object(); /* this bank can do nothing with an empty body */
    }
    srv_params_free(params);
    json_decref(body);
    return resolved;
}

static json_t *fields(const struct srv_job_type *kind, const struct srv_limits *limits)
{
    json_t *list = json_array();

    for (size_t i = 0; list && kind->fields[i]; i++) {
        const struct srv_field *f = kind->fields[i];
        json_t *json = json_pack("{s:s, s:s, s:o, s:s}", "name", f->name, "type", f->type, "default",
                                 json_loads(f->fallback, JSON_DECODE_ANY, NULL), "doc", f->doc);

        if (json && f->max > 0) {
            els_json_set(&json, "min", json_integer(f->min));
            els_json_set(&json, "max", json_integer(srv_field_max(f, limits)));
        }
        if (json && f->choice)
            els_json_set(&json, "values", words(kind, f));
        els_json_append(&list, json);
    }
    return list;
}

/* {"min":…,"max":…} of every number, and what bounds a request as a whole. */
static json_t *limits_json(const struct srv_config *config, const struct srv_limits *limits)
{
    json_t *json = json_pack("{s:{s:I}, s:{s:I}, s:{s:I}, s:{s:I}, s:{s:I}, s:{s:I}}", "body_bytes", "max",
                             (json_int_t)config->max_body_bytes, "result_bytes", "max",
                             (json_int_t)limits->max_result_bytes, "job_cost", "max",
                             (json_int_t)config->max_job_cost, "job_seconds", "max",
                             (json_int_t)config->job_timeout, "queue_length", "max",
                             (json_int_t)config->queue_length, "sync_timeout", "max",
                             (json_int_t)config->sync_timeout);

    els_json_set(&json, "json_values", json_pack("{s:i}", "max", SRV_JSON_MAX_VALUES));
    els_json_set(&json, "json_depth", json_pack("{s:i}", "max", SRV_JSON_MAX_DEPTH));
    els_json_set(&json, "json_string", json_pack("{s:i}", "max", SRV_JSON_MAX_STRING));
    for (const struct srv_field *const *row = srv_job_type_sample.fields; json && *row; row++) {
        const struct srv_field *f = *row;

        if (f->max > 0)
            els_json_set(&json, f->name,
                                json_pack("{s:I, s:I}", "min", (json_int_t)f->min, "max",
                                          (json_int_t)srv_field_max(f, limits)));
    }
    return json;
}

static json_t *machines(void)
{
    json_t *list = json_array();

    for (int i = 0; list && i < ELS_MACHINE_COUNT; i++) {
        enum els_machine m = (enum els_machine)i;

        els_json_append(&list, json_pack("{s:s, s:s, s:b, s:o}", "name", els_machine_name(m), "summary",
                                              els_machine_summary(m), "uses_p", els_machine_uses_p(m), "candidates",
                                              m == ELS_MACHINE_ELS ? field_words("candidates") : json_null()));
    }
    return list;
}

static json_t *presets(void)
{
    enum { ENTRIES = 20 };
    json_t *list = json_array();
    const char *name;

    for (int i = 0; list && (name = els_scales_preset_name(i)); i++) {
        json_t *t = json_array(), *p = json_array();

        for (int k = 0; k < ENTRIES; k++) {
            els_json_append(&t, json_real((double)k / ENTRIES));
            els_json_append(&p, json_integer(els_scales_preset(i)[k]));
        }
        els_json_append(&list, json_pack("{s:s, s:o, s:o}", "name", name, "t", t, "p", p));
    }
    return list;
}

/* Every kind of job: where it is asked for, and what its body may say. */
static json_t *kinds_json(const struct srv_limits *limits)
{
    json_t *list = json_array();
    const struct srv_job_type *kind;

    for (size_t i = 0; list && (kind = srv_job_type_at(i)); i++) {
        json_t *outputs = json_array();

        for (const struct srv_output *o = kind->outputs; outputs && o->word; o++)
            if (*o->word)
                els_json_append(&outputs, json_string(o->word));
        els_json_append(&list, json_pack("{s:s, s:s, s:o, s:o}", "name", kind->name, "post", kind->path, "fields",
                                              fields(kind, limits), "outputs", outputs));
    }
    return list;
}

json_t *srv_jobs_capabilities(const struct srv_daemon *daemon)
{
    struct srv_limits limits = srv_limits_of(daemon->config);

    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:[s,s]}", "defaults", defaults(daemon),
                     "limits", limits_json(daemon->config, &limits), "fields", fields(&srv_job_type_sample, &limits), "machines",
                     machines(), "candidates", field_words("candidates"), "samplers", field_words("sampler"),
                     "start_steps", field_words("start_step"), "noise_schedules", field_words("noise_schedule"),
                     "outputs", field_words("outputs"), "presets", presets(), "kinds", kinds_json(&limits), "noise", "torch", "numpy");
}
