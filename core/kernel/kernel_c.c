/*
 * The portable kernel: plain C that a compiler can vectorise, for u8 and F32 banks, and the
 * reference that the SIMD kernels are tested against. Sums run in float64: a sliding sum that
 * adds and subtracts a few hundred values then drifts by about 1e-13, far below float32.
 *
 * Called by the engine's workers; touches only the buffers it is given.
 *
 * Layout, L = 8 lanes (images):
 *   query  double [C][H][W + 2rw]      x with its border along columns: zeros, or wrapped
 *   group  float  [C][H][W + 2rw][L]   y likewise, in units of the bank (u8: u − 127.5), and
 *          double [H][W][L]            the bias of the patch centred there (is, es: one [L])
 *   work   double [W + 2rw][L]         column sums for the current row of windows
 *
 * One pair of runs (queries i, j; sources k = i + dy, l = j + dx) of a P×P window, P = 2r+1:
 *
 *        x rows      y rows             column sum j   += x(t, j)·y(t+dy, j+dx)   t = i + r enters
 *        i−r …  ┐    ┐ k−r …                              −= the same at t = i − r − 1   leaves
 *        i      │    │ k        then
 *        i+r    ┘    ┘ k+r      ⟨x_Ω, y⟩(j)  = running sum of 2r+1 column sums
 */
#include "core/kernel/kernel.h"

#include <math.h>
#include <string.h>

enum { L = 8 };

/* Where each part of a group begins. */
struct layout {
    int columns;     /* W + 2rw */
    size_t plane;    /* values of one channel of a padded image */
    size_t y_floats; /* [C][H][columns][L] */
};

static struct layout layout_of(const struct els_sweep *s)
{
    struct layout o = {.columns = s->shape.w + 2 * s->rw};

    o.plane = (size_t)s->shape.h * (size_t)o.columns;
    o.y_floats = (size_t)s->shape.c * o.plane * L;
    return o;
}

static int always(void)
{
    return 1;
}

static int accepts_all(const struct els_sweep *s, const float *x)
{
    (void)s;
    (void)x;
    return 1;
}

static size_t query_bytes(const struct els_sweep *s)
{
    return (size_t)s->shape.c * layout_of(s).plane * sizeof(double);
}

static size_t group_bytes(const struct els_sweep *s)
{
    size_t biases = (size_t)s->shape.h * (size_t)s->shape.w * L;

    return layout_of(s).y_floats * sizeof(float) + biases * sizeof(double);
}

static size_t work_bytes(const struct els_sweep *s)
{
    return (size_t)layout_of(s).columns * L * sizeof(double);
}

/* The value to the left or right of the image: wrapped, or −1 for "zero". */
static int source_column(const struct els_sweep *s, int j)
{
    int w = s->shape.w;

    if (j >= 0 && j < w)
        return j;
    return s->wraps ? (j + w) % w : -1;
}

/* The bank's unit: what one step of the stored value is worth in [−1,1]. */
static double unit(const struct els_sweep *s)
{
    return els_bank_info(s->bank)->dtype == ELS_U8 ? 1.0 / 127.5 : 1.0;
}

static void prepare_query(const struct els_sweep *s, const float *x, void *query)
{
    struct layout o = layout_of(s);
    double *out = query;

    for (int ci = 0; ci < s->shape.c * s->shape.h; ci++)
        for (int j = 0; j < o.columns; j++) {
            int from = source_column(s, j - s->rw);

            *out++ = from < 0 ? 0.0 : x[(size_t)ci * (size_t)s->shape.w + (size_t)from];
        }
}

/* Fills lane `lane` of y from bank image `image`. */
static void load_lane(const struct els_sweep *s, int64_t image, int lane, float *y)
{
    struct layout o = layout_of(s);
    size_t values = els_shape_values(s->shape), w = (size_t)s->shape.w;
    const void *images = els_bank_images(s->bank);
    int is_u8 = els_bank_info(s->bank)->dtype == ELS_U8;
    const uint8_t *u8 = is_u8 ? (const uint8_t *)images + (size_t)image * values : NULL;
    const float *f32 = is_u8 ? NULL : (const float *)images + (size_t)image * values;

    for (size_t row = 0; row < (size_t)s->shape.c * (size_t)s->shape.h; row++)
        for (int j = 0; j < o.columns; j++) {
            int from = source_column(s, j - s->rw);
            float *to = y + (row * (size_t)o.columns + (size_t)j) * L + lane;
            size_t at = row * w + (size_t)(from < 0 ? 0 : from);

            *to = from < 0 ? 0.0f : is_u8 ? (float)u8[at] - 127.5f : f32[at];
        }
}

