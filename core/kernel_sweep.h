/*
 * The integer sweep for ls, els and bbels over u8 banks, written once for all SIMD kernels. A
 * kernel file defines the vector operations (vi: LANES int32, vf: LANES float) and the width of a
 * block, and includes this one.
 *
 * Numbers. A bank pixel is y = (u8 + ½)/127.5 with u8 = u − 128, and the noisy image is
 * x = xi/per_one with xi of 16 bits (kernel_pair_rows.h), or of 23 (kernel_pair_bits.h). Then
 *
 *     l = a/β·⟨x, y⟩ − a²/2β·‖y‖²  =  const·⟨xi, u8⟩ − bias
 *
 * is an exact integer sum, which cannot drift. (The ½ is the same for all candidates of a query:
 * it cancels in the softmax.) A multiply-add takes pairs of int16. Where 16 bits are enough, a pair
 * holds the row that enters a window and the one that leaves it. Elsewhere it holds one number: x's
 * pair is (high, low) with xi = high·2^8 + low, y's is (u8·2^8, u8), and one instruction adds xi·u8.
 * Column sums fit int32. Shifted right by `shift` bits they are summed to R, modulo 2^32: only the
 * distance D of a logit from the query's floor has to fit, and choose_units() makes the unit so
 * large that it does. From that unit it is one instruction to what the softmax needs: see
 * weight_bits(). Where one number is too coarse (ONE_PLANE_ERROR: low noise with a large P) there
 * are two planes, D = high·2^bits + low, each with its own column sums.
 *
 * One block: BLOCK neighbouring displacements dx … of one run of rows; half of them but for the
 * smallest windows, and with two planes, so that all fits into registers. LANES images lie side by
 * side: every box below is a vector.
 *
 *            j−r       j       j+r              column sums
 *      d=0    □  □  □  ▣  □  □  ▣ ← enters        S[j][d] += x(t,j)·y(t+dy, j+dx+d)    row t
 *      d=1    □  □  □  ▣  □  □  ▣                 S[j][d] −= the same, P rows above
 *       ⋮                                       window sums, running along j
 *      d=7    □  □  □  ▣  □  □  ▣                 R[d] = Σ S[j−r … j+r][d]
 *             ↑ leaves R                        above the floor
 *                                                 D[d] = R[d] − bias(k, j+dx+d) − floor(i,j)
 *
 * Neighbouring columns see the same y, one place apart. A few of them are slid together, so that
 * each y is loaded once for all (slide_columns()):
 *
 *     y          m=0   1   2   3   4   5   6        S[j][0…3]   += x(t,j)·y[0…3]
 *                                                  S[j+1][0…3] += x(t,j+1)·y[1…4]    …
 *
 * A row is taken QUERIES at a time: sweep_queries() leaves their D in memory and lists the parts of
 * blocks in which any D is positive; add_weights() goes through the list. In such a part what is
 * negative counts as D = 0 and weighs e^−cut: as good as nothing.
 *
 * Layout, L = LANES:
 *   query  header; ARRAYS of pairs: int32 [H + 2rh + 1][W + 2rw][C], the last row is zeros
 *   group  pairs int32 [y_rows()][W + 2rw + 2·BLOCK][C][L]: a margin each side, since a block may
 *          reach beyond the image; centres float [H][W][C][L]: u − 127.5; squares int32 [H][W][L]:
 *          Σ_Ω (2u − 255)²
 *   work   column sums int32 [W + 2rw][planes][BLOCK][L]; D int32 [QUERIES][BLOCK][L];
 *          biases int32 [planes][H][W][L]; allowed displacements
 * About 300 KB for a 32×32×1 image, or 500 KB with pairs of rows; of it half a block touches the 10 KB of column sums, the 8 KB of
 * D and some 8 KB per row, again and again, which stay in the first cache.
 */
#ifndef ELS_KERNEL_SWEEP_H
#define ELS_KERNEL_SWEEP_H

#include "kernel.h"
#include "kernel_prepare.h"
#include "kernel_softmax.h"

/* Loops over a block must be unrolled: only then do its vectors stay in registers. */
#define UNROLL _Pragma("GCC unroll 16")

