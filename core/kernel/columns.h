/*
 * Window sums from column sums, where a pair holds one number (kernel/pair_bits.h). From one row of
 * queries to the next every column sum gains the row that enters and loses the one that leaves; a
 * window runs along them:
 *
 *            j−r       j       j+r              column sums
 *      d=0    □  □  □  ▣  □  □  ▣ ← enters        S[j][d] += x(t,j)·y(t+dy, j+dx+d)    row t
 *      d=1    □  □  □  ▣  □  □  ▣                 S[j][d] −= the same, P rows above
 *       ⋮                                       window sums, running along j
 *             ↑ leaves R                          R[d] = Σ S[j−r … j+r][d]
 *
 * Column sums fit int32. They are finer than D: shifted right by `shift` bits they are summed to R.
 * Each plane has its own.
 */
#ifndef ELS_KERNEL_COLUMNS_H
#define ELS_KERNEL_COLUMNS_H

#include "core/kernel/block.h"

/* The column sums j … j+width−1 move on by one row, in memory and in S. */
INLINE void slide_columns(const struct block *of, const struct row *r, struct kind v, int width,
                          int j, vi (*S)[BLOCK][2])
{
    for (int p = 0; p < v.planes; p++) {
        const int32_t *column =
            anchored(of->column + ((ptrdiff_t)j * v.planes + p) * (v.n * LANES));

        UNROLL
        for (int b = 0; b < width; b++) {
            UNROLL
            for (int k = 0; k < v.n; k++)
                S[b][k][p] = v_load(column + (b * v.planes * v.n + k) * LANES);
        }
        add_terms(&r->in, v, p, width, j, S);
        store_columns(of->column, v, p, width, j, S);
    }
}

/* The last plane is finer than D. */
INLINE vi in_units(int p, int planes, vi S, vi shift)
{
    return p + 1 == planes ? v_shift_right(S, shift) : S;
}

/* R += the column sums S, which enter the window. */
INLINE void enter(int n, int planes, vi shift, vi (*R)[2], vi (*S)[2])
{
    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int k = 0; k < n; k++)
            R[k][p] = v_add_int(R[k][p], in_units(p, planes, S[k][p], shift));
    }
}

/* R −= the column sums at padded column j, which leave the window. */
INLINE void leave(int n, int planes, vi shift, const int32_t *column, int j, vi (*R)[2])
{
    column = anchored(column + (ptrdiff_t)j * (n * planes * LANES));
    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int k = 0; k < n; k++) {
            vi S = v_load(column + (p * n + k) * LANES);

            R[k][p] = v_sub(R[k][p], in_units(p, planes, S, shift));
        }
    }
}

/* The first window of a row but for its last column: columns j … j + 2r − 1, slid on and summed. */
INLINE void first_window(const struct block *of, const struct row *r, struct kind v, int j,
                         vi (*R)[2])
{
    int width = columns_together(v.n, v.planes), end = j + of->reach;
    vi S[COLUMNS][BLOCK][2], shift = v_set_int(of->head->shift);

    UNROLL
    for (int k = 0; k < v.n; k++)
        for (int p = 0; p < v.planes; p++)
            R[k][p] = v_set_int(0);
    for (; j + width <= end; j += width) {
        slide_columns(of, r, v, width, j, S);
        UNROLL
        for (int b = 0; b < width; b++)
            enter(v.n, v.planes, shift, R, S[b]);
    }
    for (; j < end; j++) {
        slide_columns(of, r, v, 1, j, S);
        enter(v.n, v.planes, shift, R, S[0]);
    }
}

/* The window sums of the queries j … j+width−1; R: of query j but for its last column. */
INLINE void next_windows(const struct block *of, const struct row *r, struct kind v,
                         enum shape shape, int width, int j, vi (*R)[2], vi (*windows)[BLOCK][2])
{
    vi S[COLUMNS][BLOCK][2], shift = v_set_int(of->head->shift);

    (void)shape;
    slide_columns(of, r, v, width, j + of->reach, S);
    UNROLL
    for (int b = 0; b < width; b++) {
        enter(v.n, v.planes, shift, R, S[b]);
        for (int p = 0; p < v.planes; p++) {
            UNROLL
            for (int k = 0; k < v.n; k++)
                windows[b][k][p] = R[k][p];
        }
        leave(v.n, v.planes, shift, of->column, j + b, R);
    }
}

/* The window sums of query j, whose column sums have been slid on. */
static void window_of(const struct block *of, int planes, int j, vi (*R)[2])
{
    vi shift = v_set_int(of->head->shift);

    for (int k = 0; k < of->n; k++)
        for (int p = 0; p < planes; p++) {
            R[k][p] = v_set_int(0);
            for (int b = j; b <= j + of->reach; b++) {
                vi S = v_load(of->column + ((b * planes + p) * of->n + k) * LANES);

                R[k][p] = v_add_int(R[k][p], in_units(p, planes, S, shift));
            }
        }
}

/* Column sums are all that a row begins with. */
INLINE void fill_windows(const struct block *b, int n)
{
    (void)b;
    (void)n;
}

#endif
