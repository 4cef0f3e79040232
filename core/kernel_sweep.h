/*
 * The integer sweep for ls, els and bbels over u8 banks, written once for all SIMD kernels. A kernel file defines
 * the vector operations (vi: LANES int32, vf: LANES float) and includes this one.
 *
 * Numbers. A bank pixel is y = (u8 + ½)/127.5 with u8 = u − 128 in int16. The noisy image is x = δ·xi, xi an integer: one
 * int16 plane, or two (x = δ·(hi + lo/2^b)) when one would be too coarse, see choose_planes(). Then
 *
 *     ⟨x, y⟩ = δ/127.5·⟨xi, u8⟩ + (½ per value, constant for a query: it cancels in the softmax)
 *
 * is an exact integer sum: it never drifts, and its order does not matter. The bias is rounded to
 * the same units, and the reference logit is kept in them, so that the difference is taken before anything is float.
 *
 * One block: 8 neighbouring displacements dx … dx+7 (4 with two planes, so that all fits into
 * registers) of one run of rows. LANES images lie side by side, so
 * every box below is a vector:
 *
 *              j−r       j       j+r                 column sums  S[j][d] += x(t,j)·y(t+dy, j+dx+d)      row t enters
 *        d=0    □  □  □  ▣  □  □  ▣ ← new                          −= the same, P rows above     leaves
 *        d=1    □  □  □  ▣  □  □  ▣        (one dot-product instruction does both: pairs of int16)
 *         ⋮                                            window sums  R[d]  = Σ S[j−r … j+r][d]    a running sum along j
 *        d=7    □  □  □  ▣  □  □  ▣
 *               ↑ old leaves R             logits       l[d]  = gain·(R[d] − bias(k, j+dx+d) − reference(i,j))
 *
 * The query (i, j) is the same for all 8 boxes of a column: its sums are loaded and stored once per block. Eight
 * logits that are all below the cut are skipped together.
 *
 * Layout, L = LANES:
 *   query  header; then per plane two arrays of int32 [H + 2rh][C][W + 2rw]: pairs (x(t), x(t − P)) for rows t = −rh … H + rh − 1,
 *          and pairs (x(t), 0) for the rows that start a run (nothing has to leave yet)
 *   group  y pairs int32 [H + 2rh][C][W + 2rw + 2·8][L]: (u8(t), −u8(t − P)); 8 columns of margin each side, since the last
 *          block of displacements may reach beyond the image
 *          centres float [H][C][W][L]: u − 127.5;  squares int32 [H][W][L]: Σ_Ω (2u − 255)²
 *   work   column sums int32 [W + 2rw][8][planes][L];  biases int32 [H][W][2][L]
 */
#ifndef ELS_KERNEL_SWEEP_H
#define ELS_KERNEL_SWEEP_H

#include <math.h>
#include <string.h>

#include "kernel.h"
#include "kernel_prepare.h"

/* Loops over a block must be unrolled: only then do its vectors stay in registers. */
#define UNROLL _Pragma("GCC unroll 8")

/* ---- the softmax ---- */

/* What the emission of one block needs to know; pointers stand at the first query and source of a row. */
struct emission {
    const struct els_sweep *s;
    const struct query_header *head;
    const int32_t *bias; /* of source row k */
    const float *centre; /* of source row k: [C][W][L] */
    double *m;           /* of query row i */
    int32_t *reference;
    float *sum;
    float headroom, cut; /* log2 units */
};

/* Logits relative to the reference, in log2 units. */
static inline __attribute__((always_inline)) vf
logit_of(const struct emission *e, int planes, const vi *R, const int32_t *bias, vi high, vi low)
{
    vf l = v_to_float(v_sub(v_sub(R[0], v_load(bias)), high));

    l = v_mul(l, v_set(e->head->gain[0]));
    if (planes == 2)
        l = v_fma(v_to_float(v_sub(v_sub(R[1], v_load(bias + LANES)), low)),
                  v_set(e->head->gain[1]), l);
    return l;
}

/*
 * Raises the reference of query j to the largest of the logits at hand and rescales its sums. Rare: about ten
 * times per query and step.
 */
