/*
 * The machines' names and what P each accepts.
 */
#include <string.h>

#include "els/machine.h"
#include "els/scale.h"
#include "unit.h"

START_TEST(test_names)
{
    static const char *const names[] = {"is", "es", "ls", "els", "bbels"};
    enum els_machine m = ELS_MACHINE_IS;

    for (int i = 0; i < ELS_MACHINE_COUNT; i++) {
        ck_assert_str_eq(els_machine_name((enum els_machine)i), names[i]);
        ck_assert_int_eq(els_machine_parse(names[i], &m), 0);
        ck_assert_int_eq(m, i);
        ck_assert_uint_gt(strlen(els_machine_summary(m)), 20);
        ck_assert_int_eq(els_machine_uses_p(m), i >= ELS_MACHINE_LS);
    }
    ck_assert_ptr_null(els_machine_name(ELS_MACHINE_COUNT));
    ck_assert_ptr_null(els_machine_summary(ELS_MACHINE_COUNT));
    ck_assert_int_eq(els_machine_parse("ELS", &m), ELS_ENOENT);
    ck_assert_int_eq(els_machine_parse("", &m), ELS_ENOENT);
    ck_assert_int_eq(m, ELS_MACHINE_BBELS);
}
END_TEST

START_TEST(test_candidates)
{
    enum els_candidates c = ELS_CANDIDATES_WRAPPED;

    ck_assert_int_eq(els_candidates_parse("valid", &c), 0);
    ck_assert_int_eq(c, ELS_CANDIDATES_VALID);
    ck_assert_int_eq(els_candidates_parse("wrapped", &c), 0);
    ck_assert_int_eq(c, ELS_CANDIDATES_WRAPPED);
    ck_assert_int_eq(els_candidates_parse("circular", &c), ELS_ENOENT);
    ck_assert_str_eq(els_candidates_name(ELS_CANDIDATES_WRAPPED), "wrapped");
    ck_assert_str_eq(els_candidates_name(ELS_CANDIDATES_VALID), "valid");
    ck_assert_ptr_null(els_candidates_name(ELS_CANDIDATES_COUNT));
}
END_TEST

START_TEST(test_p)
{
    const struct els_shape shape = {3, 12, 9};
    const int odd[] = {1, 3, 9, 11, 2047}, bad[] = {-1, 0, 2, 2048, 2049};

    for (int m = 0; m < ELS_MACHINE_COUNT; m++) {
        int uses = els_machine_uses_p((enum els_machine)m);

        for (int i = 0; i < 5; i++) {
            struct els_error err = {0};
            int fits = m != ELS_MACHINE_ELS || odd[i] <= 9;

            ck_assert_int_eq(els_machine_check_p((enum els_machine)m, shape, odd[i], &err),
                             fits ? 0 : ELS_EINVAL);
            if (!fits)
                ck_assert_ptr_nonnull(strstr(err.message, "12×9 images allows 1 to 9"));
            ck_assert_int_eq(els_machine_check_p((enum els_machine)m, shape, bad[i], &err),
                             uses ? ELS_EINVAL : 0);
        }
    }
}
END_TEST

START_TEST(test_the_sentence_names_the_value)
{
    struct els_error err = {0};

    ck_assert_int_eq(els_machine_check_p(ELS_MACHINE_BBELS, (struct els_shape){1, 32, 32}, 4, &err),
                     ELS_EINVAL);
    ck_assert_str_eq(err.field, "scales");
    ck_assert_str_eq(err.message, "the locality scale P is 4; it must be odd, from 1 to 2047");
}
END_TEST

UNIT_MAIN("machine", test_names, test_candidates, test_p, test_the_sentence_names_the_value)
