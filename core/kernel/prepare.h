/*
 * What the integer sweep prepares: the noisy image in integers, the interleaved group of bank
 * images, and its biases. See kernel/sweep.h for the numbers and the layout. Included by it;
 * LANES and BLOCK come from the kernel's file.
 */
#ifndef ELS_KERNEL_PREPARE_H
#define ELS_KERNEL_PREPARE_H

#include <math.h>
#include <string.h>

#include "core/kernel/kernel.h"
#include "core/kernel/softmax.h"
#include "core/kernel/units.h"

/*
 * What moves sums on by one row, or fills column sums by two: x[plane][n]·y[n], summed over
 * n < TERMS. x and y stand at the row's left edge.
 */
struct terms {
    const int32_t *x[2][2]; /* [1 + W + 2rw][C], at column 0 */
    const int32_t *y[2];    /* [BLOCK + W + 2rw + BLOCK][C][L], at column 0 */
};

enum {
    MAX_VALUES = 32768,              /* of a window: int32 holds the sum of its squares */
    MAX_ROWS = 2 * ELS_MAX_SIDE - 1, /* of a window */
    KEPT_VALUES = 4096,              /* by blocks abreast: 16 KB of the first cache */
    ROWS_AHEAD = 16,                 /* of the bank are asked for, since its images lie far apart */
};

struct sizes {
    int rows, columns; /* of x with its borders, and one more column on the left */
    size_t x_values;   /* one array of x pairs, a row of zeros included */
    size_t centre_values, pixel_values;
};

static struct sizes sizes_of(const struct els_sweep *s)
{
    struct sizes z = {.rows = s->shape.h + 2 * s->rh, .columns = s->shape.w + 2 * s->rw + 1};
    size_t pixels = (size_t)s->shape.h * (size_t)s->shape.w, c = (size_t)s->shape.c;

    z.x_values = (size_t)(z.rows + 1) * c * (size_t)z.columns;
    z.centre_values = (pixels + 2 * BLOCK) * c * LANES;
    z.pixel_values = (pixels + 2 * BLOCK) * LANES;
    return z;
}

/* Values of one row of y, with its borders and margins. */
static size_t y_row_values(const struct els_sweep *s)
{
    return (size_t)(s->shape.w + 2 * s->rw + 2 * BLOCK) * (size_t)s->shape.c * LANES;
}

static int accepts_sizes(const struct els_sweep *s)
{
    return els_bank_info(s->bank)->dtype == ELS_U8 && els_machine_uses_p(s->machine) &&
           (int64_t)(2 * s->rh + 1) * (2 * s->rw + 1) * s->shape.c <= MAX_VALUES;
}

/* ---- the noisy image in integers ---- */

/* Nats per unit of x and of u8. */
static double nats_per_product(const struct els_sweep *s)
{
    return s->scale / ELS_UNITS_PER_ONE;
}

/* Nats that D has to hold. */
static double range_of(const struct els_sweep *s, const float *x)
{
    return els_logit_range(s, x) + ((1 << ALIVE_BITS) + 1) * M_LN2;
}

/* unit: of D, in nats; fine: of the column sums. */
static void set_units(const struct els_sweep *s, double per_one, double unit, double fine,
                      struct query_header *head)
{
    head->unit = unit;
    head->per_one = per_one / fine;
    head->bias = s->bias / (255.0 * 255.0) / unit;
    head->cut = (int64_t)(s->cut / unit);
    head->alive = (int64_t)((1 << ALIVE_BITS) * M_LN2 / unit);
}

static int32_t pack(int64_t first, int64_t second)
{
    return (int32_t)((uint32_t)(uint16_t)first | (uint32_t)(uint16_t)second << 16);
}

/* Image row t of x, −1 outside; past the border x is zero, even where the image wraps. */
static int x_position(const struct els_sweep *s, int t)
{
    return t < s->shape.h + s->rh ? els_position(s, t, s->shape.h) : -1;
}

