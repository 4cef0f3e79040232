/*
 * synth_internal: what the built-in banks share: their generator, and the promise of equal bytes.
 *
 * Only + − × ÷ and sqrt in double, which IEEE 754 rounds correctly, in a fixed order; with
 * -ffp-contract=off no compiler may fuse them. No libm function beyond sqrt, no float formatting.
 */
#ifndef ELS_SYNTH_INTERNAL_H
#define ELS_SYNTH_INTERNAL_H

#include <float.h>
#include <stdint.h>

#include "core/base/random.h"
#include "els/bank.h"

#if FLT_EVAL_METHOD != 0
#error "the built-in banks need double arithmetic that is evaluated in double"
#endif

/* Uniform in [a,b): 53 random bits, an exact product, two rounded operations. */
static inline double els_synth_between(uint64_t *state, double a, double b)
{
    double u = (double)(els_random_next(state) >> 11) * 0x1p-53;

    return a + (b - a) * u;
}

/* In [-1,1], most often near 0. */
static inline double els_synth_bell(uint64_t *state)
{
    double sum = 0;

    for (int i = 0; i < 3; i++)
        sum = sum + els_synth_between(state, -1, 1);
    return sum / 3;
}

static inline double els_synth_clamp(double v, double low, double high)
{
    return v < low ? low : v > high ? high : v;
}

/* Image i of the bank, u8 [C,H,W], labelled i mod the number of classes. */
void els_synth_draw_digit(uint8_t *out, int i);
void els_synth_draw_shape(uint8_t *out, int i);

#endif
