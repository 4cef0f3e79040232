/*
 * From a calibration's curves to a schedule: the lower median or the mode of the seeds' best scales at each time, or
 * the best schedule that never falls. Called from any thread that owns the calibration; holds no state.
 *
 * Everywhere a score is something to make large: the cosine, or −l2. Scales are looked at in ascending order, and a
 * later one must be strictly better, so that of equals the smallest P wins.
 */
#include <stdlib.h>
#include <string.h>

#include "core/analysis/calibrate_internal.h"
#include "els/mem.h"

static const char *const metric_names[ELS_METRIC_COUNT] = {"cosine", "l2"};
static const char *const fit_names[ELS_FIT_COUNT] = {"median", "mode", "monotone"};

const char *els_calibration_metric_name(enum els_calibration_metric metric)
{
    return (int)metric >= 0 && metric < ELS_METRIC_COUNT ? metric_names[metric] : NULL;
}

const char *els_calibration_fit_name(enum els_calibration_fit fit)
{
    return (int)fit >= 0 && fit < ELS_FIT_COUNT ? fit_names[fit] : NULL;
}

static int find_name(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return ELS_ENOENT;
}

int els_calibration_metric_parse(const char *name, enum els_calibration_metric *out)
{
    int i = find_name(metric_names, ELS_METRIC_COUNT, name);

    if (i < 0)
        return i;
    *out = (enum els_calibration_metric)i;
    return 0;
}

int els_calibration_fit_parse(const char *name, enum els_calibration_fit *out)
{
    int i = find_name(fit_names, ELS_FIT_COUNT, name);

    if (i < 0)
        return i;
    *out = (enum els_calibration_fit)i;
    return 0;
}

/* What a fit works with. */
struct fit {
    const struct els_calibration *c;
    enum els_calibration_metric metric;
    int order[ELS_MAX_P_COUNT]; /* indices of the scales, P ascending */
    int *p;                     /* [T] the result */
};

static double score(const struct fit *f, int64_t seed, int time, int k)
{
    size_t at =
        ((size_t)seed * (size_t)f->c->spec.num_t + (size_t)time) * (size_t)f->c->spec.num_p +
        (size_t)k;

    return f->metric == ELS_METRIC_COSINE ? f->c->cosine[at] : -f->c->l2[at];
}

static void order_scales(struct fit *f)
{
    const int *p = f->c->spec.p;

    for (int i = 0; i < f->c->spec.num_p; i++) {
        int at = i;

        for (; at > 0 && p[f->order[at - 1]] > p[i]; at--)
            f->order[at] = f->order[at - 1];
        f->order[at] = i;
    }
}

/* How many seeds are best at each scale, in ascending order of P. */
static void count_best(const struct fit *f, int time, int64_t votes[ELS_MAX_P_COUNT])
{
    memset(votes, 0, ELS_MAX_P_COUNT * sizeof(*votes));
    for (int64_t seed = 0; seed < f->c->spec.num_seeds; seed++) {
        int best = 0;

        for (int i = 1; i < f->c->spec.num_p; i++)
            if (score(f, seed, time, f->order[i]) > score(f, seed, time, f->order[best]))
                best = i;
        votes[best]++;
    }
}

static void fit_votes(struct fit *f, enum els_calibration_fit fit)
{
    int64_t votes[ELS_MAX_P_COUNT];

    for (int time = 0; time < f->c->spec.num_t; time++) {
        int64_t below = 0;
        int chosen = 0;

        count_best(f, time, votes);
        if (fit == ELS_FIT_MEDIAN)
            while ((below += votes[chosen]) <= (f->c->spec.num_seeds - 1) / 2)
                chosen++;
        else
            for (int i = 1; i < f->c->spec.num_p; i++)
                chosen = votes[i] > votes[chosen] ? i : chosen;
        f->p[time] = f->c->spec.p[f->order[chosen]];
    }
}

/* Indices of the times, ascending. */
static void order_times(const struct els_calibration *c, int *order)
{
    for (int i = 0; i < c->spec.num_t; i++) {
        int at = i;

        for (; at > 0 && c->spec.t[order[at - 1]] > c->spec.t[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static double mean_score(const struct fit *f, int time, int k)
{
    double sum = 0;

    for (int64_t seed = 0; seed < f->c->spec.num_seeds; seed++)
        sum += score(f, seed, time, k);
    return sum / (double)f->c->spec.num_seeds;
}

/* best[i][k]: the largest sum over times up to the i-th when none takes more than the k-th scale. */
static int fit_monotone(struct fit *f)
{
    int times = f->c->spec.num_t, scales = f->c->spec.num_p;
    size_t cells = (size_t)times * (size_t)scales;
    _cleanup_(els_freep) int *order = els_alloc_array((size_t)times, sizeof(*order));
    _cleanup_(els_freep) int *from = els_alloc_array(cells, sizeof(*from));
    double best[ELS_MAX_P_COUNT] = {0};

    if (!order || !from)
        return ELS_ENOMEM;
    order_times(f->c, order);
    for (int i = 0; i < times; i++) {
        int *chosen = from + (size_t)i * (size_t)scales;

        for (int k = 0; k < scales; k++) {
            best[k] += mean_score(f, order[i], f->order[k]);
            chosen[k] = k;
            if (k > 0 && best[k] <= best[k - 1]) {
                best[k] = best[k - 1];
                chosen[k] = chosen[k - 1];
            }
        }
    }
    for (int i = times - 1, k = scales - 1; i >= 0; i--) {
        k = from[(size_t)i * (size_t)scales + (size_t)k];
        f->p[order[i]] = f->c->spec.p[f->order[k]];
    }
    return 0;
}

int els_calibration_scales(struct els_scales *out, const struct els_calibration *c,
                           enum els_calibration_metric metric, enum els_calibration_fit fit,
                           struct els_error *err)
{
    _cleanup_(els_freep) int *p = els_alloc_array((size_t)c->spec.num_t, sizeof(*p));
    struct fit f = {.c = c, .metric = metric, .p = p};
    int r = 0;

    if (c->next < c->spec.num_t)
        return els_fail(err, ELS_EINVAL, NULL, "Only %d of %d times are done.", c->next,
                        c->spec.num_t);
    if (!p)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    order_scales(&f);
    if (fit == ELS_FIT_MONOTONE)
        r = fit_monotone(&f);
    else
        fit_votes(&f, fit);
    if (r < 0)
        return els_fail(err, r, NULL, "The schedule failed: %s.", els_status_text(r));
    return els_scales_from_pairs(out, c->spec.num_t, c->spec.t, p, err);
}
