/*
 * The built-in banks: their bytes are pinned, so that results can be compared across machines.
 */
#include <string.h>

#include "els/synth.h"
#include "unit.h"

static const struct {
    const char *name, *sha256;
    struct els_shape shape;
    int num_images, num_classes;
} PINNED[] = {
    {"digits", "0510bca010426f4bf9ce3732500106a3581d099fb7c65f8c74d5fbc6a112da8f", {1, 32, 32}, 3000, 10},
    {"shapes", "21ce594809c6d3fd624e2f3b772c3d791866dcd74b5c7af87804db00466e74a2", {3, 32, 32}, 1500, 6},
    {"two-tone", "06da979a0130a0b86b0c77662bdea452f141d6accf8728658057a6666e8aa201", {1, 32, 32}, 2, 2},
};

static struct els_bank *open_bank(const char *name)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    ck_assert_msg(els_bank_open(&bank, name, &err) == 0, "%s", err.message);
    return bank;
}

START_TEST(test_bytes_are_pinned)
{
    ck_assert_int_eq(els_synth_count(), 3);
    for (int i = 0; i < 3; i++) {
        struct els_bank *bank = open_bank(els_synth_name(i));
        const struct els_bank_info *info = els_bank_info(bank);

        ck_assert_str_eq(info->name, PINNED[i].name);
        ck_assert_str_eq(info->sha256, PINNED[i].sha256);
        ck_assert_int_eq(info->num_images, PINNED[i].num_images);
        ck_assert_int_eq(info->num_classes, PINNED[i].num_classes);
        ck_assert_mem_eq(&info->shape, &PINNED[i].shape, sizeof(info->shape));
        ck_assert_int_eq(info->class_counts[0], PINNED[i].num_images / PINNED[i].num_classes);
        ck_assert_uint_gt(strlen(els_synth_summary(i)), 20);
        els_bank_unref(bank);
    }
    ck_assert_ptr_null(els_synth_name(3));
    ck_assert_ptr_null(els_synth_name(-1));
    ck_assert_ptr_null(els_synth_summary(3));
}
END_TEST

START_TEST(test_unknown_name_lists_the_known)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    ck_assert_int_eq(els_synth_bank(&bank, "mnist", &err), ELS_ENOENT);
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_nonnull(strstr(err.message, els_synth_name(i)));
}
END_TEST

START_TEST(test_two_tone_of_any_size)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};
    const uint8_t *pixels;

    ck_assert_int_eq(els_synth_two_tone(&bank, 5, 3, &err), 0);
    pixels = els_bank_images(bank);
    for (int i = 0; i < 30; i++)
        ck_assert_int_eq(pixels[i], i < 15 ? 0 : 255);
    els_bank_unref(bank);
    ck_assert_int_eq(els_synth_two_tone(&bank, 0, 3, &err), ELS_EINVAL);
    ck_assert_int_eq(els_synth_two_tone(&bank, 3, ELS_MAX_SIDE + 1, &err), ELS_EINVAL);
}
END_TEST

/*
 * Each digit has ink, and a black border: a stroke that ran off the picture would be cut there. The
 * limits: MNIST resized to 32x32 has 1.5% to 30% of its pixels above half.
 */
START_TEST(test_digits_are_inked_and_whole)
{
    struct els_bank *bank = open_bank("digits");
    const uint8_t *pixels = els_bank_images(bank);
    int on_border = 0;

    for (int i = 0; i < 3000; i++) {
        const uint8_t *p = pixels + (size_t)i * 1024;
        int ink = 0;

        for (int k = 0; k < 1024; k++) {
            int border = k < 32 || k >= 992 || k % 32 == 0 || k % 32 == 31;

            ink += p[k] > 127;
            on_border += border && p[k] > 0;
        }
        ck_assert_msg(ink > 15 && ink < 300, "digit %d has %d pixels of ink", i, ink);
    }
    ck_assert_int_eq(on_border, 0);
    els_bank_unref(bank);
}
END_TEST

static int compare_images(const void *a, const void *b, void *size)
{
    return memcmp(*(const uint8_t *const *)a, *(const uint8_t *const *)b, *(size_t *)size);
}

/* No two images of a bank are alike: memorisation would be ambiguous. */
START_TEST(test_images_differ)
{
    for (int b = 0; b < els_synth_count(); b++) {
        struct els_bank *bank = open_bank(els_synth_name(b));
        size_t n = (size_t)els_bank_info(bank)->num_images;
        size_t size = els_shape_values(els_bank_info(bank)->shape);
        const uint8_t **sorted = calloc(n, sizeof(*sorted));

        ck_assert_ptr_nonnull(sorted);
        for (size_t i = 0; i < n; i++)
            sorted[i] = (const uint8_t *)els_bank_images(bank) + i * size;
        qsort_r(sorted, n, sizeof(*sorted), compare_images, &size);
        for (size_t i = 1; i < n; i++)
            ck_assert_int_ne(memcmp(sorted[i - 1], sorted[i], size), 0);
        free(sorted);
        els_bank_unref(bank);
    }
}
END_TEST

UNIT_MAIN("synth", test_bytes_are_pinned, test_unknown_name_lists_the_known, test_two_tone_of_any_size,
          test_digits_are_inked_and_whole, test_images_differ)
