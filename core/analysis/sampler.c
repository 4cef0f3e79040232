/*
 * A sampler's beginning, its end and what it tells of itself; its steps are in sampler_step.c. One thread owns a
 * sampler.
 */
#include "core/analysis/sampler_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"

void els_sample_spec_init(struct els_sample_spec *spec)
{
    *spec = (struct els_sample_spec){
        .machine = ELS_MACHINE_BBELS,
        .candidates = ELS_CANDIDATES_WRAPPED,
        .selection = {.label = -1},
        .num_images = 1,
        .num_inference_steps = 20,
        .start_step = ELS_START_PAPER,
        .sampler = ELS_DDIM,
        .noise_schedule = ELS_COSINE,
        .noise = ELS_NOISE_TORCH,
    };
}

/* ---- checking ---- */

static int check_counts(const struct els_sample_spec *spec, struct els_error *err)
{
    if (!spec->bank)
        return els_fail(err, ELS_EINVAL, "bank", "No bank is given.");
    if (spec->num_images < 1 || spec->num_images > ELS_MAX_NUM_IMAGES)
        return els_fail(err, ELS_EINVAL, "num_images", "num_images is %lld; it must be 1 to %d.",
                        (long long)spec->num_images, ELS_MAX_NUM_IMAGES);
    if (spec->num_inference_steps < 2 || spec->num_inference_steps > ELS_MAX_INFERENCE_STEPS)
        return els_fail(err, ELS_EINVAL, "num_inference_steps",
                        "num_inference_steps is %d; it must be 2 to %d.", spec->num_inference_steps,
                        ELS_MAX_INFERENCE_STEPS);
    if (spec->seed > ELS_MAX_SEED || spec->seed + (uint64_t)spec->num_images - 1 > ELS_MAX_SEED)
        return els_fail(err, ELS_EINVAL, "seed",
                        "seed is %llu; seed + num_images - 1 must be at most 2^53 - 1.",
                        (unsigned long long)spec->seed);
    if (!(spec->tolerance >= 0 && spec->tolerance <= 1))
        return els_fail(err, ELS_EINVAL, "tolerance", "tolerance is %g; it must be 0 to 1.",
                        spec->tolerance);
    if (els_machine_uses_p(spec->machine) && spec->scales.n < 1)
        return els_fail(err, ELS_EINVAL, "scales", "The machine %s needs locality scales.",
                        els_machine_name(spec->machine));
    return 0;
}

static int check_alpha_bar(const struct els_sample_spec *spec, struct els_error *err)
{
    const double *a = spec->alpha_bar;
    int n = spec->num_inference_steps;

    if (!a)
        return 0;
    for (int i = 0; i <= n; i++) {
        if (!(a[i] > 0 && a[i] <= 1))
            return els_fail(err, ELS_EINVAL, "noise_schedule",
                            "alpha_bar[%d] is %g; values must be above 0 and at most 1.", i, a[i]);
        if (i > 0 && !(a[i] < a[i - 1]))
            return els_fail(
                err, ELS_EINVAL, "noise_schedule",
                "alpha_bar[%d] is %g, not below alpha_bar[%d] = %g; values must fall strictly.", i,
                a[i], i - 1, a[i - 1]);
    }
    return 0;
}

static int check_x_T(const struct els_sample_spec *spec, struct els_error *err)
{
    size_t values;

    if (!spec->x_T)
        return 0;
    values = (size_t)spec->num_images * els_shape_values(els_bank_info(spec->bank)->shape);
    for (size_t i = 0; i < values; i++)
        if (!(fabsf(spec->x_T[i]) <= 1e4f))
            return els_fail(
                err, ELS_EINVAL, "noise",
                "Value %zu of the noise is %g; values must be finite and at most 10000.", i,
                (double)spec->x_T[i]);
    return 0;
}

/* Noise levels that some step evaluates must leave a posterior; scales must suit the machine. */
static int check_steps(const struct els_sampler *s, struct els_error *err)
{
    for (int step = 0; step < s->num_steps; step++) {
        struct els_step_info info = els_sampler_step_info(s, step);

        if (info.beta < ELS_MIN_BETA)
            return els_fail(err, ELS_EINVAL, "noise_schedule",
                            "At t = %g beta is %g; a step needs at least %g. Use fewer steps.",
                            info.t, info.beta, ELS_MIN_BETA);
        if (els_machine_uses_p(s->machine)) {
            int r = els_machine_check_p(s->machine, s->shape, info.p, err);

            if (r < 0) {
                if (err)
                    memcpy(err->field, "scales", sizeof("scales"));
                return r;
            }
        }
    }
    return 0;
}

/* ---- making ---- */

