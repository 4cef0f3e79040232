/*
 * The NEON kernel for the noisy images that need more than 16 bits: see kernel/pair_bits.h.
 */
#include <stdint.h>

#include "core/kernel/arm/neon_ops.h"

#define PAIR_OF_BITS
#include "core/kernel/sweep.h"

const struct els_kernel els_kernel_neon_bits = {
    .name = "neon",
    .otherwise = &els_kernel_neon_is,
    SWEEP_FUNCTIONS,
};
