/*
 * The integer sweep for ls, els and bbels over u8 banks, written once for all SIMD kernels. A kernel file defines
 * the vector operations (vi: LANES int32, vf: LANES float) and the width of a block, and includes this one.
 *
 * Numbers. A bank pixel is y = (u8 + ½)/127.5 with u8 = u − 128, and the noisy image is x = xi/per_one with xi of 22
 * bits. Then
 *
 *     l = a/β·⟨x, y⟩ − a²/2β·‖y‖²  =  const·⟨xi, u8⟩ − bias           (the ½ is the same for all candidates of a
 *                                                                      query: it cancels in the softmax)
 *
 * is an exact integer sum, which cannot drift. A multiply-add takes pairs of int16: x's pair is (high, low) with
 * xi = high·2^7 + low, y's pair is (u8·2^7, u8), and one instruction adds xi·u8. Column sums fit int32. Shifted
 * right by `shift` bits they are summed to R, modulo 2^32: only the distance D of a logit from the query's floor has to
 * fit, and choose_units() makes the unit so large that it does. That unit is 2^−k log2 units, so that the softmax
 * needs no conversion: see weight_of(). Where such a unit is too coarse (ONE_PLANE_ERROR: low noise with a large P)
 * there are two planes, D = high·2^bits + low, each with its own column sums.
 *
 * One block: BLOCK neighbouring displacements dx … of one run of rows (half of them with two planes, so that all
 * fits into registers). LANES images lie side by side, so every box below is a vector:
 *
 *              j−r       j       j+r                 column sums  S[j][d] += x(t,j)·y(t+dy, j+dx+d)      row t enters
 *        d=0    □  □  □  ▣  □  □  ▣ ← new                          −= the same, P rows above     leaves
 *        d=1    □  □  □  ▣  □  □  ▣
 *         ⋮                                            window sums  R[d]  = Σ S[j−r … j+r][d]    a running sum along j
 *        d=7    □  □  □  ▣  □  □  ▣
 *               ↑ old leaves R             above the floor  D[d] = R[d] − bias(k, j+dx+d) − floor(i,j)
 *
 * The query (i, j) is the same for all boxes of a column: its sums are loaded and stored once per block. A column whose
 * D are all negative is skipped; else what is negative counts as D = 0, which weighs e^−cut: as good as nothing.
 *
 * Layout, L = LANES:
 *   query  header; per plane, entering and leaving (−x): int32 [H + 2rh + 1][C][W + 2rw], pairs; the last row is zeros
 *   group  pairs int32 [H][C][W + 2rw + 2·BLOCK][L]: a margin each side, since a block may reach beyond the image
 *          centres float [H][C][W][L]: u − 127.5;  squares int32 [H][W][L]: Σ_Ω (2u − 255)²
 *   work   column sums int32 [W + 2rw][planes][BLOCK][L];  biases int32 [planes][H][W][L]
 * About 300 KB for a 32×32×1 image; of it one block touches the 16 KB of column sums and some 4 KB per row, again and
 * again, which stay in the first cache.
 */
#ifndef ELS_KERNEL_SWEEP_H
#define ELS_KERNEL_SWEEP_H

#include "kernel.h"
#include "kernel_prepare.h"

/* Loops over a block must be unrolled: only then do its vectors stay in registers. */
#define UNROLL _Pragma("GCC unroll 8")

/* ---- the softmax ---- */

/* What the emission of one row of one block needs to know; pointers stand at query 0 and source 0 of the row. */
struct emission {
    const struct els_sweep *s;
    const struct query_header *head;
    const int32_t *bias[2]; /* of source row k, [W][L] per plane */
    const float *centre;    /* of source row k: [C][W][L] */
    double *m;              /* of query row i */
    int64_t *floor;
    float *sum;
};

/*
 * D = R − bias − floor, the distance of 16 logits from the floor, in integers. Two planes: high·2^bits + low; the
 * high part is held within ±2^30, which is far outside what counts.
 */
