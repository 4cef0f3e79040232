/*
 * Agreement of images: the metrics of compare.h, their medians, means and bootstrap intervals, and the sheet to look
 * at. Called from any thread; holds no state.
 *
 * The bootstrap draws images with replacement. The median of a resample depends on the ranks drawn alone, so one
 * set of resamples serves every metric, each looking its medians up in its own sorted values.
 */
#include "els/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/random.h"
#include "els/mem.h"

enum { NUM_METRICS = 4, RESAMPLES_PER_POLL = 100 /* of 10,000 images: some milliseconds */ };

static const struct {
    const char *name;
    size_t agreement, spreads; /* offsets */
} metrics[NUM_METRICS] = {
    {"pearson_r", offsetof(struct els_agreement, pearson_r),
     offsetof(struct els_spreads, pearson_r)},
    {"pearson_r_squared", offsetof(struct els_agreement, pearson_r_squared),
     offsetof(struct els_spreads, pearson_r_squared)},
    {"r2_score", offsetof(struct els_agreement, r2_score), offsetof(struct els_spreads, r2_score)},
    {"mse", offsetof(struct els_agreement, mse), offsetof(struct els_spreads, mse)},
};

const char *els_metric_name(int i)
{
    return i >= 0 && i < NUM_METRICS ? metrics[i].name : NULL;
}

double els_metric_of(const struct els_agreement *a, int i)
{
    return *(const double *)((const char *)a + metrics[i].agreement);
}

const struct els_spread *els_metric_spread(const struct els_spreads *s, int i)
{
    return (const struct els_spread *)((const char *)s + metrics[i].spreads);
}

/* ---- one image ---- */

static double value(float v, int clamped)
{
    return clamped ? fmin(1.0, fmax(-1.0, (double)v)) : (double)v;
}

static struct els_agreement agree(const float *g, const float *f, size_t n, int clamped)
{
    double mean_f = 0, mean_g = 0, ff = 0, gg = 0, fg = 0, rest = 0;
    struct els_agreement a = {0};

    for (size_t i = 0; i < n; i++) {
        mean_f += value(f[i], clamped);
        mean_g += value(g[i], clamped);
    }
    mean_f /= (double)n;
    mean_g /= (double)n;
    for (size_t i = 0; i < n; i++) {
        double vf = value(f[i], clamped), vg = value(g[i], clamped);

        ff += (vf - mean_f) * (vf - mean_f);
        gg += (vg - mean_g) * (vg - mean_g);
        fg += (vf - mean_f) * (vg - mean_g);
        rest += (vf - vg) * (vf - vg);
    }
    if (ff > 0 && gg > 0)
        a.pearson_r = fg / (sqrt(ff) * sqrt(gg));
    a.pearson_r_squared = a.pearson_r * a.pearson_r;
    a.r2_score = ff > 0 ? 1 - rest / ff : rest == 0;
    a.mse = rest / (double)n;
    return a;
}

struct els_compared els_compare_one(const float *image, const float *reference, size_t n)
{
    return (struct els_compared){
        .plain = agree(image, reference, n, 0),
        .clamped = agree(image, reference, n, 1),
    };
}

/* ---- all images ---- */

/* The two middle ranks (one and the same when n is odd) of every resample. */
struct resamples {
    size_t n;
    int32_t *low, *high; /* [ELS_BOOTSTRAP_RESAMPLES] */
    double *sorted;      /* [n] */
    double *median;      /* [ELS_BOOTSTRAP_RESAMPLES] */
};

/* `done` is not told: it is a matter of seconds. */
static int is_to_stop(const struct els_progress *progress)
{
    return progress && progress->poll(progress->user, 0);
}

static int resample(struct resamples *r, int32_t *count, const struct els_progress *progress)
{
    uint64_t state = 1;

    for (int b = 0; b < ELS_BOOTSTRAP_RESAMPLES; b++) {
        size_t seen = 0;
        int32_t rank = 0;

        if (b % RESAMPLES_PER_POLL == 0 && is_to_stop(progress))
            return ELS_ECANCELLED;
        memset(count, 0, r->n * sizeof(*count));
        for (size_t i = 0; i < r->n; i++)
            count[((els_random_next(&state) >> 32) * r->n) >> 32]++;
        while ((seen += (size_t)count[rank]) <= (r->n - 1) / 2)
            rank++;
        r->low[b] = rank;
        while (seen <= r->n / 2)
            seen += (size_t)count[++rank];
        r->high[b] = rank;
    }
    return 0;
}

static int make_resamples(struct resamples *r, size_t n, const struct els_progress *progress)
{
    _cleanup_(els_freep) int32_t *count = els_alloc_array(n, sizeof(*count));

    *r = (struct resamples){
        .n = n,
        .low = els_alloc_array(ELS_BOOTSTRAP_RESAMPLES, sizeof(*r->low)),
        .high = els_alloc_array(ELS_BOOTSTRAP_RESAMPLES, sizeof(*r->high)),
        .sorted = els_alloc_array(n, sizeof(*r->sorted)),
        .median = els_alloc_array(ELS_BOOTSTRAP_RESAMPLES, sizeof(*r->median)),
    };
    if (!count || !r->low || !r->high || !r->sorted || !r->median)
        return ELS_ENOMEM;
    return resample(r, count, progress);
}

