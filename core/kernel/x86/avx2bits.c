/*
 * The AVX2 kernel for the noisy images that need more than 16 bits: see kernel/pair_bits.h.
 */
#include <stdint.h>

#include "core/kernel/x86/avx2_ops.h"

#define PAIR_OF_BITS
#include "core/kernel/sweep.h"

const struct els_kernel els_kernel_avx2_bits = {
    .name = "avx2",
    .otherwise = &els_kernel_avx2_is,
    SWEEP_FUNCTIONS,
};
