/*
 * colormap: numbers into colours whose differences look as large as the numbers' are.
 *
 *     struct els_rgb c = els_colormap_scale(entropy / most);       // dark violet … pale yellow
 *     struct els_rgb c = els_colormap_key(image);                  // a colour to know something by
 *     struct els_rgb c = els_colormap_direction(right, down);      // grey for (0,0); hue tells where, colour how far
 *
 * All are laid out in OKLab (B. Ottosson, 2020), a colour space in which equal distances look equal to the eye, and
 * then turned into sRGB.
 */
#ifndef ELS_COLORMAP_H
#define ELS_COLORMAP_H

#include <stdint.h>

#include "els/api.h"

ELS_BEGIN_DECLS

struct els_rgb {
    uint8_t r, g, b;
};

/* 0…1 (clamped; a NaN counts as 0): lightness rises evenly, so it also reads in grey. */
ELS_API struct els_rgb els_colormap_scale(double v);
/* Keys are scattered over hues and three lightnesses: neighbouring keys are far apart. */
ELS_API struct els_rgb els_colormap_key(uint64_t key);
/* A point of the unit disc (longer ones are shortened to it), at one lightness. */
ELS_API struct els_rgb els_colormap_direction(double right, double down);

ELS_END_DECLS

#endif
