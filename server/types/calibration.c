/*
 * The kind "calibration": the locality scales of a network, found from its own reverse trajectories (calibrate.h). A
 * step is one time t, for all seeds and scales in one pass over the bank. settle() runs in the handler pool, the rest on
 * an executor's thread.
 *
 * It keeps no tensors: the curves are in the JSON of the result. With save_as the schedule is stored under a name, in
 * the same transaction as the result.
 */
#include "els/calibrate.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "server/jobs/job_run.h"
#include "server/params/params_fields.h"
#include "server/params/saved_scales.h"

enum {
    NUMBER_TEXT = 25, /* characters of a number in the result, at most */
    ENTRY_TEXT = 32,  /* of a time and its scale in a schedule */
    NUMBERS_PER_POLL = 8192,
};

static const struct srv_output outputs[] = {{0}};

/* ---- the body ---- */

/* One tensor of a trajectory: [S,T,C,H,W], with the S and T of those before. */
static int read_trajectory(struct srv_reading *r, const struct srv_field *f, const json_t *value, const float **out)
{
    struct srv_params *p = r->params;
    int64_t lead[2] = {0, 0};
    char pointer[96];

    *out = srv_read_images(r, f->name, value, "ST", ELS_MAX_CALIBRATION_SEEDS, lead);
    if (!*out)
        return ELS_EINVAL;
    if (p->num_t > 0 && p->num_t != lead[1])
        return srv_fault(r->faults, srv_pointer(pointer, "", f->name),
                         "%s is of %lld times (its second dimension), but there are %d times t.", f->name,
                         (long long)lead[1], p->num_t);
    if (p->xt && p->xt != *out && p->spec.num_images != lead[0])
        return srv_fault(r->faults, srv_pointer(pointer, "", f->name), "%s is of %lld seeds, but xt is of %lld.",
                         f->name, (long long)lead[0], (long long)p->spec.num_images);
    p->num_t = (int)lead[1];
    p->spec.num_images = lead[0];
    return 0;
}

static int read_xt(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    return read_trajectory(r, f, value, &r->params->xt);
}

static int read_optional(struct srv_reading *r, const struct srv_field *f, const json_t *value, const float **out)
{
    return srv_tensor_is_given(r, f->name, value) ? read_trajectory(r, f, value, out)
                                                  : srv_resolve(r, f->name, json_null());
}

static int read_eps(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    return read_optional(r, f, value, &r->params->eps);
}

static int read_x0(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    return read_optional(r, f, value, &r->params->x0);
}

static int read_save_as(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    const char *name = json_string_value(value);
    char text[SRV_VALUE_TEXT];

    if (json_is_null(value))
        return srv_resolve(r, f->name, json_null());
    if (!name || !srv_saved_name_is_good(name))
        return srv_fault(r->faults, "/save_as", "save_as is %s; a name must have %s.", srv_value_text(value, text),
                         SRV_SAVED_NAME_RULE);
    if (srv_saved_name_is_preset(name)) {
        srv_fault(r->faults, "/save_as", "save_as is \"%s\", a preset's name; choose another.", name);
        r->faults->status = 409;
        r->faults->code = "preset_name";
        return ELS_EINVAL;
    }
    snprintf(r->params->save_as, sizeof(r->params->save_as), "%s", name);
    return srv_resolve(r, f->name, json_string(name));
}

static const char *metric_word(const struct srv_job_type *kind, int i)
{
    return i < ELS_METRIC_COUNT ? els_calibration_metric_name((enum els_calibration_metric)i) : NULL;
}

static const char *fit_word(const struct srv_job_type *kind, int i)
{
    return i < ELS_FIT_COUNT ? els_calibration_fit_name((enum els_calibration_fit)i) : NULL;
}

static struct els_calibration_spec spec_of(const struct srv_params *p)
{
    struct els_calibration_spec spec;

