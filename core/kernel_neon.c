/*
 * The NEON kernel, for 64-bit ARM, where every CPU has it: 4 lanes. A product takes two rows at
 * once (kernel_pair_rows.h), where the noisy image allows it. The algorithm is in kernel_sweep.h.
 */
#include <stdint.h>

#include "kernel_neon_ops.h"

#define PAIR_OF_ROWS
#include "kernel_sweep.h"

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
