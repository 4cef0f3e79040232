/*
 * Checked allocation and the bounded buffer.
 */
#include <stdint.h>
#include <string.h>

#include "els/error.h"
#include "els/mem.h"
#include "unit.h"

START_TEST(test_overflow_is_refused)
{
    ck_assert_ptr_null(els_alloc_array(SIZE_MAX / 2, 3));
    ck_assert_ptr_null(els_alloc_aligned(SIZE_MAX / 2, 3));
    ck_assert_ptr_null(els_alloc_aligned(SIZE_MAX, 1));
}
END_TEST

START_TEST(test_aligned_is_aligned_and_zero)
{
    uint8_t *p = els_alloc_aligned(3, 5);

    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % 64, 0);
    for (int i = 0; i < 15; i++)
        ck_assert_int_eq(p[i], 0);
    free(p);
}
END_TEST

START_TEST(test_buffer_keeps_to_its_maximum)
{
    struct els_buffer b = ELS_BUFFER_INIT(10);

    ck_assert_int_eq(els_buffer_append(&b, "12345678", 8), 0);
    ck_assert_int_eq(els_buffer_append(&b, "abc", 3), ELS_ELIMIT);
    ck_assert_uint_eq(b.size, 8);
    ck_assert_int_eq(els_buffer_append(&b, "ab", 2), 0);
    ck_assert_mem_eq(b.data, "12345678ab", 10);
    ck_assert_int_eq(els_buffer_append(&b, "x", 1), ELS_ELIMIT);
    els_buffer_deinit(&b);
    ck_assert_ptr_null(b.data);
}
END_TEST

START_TEST(test_buffer_printf_appends)
{
    struct els_buffer b = ELS_BUFFER_INIT(1000);

    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(els_buffer_printf(&b, "%03d ", i), 0);
    ck_assert_uint_eq(b.size, 400);
    ck_assert_mem_eq(b.data + 396, "099 ", 4);
    els_buffer_deinit(&b);
}
END_TEST

START_TEST(test_fail_fills_and_returns)
{
    struct els_error err = {0};

    ck_assert_int_eq(els_fail(&err, ELS_EINVAL, "label", "label is %d", 12), ELS_EINVAL);
    ck_assert_str_eq(err.field, "label");
    ck_assert_str_eq(err.message, "label is 12");
    ck_assert_int_eq(els_fail(NULL, ELS_EIO, NULL, "nobody reads this"), ELS_EIO);
}
END_TEST

/* The end of a message and a precision both cut bytes, not characters. */
START_TEST(test_fail_speaks_utf8)
{
    struct els_error err = {0};

    els_fail(&err, ELS_EINVAL, "caf\xe9", "%.4s, caf\xc3\xa9", "caf\xc3\xa9");
    ck_assert_str_eq(err.field, "caf?");
    ck_assert_str_eq(err.message, "caf?, caf\xc3\xa9");
    els_fail(&err, ELS_EINVAL, NULL, "%*s\xc3\xa9", (int)sizeof(err.message) - 2, "");
    ck_assert_str_eq(err.message + sizeof(err.message) - 3, " ?");
}
END_TEST

UNIT_MAIN("mem", test_overflow_is_refused, test_aligned_is_aligned_and_zero,
          test_buffer_keeps_to_its_maximum, test_buffer_printf_appends, test_fail_fills_and_returns,
          test_fail_speaks_utf8)