INLINE vi above_floor(const struct emission *e, int planes, const vi *R, ptrdiff_t source,
                      const vi *floor)
{
    vi high = v_sub(v_sub(R[0], v_load(e->bias[0] + source)), floor[0]), low, bound;

    if (planes == 1)
        return high;
    low = v_sub(v_sub(R[1], v_load(e->bias[1] + source)), floor[1]);
    bound = v_set_int(1 << (30 - e->head->bits));
    high = v_max_int(v_min_int(high, bound), v_sub(v_set_int(0), bound));
    return v_add_int(v_shift_left(high, v_set_int(e->head->bits)), low);
}

INLINE void load_floor(const struct emission *e, int planes, int j, vi *floor)
{
    int64_t f = e->floor[j], high = f >> e->head->bits;

    floor[0] = v_set_int((int32_t)(planes == 1 ? f : high));
    floor[1] = v_set_int((int32_t)(f - high * ((int64_t)1 << e->head->bits)));
}

/*
 * 2·2^(D·2^−k) for 0 ≤ D < 64·2^k. Shifted so that its whole part lies in a float's exponent, D + v(f) is the
 * weight's bits, f the fraction and v = 2^f + 1 − f, which lies in (1.9, 2]: a polynomial, within 3e-6 of 2^f.
 */
INLINE vf weight_of(vi d, vi shift)
{
    vi bits = v_shift_left(d, shift);
    vf f = v_mantissa(bits); /* 1 + f */
    vf v = v_set(1.353416792e-2f);

    v = v_fma(v, f, v_set(-2.125211054e-3f));
    v = v_fma(v, f, v_set(1.666133826e-1f));
    v = v_fma(v, f, v_set(-6.879839691e-1f));
    v = v_fma(v, f, v_set(2.509964223f));
    return v_as_float(v_add_int(v_as_int(v), bits));
}

/* Raises the floor of query j so that D = top falls to the reference, and rescales the sums. Rare. */
static __attribute__((noinline, cold)) void raise(const struct emission *e, int j, int64_t top)
{
    int64_t by = top - e->head->cut;
    double nats = (double)by * e->head->unit;
    int slots = e->s->slots;
    float keep = (float)exp(-nats), *sum = e->sum + (size_t)(j * slots) * LANES;
    float *u = sum + (slots - 1) * LANES;

    for (int l = 0; e->s->entropy && l < LANES; l++)
        u[l] -= (float)nats * sum[l];
    for (int k = 0; k < slots * LANES; k++)
        sum[k] *= keep;
    e->floor[j] += by;
    e->m[j] = floor_to_m(e->head, e->floor[j]);
}

INLINE int64_t largest_of(int n, const vi *d)
{
    int32_t lane[LANES], most = 0;
    vi top = d[0];

    for (int k = 1; k < n; k++)
        top = v_max_int(top, d[k]);
    v_store(lane, top);
    for (int l = 0; l < LANES; l++)
        most = lane[l] > most ? lane[l] : most;
    return most;
}

/* Adds n weights to the sums of query j. centre: of the first source; allow: as in emit(). */
INLINE void add_weights(const struct emission *e, int n, int channels, int j, const float *centre,
                        const int32_t *allow, const vi *d)
{
    int plane = e->s->shape.w * LANES;
    float *sum = e->sum + (size_t)j * (size_t)e->s->slots * LANES;
    vi shift = v_set_int(23 - e->head->fraction);
    vf total = v_load_float(sum), mean[ELS_MAX_CHANNELS], weight[BLOCK];

    for (int c = 0; c < channels; c++)
        mean[c] = v_load_float(sum + (1 + c) * LANES);
    UNROLL
    for (int k = 0; k < n; k++) {
        weight[k] = weight_of(d[k], shift);
        if (allow)
            weight[k] = v_as_float(v_and(v_as_int(weight[k]), v_set_int(allow[k])));
        total = v_add(total, weight[k]);
        for (int c = 0; c < channels; c++)
            mean[c] = v_fma(weight[k], v_load_float(centre + c * plane + k * LANES), mean[c]);
    }
    v_store_float(sum, total);
    for (int c = 0; c < channels; c++)
        v_store_float(sum + (1 + c) * LANES, mean[c]);
    if (e->s->entropy) {
        float *u = sum + (e->s->slots - 1) * LANES;
        vf unit = v_set((float)e->head->unit), uv = v_load_float(u);

        UNROLL
        for (int k = 0; k < n; k++)
            uv = v_fma(weight[k], v_fma(v_to_float(d[k]), unit, v_set((float)M_LN2)), uv);
        v_store_float(u, uv);
    }
}