#include "core/kernel/plan.h"

/* Row t of one array of x; one past the border is a row of zeros. */
static const int32_t *x_row(const struct els_sweep *s, const void *query, int array, int t)
{
    const int32_t *all = query_pairs(s, query);
    size_t c = (size_t)s->shape.c, row = c * (size_t)sizes_of(s).columns;

    return all + (size_t)array * sizes_of(s).x_values + (size_t)(t + s->rh) * row + c;
}

/*
 * What a pair holds: PAIR_OF_ROWS or PAIR_OF_BITS, which the kernel's file defines. They give TERMS,
 * ARRAYS (of x), MOST_PLANES, HAS_WINDOWS (kernel/strips.h), and
 *
 *     accepts, query_bytes, prepare_query
 *     weight_bits     D as a number of the softmax
 *     y_rows          rows of y in a group
 *     plain_y_row     where image row k of y is spread, as y_pair says; then pair_y_rows() ends it
 *     fill_terms      row t, and t + 1 if `both`, enter
 *     slide_terms     row i + rh enters and row i − rh − 1 leaves, unless i is the run's first
 */
#ifdef PAIR_OF_ROWS
#include "core/kernel/pair_rows.h"
#else
#include "core/kernel/pair_bits.h"
#endif

/* ---- sizes ---- */

static size_t group_bytes(const struct els_sweep *s)
{
    struct sizes z = sizes_of(s);
    size_t margin = (size_t)(BLOCK * s->shape.c * LANES);

    return (y_rows(s) * y_row_values(s) + z.centre_values + 2 * z.pixel_values + margin) *
           sizeof(int32_t);
}

/* Where the parts of a group begin; a margin of BLOCK vectors lies before the first pixel. */
static const float *group_centres(const struct els_sweep *s, const void *group)
{
    return (const float *)group + y_rows(s) * y_row_values(s) + BLOCK * s->shape.c * LANES;
}

static const int32_t *group_squares(const struct els_sweep *s, const void *group)
{
    return (const int32_t *)group_centres(s, group) + sizes_of(s).centre_values;
}

/* Column sums of one block; some more are filled than are needed. */
static size_t column_values(const struct els_sweep *s)
{
    return (size_t)(s->shape.w + 2 * s->rw + COLUMNS) * BLOCK * LANES;
}

/*
 * What blocks keep from row to row. The first abreast lies where its own queries are, behind a gap;
 * the others follow it.
 */
static size_t kept_values(const struct els_sweep *s)
{
    size_t block = HAS_WINDOWS ? (size_t)s->shape.w * BLOCK * LANES : column_values(s);

    return block + KEPT_VALUES;
}

static size_t work_bytes(const struct els_sweep *s)
{
    return (HAS_WINDOWS * column_values(s) + kept_values(s) + 2 * sizes_of(s).pixel_values) *
           sizeof(int32_t);
}

static int32_t *work_kept(const struct els_sweep *s, void *work)
{
    return (int32_t *)work + HAS_WINDOWS * column_values(s);
}

/* The biases of plane p, behind a margin. */
static const int32_t *work_biases(const struct els_sweep *s, const void *work, int p)
{
    return (const int32_t *)work + HAS_WINDOWS * column_values(s) + kept_values(s) +
           (size_t)p * sizes_of(s).pixel_values + BLOCK * LANES;
}

/* ---- the group ---- */

/* Channel c of one row: pairs with borders and margins, and centres. pixel: [W][LANES]. */
static void spread_row(const struct els_sweep *s, const int8_t *pixel, int c, int32_t *y,
                       float *centre)
{
    int w = s->shape.w, step = s->shape.c * LANES;

    y += c * LANES;
    centre += c * LANES;
    for (int j = -s->rw - BLOCK; j < w + s->rw + BLOCK; j++, y += step) {
        int at = j >= 0 && j < w ? j : s->wraps ? (j % w + w) % w : -1;

        v_store(y, at < 0 ? v_set_int(0) : y_pair(v_load_bytes(pixel + at * LANES)));
    }
    for (int j = 0; j < w; j++, centre += step)
        v_store_float(centre, v_add(v_to_float(v_load_bytes(pixel + j * LANES)), v_set(0.5f)));
}

