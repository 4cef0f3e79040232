/*
 * picture_internal: the two decoders behind els_picture_read, each in the file that knows its library.
 */
#ifndef ELS_PICTURE_INTERNAL_H
#define ELS_PICTURE_INTERNAL_H

#include "els/picture.h"

/* *out is untouched on failure. */
int els_picture_read_png(struct els_picture *out, const uint8_t *bytes, size_t size, size_t max_pixels,
                         struct els_error *err);
int els_picture_read_jpeg(struct els_picture *out, const uint8_t *bytes, size_t size, size_t max_pixels,
                          struct els_error *err);
/* els_picture_new for a decoder: a sentence when the header's size is past `max_pixels`. */
int els_picture_new_checked(struct els_picture *out, uint32_t width, uint32_t height, int channels,
                            size_t max_pixels, struct els_error *err);

#endif
