/*
 * A pair of the integer sweep holds one number: x to 23 bits as (high, low), y as (u8·2^8, u8).
 * Two products slide a column sum by one row, one for the row that enters and one for the row
 * that leaves. Where that is too coarse (low noise with a large P) there are two planes. See
 * "Numbers" in kernel/sweep.h; included by kernel/prepare.h.
 */
#ifndef ELS_KERNEL_PAIR_BITS_H
#define ELS_KERNEL_PAIR_BITS_H

enum {
    TERMS = 2,
    ARRAYS = 4, /* of x: per plane, rows that enter and rows that leave */
    HAS_WINDOWS = 0,
    MOST_PLANES = 2,
    PAIR_BITS = 8,    /* of x, in the second number of a pair; y·2^8 still fits int16 */
    MAX_HIGH = 32700, /* |x >> bits| */
};

/*
 * The largest standard error of the difference of two logits, in nats, that one plane may cause;
 * above it, two are used. A logit is off by ⟨e, y⟩·a/β, e the rounding error of x: uniform, δ/√12
 * per value.
 */
#define ONE_PLANE_ERROR 4e-5

/* The unit of x where sums count 2^−fine log2 units. */
static double delta_of(double per_one, int fine)
{
    return per_one > 0 ? ldexp(M_LN2, -fine) / per_one : 0;
}

/* The largest |⟨x, y⟩|·β/a of any column of any window: it bounds the column sums. */
static double largest_column(const struct els_sweep *s, const float *x)
{
    int h = s->shape.h, w = s->shape.w;
    double most = 0;

    for (int i = 0; i < h; i++)
        for (int j = 0; j < w; j++) {
            double sum = 0;

            for (int t = i - s->rh; t <= i + s->rh; t++) {
                int row = els_position(s, t, h);

                for (int c = 0; row >= 0 && c < s->shape.c; c++)
                    sum += fabs((double)x[(c * h + row) * w + j]);
            }
            most = fmax(most, sum);
        }
    return most;
}

static int min_of(int a, int b)
{
    return a < b ? a : b;
}

static void choose_units(const struct els_sweep *s, const float *x, struct query_header *head)
{
    double per_one = nats_per_product(s), largest = els_largest(s, x), range = range_of(s, x);
    int fine = min_of(els_choose_fraction(largest * per_one, MAX_HIGH << PAIR_BITS, 31),
                      els_choose_fraction(largest_column(s, x) * per_one * 128, 0x1.fp30, 31));

    head->planes = 1;
    head->bits = PAIR_BITS;
    head->fraction = min_of(els_choose_fraction(range, 0x1.fp30, 23), fine);
    if (els_logit_error(s, delta_of(per_one, fine)) > ONE_PLANE_ERROR) {
        head->planes = 2;
        head->bits = 15;
        while (((int64_t)els_window_values(s) << (head->bits + 8)) >= 1 << 29)
            head->bits--;
        head->fraction =
            min_of(els_choose_fraction(largest * per_one, ldexp(MAX_HIGH, head->bits), 22),
                   els_choose_fraction(range, ldexp(0x1.fp30, head->bits), 22));
        fine = head->fraction + 15 - head->bits;
    }
    head->shift = fine - head->fraction;
    set_units(s, per_one, ldexp(M_LN2, -head->fraction), ldexp(M_LN2, -fine), head);
}

/* D as the bits of E·2^23, see weight_of(). */
INLINE vi weight_bits(const struct query_header *head, vi d)
{
    return v_shift_left(d, v_set_int(23 - head->fraction));
}

static int accepts(const struct els_sweep *s, const float *x)
{
    (void)x;
    return accepts_sizes(s);
}

static size_t query_bytes(const struct els_sweep *s)
{
    return plan_bytes(s) + ARRAYS * sizes_of(s).x_values * sizeof(int32_t);
}