/* Adds (2u − 255)² of one row of one channel. */
static void add_squares(int w, const int8_t *pixel, int32_t *square)
{
    for (int j = 0; j < w * LANES; j += LANES) {
        vi v = v_load_bytes(pixel + j);

        v = v_add_int(v_add_int(v, v), v_set_int(1));
        v_store(square + j, v_add_int(v_load(square + j), v_mul_int(v, v)));
    }
}

/* column[j] + the squares of window row t, or − */
static void slide_squares(const struct els_sweep *s, const int32_t *pixel_square, int t, int enters,
                          int32_t *column)
{
    int row = els_position(s, t, s->shape.h), n = s->shape.w * LANES;

    pixel_square += (ptrdiff_t)row * n;
    for (int j = 0; row >= 0 && j < n; j += LANES) {
        vi sum = v_load(column + j), square = v_load(pixel_square + j);

        v_store(column + j, enters ? v_add_int(sum, square) : v_sub(sum, square));
    }
}

/* Σ over the window of every source: sliding down each column, then along each row. Exact. */
static void window_squares(const struct els_sweep *s, const int32_t *pixel_square, int32_t *square)
{
    int w = s->shape.w;
    _Alignas(64) int32_t column[ELS_MAX_SIDE * LANES];

    memset(column, 0, sizeof(*column) * (size_t)(w * LANES));
    for (int t = -s->rh; t < s->rh; t++)
        slide_squares(s, pixel_square, t, 1, column);
    for (int k = 0; k < s->shape.h; k++, square += w * LANES) {
        vi sum = v_set_int(0);

        slide_squares(s, pixel_square, k + s->rh, 1, column);
        for (int j = -s->rw; j < w + s->rw; j++) {
            int in = els_position(s, j, w), out = els_position(s, j - 2 * s->rw - 1, w);

            if (in >= 0)
                sum = v_add_int(sum, v_load(column + in * LANES));
            if (j > s->rw && out >= 0)
                sum = v_sub(sum, v_load(column + out * LANES));
            if (j >= s->rw)
                v_store(square + (j - s->rw) * LANES, sum);
        }
        slide_squares(s, pixel_square, k - s->rh, 0, column);
    }
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));

/* 16 rows of 16 bytes become columns: four times, rows n and n + 8 are interleaved. */
INLINE void transpose_bytes(bytes16 *row)
{
    const bytes16 low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
    const bytes16 high = low + 8;
    bytes16 next[16];

    for (int stage = 0; stage < 4; stage++) {
        for (int n = 0; n < 8; n++) {
            next[2 * n] = __builtin_shuffle(row[n], row[n + 8], low);
            next[2 * n + 1] = __builtin_shuffle(row[n], row[n + 8], high);
        }
        memcpy(row, next, sizeof(next));
    }
}

/* Row k of channel c of the group's images, lanes side by side: [W][LANES]. */
static void gather_row(const struct els_sweep *s, const int64_t *images, int count, int k, int c,
                       int8_t *pixel)
{
    const uint8_t *bank = els_bank_images(s->bank), *row[LANES];
    size_t h = (size_t)s->shape.h, w = (size_t)s->shape.w, j = 0;

    for (int lane = 0; lane < LANES; lane++) {
        size_t image = (size_t)images[lane < count ? lane : 0];

        row[lane] = bank + ((image * (size_t)s->shape.c + (size_t)c) * h + (size_t)k) * w;
        if (k + ROWS_AHEAD < s->shape.h)
            __builtin_prefetch(row[lane] + ROWS_AHEAD * w);
    }
    for (; j + 16 <= w; j += 16) {
        bytes16 block[16] = {0};

        for (int lane = 0; lane < LANES; lane++)
            memcpy(&block[lane], row[lane] + j, 16);
        transpose_bytes(block);
        for (size_t b = 0; b < 16; b++) {
            block[b] ^= 128; /* u − 128 as a signed byte */
            memcpy(pixel + (j + b) * LANES, &block[b], LANES);
        }
    }
    for (; j < w; j++)
        for (size_t lane = 0; lane < LANES; lane++)
            pixel[j * LANES + lane] = (int8_t)(row[lane][j] - 128);
}

