/*
 * What the integer sweep prepares: the quantised noisy image, the interleaved group of bank images and its biases.
 * See kernel_sweep.h for the numbers and the layout. Included by it; LANES comes from the kernel's file.
 */
#ifndef ELS_KERNEL_PREPARE_H
#define ELS_KERNEL_PREPARE_H

#include <math.h>
#include <string.h>

#include "kernel.h"

enum {
    BLOCK = 8,          /* displacements side by side */
    MAX_LOW_BITS = 15,  /* of x, in the second plane */
    MAX_VALUES = 33000, /* of a window: int32 holds the sum of its squares */
};

struct query_header {
    int planes;
    int low_bits;  /* b: 0 with one plane */
    float gain[2]; /* log2 units per integer of the high (or only) and of the low plane */
    double unit;   /* nats per integer of the finest plane */
    double bias;   /* of Σ(2u − 255)², into integers of the finest plane */
};

struct sizes {
    int rows, columns; /* of x and y with their borders */
    int y_columns;     /* and with the margin */
    size_t x_values;   /* one array of x pairs */
    size_t y_bytes, centre_bytes, square_bytes;
};

static struct sizes sizes_of(const struct els_sweep *s)
{
    struct sizes z = {.rows = s->shape.h + 2 * s->rh, .columns = s->shape.w + 2 * s->rw};
    size_t pixels = (size_t)s->shape.h * (size_t)s->shape.w;

    z.y_columns = z.columns + 2 * BLOCK;
    z.x_values = (size_t)z.rows * (size_t)s->shape.c * (size_t)z.columns;
    z.y_bytes = (size_t)z.rows * (size_t)s->shape.c * (size_t)z.y_columns * LANES * sizeof(int32_t);
    z.centre_bytes = pixels * (size_t)s->shape.c * LANES * sizeof(float);
    z.square_bytes = pixels * LANES * sizeof(int32_t);
    return z;
}

static int accepts(const struct els_sweep *s)
{
    int64_t values = (int64_t)(2 * s->rh + 1) * (2 * s->rw + 1) * s->shape.c;

    return els_bank_info(s->bank)->dtype == ELS_U8 && els_machine_uses_p(s->machine) &&
           values <= MAX_VALUES;
}

static size_t query_bytes(const struct els_sweep *s)
{
    return 64 + 4 * sizes_of(s).x_values * sizeof(int32_t);
}

static size_t group_bytes(const struct els_sweep *s)
{
    struct sizes z = sizes_of(s);

    return z.y_bytes + z.centre_bytes + z.square_bytes;
}

static size_t column_bytes(const struct els_sweep *s)
{
    return (size_t)sizes_of(s).columns * BLOCK * 2 * LANES * sizeof(int32_t);
}

static size_t work_bytes(const struct els_sweep *s)
{
    return column_bytes(s) + 2 * sizes_of(s).square_bytes;
}

/* Position t of an axis of length n: wrapped, or −1 outside. */
static int position(const struct els_sweep *s, int t, int n)
{
    if (t >= 0 && t < n)
        return t;
    return s->wraps ? (t + n) % n : -1;
}

/* ---- the noisy image ---- */

/* The largest window sum of |x|: bounds every integer that a sweep can meet. */
static double largest_window(const struct els_sweep *s, const float *x)
{
    double most = 0, total = 0, largest = 0;
    double values = (double)(2 * s->rh + 1) * (2 * s->rw + 1) * s->shape.c;

    for (size_t i = 0; i < els_shape_values(s->shape); i++) {
        total += fabs((double)x[i]);
        largest = fmax(largest, fabs((double)x[i]));
    }
    most = fmin(total * (s->wraps ? 4 : 1), largest * values);
    return fmax(most, 1e-30);
}

/*
 * How finely must x be kept? With step δ its rounding error is uniform, with standard deviation δ/√12 per value, and a
 * logit's is at most a/β·δ/√12·√(P²C) since |y| ≤ 1. Above ONE_PLANE_ERROR nats two planes are used.
 */
#define ONE_PLANE_ERROR 1e-4

static int choose_planes(const struct els_sweep *s, double delta)
{
    double values = (double)(2 * s->rh + 1) * (2 * s->rw + 1) * s->shape.c;

    return s->scale * delta / sqrt(12.0) * sqrt(values) <= ONE_PLANE_ERROR ? 1 : 2;
}

