/*
 * PNG in and out, by libpng. Called from any thread; holds no state.
 *
 * libpng reports errors by longjmp. So each direction is two functions: the outer one owns everything and
 * frees it, the inner one calls setjmp and then only reads its locals, so that nothing it needs can be
 * lost in a register. What must survive a jump lives in a struct that the outer one owns.
 */
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/utf8.h"
#include "core/format/picture_internal.h"
#include "els/progress.h"

enum {
    COMPRESSION = 6,
    MAX_TEXTS = 16,
    MAX_TEXT_BYTES = 16 << 20,
    MAX_KEYWORD = 79, /* by the standard */
    MAX_CHUNK = 8 << 20,
    POLL_BYTES = 1 << 20, /* of pixels: some hundredths of a second */
};

/* ---- writing ---- */

struct writer {
    struct els_buffer *out;
    const struct els_picture *picture;
    png_text texts[MAX_TEXTS];
    int num_texts;
    const struct els_progress *progress; /* or NULL */
    int code; /* what to return after a jump */
};

static void write_bytes(png_structp png, png_bytep bytes, size_t size)
{
    struct writer *w = png_get_io_ptr(png);
    int r = els_buffer_append(w->out, bytes, size);

    if (r < 0) {
        w->code = r;
        png_error(png, "the buffer is full");
    }
}

static void write_flush(png_structp png)
{
}

static void write_failed(png_structp png, png_const_charp message)
{
    png_longjmp(png, 1);
}

static void ignore_warning(png_structp png, png_const_charp message)
{
}

/* UTF-8 as Latin-1; other characters as JSON would escape them; a byte that is no UTF-8 stays. */
static int append_latin1(struct els_buffer *b, const char *text)
{
    uint32_t c;
    size_t n;
    int r = 0;

    for (; r == 0 && *text; text += n) {
        n = els_utf8_decode(text, &c);
        if (n == 0) {
            c = (unsigned char)*text;
            n = 1;
        }
        if (c < 0x100)
            r = els_buffer_append(b, &(uint8_t){(uint8_t)c}, 1);
        else if (c < 0x10000)
            r = els_buffer_printf(b, "\\u%04x", c);
        else
            r = els_buffer_printf(b, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                                  0xdc00 + ((c - 0x10000) & 0x3ff));
    }
    return r == 0 ? els_buffer_append(b, "", 1) : r;
}

/* Converts the texts into `bytes` and points w->texts at them. */
static int prepare_texts(struct writer *w, struct els_buffer *bytes, const char *const *text, size_t n)
{
    size_t starts[2 * MAX_TEXTS];

    if (n > MAX_TEXTS)
        return ELS_ELIMIT;
    for (size_t i = 0; i < 2 * n; i++) {
        int r;

        starts[i] = bytes->size;
        r = append_latin1(bytes, text[i]);
        if (r < 0)
            return r;
        if (i % 2 == 0 && (bytes->size - starts[i] < 2 || bytes->size - starts[i] > MAX_KEYWORD + 1))
            return ELS_EINVAL;
    }
    /* The buffer no longer moves. */
    for (size_t i = 0; i < n; i++)
        w->texts[i] = (png_text){
            .compression = PNG_TEXT_COMPRESSION_NONE,
            .key = (char *)bytes->data + starts[2 * i],
            .text = (char *)bytes->data + starts[2 * i + 1],
            .text_length = strlen((char *)bytes->data + starts[2 * i + 1]),
        };
    w->num_texts = (int)n;
    return 0;
}

/* After row y. */
static void look_in(png_structp png, struct writer *w, int y)
{
    size_t row = (size_t)w->picture->width * (size_t)w->picture->channels, at = (size_t)y * row;

    if (w->progress && at / POLL_BYTES != (at + row) / POLL_BYTES &&
        w->progress->poll(w->progress->user, (double)y / w->picture->height)) {
        w->code = ELS_ECANCELLED;
        png_error(png, "it is not wanted any more");
    }
}

static int write_guarded(png_structp png, png_infop info, struct writer *w)
{
    const struct els_picture *p = w->picture;

    if (setjmp(png_jmpbuf(png)))
        return w->code;
    png_set_write_fn(png, w, write_bytes, write_flush);
    png_set_compression_level(png, COMPRESSION);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_ALL_FILTERS);
    png_set_IHDR(png, info, (png_uint_32)p->width, (png_uint_32)p->height, 8,
                 p->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (w->num_texts)
        png_set_text(png, info, w->texts, w->num_texts);
    png_write_info(png, info);
    for (int y = 0; y < p->height; y++) {
        png_write_row(png, p->pixels + (size_t)y * (size_t)p->width * (size_t)p->channels);
        look_in(png, w, y);
    }
    png_write_end(png, NULL);
    return 0;
}

/* Deflate adds less than 1/1000 to what it cannot compress, chunks add 12 bytes to every 8 KiB, and each row has one of a
 * filter. A text may become \uXXXX throughout. */
