/*
 * Vector operations of the NEON kernels: 4 lanes, 32 registers. See kernel/sweep.h.
 */
#include <arm_neon.h>
#include <string.h>

enum {
    LANES = 4,
    BLOCK = 8,
    SUMS = 16,     /* vectors that are summed side by side */
    HALF_FROM = 2, /* the radius from which half blocks are faster */
};

typedef int32x4_t vi;
typedef float32x4_t vf;

#define INLINE static inline __attribute__((always_inline))

INLINE vi v_load(const int32_t *p)
{
    return vld1q_s32(p);
}

INLINE void v_store(int32_t *p, vi v)
{
    vst1q_s32(p, v);
}

/* LANES signed bytes. */
INLINE vi v_load_bytes(const int8_t *p)
{
    uint32_t bytes;

    memcpy(&bytes, p, sizeof(bytes));
    return vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(bytes))));
}

INLINE vf v_load_float(const float *p)
{
    return vld1q_f32(p);
}

INLINE void v_store_float(float *p, vf v)
{
    vst1q_f32(p, v);
}

INLINE vi v_set_int(int32_t x)
{
    return vdupq_n_s32(x);
}

INLINE vf v_set(float x)
{
    return vdupq_n_f32(x);
}

INLINE vi v_add_int(vi a, vi b)
{
    return vaddq_s32(a, b);
}

INLINE vi v_sub(vi a, vi b)
{
    return vsubq_s32(a, b);
}

/* The low half. */
INLINE vi v_mul_int(vi a, vi b)
{
    return vmulq_s32(a, b);
}

INLINE vf v_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}

/* a·b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

INLINE vf v_to_float(vi a)
{
    return vcvtq_f32_s32(a);
}

INLINE vi v_and(vi a, vi b)
{
    return vandq_s32(a, b);
}

INLINE vi v_or(vi a, vi b)
{
    return vorrq_s32(a, b);
}

INLINE vi v_max_int(vi a, vi b)
{
    return vmaxq_s32(a, b);
}

INLINE vi v_min_int(vi a, vi b)
{
    return vminq_s32(a, b);
}

INLINE vi v_shift_left(vi a, vi by)
{
    return vshlq_s32(a, by);
}

/* Arithmetic: rounds down. */
INLINE vi v_shift_right(vi a, vi by)
{
    return vshlq_s32(a, vnegq_s32(by));
}

INLINE vi v_as_int(vf a)
{
    return vreinterpretq_s32_f32(a);
}

INLINE vf v_as_float(vi a)
{
    return vreinterpretq_f32_s32(a);
}

/* The float in [1,2) with the mantissa of these bits. */
INLINE vf v_mantissa(vi bits)
{
    return v_as_float(v_or(v_and(bits, v_set_int(0x007fffff)), v_set_int(0x3f800000)));
}

/* Has any lane any of these bits? */
INLINE int v_any(vi a, int bits)
{
    return vmaxvq_u32(vreinterpretq_u32_s32(v_and(a, v_set_int(bits)))) != 0;
}

/* sum + the products of int16 pairs, two to a lane */
INLINE vi v_dot(vi sum, vi x, vi y)
{
    int16x8_t a = vreinterpretq_s16_s32(x), b = vreinterpretq_s16_s32(y);
    vi low = vmull_s16(vget_low_s16(a), vget_low_s16(b));

    return v_add_int(sum, vpaddq_s32(low, vmull_high_s16(a, b)));
}

/* Is any lane of a above b? */
INLINE int v_above(vi a, vi b)
{
    return vmaxvq_u32(vcgtq_s32(a, b)) != 0;
}
