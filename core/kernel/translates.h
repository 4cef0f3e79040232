/*
 * The kernel for the machine es: whole images at every circular translate. Included by a kernel
 * file after its vector operations.
 *
 * A translate (dy, dx) of one image is one candidate for all pixels at once, and both halves of
 * the work are circular correlations, over images as over places:
 *
 *     logit(d) = a/β·Σ_q x(q)·y(q + d) − bias          of the noisy image with the bank's
 *     v(q)     = Σ_images Σ_d w(d)·y(q + d)            of the weights with the bank's
 *
 * By their definition they cost (H·W)² products each; as products of Fourier transforms, with
 * Z = Σ_q z(q)·e^(−2πi·fq) and ' for the complex conjugate,
 *
 *     logit = transform(X·Y')'/HW − bias,     v = transform(Σ_images W·Y')'/HW
 *
 * Two images go through one complex transform: z = y_A + i·y_B. Its correlation with the real x
 * has A's logits as its real part and B's as its imaginary part; and with w = w_A + i·w_B the sum
 * W·Z' comes back with v_A + v_B as its real part; the imaginary part is left. The sum over images
 * is taken of the transforms, so that what is common to all is transformed back once, in finish():
 *
 *     prepare_group   z ───────────────▶ Z'          per image, and for all noisy images once
 *     begin           X·Z', columns  ──▶ grid
 *     sweep           a row of the grid ──▶ logits ──▶ weights ──▶ the row of the grid    per dy
 *     the last one    columns ──▶ W ──▶ sums += W·Z'
 *     finish          sums ──▶ v                     now and then
 *
 * At 32×32 that is some 150 operations per pixel and image in colour, where the definition takes
 * 6144 products and as many sums. All in float64: a logit is off by some 1e-15 of a/β·‖x‖·‖y‖, whatever
 * the noise; a weight by 1e-7 of itself. The sums are float32, as everywhere, but each takes one
 * addition per group: x̂0 is within 2e-7 of the plain loop (tests/unit/test_whole.c).
 *
 * Row displacements outside the band weigh nothing, but cost as much as those within: the engine cuts
 * no bands for this kernel.
 *
 * Layout, L = LANES, a number being [re, im][L/2] float64: images 0 … L/2 − 1 in re, the others
 * in im.
 *   query  roots of both axes; X float64 [H][W][C][2], times a/β, the bank's unit and 1/HW
 *   group  roots; bias number; Z' numbers [H][W][C]
 *   work   header; numbers [H][W], the grid: first [dy][column frequency], then weights [dy]
 *          transformed along dx
 *   sums   s and u of pixel 0; until finish() v's slots hold W·Z', float32 [re, im][L/2], of
 *          the frequency in the pixel's place
 * 128 KB a channel and as much for the grid at 32×32, L = 16: it fits the second cache.
 */
#ifndef ELS_KERNEL_TRANSLATES_H
#define ELS_KERNEL_TRANSLATES_H

#include <string.h>

#include "core/kernel/fourier.h"
#include "core/kernel/whole.h"

enum {
    TRANSLATES_ADDS = 1, /* float32 additions of a group to a sum */
    TILE = 16,           /* columns whose bytes are interleaved together */
};

struct translates_header {
    struct numbers total, nats; /* Σ w and Σ w·ln w of the group so far */
    int live;                   /* some weight counts */
};

static size_t translates_pixels(const struct els_sweep *s)
{
    return (size_t)s->shape.h * (size_t)s->shape.w;
}

/*
 * Numbers from a row to the next, of Z' and of the grid. Odd: if they were 4 KB apart, all of a
 * column would compete for the same few lines of the first cache.
 */
static ptrdiff_t translates_z_pitch(const struct els_sweep *s)
{
    return (s->shape.w * s->shape.c) | 1;
}

static ptrdiff_t translates_grid_pitch(const struct els_sweep *s)
{
    return s->shape.w | 1;
}

/* Roots of rows, then of columns, in whole vectors. */
static size_t translates_roots_bytes(const struct els_sweep *s)
{
    size_t bytes = 2 * (size_t)(s->shape.h + s->shape.w) * sizeof(double);

    return (bytes + sizeof(vd) - 1) / sizeof(vd) * sizeof(vd);
}

static void translates_set_roots(const struct els_sweep *s, double *root)
{
    set_roots(s->shape.h, root);
    set_roots(s->shape.w, root + 2 * s->shape.h);
}

