/*
 * Whole images, is and es, with AVX-512: the algorithms are in kernel/images.h and
 * kernel/translates.h; here are their vector operations. Every AVX-512 kernel leaves these two
 * machines to this one.
 */
#include <immintrin.h>
#include <stdint.h>

enum { LANES = 16 };

typedef __m512 vf;  /* LANES float */
typedef __m512d vd; /* LANES/2 double */

#ifdef __SANITIZE_ADDRESS__
#define INLINE static inline /* what is checked compiles ten times faster in functions of its own */
#else
#define INLINE static inline __attribute__((always_inline))
#endif

INLINE vf v_load_float(const float *p)
{
    return _mm512_load_ps(p);
}

/* Anywhere in memory. */
INLINE vf v_load_values(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void v_store_float(float *p, vf v)
{
    _mm512_store_ps(p, v);
}

INLINE vf v_set(float x)
{
    return _mm512_set1_ps(x);
}

/* a·b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

/* 2^n for −127 < n < 128, 0 for n = −127; n stands in the lowest bits of a. */
INLINE vf v_power(vf a)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(127)), 23));
}

/* LANES bytes, anywhere in memory. */
INLINE vf v_load_bytes(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

INLINE vd v_load_double(const double *p)
{
    return _mm512_load_pd(p);
}

INLINE vd v_set_double(double x)
{
    return _mm512_set1_pd(x);
}

INLINE vd v_fma_double(vd a, vd b, vd c)
{
    return _mm512_fmadd_pd(a, b, c);
}

INLINE vd v_max_double(vd a, vd b)
{
    return _mm512_max_pd(a, b);
}

/* The first half of v, and the second. */
INLINE vd v_low(vf v)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(v));
}

INLINE vd v_high(vf v)
{
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
}

INLINE vf v_join(vd low, vd high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high),
                              1);
}

#include "core/kernel/images.h"
#include "core/kernel/translates.h"

static int usable(void)
{
    return els_kernel_avx512.usable();
}

const struct els_kernel els_kernel_avx512_es = {
    .name = "avx512-es",
    .usable = usable,
    TRANSLATES_FUNCTIONS,
};

const struct els_kernel els_kernel_avx512_is = {
    .name = "avx512-is",
    .otherwise = &els_kernel_avx512_es,
    .usable = usable,
    IMAGES_FUNCTIONS,
};
