/*
 * The AVX2 kernel: 8 lanes. The algorithm is in kernel_sweep.h; here are its vector operations.
 */
#include <immintrin.h>
#include <stdint.h>

enum { LANES = 8 };

typedef __m256i vi;
typedef __m256 vf;

#define INLINE static inline __attribute__((always_inline))

INLINE vi v_load(const int32_t *p)
{
    return _mm256_load_si256((const __m256i *)p);
}

INLINE void v_store(int32_t *p, vi v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

INLINE vf v_load_float(const float *p)
{
    return _mm256_load_ps(p);
}

INLINE void v_store_float(float *p, vf v)
{
    _mm256_store_ps(p, v);
}

INLINE vi v_set_int(int32_t x)
{
    return _mm256_set1_epi32(x);
}

INLINE vf v_set(float x)
{
    return _mm256_set1_ps(x);
}

INLINE vi v_add_int(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}

INLINE vi v_sub(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}

INLINE vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

/* a·b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf v_to_float(vi a)
{
    return _mm256_cvtepi32_ps(a);
}

INLINE int v_any_above(vf a, float limit)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_set1_ps(limit), _CMP_GT_OQ)) != 0;
}

INLINE vi v_dot(vi sum, vi x, vi y)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
}

/* 2^x for x ≤ 127, and 0 below −126. Degree 5 on [0,1), relative error 1e-7. */
INLINE vf v_exp2(vf x)
{
    vf low = _mm256_max_ps(x, v_set(-126.0f));
    vf n = _mm256_floor_ps(low), f = _mm256_sub_ps(low, n);
    vf p = v_set(1.8775767e-3f);
    vi power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), v_set_int(127)), 23);

    p = v_fma(p, f, v_set(8.9893406e-3f));
    p = v_fma(p, f, v_set(5.5826318e-2f));
    p = v_fma(p, f, v_set(2.4015361e-1f));
    p = v_fma(p, f, v_set(6.9315308e-1f));
    p = v_fma(p, f, v_set(9.9999994e-1f));
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(power));
    return _mm256_and_ps(p, _mm256_cmp_ps(x, v_set(-126.0f), _CMP_GT_OQ));
}

#include "kernel_sweep.h"

static int usable(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const struct els_kernel els_kernel_avx2 = {
    .name = "avx2",
    .lanes = LANES,
    .usable = usable,
    .accepts = accepts,
    .query_bytes = query_bytes,
    .group_bytes = group_bytes,
    .work_bytes = work_bytes,
    .prepare_query = prepare_query,
    .prepare_group = prepare_group,
    .begin = begin,
    .sweep_windows = sweep_windows,
};