/* How columns are transformed, whose elements are in rows 0 … H − 1, and how rows are. */
static struct axis translates_rows(const struct els_sweep *s, const void *query)
{
    return axis_of(s->shape.h, query);
}

static struct axis translates_columns(const struct els_sweep *s, const void *query)
{
    return axis_of(s->shape.w, (const double *)query + 2 * s->shape.h);
}

static int translates_accepts(const struct els_sweep *s, const float *x)
{
    (void)x;
    return s->machine == ELS_MACHINE_ES;
}

/* X is transformed in place, all channels in one grid of numbers. */
static size_t translates_query_bytes(const struct els_sweep *s)
{
    return translates_roots_bytes(s) + translates_pixels(s) * sizeof(struct numbers);
}

static size_t translates_group_bytes(const struct els_sweep *s)
{
    size_t z = (size_t)(s->shape.h * translates_z_pitch(s));

    return translates_roots_bytes(s) + (1 + z) * sizeof(struct numbers);
}

static size_t translates_work_bytes(const struct els_sweep *s)
{
    size_t grid = (size_t)(s->shape.h * translates_grid_pitch(s));

    return sizeof(struct translates_header) + grid * sizeof(struct numbers);
}

static const double *translates_query_x(const struct els_sweep *s, const void *query)
{
    return (const double *)((const char *)query + translates_roots_bytes(s));
}

static struct numbers *translates_group_bias(const struct els_sweep *s, const void *group)
{
    return (struct numbers *)((char *)group + translates_roots_bytes(s));
}

static struct numbers *translates_grid(void *work)
{
    return (struct numbers *)((char *)work + sizeof(struct translates_header));
}

/* Sums and weights are float32, [re, im][L/2]. */
INLINE struct numbers translates_widen(vf v)
{
    return (struct numbers){v_low(v), v_high(v)};
}

INLINE void translates_add(float *sum, struct numbers a)
{
    v_store_float(sum, v_load_float(sum) + v_join(a.re, a.im));
}

/* ---- the noisy image ---- */

/* Lane c carries channel c: there are no more channels than lanes in re. */
_Static_assert(ELS_MAX_CHANNELS <= LANES / 2, "a lane for each channel");

static void translates_prepare_query(const struct els_sweep *s, const float *x, void *query)
{
    size_t n = translates_pixels(s), channels = (size_t)s->shape.c;
    double *out = (double *)translates_query_x(s, query),
           factor = s->scale * unit_of(s) / (double)n;
    struct numbers *grid = (struct numbers *)out;
    struct axis rows = translates_rows(s, query), cols = translates_columns(s, query);
    struct lines lines;

    translates_set_roots(s, query);
    memset(grid, 0, n * sizeof(*grid));
    for (size_t q = 0; q < n; q++)
        for (size_t c = 0; c < channels; c++)
            out[q * LANES + c] = (double)x[c * n + q] * factor;
    transform_grid(&rows, &cols, grid, 1, &lines);
    for (size_t q = 0; q < n; q++) {
        double number[LANES];

        memcpy(number, out + q * LANES, sizeof(number));
        for (size_t c = 0; c < channels; c++) {
            out[2 * (q * channels + c)] = number[c];
            out[2 * (q * channels + c) + 1] = number[LANES / 2 + c];
        }
    }
}

/* ---- the group ---- */

/*
 * TILE columns of LANES rows of bytes, lanes side by side. Rows k and k + LANES/2 are interleaved;
 * after log2(LANES) rounds every column's lanes are together: [TILE][LANES].
 */
static void translates_interleave(const uint8_t *const *row, int at, uint8_t *out)
{
    __m128i v[2][LANES];
    int now = 0;

    for (int l = 0; l < LANES; l++)
        v[0][l] = _mm_loadu_si128((const __m128i *)(row[l] + at));
    for (int done = 1; done < LANES; done *= 2, now = !now)
        for (int k = 0; k < LANES / 2; k++) {
            v[!now][2 * k] = _mm_unpacklo_epi8(v[now][k], v[now][k + LANES / 2]);
            v[!now][2 * k + 1] = _mm_unpackhi_epi8(v[now][k], v[now][k + LANES / 2]);
        }
    memcpy(out, v[now], sizeof(v[now]));
}

