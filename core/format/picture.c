/*
 * Pictures: values to pixels, grids, and zoom. The file formats are in picture_png.c and picture_jpeg.c.
 * Called from any thread; holds no state.
 */
#include "els/picture.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/format/picture_internal.h"

enum { GAP = 2, GAP_GREY = 128, MAX_ZOOM = 16 };

uint8_t els_picture_u8(float x)
{
    /* In float32, so that NumPy computes the same from the same float32 array. */
    float v = floorf((x + 1) * 127.5f + 0.5f);

    return !(v > 0) ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

int els_picture_new(struct els_picture *out, int width, int height, int channels)
{
    uint8_t *pixels;

    assert(channels == 1 || channels == 3);
    if (width < 1 || height < 1 || (int64_t)width * height > ELS_PICTURE_MAX_PIXELS)
        return ELS_ELIMIT;
    pixels = els_alloc_array((size_t)width * (size_t)height, (size_t)channels);
    if (!pixels)
        return ELS_ENOMEM;
    *out = (struct els_picture){width, height, channels, pixels};
    return 0;
}

int els_picture_new_checked(struct els_picture *out, uint32_t width, uint32_t height, int channels,
                            size_t max_pixels, struct els_error *err)
{
    if (max_pixels > ELS_PICTURE_MAX_PIXELS)
        max_pixels = ELS_PICTURE_MAX_PIXELS;
    if (width > INT32_MAX || height > INT32_MAX || (uint64_t)width * height > max_pixels)
        return els_fail(err, ELS_ELIMIT, "picture", "the picture has %u x %u pixels; at most %zu are read",
                        width, height, max_pixels);
    if (els_picture_new(out, (int)width, (int)height, channels) < 0)
        return els_fail(err, ELS_ENOMEM, "picture", "no memory for %u x %u pixels", width, height);
    return 0;
}

void els_picture_deinit(struct els_picture *p)
{
    free(p->pixels);
    *p = (struct els_picture){0};
}

/* Puts [C,H,W] values at column x, row y. */
static void put_tile(struct els_picture *p, const float *values, struct els_shape shape, int x, int y)
{
    size_t plane = (size_t)shape.h * (size_t)shape.w;

    for (int row = 0; row < shape.h; row++) {
        uint8_t *to = p->pixels + ((size_t)(y + row) * (size_t)p->width + (size_t)x) * (size_t)shape.c;
        const float *from = values + (size_t)row * (size_t)shape.w;

        for (int column = 0; column < shape.w; column++)
            for (int c = 0; c < shape.c; c++)
                *to++ = els_picture_u8(from[(size_t)c * plane + (size_t)column]);
    }
}

static int64_t ceil_sqrt(int64_t n)
{
    int64_t root = (int64_t)sqrt((double)n);

    while (root * root < n)
        root++;
    while (root > 1 && (root - 1) * (root - 1) >= n)
        root--;
    return root;
}

/* The tiles of n images in a row, and of all of them. [N,C,H,W] is read as [N*C,1,H,W] where it has no colours: the
 * channels of an image become neighbours in its row. */
static int64_t tiles_across(int64_t *n, struct els_shape *shape, int columns)
{
    int64_t across = columns ? columns : ceil_sqrt(*n);

    if (shape->c != 1 && shape->c != 3) {
        *n *= shape->c;
        across *= shape->c;
        shape->c = 1;
    }
    return across > *n ? *n : across;
}

void els_picture_grid(int64_t n, struct els_shape shape, int columns, int64_t *width, int64_t *height)
{
    int64_t across = tiles_across(&n, &shape, columns), down = (n + across - 1) / across;

    *width = across * (shape.w + GAP) - GAP;
    *height = down * (shape.h + GAP) - GAP;
}

int els_picture_from_values(struct els_picture *out, const float *values, int64_t n, struct els_shape shape,
                            int columns)
{
    int64_t across, width, height;
    int r;

    if (n < 1 || n > ELS_PICTURE_MAX_PIXELS || columns < 0)
        return n < 1 || columns < 0 ? ELS_EINVAL : ELS_ELIMIT;
    els_picture_grid(n, shape, columns, &width, &height);
    across = tiles_across(&n, &shape, columns);
    if (width > ELS_PICTURE_MAX_PIXELS || height > ELS_PICTURE_MAX_PIXELS)
        return ELS_ELIMIT;
    r = els_picture_new(out, (int)width, (int)height, shape.c);
    if (r < 0)
        return r;
    memset(out->pixels, GAP_GREY, (size_t)width * (size_t)height * (size_t)shape.c);
    for (int64_t i = 0; i < n; i++)
        put_tile(out, values + (size_t)i * els_shape_values(shape), shape,
                 (int)(i % across) * (shape.w + GAP), (int)(i / across) * (shape.h + GAP));
    return 0;
}

int els_picture_zoom(struct els_picture *p, int k)
{
    struct els_picture big = {0};
    size_t pixel = (size_t)p->channels, row_bytes;
    int r;

    if (k < 1 || k > MAX_ZOOM)
        return ELS_EINVAL;
    if (k == 1)
        return 0;
    if (p->width > ELS_PICTURE_MAX_PIXELS / k || p->height > ELS_PICTURE_MAX_PIXELS / k)
        return ELS_ELIMIT;
    r = els_picture_new(&big, p->width * k, p->height * k, p->channels);
    if (r < 0)
        return r;
    row_bytes = (size_t)big.width * pixel;
    for (int y = 0; y < p->height; y++) {
        uint8_t *first = big.pixels + (size_t)y * (size_t)k * row_bytes, *to = first;
        const uint8_t *from = p->pixels + (size_t)y * (size_t)p->width * pixel;

        for (int x = 0; x < p->width; x++, from += pixel)
            for (int i = 0; i < k; i++, to += pixel)
                memcpy(to, from, pixel);
        for (int i = 1; i < k; i++)
            memcpy(first + (size_t)i * row_bytes, first, row_bytes);
    }
    els_picture_deinit(p);
    *p = big;
    return 0;
}

int els_picture_read(struct els_picture *out, const void *bytes, size_t size, size_t max_pixels,
                     struct els_error *err)
{
    static const uint8_t PNG[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}, JPEG[3] = {0xff, 0xd8, 0xff};

    if (size >= sizeof(PNG) && memcmp(bytes, PNG, sizeof(PNG)) == 0)
        return els_picture_read_png(out, bytes, size, max_pixels, err);
    if (size >= sizeof(JPEG) && memcmp(bytes, JPEG, sizeof(JPEG)) == 0)
        return els_picture_read_jpeg(out, bytes, size, max_pixels, err);
    return els_fail(err, ELS_EFORMAT, "picture", "the file is neither a PNG nor a JPEG");
}
