/*
 * Rounds a noisy image with error diffusion, and samples what that does to logits. Called by the
 * integer kernels once per noisy image and scale. Holds no state, allocates nothing.
 */
#include "core/kernel/rounding.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/kernel/units.h"

enum {
    GRID = 4,     /* windows along each axis */
    PATCHES = 32, /* for each of them */
};

/* What the rows so far have left over, with a border each side. */
struct rest {
    double here[ELS_MAX_SIDE + 2], below[ELS_MAX_SIDE + 2];
};

/* One row, from the top of a channel on. */
static void round_row(int w, const float *x, double per_one, struct rest *rest, int32_t *out)
{
    double *here = rest->here + 1, *below = rest->below + 1;

    memset(rest->below, 0, sizeof(rest->below));
    for (int j = 0; j < w; j++) {
        double value = (double)x[j] * per_one + here[j], left;

        out[j] = (int32_t)lrint(value);
        left = (value - out[j]) / 16;
        here[j + 1] += 7 * left;
        below[j - 1] += 3 * left;
        below[j] += 5 * left;
        below[j + 1] += left;
    }
    memcpy(rest->here, rest->below, sizeof(rest->here));
}

void els_round(const struct els_sweep *s, const float *x, double per_one, int32_t *out)
{
    int h = s->shape.h, w = s->shape.w;

    for (int c = 0; c < s->shape.c; c++) {
        struct rest rest = {0};

        for (int i = 0; i < h; i++, x += w, out += w)
            round_row(w, x, per_one, &rest, out);
    }
}

/* ---- what it does to logits ---- */

/* ⟨error of x, y⟩ of every window and patch, in units. */
struct samples {
    double of[GRID][GRID][PATCHES];
};

/* The middle of the k-th of GRID parts of an axis. */
static int grid_position(int n, int k)
{
    return (2 * k + 1) * n / (2 * GRID);
}

/* Where patch number k has been cut out of its image: all over, in steps that share no factor. */
static int patch_value(const struct els_sweep *s, int k, int c, int i, int j)
{
    const uint8_t *bank = els_bank_images(s->bank);
    int64_t image = s->images[(int64_t)k * s->num_images / PATCHES];
    int row = (i + 7 * k) % s->shape.h, column = (j + 11 * k) % s->shape.w;
    size_t at = ((size_t)image * (size_t)s->shape.c + (size_t)c) * (size_t)s->shape.h + (size_t)row;

    return bank[at * (size_t)s->shape.w + (size_t)column] - 128;
}

/* Adds what one pixel, off by `error`, does to the windows that it lies in. */
static void add_pixel(const struct els_sweep *s, int c, int i, int j, double error,
                      struct samples *out)
{
    double part[PATCHES];

    for (int k = 0; k < PATCHES; k++)
        part[k] = error * patch_value(s, k, c, i, j);
    for (int a = 0; a < GRID; a++)
        for (int b = 0; b < GRID; b++) {
            int dy = i - grid_position(s->shape.h, a), dx = j - grid_position(s->shape.w, b);

            for (int k = 0; abs(dy) <= s->rh && abs(dx) <= s->rw && k < PATCHES; k++)
                out->of[a][b][k] += part[k];
        }
}

/* The variance of one window's samples. */
static double variance(const double *of)
{
    double sum = 0, squares = 0;

    for (int k = 0; k < PATCHES; k++)
        sum += of[k];
    for (int k = 0; k < PATCHES; k++)
        squares += (of[k] - sum / PATCHES) * (of[k] - sum / PATCHES);
    return squares / (PATCHES - 1);
}

double els_rounding_error(const struct els_sweep *s, const float *x, double per_one)
{
    int h = s->shape.h, w = s->shape.w;
    struct samples samples = {0};
    double sum = 0;

    for (int c = 0; c < s->shape.c; c++) {
        struct rest rest = {0};

        for (int i = 0; i < h; i++, x += w) {
            int32_t rounded[ELS_MAX_SIDE];

            round_row(w, x, per_one, &rest, rounded);
            for (int j = 0; j < w; j++)
                add_pixel(s, c, i, j, rounded[j] - (double)x[j] * per_one, &samples);
        }
    }
    for (int a = 0; a < GRID; a++)
        for (int b = 0; b < GRID; b++)
            sum += variance(samples.of[a][b]);
    /* Two logits differ by twice one's variance. */
    return s->scale / per_one / ELS_UNITS_PER_ONE * sqrt(2 * sum / (GRID * GRID));
}