    els_calibration_spec_init(&spec);
    spec.bank = p->spec.bank;
    spec.machine = p->spec.machine;
    spec.candidates = p->spec.candidates;
    spec.selection = p->spec.selection;
    spec.noise_schedule = p->spec.noise_schedule;
    spec.alpha_bar = p->level;
    spec.num_seeds = p->spec.num_images;
    spec.num_t = p->num_t;
    spec.t = p->t;
    spec.xt = p->xt;
    spec.eps = p->eps;
    spec.x0 = p->x0;
    spec.num_p = p->num_p;
    memcpy(spec.p, p->p, sizeof(spec.p));
    return spec;
}

/* The curves are told as text: that bounds them. */
static void settle_size(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    uint64_t max = (uint64_t)r->source->limits.max_result_bytes;

    p->result_bytes = 2 * NUMBER_TEXT * (uint64_t)p->spec.num_images * (uint64_t)p->num_t * (uint64_t)p->num_p;
    if (p->result_bytes <= max)
        return;
    srv_fault(r->faults, "", "The curves would take about %llu bytes; at most %llu are allowed. Try fewer scales.",
              (unsigned long long)p->result_bytes, (unsigned long long)max);
    r->faults->status = 413;
    r->faults->code = "result_too_large";
}

/* What the job holds: an evaluation with its answer, the curves, and they as text while it grows. */
static void settle_memory(struct srv_reading *r, const int64_t *images, int64_t num_images)
{
    struct srv_params *p = r->params;
    uint64_t values = els_shape_values(p->shape),
             answer = (uint64_t)p->num_p * (uint64_t)p->spec.num_images * values * sizeof(float),
             most = (uint64_t)ELS_CALIBRATION_ANSWER_BYTES + (uint64_t)p->num_p * values * sizeof(float);
    struct els_evaluation one = {
        .bank = p->spec.bank, .images = images, .num_images = num_images,
        .machine = p->spec.machine, .candidates = p->spec.candidates,
        .num_p = p->num_p, .p = p->p, .alpha_bar = 0.5, .beta = 0.5, .batch = 1, .x = p->xt,
    };

    srv_settle_evaluation_bytes(r, &one, p->spec.num_images, false);
    p->run_bytes += (answer < most ? answer : most) + 2 * p->result_bytes;
}

/* The library's own word on the parameters. */
static void settle_library(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    struct els_calibration_spec spec = spec_of(p);
    struct els_calibration *calibration = NULL;
    int64_t *images = NULL, n = 0;
    struct els_error err = {0};
    int status = els_calibration_new(&calibration, &spec, &err);

    if (status == 0)
        status = els_bank_select(p->spec.bank, &p->spec.selection, &images, &n, &err);
    if (status < 0)
        srv_fault_library(r, &err);
    else
        settle_memory(r, images, n);
    p->cost = srv_passes_cost(p, n) * p->num_t * (double)p->spec.num_images;
    els_calibration_free(calibration);
    free(images);
}

static void settle(struct srv_reading *r)
{
    struct srv_params *p = r->params;

    if (p->num_p == 0 && r->faults->count == 0)
        p->num_p = els_calibration_default_p(p->p, p->shape);
    srv_resolve(r, "p", srv_p_json(p));
    p->num_steps = p->num_t;
    p->depth = p->num_p;
    if (r->faults->count == 0 && !p->eps == !p->x0)
        srv_fault(r->faults, "/eps", "Give either eps or x0, and not both.");
    if (r->faults->count == 0 && *p->save_as && (size_t)p->num_t * ENTRY_TEXT > SRV_SCALES_MOST_BYTES)
        srv_fault(r->faults, "/save_as",
                  "A schedule of %d times can take more than the %d bytes that can be saved; at most %d times fit.",
                  p->num_t, SRV_SCALES_MOST_BYTES, SRV_SCALES_MOST_BYTES / ENTRY_TEXT);
    if (r->faults->count == 0)
        settle_size(r);
    if (r->faults->count == 0)
        settle_library(r);
}

