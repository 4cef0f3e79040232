/*
 * Whole images, is, with NEON: the algorithm is in kernel/images.h; here are its vector operations.
 * The NEON kernel leaves this machine to this one, and es to the C kernel: kernel/translates.h wants
 * a lane for each channel and more.
 */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 4 };

typedef float32x4_t vf; /* LANES float */
typedef float64x2_t vd; /* LANES/2 double */

#define INLINE static inline __attribute__((always_inline))

INLINE vf v_load_float(const float *p)
{
    return vld1q_f32(p);
}

/* Anywhere in memory. */
INLINE vf v_load_values(const float *p)
{
    return vld1q_f32(p);
}

INLINE void v_store_float(float *p, vf v)
{
    vst1q_f32(p, v);
}

INLINE vf v_set(float x)
{
    return vdupq_n_f32(x);
}

/* a·b + c */
INLINE vf v_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}

INLINE vf v_max(vf a, vf b)
{
    return vmaxq_f32(a, b);
}

/* 2^n for −127 < n < 128, 0 for n = −127; n stands in the lowest bits of a. */
INLINE vf v_power(vf a)
{
    int32x4_t n = vreinterpretq_s32_f32(a);

    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

/* LANES bytes, anywhere in memory. */
INLINE vf v_load_bytes(const uint8_t *p)
{
    uint32_t bytes;

    memcpy(&bytes, p, sizeof(bytes));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes)))));
}

INLINE vd v_load_double(const double *p)
{
    return vld1q_f64(p);
}

INLINE vd v_set_double(double x)
{
    return vdupq_n_f64(x);
}

INLINE vd v_fma_double(vd a, vd b, vd c)
{
    return vfmaq_f64(c, a, b);
}

INLINE vd v_max_double(vd a, vd b)
{
    return vmaxq_f64(a, b);
}

/* The first half of v, and the second. */
INLINE vd v_low(vf v)
{
    return vcvt_f64_f32(vget_low_f32(v));
}

INLINE vd v_high(vf v)
{
    return vcvt_high_f64_f32(v);
}

INLINE vf v_join(vd low, vd high)
{
    return vcvt_high_f32_f64(vcvt_f32_f64(low), high);
}

#include "core/kernel/images.h"

static int usable(void)
{
    return els_kernel_neon.usable();
}

const struct els_kernel els_kernel_neon_is = {
    .name = "neon-is",
    .usable = usable,
    IMAGES_FUNCTIONS,
};