/* n ≤ TILE columns from `at` on of rows of bytes, y = u − 127.5. */
static void translates_spread_bytes(const uint8_t *const *row, int at, int n, struct numbers *out)
{
    uint8_t tile[TILE * LANES], part[LANES][TILE] = {{0}};
    const uint8_t *whole[LANES];

    for (int l = 0; n < TILE && l < LANES; l++) {
        memcpy(part[l], row[l] + at, (size_t)n);
        whole[l] = part[l];
    }
    translates_interleave(n < TILE ? whole : row, n < TILE ? 0 : at, tile);
    for (int j = 0; j < n; j++)
        out[j] = translates_widen(v_load_bytes(tile + j * LANES) - v_set(127.5f));
}

/* Row i of channel c of the group's images, in units of the bank; empty lanes repeat image 0. */
static void translates_gather_row(const struct els_sweep *s, const int64_t *images, int count,
                                  int c, int i, struct numbers *line)
{
    int w = s->shape.w;
    size_t from = (size_t)(c * s->shape.h + i) * (size_t)w, values = els_shape_values(s->shape);
    const void *bank = els_bank_images(s->bank);
    const uint8_t *bytes[LANES];

    for (int l = 0; l < LANES; l++) {
        size_t at = (size_t)images[l < count ? l : 0] * values + from;

        bytes[l] = (const uint8_t *)bank + at;
        if (els_bank_info(s->bank)->dtype == ELS_F32)
            for (int j = 0; j < w; j++)
                ((double *)&line[j])[l] = (double)((const float *)bank)[at + (size_t)j];
    }
    for (int j = 0; els_bank_info(s->bank)->dtype == ELS_U8 && j < w; j += TILE)
        translates_spread_bytes(bytes, j, w - j < TILE ? w - j : TILE, line + j);
}

/* Σ y² of a row, added to each image's. */
static struct numbers translates_add_squares(int n, const struct numbers *line, struct numbers sum)
{
    for (int j = 0; j < n; j++) {
        sum.re = v_fma_double(line[j].re, line[j].re, sum.re);
        sum.im = v_fma_double(line[j].im, line[j].im, sum.im);
    }
    return sum;
}

static void translates_set_bias(const struct els_sweep *s, struct numbers squares, int count,
                                struct numbers *bias)
{
    double *lane = (double *)bias, factor = s->bias * unit_of(s) * unit_of(s);

    bias->re = squares.re * v_set_double(factor);
    bias->im = squares.im * v_set_double(factor);
    for (int l = count; l < LANES; l++)
        lane[l] = INFINITY; /* an empty lane has weight e^(−∞) */
}

static void translates_prepare_group(const struct els_sweep *s, const int64_t *images, int count,
                                     void *group)
{
    int h = s->shape.h, w = s->shape.w, channels = s->shape.c;
    ptrdiff_t pitch = translates_z_pitch(s);
    struct numbers *bias = translates_group_bias(s, group), *z = bias + 1;
    struct numbers squares = {v_set_double(0), v_set_double(0)};
    struct axis rows = translates_rows(s, group), cols = translates_columns(s, group);
    struct lines lines;

    translates_set_roots(s, group);
    for (int c = 0; c < channels; c++) {
        for (int i = 0; i < h; i++) {
            const struct numbers *to;

            translates_gather_row(s, images, count, c, i, lines.a);
            squares = translates_add_squares(w, lines.a, squares);
            to = transform(&cols, lines.a, 1, &lines);
            for (int j = 0; j < w; j++)
                z[i * pitch + j * channels + c] = to[j];
        }
        for (int j = 0; j < w; j++) {
            const struct numbers *to = transform(&rows, z + j * channels + c, pitch, &lines);

            for (int i = 0; i < h; i++)
                z[i * pitch + j * channels + c] = (struct numbers){to[i].re, -to[i].im};
        }
    }
    translates_set_bias(s, squares, count, bias);
}

/* ---- one query and one group ---- */

