/*
 * The plain loop over the definitions (eq. 3–10, 38, 41), in float64: the oracle that every faster engine is
 * tested against. No tricks: for each query pixel, for each candidate, the squared distance of the two windows,
 * value by value. Slow on purpose; one thread.
 */
#include "els/engine.h"

#include <math.h>
#include <stdlib.h>

#include "core/engine/evaluation.h"
#include "core/theory/geometry.h"
#include "core/theory/posterior.h"
#include "els/mem.h"

/* One question: a noisy image, one P, and the bank image under consideration. */
struct plain {
    const struct els_evaluation *e;
    struct els_shape shape;
    int r;          /* window radius */
    const float *x; /* [C,H,W] */
    double *y;      /* [C,H,W] */
};

/* Bank image n in float64; u8 pixels exactly (u/255 − 0.5)/0.5. */
static void load_image(const struct els_evaluation *e, int64_t n, double *y)
{
    const struct els_bank_info *info = els_bank_info(e->bank);
    size_t values = els_shape_values(info->shape);

    for (size_t i = 0; i < values; i++) {
        size_t at = (size_t)n * values + i;

        y[i] = info->dtype == ELS_U8
                   ? (((const uint8_t *)els_bank_images(e->bank))[at] / 255.0 - 0.5) / 0.5
                   : (double)((const float *)els_bank_images(e->bank))[at];
    }
}

static int wrap(int i, int n)
{
    return ((i % n) + n) % n;
}

static int inside(int i, int n)
{
    return i >= 0 && i < n;
}

/* ‖x_Ω(i,j) − a·y_Ω(k,l)‖² over a window of rows ±rh and columns ±rw; clipped parts contribute nothing. */
static double window_distance(const struct plain *p, int i, int j, int k, int l)
{
    int h = p->shape.h, w = p->shape.w, wraps = els_machine_wraps(p->e->machine);
    double a = sqrt(p->e->alpha_bar), sum = 0;

    for (int di = -p->r; di <= p->r; di++)
        for (int dj = -p->r; dj <= p->r; dj++) {
            if (!wraps && (!inside(i + di, h) || !inside(j + dj, w)))
                continue;
            for (int c = 0; c < p->shape.c; c++) {
                double xv = (double)p->x[(c * h + wrap(i + di, h)) * w + wrap(j + dj, w)];
                double yv = p->y[(c * h + wrap(k + di, h)) * w + wrap(l + dj, w)];

                sum += (xv - a * yv) * (xv - a * yv);
            }
        }
    return sum;
}

/* ‖x − a·(y translated so that pixel (0,0) meets y(dy,dx))‖² over the whole image. */
static double image_distance(const struct plain *p, int dy, int dx)
{
    int h = p->shape.h, w = p->shape.w;
    double a = sqrt(p->e->alpha_bar), sum = 0;

    for (int c = 0; c < p->shape.c; c++)
        for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
                double d = (double)p->x[(c * h + i) * w + j] -
                           a * p->y[(c * h + wrap(i + dy, h)) * w + wrap(j + dx, w)];

                sum += d * d;
            }
    return sum;
}

/* Adds the candidate with that squared distance and the centre y(k,l) to pixel q. */
static void add_candidate(const struct plain *p, struct els_posterior *posterior, size_t q,
                          double distance, int k, int l)
{
    double v[ELS_MAX_CHANNELS];

    for (int c = 0; c < p->shape.c; c++)
        v[c] = p->y[(c * p->shape.h + k) * p->shape.w + l];
    els_posterior_add(posterior, q, -distance / (2.0 * p->e->beta), 1.0, 0.0, v);
}

/* ls, els, bbels: each pixel has its own candidates. */
static void add_windows(const struct plain *p, struct els_posterior *posterior)
{
    int h = p->shape.h, w = p->shape.w, k0, k1, l0, l1;

    for (int i = 0; i < h; i++)
        for (int j = 0; j < w; j++) {
            els_sources_of(p->e->machine, p->e->candidates, h, p->r, i, &k0, &k1);
            els_sources_of(p->e->machine, p->e->candidates, w, p->r, j, &l0, &l1);
            for (int k = k0; k < k1; k++)
                for (int l = l0; l < l1; l++)
                    add_candidate(p, posterior, (size_t)(i * w + j), window_distance(p, i, j, k, l),
                                  k, l);
        }
}

/* is, es: the same weights at every pixel. */
static void add_images(const struct plain *p, struct els_posterior *posterior)
{
    int h = p->shape.h, w = p->shape.w, moves = p->e->machine == ELS_MACHINE_ES;

    for (int dy = 0; dy < (moves ? h : 1); dy++)
        for (int dx = 0; dx < (moves ? w : 1); dx++) {
            double distance = image_distance(p, dy, dx);

            for (int i = 0; i < h; i++)
                for (int j = 0; j < w; j++)
                    add_candidate(p, posterior, (size_t)(i * w + j), distance, wrap(i + dy, h),
                                  wrap(j + dx, w));
        }
}

static int evaluate_pair(const struct els_evaluation *e, int64_t pair,
                         const struct els_progress *progress, struct els_answer *answer)
{
    struct els_shape shape = els_bank_info(e->bank)->shape;
    struct plain p = {
        .e = e,
        .shape = shape,
        .r = e->p[pair / e->batch] / 2,
        .x = e->x + (size_t)(pair % e->batch) * els_shape_values(shape),
        .y = els_alloc_array(els_shape_values(shape), sizeof(*p.y)),
    };
    struct els_posterior posterior = {0};
    int r = p.y ? els_posterior_init(&posterior, (size_t)shape.h * (size_t)shape.w, shape.c)
                : ELS_ENOMEM;

    for (int64_t n = 0; r == 0 && n < e->num_images; n++) {
        if (progress && progress->poll(progress->user, (double)n / (double)e->num_images) != 0)
            r = ELS_ECANCELLED;
        load_image(e, e->images[n], p.y);
        if (els_machine_uses_p(e->machine))
            add_windows(&p, &posterior);
        else
            add_images(&p, &posterior);
    }
    if (r == 0)
        els_answer_set(answer, pair, shape, &posterior);
    els_posterior_deinit(&posterior);
    free(p.y);
    return r;
}

int els_evaluate_plain(const struct els_evaluation *evaluation, const struct els_progress *progress,
                       struct els_answer *answer, struct els_error *err)
{
    static const int ignored_p = 1; /* is and es have no P */
    struct els_evaluation e = *evaluation;
    int r;

    if (!els_machine_uses_p(e.machine)) {
        e.num_p = 1;
        e.p = &ignored_p;
    }
    r = els_evaluation_check(&e, err);
    if (r < 0)
        return r;
    for (int64_t pair = 0; r == 0 && pair < e.num_p * e.batch; pair++)
        r = evaluate_pair(&e, pair, progress, answer);
    answer->certified_error = 0;
    return r < 0 ? els_fail(err, r, NULL, "The plain loop failed: %s.", els_status_text(r)) : 0;
}
