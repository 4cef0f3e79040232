/*
 * Pillow's 8-bit bilinear resize. Called from the thread that imports; holds no state.
 *
 * Pillow resamples with a triangle filter that is widened when it shrinks, so every input pixel counts. An
 * output pixel is a weighted sum over a short window of input pixels; the weights are computed in
 * double, normalised, and rounded to 22 fractional bits. Rows first, then columns, each pass rounding and
 * clipping to u8. A side that does not change is not touched.
 */
#include "els/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "els/error.h"
#include "els/mem.h"

enum { FRACTION = 22 };

/* For every output position: the first input position, how many, and their weights. */
struct windows {
    int size; /* the most positions of any window */
    int *first, *count;
    int32_t *weights; /* [out,size] */
};

static void windows_deinit(struct windows *w)
{
    free(w->first);
    free(w->count);
    free(w->weights);
}

/* The weights of one window, from the filter's values in `share`. */
static void round_weights(int32_t *out, const double *share, int count, double sum)
{
    for (int k = 0; k < count; k++) {
        double w = share[k] / sum;

        out[k] = (int32_t)(0.5 + w * (1 << FRACTION));
    }
}

static int windows_init(struct windows *w, int out, int in)
{
    double scale = (double)in / out, support = scale < 1 ? 1 : scale;
    _cleanup_(els_freep) double *share = NULL;

    w->size = (int)ceil(support) * 2 + 1;
    w->first = els_alloc_array((size_t)out, sizeof(*w->first));
    w->count = els_alloc_array((size_t)out, sizeof(*w->count));
    w->weights = els_alloc_array((size_t)out * (size_t)w->size, sizeof(*w->weights));
    share = els_alloc_array((size_t)w->size, sizeof(*share));
    if (!w->first || !w->count || !w->weights || !share)
        return ELS_ENOMEM;
    for (int i = 0; i < out; i++) {
        double centre = (i + 0.5) * scale, sum = 0, inverse = 1 / support;
        int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);

        if (first < 0)
            first = 0;
        if (end > in)
            end = in;
        for (int k = 0; k < end - first; k++) {
            double distance = fabs((k + first - centre + 0.5) * inverse);

            share[k] = distance < 1 ? 1 - distance : 0;
            sum += share[k];
        }
        w->first[i] = first;
        w->count[i] = end - first;
        round_weights(w->weights + (size_t)i * (size_t)w->size, share, end - first, sum);
    }
    return 0;
}

/* Σ weight·value over a window whose values lie `stride` bytes apart. */
static uint8_t weigh(const int32_t *weights, int count, const uint8_t *in, size_t stride)
{
    int32_t sum = 1 << (FRACTION - 1);

    for (int k = 0; k < count; k++)
        sum += weights[k] * in[(size_t)k * stride];
    sum >>= FRACTION;
    return sum < 0 ? 0 : sum > 255 ? 255 : (uint8_t)sum;
}

/*
 * Resizes the middle axis of [outer, in, inner] to [outer, out, inner]: with inner = channels the columns
 * of a picture, with inner = a row of values its rows.
 */
static int resize_axis(uint8_t *to, int out, const uint8_t *from, int in, size_t outer, size_t inner)
{
    struct windows w = {0};
    int r = windows_init(&w, out, in);

    for (size_t o = 0; r == 0 && o < outer; o++) {
        for (int i = 0; i < out; i++) {
            const int32_t *weights = w.weights + (size_t)i * (size_t)w.size;
            const uint8_t *start = from + (o * (size_t)in + (size_t)w.first[i]) * inner;

            for (size_t k = 0; k < inner; k++)
                *to++ = weigh(weights, w.count[i], start + k, inner);
        }
    }
    windows_deinit(&w);
    return r;
}

int els_resize_bilinear(uint8_t *out, int out_h, int out_w, const uint8_t *in, int in_h, int in_w,
                        int channels)
{
    _cleanup_(els_freep) uint8_t *between = NULL;
    size_t values = (size_t)channels;

    if (out_w == in_w && out_h == in_h) {
        memcpy(out, in, (size_t)in_h * (size_t)in_w * values);
        return 0;
    }
    if (out_h == in_h)
        return resize_axis(out, out_w, in, in_w, (size_t)in_h, values);
    if (out_w == in_w)
        return resize_axis(out, out_h, in, in_h, 1, (size_t)in_w * values);
    between = els_alloc_array((size_t)in_h * (size_t)out_w, values);
    if (!between || resize_axis(between, out_w, in, in_w, (size_t)in_h, values) < 0)
        return ELS_ENOMEM;
    return resize_axis(out, out_h, between, in_h, 1, (size_t)out_w * values);
}
