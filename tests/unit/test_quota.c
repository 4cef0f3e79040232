/*
 * Counts by name: limits, names that collide in the table, and that nothing is kept of who holds
 * nothing.
 */
#include "unit.h"

#include "els/error.h"
#include "server/base/quota.h"

START_TEST(test_no_more_than_the_most)
{
    struct srv_quota *quota = NULL;

    ck_assert_int_eq(srv_quota_new(&quota, 2), 0);
    ck_assert_int_eq(srv_quota_take(quota, "a"), 0);
    ck_assert_int_eq(srv_quota_take(quota, "a"), 0);
    ck_assert_int_eq(srv_quota_take(quota, "a"), ELS_ELIMIT);
    ck_assert_int_eq(srv_quota_take(quota, "b"), 0);
    ck_assert_int_eq(srv_quota_held(quota, "a"), 2);
    srv_quota_give(quota, "a");
    ck_assert_int_eq(srv_quota_take(quota, "a"), 0);
    ck_assert_int_eq(srv_quota_take_any(quota, "a"), 0);
    ck_assert_int_eq(srv_quota_held(quota, "a"), 3);
    srv_quota_free(quota);
}
END_TEST

START_TEST(test_nobody_and_no_limit)
{
    struct srv_quota *quota = NULL;

    ck_assert_int_eq(srv_quota_new(&quota, 1), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(srv_quota_take(quota, ""), 0);
    ck_assert_int_eq(srv_quota_held(quota, ""), 0);
    srv_quota_free(quota);
    ck_assert_int_eq(srv_quota_new(&quota, 0), 0);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(srv_quota_take(quota, "a"), 0);
    srv_quota_free(quota);
}
END_TEST

START_TEST(test_thousands_of_names)
{
    struct srv_quota *quota = NULL;
    char name[16];

    ck_assert_int_eq(srv_quota_new(&quota, 7), 0);
    for (int i = 0; i < 5000; i++)
        for (int k = 0; k <= i % 7; k++) {
            snprintf(name, sizeof(name), "n%d", i);
            ck_assert_int_eq(srv_quota_take(quota, name), 0);
        }
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        ck_assert_int_eq(srv_quota_held(quota, name), i % 7 + 1);
        for (int k = 0; k <= i % 7; k++)
            srv_quota_give(quota, name);
        ck_assert_int_eq(srv_quota_held(quota, name), 0);
    }
    srv_quota_free(quota);
}
END_TEST

UNIT_MAIN("quota", test_no_more_than_the_most, test_nobody_and_no_limit, test_thousands_of_names)
