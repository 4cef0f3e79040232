/*
 * Calibration: the curves cosine(s,t,P) and l2(s,t,P). The schedules read off them are in calibrate_fit.c. One thread
 * owns a calibration and calls its step; the engine spreads the step over the pool.
 *
 * Always holds: entries of steps before `next` are final. A step that fails leaves `next` as it is, so it can be run
 * again.
 */
#include "els/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/analysis/calibrate_internal.h"
#include "core/engine/evaluation.h"
#include "els/mem.h"

/* Times closer than this are the same time (as in scale.c). */
#define TIE 1e-9

void els_calibration_spec_init(struct els_calibration_spec *spec)
{
    *spec = (struct els_calibration_spec){
        .machine = ELS_MACHINE_BBELS,
        .candidates = ELS_CANDIDATES_WRAPPED,
        .selection = {.label = -1},
        .noise_schedule = ELS_COSINE,
    };
}

int els_calibration_default_p(int p[ELS_MAX_P_COUNT], struct els_shape shape)
{
    int side = shape.h < shape.w ? shape.h : shape.w, n = 0;

    for (int k = 3; k <= side && n < ELS_MAX_P_COUNT; k += 2)
        p[n++] = k;
    if (n == 0)
        p[n++] = 1;
    return n;
}

/* ---- checking ---- */

static int check_counts(const struct els_calibration_spec *spec, struct els_error *err)
{
    if (!spec->bank)
        return els_fail(err, ELS_EINVAL, "bank", "No bank is given.");
    if (!els_machine_uses_p(spec->machine))
        return els_fail(
            err, ELS_EINVAL, "machine",
            "The machine %s has no locality scale to calibrate; ls, els and bbels have.",
            els_machine_name(spec->machine));
    if (spec->num_seeds < 1 || spec->num_seeds > ELS_MAX_CALIBRATION_SEEDS)
        return els_fail(err, ELS_EINVAL, "xt", "xt holds %lld trajectories; 1 to %d are allowed.",
                        (long long)spec->num_seeds, ELS_MAX_CALIBRATION_SEEDS);
    if (spec->num_t < 1 || spec->num_t > ELS_MAX_CALIBRATION_TIMES)
        return els_fail(err, ELS_EINVAL, "t", "t has %d entries; 1 to %d are allowed.", spec->num_t,
                        ELS_MAX_CALIBRATION_TIMES);
    if (spec->num_p < 1 || spec->num_p > ELS_MAX_P_COUNT)
        return els_fail(err, ELS_EINVAL, "p", "p lists %d scales; it must list 1 to %d.",
                        spec->num_p, ELS_MAX_P_COUNT);
    if (!(spec->tolerance >= 0 && spec->tolerance <= 1))
        return els_fail(err, ELS_EINVAL, "tolerance", "tolerance is %g; it must be 0 to 1.", spec->tolerance);
    if (!spec->xt)
        return els_fail(err, ELS_EINVAL, "xt", "xt, the network's inputs, is missing.");
    if (!spec->eps == !spec->x0)
        return els_fail(err, ELS_EINVAL, "eps", "Give either eps or x0, the network's outputs.");
    return 0;
}