/* Σ over channels of y² at padded column `column` of row `row`, added to out[L] with a sign. */
static void add_squares(const struct els_sweep *s, const float *y, int row, int column, double sign,
                        double *restrict out)
{
    struct layout o = layout_of(s);

    for (int c = 0; c < s->shape.c; c++) {
        const float *v =
            y + ((size_t)c * o.plane + (size_t)row * (size_t)o.columns + (size_t)column) * L;

        for (int l = 0; l < L; l++)
            out[l] += sign * (double)v[l] * (double)v[l];
    }
}

/* The image row that window row t stands for, or −1 when it is clipped. */
static int window_row(const struct els_sweep *s, int t)
{
    int h = s->shape.h;

    if (t >= 0 && t < h)
        return t;
    return s->wraps ? (t + h) % h : -1;
}

/*
 * bias(k, l) = a²/2β·‖y_Ω‖² for every centre, straight from the definition of a box sum in two
 * passes.
 */
static void window_biases(const struct els_sweep *s, const float *y, double *bias)
{
    int h = s->shape.h, w = s->shape.w;
    double factor = s->bias * unit(s) * unit(s);

    for (int k = 0; k < h; k++)
        for (int l = 0; l < w; l++) {
            double *out = bias + ((size_t)k * (size_t)w + (size_t)l) * L;

            memset(out, 0, L * sizeof(*out));
            for (int b = -s->rw; b <= s->rw; b++)
                add_squares(s, y, k, l + s->rw + b, 1.0, out);
        }
    /* Rows: each column of the image, top to bottom, through a copy of its row sums. */
    for (int l = 0; l < w; l++) {
        double column[ELS_MAX_SIDE][L];

        for (int k = 0; k < h; k++)
            memcpy(column[k], bias + ((size_t)k * (size_t)w + (size_t)l) * L, sizeof(column[k]));
        for (int k = 0; k < h; k++) {
            double *out = bias + ((size_t)k * (size_t)w + (size_t)l) * L;

            memset(out, 0, L * sizeof(*out));
            for (int t = k - s->rh; t <= k + s->rh; t++) {
                int row = window_row(s, t);

                for (int lane = 0; row >= 0 && lane < L; lane++)
                    out[lane] += factor * column[row][lane];
            }
        }
    }
}

/* is, es: one bias for the whole image, the same for all translates. */
static void image_bias(const struct els_sweep *s, const float *y, double *bias)
{
    memset(bias, 0, L * sizeof(*bias));
    for (int k = 0; k < s->shape.h; k++)
        for (int l = 0; l < s->shape.w; l++)
            add_squares(s, y, k, l + s->rw, s->bias * unit(s) * unit(s), bias);
}

static void prepare_group(const struct els_sweep *s, const int64_t *images, int count, void *group)
{
    float *y = group;
    double *bias = (double *)(y + layout_of(s).y_floats);
    size_t biases = (size_t)s->shape.h * (size_t)s->shape.w;

    memset(y, 0, layout_of(s).y_floats * sizeof(*y));
    for (int lane = 0; lane < count; lane++)
        load_lane(s, images[lane], lane, y);
    if (els_machine_uses_p(s->machine)) {
        window_biases(s, y, bias);
    } else {
        image_bias(s, y, bias);
        biases = 1;
    }
    for (size_t k = 0; k < biases; k++)
        for (int lane = count; lane < L; lane++)
            bias[k * L + (size_t)lane] = INFINITY; /* an empty lane has weight e^(−∞) */
}

/* e^x for x ≤ ELS_HEADROOM; 0 below −87. Relative error 1e-7 (a degree-5 minimax polynomial). */
static inline float exp_lane(float x)
{
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* round to nearest */
    float f = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 8.297618478536606e-3f;
    union {
        int32_t i;
        float f;
    } power;

    p = p * f + 4.191562905907631e-2f;
    p = p * f + 1.6667576134204865e-1f;
    p = p * f + 4.999889135360718e-1f;
    p = p * f + 9.999997019767761e-1f;
    p = p * f + 1.0000001192092896f;
    power.i = ((int32_t)n + 127) << 23;
    return p * power.f;
}

/* Raises the reference of one pixel to `top` and rescales its sums. Rare. */
static void raise_reference(const struct els_sweep *s, double top, double *m, float *sum)
{
    float delta = (float)(top - *m), keep = *m == -INFINITY ? 0.0f : expf(-delta);
    float *u = sum + (s->slots - 1) * L;

    if (s->entropy && keep != 0.0f)
        for (int l = 0; l < L; l++)
            u[l] -= delta * sum[l];
    for (int k = 0; k < s->slots * L; k++)
        sum[k] *= keep;
    *m = top;
}