static __attribute__((noinline)) void raise(const struct emission *e, int planes, int j, int l0,
                                            int from, int to, vi (*R)[2])
{
    const int32_t *old = e->reference + 2 * j;
    int32_t best[2] = {old[0], old[1]};
    double top = 0, unit = e->head->unit, coarse = unit * (1 << e->head->low_bits);
    float keep, *sum = e->sum + (size_t)j * (size_t)e->s->slots * LANES;
    float *u = sum + (e->s->slots - 1) * LANES;

    for (int d = from; d < to; d++) {
        const int32_t *bias = e->bias + (size_t)(l0 + d) * 2 * LANES;
        int32_t high[LANES], low[LANES] = {0};

        v_store(high, v_sub(R[d][0], v_load(bias)));
        if (planes == 2)
            v_store(low, v_sub(R[d][1], v_load(bias + LANES)));
        for (int l = 0; l < LANES; l++) {
            double rel = ((double)high[l] - old[0]) * coarse + ((double)low[l] - old[1]) * unit;

            if (rel > top) {
                top = rel;
                best[0] = high[l];
                best[1] = low[l];
            }
        }
    }
    keep = (float)exp(-top);
    for (int l = 0; e->s->entropy && l < LANES; l++)
        u[l] -= (float)top * sum[l];
    for (int k = 0; k < e->s->slots * LANES; k++)
        sum[k] *= keep;
    e->reference[2 * j] = best[0];
    e->reference[2 * j + 1] = best[1];
    e->m[j] = (double)best[0] * coarse + (double)best[1] * unit;
}

/* The logits of query j with sources l0 + from … l0 + to − 1: into its sums. */
INLINE void emit(const struct emission *e, int planes,
                                                       int channels, int j, int l0, int from,
                                                       int to, vi (*R)[2])
{
    const int32_t *bias = e->bias + (ptrdiff_t)l0 * 2 * LANES;
    const float *centre = e->centre + (ptrdiff_t)l0 * LANES;
    int plane = e->s->shape.w * LANES;
    float *sum = e->sum + (size_t)j * (size_t)e->s->slots * LANES;
    vi high = v_set_int(e->reference[2 * j]), low = v_set_int(e->reference[2 * j + 1]);
    vf l[BLOCK], top = v_set(-INFINITY), total, mean[ELS_MAX_CHANNELS];

    UNROLL
    for (int d = from; d < to; d++) {
        l[d] = logit_of(e, planes, R[d], bias + d * 2 * LANES, high, low);
        top = v_max(top, l[d]);
    }
    if (!v_any_above(top, e->cut))
        return;
    if (v_any_above(top, e->headroom)) {
        vi copy[BLOCK][2]; /* so that R itself can stay in registers */

        for (int p = 0; p < planes; p++) {
            UNROLL
            for (int d = from; d < to; d++)
                copy[d][p] = R[d][p];
        }
        raise(e, planes, j, l0, from, to, copy);
        high = v_set_int(e->reference[2 * j]);
        low = v_set_int(e->reference[2 * j + 1]);
        UNROLL
        for (int d = from; d < to; d++)
            l[d] = logit_of(e, planes, R[d], bias + d * 2 * LANES, high, low);
    }
    total = v_load_float(sum);
    for (int c = 0; c < channels; c++)
        mean[c] = v_load_float(sum + (1 + c) * LANES);
    UNROLL
    for (int d = from; d < to; d++) {
        vf weight = v_exp2(l[d]);

        total = v_add(total, weight);
        for (int c = 0; c < channels; c++)
            mean[c] = v_fma(weight, v_load_float(centre + c * plane + d * LANES), mean[c]);
    }
    v_store_float(sum, total);
    for (int c = 0; c < channels; c++)
        v_store_float(sum + (1 + c) * LANES, mean[c]);
    if (e->s->entropy) {
        vf u = v_load_float(sum + (e->s->slots - 1) * LANES);

        UNROLL
        for (int d = from; d < to; d++)
            u = v_fma(v_mul(v_exp2(l[d]), l[d]), v_set((float)M_LN2), u);
        v_store_float(sum + (e->s->slots - 1) * LANES, u);
    }
}

/* ---- the sweep ---- */

