/*
 * Locality scales: the published calibrations, ties, lists and their errors.
 */
#include <math.h>
#include <string.h>

#include "els/mem.h"
#include "els/scale.h"
#include "unit.h"

static const char *const published[][2] = {
    {"cifar10-resnet-circular", "3,3,3,3,5,5,5,5,7,7,7,9,9,11,11,13,13,15,15,15"},
    {"cifar10-resnet-zeros", "3,3,3,3,5,5,5,7,7,7,7,9,9,11,11,13,15,17,17,17"},
    {"cifar10-unet-zeros", "3,3,3,3,5,5,5,5,7,7,7,7,9,9,11,13,13,15,17,25"},
    {"celeba-resnet-zeros", "3,3,3,5,5,5,5,5,7,7,9,9,9,11,11,11,13,15,19,19"},
    {"celeba-unet-zeros", "3,3,3,3,3,3,3,5,5,5,5,5,7,7,9,9,9,13,19,27"},
    {"fashionmnist-resnet-zeros", "3,3,5,5,7,7,9,9,9,11,11,11,13,13,13,15,15,15,17,17"},
    {"fashionmnist-unet-zeros", "3,3,5,5,7,7,7,9,11,11,11,13,15,15,21,23,25,25,25,25"},
    {"mnist-resnet-circular", "3,3,5,5,5,7,7,9,9,9,11,11,11,11,9,9,7,7,3,3"},
    {"mnist-resnet-zeros", "3,3,5,5,5,7,7,7,9,9,11,11,11,11,13,15,15,15,15,15"},
    {"mnist-unet-zeros", "3,3,3,5,5,7,7,7,9,9,9,11,13,15,17,21,23,23,25,27"},
};

enum { NUM_PUBLISHED = sizeof(published) / sizeof(*published) };

static struct els_scales parsed(const char *text)
{
    struct els_scales s = {0};
    struct els_error err = {0};

    ck_assert_msg(els_scales_parse(&s, text, &err) == 0, "\"%s\": %s", text, err.message);
    return s;
}

START_TEST(test_presets)
{
    ck_assert_int_eq(els_scales_num_presets(), NUM_PUBLISHED);
    for (int i = 0; i < NUM_PUBLISHED; i++) {
        struct els_scales preset = parsed(published[i][0]), list = parsed(published[i][1]);

        ck_assert_str_eq(els_scales_preset_name(i), published[i][0]);
        ck_assert_int_eq(preset.n, 20);
        ck_assert_int_eq(list.n, 20);
        ck_assert_int_eq(preset.is_list, 0);
        ck_assert_int_eq(list.is_list, 1);
        ck_assert_mem_eq(preset.p, list.p, 20 * sizeof(*list.p));
        ck_assert_mem_eq(preset.t, list.t, 20 * sizeof(*list.t));
        ck_assert_mem_eq(els_scales_preset(i), list.p, 20 * sizeof(*list.p));
        for (int k = 0; k < 20; k++)
            ck_assert_int_eq(els_scales_at(&preset, k / 20.0), list.p[k]);
        ck_assert_int_eq(els_scales_at(&preset, 1), list.p[19]);
        els_scales_deinit(&preset);
        els_scales_deinit(&list);
    }
    ck_assert_ptr_null(els_scales_preset_name(NUM_PUBLISHED));
    ck_assert_ptr_null(els_scales_preset_name(-1));
    ck_assert_ptr_null(els_scales_preset(NUM_PUBLISHED));
}
END_TEST

/* The nearest t counts; within 1e-9 of a tie, the larger. */
START_TEST(test_nearest_and_ties)
{
    struct els_scales s = {0};

    /* Given out of order: sorted inside. */
    ck_assert_int_eq(els_scales_from_pairs(&s, 3, (double[]){0.5, 0.25, 1}, (int[]){5, 3, 9}, NULL),
                     0);
    ck_assert_int_eq(s.is_list, 0);
    ck_assert_int_eq(els_scales_at(&s, 0), 3);
    ck_assert_int_eq(els_scales_at(&s, 0.37), 3);
    ck_assert_int_eq(els_scales_at(&s, 0.375), 5);
    ck_assert_int_eq(els_scales_at(&s, 0.375 - 0.4e-9), 5);
    ck_assert_int_eq(els_scales_at(&s, 0.375 - 0.6e-9), 3);
    ck_assert_int_eq(els_scales_at(&s, 0.375 + 1e-6), 5);
    ck_assert_int_eq(els_scales_at(&s, 0.75), 9);
    ck_assert_int_eq(els_scales_at(&s, 0.75 - 1e-8), 5);
    ck_assert_int_eq(els_scales_at(&s, 1), 9);
    els_scales_deinit(&s);
    els_scales_deinit(&s);
    ck_assert_int_eq(els_scales_at(&s, 0.5), 0);
}
END_TEST