/* Largest of the L logits relative to m, from scale·dot − bias. */
static inline double relative_logits(const struct els_sweep *s, double scale, const double *dot,
                                     const double *bias, double m, double *restrict out)
{
    double top = -INFINITY;

    for (int l = 0; l < L; l++)
        out[l] = scale * dot[l] - bias[l] - m;
    for (int l = 0; l < L; l++)
        top = out[l] > top ? out[l] : top;
    return top;
}

/*
 * Turns relative logits into weights e^(l−m) of pixel `*m`. False: none of them is worth adding.
 */
static inline int weigh(const struct els_sweep *s, double scale, const double *dot,
                        const double *bias, double *m, float *sum, float *restrict weight,
                        float *restrict logit)
{
    double rel[L], top = relative_logits(s, scale, dot, bias, *m, rel);

    if (top > ELS_HEADROOM) {
        raise_reference(
            s, *m == -INFINITY ? relative_logits(s, scale, dot, bias, 0.0, rel) : *m + top, m, sum);
        top = relative_logits(s, scale, dot, bias, *m, rel);
    }
    if (!(top >= -s->cut))
        return 0;
    for (int l = 0; l < L; l++) {
        logit[l] = rel[l] < -87.0 ? -87.0f : (float)rel[l];
        weight[l] = rel[l] < -87.0 ? 0.0f : exp_lane(logit[l]);
    }
    return 1;
}

/* Adds weights to s and u of one pixel. */
static inline void add_weights(const struct els_sweep *s, const float *weight, const float *logit,
                               float *restrict sum)
{
    float *u = sum + (s->slots - 1) * L;

    for (int l = 0; l < L; l++)
        sum[l] += weight[l];
    for (int l = 0; s->entropy && l < L; l++)
        u[l] += weight[l] * logit[l];
}

/* Adds weight·y to v of one pixel; y points at channel 0 of the centre. */
static inline void add_centres(const struct els_sweep *s, const float *weight, const float *y,
                               size_t plane, float *restrict sum)
{
    for (int c = 0; c < s->shape.c; c++)
        for (int l = 0; l < L; l++)
            sum[(1 + c) * L + l] += weight[l] * y[(size_t)c * plane * L + (size_t)l];
}

/* Adds (or takes away) row t of the products to the column sums of one pair of runs. */
static void slide_columns(const struct els_sweep *s, const struct els_run *cols, int t, int dy,
                          double sign, const double *x, const float *y, double *restrict column)
{
    struct layout o = layout_of(s);
    int row_x = window_row(s, t), row_y = row_x < 0 ? -1 : window_row(s, t + dy);
    int dx = cols->source - cols->query, first = cols->query;

    if (row_x < 0 || row_y < 0)
        return;
    for (int c = 0; c < s->shape.c; c++) {
        /*
         * Padded column j + rw of the image is column j of the window's left edge: index from
         * query − rw.
         */
        const double *xs = x + (size_t)c * o.plane + (size_t)row_x * (size_t)o.columns + first;
        const float *ys =
            y +
            ((size_t)c * o.plane + (size_t)row_y * (size_t)o.columns + (size_t)(first + dx)) * L;

        for (int j = 0; j < cols->count + 2 * s->rw; j++) {
            double value = sign * xs[j];

            for (int l = 0; l < L; l++)
                column[j * L + l] += value * (double)ys[j * L + l];
        }
    }
}

/*
 * Query row i against source row k for one run of columns: the horizontal running sum and the
 * softmax.
 */
static void emit_row(const struct els_sweep *s, const struct els_run *cols, int i, int k,
                     const double *column, const float *y, const double *bias,
                     const struct els_lanes *lanes)
{
    struct layout o = layout_of(s);
    double dot[L] = {0}, scale = s->scale * unit(s);
    float weight[L], logit[L];
    size_t pixel = (size_t)(i - s->band_from) * (size_t)s->shape.w + (size_t)cols->query;
    size_t centre = (size_t)k * (size_t)s->shape.w + (size_t)cols->source;
    const float *y_centre =
        y + ((size_t)k * (size_t)o.columns + (size_t)(cols->source + s->rw)) * L;

    for (int b = 0; b < 2 * s->rw; b++)
        for (int l = 0; l < L; l++)
            dot[l] += column[b * L + l];
    for (int j = 0; j < cols->count; j++, pixel++, centre++, y_centre += L) {
        float *sum = lanes->sum + pixel * (size_t)s->slots * L;

        for (int l = 0; l < L; l++)
            dot[l] += column[(j + 2 * s->rw) * L + l];
        if (weigh(s, scale, dot, bias + centre * L, &lanes->m[pixel], sum, weight, logit)) {
            add_weights(s, weight, logit, sum);
            add_centres(s, weight, y_centre, o.plane, sum);
        }
        for (int l = 0; l < L; l++)
            dot[l] -= column[j * L + l];
    }
}

