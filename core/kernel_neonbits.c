/*
 * The NEON kernel for the noisy images that need more than 16 bits: see kernel_pair_bits.h.
 */
#include <stdint.h>

#include "kernel_neon_ops.h"

#define PAIR_OF_BITS
#include "kernel_sweep.h"

const struct els_kernel els_kernel_neon_bits = {
    .name = "neon",
    .otherwise = &els_kernel_neon_is,
    SWEEP_FUNCTIONS,
};
