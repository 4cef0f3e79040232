/*
 * The AVX-512 kernel with VNNI: one instruction multiplies two pairs of int16 and adds both
 * products to an int32. A product takes two rows at once (kernel/pair_rows.h), where the noisy
 * image allows it. The algorithm is in kernel/sweep.h.
 */
#include <stdint.h>

#include "core/kernel/x86/avx512_ops.h"

INLINE vi v_dot(vi sum, vi x, vi y)
{
    return _mm512_dpwssd_epi32(sum, x, y);
}

#define PAIR_OF_ROWS
#include "core/kernel/sweep.h"

static int usable(void)
{
    return els_kernel_avx512.usable() && __builtin_cpu_supports("avx512vnni");
}

const struct els_kernel els_kernel_avx512vnni = {
    .name = "avx512vnni",
    .otherwise = &els_kernel_avx512vnni_bits,
    .usable = usable,
    SWEEP_FUNCTIONS,
};
