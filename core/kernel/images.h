/*
 * The kernel for the machine is: whole images, in place. Included by a kernel file after its
 * vector operations.
 *
 * A candidate is an image, and takes two passes over its values: ⟨x, y⟩ for its logit, and if
 * that counts, v += w·y. Little is computed, so nothing is laid out anew: images are read where
 * they lie in the bank, LANES neighbouring values at a time. (Their first reading, for ‖y‖², brings
 * them into the cache.) ⟨x, y⟩ and ‖y‖² run in float64.
 *
 * Layout, L = LANES, a block being L neighbouring pixels of one channel, the last one filled up:
 *   query  x, times a/β and the bank's unit: float64 [C][blocks][L], zeros beyond the image
 *   group  struct images_group: where the images lie, and their biases
 *   work   nothing
 *   sums   s and u of pixel 0, lane l for image l. Until finish() the lanes of v at pixel b hold
 *          the pixels of block b:
 *
 *            pixel 0        pixel 1        …          then each pixel has its own v in lane 0
 *            v(0 … L−1)     v(L … 2L−1)
 */
#ifndef ELS_KERNEL_IMAGES_H
#define ELS_KERNEL_IMAGES_H

#include <string.h>

#include "core/kernel/whole.h"

enum { IMAGES_ADDS = LANES }; /* float32 additions of a group to a sum */

struct images_group {
    const void *image[LANES]; /* [C,H,W] */
    double bias[LANES];
    int count;
};

static int images_accepts(const struct els_sweep *s, const float *x)
{
    (void)x;
    return s->machine == ELS_MACHINE_IS;
}

static ptrdiff_t images_pixels(const struct els_sweep *s)
{
    return (ptrdiff_t)s->shape.h * s->shape.w;
}

static ptrdiff_t images_blocks(const struct els_sweep *s)
{
    return (images_pixels(s) + LANES - 1) / LANES;
}

static size_t images_query_bytes(const struct els_sweep *s)
{
    return (size_t)s->shape.c * (size_t)images_blocks(s) * LANES * sizeof(double);
}

static size_t images_group_bytes(const struct els_sweep *s)
{
    (void)s;
    return sizeof(struct images_group);
}

static size_t images_work_bytes(const struct els_sweep *s)
{
    (void)s;
    return 1;
}

static int images_u8(const struct els_sweep *s)
{
    return els_bank_info(s->bank)->dtype == ELS_U8;
}

static void images_prepare_query(const struct els_sweep *s, const float *x, void *query)
{
    ptrdiff_t n = images_pixels(s);
    double *out = query;

    for (int c = 0; c < s->shape.c; c++)
        for (ptrdiff_t q = 0; q < images_blocks(s) * LANES; q++)
            *out++ = q < n ? (double)x[c * n + q] * s->scale * unit_of(s) : 0.0;
}

/* The last block of a channel: n values from value `at` on, then zeros. */
static __attribute__((noinline)) vf images_load_rest(int u8, const void *image, ptrdiff_t at,
                                                     ptrdiff_t n)
{
    _Alignas(sizeof(vf)) float block[LANES] = {0};

    for (ptrdiff_t l = 0; l < n; l++)
        block[l] =
            u8 ? (float)((const uint8_t *)image)[at + l] - 127.5f : ((const float *)image)[at + l];
    return v_load_float(block);
}

/* LANES values from value `at` on, in units of the bank; n of them are there. */
INLINE vf images_load(int u8, const void *image, ptrdiff_t at, ptrdiff_t n)
{
    if (n < LANES)
        return images_load_rest(u8, image, at, n);
    if (u8)
        return v_load_bytes((const uint8_t *)image + at) - v_set(127.5f);
    return v_load_values((const float *)image + at);
}

/* Σ x·y over the n values from value `at` on, x in whole blocks; without x, Σ y². */
INLINE double images_dot(int u8, const double *x, const void *image, ptrdiff_t at, ptrdiff_t n)
{
    vd first = v_set_double(0), second = v_set_double(0);
    double lane[LANES / 2], sum = 0;

    for (ptrdiff_t q = 0; q < n; q += LANES) {
        vf y = images_load(u8, image, at + q, n - q);
        vd low = v_low(y), high = v_high(y);

        first = v_fma_double(low, x ? v_load_double(x + q) : low, first);
        second = v_fma_double(high, x ? v_load_double(x + q + LANES / 2) : high, second);
    }
    first += second;
    memcpy(lane, &first, sizeof(lane));
    for (int l = 0; l < LANES / 2; l++)
        sum += lane[l];
    return sum;
}

/* ---- the group ---- */

static void images_prepare_group(const struct els_sweep *s, const int64_t *images, int count,
                                 void *group)
{
    struct images_group *g = group;
    size_t values = els_shape_values(s->shape);
    const char *bank = els_bank_images(s->bank);
    double factor = s->bias * unit_of(s) * unit_of(s);

    g->count = count;
    for (int l = 0; l < count; l++) {
        ptrdiff_t n = (ptrdiff_t)values;

        g->image[l] = bank + (size_t)images[l] * values * (images_u8(s) ? 1 : sizeof(float));
        g->bias[l] = factor * (images_u8(s) ? images_dot(1, NULL, g->image[l], 0, n)
                                            : images_dot(0, NULL, g->image[l], 0, n));
    }
}

