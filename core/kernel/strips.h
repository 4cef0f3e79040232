/*
 * Window sums from strips, where a pair holds two rows (kernel/pair_rows.h). From one row of
 * queries to the next a window gains a strip, the products of the row that enters less those of the
 * row that leaves, and a pair's product has both. A strip runs along the row:
 *
 *            j−1  j              j+2r   padded columns
 *      d=0    ◁   □  □  □  □  □   ▷     H[d] += in(j+2r, d) + out(j−1, d)     out: of −x
 *       ⋮                               R[j][d] += H[d]
 *
 * Two products per window, and nothing but R is kept in memory. Column sums (kernel/columns.h) take
 * one, but every column of every row is loaded and stored: with the large windows that pairs of
 * rows are for, most of a row's columns only lead up to its first window.
 */
#ifndef ELS_KERNEL_STRIPS_H
#define ELS_KERNEL_STRIPS_H

#include "core/kernel/block.h"

/* From the column sums above the first row, the windows of its queries but for their last row. */
INLINE void fill_windows(const struct block *b, int n)
{
    int first = b->cut->first, last = b->cut->last, reach = b->reach;
    vi R[BLOCK];

    UNROLL
    for (int k = 0; k < n; k++)
        R[k] = v_set_int(0);
    for (int j = first; j < last + reach; j++) {
        UNROLL
        for (int k = 0; k < n; k++)
            R[k] = v_add_int(R[k], v_load(b->column + (j * n + k) * LANES));
        if (j < first + reach)
            continue;
        UNROLL
        for (int k = 0; k < n; k++) {
            int at = ((j - reach) * n + k) * LANES;

            v_store(b->window + at, R[k]);
            R[k] = v_sub(R[k], v_load(b->column + at));
        }
    }
}

INLINE void clear(int n, int width, vi (*S)[BLOCK][2])
{
    UNROLL
    for (int b = 0; b < width; b++) {
        UNROLL
        for (int k = 0; k < n; k++)
            S[b][k][0] = v_set_int(0);
    }
}

/* H: the strip of query j but for its last column, and with one column before its first. */
INLINE void first_window(const struct block *of, const struct row *r, struct kind v, int j,
                         vi (*H)[2])
{
    int width = columns_together(v.n, v.planes), end = j + of->reach;
    vi S[COLUMNS][BLOCK][2];

    clear(v.n, width, S);
    for (j--; j + width <= end; j += width)
        add_terms(&r->in, v, 0, width, j, S);
    for (; j < end; j++)
        add_terms(&r->in, v, 0, 1, j, S);
    UNROLL
    for (int k = 0; k < v.n; k++) {
        H[k][0] = S[0][k][0];
        UNROLL
        for (int b = 1; b < width; b++)
            H[k][0] = v_add_int(H[k][0], S[b][k][0]);
    }
}

/* The window sums of the queries j … j+width−1; H: the strip of the query before them. */
INLINE void next_windows(const struct block *of, const struct row *r, struct kind v,
                         enum shape shape, int width, int j, vi (*H)[2], vi (*windows)[BLOCK][2])
{
    int32_t *window = anchored(of->window + (ptrdiff_t)j * (v.n * LANES));
    const struct terms out = {.x = {{r->in.x[0][0] + of->negated}}, .y = {r->in.y[0]}};
    vi S[COLUMNS][BLOCK][2];

    (void)v.planes;
    clear(v.n, width, S);
    add_terms(&r->in, v, 0, width, j + of->reach, S);
    add_terms(&out, v, 0, width, j - 1, S);
    UNROLL
    for (int b = 0; b < width; b++) {
        UNROLL
        for (int k = 0; k < v.n; k++) {
            if (shape != FIRST && !takes(shape, v.n, b, k))
                continue; /* nor will a later query: ANY and ONE compute it, but `allow` hides it */
            H[k][0] = v_add_int(H[k][0], S[b][k][0]);
            if (!takes(shape, v.n, b, k))
                continue;
            windows[b][k][0] = v_add_int(H[k][0], v_load(window + (b * v.n + k) * LANES));
            v_store(window + (b * v.n + k) * LANES, windows[b][k][0]);
        }
    }
}

/* The window sums of query j, whose row has been reached. */
static void window_of(const struct block *of, int planes, int j, vi (*R)[2])
{
    (void)planes;
    for (int k = 0; k < of->n; k++)
        R[k][0] = v_load(of->window + (j * of->n + k) * LANES);
}

#endif
