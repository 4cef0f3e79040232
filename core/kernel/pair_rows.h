/*
 * A pair of the integer sweep holds two rows: x to 16 bits at the row that enters the window and,
 * negated, at the row that leaves it; y likewise. One product is what a window gains at one column
 * when it moves on by one row (kernel/strips.h), and the first windows are filled two rows at a time.
 * Included by kernel/prepare.h.
 *
 * That needs noisy images for which 16 bits are enough, as they are at high noise, where windows
 * are large: see kernel/rounding.h.
 *
 *     array of x   0: x(t), x(t+1)      1: x(t), −x(t−P)      2: x(t), 0   3, 4: 1, 2 negated
 *     rows of y    fill: y(t), y(t+1)   slide: y(t), y(t−P)   fill
 *
 * The column sums' unit is that of D: there is no shift, and never a second plane.
 */
#ifndef ELS_KERNEL_PAIR_ROWS_H
#define ELS_KERNEL_PAIR_ROWS_H

#include "core/kernel/rounding.h"

enum {
    TERMS = 1,
    ARRAYS = 5,
    HAS_WINDOWS = 1,
    MOST_PLANES = 1,
    MAX_X = 32700, /* what is left over by others may come on top */
};

/*
 * What rounding x may do at most: to x̂0 through the pixel's own value, where candidates lie as far
 * apart as can be; and to the difference of two logits in this bank, in nats, as a standard error.
 * Where two candidates compete, x̂0 moves by half of that difference at most.
 */
#define PIXEL_ERROR 2e-5
#define LOGIT_ERROR 6e-5

/* The finest unit of D that holds x in 16 bits and all distances in 31: factor·2^−23 log2 units. */
static void choose_units(const struct els_sweep *s, const float *x, struct query_header *head)
{
    double per_one = nats_per_product(s), unit = els_largest(s, x) * per_one / MAX_X;

    unit = fmax(unit, range_of(s, x) / 0x1.fp30);
    head->planes = 1;
    head->bits = 0;
    head->shift = 0;
    head->factor = (int)fmax(1, ceil(fmin(unit * M_LOG2E * 0x1p23, 0x1p23)));
    unit = head->factor * 0x1p-23 * M_LN2;
    set_units(s, per_one, unit, unit, head);
}

static int accepts(const struct els_sweep *s, const float *x)
{
    struct query_header head;

    /* Where every query takes its own place only, there is little to gain. */
    if (!accepts_sizes(s) || s->cols.count == 1)
        return 0;
    choose_units(s, x, &head);
    return head.factor < 1 << 23 && head.per_one > 0 &&
           s->scale / head.per_one / 2 <= PIXEL_ERROR &&
           els_rounding_error(s, x, head.per_one) <= LOGIT_ERROR;
}

/* D as the bits of E·2^23, see weight_of(). */
INLINE vi weight_bits(const struct query_header *head, vi d)
{
    return v_mul_int(d, v_set_int(head->factor));
}

static size_t query_bytes(const struct els_sweep *s)
{
    size_t values = ARRAYS * sizes_of(s).x_values + els_shape_values(s->shape);

    return plan_bytes(s) + values * sizeof(int32_t);
}

/* The rounded image at row t and a column, either of which may lie outside. */
static int32_t rounded(const struct els_sweep *s, const int32_t *image, int c, int t, int column)
{
    int row = x_position(s, t), col = els_position(s, column, s->shape.w);

    return row < 0 || col < 0 ? 0 : image[(c * s->shape.h + row) * s->shape.w + col];
}

/* The last two arrays are the two before them, negated. */
static int32_t sign_of(int array)
{
    return array < 3 ? 1 : -1;
}

/* The second number of a pair of array `array`, before its sign. */
static int32_t x_partner(const struct els_sweep *s, const int32_t *image, int array, int c, int t,
                         int j)
{
    if (array == 0)
        return rounded(s, image, c, t + 1, j);
    if (array % 2 && t - 2 * s->rh - 1 >= -s->rh)
        return -rounded(s, image, c, t - 2 * s->rh - 1, j);
    return 0;
}

