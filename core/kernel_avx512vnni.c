/*
 * The AVX-512 kernel with VNNI: one instruction multiplies two pairs of int16 and adds both
 * products to an int32. The algorithm is in kernel_sweep.h. Chosen by kernel.c on CPUs that have
 * it.
 */
#include <stdint.h>

#include "kernel_avx512_ops.h"

INLINE vi v_dot(vi sum, vi x, vi y)
{
    return _mm512_dpwssd_epi32(sum, x, y);
}

#include "kernel_sweep.h"

static int usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

const struct els_kernel els_kernel_avx512vnni = {
    .name = "avx512vnni",
    .lanes = LANES,
    .otherwise = &els_kernel_avx512_is,
    .usable = usable,
    .accepts = accepts,
    .query_bytes = query_bytes,
    .group_bytes = group_bytes,
    .work_bytes = work_bytes,
    .prepare_query = prepare_query,
    .prepare_group = prepare_group,
    .begin = begin,
    .steps = steps,
    .sweep = sweep,
    .peak = peak,
};