/* Which queries of a block take all displacements dx … dx+n−1, and which only some: [from[j], to[j]). */
struct block {
    int dx;
    int first, last; /* queries j with any displacement: first … last − 1 */
    int8_t from[ELS_MAX_SIDE], to[ELS_MAX_SIDE];
};

/* False when no query takes any of the n displacements. */
static int plan_block(const struct els_sweep *s, int dx, int n, struct block *b)
{
    b->dx = dx;
    b->first = s->shape.w;
    b->last = 0;
    for (int j = 0; j < s->shape.w; j++) {
        int from, to;

        els_sources_of(s->machine, s->candidates, s->shape.w, s->r, j, &from, &to);
        from = from - j - dx < 0 ? 0 : from - j - dx;
        to = to - j - dx > n ? n : to - j - dx;
        if (from >= to)
            from = to = 0;
        b->from[j] = (int8_t)from;
        b->to[j] = (int8_t)to;
        if (from < to) {
            b->first = j < b->first ? j : b->first;
            b->last = j + 1;
        }
    }
    return b->first < b->last;
}

/* Row pointers of one slide: x pairs per plane and the y pairs, all at channel 0. */
struct row {
    const int32_t *x[2];
    const int32_t *y;
    int x_step, y_step; /* from channel to channel */
};

/* Row t of the image pair enters the column sums (and row t − P leaves, unless `fresh`). */
static struct row row_at(const struct els_sweep *s, const void *query, const void *group, int t,
                         int dy, int dx, int fresh)
{
    struct sizes z = sizes_of(s);
    const int32_t *x = (const int32_t *)((const char *)query + 64) + (fresh ? z.x_values : 0);
    size_t x_row = (size_t)(t + s->rh) * (size_t)s->shape.c * (size_t)z.columns;
    size_t y_row = (size_t)(t + dy + s->rh) * (size_t)s->shape.c * (size_t)z.y_columns;

    return (struct row){
        .x = {x + x_row, x + 2 * z.x_values + x_row},
        .y = (const int32_t *)group + (y_row + (size_t)(BLOCK + dx)) * LANES,
        .x_step = z.columns,
        .y_step = z.y_columns * LANES,
    };
}

/* Adds one row of products at padded column j to S[j][0 … n−1], and hands them to `out` as well. */
INLINE void slide(const struct row *row, int n, int planes, int channels, int j, int32_t *column,
                  vi (*out)[2])
{
    column += j * n * planes * LANES;
    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int d = 0; d < n; d++)
            out[d][p] = v_load(column + (p * n + d) * LANES);
        for (int c = 0; c < channels; c++) {
            vi x = v_set_int(row->x[p][c * row->x_step + j]);
            const int32_t *y = row->y + c * row->y_step + j * LANES;

            UNROLL
            for (int d = 0; d < n; d++)
                out[d][p] = v_dot(out[d][p], x, v_load(y + d * LANES));
        }
        UNROLL
        for (int d = 0; d < n; d++)
            v_store(column + (p * n + d) * LANES, out[d][p]);
    }
}

/* R += the column sums that enter the window. */
INLINE void enter(int n, int planes, vi (*R)[2], vi (*S)[2])
{
    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int d = 0; d < n; d++)
            R[d][p] = v_add_int(R[d][p], S[d][p]);
    }
}

/* R −= the column sums at padded column j, which leave the window. */
INLINE void leave(int n, int planes, int j, const int32_t *column, vi (*R)[2])
{
    column += j * n * planes * LANES;
    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int d = 0; d < n; d++)
            R[d][p] = v_sub(R[d][p], v_load(column + (p * n + d) * LANES));
    }
}

/* The same as emit where only some displacements are allowed; the copy keeps R in registers elsewhere. */
INLINE void emit_some(const struct emission *e, int n, int planes, int channels, int j,
                      const struct block *b, vi (*R)[2])
{
    vi copy[BLOCK][2];

    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int d = 0; d < n; d++)
            copy[d][p] = R[d][p];
    }
    emit(e, planes, channels, j, j + b->dx, b->from[j], b->to[j], copy);
}