static int check_p(const struct els_calibration_spec *spec, struct els_error *err)
{
    for (int k = 0; k < spec->num_p; k++) {
        int r =
            els_machine_check_p(spec->machine, els_bank_info(spec->bank)->shape, spec->p[k], err);

        if (r < 0) {
            if (err)
                memcpy(err->field, "p", sizeof("p"));
            return r;
        }
        for (int other = 0; other < k; other++)
            if (spec->p[k] == spec->p[other])
                return els_fail(err, ELS_EINVAL, "p", "p lists %d twice.", spec->p[k]);
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int check_distinct(const struct els_calibration_spec *spec, struct els_error *err)
{
    size_t n = (size_t)spec->num_t;
    _cleanup_(els_freep) double *sorted = els_alloc_array(n, sizeof(*sorted));

    if (!sorted)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    memcpy(sorted, spec->t, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), by_value);
    for (size_t i = 1; i < n; i++)
        if (sorted[i] - sorted[i - 1] <= TIE)
            return els_fail(err, ELS_EINVAL, "t", "t has two entries at %.17g.", sorted[i]);
    return 0;
}

/* Before the schedules see t, which they take from 0 to 1 only. */
static int check_times(const struct els_calibration_spec *spec, struct els_error *err)
{
    for (int i = 0; i < spec->num_t; i++)
        if (!(spec->t[i] >= 0 && spec->t[i] <= 1))
            return els_fail(err, ELS_EINVAL, "t", "t[%d] is %g; it must be from 0 to 1.", i,
                            spec->t[i]);
    return check_distinct(spec, err);
}

static int check_levels(const struct els_calibration *c, struct els_error *err)
{
    const struct els_calibration_spec *spec = &c->spec;

    for (int i = 0; i < spec->num_t; i++)
        if (!(c->alpha_bar[i] > 0 && c->beta[i] >= ELS_MIN_BETA_ALONE))
            return els_fail(
                err, ELS_EINVAL, spec->alpha_bar ? "alpha_bar" : "t",
                "At t = %g alpha_bar is %.9g and beta %.3g; alpha_bar must be above 0 and beta "
                "at least %g.",
                spec->t[i], c->alpha_bar[i], c->beta[i], ELS_MIN_BETA_ALONE);
    return 0;
}

static int check_values(const struct els_calibration *c, const float *x, const char *field,
                        struct els_error *err)
{
    size_t row = (size_t)c->spec.num_t * c->values, n = (size_t)c->spec.num_seeds * row;

    for (size_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) <= ELS_MAX_ABS_X))
            return els_fail(
                err, ELS_EINVAL, field,
                "%s holds %g at seed %zu, time %zu; values must be finite and at most %g.", field,
                (double)x[i], i / row, i % row / c->values, (double)ELS_MAX_ABS_X);
    return 0;
}

/* ---- making ---- */

static int make(struct els_calibration *c, struct els_error *err)
{
    struct els_calibration_spec *spec = &c->spec;
    size_t t = (size_t)spec->num_t, curves, all;

    c->bank = els_bank_ref(spec->bank);
    c->shape = els_bank_info(spec->bank)->shape;
    c->values = els_shape_values(c->shape);
    c->at_once = (int64_t)(ELS_CALIBRATION_ANSWER_BYTES / ((size_t)spec->num_p * c->values * sizeof(float)));
    c->at_once = c->at_once < 1 ? 1 : c->at_once < spec->num_seeds ? c->at_once : spec->num_seeds;
    /* Also that [S,T,C,H,W] is no larger than memory can be. */
    if (els_mul_overflows(t * (size_t)spec->num_seeds, (size_t)spec->num_p, &curves) ||
        els_mul_overflows(t * (size_t)spec->num_seeds, c->values * sizeof(float), &all))
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    c->alpha_bar = els_alloc_array(t, sizeof(*c->alpha_bar));
    c->beta = els_alloc_array(t, sizeof(*c->beta));
    c->cosine = els_alloc_array(curves, sizeof(*c->cosine));
    c->l2 = els_alloc_array(curves, sizeof(*c->l2));
    c->x = els_alloc_array((size_t)c->at_once, c->values * sizeof(*c->x));
    c->answer =
        els_alloc_array((size_t)c->at_once * (size_t)spec->num_p, c->values * sizeof(*c->answer));
    if (!c->alpha_bar || !c->beta || !c->cosine || !c->l2 || !c->x || !c->answer)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    for (int i = 0; i < spec->num_t; i++) {
        c->alpha_bar[i] = spec->alpha_bar
                              ? spec->alpha_bar[i]
                              : els_schedule_alpha_bar(spec->noise_schedule, spec->t[i]);
        c->beta[i] = spec->alpha_bar ? 1 - spec->alpha_bar[i]
                                     : els_schedule_beta(spec->noise_schedule, spec->t[i]);
    }
    return els_bank_select(spec->bank, &spec->selection, &c->images, &c->num_images, err);
}

int els_calibration_new(struct els_calibration **out, const struct els_calibration_spec *spec,
                        struct els_error *err)
{
    struct els_calibration *c = NULL;
    int r = check_counts(spec, err);

    if (r == 0)
        r = check_p(spec, err);
    if (r == 0)
        r = check_times(spec, err);
    if (r < 0)
        return r;
    c = els_alloc_array(1, sizeof(*c));
    if (!c)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    c->spec = *spec;
    r = make(c, err);
    if (r == 0)
        r = check_levels(c, err);
    if (r == 0)
        r = check_values(c, spec->xt, "xt", err);
    if (r == 0)
        r = check_values(c, spec->eps ? spec->eps : spec->x0, spec->eps ? "eps" : "x0", err);
    if (r < 0) {
        els_calibration_free(c);
        return r;
    }
    *out = c;
    return 0;
}