static void sweep_windows(const struct els_sweep *s, const struct els_run *rows, const void *query,
                          const void *group, void *work, struct els_lanes *lanes)
{
    const float *y = group;
    const double *bias = (const double *)(y + layout_of(s).y_floats);
    double *column = work;
    int dy = rows->source - rows->query;

    for (int c = 0; c < s->cols.count; c++) {
        const struct els_run *cols = &s->cols.run[c];

        memset(column, 0, work_bytes(s));
        for (int t = rows->query - s->rh; t < rows->query + rows->count + s->rh; t++) {
            int i = t - s->rh;

            slide_columns(s, cols, t, dy, 1.0, query, y, column);
            if (i < rows->query)
                continue;
            emit_row(s, cols, i, i + dy, column, y, bias, lanes);
            slide_columns(s, cols, i - s->rh, dy, -1.0, query, y, column);
        }
    }
}

/* ⟨x, y translated by (dy, dx)⟩ over the whole image: the pixel at (i, j) meets y(i+dy, j+dx). */
static void correlate(const struct els_sweep *s, int dy, int dx, const double *x, const float *y,
                      double *restrict dot)
{
    struct layout o = layout_of(s);

    memset(dot, 0, L * sizeof(*dot));
    for (int c = 0; c < s->shape.c; c++)
        for (int i = 0; i < s->shape.h; i++) {
            size_t row_y = (size_t)((i + dy) % s->shape.h);
            const double *xs = x + (size_t)c * o.plane + (size_t)i * (size_t)o.columns + s->rw;
            const float *ys =
                y + ((size_t)c * o.plane + row_y * (size_t)o.columns + (size_t)(s->rw + dx)) * L;

            for (int j = 0; j < s->shape.w; j++)
                for (int l = 0; l < L; l++)
                    dot[l] += xs[j] * (double)ys[j * L + l];
        }
}

/* The smallest and one past the largest column displacement of is and es: W translates, or one. */
static void translates(const struct els_sweep *s, int *from, int *to)
{
    *from = s->wraps ? -(s->shape.w / 2) : 0;
    *to = s->wraps ? *from + s->shape.w : 1;
}

static void sweep_translates(const struct els_sweep *s, int dy, const void *query,
                             const void *group, struct els_lanes *lanes)
{
    struct layout o = layout_of(s);
    const float *y = group;
    const double *bias = (const double *)(y + o.y_floats);
    float weight[L], logit[L], *sum = lanes->sum;
    int from, to;

    translates(s, &from, &to);
    for (int dx = from; dx < to; dx++) {
        double dot[L], before = lanes->m[0];

        correlate(s, dy, dx, query, y, dot);
        /* s and u live in pixel 0; raising the reference there must reach every pixel's v. */
        if (!weigh(s, s->scale * unit(s), dot, bias, &lanes->m[0], sum, weight, logit))
            continue;
        if (lanes->m[0] != before) {
            float keep = before == -INFINITY ? 0.0f : expf((float)(before - lanes->m[0]));

            for (size_t k = (size_t)s->slots * L;
                 k < (size_t)s->shape.h * (size_t)s->shape.w * (size_t)s->slots * L; k++)
                sum[k] *= keep;
        }
        add_weights(s, weight, logit, sum);
        for (int i = 0; i < s->shape.h; i++) {
            size_t row_y = (size_t)((i + dy) % s->shape.h);
            const float *ys = y + (row_y * (size_t)o.columns + (size_t)(s->rw + dx)) * L;

            for (int j = 0; j < s->shape.w; j++)
                add_centres(s, weight, ys + j * L, o.plane,
                            sum + ((size_t)i * (size_t)s->shape.w + (size_t)j) * (size_t)s->slots *
                                      L);
        }
    }
}

/* A run of rows, or for is and es the translates of one row displacement. */
static int steps(const struct els_sweep *s)
{
    return els_machine_uses_p(s->machine) ? s->rows.count : s->band_to - s->band_from;
}

static void sweep(const struct els_sweep *s, int step, const void *query, const void *group,
                  void *work, struct els_lanes *lanes)
{
    if (els_machine_uses_p(s->machine))
        sweep_windows(s, &s->rows.run[step], query, group, work, lanes);
    else
        sweep_translates(s, s->band_from + step, query, group, lanes);
}

const struct els_kernel els_kernel_c = {
    .name = "c",
    .lanes = L,
    .usable = always,
    .accepts = accepts_all,
    .query_bytes = query_bytes,
    .group_bytes = group_bytes,
    .work_bytes = work_bytes,
    .prepare_query = prepare_query,
    .prepare_group = prepare_group,
    .steps = steps,
    .sweep = sweep,
};
