/*
 * The integer sweep for ls, els and bbels over u8 banks, written once for all SIMD kernels. A
 * kernel file defines the vector operations (vi: LANES int32, vf: LANES float) and the width of a
 * block, and includes this one.
 *
 * Numbers. A bank pixel is y = (u8 + ½)/127.5 with u8 = u − 128, and the noisy image is
 * x = xi/per_one with xi of 16 bits (kernel/pair_rows.h), or of 23 (kernel/pair_bits.h). Then
 *
 *     l = a/β·⟨x, y⟩ − a²/2β·‖y‖²  =  const·⟨xi, u8⟩ − bias
 *
 * is an exact integer sum, which cannot drift. (The ½ is the same for all candidates of a query:
 * it cancels in the softmax.) A multiply-add takes pairs of int16. Where 16 bits are enough, a pair
 * holds the row that enters a window and the one that leaves it. Elsewhere it holds one number: x's
 * pair is (high, low) with xi = high·2^8 + low, y's is (u8·2^8, u8), and one instruction adds xi·u8.
 * Windows are summed to R modulo 2^32: only the distance D of a logit from the query's floor has to
 * fit, and choose_units() makes the unit so large that it does. From that unit it is one
 * instruction to what the softmax needs: see weight_bits(). Where one number is too coarse
 * (ONE_PLANE_ERROR: low noise with a large P) there are two planes, D = high·2^bits + low.
 *
 * One block: BLOCK neighbouring displacements dx … of one run of rows; half of them but for the
 * smallest windows (half_blocks()), and with two planes, so that all fits into registers. LANES
 * images lie side by side: every box is a vector. A few neighbouring queries of a row are taken
 * together, a bundle:
 *
 *                     sources of row k, from j + dx on
 *     query j         d=0   1   2   3
 *           j+1             0   1   2   3              each ⟨x(i, j+b), y(k, j+b+dx+d)⟩: 16 vectors
 *           j+2                 0   1   2   3
 *           j+3                     0   1   2   3
 *     y         m =   0   1   2   3   4   5   6        loaded once for all four
 *
 * What comes first is done for all of a bundle before the next, in registers:
 *
 *     next_windows()   R[j][d], by strips (kernel/strips.h) or column sums (kernel/columns.h)
 *     distances()      D[j][d] = R[j][d] − bias(k, j+dx+d) − floor(i,j)     (kernel/weigh.h)
 *     weigh()          s, v, u += w, w·y, w·ln w  with  w = e^D, D in nats
 *
 * Nothing but R, or column sums, goes through memory in between. Where no D of a bundle is
 * positive, nothing is added; elsewhere what is negative counts as D = 0 and weighs e^−cut: as good
 * as nothing.
 *
 * Layout, L = LANES:
 *   query  header, and what is planned for all groups (kernel/plan.h); ARRAYS of pairs: int32
 *          [H + 2rh + 1][1 + W + 2rw][C], the last row is zeros
 *   group  pairs int32 [y_rows()][W + 2rw + 2·BLOCK][C][L]: a margin each side, since a block may
 *          reach beyond the image; centres float [H][W][C][L]: u − 127.5; squares int32 [H][W][L]:
 *          Σ_Ω (2u − 255)²
 *   work   for strips, column sums int32 [W + 2rw][n][L] of one block; what blocks keep from row to
 *          row, windows int32 [W][n][L] or column sums [W + 2rw][planes][n][L], each from the first
 *          that it touches; biases int32 [planes][H][W][L]
 * About 500 KB for 16 images of 32×32×1, or 600 KB with pairs of rows: it lies in the second cache.
 * In the first are a row, some 10 KB, and what a few blocks keep, swept abreast (struct abreast):
 *
 *     row i     block −9 … −6    −5 … −2    −1 … 1     then row i + 1 for all of them
 *
 * What was measured (Zen 5, P = 15): a full bundle of 16 vectors takes some 90 cycles; products and
 * multiply-adds alone would take 64, all vector operations 72. Seven tenths of a sweep go into
 * bundles, the rest into what comes before them: column sums, first windows. Block by block, not
 * abreast, each row's data came from the second cache once per block, and a bundle took 115 cycles;
 * with distances in memory, and a list of those to be weighed, 130. With column sums instead of
 * strips all took a sixth longer. Neither fewer instructions in a bundle (biases in the strips, one
 * test for all) nor blocks of their own for queries at the edges were faster.
 */
