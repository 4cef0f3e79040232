/*
 * picture: from numbers to a PNG a person looks at.
 *
 *     struct els_picture p = {0};
 *     els_picture_from_values(&p, x, N, shape);    // a grid when N > 1
 *     els_picture_zoom(&p, 4);
 *     struct els_buffer png = ELS_BUFFER_INIT(64 << 20);
 *     const char *text[] = {"els", params_json};
 *     els_picture_write_png(&png, &p, text, 1);
 *     els_picture_deinit(&p);
 *
 * Value to pixel: u8 = clamp(floor((x+1)·127.5 + 0.5)). One channel is grey, three are RGB, two and four are
 * shown as grey tiles side by side. A grid has ceil(sqrt(N)) columns and a 2-pixel gap of mid grey.
 * The same input gives the same PNG bytes.
 */
#ifndef ELS_PICTURE_H
#define ELS_PICTURE_H

#include "els/api.h"
#include "els/error.h"
#include "els/mem.h"
#include "els/progress.h"
#include "els/shape.h"

ELS_BEGIN_DECLS

struct els_picture {
    int width, height;
    int channels; /* 1 grey, 3 RGB */
    uint8_t *pixels; /* [height,width,channels], owned; free with els_picture_deinit */
};

enum { ELS_PICTURE_MAX_PIXELS = 64 << 20 };

/* clamp(floor((x+1)*127.5 + 0.5)); a NaN gives 0. */
ELS_API uint8_t els_picture_u8(float x);

/* A blank picture (every byte 0). ELS_ELIMIT past ELS_PICTURE_MAX_PIXELS. */
ELS_API int els_picture_new(struct els_picture *out, int width, int height, int channels);
/* values [N,C,H,W] in [−1,1]. `columns` 0: ceil(sqrt(N)). */
ELS_API int els_picture_from_values(struct els_picture *out, const float *values, int64_t n,
                                    struct els_shape shape, int columns);
/* The size of that picture, whatever it is: more than ELS_PICTURE_MAX_PIXELS, too. n >= 1. */
ELS_API void els_picture_grid(int64_t n, struct els_shape shape, int columns, int64_t *width, int64_t *height);
/* Enlarges k times (1…16), nearest neighbour, in place. */
ELS_API int els_picture_zoom(struct els_picture *p, int k);
ELS_API void els_picture_deinit(struct els_picture *p);

/* Appends an 8-bit PNG; `text` holds num_text pairs key, value for tEXt chunks (Latin-1; other
 * characters are written \uXXXX). At most 16 pairs, keys of 1 to 79 characters: ELS_EINVAL, ELS_ELIMIT. */
ELS_API int els_picture_write_png(struct els_buffer *out, const struct els_picture *p,
                                  const char *const *text, size_t num_text);
/* The most bytes of a PNG of so many pixels and so many bytes of text: the maximum of its buffer. */
ELS_API size_t els_picture_png_bytes(int64_t width, int64_t height, int channels, size_t text);
/* The most memory that writing it takes, beside the pixels: the buffer while it grows, and the compressor. */
ELS_API size_t els_picture_png_memory(int64_t width, int64_t height, int channels, size_t text);
/* The same; ELS_ECANCELLED when the progress callback (els/progress.h) says so. */
struct els_progress;
ELS_API int els_picture_write_png_watched(struct els_buffer *out, const struct els_picture *p, const char *const *text,
                                          size_t num_text, const struct els_progress *progress);
/* Reads PNG (8- or 16-bit, palette, grey; alpha is dropped) or JPEG bytes as grey or RGB u8. Bounded:
 * `max_pixels` is checked against the header before anything is allocated. */
ELS_API int els_picture_read(struct els_picture *out, const void *bytes, size_t size, size_t max_pixels,
                             struct els_error *err);

ELS_END_DECLS

#endif
