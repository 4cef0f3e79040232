/*
 * shape: of one image.
 *
 *     struct els_shape grey = {1, 28, 28};
 *     float *x = els_alloc_array(els_shape_values(grey), sizeof(*x));
 */
#ifndef ELS_SHAPE_H
#define ELS_SHAPE_H

#include <stddef.h>

#include "els/api.h"

ELS_BEGIN_DECLS

enum {
    ELS_MAX_CHANNELS = 4,
    ELS_MAX_SIDE = 512, /* of an image, in pixels */
};

/* Channels, rows, columns. */
struct els_shape {
    int c, h, w;
};

/* c*h*w: values in one image. */
static inline size_t els_shape_values(struct els_shape s)
{
    return (size_t)s.c * (size_t)s.h * (size_t)s.w;
}

ELS_END_DECLS

#endif
