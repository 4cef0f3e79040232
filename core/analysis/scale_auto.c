/*
 * The scale at which a machine denoises held-out images best, time by time (see scale_auto.h for the rule). Called by
 * one thread, which owns everything here; the engine spreads each evaluation over the pool. Holds no state.
 *
 * Each held-out image has one noise η for all times and scales, so that scales are compared on the same x_t and P(t)
 * does not jump with the draw.
 */
#include "els/scale_auto.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"
#include "els/noise.h"

enum { AHEAD = 2 }; /* scales that are tried at once beyond the best so far */

struct search {
    const struct els_scales_auto_spec *spec;
    struct els_shape shape;
    size_t values;
    int64_t *rest, num_rest; /* bank indices that the machine may use */
    int64_t held;
    float *y, *noise, *x, *answer; /* [held,C,H,W]; answer [ELS_MAX_P_COUNT,held,C,H,W] at most */
    int p[ELS_MAX_P_COUNT], num_p; /* ascending */
    double error[ELS_MAX_P_COUNT]; /* at the present time; < 0: not tried */
    double alpha_bar, beta;        /* of the present time */
    const struct els_progress *progress;
    int time, num_t;
};

void els_scales_auto_spec_init(struct els_scales_auto_spec *spec)
{
    *spec = (struct els_scales_auto_spec){
        .machine = ELS_MACHINE_BBELS,
        .candidates = ELS_CANDIDATES_WRAPPED,
        .selection = {.label = -1},
        .noise_schedule = ELS_COSINE,
    };
}

/* ---- what is tried ---- */

static int list_scales(struct search *s, struct els_error *err)
{
    int side = s->shape.h < s->shape.w ? s->shape.h : s->shape.w, most = s->spec->max_p;
    int r;

    if (!els_machine_uses_p(s->spec->machine))
        return els_fail(err, ELS_EINVAL, "scales",
                        "The machine %s has no locality scale to choose.",
                        els_machine_name(s->spec->machine));
    if (most == 0)
        most = side / 2 % 2 ? side / 2 : side / 2 + 1;
    r = els_machine_check_p(s->spec->machine, s->shape, most, err);
    if (r < 0) {
        if (err)
            memcpy(err->field, "max_p", sizeof("max_p"));
        return r;
    }
    for (int p = most < 3 ? 1 : 3; p <= most && s->num_p < ELS_MAX_P_COUNT; p += 2)
        s->p[s->num_p++] = p;
    return 0;
}

static double time_of(const struct els_scales_auto_spec *spec, int i)
{
    return spec->num_t ? spec->t[i] : (double)(i + 1) / ELS_AUTO_TIMES;
}

static void set_level(struct search *s, int i)
{
    const struct els_scales_auto_spec *spec = s->spec;

    s->time = i;
    s->alpha_bar = spec->alpha_bar ? spec->alpha_bar[i]
                                   : els_schedule_alpha_bar(spec->noise_schedule, time_of(spec, i));
    s->beta = spec->alpha_bar ? 1 - spec->alpha_bar[i]
                              : els_schedule_beta(spec->noise_schedule, time_of(spec, i));
}

static int check_times(struct search *s, struct els_error *err)
{
    if (s->spec->num_t < 0 || s->spec->num_t > ELS_MAX_SCALES)
        return els_fail(err, ELS_EINVAL, "t", "t has %d entries; 1 to %d are allowed.",
                        s->spec->num_t, ELS_MAX_SCALES);
    if (s->spec->alpha_bar && !s->spec->num_t)
        return els_fail(err, ELS_EINVAL, "t", "alpha_bar needs the times it belongs to.");
    s->num_t = s->spec->num_t ? s->spec->num_t : ELS_AUTO_TIMES;
    for (int i = 0; i < s->num_t; i++) {
        double t = time_of(s->spec, i);

        set_level(s, i);
        if (!(t >= 0 && t <= 1) || (i > 0 && !(t > time_of(s->spec, i - 1))))
            return els_fail(err, ELS_EINVAL, "t", "t[%d] is %g; times must rise from 0 to 1.", i,
                            t);
        if (!(s->alpha_bar > 0 && s->beta >= ELS_MIN_BETA_ALONE))
            return els_fail(
                err, ELS_EINVAL, s->spec->alpha_bar ? "alpha_bar" : "t",
                "At t = %g alpha_bar is %.9g and beta %.3g; alpha_bar must be above 0 and beta "
                "at least %g.",
                t, s->alpha_bar, s->beta, ELS_MIN_BETA_ALONE);
    }
    return 0;
}

/* ---- held-out images ---- */

static int hold_out(struct search *s, const int64_t *chosen, int64_t n)
{
    int64_t taken = n < ELS_AUTO_IMAGES + ELS_AUTO_HELD ? n : ELS_AUTO_IMAGES + ELS_AUTO_HELD,
            held = 0;

    s->held = taken / 4 < 1 ? 1 : taken / 4 < ELS_AUTO_HELD ? taken / 4 : ELS_AUTO_HELD;
    s->rest = els_alloc_array((size_t)taken, sizeof(*s->rest));
    s->y = els_alloc_array((size_t)s->held * s->values, sizeof(*s->y));
    s->noise = els_alloc_array((size_t)s->held * s->values, sizeof(*s->noise));
    s->x = els_alloc_array((size_t)s->held * s->values, sizeof(*s->x));
    s->answer = els_alloc_array((size_t)s->num_p * (size_t)s->held, s->values * sizeof(*s->answer));
    if (!s->rest || !s->y || !s->noise || !s->x || !s->answer)
        return ELS_ENOMEM;
    for (int64_t i = 0; i < taken; i++) {
        /* Evenly spread: over the selection, and the held-out ones over those. */
        int64_t image = chosen[i * n / taken];

        if (held < s->held && i == (2 * held + 1) * taken / (2 * s->held))
            els_bank_image(s->spec->bank, image, s->y + (size_t)held++ * s->values);
        else
            s->rest[s->num_rest++] = image;
    }
    for (int64_t i = 0; i < s->held; i++) {
        struct els_noise g;

        els_noise_init(&g, ELS_NOISE_NUMPY, (uint64_t)i);
        els_noise_randn(&g, s->noise + (size_t)i * s->values, s->values);
    }
    return 0;
}