enum {
    PART = 4,      /* vectors of a block that are weighed or skipped together */
    COLUMNS = 4,   /* that are slid together, at most */
};

/*
 * One query row i against one source row k of one block, n displacements from dx. Pointers stand
 * at query 0, at source dx (its left edge for x and y), and at channel 0.
 */
struct row {
    const struct els_sweep *s;
    const struct query_header *head;
    int n, dx;
    struct terms in;        /* what moves the column sums on; y at source dx */
    int32_t *column;        /* [W + 2rw][planes][n][L] */
    const int32_t *bias[2]; /* [W][L] */
    const float *centre;    /* [W][C][L] */
    double *m;
    int64_t *floor;
    float *sum;
    int32_t *distance;      /* [QUERIES][n][L] */
    const int32_t *allow;   /* [W][displacements]: −1 where query j takes dx + k, else 0 */
    int displacements;
};

/* Parts of blocks to be weighed; too_high: a floor is to be raised first. */
struct todo {
    int parts, too_high;
    int16_t part[QUERIES * BLOCK];
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

/* ---- column and window sums ---- */

/*
 * So many columns are slid together: each y is loaded once for all of them, where otherwise every
 * product takes a load. Their sums must fit into registers.
 */
INLINE int columns_together(int n, int planes)
{
    int fit = SUMS / (n * planes);

    return fit > COLUMNS ? COLUMNS : fit;
}

/* S[0 … width−1][0 … n−1] of plane p move on by one row, or are filled by two: columns j …. */
INLINE void add_terms(const struct terms *in, int n, int p, int channels, int width, int j,
                      vi (*S)[BLOCK][2])
{
    for (int c = 0; c < channels; c++)
        UNROLL
        for (int t = 0; t < TERMS; t++) {
            const int32_t *y = anchored(in->y[t] + (ptrdiff_t)j * (channels * LANES) + c * LANES);
            const int32_t *x = anchored(in->x[p][t] + (ptrdiff_t)j * channels + c);

            UNROLL
            for (int m = 0; m < n + width - 1; m++) {
                vi v = v_load(y + m * channels * LANES);

                UNROLL
                for (int b = 0; b < width; b++)
                    if (m >= b && m < n + b)
                        S[b][m - b][p] = v_dot(S[b][m - b][p], v_set_int(x[b * channels]), v);
            }
        }
}

INLINE void store_columns(const struct row *r, int n, int planes, int p, int width, int j,
                          vi (*S)[BLOCK][2])
{
    int32_t *column = anchored(r->column + ((ptrdiff_t)j * planes + p) * (n * LANES));

    UNROLL
    for (int b = 0; b < width; b++)
        UNROLL
        for (int k = 0; k < n; k++)
            v_store(column + (b * planes * n + k) * LANES, S[b][k][p]);
}

/* The column sums j … j+width−1 move on by one row, in memory and in S. */
INLINE void slide_columns(const struct row *r, int n, int planes, int channels, int width, int j,
                          vi (*S)[BLOCK][2])
{
    for (int p = 0; p < planes; p++) {
        const int32_t *column = anchored(r->column + ((ptrdiff_t)j * planes + p) * (n * LANES));

        UNROLL
        for (int b = 0; b < width; b++)
            UNROLL
            for (int k = 0; k < n; k++)
                S[b][k][p] = v_load(column + (b * planes * n + k) * LANES);
        add_terms(&r->in, n, p, channels, width, j, S);
        store_columns(r, n, planes, p, width, j, S);
    }
}

/* The finest plane is finer than D, if any. */
INLINE vi in_units(int p, int planes, vi S, vi shift)
{
    return MOST_SHIFTS && p + 1 == planes ? v_shift_right(S, shift) : S;
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

/* ---- logits ---- */

/*
 * D = R − bias − floor, the distance of 16 logits from the floor. Two planes: high·2^bits + low;
 * the high part is held within ±2^30, which is far outside what counts. at: the source, counted
 * in lanes.
 */
INLINE vi above_floor(const struct row *r, int planes, const vi *R, ptrdiff_t at, const vi *floor)
{
    vi high = v_sub(v_sub(R[0], v_load(r->bias[0] + at)), floor[0]), low, bound;

    if (planes == 1)
        return high;
    low = v_sub(v_sub(R[1], v_load(r->bias[1] + at)), floor[1]);
    bound = v_set_int(1 << (30 - r->head->bits));
    high = v_max_int(v_min_int(high, bound), v_sub(v_set_int(0), bound));
    return v_add_int(v_shift_left(high, v_set_int(r->head->bits)), low);
}

INLINE void load_floor(const struct row *r, int planes, int j, vi *floor)
{
    int64_t f = r->floor[j], high = f >> r->head->bits;

    floor[0] = v_set_int((int32_t)(planes == 1 ? f : high));
    if (planes == 2)
        floor[1] = v_set_int((int32_t)(f - high * ((int64_t)1 << r->head->bits)));
}

/*
 * The distances of query j into row `at` of r->distance. What is below the floor, or no
 * candidate, counts as on the floor. most: the largest D of each part.
 */
INLINE void store_distances(const struct row *r, int n, int planes, int j, int at, vi (*R)[2],
                            vi *most)
{
    int32_t *out = anchored(r->distance + at * n * LANES);
    const int32_t *allow = anchored(r->allow + (ptrdiff_t)j * r->displacements);
    const vi zero = v_set_int(0);
    vi floor[2];

    load_floor(r, planes, j, floor);
    UNROLL
    for (int k = 0; k < n; k++) {
        vi d = above_floor(r, planes, R[k], (ptrdiff_t)(j + k) * LANES, floor);

        d = v_max_int(v_and(d, v_set_int(allow[k])), zero);
        v_store(out + k * LANES, d);
        most[k / PART] = k % PART ? v_max_int(most[k / PART], d) : d;
    }
}

/*
 * Queries j … j+width−1 of a row, row `at` of r->distance being the first; R holds the window of
 * query j but for its last column. Leaves the distances, and lists what is to be done with them.
 */
INLINE void sweep_columns(const struct row *r, int n, int planes, int channels, int width, int j,
                          int at, vi (*R)[2], vi *all, struct todo *todo)
{
    int parts = (n + PART - 1) / PART;
    vi S[COLUMNS][BLOCK][2], most[BLOCK], shift = v_set_int(r->head->shift);

    slide_columns(r, n, planes, channels, width, j + 2 * r->s->rw, S);
    UNROLL
    for (int b = 0; b < width; b++) {
        enter(n, planes, shift, R, S[b]);
        store_distances(r, n, planes, j + b, at + b, R, most);
        leave(n, planes, shift, r->column, j + b, R);
        UNROLL
        for (int k = 0; k < parts; k++) {
            todo->part[todo->parts] = (int16_t)((at + b) * parts + k);
            todo->parts += v_any(most[k], -1);
            *all = v_max_int(*all, most[k]);
        }
    }
}

/* Slides along the queries j … end − 1, at most QUERIES. */
INLINE void sweep_queries(const struct row *r, int n, int planes, int channels, int j, int end,
                          vi (*window)[2], struct todo *todo)
{
    int width = columns_together(n, planes), at = 0;
    vi R[BLOCK][2], all = v_set_int(0);

    UNROLL
    for (int k = 0; k < n; k++)
        for (int p = 0; p < planes; p++)
            R[k][p] = window[k][p];
    todo->parts = 0;
    for (; j + width <= end; j += width, at += width)
        sweep_columns(r, n, planes, channels, width, j, at, R, &all, todo);
    for (; j < end; j++, at++)
        sweep_columns(r, n, planes, channels, 1, j, at, R, &all, todo);
    UNROLL
    for (int k = 0; k < n; k++)
        for (int p = 0; p < planes; p++)
            window[k][p] = R[k][p];
    todo->too_high = v_above(all, v_set_int((int32_t)r->head->alive - 1));
}

/* ---- the softmax ---- */

/*
 * Adds the listed parts' weights to s, v and u of their queries; j0 is the query of row 0 of
 * r->distance.
 */
INLINE void add_weights(const struct row *r, int n, int channels, int entropy, int j0,
                        const struct todo *todo)
{
    int count = n < PART ? n : PART, parts = n / count, slots = r->s->slots;

    for (int t = 0; t < todo->parts; t++) {
        int at = todo->part[t] / parts, first = todo->part[t] % parts * count, j = j0 + at;
        const int32_t *d = r->distance + todo->part[t] * count * LANES;
        const float *centre = r->centre + (ptrdiff_t)((j + first) * channels) * LANES;
        float *sum = r->sum + (ptrdiff_t)(j * slots) * LANES, *u = sum + (slots - 1) * LANES;
        vf weight[PART], total = v_load_float(sum);

        UNROLL
        for (int k = 0; k < count; k++) {
            weight[k] = weight_of(weight_bits(r->head, v_load(d + k * LANES)));
            total = v_add(total, weight[k]);
        }
        v_store_float(sum, total);
        for (int c = 0; c < channels; c++) {
            vf mean = v_load_float(sum + (1 + c) * LANES);

            UNROLL
            for (int k = 0; k < count; k++)
                mean = v_fma(weight[k], v_load_float(centre + (k * channels + c) * LANES), mean);
            v_store_float(sum + (1 + c) * LANES, mean);
        }
        for (int k = 0; entropy && k < count; k++) {
            vf l = v_fma(v_to_float(v_load(d + k * LANES)), v_set((float)r->head->unit),
                         v_set((float)M_LN2));

            v_store_float(u, v_fma(weight[k], l, v_load_float(u)));
        }
    }
}

/*
 * Raises the floor of query j, row `at` of r->distance, until no D is too high. Rare: the window
 * is summed anew.
 */
static void settle(const struct row *r, int planes, int j, int at)
{
    int32_t top, *d = r->distance + at * r->n * LANES;
    vi R[BLOCK][2], most[BLOCK], shift = v_set_int(r->head->shift);

    for (;;) {
        top = 0;
        for (int k = 0; k < r->n * LANES; k++)
            top = d[k] > top ? d[k] : top;
        if (top < r->head->alive)
            return;
        raise_floor(r->s, r->head, &r->m[j], &r->floor[j],
                    r->sum + (ptrdiff_t)(j * r->s->slots) * LANES, top);
        for (int k = 0; k < r->n; k++)
            for (int p = 0; p < planes; p++) {
                R[k][p] = v_set_int(0);
                for (int b = j; b <= j + 2 * r->s->rw; b++) {
                    vi S = v_load(r->column + ((b * planes + p) * r->n + k) * LANES);

                    R[k][p] = v_add_int(R[k][p], in_units(p, planes, S, shift));
                }
            }
        store_distances(r, r->n, planes, j, at, R, most);
    }
}

/* ---- one block ---- */

/* Terms that stand at source dx. */
static struct terms at_source(const struct row *r, struct terms in)
{
    for (int t = 0; t < TERMS; t++)
        in.y[t] += (BLOCK + r->dx) * r->s->shape.c * LANES;
    return in;
}

/* Columns j … j+width−1 from nothing; rows: what is to be added. */
INLINE void fill_some(const struct row *r, int n, int planes, int channels, int width, int j,
                      const struct terms *rows, int count)
{
    vi S[COLUMNS][BLOCK][2];

    for (int p = 0; p < planes; p++) {
        UNROLL
        for (int b = 0; b < width; b++)
            UNROLL
            for (int k = 0; k < n; k++)
                S[b][k][p] = v_set_int(0);
        for (int t = 0; t < count; t++)
            add_terms(&rows[t], n, p, channels, width, j, S);
        store_columns(r, n, planes, p, width, j, S);
    }
}

/*
 * The column sums j … end − 1 before the first query row i: rows i − r … i + r − 1, those inside
 * the image, two at a time.
 */
INLINE void fill_columns(const struct row *r, int n, int planes, int channels, int i, int dy, int j,
                         int end, const void *query, const void *group)
{
    const struct els_sweep *s = r->s;
    int width = columns_together(n, planes), from = i - s->rh, to = i + s->rh, count = 0;
    struct terms rows[MAX_ROWS / 2 + 1];

    if (!s->wraps) {
        from = from < 0 ? 0 : from;
        to = to > s->shape.h ? s->shape.h : to;
    }
    for (int t = from; t < to; t += 2)
        rows[count++] = at_source(r, fill_terms(s, query, group, t, t + 1 < to, dy));
    for (; j + width <= end; j += width)
        fill_some(r, n, planes, channels, width, j, rows, count);
    for (; j < end; j++)
        fill_some(r, n, planes, channels, 1, j, rows, count);
}

/* The first window of a row but for its last column: columns j … j + 2r − 1, slid on and summed. */
INLINE void first_window(const struct row *r, int n, int planes, int channels, int j, vi (*R)[2])
{
    int width = columns_together(n, planes), end = j + 2 * r->s->rw;
    vi S[COLUMNS][BLOCK][2], shift = v_set_int(r->head->shift);

    UNROLL
    for (int k = 0; k < n; k++)
        for (int p = 0; p < planes; p++)
            R[k][p] = v_set_int(0);
    for (; j + width <= end; j += width) {
        slide_columns(r, n, planes, channels, width, j, S);
        UNROLL
        for (int b = 0; b < width; b++)
            enter(n, planes, shift, R, S[b]);
    }
    for (; j < end; j++) {
        slide_columns(r, n, planes, channels, 1, j, S);
        enter(n, planes, shift, R, S[0]);
    }
}

/* Queries first … last − 1 of one row. */
INLINE void sweep_row(const struct row *row, int n, int planes, int channels, int first, int last)
{
    const struct row here = *row, *r = &here; /* which no store can change */
    vi R[BLOCK][2];

    first_window(r, n, planes, channels, first, R);
    for (int j = first; j < last; j += QUERIES) {
        int end = j + QUERIES < last ? j + QUERIES : last;
        struct todo todo;

        sweep_queries(r, n, planes, channels, j, end, R, &todo);
        for (int at = 0; todo.too_high && at < end - j; at++)
            settle(row, planes, j + at, at);
        if (r->s->entropy)
            add_weights(r, n, r->s->shape.c, 1, j, &todo);
        else
            add_weights(r, n, channels, 0, j, &todo);
    }
}

/*
 * n, planes and channels (0: any number) become constants here, and the two loops that matter
 * functions of their own.
 */
struct variant {
    int n, planes, channels;
    void (*fill)(const struct row *r, int i, int dy, int j, int end, const void *query,
                 const void *group);
    void (*sweep)(const struct row *r, int first, int last);
};

static void fill_1_1(const struct row *r, int i, int dy, int j, int end, const void *query,
                     const void *group)
{
    fill_columns(r, BLOCK, 1, 1, i, dy, j, end, query, group);
}

static void sweep_1_1(const struct row *r, int first, int last)
{
    sweep_row(r, BLOCK, 1, 1, first, last);
}

static void fill_1_3(const struct row *r, int i, int dy, int j, int end, const void *query,
                     const void *group)
{
    fill_columns(r, BLOCK, 1, 3, i, dy, j, end, query, group);
}

static void sweep_1_3(const struct row *r, int first, int last)
{
    sweep_row(r, BLOCK, 1, 3, first, last);
}

static void fill_1(const struct row *r, int i, int dy, int j, int end, const void *query,
                   const void *group)
{
    fill_columns(r, BLOCK, 1, r->s->shape.c, i, dy, j, end, query, group);
}

static void sweep_1(const struct row *r, int first, int last)
{
    sweep_row(r, BLOCK, 1, r->s->shape.c, first, last);
}

/* Half blocks waste less where a run of queries is short, as it is at large displacements. */
static void fill_half_1(const struct row *r, int i, int dy, int j, int end, const void *query,
                        const void *group)
{
    fill_columns(r, BLOCK / 2, 1, 1, i, dy, j, end, query, group);
}

static void sweep_half_1(const struct row *r, int first, int last)
{
    sweep_row(r, BLOCK / 2, 1, 1, first, last);
}

static void fill_half_3(const struct row *r, int i, int dy, int j, int end, const void *query,
                        const void *group)
{
    fill_columns(r, BLOCK / 2, 1, 3, i, dy, j, end, query, group);
}

static void sweep_half_3(const struct row *r, int first, int last)
{
    sweep_row(r, BLOCK / 2, 1, 3, first, last);
}

static void fill_2(const struct row *r, int i, int dy, int j, int end, const void *query,
                   const void *group)
{
    fill_columns(r, BLOCK / 2, 2, r->s->shape.c, i, dy, j, end, query, group);
}

static void sweep_2(const struct row *r, int first, int last)
{
    sweep_row(r, BLOCK / 2, 2, r->s->shape.c, first, last);
}

static void fill_alone(const struct row *r, int i, int dy, int j, int end, const void *query,
                       const void *group)
{
    fill_columns(r, 1, r->head->planes, r->s->shape.c, i, dy, j, end, query, group);
}

static void sweep_alone(const struct row *r, int first, int last)
{
    if (r->head->planes == 1)
        sweep_row(r, 1, 1, r->s->shape.c, first, last);
    else
        sweep_row(r, 1, 2, r->s->shape.c, first, last);
}

/* The first that fits; half blocks lead, and are left out for small windows. */
enum { HALVES = 2 };
static const struct variant variants[] = {
    {BLOCK / 2, 1, 1, fill_half_1, sweep_half_1},
    {BLOCK / 2, 1, 3, fill_half_3, sweep_half_3},
    {BLOCK, 1, 1, fill_1_1, sweep_1_1},
    {BLOCK, 1, 3, fill_1_3, sweep_1_3},
    {BLOCK, 1, 0, fill_1, sweep_1},
    {BLOCK / 2, 2, 0, fill_2, sweep_2},
};
static const struct variant alone = {1, 0, 0, fill_alone, sweep_alone};

/* Points the row at query row i. */
static void point_row(struct row *r, int i, int is_first, int dy, const void *query,
                      const void *group, const void *work, const struct els_lanes *lanes)
{
    const struct els_sweep *s = r->s;
    ptrdiff_t to = (ptrdiff_t)(i - s->band_from) * s->shape.w;
    ptrdiff_t from = (ptrdiff_t)(i + dy) * s->shape.w + r->dx;

    for (int p = 0; p < r->head->planes; p++)
        r->bias[p] = work_biases(s, work, p) + from * LANES;
    r->in = at_source(r, slide_terms(s, query, group, i, is_first, dy));
    r->centre = group_centres(s, group) + from * s->shape.c * LANES;
    r->m = lanes->m + to;
    r->floor = lanes->floor + to;
    r->sum = lanes->sum + to * s->slots * LANES;
}

/* The queries that take any of the n displacements from the k-th on. False when there is none. */
static int plan_block(const struct els_sweep *s, const struct extent *of, int n, int *first,
                      int *last)
{
    *first = s->shape.w;
    *last = 0;
    for (int k = 0; k < n; k++) {
        *first = of[k].first < *first ? of[k].first : *first;
        *last = of[k].last > *last ? of[k].last : *last;
    }
    return *first < *last;
}

/* One run of rows. */
static int steps(const struct els_sweep *s)
{
    return s->rows.count;
}

static void sweep(const struct els_sweep *s, int step, const void *query, const void *group,
                  void *work, struct els_lanes *lanes)
{
    const struct els_run *rows = &s->rows.run[step];
    int first_dx = first_displacement(s), dy = rows->source - rows->query;
    int last_dx = last_displacement(s), first, last;
    const struct extent *extents = work_extents(s, work);
    const struct variant *v = s->rw >= HALF_FROM ? variants : variants + HALVES;
    struct row r = {
        .s = s,
        .head = query,
        .column = work,
        .distance = work_distances(s, work),
        .displacements = padded_displacements(s),
    };

    while (v->planes != r.head->planes || (v->channels && v->channels != s->shape.c))
        v++;
    if (first_dx == last_dx)
        v = &alone;
    r.n = v->n;
    for (r.dx = first_dx; r.dx <= last_dx; r.dx += r.n) {
        r.allow = work_allowed(s, work) + (r.dx - first_dx);
        if (!plan_block(s, extents + (r.dx - first_dx), r.n, &first, &last))
            continue;
        v->fill(&r, rows->query, dy, first, last + 2 * s->rw, query, group);
        for (int i = rows->query; i < rows->query + rows->count; i++) {
            point_row(&r, i, i == rows->query, dy, query, group, work, lanes);
            v->sweep(&r, first, last);
        }
    }
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
