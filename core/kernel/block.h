/*
 * One block of displacements of the integer sweep: what it consists of, how its rows are cut, and
 * the column sums that it begins with. See kernel/sweep.h, which includes it.
 */
#ifndef ELS_KERNEL_BLOCK_H
#define ELS_KERNEL_BLOCK_H

#include "core/kernel/prepare.h"

/* Loops over a block must be unrolled: only then do its vectors stay in registers. */
#define UNROLL _Pragma("GCC unroll 16")

/* What the compiler is to know of a block: displacements, planes, channels, entropy wanted or not. */
struct kind {
    int n, planes, channels, entropy;
};

/*
 * One query row against its source row. Pointers stand at query 0, at its source (the row's left edge
 * for x and y), and at channel 0: in a run, for displacement 0; row_at() moves them to a block's first.
 */
struct row {
    struct terms in;        /* what moves the sums on */
    const int32_t *bias[2]; /* [W][L] */
    const float *centre;    /* [W][C][L] */
    double *m;
    int64_t *floor;
    float *sum;
    int number; /* in its run */
};

/* One run of rows, and what fills the column sums before its first. */
struct run {
    int count, num_fills;
    struct row row[ELS_MAX_SIDE];
    struct terms fill[MAX_ROWS / 2 + 1];
};

/* One block: n neighbouring displacements. */
struct block {
    const struct block *stored; /* itself, where all of it lies in memory */
    const struct els_sweep *s;
    const struct query_header *head;
    const struct run *run;
    int n;
    ptrdiff_t vectors, values; /* from displacement 0 to the block's first: of [L], of [C][L] */
    const struct cut *cut;
    int reach;      /* 2·rw: a window's last column − its first */
    int sums;       /* floats of one query in sum */
    size_t negated; /* from x to −x, see kernel/pair_rows.h */
    /*
     * Column sums [W + 2rw][planes][n][L], and for strips window sums [W][n][L]. What is kept from
     * row to row lies packed with that of others: only from cut->first on it is this block's.
     */
    int32_t *column, *window;
    const int32_t *allow; /* [W][slots]: −1 where query j takes displacement k, else 0 */
    int slots;
};

/*
 * p itself, but the compiler does not see where it comes from. It then addresses what lies around p
 * by constant offsets; else it computes each address on its own, and spills them.
 */
INLINE int32_t *anchored(const int32_t *p)
{
    __asm__("" : "+r"(p));
    return (int32_t *)p;
}

INLINE float *anchored_floats(const float *p)
{
    __asm__("" : "+r"(p));
    return (float *)p;
}

/* ---- one run ---- */

static void plan_run(const struct els_sweep *s, const struct els_run *rows, const void *query,
                     const void *group, const void *work, const struct els_lanes *lanes,
                     struct run *run)
{
    int dy = rows->source - rows->query, c = s->shape.c;
    int from = rows->query - s->rh, to = rows->query + s->rh;

    run->count = rows->count;
    run->num_fills = 0;
    for (int i = rows->query; i < rows->query + rows->count; i++) {
        ptrdiff_t at = (ptrdiff_t)(i - s->band_from) * s->shape.w;
        ptrdiff_t source = (ptrdiff_t)(i + dy) * s->shape.w;

        run->row[i - rows->query] = (struct row){
            .in = slide_terms(s, query, group, i, i == rows->query, dy),
            .bias = {work_biases(s, work, 0) + source * LANES,
                     work_biases(s, work, 1) + source * LANES},
            .centre = group_centres(s, group) + source * c * LANES,
            .m = lanes->m + at,
            .floor = lanes->floor + at,
            .sum = lanes->sum + at * s->slots * LANES,
        };
    }
    if (!s->wraps) {
        from = from < 0 ? 0 : from;
        to = to > s->shape.h ? s->shape.h : to;
    }
    for (int t = from; t < to; t += 2)
        run->fill[run->num_fills++] = fill_terms(s, query, group, t, t + 1 < to, dy);
}

/* ---- column sums ---- */

/* S[0 … width−1][0 … n−1] of plane p move on by one row, or are filled by two: columns j …. */
INLINE void add_terms(const struct terms *in, struct kind v, int p, int width, int j,
                      vi (*S)[BLOCK][2])
{
    for (int c = 0; c < v.channels; c++) {
        UNROLL
        for (int t = 0; t < TERMS; t++) {
            const int32_t *y = anchored(in->y[t] + (ptrdiff_t)j * (v.channels * LANES) + c * LANES);
            const int32_t *x = anchored(in->x[p][t] + (ptrdiff_t)j * v.channels + c);

            UNROLL
            for (int m = 0; m < v.n + width - 1; m++) {
                vi value = v_load(y + m * v.channels * LANES);

                UNROLL
                for (int b = 0; b < width; b++)
                    if (m >= b && m < v.n + b)
                        S[b][m - b][p] = v_dot(S[b][m - b][p], v_set_int(x[b * v.channels]), value);
            }
        }
    }
}

INLINE void store_columns(int32_t *columns, struct kind v, int p, int width, int j,
                          vi (*S)[BLOCK][2])
{
    int32_t *column = anchored(columns + ((ptrdiff_t)j * v.planes + p) * (v.n * LANES));

    UNROLL
    for (int b = 0; b < width; b++) {
        UNROLL
        for (int k = 0; k < v.n; k++)
            v_store(column + (b * v.planes * v.n + k) * LANES, S[b][k][p]);
    }
}

/* Terms that stand at the block's first displacement. */
INLINE struct terms terms_at(const struct block *b, struct terms in)
{
    for (int t = 0; t < TERMS; t++)
        in.y[t] += b->values;
    return in;
}

/* Columns j … j+width−1 from nothing. */
INLINE void fill_some(const struct block *of, struct kind v, int width, int j)
{
    const struct run *run = of->run;
    vi S[COLUMNS][BLOCK][2];

    for (int p = 0; p < v.planes; p++) {
        UNROLL
        for (int b = 0; b < width; b++) {
            UNROLL
            for (int k = 0; k < v.n; k++)
                S[b][k][p] = v_set_int(0);
        }
        for (int t = 0; t < run->num_fills; t++) {
            const struct terms in = terms_at(of, run->fill[t]);

            add_terms(&in, v, p, width, j, S);
        }
        store_columns(of->column, v, p, width, j, S);
    }
}

/*
 * The column sums under the block's queries before the first row of them, and up to width − 1 more,
 * which nobody reads: the block abreast that is filled next lies there.
 */
INLINE void fill_columns(const struct block *b, struct kind v)
{
    int width = columns_together(v.n, v.planes), j = b->cut->first, end = b->cut->last + b->reach;

    for (; j < end; j += width)
        fill_some(b, v, width, j);
}

#endif