static const struct srv_field field_xt = {
    .name = "xt", .type = "string, object or null", .fallback = "null", .read = read_xt,
    .doc = "The network's input at each time, [S,T,C,H,W]: the tensor xt of a safetensors body, another by its name, "
           "or {\"npy_base64\": \"...\"}.",
};

static const struct srv_field field_eps = {
    .name = "eps", .type = "string, object or null", .fallback = "null", .read = read_eps,
    .doc = "The noise that the network found there, [S,T,C,H,W].",
};

static const struct srv_field field_x0 = {
    .name = "x0", .type = "string, object or null", .fallback = "null", .read = read_x0,
    .doc = "Or the clean image that it found there, [S,T,C,H,W].",
};

static const struct srv_field field_t = {
    .name = "t", .type = "array, string, object or null", .fallback = "null", .read = srv_read_times, .min = 0,
    .max = 1, .doc = "The times of the trajectories, [T].",
};

static const struct srv_field field_alpha_bar = {
    .name = "alpha_bar", .type = "array, string, object or null", .fallback = "null", .read = srv_read_levels, .min = 0,
    .max = 1, .doc = "The noise levels at these times, [T], where noise_schedule does not have them.",
};

static const struct srv_field field_p = {
    .name = "p", .type = "integer, array or null", .fallback = "null", .read = srv_read_p, .min = 1,
    .max = ELS_MAX_P, .doc = "The odd scales to try, up to 64; by default 3, 5, 7 ... up to the image's side.",
};

static const struct srv_field field_metric = {
    .name = "metric", .type = "string", .fallback = "\"cosine\"", .read = srv_read_choice,
    .target = offsetof(struct srv_params, metric), .choice = metric_word,
    .doc = "What says which scale is best for a seed.",
};

static const struct srv_field field_fit = {
    .name = "fit", .type = "string", .fallback = "\"median\"", .read = srv_read_choice,
    .target = offsetof(struct srv_params, fit), .choice = fit_word,
    .doc = "How the seeds' best scales become a schedule: the lower median, the mode, or the best schedule that never "
           "falls as t grows.",
};

static const struct srv_field field_save_as = {
    .name = "save_as", .type = "string or null", .fallback = "null", .read = read_save_as,
    .doc = "Save the schedule under this name, for use as scales.",
};

static const struct srv_field *const fields[] = {
    &srv_field_bank, &srv_field_machine, &srv_field_candidates, &srv_field_label, &srv_field_exclude,
    &srv_field_max_samples, &srv_field_noise_schedule_name, &field_t, &field_alpha_bar, &field_xt, &field_eps,
    &field_x0, &field_p, &field_metric, &field_fit, &field_save_as, &srv_field_client_ref, NULL,
};

/* ---- computing ---- */

static int begin(struct srv_job_run *run, struct els_error *err)
{
    struct els_calibration_spec spec = spec_of(run->job->params);
    struct els_calibration *calibration = NULL;
    int status = els_calibration_new(&calibration, &spec, err);

    run->work = calibration;
    return status;
}

static void end(struct srv_job_run *run)
{
    els_calibration_free(run->work);
}

static double certified_error(const struct srv_job_run *run)
{
    return 0; /* a calibration skips nothing */
}

static double work(const struct srv_job_run *run, int step)
{
    return run->job->params->cost / run->job->params->num_steps;
}

static int step(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    return els_calibration_step(run->work, pool, watch, err);
}