/* A list asked at its own times gives its own entries, for every length, whatever i/n rounds to. */
START_TEST(test_a_list_gives_itself_back)
{
    static int p[1000];

    for (int n = 1; n <= 1000; n += n < 60 ? 1 : 47) {
        struct els_scales s = {0}, copy = {0};

        for (int i = 0; i < n; i++)
            p[i] = 2 * i + 1;
        ck_assert_int_eq(els_scales_from_list(&s, n, p, NULL), 0);
        ck_assert_int_eq(els_scales_copy(&copy, &s), 0);
        ck_assert_int_eq(s.is_list, 1);
        els_scales_deinit(&s);
        ck_assert_int_eq(copy.n, n);
        ck_assert_int_eq(copy.is_list, 1);
        for (int i = 0; i < n; i++)
            ck_assert_int_eq(els_scales_at(&copy, (double)i / n), p[i]);
        els_scales_deinit(&copy);
    }
}
END_TEST

/* 10 steps on a calibration of 20 meet its even entries; 40 steps fall on ties, which go up. */
START_TEST(test_other_numbers_of_steps)
{
    struct els_scales s = parsed("mnist-unet-zeros");
    const int *p = s.p;

    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(els_scales_at(&s, i / 10.0), p[2 * i]);
    for (int i = 0; i < 39; i++)
        ck_assert_int_eq(els_scales_at(&s, i / 40.0), p[(i + 1) / 2]);
    ck_assert_int_eq(els_scales_at(&s, 39 / 40.0), p[19]);
    els_scales_deinit(&s);
}
END_TEST

START_TEST(test_constant)
{
    struct els_scales s = parsed("9");

    ck_assert_int_eq(s.n, 1);
    ck_assert_int_eq(s.is_list, 0);
    ck_assert_int_eq(els_scales_at(&s, 0), 9);
    ck_assert_int_eq(els_scales_at(&s, 1), 9);
    els_scales_deinit(&s);
    s = parsed("2047");
    ck_assert_int_eq(els_scales_at(&s, 0.3), ELS_MAX_P);
    els_scales_deinit(&s);
}
END_TEST

static void refuse(const char *text, int code, const char *says)
{
    struct els_scales s = {.n = -7};
    struct els_error err = {0};

    ck_assert_msg(els_scales_parse(&s, text, &err) == code, "\"%s\" gave %d", text, err.code);
    ck_assert_msg(strstr(err.message, says), "\"%s\": \"%s\" lacks \"%s\"", text, err.message,
                  says);
    ck_assert_str_eq(err.field, "scales");
    ck_assert_int_eq(s.n, -7);
}

START_TEST(test_bad_text)
{
    refuse("", ELS_EINVAL, "empty");
    refuse("4", ELS_EINVAL, "entry 0 is 4; it must be odd, from 1 to 2047");
    refuse("-3", ELS_EINVAL, "entry 0 is -3");
    refuse("0", ELS_EINVAL, "entry 0 is 0");
    refuse("2049", ELS_EINVAL, "from 1 to 2047");
    refuse("99999999999999999999", ELS_EINVAL, "from 1 to 2047");
    refuse("3,5,6", ELS_EINVAL, "entry 2 is 6");
    refuse("3,,5", ELS_EINVAL, "entry 1 is not an integer");
    refuse("3,5,", ELS_EINVAL, "entry 2 is not an integer");
    refuse(",3", ELS_EINVAL, "entry 0 is not an integer");
    refuse("3, 5", ELS_EINVAL, "entry 1 is not an integer");
    refuse("3.5", ELS_EINVAL, "entry 0 is not an integer");
    refuse("-", ELS_EINVAL, "entry 0 is not an integer");
    refuse("mnist", ELS_ENOENT, "mnist-unet-zeros");
    refuse("MNIST-unet-zeros", ELS_ENOENT, "cifar10-resnet-circular");
}
END_TEST