static int prepare(struct search *s, struct els_error *err)
{
    _cleanup_(els_freep) int64_t *chosen = NULL;
    int64_t n;
    int r = list_scales(s, err);

    if (r == 0)
        r = check_times(s, err);
    if (r == 0)
        r = els_bank_select(s->spec->bank, &s->spec->selection, &chosen, &n, err);
    if (r < 0)
        return r;
    if (n < 2)
        return els_fail(
            err, ELS_EINVAL, "scales",
            "Automatic scales hold an image out of the bank: they need 2 images, not 1.");
    r = hold_out(s, chosen, n);
    return r < 0 ? els_fail(err, r, NULL, "out of memory") : 0;
}

/* ---- the search ---- */

static int poll_time(void *user, double done)
{
    const struct search *s = user;

    return s->progress->poll(s->progress->user, ((double)s->time + done) / s->num_t);
}

/* Fills s->error of the scales from `first` to `last` that it lacks. */
static int try_scales(struct search *s, int first, int last, struct els_pool *pool,
                      struct els_error *err)
{
    size_t n = (size_t)s->held * s->values;
    struct els_progress progress = {poll_time, s};
    struct els_evaluation e = {
        .bank = s->spec->bank,
        .images = s->rest,
        .num_images = s->num_rest,
        .machine = s->spec->machine,
        .candidates = s->spec->candidates,
        .alpha_bar = s->alpha_bar,
        .beta = s->beta,
        .batch = s->held,
        .x = s->x,
    };
    int r;

    while (first <= last && s->error[first] >= 0)
        first++;
    while (last >= first && s->error[last] >= 0)
        last--;
    if (first > last)
        return 0;
    e.num_p = last - first + 1;
    e.p = s->p + first;
    r = els_evaluate(&e, pool, s->progress ? &progress : NULL, &(struct els_answer){.x0 = s->answer},
                     err);
    for (int k = first; r == 0 && k <= last; k++) {
        const float *x0 = s->answer + (size_t)(k - first) * n;
        double sum = 0;

        for (size_t i = 0; i < n; i++)
            sum += ((double)x0[i] - (double)s->y[i]) * ((double)x0[i] - (double)s->y[i]);
        s->error[k] = sum;
    }
    return r;
}

/* Downhill from scale *k, to where both neighbours are worse (or equal, and larger). */
static int descend(struct search *s, int *k, struct els_pool *pool, struct els_error *err)
{
    int last = s->num_p - 1, first = *k > 0 ? *k - 1 : 0, until = *k + AHEAD, best = *k;
    double a = sqrt(s->alpha_bar), sigma = sqrt(s->beta);

    for (size_t i = 0; i < (size_t)s->held * s->values; i++)
        s->x[i] = (float)(a * (double)s->y[i] + sigma * (double)s->noise[i]);
    for (int i = 0; i < s->num_p; i++)
        s->error[i] = -1;
    for (;;) {
        int r = try_scales(s, first, until < last ? until : last, pool, err);

        if (r < 0)
            return r;
        for (int i = 0; i < s->num_p; i++)
            if (s->error[i] >= 0 &&
                (s->error[i] < s->error[best] || (s->error[i] == s->error[best] && i < best)))
                best = i;
        *k = best;
        if (best > 0 && s->error[best - 1] < 0)
            first = best - 1;
        else if (best < last && s->error[best + 1] < 0)
            until = best + AHEAD;
        else
            return 0;
    }
}

static int search(struct els_scales *out, struct search *s, struct els_pool *pool,
                  struct els_error *err)
{
    _cleanup_(els_freep) double *t = els_alloc_array((size_t)s->num_t, sizeof(*t));
    _cleanup_(els_freep) int *p = els_alloc_array((size_t)s->num_t, sizeof(*p));
    int k = 0, r = 0;

    if (!t || !p)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    for (int i = 0; i < s->num_t && r == 0; i++) {
        set_level(s, i);
        r = descend(s, &k, pool, err);
        t[i] = time_of(s->spec, i);
        p[i] = s->p[k];
    }
    return r < 0 ? r : els_scales_from_pairs(out, s->num_t, t, p, err);
}

int els_scales_auto(struct els_scales *out, const struct els_scales_auto_spec *spec,
                    struct els_pool *pool, const struct els_progress *progress, struct els_error *err)
{
    struct search s = {.spec = spec, .progress = progress};
    int r;

    if (!spec->bank)
        return els_fail(err, ELS_EINVAL, "bank", "No bank is given.");
    s.shape = els_bank_info(spec->bank)->shape;
    s.values = els_shape_values(s.shape);
    r = prepare(&s, err);
    if (r == 0)
        r = search(out, &s, pool, err);
    free(s.rest);
    free(s.y);
    free(s.noise);
    free(s.x);
    free(s.answer);
    return r;
}