/* X·Z', transformed along columns: rows of the band alone are kept, the others weigh nothing. */
static void translates_begin(const struct els_sweep *s, const void *query, const void *group,
                             void *work, struct els_lanes *lanes)
{
    int h = s->shape.h, w = s->shape.w, channels = s->shape.c;
    ptrdiff_t pitch = translates_z_pitch(s), grid_pitch = translates_grid_pitch(s);
    const struct numbers *z = translates_group_bias(s, group) + 1;
    const double *x = translates_query_x(s, query);
    struct axis rows = translates_rows(s, query);
    struct numbers *grid = translates_grid(work);
    struct lines lines;

    (void)lanes;
    memset(work, 0, sizeof(struct translates_header));
    for (int j = 0; j < w; j++) {
        const struct numbers *to;

        for (int i = 0; i < h; i++) {
            const struct numbers *at = z + i * pitch + j * channels;
            const double *with = x + 2 * (ptrdiff_t)((i * w + j) * channels);
            struct numbers sum = c_mul(at[0], c_set(with));

            for (int c = 1; c < channels; c++)
                sum = c_fma(at[c], c_set(with + 2 * c), sum);
            lines.a[i] = sum;
        }
        to = transform(&rows, lines.a, 1, &lines);
        for (int i = 0; i < h; i++)
            grid[i * grid_pitch + j] = to[i];
    }
    for (int i = 0; i < h; i++)
        if (i < s->band_from || i >= s->band_to)
            memset(grid + i * grid_pitch, 0, (size_t)w * sizeof(*grid));
}

/*
 * The logits of a row less the reference m, [W][LANES]; returns the largest. The imaginary part is
 * that of the conjugate.
 */
static double translates_relative(int n, const struct numbers *logit, const struct numbers *bias,
                                  double m, float *out)
{
    vd first = bias->re + v_set_double(m), second = bias->im + v_set_double(m);
    vd top = v_set_double(-INFINITY);
    double lane[LANES / 2], most = -INFINITY;

    for (int j = 0; j < n; j++, out += LANES) {
        vd a = logit[j].re - first, b = -logit[j].im - second;

        v_store_float(out, v_join(a, b));
        top = v_max_double(top, v_max_double(a, b));
    }
    memcpy(lane, &top, sizeof(lane));
    for (int l = 0; l < LANES / 2; l++)
        most = lane[l] > most ? lane[l] : most;
    return most;
}

static struct numbers translates_scaled(struct numbers a, double by)
{
    return (struct numbers){a.re * v_set_double(by), a.im * v_set_double(by)};
}

/*
 * Raises the reference by `nats` and rescales what has been weighed: the sums, and of this group
 * the grid's rows before `row`. Rare.
 */
static void translates_raise(const struct els_sweep *s, double nats, int row, void *work,
                             struct els_lanes *lanes)
{
    struct translates_header *head = work;
    struct numbers *grid = translates_grid(work);
    float *u = lanes->sum + (s->slots - 1) * LANES, keep = (float)exp(-nats);
    size_t sums = translates_pixels(s) * (size_t)(s->slots * LANES);
    ptrdiff_t pitch = translates_grid_pitch(s);

    for (int l = 0; s->entropy && l < LANES; l++)
        u[l] -= (float)nats * lanes->sum[l];
    for (size_t k = 0; k < sums; k++)
        lanes->sum[k] *= keep;
    head->nats.re -= head->total.re * v_set_double(nats);
    head->nats.im -= head->total.im * v_set_double(nats);
    head->nats = translates_scaled(head->nats, keep);
    head->total = translates_scaled(head->total, keep);
    for (ptrdiff_t k = s->band_from * pitch; k < row * pitch; k++)
        grid[k] = translates_scaled(grid[k], keep);
    lanes->m[0] += nats;
}

/* A row of relative logits becomes weights, which are added to the group's totals. */
static void translates_weigh(const struct els_sweep *s, const float *relative,
                             struct translates_header *head, struct numbers *out)
{
    for (int j = 0; j < s->shape.w; j++) {
        vf logit = v_max(v_load_float(relative + j * LANES), v_set(LEAST_NATS));
        struct numbers l = translates_widen(logit);

        out[j] = translates_widen(v_exp(logit));
        head->total = c_add(head->total, out[j]);
        head->nats.re = v_fma_double(out[j].re, l.re, head->nats.re);
        head->nats.im = v_fma_double(out[j].im, l.im, head->nats.im);
    }
}

