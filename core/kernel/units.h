/*
 * kernel_units: how fine the integers of a kernel have to be, and how fine they can be. The integer
 * kernels choose their units by these bounds, see kernel/sweep.h and kernel/x86/avx512lists.c.
 */
#ifndef ELS_KERNEL_UNITS_H
#define ELS_KERNEL_UNITS_H

#include "core/kernel/kernel.h"

/* The largest size of a bank pixel in integers: y = (v + ½)/127.5, −128 ≤ v < 128. */
#define ELS_UNITS_PER_ONE 127.5

/* Position t of an axis of length n, −n ≤ t < 2n: wrapped, or −1 outside. */
static inline int els_position(const struct els_sweep *s, int t, int n)
{
    if (t >= 0 && t < n)
        return t;
    return s->wraps ? (t + n) % n : -1;
}

/* Values of a window, the part beyond the border included. */
int els_window_values(const struct els_sweep *s);
/* max |x|; x: [C,H,W] here and below. */
double els_largest(const struct els_sweep *s, const float *x);
/* No two candidates of any query differ by more nats than this. */
double els_logit_range(const struct els_sweep *s, const float *x);
/*
 * What rounding x to multiples of δ does to the difference of two logits that both weigh anything,
 * as a standard error in nats.
 */
double els_logit_error(const struct els_sweep *s, double delta);
/* Largest k in 0 … most with nats·log2(e)·2^k < limit. */
int els_choose_fraction(double nats, double limit, int most);

#endif
