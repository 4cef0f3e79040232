/*
 * The NEON kernel, for 64-bit ARM, where every CPU has it: 4 lanes. A product takes two rows at
 * once (kernel/pair_rows.h), where the noisy image allows it. The algorithm is in kernel/sweep.h.
 */
#include <stdint.h>

#include "core/kernel/arm/neon_ops.h"

#define PAIR_OF_ROWS
#include "core/kernel/sweep.h"

static int usable(void)
{
    return 1;
}

const struct els_kernel els_kernel_neon = {
    .name = "neon",
    .otherwise = &els_kernel_neon_bits,
    .usable = usable,
    SWEEP_FUNCTIONS,
};