/* The translates of row displacement `row`: logits become weights, transformed along dx. */
static void translates_sweep_row(const struct els_sweep *s, int row, const void *query,
                                 const void *group, void *work, struct els_lanes *lanes)
{
    int w = s->shape.w;
    struct translates_header *head = work;
    struct numbers *at = translates_grid(work) + row * translates_grid_pitch(s), *to;
    const struct numbers *bias = translates_group_bias(s, group);
    struct axis cols = translates_columns(s, query);
    _Alignas(sizeof(vf)) float relative[ELS_MAX_SIDE * LANES];
    struct lines lines;
    double m = lanes->m[0], top;

    to = transform(&cols, at, 1, &lines);
    top = translates_relative(w, to, bias, m == -INFINITY ? 0 : m, relative);
    if (m == -INFINITY) {
        lanes->m[0] = top; /* the first candidates: there are no sums yet */
        top = translates_relative(w, to, bias, lanes->m[0], relative);
    } else if (top > ELS_HEADROOM) {
        translates_raise(s, top, row, work, lanes);
        top = translates_relative(w, to, bias, lanes->m[0], relative);
    }
    if (!(top >= -s->cut)) {
        memset(at, 0, (size_t)w * sizeof(*at));
        return;
    }
    head->live = 1;
    translates_weigh(s, relative, head, to);
    to = transform(&cols, to, 1, &lines);
    for (int j = 0; j < w; j++)
        at[j] = to[j];
}

/* sums += totals and W·Z', W the grid transformed along columns. */
static void translates_add_group(const struct els_sweep *s, const void *query, const void *group,
                                 void *work, struct els_lanes *lanes)
{
    int h = s->shape.h, w = s->shape.w, channels = s->shape.c;
    ptrdiff_t pitch = translates_z_pitch(s);
    const struct translates_header *head = work;
    const struct numbers *z = translates_group_bias(s, group) + 1;
    struct axis rows = translates_rows(s, query);
    struct lines lines;

    translates_add(lanes->sum, head->total);
    if (s->entropy)
        translates_add(lanes->sum + (s->slots - 1) * LANES, head->nats);
    for (int j = 0; j < w; j++) {
        const struct numbers *weights =
            transform(&rows, translates_grid(work) + j, translates_grid_pitch(s), &lines);

        for (int i = 0; i < h; i++) {
            float *sum = lanes->sum + ((ptrdiff_t)(i * w + j) * s->slots + 1) * LANES;

            for (int c = 0; c < channels; c++, sum += LANES)
                translates_add(sum, c_mul(weights[i], z[i * pitch + j * channels + c]));
        }
    }
}

/* A step is a row displacement; the last one brings what they have weighed into the sums. */
static int translates_steps(const struct els_sweep *s)
{
    return s->band_to - s->band_from;
}

static void translates_sweep(const struct els_sweep *s, int step, const void *query,
                             const void *group, void *work, struct els_lanes *lanes)
{
    const struct translates_header *head = work;

    translates_sweep_row(s, s->band_from + step, query, group, work, lanes);
    if (step + 1 == translates_steps(s) && head->live)
        translates_add_group(s, query, group, work, lanes);
}

/* ---- v from its transform ---- */

static void translates_finish(const struct els_sweep *s, const void *query, void *work,
                              struct els_lanes *lanes)
{
    size_t n = translates_pixels(s);
    struct axis rows = translates_rows(s, query), cols = translates_columns(s, query);
    struct numbers *grid = translates_grid(work);
    struct lines lines;

    for (int c = 0; c < s->shape.c; c++) {
        float *sum = lanes->sum + (1 + c) * LANES;
        ptrdiff_t step = (ptrdiff_t)s->slots * LANES;

        for (size_t q = 0; q < n; q++, sum += step)
            grid[q] = translates_widen(v_load_float(sum));
        transform_grid(&rows, &cols, grid, 1, &lines);
        for (size_t q = n; q > 0; q--) {
            sum -= step;
            v_store_float(sum,
                          v_join(grid[q - 1].re * v_set_double(1 / (double)n), v_set_double(0)));
        }
    }
}

/* What a kernel file adds to its entry. */
#define TRANSLATES_FUNCTIONS                                                                       \
    .lanes = LANES, .mixes_images = 1, .max_adds = TRANSLATES_ADDS, .accepts = translates_accepts, \
    .query_bytes = translates_query_bytes, .group_bytes = translates_group_bytes,                  \
    .work_bytes = translates_work_bytes, .prepare_query = translates_prepare_query,                \
    .prepare_group = translates_prepare_group, .begin = translates_begin,                          \
    .steps = translates_steps, .sweep = translates_sweep, .finish = translates_finish

#endif
