/*
 * The AVX-512 kernel without VNNI: multiply-add of int16 pairs, then an add. The algorithm is in
 * kernel_sweep.h.
 */
#include <stdint.h>

#include "kernel_avx512_ops.h"

INLINE vi v_dot(vi sum, vi x, vi y)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, y));
}

#include "kernel_sweep.h"

static int usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const struct els_kernel els_kernel_avx512 = {
    .name = "avx512",
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
