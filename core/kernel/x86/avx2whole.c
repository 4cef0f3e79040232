/*
 * Whole images, is and es, with AVX2: the algorithms are in kernel/images.h and
 * kernel/translates.h; here are their vector operations. The AVX2 kernel leaves these two
 * machines to this one.
 */
#include <immintrin.h>
#include <stdint.h>

enum { LANES = 8 };

typedef __m256 vf;  /* LANES float */
typedef __m256d vd; /* LANES/2 double */

#ifdef __SANITIZE_ADDRESS__
#define INLINE static inline /* what is checked compiles ten times faster in functions of its own */
#else
#define INLINE static inline __attribute__((always_inline))
#endif

INLINE vf v_load_float(const float *p)
{
    return _mm256_load_ps(p);
}

/* Anywhere in memory. */
INLINE vf v_load_values(const float *p)
{
    return _mm256_loadu_ps(p);
}

INLINE void v_store_float(float *p, vf v)
{
    _mm256_store_ps(p, v);
}

INLINE vf v_set(float x)
{
    return _mm256_set1_ps(x);
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

/* 2^n for −127 < n < 128, 0 for n = −127; n stands in the lowest bits of a. */
INLINE vf v_power(vf a)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_set1_epi32(127)), 23));
}

/* LANES bytes, anywhere in memory. */
INLINE vf v_load_bytes(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

INLINE vd v_load_double(const double *p)
{
    return _mm256_load_pd(p);
}

INLINE vd v_set_double(double x)
{
    return _mm256_set1_pd(x);
}

INLINE vd v_fma_double(vd a, vd b, vd c)
{
    return _mm256_fmadd_pd(a, b, c);
}

INLINE vd v_max_double(vd a, vd b)
{
    return _mm256_max_pd(a, b);
}

/* The first half of v, and the second. */
INLINE vd v_low(vf v)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}

INLINE vd v_high(vf v)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}

INLINE vf v_join(vd low, vd high)
{
    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}

#include "core/kernel/images.h"
#include "core/kernel/translates.h"

static int usable(void)
{
    return els_kernel_avx2.usable();
}

const struct els_kernel els_kernel_avx2_es = {
    .name = "avx2-es",
    .usable = usable,
    TRANSLATES_FUNCTIONS,
};

const struct els_kernel els_kernel_avx2_is = {
    .name = "avx2-is",
    .otherwise = &els_kernel_avx2_es,
    .usable = usable,
    IMAGES_FUNCTIONS,
};
