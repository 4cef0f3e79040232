/*
 * The AVX2 kernel for the noisy images that need more than 16 bits: see kernel_pair_bits.h.
 */
#include <stdint.h>

#include "kernel_avx2_ops.h"

#define PAIR_OF_BITS
#include "kernel_sweep.h"

const struct els_kernel els_kernel_avx2_bits = {
    .name = "avx2",
    .otherwise = &els_kernel_avx2_is,
    SWEEP_FUNCTIONS,
};