/* ---- one query and one group ---- */

INLINE double images_logit(const struct els_sweep *s, int u8, const double *x, const void *image)
{
    ptrdiff_t n = images_pixels(s), padded = images_blocks(s) * LANES;
    double sum = 0;

    for (int c = 0; c < s->shape.c; c++)
        sum += images_dot(u8, x + c * padded, image, c * n, n);
    return sum;
}

/* Raises the reference to `top` and rescales the sums. Rare. */
static void images_raise(const struct els_sweep *s, double top, struct els_lanes *lanes)
{
    float nats = (float)(top - lanes->m[0]), keep = expf(-nats);
    float *u = lanes->sum + (s->slots - 1) * LANES;
    ptrdiff_t sums = images_blocks(s) * s->slots * LANES;

    for (int l = 0; s->entropy && l < LANES; l++)
        u[l] -= nats * lanes->sum[l];
    for (ptrdiff_t k = 0; k < sums; k++)
        lanes->sum[k] *= keep;
    lanes->m[0] = top;
}

/* v += Σ w·y over the images listed. */
INLINE void images_add(const struct els_sweep *s, int u8, int count, const void *const *image,
                       const float *weight, float *sums)
{
    ptrdiff_t n = images_pixels(s);

    for (int c = 0; c < s->shape.c; c++)
        for (ptrdiff_t q = 0; q < n; q += LANES) {
            float *at = sums + (q / LANES * s->slots + 1 + c) * LANES;
            vf sum = v_load_float(at);

            for (int l = 0; l < count; l++)
                sum = v_fma(v_set(weight[l]), images_load(u8, image[l], c * n + q, n - q), sum);
            v_store_float(at, sum);
        }
}

/* All images of the group. */
static int images_steps(const struct els_sweep *s)
{
    (void)s;
    return 1;
}

/* The images' logits less the reference, which they raise if need be: [LANES], in float32. */
static void images_relative(const struct els_sweep *s, const void *query,
                            const struct images_group *g, struct els_lanes *lanes, float *relative)
{
    double logit[LANES], top = -INFINITY;

    for (int l = 0; l < g->count; l++) {
        double dot = images_u8(s) ? images_logit(s, 1, query, g->image[l])
                                  : images_logit(s, 0, query, g->image[l]);

        logit[l] = dot - g->bias[l];
        top = logit[l] > top ? logit[l] : top;
    }
    if (lanes->m[0] == -INFINITY)
        lanes->m[0] = top; /* the first candidates: there are no sums yet */
    else if (top > lanes->m[0] + ELS_HEADROOM)
        images_raise(s, top, lanes);
    for (int l = 0; l < LANES; l++)
        relative[l] = l < g->count ? (float)(logit[l] - lanes->m[0]) : LEAST_NATS;
}

static void images_sweep(const struct els_sweep *s, int step, const void *query, const void *group,
                         void *work, struct els_lanes *lanes)
{
    const struct images_group *g = group;
    const void *image[LANES];
    _Alignas(sizeof(vf)) float relative[LANES], weight[LANES];
    float *u = lanes->sum + (s->slots - 1) * LANES;
    int live = 0;

    (void)step;
    (void)work;
    images_relative(s, query, g, lanes, relative);
    v_store_float(weight, v_exp(v_max(v_load_float(relative), v_set(LEAST_NATS))));
    for (int l = 0; l < g->count; l++) {
        if (relative[l] < -s->cut || weight[l] == 0.0f)
            continue;
        lanes->sum[l] += weight[l];
        if (s->entropy)
            u[l] += weight[l] * relative[l];
        image[live] = g->image[l];
        weight[live++] = weight[l];
    }
    if (live && images_u8(s))
        images_add(s, 1, live, image, weight, lanes->sum);
    else if (live)
        images_add(s, 0, live, image, weight, lanes->sum);
}

/* ---- each pixel its own v ---- */

/* From the last pixel on: what a pixel overwrites has gone to later ones. */
static void images_finish(const struct els_sweep *s, const void *query, void *work,
                          struct els_lanes *lanes)
{
    (void)query;
    (void)work;
    for (ptrdiff_t q = images_pixels(s) - 1; q >= 0; q--)
        for (int c = 0; c < s->shape.c; c++) {
            float *to = lanes->sum + (q * s->slots + 1 + c) * LANES;
            float v = lanes->sum[(q / LANES * s->slots + 1 + c) * LANES + q % LANES];

            memset(to, 0, LANES * sizeof(*to));
            to[0] = v;
        }
}

/* What a kernel file adds to its entry. */
#define IMAGES_FUNCTIONS                                                                           \
    .lanes = LANES, .mixes_images = 1, .max_adds = IMAGES_ADDS, .accepts = images_accepts,         \
    .query_bytes = images_query_bytes, .group_bytes = images_group_bytes,                          \
    .work_bytes = images_work_bytes, .prepare_query = images_prepare_query,                        \
    .prepare_group = images_prepare_group, .steps = images_steps, .sweep = images_sweep,           \
    .finish = images_finish

#endif