size_t els_picture_png_bytes(int64_t width, int64_t height, int channels, size_t text)
{
    size_t raw = ((size_t)width * (size_t)channels + 1) * (size_t)height;

    return raw + raw / 64 + 6 * text + (16 << 10);
}

size_t els_picture_png_memory(int64_t width, int64_t height, int channels, size_t text)
{
    size_t bytes = els_picture_png_bytes(width, height, channels, text);

    /* A buffer that grows holds its half beside it; libpng holds some rows, zlib 268 KiB. */
    return bytes + bytes / 2 + 8 * ((size_t)width * (size_t)channels + 1) + 6 * text + (384 << 10);
}

int els_picture_write_png(struct els_buffer *out, const struct els_picture *p, const char *const *text,
                          size_t num_text)
{
    return els_picture_write_png_watched(out, p, text, num_text, NULL);
}

int els_picture_write_png_watched(struct els_buffer *out, const struct els_picture *p, const char *const *text,
                                  size_t num_text, const struct els_progress *progress)
{
    _cleanup_(els_buffer_deinit) struct els_buffer latin1 = ELS_BUFFER_INIT(MAX_TEXT_BYTES);
    struct writer w = {.out = out, .picture = p, .progress = progress, .code = ELS_ENOMEM};
    size_t start = out->size;
    png_structp png = NULL;
    png_infop info = NULL;
    int r = prepare_texts(&w, &latin1, text, num_text);

    if (r < 0)
        return r;
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, write_failed, ignore_warning);
    if (png)
        info = png_create_info_struct(png);
    r = info ? write_guarded(png, info, &w) : ELS_ENOMEM;
    png_destroy_write_struct(&png, &info);
    if (r < 0)
        out->size = start;
    return r;
}

/* ---- reading ---- */

struct reader {
    const uint8_t *bytes;
    size_t size, at;
    size_t max_pixels;
    struct els_picture picture;
    png_bytepp rows;
    struct els_error *err;
    int code;
};

static void read_bytes(png_structp png, png_bytep to, size_t n)
{
    struct reader *in = png_get_io_ptr(png);

    if (n > in->size - in->at)
        png_error(png, "it ends too early");
    memcpy(to, in->bytes + in->at, n);
    in->at += n;
}

static void read_failed(png_structp png, png_const_charp message)
{
    struct reader *in = png_get_error_ptr(png);

    in->code = els_fail(in->err, ELS_EFORMAT, "picture", "the PNG is damaged: %.200s", message);
    png_longjmp(png, 1);
}

/* Whatever the file holds becomes 8-bit grey or RGB. */
static void ask_for_u8(png_structp png, png_infop info)
{
    int type = png_get_color_type(png, info);

    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (!(type & PNG_COLOR_MASK_COLOR))
        png_set_expand_gray_1_2_4_to_8(png);
    png_set_scale_16(png);
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

/* Allocates the pixels and the array of rows; sets in->code. */
static int prepare_rows(png_structp png, png_infop info, struct reader *in)
{
    uint32_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
    int channels = png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR ? 3 : 1;

    in->code = els_picture_new_checked(&in->picture, width, height, channels, in->max_pixels, in->err);
    if (in->code < 0)
        return in->code;
    in->rows = els_alloc_array(height, sizeof(*in->rows));
    if (!in->rows)
        return in->code = els_fail(in->err, ELS_ENOMEM, "picture", "out of memory");
    for (uint32_t y = 0; y < height; y++)
        in->rows[y] = in->picture.pixels + (size_t)y * width * (size_t)channels;
    return 0;
}

static int read_guarded(png_structp png, png_infop info, struct reader *in)
{
    if (setjmp(png_jmpbuf(png)))
        return in->code;
    png_set_read_fn(png, in, read_bytes);
    /* Colour profiles, texts and the like do not matter here: they are skipped, not parsed. */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_chunk_malloc_max(png, MAX_CHUNK);
    png_set_user_limits(png, ELS_PICTURE_MAX_PIXELS, ELS_PICTURE_MAX_PIXELS);
    png_read_info(png, info);
    if (prepare_rows(png, info, in) < 0)
        return in->code;
    ask_for_u8(png, info);
    if (png_get_rowbytes(png, info) != (size_t)in->picture.width * (size_t)in->picture.channels)
        png_error(png, "its rows have an unexpected size");
    png_read_image(png, in->rows);
    png_read_end(png, NULL);
    return 0;
}

int els_picture_read_png(struct els_picture *out, const uint8_t *bytes, size_t size, size_t max_pixels,
                         struct els_error *err)
{
    struct reader in = {.bytes = bytes, .size = size, .max_pixels = max_pixels, .err = err,
                        .code = ELS_EFORMAT};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &in, read_failed, ignore_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    int r = info ? read_guarded(png, info, &in)
                 : els_fail(err, ELS_ENOMEM, "picture", "out of memory");

    png_destroy_read_struct(&png, &info, NULL);
    free(in.rows);
    if (r < 0)
        els_picture_deinit(&in.picture);
    else
        *out = in.picture;
    return r;
}
