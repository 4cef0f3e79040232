/*
 * Locality scales: an odd window side for every time t, and the published calibrations. Called from
 * any thread; holds no state.
 *
 * What always holds in a struct els_scales with n > 0: t ascends strictly within [0,1] and
 * neighbours lie at least TIE apart, p is odd and within 1…ELS_MAX_P. n = 0 (all zero) is the empty
 * value, safe to deinit. A constructor leaves *out untouched unless it succeeds.
 *
 * Keying by t, not by a step's number, is what lets one calibration serve any number of steps, and
 * avoids the shift by one between the released calibration script and its machine.
 */
#include "els/scale.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"

/* Two times closer than this are the same time. */
#define TIE 1e-9

/* dataset-architecture-padding; entry i is used at t = i/20. Calibrated at 32×32. */
static const struct {
    const char *name;
    int p[ELS_PRESET_LENGTH];
} presets[] = {
    {"cifar10-resnet-circular",
     {3, 3, 3, 3, 5, 5, 5, 5, 7, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15, 15}},
    {"cifar10-resnet-zeros", {3, 3, 3, 3, 5, 5, 5, 7, 7, 7, 7, 9, 9, 11, 11, 13, 15, 17, 17, 17}},
    {"cifar10-unet-zeros", {3, 3, 3, 3, 5, 5, 5, 5, 7, 7, 7, 7, 9, 9, 11, 13, 13, 15, 17, 25}},
    {"celeba-resnet-zeros", {3, 3, 3, 5, 5, 5, 5, 5, 7, 7, 9, 9, 9, 11, 11, 11, 13, 15, 19, 19}},
    {"celeba-unet-zeros", {3, 3, 3, 3, 3, 3, 3, 5, 5, 5, 5, 5, 7, 7, 9, 9, 9, 13, 19, 27}},
    {"fashionmnist-resnet-zeros",
     {3, 3, 5, 5, 7, 7, 9, 9, 9, 11, 11, 11, 13, 13, 13, 15, 15, 15, 17, 17}},
    {"fashionmnist-unet-zeros",
     {3, 3, 5, 5, 7, 7, 7, 9, 11, 11, 11, 13, 15, 15, 21, 23, 25, 25, 25, 25}},
    {"mnist-resnet-circular", {3, 3, 5, 5, 5, 7, 7, 9, 9, 9, 11, 11, 11, 11, 9, 9, 7, 7, 3, 3}},
    {"mnist-resnet-zeros", {3, 3, 5, 5, 5, 7, 7, 7, 9, 9, 11, 11, 11, 11, 13, 15, 15, 15, 15, 15}},
    {"mnist-unet-zeros", {3, 3, 3, 5, 5, 7, 7, 7, 9, 9, 9, 11, 13, 15, 17, 21, 23, 23, 25, 27}},
};

enum { NUM_PRESETS = sizeof(presets) / sizeof(*presets) };

struct pair {
    double t;
    int p;
};

static int by_t(const void *a, const void *b)
{
    double x = ((const struct pair *)a)->t, y = ((const struct pair *)b)->t;

    return (x > y) - (x < y);
}

static int check_count(int n, struct els_error *err)
{
    if (n < 1 || n > ELS_MAX_SCALES)
        return els_fail(err, ELS_EINVAL, "scales", "scales has %d entries; 1 to %d are allowed", n,
                        ELS_MAX_SCALES);
    return 0;
}

static int check_pair(int i, double t, int p, struct els_error *err)
{
    if (!(t >= 0 && t <= 1))
        return els_fail(err, ELS_EINVAL, "scales",
                        "scales entry %d has t = %g; t must be in [0, 1]", i, t);
    if (p < 1 || p > ELS_MAX_P || p % 2 == 0)
        return els_fail(err, ELS_EINVAL, "scales",
                        "scales entry %d is %d; it must be odd, from 1 to %d", i, p, ELS_MAX_P);
    return 0;
}

