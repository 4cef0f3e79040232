/*
 * Colours: that equal steps of the scale are equal steps in OKLab, read back from the 8-bit sRGB that was written with
 * a conversion of this file's own; and the maps of a mosaic made by hand.
 */
#include <math.h>
#include <string.h>

#include "els/colormap.h"
#include "els/mosaic_picture.h"
#include "unit.h"

struct lab {
    double l, a, b;
};

static double decode(uint8_t u)
{
    double v = u / 255.0;

    return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
}

/* The published matrices from linear sRGB. */
static struct lab lab_of(struct els_rgb c)
{
    double r = decode(c.r), g = decode(c.g), b = decode(c.b);
    double l = cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
    double m = cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
    double s = cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);

    return (struct lab){0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
                        1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
                        0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s};
}

static double distance(struct lab p, struct lab q)
{
    return sqrt((p.l - q.l) * (p.l - q.l) + (p.a - q.a) * (p.a - q.a) + (p.b - q.b) * (p.b - q.b));
}

START_TEST(test_scale_is_uniform)
{
    enum { STEPS = 32 };
    double length = 0, least = INFINITY, most = 0;

    for (int i = 0; i < STEPS; i++) {
        struct lab p = lab_of(els_colormap_scale((double)i / STEPS));
        struct lab q = lab_of(els_colormap_scale((double)(i + 1) / STEPS));
        double d = distance(p, q);

        ck_assert_double_gt(q.l, p.l);
        ck_assert_double_eq_tol(q.l - p.l, 0.72 / STEPS, 0.004);
        length += d;
        least = fmin(least, d);
        most = fmax(most, d);
    }
    /* Rounding to 8 bits moves a colour by about 0.002. */
    printf("steps of %.4f to %.4f, mean %.4f\n", least, most, length / STEPS);
    ck_assert_double_gt(least, length / STEPS - 0.004);
    ck_assert_double_lt(most, length / STEPS + 0.004);
}
END_TEST

START_TEST(test_scale_clamps)
{
    struct els_rgb low = els_colormap_scale(0), high = els_colormap_scale(1), c;

    c = els_colormap_scale(-3);
    ck_assert_mem_eq(&c, &low, sizeof(c));
    c = els_colormap_scale(NAN);
    ck_assert_mem_eq(&c, &low, sizeof(c));
    c = els_colormap_scale(7);
    ck_assert_mem_eq(&c, &high, sizeof(c));
}
END_TEST

START_TEST(test_directions)
{
    struct lab centre = lab_of(els_colormap_direction(0, 0)),
               east = lab_of(els_colormap_direction(1, 0));
    struct lab far = lab_of(els_colormap_direction(5, 0));

    ck_assert_double_lt(hypot(centre.a, centre.b), 0.004);
    ck_assert_double_lt(distance(east, far), 1e-12);
    for (int i = 0; i < 16; i++) {
        double angle = 0.39269908169872414 * i, part = 0.25 * (1 + i % 4);
        struct lab c = lab_of(els_colormap_direction(part * cos(angle), part * sin(angle)));

        ck_assert_double_eq_tol(c.l, 0.7, 0.01);
        ck_assert_double_eq_tol(c.a, 0.11 * part * cos(angle), 0.01);
        ck_assert_double_eq_tol(c.b, 0.11 * part * sin(angle), 0.01);
    }
}
END_TEST

START_TEST(test_neighbouring_keys_are_far_apart)
{
    for (uint64_t key = 0; key < 3000; key++) {
        struct lab p = lab_of(els_colormap_key(key)), q = lab_of(els_colormap_key(key + 1));

        ck_assert_double_gt(distance(p, q), 0.1);
    }
}
END_TEST

/* 2×3 pixels: two from image 4 in place, two from image 4 one to the right, two from image 5 in place. */
START_TEST(test_maps_of_a_mosaic)
{
    struct els_candidate candidate[6] = {{4, 0, 0, 1}, {4, 0, 1, 1}, {4, 0, 0, 1},
                                         {4, 1, 1, 1}, {5, 1, 1, 1}, {5, 1, 2, 1}};
    double entropy[6] = {0, 1, 2, 0.5, 0, 2};
    int region[6] = {0, 0, 1, 2, 3, 3};
    struct els_mosaic m = {.height = 2,
                           .width = 3,
                           .top = 1,
                           .candidate = candidate,
                           .entropy = entropy,
                           .region = region,
                           .num_regions = 4,
                           .wraps = 1};
    struct els_picture p = {0};
    struct els_rgb c;

    ck_assert_int_eq(els_mosaic_picture(&p, &m, ELS_MAP_REGION), 0);
    ck_assert_int_eq(p.width, 3);
    ck_assert_int_eq(p.height, 2);
    ck_assert_int_eq(p.channels, 3);
    ck_assert_mem_eq(p.pixels, p.pixels + 3, 3);
    /* Pixel (0,2) looks around the edge: one to the right, as pixel (1,0) does. */
    ck_assert_mem_eq(p.pixels + 6, p.pixels + 9, 3);
    ck_assert_mem_ne(p.pixels, p.pixels + 6, 3);
    ck_assert_mem_ne(p.pixels, p.pixels + 12, 3);
    ck_assert_mem_eq(p.pixels + 12, p.pixels + 15, 3);
    els_picture_deinit(&p);

    ck_assert_int_eq(els_mosaic_picture(&p, &m, ELS_MAP_SOURCE), 0);
    c = els_colormap_direction(0, 0);
    ck_assert_mem_eq(p.pixels, &c, 3);
    ck_assert_mem_eq(p.pixels + 12, &c, 3);
    c = els_colormap_direction(1 / (hypot(2, 3) / 2), 0);
    ck_assert_mem_eq(p.pixels + 6, &c, 3);
    els_picture_deinit(&p);

    ck_assert_int_eq(els_mosaic_picture(&p, &m, ELS_MAP_ENTROPY), 0);
    for (int at = 0; at < 6; at++) {
        c = els_colormap_scale(entropy[at] / 2);
        ck_assert_mem_eq(p.pixels + 3 * at, &c, 3);
    }
    els_picture_deinit(&p);
}
END_TEST

START_TEST(test_names)
{
    enum els_mosaic_map map;

    for (int i = 0; i < ELS_MAP_COUNT; i++) {
        ck_assert_int_eq(els_mosaic_map_parse(els_mosaic_map_name((enum els_mosaic_map)i), &map),
                         0);
        ck_assert_int_eq(map, i);
    }
    ck_assert_int_eq(els_mosaic_map_parse("regions", &map), ELS_ENOENT);
    ck_assert_ptr_null(els_mosaic_map_name(ELS_MAP_COUNT));
}
END_TEST

UNIT_MAIN("colormap", test_scale_is_uniform, test_scale_clamps, test_directions,
          test_neighbouring_keys_are_far_apart, test_maps_of_a_mosaic, test_names)