#ifndef ELS_KERNEL_SWEEP_H
#define ELS_KERNEL_SWEEP_H

#include "core/kernel/kernel.h"
#include "core/kernel/prepare.h"
#include "core/kernel/softmax.h"

#include "core/kernel/block.h"

#ifdef PAIR_OF_ROWS
#include "core/kernel/strips.h"
#else
#include "core/kernel/columns.h"
#endif

#include "core/kernel/weigh.h"

/* ---- one block ---- */

/* Row i of the block's run, where its block stands. */
INLINE struct row row_at(const struct block *b, int i)
{
    struct row r = b->run->row[i];

    r.in = terms_at(b, r.in);
    r.bias[0] += b->vectors;
    r.bias[1] += b->vectors;
    r.centre += b->values;
    r.number = i;
    return r;
}

/* Raises the floors of queries j … j+width−1 of row i, and adds their weights. */
static __attribute__((noinline)) void settle_some(const struct block *b, int i, int planes,
                                                  int width, int j)
{
    const struct row r = row_at(b, i);

    for (int end = j + width; j < end; j++)
        settle(b, &r, planes, j);
}

/*
 * Queries j … j+width−1 of a row; `carry` is what first_window() or next_windows() left for the
 * next. False where a floor is to be raised first.
 */
INLINE int sweep_some(const struct block *of, const struct row *r, struct kind v, enum shape shape,
                      int width, int j, vi (*carry)[2])
{
    vi windows[COLUMNS][BLOCK][2], d[COLUMNS][BLOCK], most = v_set_int(0);

    next_windows(of, r, v, shape, width, j, carry, windows);
    UNROLL
    for (int b = 0; b < width; b++) {
        distances(of, r, v, shape, b, j + b, windows[b], d[b]);
        UNROLL
        for (int k = 0; k < v.n; k++)
            if (takes(shape, v.n, b, k))
                most = v_max_int(most, d[b][k]);
    }
    if (!v_any(most, -1))
        return 1;
    if (v_above(most, v_set_int((int32_t)of->head->alive - 1)))
        return 0;
    UNROLL
    for (int b = 0; b < width; b++)
        weigh(of, r, v, shape, b, j + b, d[b]);
    return 1;
}

/* Bundles of `width` queries of a row, from j on; leaves the query after them. */
INLINE int sweep_bundles(const struct block *of, const struct row *r, struct kind v,
                         enum shape shape, int width, int j, int bundles, vi (*carry)[2])
{
    int end = j + bundles * width;

    while (j < end) {
        while (j < end && sweep_some(of, r, v, shape, width, j, carry))
            j += width;
        if (j < end) {
            settle_some(of->stored, r->number, v.planes, width, j);
            j += width;
        }
    }
    return j;
}

INLINE void sweep_row(const struct block *of, const struct row *r, struct kind v)
{
    int width = columns_together(v.n, v.planes), j = of->cut->first;
    vi carry[BLOCK][2];

    first_window(of, r, v, j, carry);
    for (int k = 0; k < of->cut->num_segments; k++) {
        int bundles = of->cut->segment[k].bundles;

        switch (of->cut->segment[k].shape) {
        case ANY:
            j = sweep_bundles(of, r, v, ANY, width, j, bundles, carry);
            break;
        case ALL:
            j = sweep_bundles(of, r, v, ALL, width, j, bundles, carry);
            break;
        case MOST:
            if (v.n > 1)
                j = sweep_bundles(of, r, v, MOST, width, j, bundles, carry);
            break;
        case FIRST:
            if (has_triangles(v.n, v.planes))
                j = sweep_bundles(of, r, v, FIRST, width, j, bundles, carry);
            break;
        case LAST:
            if (has_triangles(v.n, v.planes))
                j = sweep_bundles(of, r, v, LAST, width, j, bundles, carry);
            break;
        case ONE:
            j = sweep_bundles(of, r, v, ONE, 1, j, bundles, carry);
            break;
        }
    }
}

