/*
 * Vector operations of the AVX-512 kernels: 16 lanes. See kernel/sweep.h.
 */
#include <immintrin.h>

enum {
    LANES = 16,
    BLOCK = 8,
    SUMS = 16,     /* vectors that are summed side by side */
    HALF_FROM = 2, /* the radius from which half blocks are faster */
};

typedef __m512i vi;
typedef __m512 vf;

#ifdef __SANITIZE_ADDRESS__
#define INLINE static inline /* what is checked compiles ten times faster in functions of its own */
#else
#define INLINE static inline __attribute__((always_inline))
#endif

INLINE vi v_load(const int32_t *p)
{
    return _mm512_load_si512(p);
}

INLINE void v_store(int32_t *p, vi v)
{
    _mm512_storeu_si512(p, v);
}

/* LANES signed bytes. */
INLINE vi v_load_bytes(const int8_t *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}

INLINE vf v_load_float(const float *p)
{
    return _mm512_load_ps(p);
}

INLINE void v_store_float(float *p, vf v)
{
    _mm512_store_ps(p, v);
}

INLINE vi v_set_int(int32_t x)
{
    return _mm512_set1_epi32(x);
}

INLINE vf v_set(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vi v_add_int(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}

INLINE vi v_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}

/* The low half. */
INLINE vi v_mul_int(vi a, vi b)
{
    return _mm512_mullo_epi32(a, b);
}

INLINE vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

/* a·b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vf v_to_float(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

INLINE vi v_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}

INLINE vi v_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

INLINE vi v_max_int(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}

INLINE vi v_min_int(vi a, vi b)
{
    return _mm512_min_epi32(a, b);
}

INLINE vi v_shift_left(vi a, vi by)
{
    return _mm512_sllv_epi32(a, by);
}

/* Arithmetic: rounds down. */
INLINE vi v_shift_right(vi a, vi by)
{
    return _mm512_srav_epi32(a, by);
}

INLINE vi v_as_int(vf a)
{
    return _mm512_castps_si512(a);
}

INLINE vf v_as_float(vi a)
{
    return _mm512_castsi512_ps(a);
}

/* The float in [1,2) with the mantissa of these bits. */
INLINE vf v_mantissa(vi bits)
{
    /* 0xea: (bits & mask) | one */
    return v_as_float(
        _mm512_ternarylogic_epi32(bits, v_set_int(0x007fffff), v_set_int(0x3f800000), 0xea));
}

/* Has any lane any of these bits? */
INLINE int v_any(vi a, int bits)
{
    return _mm512_test_epi32_mask(a, v_set_int(bits)) != 0;
}

/* Is any lane of a above b? */
INLINE int v_above(vi a, vi b)
{
    return _mm512_cmpgt_epi32_mask(a, b) != 0;
}
