/*
 * resize: Pillow's Image.resize(…, BILINEAR) for 8-bit pictures, bit for bit.
 *
 *     els_resize_bilinear(small, 32, 32, big, 28, 28, 1);
 *
 * A triangle filter of support max(scale, 1), horizontal pass first, then vertical, each in fixed
 * point with 22 fractional bits of coefficients, rounded and clipped to u8 between the
 * passes. The released research code resizes MNIST to 32×32 with it.
 */
#ifndef ELS_RESIZE_H
#define ELS_RESIZE_H

#include <stdint.h>

#include "els/api.h"

ELS_BEGIN_DECLS

/* in [in_h,in_w,channels] → out [out_h,out_w,channels], interleaved u8. 0 or ELS_ENOMEM. */
ELS_API int els_resize_bilinear(uint8_t *out, int out_h, int out_w, const uint8_t *in, int in_h, int in_w,
                                int channels);

ELS_END_DECLS

#endif
