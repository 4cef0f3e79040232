/*
 * scan_loops: the inner loops of a scan, for vectors of WIDTH values. Included by scan_loops.c,
 * scan_loops_avx2.c and scan_loops_avx512.c, which define WIDTH, TARGET (what functions need to be
 * compiled for the CPU) and LOOPS, the name of the table.
 *
 * Each lane belongs to one bank image, so a step of every loop does the same to all eight, WIDTH of
 * them at a time. No sum crosses lanes, and products are not contracted into sums
 * (-ffp-contract=off): every width gives the same bytes. Vectors are the compiler's own
 * (vector_size), with C's operators.
 */
#include <string.h>

#include "core/scan/scan_internal.h"

#define INLINE TARGET static inline __attribute__((always_inline))
#define EACH_VECTOR for (int first = 0; first < ELS_SCAN_LANES; first += WIDTH)

enum { LANES = ELS_SCAN_LANES };

/* Also where it is made of float64 values one by one. */
typedef double vector __attribute__((vector_size(WIDTH * 8), may_alias));
typedef int64_t mask __attribute__((vector_size(WIDTH * 8), may_alias));

/* Lanes first … first+WIDTH−1 of entry b. */
INLINE vector *at(double *p, int b, int first)
{
    return (vector *)(p + (ptrdiff_t)b * LANES + first);
}

INLINE vector get(const double *p, int b, int first)
{
    return *(const vector *)(p + (ptrdiff_t)b * LANES + first);
}

INLINE int any(mask m)
{
    int64_t sum = 0;

    for (int i = 0; i < WIDTH; i++)
        sum |= m[i];
    return sum != 0;
}

/* Column b of the row enters the column sums, in place of the row that leaves; returns the sum. */
INLINE vector enter(const struct els_scan_row *row, int channels, int b, int first)
{
    vector *column = at(row->column, b, first), *square = at(row->square, b, first);
    vector d = row->x[b] - get(row->y, b, first), sum = d * d;

    for (int c = 1; c < channels; c++) {
        d = row->x[(size_t)c * row->plane + (size_t)b] -
            get(row->y + (size_t)c * row->plane * LANES, b, first);
        sum += d * d;
    }
    *column += sum - *square;
    *square = sum;
    return *column;
}

INLINE void enter_row(const struct els_scan_row *row, int channels)
{
    EACH_VECTOR
    for (int b = 0; b < row->count + row->width - 1; b++)
        enter(row, channels, b, first);
}

INLINE int slide_row(const struct els_scan_row *row, int channels)
{
    int ahead = row->width - 1, found = 0;

    EACH_VECTOR
    {
        vector sum = {0};
        mask hit = {0}, near = {0};

        for (int b = 0; b < ahead; b++)
            sum += enter(row, channels, b, first);
        for (int b = 0; b < row->count; b++) {
            vector d;

            sum += enter(row, channels, b + ahead, first);
            d = sum + get(row->apart, b, first);
            *at(row->distance, b, first) = d;
            hit |= d < row->limit[b];
            near |= d < row->near[b];
            sum -= get(row->column, b, first);
        }
        found |= (any(hit) ? ELS_SCAN_HIT : 0) | (any(near) ? ELS_SCAN_NEAR : 0);
    }
    return found;
}

/* Loops over a constant number of channels are unrolled. */
TARGET static void enter_any(const struct els_scan_row *row)
{
    if (row->channels == 1)
        enter_row(row, 1);
    else if (row->channels == 3)
        enter_row(row, 3);
    else
        enter_row(row, row->channels);
}

TARGET static int slide_any(const struct els_scan_row *row)
{
    if (row->channels == 1)
        return slide_row(row, 1);
    if (row->channels == 3)
        return slide_row(row, 3);
    return slide_row(row, row->channels);
}

TARGET static int any_below(const double *distance, const double *least, int n)
{
    int found = 0;

    EACH_VECTOR
    {
        mask below = {0};

        for (int b = 0; b < n; b++)
            below |= get(distance, b, first) < least[b];
        found |= any(below);
    }
    return found;
}

INLINE vector less_of(vector a, vector b)
{
    mask first = a < b;

    return (vector)((first & (mask)a) | (~first & (mask)b));
}

/* e^z for −700 ≤ z ≤ 0, as 2^k·e^r with |r| ≤ ln2/2; nine terms of e^r leave 7e-12. */
INLINE vector exp_of(vector z)
{
    static const double MAGIC = 0x1.8p52, LOG2E = 0x1.71547652b82fep0, LN2 = 0x1.62e42fefa39efp-1;
    vector shifted = z * LOG2E + MAGIC, r = z - (shifted - MAGIC) * LN2, e;

    e = r * (1.0 / 362880) + 1.0 / 40320;
    e = e * r + 1.0 / 5040;
    e = e * r + 1.0 / 720;
    e = e * r + 1.0 / 120;
    e = e * r + 1.0 / 24;
    e = e * r + 1.0 / 6;
    e = e * r + 0.5;
    e = e * r + 1.0;
    e = e * r + 1.0;
    /* The low bits of `shifted` hold k: moved into the exponent field, they make 2^k of 1. */
    return e * (vector)(((mask)shifted << 52) + 0x3ff0000000000000);
}

TARGET static void add_weights(double *s, double *u, const double *least, const double *near,
                               const double *distance, int n, double inverse)
{
    EACH_VECTOR
    for (int b = 0; b < n; b++) {
        vector none = {0}, *to_s = at(s, b, first), *to_u = at(u, b, first);
        /* Far ones count as if they were where the near ones end: as good as nothing. */
        vector z = (least[b] - less_of(get(distance, b, first), none + near[b])) * inverse;
        vector weight = exp_of(z);

        *to_s += weight;
        *to_u += weight * z;
    }
}

TARGET static int add_translates(double *distance, const double *x, const double *y, int n,
                                 double bound)
{
    int found = 0;

    EACH_VECTOR
    {
        vector sum[ELS_SCAN_ABREAST];
        mask below = {0};

        for (int t = 0; t < ELS_SCAN_ABREAST; t++)
            sum[t] = get(distance, t, first);
        for (int j = 0; j < n; j++) {
#pragma GCC unroll 4
            for (int t = 0; t < ELS_SCAN_ABREAST; t++) {
                vector d = x[j] - get(y, j + t, first);

                sum[t] += d * d;
            }
        }
        for (int t = 0; t < ELS_SCAN_ABREAST; t++) {
            *at(distance, t, first) = sum[t];
            below |= sum[t] < bound;
        }
        found |= any(below);
    }
    return found;
}

const struct els_scan_loops LOOPS = {
    .enter = enter_any,
    .slide = slide_any,
    .any_below = any_below,
    .add_weights = add_weights,
    .add_translates = add_translates,
};
