/*
 * The kind "denoise": one evaluation of a score machine on noisy images at one noise level, for several scales in one
 * pass over the bank. settle() runs in the handler pool, the rest on an executor's thread.
 *
 * All four outputs follow from x̂0 (Tweedie, eq. 3, 9, 24): score = (a·x̂0 − x)/σ², ε = (x − a·x̂0)/σ. They are
 * served as [K,B,C,H,W] and [K,B,H,W], K scales of B images, and kept image by image as [K,C,H,W].
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "els/mem.h"
#include "server/jobs/job_run.h"
#include "server/params/params_fields.h"

enum { X0, EPS, SCORE, ENTROPY };

/* ---- what is kept ---- */

static struct els_tensor describe_values(const struct srv_extent *e)
{
    return els_tensor_view(ELS_F32, 5,
                           (const int64_t[]){e->depth, e->num_images, e->shape.c, e->shape.h, e->shape.w}, NULL);
}

static struct els_tensor describe_entropy(const struct srv_extent *e)
{
    return els_tensor_view(ELS_F32, 4, (const int64_t[]){e->depth, e->num_images, e->shape.h, e->shape.w}, NULL);
}

static const struct srv_output outputs[] = {
    [X0] = {.word = "x0", .tensor = "x0", .describe = describe_values, .image_axis = 1},
    [EPS] = {.word = "eps", .tensor = "eps", .describe = describe_values, .image_axis = 1},
    [SCORE] = {.word = "score", .tensor = "score", .describe = describe_values, .image_axis = 1},
    [ENTROPY] = {.word = "entropy", .tensor = "entropy", .describe = describe_entropy, .image_axis = 1},
    {0},
};

/* ---- the body ---- */

static int read_x(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    int64_t batch = 1;

    r->params->x = srv_read_images(r, f->name, value, "B", r->source->limits.max_num_images, &batch);
    r->params->spec.num_images = batch;
    return r->params->x ? 0 : ELS_EINVAL;
}

static double alpha_bar_of(const struct srv_params *p)
{
    return p->t ? els_schedule_alpha_bar(p->spec.noise_schedule, *p->t) : *p->level;
}

static double beta_of(const struct srv_params *p)
{
    return p->t ? els_schedule_beta(p->spec.noise_schedule, *p->t) : 1 - *p->level;
}

/* The noise level: of t and the schedule, or given. */
static void settle_level(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    double alpha_bar, beta;

    if (r->faults->count > 0)
        return;
    if (!p->t == !p->level) {
        srv_fault(r->faults, "/t", "Give either t or alpha_bar, and not both.");
        return;
    }
    alpha_bar = alpha_bar_of(p);
    beta = beta_of(p);
    if (!(alpha_bar > 0 && beta >= ELS_MIN_BETA_ALONE))
        srv_fault(r->faults, p->t ? "/t" : "/alpha_bar",
                  "The noise level has alpha_bar = %.9g and beta = %.3g; alpha_bar must be above 0 and beta at least %g.",
                  alpha_bar, beta, ELS_MIN_BETA_ALONE);
}

/* The scales suit the machine; is and es have none. */
static void settle_p(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    struct els_error err = {0};

    if (!els_machine_uses_p(p->spec.machine)) {
        p->num_p = 0;
        srv_resolve(r, "p", json_null());
        return;
    }
    if (p->num_p == 0 && r->faults->count == 0)
        srv_fault(r->faults, "/p", "p is missing; the machine %s takes one odd whole number or a list of 1 to %d.",
                  els_machine_name(p->spec.machine), ELS_MAX_P_COUNT);
    for (int k = 0; k < p->num_p && r->faults->count == 0; k++)
        if (els_machine_check_p(p->spec.machine, p->shape, p->p[k], &err) < 0)
            srv_fault(r->faults, "/p", "%s", err.message);
    p->depth = p->num_p > 0 ? p->num_p : 1;
    srv_resolve(r, "p", srv_p_json(p));
}

static struct els_evaluation evaluation_of(const struct srv_params *p, const int64_t *images, int64_t num_images)
{
    return (struct els_evaluation){
        .bank = p->spec.bank, .images = images, .num_images = num_images,
        .machine = p->spec.machine, .candidates = p->spec.candidates,
        .num_p = p->depth, .p = p->p, .alpha_bar = alpha_bar_of(p), .beta = beta_of(p),
        .tolerance = p->spec.tolerance, .batch = p->spec.num_images, .x = p->x,
    };
}

/* What the job holds beside its results: the evaluation, and its answer. */
static void settle_memory(struct srv_reading *r, const int64_t *images, int64_t num_images)
{
    struct srv_params *p = r->params;
    struct els_evaluation one = evaluation_of(p, images, num_images);
    uint64_t values = els_shape_values(p->shape);

    one.batch = 1;
    srv_settle_evaluation_bytes(r, &one, p->spec.num_images, p->outputs & 1u << ENTROPY);
    p->run_bytes += (uint64_t)p->depth * (uint64_t)p->spec.num_images * 2 * values * sizeof(float);
}

static void settle_selection(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    int64_t *images = NULL, n = 0;
    struct els_error err = {0};

    if (els_bank_select(p->spec.bank, &p->spec.selection, &images, &n, &err) < 0)
        srv_fault_library(r, &err);
    else
        settle_memory(r, images, n);
    free(images);
    p->cost = srv_passes_cost(p, n) * (double)p->spec.num_images;
}

static void settle(struct srv_reading *r)
{
    r->params->num_steps = 1;
    settle_p(r);
    settle_level(r);
    if (r->faults->count == 0)
        srv_settle_bytes(r);
    if (r->faults->count == 0)
        settle_selection(r);
}