/* x/δ at row t and a column, either of which may lie outside. */
static int64_t x_value(const struct els_sweep *s, const float *x, double per_one, int c, int t,
                       int column)
{
    int row = x_position(s, t), col = els_position(s, column, s->shape.w);

    return row < 0 || col < 0
               ? 0
               : llrint((double)x[(c * s->shape.h + row) * s->shape.w + col] * per_one);
}

/*
 * The pairs of plane p for x = high·2^bits + low, or high·2^(bits + shift) + low; y's pair is
 * (y·2^8, y).
 */
static int32_t x_pair(const struct query_header *head, int p, int64_t x, int sign)
{
    int bits = head->bits + (head->planes == 1 ? 0 : head->shift);
    int64_t high = x >> bits, low = x - high * ((int64_t)1 << bits);

    if (head->planes == 1)
        return pack(sign * high, sign * low);
    return pack(0, sign * (p == 0 ? high : low));
}

static void prepare_query(const struct els_sweep *s, const float *x, void *query)
{
    struct query_header *head = query;
    int32_t *out = query_pairs(s, query);

    choose_units(s, x, head);
    plan_query(s, x, query);
    for (int p = 0; p < head->planes; p++)
        for (int sign = 1; sign >= -1; sign -= 2)
            for (int t = -s->rh; t <= s->shape.h + s->rh; t++)
                for (int j = -s->rw - 1; j < s->shape.w + s->rw; j++)
                    for (int c = 0; c < s->shape.c; c++)
                        *out++ = x_pair(head, p, x_value(s, x, head->per_one, c, t, j), sign);
}

static size_t y_rows(const struct els_sweep *s)
{
    return (size_t)s->shape.h;
}

/* Row t; outside, x is zero, and any row will do. */
static const int32_t *y_row(const struct els_sweep *s, const void *group, int t)
{
    int row = els_position(s, t, s->shape.h);

    return (const int32_t *)group + (size_t)(row < 0 ? 0 : row) * y_row_values(s);
}

static int32_t *plain_y_row(const struct els_sweep *s, void *group, int k)
{
    return (int32_t *)group + (size_t)k * y_row_values(s);
}

INLINE vi y_pair(vi v)
{
    vi first = v_and(v_shift_left(v, v_set_int(PAIR_BITS)), v_set_int(0xffff));

    return v_or(first, v_shift_left(v, v_set_int(16)));
}

static void pair_y_rows(const struct els_sweep *s, void *group)
{
    (void)s;
    (void)group;
}

INLINE struct terms fill_terms(const struct els_sweep *s, const void *query, const void *group,
                               int t, int both, int dy)
{
    const struct query_header *head = query;
    struct terms of;

    for (int p = 0; p < head->planes; p++) {
        of.x[p][0] = x_row(s, query, 2 * p, t);
        of.x[p][1] = x_row(s, query, 2 * p, both ? t + 1 : s->shape.h + s->rh);
    }
    of.y[0] = y_row(s, group, t + dy) + BLOCK * s->shape.c * LANES;
    of.y[1] = y_row(s, group, t + both + dy) + BLOCK * s->shape.c * LANES;
    return of;
}

INLINE struct terms slide_terms(const struct els_sweep *s, const void *query, const void *group,
                                int i, int is_first, int dy)
{
    const struct query_header *head = query;
    int enters = i + s->rh, leaves = i - s->rh - 1;
    struct terms of;

    for (int p = 0; p < head->planes; p++) {
        of.x[p][0] = x_row(s, query, 2 * p, enters);
        of.x[p][1] = x_row(s, query, 2 * p + 1, is_first ? s->shape.h + s->rh : leaves);
    }
    of.y[0] = y_row(s, group, enters + dy) + BLOCK * s->shape.c * LANES;
    of.y[1] = y_row(s, group, is_first ? i + dy : leaves + dy) + BLOCK * s->shape.c * LANES;
    return of;
}

#endif
