/*
 * Pictures: grids, zoom, PNG out, PNG and JPEG in. tests/pictures/ holds small files and, as .npy, the pixels that
 * Pillow reads from them (16-bit ones rounded to 8, alpha dropped).
 */
#include <math.h>
#include <string.h>
#include <zlib.h>

#include "els/npy.h"
#include "els/picture.h"
#include "hostile.h"
#include "unit.h"

enum { MANY = 1 << 20 };

START_TEST(test_values_to_u8)
{
    ck_assert_int_eq(els_picture_u8(-1), 0);
    ck_assert_int_eq(els_picture_u8(1), 255);
    ck_assert_int_eq(els_picture_u8(0), 128);
    ck_assert_int_eq(els_picture_u8(-1e30f), 0);
    ck_assert_int_eq(els_picture_u8(1e30f), 255);
    ck_assert_int_eq(els_picture_u8(INFINITY), 255);
    ck_assert_int_eq(els_picture_u8(-INFINITY), 0);
    ck_assert_int_eq(els_picture_u8(NAN), 0);
    for (int u = 0; u < 256; u++)
        ck_assert_int_eq(els_picture_u8(((float)u - 127.5f) / 127.5f), u);
}
END_TEST

/* Value of image i, channel c, row y, column x as a grey that names its place. */
static float named(int i, int c, int y, int x)
{
    return ((float)(i * 40 + c * 10 + y * 3 + x) - 127.5f) / 127.5f;
}

static void assert_pixel(const struct els_picture *p, int x, int y, int c, int want)
{
    int got = p->pixels[((size_t)y * (size_t)p->width + (size_t)x) * (size_t)p->channels + (size_t)c];

    ck_assert_msg(got == want, "pixel (%d,%d) channel %d is %d, not %d", x, y, c, got, want);
}

static void make_grid(struct els_picture *p, int n, int channels, int columns)
{
    float values[5 * 4 * 2 * 3];
    float *v = values;

    for (int i = 0; i < n; i++)
        for (int c = 0; c < channels; c++)
            for (int y = 0; y < 2; y++)
                for (int x = 0; x < 3; x++)
                    *v++ = named(i, c, y, x);
    ck_assert_int_eq(els_picture_from_values(p, values, n, (struct els_shape){channels, 2, 3}, columns), 0);
}

START_TEST(test_grids)
{
    struct els_picture p = {0};

    make_grid(&p, 1, 1, 0);
    ck_assert(p.width == 3 && p.height == 2 && p.channels == 1);
    assert_pixel(&p, 2, 1, 0, 5);
    els_picture_deinit(&p);
    ck_assert_ptr_null(p.pixels);

    make_grid(&p, 5, 3, 0); /* 3 columns, 2 rows, the last place empty */
    ck_assert(p.width == 13 && p.height == 6 && p.channels == 3);
    assert_pixel(&p, 0, 0, 0, 0);
    assert_pixel(&p, 5, 4, 2, 4 * 40 + 20);
    assert_pixel(&p, 12, 1, 1, 2 * 40 + 10 + 3 + 2);
    assert_pixel(&p, 3, 0, 0, 128);
    assert_pixel(&p, 0, 2, 1, 128);
    assert_pixel(&p, 12, 5, 2, 128);
    els_picture_deinit(&p);

    make_grid(&p, 2, 2, 0); /* four grey tiles: two images, two channels, in one row of two images */
    ck_assert(p.width == 18 && p.height == 2 && p.channels == 1);
    assert_pixel(&p, 0, 0, 0, 0);
    assert_pixel(&p, 5, 0, 0, 10);
    assert_pixel(&p, 10, 0, 0, 40);
    assert_pixel(&p, 15, 1, 0, 53);
    els_picture_deinit(&p);

    make_grid(&p, 3, 1, 1);
    ck_assert(p.width == 3 && p.height == 10);
    assert_pixel(&p, 1, 8, 0, 81);
    els_picture_deinit(&p);
    make_grid(&p, 2, 1, 9);
    ck_assert(p.width == 8 && p.height == 2);
    els_picture_deinit(&p);
}
END_TEST