/*
 * The logits of query j with sources l … l + n − 1: into its sums. allow: −1 for those that are candidates, 0 for
 * the others; NULL where all are.
 */
INLINE void emit(const struct emission *e, int n, int planes, int channels, int j, int l,
                 const int32_t *allow, vi (*R)[2])
{
    vi floor[2], d[BLOCK], any;
    int again;

    do {
        load_floor(e, planes, j, floor);
        any = v_set_int(0);
        UNROLL
        for (int k = 0; k < n; k++) {
            d[k] = above_floor(e, planes, R[k], (ptrdiff_t)(l + k) * LANES, floor);
            if (allow)
                d[k] = v_and(d[k], v_set_int(allow[k]));
            d[k] = v_max_int(d[k], v_set_int(0));
            any = v_or(any, d[k]);
        }
        if (!v_any(any, -1))
            return;
        /* The bits at and above 64·2^k. */
        again = v_any(any, ~((1 << (ALIVE_BITS + e->head->fraction)) - 1));
        if (__builtin_expect(again, 0))
            raise(e, j, largest_of(n, d));
    } while (__builtin_expect(again, 0));
    add_weights(e, n, channels, j, e->centre + (ptrdiff_t)l * LANES, allow, d);
}

/* ---- the sweep ---- */

/* n neighbouring displacements of columns, dx … dx + n − 1, and the queries that take any of them. */
struct block {
    int dx, first, last;
    const int16_t *from, *to; /* [W]: query j takes the displacements from[j] … to[j] − 1 */
};

/* False when no query takes any. */
static int plan_block(const struct els_sweep *s, int dx, int n, struct block *b)
{
    b->dx = dx;
    b->first = s->shape.w;
    b->last = 0;
    for (int j = 0; j < s->shape.w; j++)
        if (b->from[j] < dx + n && b->to[j] > dx) {
            b->first = j < b->first ? j : b->first;
            b->last = j + 1;
        }
    return b->first < b->last;
}

static void plan_queries(const struct els_sweep *s, int16_t *from, int16_t *to)
{
    for (int j = 0; j < s->shape.w; j++) {
        int first, end;

        els_sources_of(s->machine, s->candidates, s->shape.w, s->r, j, &first, &end);
        from[j] = (int16_t)(first - j);
        to[j] = (int16_t)(end - j);
    }
}

/* The rows of x and y that enter and leave the column sums; pointers stand at channel 0. */
struct slide {
    const int32_t *x[2][2]; /* [plane][enters, leaves] */
    const int32_t *y[2];
    int x_step, y_step; /* from channel to channel */
};

/* For query row i: row i + r enters and row i − r − 1 leaves, unless i is the run's first. */
static struct slide slide_to(const struct els_sweep *s, const void *query, const void *group, int i,
                             int is_first, int dy, int dx)
{
    int enters = i + s->rh, leaves = i - s->rh - 1, none = s->shape.h + s->rh;
    int columns = s->shape.w + 2 * s->rw;
    struct slide slide = {.x_step = columns, .y_step = (columns + 2 * BLOCK) * LANES};

    for (int p = 0; p < 2; p++) {
        slide.x[p][0] = x_row(s, query, p, 0, enters);
        slide.x[p][1] = x_row(s, query, p, 1, is_first ? none : leaves);
    }
    slide.y[0] = y_row(s, group, enters + dy) + (BLOCK + dx) * LANES;
    slide.y[1] = y_row(s, group, is_first ? i + dy : leaves + dy) + (BLOCK + dx) * LANES;
    return slide;
}