int els_scales_from_pairs(struct els_scales *out, int n, const double *t, const int *p,
                          struct els_error *err)
{
    _cleanup_(els_freep) struct pair *pairs = NULL;
    struct els_scales made = {.n = n};
    int r;

    r = check_count(n, err);
    if (r < 0)
        goto out;
    pairs = els_alloc_array((size_t)n, sizeof(*pairs));
    made.t = els_alloc_array((size_t)n, sizeof(*made.t));
    made.p = els_alloc_array((size_t)n, sizeof(*made.p));
    if (!pairs || !made.t || !made.p) {
        r = els_fail(err, ELS_ENOMEM, "scales", "out of memory for %d scales", n);
        goto out;
    }
    for (int i = 0; i < n; i++) {
        r = check_pair(i, t[i], p[i], err);
        if (r < 0)
            goto out;
        pairs[i] = (struct pair){t[i], p[i]};
    }
    qsort(pairs, (size_t)n, sizeof(*pairs), by_t);
    for (int i = 0; i < n; i++) {
        if (i > 0 && pairs[i].t - pairs[i - 1].t <= TIE) {
            r = els_fail(err, ELS_EINVAL, "scales", "scales has two entries at t = %.17g",
                         pairs[i].t);
            goto out;
        }
        made.t[i] = pairs[i].t;
        made.p[i] = pairs[i].p;
    }
    *out = made;
    made = (struct els_scales){0};
out:
    els_scales_deinit(&made);
    return r;
}

int els_scales_from_list(struct els_scales *out, int n, const int *p, struct els_error *err)
{
    _cleanup_(els_freep) double *t = NULL;
    int r = check_count(n, err);

    if (r < 0)
        return r;
    t = els_alloc_array((size_t)n, sizeof(*t));
    if (!t)
        return els_fail(err, ELS_ENOMEM, "scales", "out of memory for %d scales", n);
    for (int i = 0; i < n; i++)
        t[i] = (double)i / n;
    r = els_scales_from_pairs(out, n, t, p, err);
    if (r == 0)
        out->is_list = 1;
    return r;
}

int els_scales_constant(struct els_scales *out, int p, struct els_error *err)
{
    return els_scales_from_pairs(out, 1, (const double[]){0}, &p, err);
}

int els_scales_copy(struct els_scales *out, const struct els_scales *from)
{
    struct els_scales made = {.n = from->n, .is_list = from->is_list};
    int r = 0;

    if (from->n > 0) {
        made.t = els_alloc_array((size_t)from->n, sizeof(*made.t));
        made.p = els_alloc_array((size_t)from->n, sizeof(*made.p));
        if (!made.t || !made.p) {
            r = ELS_ENOMEM;
            goto out;
        }
        memcpy(made.t, from->t, (size_t)from->n * sizeof(*made.t));
        memcpy(made.p, from->p, (size_t)from->n * sizeof(*made.p));
    }
    *out = made;
    made = (struct els_scales){0};
out:
    els_scales_deinit(&made);
    return r;
}

int els_scales_at(const struct els_scales *s, double t)
{
    int best = 0;

    if (s->n == 0)
        return 0;
    /* t ascends, so going on at a tie is taking the larger t. */
    for (int i = 1; i < s->n && fabs(s->t[i] - t) <= fabs(s->t[best] - t) + TIE; i++)
        best = i;
    return s->p[best];
}

void els_scales_deinit(struct els_scales *s)
{
    free(s->t);
    free(s->p);
    *s = (struct els_scales){0};
}

int els_scales_num_presets(void)
{
    return NUM_PRESETS;
}

const char *els_scales_preset_name(int i)
{
    return i >= 0 && i < NUM_PRESETS ? presets[i].name : NULL;
}

const int *els_scales_preset(int i)
{
    return i >= 0 && i < NUM_PRESETS ? presets[i].p : NULL;
}
