/*
 * The reverse process (DDIM and DDPM) over any score machine, one step at a time. One thread owns the samplers and
 * calls this; the engine spreads the step over the pool.
 *
 * Always holds: x is x_t of step `next` for every image, and only a step that succeeded changes it, so a cancelled
 * step can be run again and gives the same bytes.
 *
 * Samplers that are alike put their noisy images one behind the other into one evaluation: the engine then lays out
 * every block of the bank once for all of them. What comes out for an image does not depend on those beside it
 * (engine.h), so neither do the bytes of a sampler.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/analysis/sampler_internal.h"
#include "els/mem.h"

/* x_{i−1} from x_i and x̂0, one image (eq. 3: ε = (x − a·x̂0)/σ). */
static void reverse(struct els_sampler *s, int i, int64_t k)
{
    size_t values = els_shape_values(s->shape);
    float *x = s->x + (size_t)k * values;
    const float *x0 = s->x0 + (size_t)k * values;
    double a = sqrt(s->alpha_bar[i]), sigma = sqrt(s->beta[i]);
    double a_next = sqrt(s->alpha_bar[i - 1]), variance = 0, along;

    if (s->kind == ELS_DDPM) {
        variance = s->beta[i - 1] / s->beta[i] * (1.0 - s->alpha_bar[i] / s->alpha_bar[i - 1]);
        els_noise_randn(&s->noise[k], s->z, values);
    }
    along = sqrt(fmax(0.0, s->beta[i - 1] - variance));
    for (size_t q = 0; q < values; q++) {
        double epsilon = ((double)x[q] - a * (double)x0[q]) / sigma;
        double next = a_next * (double)x0[q] + along * epsilon;

        if (s->kind == ELS_DDPM)
            next += sqrt(variance) * (double)s->z[q];
        x[q] = (float)next;
    }
}

struct els_evaluation els_sampler_evaluation(const struct els_sampler *s)
{
    struct els_step_info info = els_sampler_step_info(s, s->next);

    return (struct els_evaluation){
        .bank = s->bank,
        .images = s->images,
        .num_images = s->num_bank_images,
        .machine = s->machine,
        .candidates = s->candidates,
        .num_p = 1,
        .p = &s->p[info.index],
        .alpha_bar = info.alpha_bar,
        .beta = info.beta,
        .tolerance = s->tolerance,
        .batch = s->num_images,
        .x = s->x,
    };
}

int els_samplers_alike(const struct els_sampler *a, const struct els_sampler *b)
{
    struct els_step_info i, j;

    if (a->next >= a->num_steps || b->next >= b->num_steps)
        return 0;
    i = els_sampler_step_info(a, a->next);
    j = els_sampler_step_info(b, b->next);
    return a->bank == b->bank && a->machine == b->machine && a->candidates == b->candidates && i.p == j.p &&
           i.alpha_bar == j.alpha_bar && i.beta == j.beta && a->tolerance == b->tolerance &&
           !a->entropy == !b->entropy &&
           a->num_bank_images == b->num_bank_images &&
           memcmp(a->images, b->images, (size_t)a->num_bank_images * sizeof(*a->images)) == 0;
}

/* x̂0 of the step is in place: on to x_{i−1}. */
static void move(struct els_sampler *s, double certified_error)
{
    int index = els_sampler_step_info(s, s->next).index;

    for (int64_t k = 0; k < s->num_images; k++)
        reverse(s, index, k);
    s->certified_error = fmax(s->certified_error, certified_error);
    s->next++;
}

int els_sampler_step(struct els_sampler *s, struct els_pool *pool, const struct els_progress *progress,
                     struct els_error *err)
{
    struct els_evaluation e;
    struct els_answer answer = {.x0 = s->x0, .entropy = s->entropy};
    int r;

    if (s->next >= s->num_steps)
        return els_fail(err, ELS_EINVAL, NULL, "All %d steps have run.", s->num_steps);
    e = els_sampler_evaluation(s);
    r = els_evaluate(&e, pool, progress, &answer, err);
    if (r == 0)
        move(s, answer.certified_error);
    return r;
}

/* ---- several at once ---- */

/* One after the other: the noisy images of all, [batch,C,H,W], and what is answered about them. */
struct row {
    int64_t batch;
    float *x, *x0;  /* [batch,C,H,W] */
    float *entropy; /* [batch,H,W], or NULL where none of them wants it */
};

static int make_row(struct row *row, struct els_sampler *const *s, int count)
{
    size_t values = els_shape_values(s[0]->shape), all;
    float *x;

    for (int i = 0; i < count; i++)
        row->batch += s[i]->num_images;
    if (els_mul_overflows(row->batch, values, &all))
        return ELS_ENOMEM;
    row->x = x = els_alloc_array(all, sizeof(*row->x));
    row->x0 = els_alloc_array(all, sizeof(*row->x0));
    if (s[0]->entropy)
        row->entropy = els_alloc_array(all / (size_t)s[0]->shape.c, sizeof(*row->entropy));
    if (!row->x || !row->x0 || (s[0]->entropy && !row->entropy))
        return ELS_ENOMEM;
    for (int i = 0; i < count; i++) {
        size_t n = (size_t)s[i]->num_images * values;

        memcpy(x, s[i]->x, n * sizeof(*x));
        x += n;
    }
    return 0;
}

/* Gives each its own. */
static void deal_out(const struct row *row, struct els_sampler *const *s, int count)
{
    const float *x0 = row->x0, *entropy = row->entropy;

    for (int i = 0; i < count; i++) {
        size_t n = (size_t)s[i]->num_images * els_shape_values(s[i]->shape), pixels = n / (size_t)s[i]->shape.c;

        memcpy(s[i]->x0, x0, n * sizeof(*x0));
        x0 += n;
        if (entropy) {
            memcpy(s[i]->entropy, entropy, pixels * sizeof(*entropy));
            entropy += pixels;
        }
    }
}

int els_samplers_step(struct els_sampler *const *s, int count, struct els_pool *pool, const struct els_progress *progress,
                      struct els_error *err)
{
    struct row row = {0};
    struct els_evaluation e;
    struct els_answer answer;
    int r;

    if (count == 1)
        return els_sampler_step(s[0], pool, progress, err);
    r = make_row(&row, s, count);
    if (r < 0) {
        els_fail(err, r, NULL, "%d samplers could not step together: %s.", count, els_status_text(r));
    } else {
        e = els_sampler_evaluation(s[0]);
        e.batch = row.batch;
        e.x = row.x;
        answer = (struct els_answer){.x0 = row.x0, .entropy = row.entropy};
        r = els_evaluate(&e, pool, progress, &answer, err);
    }
    if (r == 0)
        deal_out(&row, s, count);
    for (int i = 0; r == 0 && i < count; i++)
        move(s[i], answer.certified_error);
    free(row.x);
    free(row.x0);
    free(row.entropy);
    return r;
}