static void free_resamples(struct resamples *r)
{
    free(r->low);
    free(r->high);
    free(r->sorted);
    free(r->median);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Of r->sorted, which is not yet so. */
static struct els_spread spread(struct resamples *r)
{
    size_t n = r->n;
    struct els_spread s = {0};

    for (size_t i = 0; i < n; i++)
        s.mean += r->sorted[i];
    s.mean /= (double)n;
    qsort(r->sorted, n, sizeof(*r->sorted), by_value);
    s.median = (r->sorted[(n - 1) / 2] + r->sorted[n / 2]) / 2;
    for (int b = 0; b < ELS_BOOTSTRAP_RESAMPLES; b++)
        r->median[b] = (r->sorted[r->low[b]] + r->sorted[r->high[b]]) / 2;
    qsort(r->median, ELS_BOOTSTRAP_RESAMPLES, sizeof(*r->median), by_value);
    s.low = r->median[ELS_BOOTSTRAP_RESAMPLES / 40];
    s.high = r->median[ELS_BOOTSTRAP_RESAMPLES - 1 - ELS_BOOTSTRAP_RESAMPLES / 40];
    return s;
}

static struct els_compared_summary summarise(struct resamples *r, const struct els_compared *of)
{
    struct els_compared_summary s = {0};

    for (int clamped = 0; clamped < 2; clamped++)
        for (int m = 0; m < NUM_METRICS; m++) {
            char *to = (char *)(clamped ? &s.clamped : &s.plain) + metrics[m].spreads;

            for (size_t i = 0; i < r->n; i++)
                r->sorted[i] = els_metric_of(clamped ? &of[i].clamped : &of[i].plain, m);
            *(struct els_spread *)to = spread(r);
        }
    return s;
}

static int check(const float *x, size_t values, int64_t n, const char *field, struct els_error *err)
{
    for (size_t i = 0; i < values * (size_t)n; i++)
        if (!isfinite(x[i]))
            return els_fail(err, ELS_EINVAL, field,
                            "%s holds %g in image %zu; values must be finite.", field, (double)x[i],
                            i / values);
    return 0;
}

static int fill(struct els_comparison *c, const float *network, const float *machine,
                const float *ideal, size_t values, const struct els_progress *progress)
{
    struct resamples r = {0};
    size_t n = (size_t)c->n, beaten = 0;
    int status;

    c->machine = els_alloc_array(n, sizeof(*c->machine));
    c->is = ideal ? els_alloc_array(n, sizeof(*c->is)) : NULL;
    status = c->machine && (c->is || !ideal) ? make_resamples(&r, n, progress) : ELS_ENOMEM;
    for (size_t i = 0; i < n && status == 0; i++) {
        if (is_to_stop(progress)) {
            status = ELS_ECANCELLED;
            break;
        }
        c->machine[i] = els_compare_one(machine + i * values, network + i * values, values);
        if (!ideal)
            continue;
        c->is[i] = els_compare_one(ideal + i * values, network + i * values, values);
        beaten += c->machine[i].plain.pearson_r > c->is[i].plain.pearson_r;
    }
    if (status == 0) {
        c->beats_is = (double)beaten / (double)n;
        c->summary = summarise(&r, c->machine);
        if (ideal)
            c->is_summary = summarise(&r, c->is);
    }
    free_resamples(&r);
    return status;
}

int els_compare(struct els_comparison *out, const float *network, const float *machine,
                const float *ideal, int64_t n, struct els_shape shape, const struct els_progress *progress,
                struct els_error *err)
{
    size_t values = els_shape_values(shape);
    struct els_comparison c = {.n = n};
    int r;

    if (n < 1 || n > ELS_MAX_COMPARED)
        return els_fail(err, ELS_EINVAL, "images",
                        "images holds %lld images; it must hold 1 to %d.", (long long)n,
                        ELS_MAX_COMPARED);
    r = check(network, values, n, "images", err);
    if (r == 0)
        r = check(machine, values, n, "machine", err);
    if (r == 0 && ideal)
        r = check(ideal, values, n, "is", err);
    if (r < 0)
        return r;
    r = fill(&c, network, machine, ideal, values, progress);
    if (r < 0) {
        els_comparison_deinit(&c);
        return els_fail(err, r, NULL, "The comparison failed: %s.", els_status_text(r));
    }
    *out = c;
    return 0;
}

void els_comparison_deinit(struct els_comparison *c)
{
    free(c->machine);
    free(c->is);
    *c = (struct els_comparison){0};
}

int els_compare_sheet(struct els_picture *out, const float *network, const float *machine,
                      const float *ideal, int64_t n, struct els_shape shape)
{
    size_t values = els_shape_values(shape), across = ideal ? 3 : 2;
    const float *const from[] = {network, machine, ideal};
    _cleanup_(els_freep) float *tiles = NULL;

    if (n < 1)
        return ELS_EINVAL;
    tiles = els_alloc_array((size_t)n, across * values * sizeof(*tiles));
    if (!tiles)
        return ELS_ENOMEM;
    for (size_t i = 0; i < (size_t)n; i++)
        for (size_t k = 0; k < across; k++)
            memcpy(tiles + (i * across + k) * values, from[k] + i * values,
                   values * sizeof(*tiles));
    return els_picture_from_values(out, tiles, n * (int64_t)across, shape, (int)across);
}