/* δ of the first plane: int16 must hold x, and int32 twice the largest |⟨xi, u8⟩| + bias. */
static double choose_delta(const struct els_sweep *s, const float *x)
{
    double largest = 1e-30, window = largest_window(s, x);
    double values = (double)(2 * s->rh + 1) * (2 * s->rw + 1) * s->shape.c;
    double a = 2.0 * s->bias / s->scale; /* a²/2β over a/β, doubled */

    for (size_t i = 0; i < els_shape_values(s->shape); i++)
        largest = fmax(largest, fabs((double)x[i]));
    /* ⟨xi, u8⟩ ≤ 128·window/δ; the bias in the same units is a/2·‖y‖²·127.5/δ ≤ a/2·values·127.5/δ. */
    return fmax(largest / 32700.0, (128.0 * window + 64.0 * a * values) / (double)(1 << 29));
}

/* Bits of the second plane: as many as leave int32 room for twice a window of lo·u8, |lo| ≤ 2^(b−1). */
static int choose_low_bits(const struct els_sweep *s)
{
    int64_t values = (int64_t)(2 * s->rh + 1) * (2 * s->rw + 1) * s->shape.c;
    int bits = MAX_LOW_BITS;

    while ((values << (bits - 1)) * 128 > 1 << 29)
        bits--;
    return bits;
}

/* x(t, column) as an integer of `plane`; t and column may lie outside. */
static int plane_value(const struct els_sweep *s, const float *x, double delta, int bits, int plane,
                       int c, int t, int column)
{
    int row = position(s, t, s->shape.h), col = position(s, column, s->shape.w);
    int64_t fine;
    int high;

    if (row < 0 || col < 0)
        return 0;
    x += ((size_t)c * (size_t)s->shape.h + (size_t)row) * (size_t)s->shape.w + (size_t)col;
    fine = llrint((double)*x / delta * (1 << bits));
    high = (int)((fine + (1 << bits >> 1)) >> bits);
    return plane == 0 ? high : (int)(fine - (int64_t)high * (1 << bits));
}

static int32_t pack(int first, int second)
{
    return (int32_t)((uint32_t)(uint16_t)first | (uint32_t)(uint16_t)second << 16);
}

static void prepare_query(const struct els_sweep *s, const float *x, void *query)
{
    struct query_header *head = query;
    struct sizes z = sizes_of(s);
    double delta = choose_delta(s, x), fine;
    int p = 2 * s->rh + 1;
    int32_t *out = (int32_t *)((char *)query + 64);

    head->planes = choose_planes(s, delta);
    head->low_bits = head->planes == 1 ? 0 : choose_low_bits(s);
    fine = delta / (1 << head->low_bits);
    head->unit = s->scale * fine / 127.5;
    head->gain[0] = (float)(s->scale * delta / 127.5 * M_LOG2E);
    head->gain[1] = (float)(head->unit * M_LOG2E);
    head->bias = s->bias / (255.0 * 255.0) / head->unit;
    for (int plane = 0; plane < head->planes; plane++) {
        int32_t *pairs = out + (size_t)plane * 2 * z.x_values, *news = pairs + z.x_values;

        for (int t = -s->rh; t < s->shape.h + s->rh; t++)
            for (int c = 0; c < s->shape.c; c++)
                for (int j = -s->rw; j < s->shape.w + s->rw; j++) {
                    int enters = plane_value(s, x, delta, head->low_bits, plane, c, t, j);
                    int leaves = t - p < -s->rh
                                     ? 0
                                     : plane_value(s, x, delta, head->low_bits, plane, c, t - p, j);

                    *pairs++ = pack(enters, leaves);
                    *news++ = pack(enters, 0);
                }
    }
}

/* ---- the group ---- */

static int pixel(const struct els_sweep *s, const uint8_t *image, int c, int t, int column)
{
    int row = position(s, t, s->shape.h), col = position(s, column, s->shape.w);

    if (row < 0 || col < 0)
        return 0;
    return image[((size_t)c * (size_t)s->shape.h + (size_t)row) * (size_t)s->shape.w +
                 (size_t)col] -
           128;
}

static void load_pairs(const struct els_sweep *s, const uint8_t *image, int lane, int32_t *y)
{
    struct sizes z = sizes_of(s);
    int p = 2 * s->rh + 1;

    for (int t = 0; t < z.rows; t++)
        for (int c = 0; c < s->shape.c; c++)
            for (int j = 0; j < z.columns; j++) {
                size_t at = ((size_t)t * (size_t)s->shape.c + (size_t)c) * (size_t)z.y_columns +
                            (size_t)(j + BLOCK);
                int enters = pixel(s, image, c, t - s->rh, j - s->rw);
                int leaves = t < p ? 0 : pixel(s, image, c, t - s->rh - p, j - s->rw);

                y[at * LANES + (size_t)lane] = pack(enters, -leaves);
            }
}

static void load_centres(const struct els_sweep *s, const uint8_t *image, int lane, float *centre)
{
    for (int k = 0; k < s->shape.h; k++)
        for (int c = 0; c < s->shape.c; c++)
            for (int l = 0; l < s->shape.w; l++)
                centre[(((size_t)k * (size_t)s->shape.c + (size_t)c) * (size_t)s->shape.w +
                        (size_t)l) *
                           LANES +
                       (size_t)lane] = (float)pixel(s, image, c, k, l) + 0.5f;
}

