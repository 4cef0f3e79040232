/*
 * Vector operations of the AVX-512 kernels: 16 lanes. See kernel_sweep.h.
 */
#include <immintrin.h>

enum { LANES = 16 };

typedef __m512i vi;
typedef __m512 vf;

#define INLINE static inline __attribute__((always_inline))

INLINE vi v_load(const int32_t *p)
{
    return _mm512_load_si512(p);
}

INLINE void v_store(int32_t *p, vi v)
{
    _mm512_storeu_si512(p, v);
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

INLINE vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

INLINE vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
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

INLINE vf v_to_float(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

INLINE int v_any_above(vf a, float limit)
{
    return _mm512_cmp_ps_mask(a, _mm512_set1_ps(limit), _CMP_GT_OQ) != 0;
}

/* 2^x; 0 far below. Degree 5 on [0,1), relative error 1e-7; scalef takes the floor of x itself. */
INLINE vf v_exp2(vf x)
{
    vf f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    vf p = v_set(1.8775767e-3f);

    p = v_fma(p, f, v_set(8.9893406e-3f));
    p = v_fma(p, f, v_set(5.5826318e-2f));
    p = v_fma(p, f, v_set(2.4015361e-1f));
    p = v_fma(p, f, v_set(6.9315308e-1f));
    p = v_fma(p, f, v_set(9.9999994e-1f));
    return _mm512_scalef_ps(p, x);
}