/* S[j][0 … n−1] moves on by one row. */
INLINE void slide_column(const struct slide *slide, int n, int planes, int channels, int j,
                         int32_t *column, vi (*S)[2])
{
    column += j * n * planes * LANES;
    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int k = 0; k < n; k++)
            S[k][p] = v_load(column + (p * n + k) * LANES);
        for (int c = 0; c < channels; c++) {
            vi enters = v_set_int(slide->x[p][0][c * slide->x_step + j]);
            vi leaves = v_set_int(slide->x[p][1][c * slide->x_step + j]);
            const int32_t *y0 = slide->y[0] + c * slide->y_step + j * LANES;
            const int32_t *y1 = slide->y[1] + c * slide->y_step + j * LANES;

            UNROLL
            for (int k = 0; k < n; k++) {
                S[k][p] = v_dot(S[k][p], enters, v_load(y0 + k * LANES));
                S[k][p] = v_dot(S[k][p], leaves, v_load(y1 + k * LANES));
            }
        }
        UNROLL
        for (int k = 0; k < n; k++)
            v_store(column + (p * n + k) * LANES, S[k][p]);
    }
}

/* The column sums before the first query row i: rows i − r … i + r − 1, those inside the image. */
INLINE void fill_columns(const struct els_sweep *s, const struct block *b, int n, int planes,
                         int channels, int i, int dy, const void *query, const void *group,
                         int32_t *column)
{
    int columns = s->shape.w + 2 * s->rw, y_step = (columns + 2 * BLOCK) * LANES;
    int from = i - s->rh, to = i + s->rh;

    if (!s->wraps) {
        from = from < 0 ? 0 : from;
        to = to > s->shape.h ? s->shape.h : to;
    }
    for (int p = 0; p < planes; p++)
        for (int j = b->first; j < b->last + 2 * s->rw; j++) {
            int32_t *out = column + (j * planes + p) * n * LANES;
            vi S[BLOCK];

            UNROLL
            for (int k = 0; k < n; k++)
                S[k] = v_set_int(0);
            for (int t = from; t < to; t++) {
                const int32_t *x = x_row(s, query, p, 0, t) + j;
                const int32_t *y = y_row(s, group, t + dy) + (BLOCK + b->dx + j) * LANES;

                for (int c = 0; c < channels; c++, x += columns, y += y_step) {
                    vi v = v_set_int(*x);

                    UNROLL
                    for (int k = 0; k < n; k++)
                        S[k] = v_dot(S[k], v, v_load(y + k * LANES));
                }
            }
            UNROLL
            for (int k = 0; k < n; k++)
                v_store(out + k * LANES, S[k]);
        }
}

/* R += the column sums S, which enter the window. */
INLINE void enter(int n, int planes, vi shift, vi (*R)[2], vi (*S)[2])
{
    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int k = 0; k < n; k++)
            R[k][p] = v_add_int(R[k][p], p + 1 == planes ? v_shift_right(S[k][p], shift) : S[k][p]);
    }
}

/* R −= the column sums at padded column j, which leave the window. */
INLINE void leave(int n, int planes, vi shift, int j, const int32_t *column, vi (*R)[2])
{
    column += j * n * planes * LANES;
    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int k = 0; k < n; k++) {
            vi S = v_load(column + (p * n + k) * LANES);

            R[k][p] = v_sub(R[k][p], p + 1 == planes ? v_shift_right(S, shift) : S);
        }
    }
}