static int make_schedule(struct els_sampler *s, const struct els_sample_spec *spec)
{
    size_t count = (size_t)s->n + 1;

    s->alpha_bar = els_alloc_array(count, sizeof(*s->alpha_bar));
    s->beta = els_alloc_array(count, sizeof(*s->beta));
    s->p = els_alloc_array(count, sizeof(*s->p));
    if (!s->alpha_bar || !s->beta || !s->p)
        return ELS_ENOMEM;
    for (int i = 0; i <= s->n; i++) {
        double t = (double)i / s->n;

        s->alpha_bar[i] =
            spec->alpha_bar ? spec->alpha_bar[i] : els_schedule_alpha_bar(spec->noise_schedule, t);
        s->beta[i] =
            spec->alpha_bar ? 1.0 - spec->alpha_bar[i] : els_schedule_beta(spec->noise_schedule, t);
        s->p[i] = els_machine_uses_p(s->machine) ? els_scales_at(&spec->scales, t) : 0;
    }
    return 0;
}

static int make_noise(struct els_sampler *s, const struct els_sample_spec *spec)
{
    size_t values = els_shape_values(s->shape), all;

    if (els_mul_overflows(values, (size_t)s->num_images, &all))
        return ELS_ENOMEM;
    s->noise = els_alloc_array((size_t)s->num_images, sizeof(*s->noise));
    s->x = els_alloc_array(all, sizeof(*s->x));
    s->x0 = els_alloc_array(all, sizeof(*s->x0));
    s->z = els_alloc_array(values, sizeof(*s->z));
    if (spec->entropy)
        s->entropy = els_alloc_array(all / (size_t)s->shape.c, sizeof(*s->entropy));
    if (!s->noise || !s->x || !s->x0 || !s->z || (spec->entropy && !s->entropy))
        return ELS_ENOMEM;
    for (int64_t k = 0; k < s->num_images; k++) {
        els_noise_init(&s->noise[k], spec->noise, spec->seed + (uint64_t)k);
        if (!spec->x_T)
            els_noise_randn(&s->noise[k], s->x + (size_t)k * values, values);
    }
    if (spec->x_T)
        memcpy(s->x, spec->x_T, all * sizeof(*s->x));
    return 0;
}

static int make(struct els_sampler *s, const struct els_sample_spec *spec, struct els_error *err)
{
    int r;

    s->bank = els_bank_ref(spec->bank);
    s->shape = els_bank_info(spec->bank)->shape;
    s->machine = spec->machine;
    s->candidates = spec->candidates;
    s->kind = spec->sampler;
    s->tolerance = spec->tolerance;
    s->num_images = spec->num_images;
    s->n = spec->num_inference_steps;
    s->num_steps = spec->start_step == ELS_START_PAPER ? s->n - 1 : s->n;
    r = els_bank_select(spec->bank, &spec->selection, &s->images, &s->num_bank_images, err);
    if (r < 0)
        return r;
    r = make_schedule(s, spec);
    if (r == 0)
        r = make_noise(s, spec);
    if (r < 0)
        return els_fail(err, r, NULL, "The sampler could not be made: %s.", els_status_text(r));
    return check_steps(s, err);
}

int els_sampler_new(struct els_sampler **out, const struct els_sample_spec *spec,
                    struct els_error *err)
{
    struct els_sampler *s;
    int r = check_counts(spec, err);

    if (r == 0)
        r = check_alpha_bar(spec, err);
    if (r == 0)
        r = check_x_T(spec, err);
    if (r < 0)
        return r;
    s = els_alloc_array(1, sizeof(*s));
    if (!s)
        return els_fail(err, ELS_ENOMEM, NULL, "The sampler could not be made: out of memory.");
    r = make(s, spec, err);
    if (r < 0) {
        els_sampler_free(s);
        return r;
    }
    *out = s;
    return 0;
}

struct els_sampler *els_sampler_free(struct els_sampler *s)
{
    if (!s)
        return NULL;
    els_bank_unref(s->bank);
    free(s->images);
    free(s->alpha_bar);
    free(s->beta);
    free(s->p);
    free(s->noise);
    free(s->x);
    free(s->x0);
    free(s->entropy);
    free(s->z);
    free(s);
    return NULL;
}

/* ---- where it stands ---- */

int els_sampler_num_steps(const struct els_sampler *s)
{
    return s->num_steps;
}

int els_sampler_next(const struct els_sampler *s)
{
    return s->next;
}

struct els_step_info els_sampler_step_info(const struct els_sampler *s, int step)
{
    /* The last step is i = 1 in both start_steps. */
    int i = s->num_steps - step;

    return (struct els_step_info){
        .step = step,
        .index = i,
        .t = (double)i / s->n,
        .alpha_bar = s->alpha_bar[i],
        .beta = s->beta[i],
        .p = s->p[i],
    };
}

const float *els_sampler_x(const struct els_sampler *s)
{
    return s->x;
}

const float *els_sampler_x0(const struct els_sampler *s)
{
    return s->x0;
}

const float *els_sampler_entropy(const struct els_sampler *s)
{
    return s->entropy;
}

double els_sampler_certified_error(const struct els_sampler *s)
{
    return s->certified_error;
}

int64_t els_sampler_num_bank_images(const struct els_sampler *s)
{
    return s->num_bank_images;
}
