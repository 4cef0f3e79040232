/*
 * The AVX2 kernel: 8 lanes. A product takes two rows at once (kernel/pair_rows.h), where the noisy
 * image allows it. The algorithm is in kernel/sweep.h.
 */
#include <stdint.h>

#include "core/kernel/x86/avx2_ops.h"

#define PAIR_OF_ROWS
#include "core/kernel/sweep.h"

static int usable(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const struct els_kernel els_kernel_avx2 = {
    .name = "avx2",
    .otherwise = &els_kernel_avx2_bits,
    .usable = usable,
    SWEEP_FUNCTIONS,
};