static const struct srv_field field_x = {
    .name = "x", .type = "string, object or null", .fallback = "null", .read = read_x,
    .doc = "The noisy images [B,C,H,W]: the tensor x of a safetensors body, another by its name, or "
           "{\"npy_base64\": \"...\"}.",
};

static const struct srv_field field_t = {
    .name = "t", .type = "number or null", .fallback = "null", .read = srv_read_t, .min = 0, .max = 1,
    .doc = "The time, which noise_schedule turns into a noise level.",
};

static const struct srv_field field_alpha_bar = {
    .name = "alpha_bar", .type = "number or null", .fallback = "null", .read = srv_read_level, .min = 0, .max = 1,
    .doc = "The noise level itself, instead of t: the variance of the noise is 1 - alpha_bar.",
};

static const struct srv_field field_p = {
    .name = "p", .type = "integer, array or null", .fallback = "null", .read = srv_read_p, .min = 1,
    .max = ELS_MAX_P, .doc = "Odd locality scales, one or up to 64; is and es take none.",
};

static const struct srv_field field_outputs = {
    .name = "outputs", .type = "array", .fallback = "[\"x0\"]", .read = srv_read_outputs,
    .choice = srv_output_word, .doc = "What the job keeps.",
};

static const struct srv_field *const fields[] = {
    &srv_field_bank, &srv_field_machine, &srv_field_candidates, &srv_field_label, &srv_field_exclude,
    &srv_field_max_samples, &srv_field_noise_schedule_name, &field_x, &field_t, &field_alpha_bar, &field_p,
    &srv_field_tolerance, &field_outputs, &srv_field_client_ref, NULL,
};

/* ---- computing ---- */

struct denoising {
    int64_t *images; /* the selection */
    int64_t num_images;
    double certified_error;
};

static int begin(struct srv_job_run *run, struct els_error *err)
{
    const struct els_sample_spec *spec = &run->job->params->spec;
    struct denoising *d = els_alloc_array(1, sizeof(*d));

    run->work = d;
    return d ? els_bank_select(spec->bank, &spec->selection, &d->images, &d->num_images, err)
             : els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
}

static void end(struct srv_job_run *run)
{
    struct denoising *d = run->work;

    if (d)
        free(d->images);
    free(d);
}

static double certified_error(const struct srv_job_run *run)
{
    return ((const struct denoising *)run->work)->certified_error;
}

/* The answer [K,B,…] into the kept tensors [B,K,…], and what follows from x̂0. */
static void keep(struct srv_job_run *run, const float *x0, const float *entropy)
{
    const struct srv_params *p = run->job->params;
    size_t values = els_shape_values(p->shape), pixels = values / (size_t)p->shape.c;
    int64_t batch = p->spec.num_images;
    double alpha_bar = alpha_bar_of(p), beta = beta_of(p);

    for (int k = 0; k < p->depth; k++) {
        for (int64_t b = 0; b < batch; b++) {
            const float *from = x0 + (size_t)(k * batch + b) * values, *x = p->x + (size_t)b * values;
            size_t to = (size_t)(b * p->depth + k);

            if (run->tensors[X0])
                memcpy(run->tensors[X0] + to * values, from, values * sizeof(*from));
            if (run->tensors[EPS])
                els_epsilon_from_x0(run->tensors[EPS] + to * values, from, x, values, alpha_bar, beta);
            if (run->tensors[SCORE])
                els_score_from_x0(run->tensors[SCORE] + to * values, from, x, values, alpha_bar, beta);
            if (run->tensors[ENTROPY])
                memcpy(run->tensors[ENTROPY] + to * pixels, entropy + (size_t)(k * batch + b) * pixels,
                       pixels * sizeof(*entropy));
        }
    }
}

static double work(const struct srv_job_run *run, int step)
{
    return run->job->params->cost;
}

static int step(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    struct denoising *d = run->work;
    size_t images = (size_t)p->depth * (size_t)p->spec.num_images;
    struct els_evaluation e = evaluation_of(p, d->images, d->num_images);
    _cleanup_(els_freep) float *x0 = els_alloc_array(images, els_shape_values(p->shape) * sizeof(*x0));
    _cleanup_(els_freep) float *entropy = NULL;
    struct els_answer answer = {.x0 = x0};
    int status;

    if (run->tensors[ENTROPY])
        answer.entropy = entropy = els_alloc_array(images, (size_t)p->shape.h * (size_t)p->shape.w * sizeof(float));
    if (!x0 || (run->tensors[ENTROPY] && !entropy))
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    status = els_evaluate(&e, pool, watch, &answer, err);
    if (status < 0)
        return status;
    d->certified_error = answer.certified_error;
    keep(run, x0, entropy);
    return 0;
}

static int finish(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    json_t *json = json_pack("{s:o, s:o, s:f, s:f, s:o}", "p", p->num_p > 0 ? srv_p_json(p) : json_null(), "t",
                             p->t ? json_real(*p->t) : json_null(), "alpha_bar", alpha_bar_of(p), "beta", beta_of(p),
                             "tensors_url", json_sprintf("/v1/jobs/%s/tensors", run->job->record.id));

    run->result = els_json_text(json, JSON_COMPACT);
    json_decref(json);
    return run->result ? 0 : els_fail(err, ELS_ENOMEM, NULL, "There is no memory for the result.");
}

const struct srv_job_type srv_job_type_denoise = {
    .name = "denoise",
    .path = "/v1/denoise",
    .fields = fields,
    .outputs = outputs,
    .tensors_inside = true,
    .settle = settle,
    .begin = begin,
    .work = work,
    .step = step,
    .finish = finish,
    .end = end,
    .certified_error = certified_error,
};