/* What a bank's own scales may be. */
START_TEST(test_json)
{
    struct els_scales s = parsed("[3, 5,7]");

    ck_assert_int_eq(s.n, 3);
    ck_assert_int_eq(s.is_list, 1);
    ck_assert_int_eq(els_scales_at(&s, 2 / 3.0), 7);
    els_scales_deinit(&s);
    s = parsed("{\"p\": [9, 3], \"t\": [1, 0.5]}");
    ck_assert_int_eq(s.n, 2);
    ck_assert_int_eq(s.is_list, 0);
    ck_assert_int_eq(els_scales_at(&s, 0), 3);
    ck_assert_int_eq(els_scales_at(&s, 1), 9);
    els_scales_deinit(&s);
}
END_TEST

START_TEST(test_bad_json)
{
    refuse("[]", ELS_EINVAL, "no list of P");
    refuse("{}", ELS_EINVAL, "other fields");
    refuse("{\"t\": [0], \"q\": [3]}", ELS_EINVAL, "no list of P");
    refuse("{\"t\": [0, 1], \"p\": [3]}", ELS_EINVAL, "as many t as p");
    refuse("{\"t\": 0, \"p\": [3]}", ELS_EINVAL, "as many t as p");
    refuse("{\"t\": [\"0\"], \"p\": [3]}", ELS_EINVAL, "t must be in [0, 1]");
    refuse("{\"t\": [2], \"p\": [3]}", ELS_EINVAL, "entry 0 has t = 2");
    refuse("{\"t\": [0, 0], \"p\": [3, 3]}", ELS_EINVAL, "two entries at t = 0");
    refuse("[3, 4]", ELS_EINVAL, "entry 1 is 4");
    refuse("[3, 99999999999]", ELS_EINVAL, "entry 1 is ");
    refuse("[3, 3.0]", ELS_EINVAL, "not an integer");
    refuse("[3, null]", ELS_EINVAL, "not an integer");
    refuse("[3", ELS_EFORMAT, "JSON");
    refuse("[[[[3]]]]", ELS_EFORMAT, "");
}
END_TEST

START_TEST(test_a_list_has_a_longest_length)
{
    struct els_buffer b = ELS_BUFFER_INIT(1 << 16);
    struct els_scales s = {0};

    for (int i = 0; i < ELS_MAX_SCALES; i++)
        ck_assert_int_eq(els_buffer_printf(&b, "%s3", i ? "," : ""), 0);
    ck_assert_int_eq(els_buffer_append(&b, "", 1), 0);
    ck_assert_int_eq(els_scales_parse(&s, (const char *)b.data, NULL), 0);
    ck_assert_int_eq(s.n, ELS_MAX_SCALES);
    els_scales_deinit(&s);
    b.size--;
    ck_assert_int_eq(els_buffer_append(&b, ",3", 3), 0);
    refuse((const char *)b.data, ELS_EINVAL, "10001 entries");
    els_buffer_deinit(&b);
}
END_TEST

static void refuse_pairs(int n, const double *t, const int *p, const char *says)
{
    struct els_scales s = {0};
    struct els_error err = {0};

    ck_assert_int_eq(els_scales_from_pairs(&s, n, t, p, &err), ELS_EINVAL);
    ck_assert_msg(strstr(err.message, says), "\"%s\" lacks \"%s\"", err.message, says);
    ck_assert_ptr_null(s.t);
}

START_TEST(test_bad_pairs)
{
    const int p[] = {3, 5, 4};

    refuse_pairs(0, NULL, NULL, "0 entries");
    refuse_pairs(-1, NULL, NULL, "-1 entries");
    refuse_pairs(ELS_MAX_SCALES + 1, NULL, NULL, "10001 entries");
    refuse_pairs(2, (double[]){0.5, 0.5}, p, "two entries at t = 0.5");
    refuse_pairs(2, (double[]){0.5, 0.5 + 0.5e-9}, p, "two entries");
    refuse_pairs(2, (double[]){0.5, -0.1}, p, "entry 1 has t = -0.1");
    refuse_pairs(2, (double[]){1.5, 0}, p, "entry 0 has t = 1.5");
    refuse_pairs(1, (double[]){NAN}, p, "t must be in [0, 1]");
    refuse_pairs(1, (double[]){INFINITY}, p, "t must be in [0, 1]");
    refuse_pairs(3, (double[]){0, 0.1, 0.2}, p, "entry 2 is 4; it must be odd");
}
END_TEST

UNIT_MAIN("scale", test_presets, test_nearest_and_ties, test_a_list_gives_itself_back,
          test_other_numbers_of_steps, test_constant, test_bad_text, test_json, test_bad_json,
          test_a_list_has_a_longest_length, test_bad_pairs)