/* "name":[S][T][K] */
static int write_curves(struct els_buffer *out, const char *name, const double *values, const struct srv_params *p,
                        const struct els_progress *watch)
{
    size_t count = (size_t)p->spec.num_images * (size_t)p->num_t * (size_t)p->num_p;
    size_t row = (size_t)p->num_p, seed = row * (size_t)p->num_t;
    int status = els_buffer_printf(out, ",\"%s\":[", name);

    for (size_t i = 0; i < count && status == 0; i++) {
        if (i % NUMBERS_PER_POLL == 0 && watch->poll(watch->user, 1))
            return ELS_ECANCELLED;
        status = els_buffer_printf(out, "%s%s%.9g%s%s%s", i % seed == 0 ? "[" : "", i % row == 0 ? "[" : "", values[i],
                                   i % row == row - 1 ? "]" : "", i % seed == seed - 1 ? "]" : "",
                                   i + 1 < count ? "," : "");
    }
    return status == 0 ? els_buffer_printf(out, "]") : status;
}

/* ,"name":{"t":[…],"p":[…]} of one fit. `text` is the object, to be freed, or NULL. */
static int write_schedule(struct els_buffer *out, const char *name, const struct srv_job_run *run,
                          enum els_calibration_fit fit, char **text, struct els_error *err)
{
    enum els_calibration_metric metric = (enum els_calibration_metric)run->job->params->metric;
    struct els_scales scales = {0};
    int status = els_calibration_scales(&scales, run->work, metric, fit, err);
    json_t *json = status == 0 ? srv_scales_json(&scales) : NULL;

    *text = els_json_text(json, JSON_COMPACT);
    if (status == 0)
        status = *text ? els_buffer_printf(out, ",\"%s\":%s", name, *text) : ELS_ENOMEM;
    json_decref(json);
    els_scales_deinit(&scales);
    return status;
}

/* {"t":[…],"p":[…]: what the curves are over. */
static int write_head(struct els_buffer *out, const struct srv_params *p)
{
    json_t *t = srv_numbers_json(p->t, (size_t)p->num_t), *list = srv_p_json(p);
    json_t *json = json_pack("{s:o, s:o, s:s, s:s, s:s?}", "t", t, "p", list, "metric",
                             els_calibration_metric_name((enum els_calibration_metric)p->metric), "fit",
                             els_calibration_fit_name((enum els_calibration_fit)p->fit), "saved_as",
                             *p->save_as ? p->save_as : NULL);
    char *text = els_json_text(json, JSON_COMPACT);
    int status = ELS_ENOMEM;

    if (text) {
        text[strlen(text) - 1] = '\0'; /* the object goes on */
        status = els_buffer_printf(out, "%s", text);
    }
    free(text);
    json_decref(json);
    return status;
}

static int finish(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    struct els_buffer text = ELS_BUFFER_INIT(((size_t)1 << 20) + 2 * p->result_bytes);
    char *mode = NULL;
    int status = write_head(&text, p);

    if (status == 0)
        status = write_curves(&text, "cosine", els_calibration_cosine(run->work), p, watch);
    if (status == 0)
        status = write_curves(&text, "l2", els_calibration_l2(run->work), p, watch);
    if (status == 0)
        status = write_schedule(&text, "scales", run, (enum els_calibration_fit)p->fit, &run->scales, err);
    if (status == 0)
        status = write_schedule(&text, "mode", run, ELS_FIT_MODE, &mode, err);
    if (status == 0)
        status = els_buffer_append(&text, "}", sizeof("}")); /* with its NUL */
    free(mode);
    run->save_as = *p->save_as ? p->save_as : NULL;
    if (status < 0) {
        els_buffer_deinit(&text);
        return status == ELS_ECANCELLED || (err && err->message[0]) ? status : els_fail(err, status, NULL, "There is no memory for the result.");
    }
    run->result = (char *)text.data; /* the run owns the text now */
    return 0;
}

const struct srv_job_type srv_job_type_calibration = {
    .name = "calibration",
    .path = "/v1/calibrations",
    .fields = fields,
    .outputs = outputs,
    .settle = settle,
    .begin = begin,
    .work = work,
    .step = step,
    .finish = finish,
    .end = end,
    .certified_error = certified_error,
};