/* Lanes beyond `count` repeat the first image; the engine leaves them out of its sums. */
static void prepare_group(const struct els_sweep *s, const int64_t *images, int count, void *group)
{
    int w = s->shape.w, c = s->shape.c;
    size_t pixels = (size_t)s->shape.h * (size_t)w;
    int32_t *square = (int32_t *)group_squares(s, group);
    int32_t *pixel_square = square + sizes_of(s).pixel_values;
    float *centre = (float *)group_centres(s, group);
    int8_t pixel[ELS_MAX_SIDE * LANES];

    /* A block may reach beyond the image, with weights that are next to nothing. */
    memset(centre - BLOCK * c * LANES, 0, (size_t)(BLOCK * c * LANES) * sizeof(*centre));
    memset(centre + pixels * (size_t)(c * LANES), 0, (size_t)(BLOCK * c * LANES) * sizeof(*centre));
    memset(pixel_square, 0, pixels * LANES * sizeof(*pixel_square));
    for (int k = 0; k < s->shape.h; k++, centre += w * c * LANES)
        for (int channel = 0; channel < c; channel++) {
            gather_row(s, images, count, k, channel, pixel);
            spread_row(s, pixel, channel, plain_y_row(s, group, k), centre);
            add_squares(w, pixel, pixel_square + (size_t)k * (size_t)(w * LANES));
        }
    pair_y_rows(s, group);
    window_squares(s, pixel_square, square);
}

/* ---- one query and one group ---- */

/* The floors of the band's queries: the first ones, or where the sums so far have brought them. */
static void set_floors(const struct els_sweep *s, const void *query, struct els_lanes *lanes)
{
    const int64_t *first = query_floors(s, query) + (ptrdiff_t)s->band_from * s->shape.w;
    size_t q = 0;

    for (int i = s->band_from; i < s->band_to; i++)
        for (int j = 0; j < s->shape.w; j++, q++)
            if (lanes->floor[q] != ELS_NO_FLOOR)
                follow_total(query, lanes, q);
            else if (first[q] != ELS_NO_FLOOR)
                set_floor(query, lanes, q, first[q]);
            else
                set_floor(query, lanes, q, first_floor(s, query_image(s, query), query, i, j));
}

/* Biases of all sources in the query's integers, and the floors. */
static void begin(const struct els_sweep *s, const void *query, const void *group, void *work,
                  struct els_lanes *lanes)
{
    const struct query_header *head = query;
    const int32_t *restrict square = group_squares(s, group);
    int32_t *restrict high = (int32_t *)work_biases(s, work, 0);
    int32_t *restrict low = (int32_t *)work_biases(s, work, 1);
    int bits = head->planes == 1 ? 0 : head->bits, n = s->shape.h * s->shape.w * LANES;
    double factor = head->bias;

    for (int q = 0; bits == 0 && q < n; q++)
        high[q] = (int32_t)(int64_t)((double)square[q] * factor + 0.5);
    for (int q = 0; bits > 0 && q < n; q++) {
        int64_t b = (int64_t)((double)square[q] * factor + 0.5);

        high[q] = (int32_t)(b >> bits);
        low[q] = (int32_t)(b & ((1 << bits) - 1));
    }
    set_floors(s, query, lanes);
}

#endif