/* (2u − 255)² summed over channels, inside the image or wrapped; 0 where the window is clipped. */
static void add_square(const struct els_sweep *s, const float *centre, int t, int column, int sign,
                       int32_t *out)
{
    int row = position(s, t, s->shape.h), col = position(s, column, s->shape.w);

    if (row < 0 || col < 0)
        return;
    for (int c = 0; c < s->shape.c; c++) {
        const float *v =
            centre +
            (((size_t)row * (size_t)s->shape.c + (size_t)c) * (size_t)s->shape.w + (size_t)col) *
                LANES;

        for (int l = 0; l < LANES; l++) {
            int32_t y = (int32_t)(2.0f * v[l]);

            out[l] += sign * y * y;
        }
    }
}

/* Σ over the window of every source: sliding down each column, then along each row. Exact. */
static void window_squares(const struct els_sweep *s, const float *centre, int32_t *square)
{
    int h = s->shape.h, w = s->shape.w;
    int32_t row[ELS_MAX_SIDE * 3]
               [LANES]; /* one row of column sums with its borders: W + 2rw ≤ 3W */
    int columns = w + 2 * s->rw;

    memset(row, 0, sizeof(row[0]) * (size_t)columns);
    for (int j = 0; j < columns; j++)
        for (int t = -s->rh; t < s->rh; t++)
            add_square(s, centre, t, j - s->rw, 1, row[j]);
    for (int k = 0; k < h; k++) {
        int32_t sum[LANES] = {0};

        for (int j = 0; j < columns; j++) {
            add_square(s, centre, k + s->rh, j - s->rw, 1, row[j]);
            for (int l = 0; l < LANES; l++)
                sum[l] += row[j][l] - (j > 2 * s->rw ? row[j - 2 * s->rw - 1][l] : 0);
            if (j >= 2 * s->rw)
                memcpy(square + ((size_t)k * (size_t)w + (size_t)(j - 2 * s->rw)) * LANES, sum,
                       sizeof(sum));
        }
        for (int j = 0; j < columns; j++)
            add_square(s, centre, k - s->rh, j - s->rw, -1, row[j]);
    }
}

static void prepare_group(const struct els_sweep *s, const int64_t *images, int count, void *group)
{
    struct sizes z = sizes_of(s);
    int32_t *y = group;
    float *centre = (float *)((char *)group + z.y_bytes);
    int32_t *square = (int32_t *)((char *)centre + z.centre_bytes);
    size_t values = els_shape_values(s->shape);

    memset(group, 0, group_bytes(s));
    for (int lane = 0; lane < count; lane++) {
        const uint8_t *image =
            (const uint8_t *)els_bank_images(s->bank) + (size_t)images[lane] * values;

        load_pairs(s, image, lane, y);
        load_centres(s, image, lane, centre);
    }
    window_squares(s, centre, square);
    /* An empty lane must never weigh anything: a square that no window can have marks it. */
    for (size_t q = 0; q < (size_t)s->shape.h * (size_t)s->shape.w; q++)
        for (int lane = count; lane < LANES; lane++)
            square[q * LANES + (size_t)lane] = -1;
}

/* Biases of all sources in the query's units: high and low part; an empty lane gets one that no logit survives. */
static void begin(const struct els_sweep *s, const void *query, const void *group, void *work,
                  struct els_lanes *lanes)
{
    const struct query_header *head = query;
    struct sizes z = sizes_of(s);
    const int32_t *square = (const int32_t *)((const char *)group + z.y_bytes + z.centre_bytes);
    int32_t *bias = (int32_t *)((char *)work + column_bytes(s));
    int bits = head->low_bits;
    double factor = head->bias, coarse = head->unit * (1 << bits);
    size_t band = (size_t)(s->band_to - s->band_from) * (size_t)s->shape.w;

    for (size_t q = 0; q < band; q++)
        if (lanes->reference[2 * q] == ELS_NO_REFERENCE)
            lanes->m[q] = ELS_NO_REFERENCE * coarse;
    for (size_t q = 0; q < (size_t)s->shape.h * (size_t)s->shape.w; q++)
        for (int l = 0; l < LANES; l++) {
            int32_t v = square[q * LANES + (size_t)l];
            int64_t b = (int64_t)((double)v * factor + 0.5);

            bias[2 * q * LANES + (size_t)l] = v < 0 ? 1 << 30 : (int32_t)(b >> bits);
            bias[(2 * q + 1) * LANES + (size_t)l] = v < 0 ? 0 : (int32_t)(b & ((1 << bits) - 1));
        }
}

#endif