static void prepare_query(const struct els_sweep *s, const float *x, void *query)
{
    struct query_header *head = query;
    int32_t *out = query_pairs(s, query);
    int32_t *image = out + ARRAYS * sizes_of(s).x_values;

    choose_units(s, x, head);
    plan_query(s, x, query);
    els_round(s, x, head->per_one, image);
    for (int array = 0; array < ARRAYS; array++)
        for (int t = -s->rh; t <= s->shape.h + s->rh; t++)
            for (int j = -s->rw - 1; j < s->shape.w + s->rw; j++)
                for (int c = 0; c < s->shape.c; c++)
                    *out++ = pack(sign_of(array) * rounded(s, image, c, t, j),
                                  sign_of(array) * x_partner(s, image, array, c, t, j));
}

/* Rows of y that slide: the last of them leave below the image. */
static int slide_rows(const struct els_sweep *s)
{
    return s->shape.h + s->rh;
}

static size_t y_rows(const struct els_sweep *s)
{
    return (size_t)(s->shape.h + slide_rows(s));
}

/* Image row t (outside, any), and the next. */
static const int32_t *fill_row(const struct els_sweep *s, const void *group, int t)
{
    int row = els_position(s, t, s->shape.h);

    return (const int32_t *)group + (size_t)(row < 0 ? 0 : row) * y_row_values(s);
}

/* Image row t and the one P above it. */
INLINE const int32_t *slide_row(const struct els_sweep *s, const void *group, int t)
{
    int row = s->wraps ? els_position(s, t, s->shape.h) : t;

    row = row < 0 || row >= slide_rows(s) ? 0 : row;
    return (const int32_t *)group + (size_t)(s->shape.h + row) * y_row_values(s);
}

static int32_t *plain_y_row(const struct els_sweep *s, void *group, int k)
{
    return (int32_t *)group + (size_t)k * y_row_values(s);
}

INLINE vi y_pair(vi v)
{
    return v_and(v, v_set_int(0xffff));
}

/* Image row t, wrapped as often as need be; −1 outside. */
static int image_row(const struct els_sweep *s, int t)
{
    int h = s->shape.h;

    return t >= 0 && t < h ? t : s->wraps ? (t % h + h) % h : -1;
}

/* out = (the first number of row t, the first number of row u); a row outside counts as zeros. */
static void pair_rows(const struct els_sweep *s, void *group, int t, int u, int32_t *out)
{
    int first = image_row(s, t), second = image_row(s, u);
    const int32_t *a = plain_y_row(s, group, first < 0 ? 0 : first);
    const int32_t *b = plain_y_row(s, group, second < 0 ? 0 : second);
    vi keep = v_set_int(first < 0 ? 0 : 0xffff), shift = v_set_int(second < 0 ? 32 : 16);

    for (size_t k = 0; k < y_row_values(s); k += LANES)
        v_store(out + k, v_or(v_and(v_load(a + k), keep), v_shift_left(v_load(b + k), shift)));
}

/* Every row of y has its first number: makes the rows that slide, then gives all their second. */
static void pair_y_rows(const struct els_sweep *s, void *group)
{
    int h = s->shape.h;

    for (int t = 0; t < slide_rows(s); t++)
        pair_rows(s, group, t, t - 2 * s->rh - 1, plain_y_row(s, group, h + t));
    for (int t = 0; t < h; t++)
        pair_rows(s, group, t, t + 1, plain_y_row(s, group, t));
}

INLINE struct terms fill_terms(const struct els_sweep *s, const void *query, const void *group,
                               int t, int both, int dy)
{
    return (struct terms){
        .x = {{x_row(s, query, both ? 0 : 2, t)}},
        .y = {fill_row(s, group, t + dy) + BLOCK * s->shape.c * LANES},
    };
}

INLINE struct terms slide_terms(const struct els_sweep *s, const void *query, const void *group,
                                int i, int is_first, int dy)
{
    int enters = i + s->rh;

    return (struct terms){
        .x = {{x_row(s, query, is_first ? 2 : 1, enters)}},
        .y = {slide_row(s, group, enters + dy) + BLOCK * s->shape.c * LANES},
    };
}

#endif