/*
 * Blocks of one run, abreast: each row is swept for all of them before the next. They are filled in
 * order, since fill_columns() reaches into what the next one keeps.
 */
INLINE void sweep_blocks(const struct block *blocks, int count, struct kind v)
{
    for (int k = 0; k < count; k++) {
        const struct block of = blocks[k];

        fill_columns(&of, v);
        fill_windows(&of, v.n);
    }
    for (int i = 0; i < blocks->run->count; i++)
        for (int k = 0; k < count; k++) {
            const struct block of = blocks[k]; /* which no store can change */
            const struct row r = row_at(&of, i);

            sweep_row(&of, &r, v);
        }
}

/* Kinds of blocks become constants here: grey and colour without entropy, or any. */
struct variant {
    int n, planes;
    int channels; /* and no entropy; 0: any, with or without */
    void (*sweep)(const struct block *blocks, int count);
};

static void sweep_grey(const struct block *b, int count)
{
    sweep_blocks(b, count, (struct kind){BLOCK, 1, 1, 0});
}

static void sweep_colour(const struct block *b, int count)
{
    sweep_blocks(b, count, (struct kind){BLOCK, 1, 3, 0});
}

static void sweep_any(const struct block *b, int count)
{
    sweep_blocks(b, count, (struct kind){BLOCK, 1, b->s->shape.c, b->s->entropy});
}

static void sweep_half_grey(const struct block *b, int count)
{
    sweep_blocks(b, count, (struct kind){BLOCK / 2, 1, 1, 0});
}

static void sweep_half_colour(const struct block *b, int count)
{
    sweep_blocks(b, count, (struct kind){BLOCK / 2, 1, 3, 0});
}

static void sweep_half_any(const struct block *b, int count)
{
    sweep_blocks(b, count, (struct kind){BLOCK / 2, 1, b->s->shape.c, b->s->entropy});
}

static void sweep_two_planes(const struct block *b, int count)
{
    if (MOST_PLANES == 2)
        sweep_blocks(b, count, (struct kind){BLOCK / 2, 2, b->s->shape.c, b->s->entropy});
}

static void sweep_alone(const struct block *b, int count)
{
    if (b->head->planes == 1)
        sweep_blocks(b, count, (struct kind){1, 1, b->s->shape.c, b->s->entropy});
    else if (MOST_PLANES == 2)
        sweep_blocks(b, count, (struct kind){1, 2, b->s->shape.c, b->s->entropy});
}

/* The first that fits is taken. */
static const struct variant variants[] = {
    {BLOCK, 1, 1, sweep_grey},
    {BLOCK, 1, 3, sweep_colour},
    {BLOCK, 1, 0, sweep_any},
    {BLOCK / 2, 1, 1, sweep_half_grey},
    {BLOCK / 2, 1, 3, sweep_half_colour},
    {BLOCK / 2, 1, 0, sweep_half_any},
    {BLOCK / 2, 2, 0, sweep_two_planes},
};
static const struct variant alone = {1, 0, 0, sweep_alone};

/*
 * Half blocks waste less where a run of queries is short, as it is at large displacements. The
 * entropy has no say in it: asking for it must not change x̂0.
 */
static int half_blocks(const struct els_sweep *s, const struct query_header *head)
{
    return head->planes == 2 || s->rw >= HALF_FROM;
}

static const struct variant *variant_of(const struct els_sweep *s, const struct query_header *head)
{
    int n = half_blocks(s, head) ? BLOCK / 2 : BLOCK;
    const struct variant *v = variants;

    if (displacements(s) == 1)
        return &alone;
    while (v->n != n || v->planes != head->planes ||
           (v->channels && (v->channels != s->shape.c || s->entropy)))
        v++;
    return v;
}

static int block_of(const struct els_sweep *s, const struct query_header *head)
{
    return variant_of(s, head)->n;
}

/* ---- blocks abreast ---- */

/*
 * A row's pairs, biases, centres and sums come from the second cache. Blocks that keep little from
 * row to row are swept abreast, so that a row comes once for all of them: up to
 * MOST_ABREAST that keep KEPT_VALUES together, or one that keeps more.
 */
