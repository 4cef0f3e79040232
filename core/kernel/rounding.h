/*
 * kernel_rounding: noisy images in 16 bits, for kernel/pair_rows.h.
 *
 * What rounding a value leaves over goes to its neighbours, as Floyd and Steinberg do for pictures:
 * in ⟨x, y⟩ it then cancels as far as y is smooth. How far that is depends on the bank, so it is
 * measured.
 *
 *     double per_one = …;                                    // units per 1 of x
 *     if (els_rounding_error(sweep, x, per_one) <= 6e-5)     // nats
 *         els_round(sweep, x, per_one, out);
 */
#ifndef ELS_KERNEL_ROUNDING_H
#define ELS_KERNEL_ROUNDING_H

#include "core/kernel/kernel.h"

/*
 * out = x·per_one in whole units, x and out [C,H,W], each channel by itself. No value moves by more
 * than one unit: half by rounding, and half by what its neighbours have left over.
 */
void els_round(const struct els_sweep *s, const float *x, double per_one, int32_t *out);

/*
 * What els_round() does to the difference of two logits, as a standard error in nats: over windows
 * in a grid, and patches from all over the sweep's images. Always the same for the same problem.
 */
double els_rounding_error(const struct els_sweep *s, const float *x, double per_one);

#endif