struct els_calibration *els_calibration_free(struct els_calibration *c)
{
    if (!c)
        return NULL;
    els_bank_unref(c->bank);
    free(c->images);
    free(c->alpha_bar);
    free(c->beta);
    free(c->cosine);
    free(c->l2);
    free(c->x);
    free(c->answer);
    free(c);
    return NULL;
}

/* ---- stepping ---- */

/* Progress of one of several evaluations that make a step. */
struct part {
    const struct els_progress *progress;
    double from, share;
};

static int poll_part(void *user, double done)
{
    const struct part *p = user;

    return p->progress->poll(p->progress->user, p->from + p->share * done);
}

/* The network's ε at a time, value i of a seed. */
static double network_epsilon(const struct els_calibration *c, size_t at, int time)
{
    if (c->spec.eps)
        return (double)c->spec.eps[at];
    return ((double)c->spec.xt[at] - sqrt(c->alpha_bar[time]) * (double)c->spec.x0[at]) /
           sqrt(c->beta[time]);
}

static void measure(struct els_calibration *c, int64_t seed, int time, int k, const float *x0)
{
    double a = sqrt(c->alpha_bar[time]), sigma = sqrt(c->beta[time]), ff = 0, gg = 0, fg = 0,
           rest = 0;
    size_t entry = (size_t)seed * (size_t)c->spec.num_t + (size_t)time, at = entry * c->values;

    for (size_t i = 0; i < c->values; i++) {
        double f = network_epsilon(c, at + i, time);
        double g = ((double)c->spec.xt[at + i] - a * (double)x0[i]) / sigma;

        ff += f * f;
        gg += g * g;
        fg += f * g;
        rest += (f - g) * (f - g);
    }
    entry = entry * (size_t)c->spec.num_p + (size_t)k;
    c->cosine[entry] = ff > 0 && gg > 0 ? fg / (sqrt(ff) * sqrt(gg)) : 0;
    c->l2[entry] = sqrt(rest);
}

/* Seeds first … first+count−1 at the time of the next step. */
static int evaluate(struct els_calibration *c, int64_t first, int64_t count, struct els_pool *pool,
                    const struct els_progress *progress, struct els_error *err)
{
    int time = c->next, r;
    struct els_evaluation e = {
        .bank = c->bank,
        .images = c->images,
        .num_images = c->num_images,
        .machine = c->spec.machine,
        .candidates = c->spec.candidates,
        .num_p = c->spec.num_p,
        .p = c->spec.p,
        .alpha_bar = c->alpha_bar[time],
        .beta = c->beta[time],
        .tolerance = c->spec.tolerance,
        .batch = count,
        .x = c->x,
    };

    for (int64_t i = 0; i < count; i++)
        memcpy(c->x + (size_t)i * c->values,
               c->spec.xt +
                   ((size_t)(first + i) * (size_t)c->spec.num_t + (size_t)time) * c->values,
               c->values * sizeof(*c->x));
    r = els_evaluate(&e, pool, progress, &(struct els_answer){.x0 = c->answer}, err);
    for (int k = 0; r == 0 && k < c->spec.num_p; k++)
        for (int64_t i = 0; r == 0 && i < count; i++) {
            if (progress && progress->poll(progress->user, 1))
                return els_fail(err, ELS_ECANCELLED, NULL, "The calibration was stopped.");
            measure(c, first + i, time, k, c->answer + (size_t)(k * count + i) * c->values);
        }
    return r;
}

int els_calibration_step(struct els_calibration *c, struct els_pool *pool,
                         const struct els_progress *progress, struct els_error *err)
{
    int64_t seeds = c->spec.num_seeds;
    int r = 0;

    if (c->next >= c->spec.num_t)
        return els_fail(err, ELS_EINVAL, NULL, "All %d times are done.", c->spec.num_t);
    for (int64_t first = 0; r == 0 && first < seeds; first += c->at_once) {
        int64_t count = seeds - first < c->at_once ? seeds - first : c->at_once;
        struct part part = {progress, (double)first / (double)seeds, (double)count / (double)seeds};
        struct els_progress over = {poll_part, &part};

        r = evaluate(c, first, count, pool, progress ? &over : NULL, err);
    }
    if (r == 0)
        c->next++;
    return r;
}

int els_calibration_num_steps(const struct els_calibration *c)
{
    return c->spec.num_t;
}

int els_calibration_next(const struct els_calibration *c)
{
    return c->next;
}

const double *els_calibration_cosine(const struct els_calibration *c)
{
    return c->cosine;
}

const double *els_calibration_l2(const struct els_calibration *c)
{
    return c->l2;
}
