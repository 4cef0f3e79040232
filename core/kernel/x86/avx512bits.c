/*
 * The AVX-512 kernel without VNNI for the noisy images that need more than 16 bits: see
 * kernel/pair_bits.h.
 */
#include <stdint.h>

#include "core/kernel/x86/avx512_ops.h"

INLINE vi v_dot(vi sum, vi x, vi y)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, y));
}

#define PAIR_OF_BITS
#include "core/kernel/sweep.h"

const struct els_kernel els_kernel_avx512_bits = {
    .name = "avx512",
    .otherwise = &els_kernel_avx512_is,
    SWEEP_FUNCTIONS,
};
