/*
 * Vector operations of the AVX2 kernels: 8 lanes. See kernel/sweep.h.
 */
#include <immintrin.h>

enum {
    LANES = 8,
    BLOCK = 4,
    SUMS = 4,      /* vectors that are summed side by side */
    HALF_FROM = 4, /* the radius from which half blocks are faster */
};

typedef __m256i vi;
typedef __m256 vf;

#ifdef __SANITIZE_ADDRESS__
#define INLINE static inline /* what is checked compiles ten times faster in functions of its own */
#else
#define INLINE static inline __attribute__((always_inline))
#endif

INLINE vi v_load(const int32_t *p)
{
    return _mm256_load_si256((const __m256i *)p);
}

INLINE void v_store(int32_t *p, vi v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

/* LANES signed bytes. */
INLINE vi v_load_bytes(const int8_t *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
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

/* The low half. */
INLINE vi v_mul_int(vi a, vi b)
{
    return _mm256_mullo_epi32(a, b);
}

INLINE vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

/* a·b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vf v_to_float(vi a)
{
    return _mm256_cvtepi32_ps(a);
}

INLINE vi v_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}

INLINE vi v_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}

INLINE vi v_max_int(vi a, vi b)
{
    return _mm256_max_epi32(a, b);
}

INLINE vi v_min_int(vi a, vi b)
{
    return _mm256_min_epi32(a, b);
}

INLINE vi v_shift_left(vi a, vi by)
{
    return _mm256_sllv_epi32(a, by);
}

/* Arithmetic: rounds down. */
INLINE vi v_shift_right(vi a, vi by)
{
    return _mm256_srav_epi32(a, by);
}

INLINE vi v_as_int(vf a)
{
    return _mm256_castps_si256(a);
}

INLINE vf v_as_float(vi a)
{
    return _mm256_castsi256_ps(a);
}

/* The float in [1,2) with the mantissa of these bits. */
INLINE vf v_mantissa(vi bits)
{
    return v_as_float(v_or(v_and(bits, v_set_int(0x007fffff)), v_set_int(0x3f800000)));
}

/* Has any lane any of these bits? */
INLINE int v_any(vi a, int bits)
{
    return !_mm256_testz_si256(a, v_set_int(bits));
}

INLINE vi v_dot(vi sum, vi x, vi y)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
}

/* Is any lane of a above b? */
INLINE int v_above(vi a, vi b)
{
    return v_any(_mm256_cmpgt_epi32(a, b), -1);
}
