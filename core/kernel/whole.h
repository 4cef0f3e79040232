/*
 * What the kernels for whole images share (kernel/images.h, kernel/translates.h). Included by them
 * after the kernel file's vector operations: vf, LANES float, and vd, LANES/2 double.
 */
#ifndef ELS_KERNEL_WHOLE_H
#define ELS_KERNEL_WHOLE_H

#include <math.h>

#include "core/kernel/kernel.h"

#define LEAST_NATS (-88.0f) /* e^this is 0 */

/* The bank's unit: what one step of the stored value is worth in [−1,1]. */
static double unit_of(const struct els_sweep *s)
{
    return els_bank_info(s->bank)->dtype == ELS_U8 ? 1.0 / 127.5 : 1.0;
}

/*
 * e^x for LEAST_NATS ≤ x ≤ ELS_HEADROOM. Relative error 1e-7: e^x = 2^n·e^f, |f| ≤ ln 2/2, and a
 * degree-5 minimax polynomial.
 */
INLINE vf v_exp(vf x)
{
    const vf rounder = v_set(12582912.0f); /* 1.5·2^23: a sum with it is rounded to an integer */
    vf rounded = v_fma(x, v_set(1.44269504f), rounder), n = rounded - rounder;
    vf f = v_fma(n, v_set(2.12194440e-4f), v_fma(n, v_set(-0.693359375f), x));
    vf p = v_fma(v_set(8.297618478536606e-3f), f, v_set(4.191562905907631e-2f));

    p = v_fma(p, f, v_set(1.6667576134204865e-1f));
    p = v_fma(p, f, v_set(4.999889135360718e-1f));
    p = v_fma(p, f, v_set(9.999997019767761e-1f));
    p = v_fma(p, f, v_set(1.0000001192092896f));
    return p * v_power(rounded);
}

#endif
