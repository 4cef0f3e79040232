/*
 * mosaic_picture: a mosaic as a person looks at it.
 *
 *     struct els_picture p = {0};
 *     els_mosaic_picture(&p, mosaic, ELS_MAP_REGION);      // W×H pixels, RGB
 *     els_picture_zoom(&p, 8);
 *     els_picture_deinit(&p);
 *
 *   region   one colour per origin (training image and displacement): what was cut out of one piece
 *   source   how far the source lies from the pixel: grey in place, else the hue tells the direction and the strength of
 *            the colour the distance (full at half the image's diagonal); the shorter way where patches wrap around
 *   entropy  dark where one candidate has all the weight, bright where many share it; from 0 to the largest of the map
 *
 * The colours are perceptually uniform (colormap.h).
 */
#ifndef ELS_MOSAIC_PICTURE_H
#define ELS_MOSAIC_PICTURE_H

#include "els/api.h"
#include "els/mosaic.h"
#include "els/picture.h"

ELS_BEGIN_DECLS

enum els_mosaic_map {
    ELS_MAP_REGION,
    ELS_MAP_SOURCE,
    ELS_MAP_ENTROPY,
    ELS_MAP_COUNT,
};

/* "region" …; NULL past the end. Parsing: 0, or ELS_ENOENT. */
ELS_API const char *els_mosaic_map_name(enum els_mosaic_map map);
ELS_API int els_mosaic_map_parse(const char *name, enum els_mosaic_map *out);

/* One pixel per pixel. ELS_ENOMEM, ELS_ELIMIT. */
ELS_API int els_mosaic_picture(struct els_picture *out, const struct els_mosaic *mosaic, enum els_mosaic_map map);

ELS_END_DECLS

#endif
