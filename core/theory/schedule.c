/*
 * The noise schedules β(t). Pure functions of t, in float64; called from any thread.
 *
 * What always holds: β and ᾱ come from formulas of their own, so that neither is got by
 * subtracting the other from 1 where that would cancel: 1 − cos² is written sin², 1 − e^−x is
 * −expm1(−x), and 1 − Π(1 − b) is −expm1(Σ log1p(−b)).
 */
#include "els/schedule.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "els/error.h"

enum { DDPM_STEPS = 1000 };

static const char *const names[ELS_SCHEDULE_COUNT] = {
    [ELS_COSINE] = "cosine",
    [ELS_COSINE_NICHOL] = "cosine_nichol",
    [ELS_LINEAR] = "linear",
    [ELS_EXPONENTIAL] = "exponential",
    [ELS_DDPM_LINEAR] = "ddpm_linear",
};

/* The angle whose squared sine is β: at offset 0 the released code's, at 0.008 that of Nichol &
 * Dhariwal (2021). */
static double cosine_angle(double t, double offset)
{
    return (t + offset) / 1.008 * M_PI_2;
}

/* ln ᾱ after round(1000 t) steps of Ho et al. (2020). */
static double ddpm_log_alpha_bar(double t)
{
    int steps = (int)round(DDPM_STEPS * t);
    double sum = 0;

    for (int k = 0; k < steps; k++)
        sum += log1p(-(1e-4 + k * (0.02 - 1e-4) / (DDPM_STEPS - 1)));
    return sum;
}

static double square(double x)
{
    return x * x;
}

double els_schedule_beta(enum els_schedule s, double t)
{
    assert(t >= 0 && t <= 1);
    switch (s) {
    case ELS_COSINE:
        return square(sin(cosine_angle(t, 0)));
    case ELS_COSINE_NICHOL:
        return square(sin(cosine_angle(t, 0.008)));
    case ELS_LINEAR:
        return 0.01 + 0.97 * t;
    case ELS_EXPONENTIAL:
        return -expm1(-2 * t);
    case ELS_DDPM_LINEAR:
        return -expm1(ddpm_log_alpha_bar(t));
    case ELS_SCHEDULE_COUNT:
        break;
    }
    return NAN;
}

double els_schedule_alpha_bar(enum els_schedule s, double t)
{
    assert(t >= 0 && t <= 1);
    switch (s) {
    case ELS_COSINE:
        return square(cos(cosine_angle(t, 0)));
    case ELS_COSINE_NICHOL:
        return square(cos(cosine_angle(t, 0.008)));
    case ELS_LINEAR:
        return 0.99 - 0.97 * t;
    case ELS_EXPONENTIAL:
        return exp(-2 * t);
    case ELS_DDPM_LINEAR:
        return exp(ddpm_log_alpha_bar(t));
    case ELS_SCHEDULE_COUNT:
        break;
    }
    return NAN;
}

const char *els_schedule_name(enum els_schedule s)
{
    return (int)s >= 0 && s < ELS_SCHEDULE_COUNT ? names[s] : NULL;
}

int els_schedule_parse(const char *name, enum els_schedule *out)
{
    for (int s = 0; s < ELS_SCHEDULE_COUNT; s++) {
        if (strcmp(name, names[s]) == 0) {
            *out = (enum els_schedule)s;
            return 0;
        }
    }
    return ELS_ENOENT;
}