/* Slides the columns to window row i and emits query row i, column by column. */
INLINE void emit_row(const struct emission *e, const struct block *b, const struct row *row, int n,
                     int planes, int channels, int32_t *column)
{
    int before = 2 * e->s->rw; /* columns that fill the first window */
    vi R[BLOCK][2], S[BLOCK][2];

    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int d = 0; d < n; d++)
            R[d][p] = v_set_int(0);
    }
    for (int j = b->first; j < b->first + before; j++) {
        slide(row, n, planes, channels, j, column, S);
        enter(n, planes, R, S);
    }
    for (int j = b->first; j < b->last; j++) {
        slide(row, n, planes, channels, j + before, column, S);
        enter(n, planes, R, S);
        if (b->to[j] - b->from[j] == n)
            emit(e, planes, channels, j, j + b->dx, 0, n, R);
        else
            emit_some(e, n, planes, channels, j, b, R);
        leave(n, planes, j, column, R);
    }
}

/* One run of rows, n displacements of columns; n, planes and channels are constants once inlined. */
INLINE void sweep_block(const struct els_sweep *s, const struct block *b, const struct els_run *rows,
                        int n, int planes, int channels, const void *query, const void *group,
                        void *work, struct els_lanes *lanes)
{
    struct sizes z = sizes_of(s);
    int dy = rows->source - rows->query, last = b->last + 2 * s->rw;
    struct emission e = {
        .s = s,
        .head = query,
        .headroom = (float)(ELS_HEADROOM * M_LOG2E),
        .cut = (float)(-s->cut * M_LOG2E),
    };
    int32_t *column = work;

    memset(column + b->first * n * planes * LANES, 0,
           (size_t)((last - b->first) * n * planes * LANES) * sizeof(*column));
    for (int t = rows->query - s->rh; t < rows->query + rows->count + s->rh; t++) {
        int i = t - s->rh;
        struct row row = row_at(s, query, group, t, dy, b->dx, i <= rows->query);
        size_t at = (size_t)(i - s->band_from) * (size_t)s->shape.w;

        if (i < rows->query) {
            vi S[BLOCK][2];

            for (int j = b->first; j < last; j++)
                slide(&row, n, planes, channels, j, column, S);
            continue;
        }
        e.bias = (const int32_t *)((const char *)work + column_bytes(s)) +
                 (size_t)(i + dy) * (size_t)s->shape.w * 2 * LANES;
        e.centre = (const float *)((const char *)group + z.y_bytes) +
                   (size_t)(i + dy) * (size_t)(s->shape.c * s->shape.w) * LANES;
        e.m = lanes->m + at;
        e.reference = lanes->reference + 2 * at;
        e.sum = lanes->sum + at * (size_t)s->slots * LANES;
        emit_row(&e, b, &row, n, planes, channels, column);
    }
}

/* The block's width and the number of planes and of channels become constants here. */
static void sweep_windows(const struct els_sweep *s, const struct els_run *rows, const void *query,
                          const void *group, void *work, struct els_lanes *lanes)
{
    const struct query_header *head = query;
    int first = s->cols.run[0].source - s->cols.run[0].query;
    int last = s->cols.run[s->cols.count - 1].source - s->cols.run[s->cols.count - 1].query;
    int n = head->planes == 1 ? BLOCK : BLOCK / 2, c = s->shape.c;
    struct block b;

    for (int dx = first; dx <= last; dx += n) {
        if (!plan_block(s, dx, n, &b))
            continue;
        if (head->planes == 1 && c == 1)
            sweep_block(s, &b, rows, BLOCK, 1, 1, query, group, work, lanes);
        else if (head->planes == 1 && c == 3)
            sweep_block(s, &b, rows, BLOCK, 1, 3, query, group, work, lanes);
        else if (head->planes == 1)
            sweep_block(s, &b, rows, BLOCK, 1, c, query, group, work, lanes);
        else if (c == 1)
            sweep_block(s, &b, rows, BLOCK / 2, 2, 1, query, group, work, lanes);
        else if (c == 3)
            sweep_block(s, &b, rows, BLOCK / 2, 2, 3, query, group, work, lanes);
        else
            sweep_block(s, &b, rows, BLOCK / 2, 2, c, query, group, work, lanes);
    }
}

#endif
