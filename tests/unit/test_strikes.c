/*
 * Wrong keys: the burst, the wait, and that one address's strikes are never another's. The time is
 * the test's own.
 */
#include "unit.h"

#include "server/http/strikes.h"

static struct srv_strikes *strikes;
static int64_t now;

static int count(const char *address)
{
    return srv_strikes_count(strikes, address, now);
}

static void start(void)
{
    now = 1000000;
    ck_assert_int_eq(srv_strikes_new(&strikes, 7), 0);
}

START_TEST(test_a_burst_then_one_at_a_time)
{
    start();
    for (int i = 0; i < SRV_STRIKES_BURST; i++)
        ck_assert_int_eq(count("a"), 0);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(count("a"), SRV_STRIKES_EACH_MS / 1000);
    now += SRV_STRIKES_EACH_MS - 1;
    ck_assert_int_eq(count("a"), 1);
    now += 1;
    ck_assert_int_eq(count("a"), 0);
    ck_assert_int_eq(count("a"), SRV_STRIKES_EACH_MS / 1000);
    now += (int64_t)SRV_STRIKES_BURST * SRV_STRIKES_EACH_MS;
    for (int i = 0; i < SRV_STRIKES_BURST; i++)
        ck_assert_int_eq(count("a"), 0);
    ck_assert_int_gt(count("a"), 0);
    strikes = srv_strikes_free(strikes);
}
END_TEST

START_TEST(test_addresses_are_apart)
{
    char address[16];

    start();
    for (int i = 0; i < 1000; i++)
        count("a");
    ck_assert_int_eq(count("b"), 0);
    /* Far more than the table holds: it forgets, but makes nobody wait who has done nothing. */
    for (int i = 0; i < 10 * SRV_STRIKES_ADDRESSES; i++) {
        snprintf(address, sizeof(address), "x%d", i);
        ck_assert_int_eq(count(address), 0);
    }
    /* Who has struck most is forgotten last. */
    ck_assert_int_gt(count("a"), 0);
    strikes = srv_strikes_free(strikes);
}
END_TEST

UNIT_MAIN("strikes", test_a_burst_then_one_at_a_time, test_addresses_are_apart)