START_TEST(test_limits)
{
    struct els_picture p = {0};
    float v = 0;

    ck_assert_int_eq(els_picture_new(&p, 8192, 8193, 1), ELS_ELIMIT);
    ck_assert_int_eq(els_picture_new(&p, INT32_MAX, INT32_MAX, 3), ELS_ELIMIT);
    ck_assert_int_eq(els_picture_new(&p, 0, 5, 1), ELS_ELIMIT);
    ck_assert_int_eq(els_picture_new(&p, 5, -5, 1), ELS_ELIMIT);
    ck_assert_int_eq(els_picture_from_values(&p, &v, 0, (struct els_shape){1, 1, 1}, 0), ELS_EINVAL);
    ck_assert_int_eq(els_picture_from_values(&p, &v, 1, (struct els_shape){1, 1, 1}, -1), ELS_EINVAL);
    ck_assert_int_eq(els_picture_from_values(&p, &v, INT64_MAX, (struct els_shape){1, 1, 1}, 0), ELS_ELIMIT);
    ck_assert_int_eq(els_picture_from_values(&p, &v, 1 << 20, (struct els_shape){4, 512, 512}, 1), ELS_ELIMIT);
    ck_assert_ptr_null(p.pixels);
}
END_TEST

START_TEST(test_zoom)
{
    struct els_picture p = {0}, before = {0};

    make_grid(&p, 1, 3, 0);
    make_grid(&before, 1, 3, 0);
    ck_assert_int_eq(els_picture_zoom(&p, 0), ELS_EINVAL);
    ck_assert_int_eq(els_picture_zoom(&p, 17), ELS_EINVAL);
    ck_assert_int_eq(els_picture_zoom(&p, 1), 0);
    ck_assert_int_eq(els_picture_zoom(&p, 5), 0);
    ck_assert(p.width == 15 && p.height == 10 && p.channels == 3);
    for (int y = 0; y < 10; y++)
        for (int x = 0; x < 15; x++)
            for (int c = 0; c < 3; c++)
                assert_pixel(&p, x, y, c, before.pixels[((y / 5) * 3 + x / 5) * 3 + c]);
    els_picture_deinit(&p);
    els_picture_deinit(&before);
    ck_assert_int_eq(els_picture_new(&p, 4000, 4000, 1), 0);
    ck_assert_int_eq(els_picture_zoom(&p, 3), ELS_ELIMIT);
    ck_assert_int_eq(p.width, 4000);
    els_picture_deinit(&p);
}
END_TEST

START_TEST(test_png_round_trip)
{
    for (int channels = 1; channels <= 3; channels += 2) {
        struct els_buffer a = ELS_BUFFER_INIT(MANY), b = ELS_BUFFER_INIT(MANY);
        struct els_picture p = {0}, back = {0};

        make_grid(&p, 5, channels, 0);
        ck_assert_int_eq(els_picture_write_png(&a, &p, NULL, 0), 0);
        ck_assert_int_eq(els_picture_write_png(&b, &p, NULL, 0), 0);
        ck_assert_uint_eq(a.size, b.size);
        ck_assert_mem_eq(a.data, b.data, a.size);
        ck_assert_int_eq(els_picture_read(&back, a.data, a.size, MANY, NULL), 0);
        ck_assert(back.width == p.width && back.height == p.height && back.channels == channels);
        ck_assert_mem_eq(back.pixels, p.pixels, (size_t)(p.width * p.height * channels));
        els_picture_deinit(&p);
        els_picture_deinit(&back);
        els_buffer_deinit(&a);
        els_buffer_deinit(&b);
    }
}
END_TEST