/* One query row: slides the columns on and emits query by query. */
INLINE void emit_row(const struct emission *e, const struct block *b, const struct slide *slide,
                     int n, int planes, int channels, int32_t *column)
{
    int before = 2 * e->s->rw; /* columns that fill the first window */
    vi R[BLOCK][2], S[BLOCK][2], shift = v_set_int(e->head->shift);

    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int k = 0; k < n; k++)
            R[k][p] = v_set_int(0);
    }
    for (int j = b->first; j < b->first + before; j++) {
        slide_column(slide, n, planes, channels, j, column, S);
        enter(n, planes, shift, R, S);
    }
    for (int j = b->first; j < b->last; j++) {
        int from = b->from[j] - b->dx, to = b->to[j] - b->dx;

        slide_column(slide, n, planes, channels, j + before, column, S);
        enter(n, planes, shift, R, S);
        if (from <= 0 && to >= n) {
            emit(e, n, planes, channels, j, j + b->dx, NULL, R);
        } else if (from < n && to > 0) {
            int32_t allow[BLOCK];

            for (int k = 0; k < n; k++)
                allow[k] = k >= from && k < to ? -1 : 0;
            emit(e, n, planes, channels, j, j + b->dx, allow, R);
        }
        leave(n, planes, shift, j, column, R);
    }
}

/* One run of rows, one block; n, planes and channels are constants once inlined. */
INLINE void sweep_block(const struct els_sweep *s, const struct block *b, const struct els_run *rows,
                        int n, int planes, int channels, const void *query, const void *group,
                        void *work, struct els_lanes *lanes)
{
    int dy = rows->source - rows->query, w = s->shape.w;
    struct emission e = {.s = s, .head = query};
    int32_t *column = work;

    fill_columns(s, b, n, planes, channels, rows->query, dy, query, group, column);
    for (int i = rows->query; i < rows->query + rows->count; i++) {
        struct slide slide = slide_to(s, query, group, i, i == rows->query, dy, b->dx);
        ptrdiff_t to = (ptrdiff_t)(i - s->band_from) * w, from = (ptrdiff_t)(i + dy) * w;

        e.bias[0] = work_biases(s, work, 0) + from * LANES;
        e.bias[1] = work_biases(s, work, 1) + from * LANES;
        e.centre = group_centres(s, group) + from * s->shape.c * LANES;
        e.m = lanes->m + to;
        e.floor = lanes->floor + to;
        e.sum = lanes->sum + to * s->slots * LANES;
        emit_row(&e, b, &slide, n, planes, channels, column);
    }
}

/* The block's width and the numbers of planes and of channels become constants here. */
static void sweep_windows(const struct els_sweep *s, const struct els_run *rows, const void *query,
                          const void *group, void *work, struct els_lanes *lanes)
{
    const struct els_run *runs = s->cols.run;
    const struct query_header *head = query;
    int first = runs[0].source - runs[0].query, c = s->shape.c, n;
    int last = runs[s->cols.count - 1].source - runs[s->cols.count - 1].query;
    int16_t from[ELS_MAX_SIDE], to[ELS_MAX_SIDE];
    struct block b = {.from = from, .to = to};

    plan_queries(s, from, to);
    n = first == last ? 1 : head->planes == 1 ? BLOCK : BLOCK / 2;
    for (int dx = first; dx <= last; dx += n) {
        if (!plan_block(s, dx, n, &b))
            continue;
        if (n == BLOCK && c == 1)
            sweep_block(s, &b, rows, BLOCK, 1, 1, query, group, work, lanes);
        else if (n == BLOCK && c == 3)
            sweep_block(s, &b, rows, BLOCK, 1, 3, query, group, work, lanes);
        else if (n == BLOCK)
            sweep_block(s, &b, rows, BLOCK, 1, c, query, group, work, lanes);
        else if (n == BLOCK / 2)
            sweep_block(s, &b, rows, BLOCK / 2, 2, c, query, group, work, lanes);
        else if (head->planes == 1)
            sweep_block(s, &b, rows, 1, 1, c, query, group, work, lanes);
        else
            sweep_block(s, &b, rows, 1, 2, c, query, group, work, lanes);
    }
}

#endif