enum { MOST_ABREAST = 16 };

struct abreast {
    int count;
    size_t kept; /* by these blocks; */
    size_t end;  /* it lies before here in `kept` of work */
    struct block block[MOST_ABREAST];
};

static void sweep_abreast(const struct variant *v, struct abreast *a)
{
    if (a->count > 0)
        v->sweep(a->block, a->count);
    a->count = 0;
    a->kept = 0;
    a->end = 0;
}

/* Adds a block, `of` but for what is its own: its first displacement dx, and slot. */
static void add_abreast(const struct variant *v, const struct block *of, const struct cut *cut,
                        int dx, int slot, struct abreast *a)
{
    size_t each = (size_t)(of->n * of->head->planes * LANES); /* query, or column */
    int ends = HAS_WINDOWS ? cut->last : cut->last + of->reach;
    size_t before = (size_t)cut->first * each, kept = (size_t)ends * each - before, at;
    struct block *b;

    if (a->count == MOST_ABREAST || a->kept + kept > KEPT_VALUES)
        sweep_abreast(v, a);
    /* Where query 0 would lie: nothing before the first is touched. */
    at = a->end > before ? a->end - before : 0;
    b = a->block + a->count++;
    *b = *of;
    b->stored = b;
    b->cut = cut;
    b->vectors = dx * LANES;
    b->values = dx * of->s->shape.c * LANES;
    b->allow += slot;
    b->window += at;
    if (!HAS_WINDOWS)
        b->column = b->window;
    a->kept += kept;
    a->end = at + before + kept;
}

/* ---- one run of rows ---- */

static int steps(const struct els_sweep *s)
{
    return s->rows.count;
}

static void sweep(const struct els_sweep *s, int step, const void *query, const void *group,
                  void *work, struct els_lanes *lanes)
{
    const struct variant *v = variant_of(s, query);
    const struct blocks blocks = blocks_of(s, v->n);
    struct run run;
    const struct block of = {
        .s = s,
        .head = query,
        .run = &run,
        .n = v->n,
        .reach = 2 * s->rw,
        .sums = s->slots * LANES,
        .negated = 2 * sizes_of(s).x_values,
        .column = work,
        .window = work_kept(s, work),
        .allow = query_allowed(s, query),
        .slots = blocks.count * v->n,
    };
    struct abreast a;

    plan_run(s, &s->rows.run[step], query, group, work, lanes, &run);
    a.count = 0;
    sweep_abreast(v, &a);
    for (int k = 0; k < blocks.count; k++) {
        const struct cut *cut = query_cuts(s, query) + k;

        if (cut->num_segments > 0)
            add_abreast(v, &of, cut, displacement_at(&blocks, k * v->n), k * v->n, &a);
    }
    sweep_abreast(v, &a);
}

/* ---- the peak, for els bench ---- */

static int32_t peak(int64_t rounds, const int32_t *y)
{
    vi S[ELS_PEAK_DOTS], x = v_load(y), all = v_set_int(0);
    int32_t out[LANES];

    UNROLL
    for (int k = 0; k < ELS_PEAK_DOTS; k++)
        S[k] = all;
    for (; rounds > 0; rounds--) {
        UNROLL
        for (int k = 0; k < ELS_PEAK_DOTS; k++)
            S[k] = v_dot(S[k], x, v_load(y + k * LANES));
        __asm__ volatile("" ::: "memory"); /* y might have changed: nothing is left out */
    }
    UNROLL
    for (int k = 0; k < ELS_PEAK_DOTS; k++)
        all = v_add_int(all, S[k]);
    v_store(out, all);
    return out[0];
}

/* ---- the table ---- */

/* What a kernel file adds to its entry. */
#define SWEEP_FUNCTIONS                                                                            \
    .lanes = LANES, .accepts = accepts, .query_bytes = query_bytes, .group_bytes = group_bytes,    \
    .work_bytes = work_bytes, .prepare_query = prepare_query, .prepare_group = prepare_group,      \
    .begin = begin, .steps = steps, .sweep = sweep, .peak = peak

#endif