/* The data of the tEXt chunk with that keyword, or NULL; its CRC is checked. */
static const uint8_t *find_text(const struct els_buffer *png, const char *key, uint32_t *size)
{
    for (size_t at = 8; at + 12 <= png->size;) {
        const uint8_t *c = png->data + at;
        uint32_t n = (uint32_t)c[0] << 24 | (uint32_t)c[1] << 16 | (uint32_t)c[2] << 8 | c[3];

        if (memcmp(c + 4, "tEXt", 4) == 0 && strcmp((const char *)c + 8, key) == 0) {
            *size = n - (uint32_t)strlen(key) - 1;
            return c + 8 + strlen(key) + 1;
        }
        at += 12 + (size_t)n;
    }
    return NULL;
}

START_TEST(test_png_texts)
{
    const char *const text[] = {"els", "{\"label\": \"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"}", "Software",
                                "els \xff"};
    static const char want[] = "{\"label\": \"caf\xe9 \\u20ac \\ud83d\\ude00\"}";
    struct els_buffer png = ELS_BUFFER_INIT(MANY);
    struct els_picture p = {0};
    const uint8_t *got;
    uint32_t size;

    make_grid(&p, 1, 1, 0);
    ck_assert_int_eq(els_picture_write_png(&png, &p, text, 2), 0);
    got = find_text(&png, "els", &size);
    ck_assert_ptr_nonnull(got);
    ck_assert_uint_eq(size, strlen(want));
    ck_assert_mem_eq(got, want, size);
    got = find_text(&png, "Software", &size);
    ck_assert_ptr_nonnull(got);
    ck_assert_mem_eq(got, "els \xff", 5);
    els_buffer_deinit(&png);

    ck_assert_int_eq(els_picture_write_png(&png, &p, (const char *const[]){"", "no keyword"}, 1), ELS_EINVAL);
    ck_assert_uint_eq(png.size, 0);
    els_picture_deinit(&p);
}
END_TEST

START_TEST(test_png_keeps_to_the_maximum)
{
    struct els_buffer whole = ELS_BUFFER_INIT(MANY);
    struct els_picture p = {0};

    make_grid(&p, 3, 3, 0);
    ck_assert_int_eq(els_picture_write_png(&whole, &p, NULL, 0), 0);
    for (size_t max = 0; max < whole.size; max++) {
        struct els_buffer b = ELS_BUFFER_INIT(max);

        ck_assert_int_eq(els_picture_write_png(&b, &p, NULL, 0), ELS_ELIMIT);
        ck_assert_uint_eq(b.size, 0);
        els_buffer_deinit(&b);
    }
    els_buffer_deinit(&whole);
    els_picture_deinit(&p);
}
END_TEST

static uint8_t *load(const char *name, const char *ending, size_t *size)
{
    char path[128];

    snprintf(path, sizeof(path), "pictures/%s%s", name, ending);
    return hostile_load(unit_path(path), size);
}

static const struct {
    const char *name, *ending;
} FILES[] = {
    {"grey1", ".png"},      {"grey16", ".png"},          {"grey-alpha", ".png"},
    {"palette", ".png"},    {"rgba-interlaced", ".png"}, {"rgb16", ".png"},
    {"colour", ".jpg"},     {"grey", ".jpg"},            {"progressive", ".jpg"},
};
enum { NUM_FILES = sizeof(FILES) / sizeof(*FILES) };

START_TEST(test_reads_as_pillow_does)
{
    for (int i = 0; i < NUM_FILES; i++) {
        size_t size, want_size;
        uint8_t *bytes = load(FILES[i].name, FILES[i].ending, &size);
        uint8_t *want_bytes = load(FILES[i].name, ".npy", &want_size);
        struct els_picture p = {0};
        struct els_error err = {0};
        struct els_tensor want;

        ck_assert_int_eq(els_npy_parse(&want, want_bytes, want_size, NULL), 0);
        ck_assert_msg(els_picture_read(&p, bytes, size, MANY, &err) == 0, "%s: %s", FILES[i].name, err.message);
        ck_assert_int_eq(p.height, want.dims[0]);
        ck_assert_int_eq(p.width, want.dims[1]);
        ck_assert_int_eq(p.channels, want.ndim == 3 ? 3 : 1);
        ck_assert_msg(memcmp(p.pixels, want.data, els_tensor_bytes(&want)) == 0, "%s differs", FILES[i].name);
        els_picture_deinit(&p);
        free(bytes);
        free(want_bytes);
    }
}
END_TEST

