/*
 * The AVX-512 kernel without VNNI: a multiply-add of int16 pairs, then an add. A product takes two
 * rows at once (kernel/pair_rows.h), where the noisy image allows it. The algorithm is in
 * kernel/sweep.h.
 */
#include <stdint.h>

#include "core/kernel/x86/avx512_ops.h"

INLINE vi v_dot(vi sum, vi x, vi y)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, y));
}

#define PAIR_OF_ROWS
#include "core/kernel/sweep.h"

static int usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const struct els_kernel els_kernel_avx512 = {
    .name = "avx512",
    .otherwise = &els_kernel_avx512_bits,
    .usable = usable,
    SWEEP_FUNCTIONS,
};