static int read_one(const void *bytes, size_t size, void *user)
{
    struct els_picture p = {0};
    struct els_error err = {0};
    int r = els_picture_read(&p, bytes, size, 4096, &err);

    ck_assert((r == 0) == (p.pixels != NULL));
    ck_assert_int_eq(r, err.code);
    els_picture_deinit(&p);
    return r;
}

START_TEST(test_hostile)
{
    for (int i = 0; i < NUM_FILES; i++) {
        size_t size;
        uint8_t *bytes = load(FILES[i].name, FILES[i].ending, &size);

        hostile_cut(bytes, size, read_one, NULL);
        ck_assert_int_gt(hostile_damage(bytes, size, 1500, read_one, NULL), 100);
        free(bytes);
    }
}
END_TEST

static void put_be32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* The header is believed only as far as `max_pixels`; nothing is allocated for more. */
START_TEST(test_huge_headers)
{
    const uint32_t sides[][2] = {{65, 64}, {1, 5000}, {0x7fffffff, 0x7fffffff}, {0x7fffffff, 1}, {0, 5},
                                 {0x80000000, 1}};
    size_t size;
    uint8_t *png = load("grey1", ".png", &size), *jpeg;
    struct els_picture p = {0};
    struct els_error err = {0};

    for (size_t i = 0; i < sizeof(sides) / sizeof(*sides); i++) {
        put_be32(png + 16, sides[i][0]);
        put_be32(png + 20, sides[i][1]);
        put_be32(png + 29, (uint32_t)crc32(0, png + 12, 17));
        ck_assert_int_lt(els_picture_read(&p, png, size, 4096, &err), 0);
    }
    put_be32(png + 16, 65);
    put_be32(png + 20, 64);
    put_be32(png + 29, (uint32_t)crc32(0, png + 12, 17));
    ck_assert_int_eq(els_picture_read(&p, png, size, 4096, &err), ELS_ELIMIT);
    ck_assert_str_eq(err.message, "the picture has 65 x 64 pixels; at most 4096 are read");
    ck_assert_int_eq(els_picture_read(&p, png, size, 4160, &err), ELS_EFORMAT);
    free(png);

    jpeg = load("grey", ".jpg", &size);
    for (size_t i = 0; i + 9 < size; i++) {
        if (jpeg[i] == 0xff && jpeg[i + 1] == 0xc0) {
            memcpy(jpeg + i + 5, "\x7f\xff\x7f\xff", 4);
            break;
        }
    }
    ck_assert_int_eq(els_picture_read(&p, jpeg, size, SIZE_MAX, &err), ELS_ELIMIT);
    ck_assert_ptr_nonnull(strstr(err.message, "32767 x 32767"));
    free(jpeg);
}
END_TEST

START_TEST(test_what_is_refused)
{
    struct els_picture p = {0};
    struct els_error err = {0};
    size_t size;
    uint8_t *cmyk = load("cmyk", ".jpg", &size);

    ck_assert_int_eq(els_picture_read(&p, cmyk, size, MANY, &err), ELS_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.message, "4 components"));
    free(cmyk);
    ck_assert_int_eq(els_picture_read(&p, "GIF89a", 6, MANY, &err), ELS_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.message, "neither a PNG nor a JPEG"));
    ck_assert_int_eq(els_picture_read(&p, NULL, 0, MANY, &err), ELS_EFORMAT);
}
END_TEST

UNIT_MAIN("picture", test_values_to_u8, test_grids, test_limits, test_zoom, test_png_round_trip, test_png_texts,
          test_png_keeps_to_the_maximum, test_reads_as_pillow_does, test_hostile, test_huge_headers,
          test_what_is_refused)
