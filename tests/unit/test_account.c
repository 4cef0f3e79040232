/*
 * Accounts: the total, a key's and an address's share each refuse what would pass them, say so in a sentence, and
 * count nothing when they do. Many threads that charge and give back at random end where they began, and never pass a
 * limit on the way.
 */
#include "unit.h"

#include <pthread.h>
#include <string.h>

#include "els/error.h"
#include "server/base/account.h"

static struct srv_accounts *accounts;
static struct srv_refusal why;

static void open_accounts(int64_t memory, int64_t disk, int key, int address)
{
    struct srv_account_limits limits = {{memory, disk}, key, address};

    accounts = NULL;
    ck_assert_int_eq(srv_accounts_new(&accounts, &limits), 0);
}

static struct srv_payer *payer(const char *key, const char *address)
{
    struct srv_payer *p = srv_payer_new(accounts, key, address);

    ck_assert_ptr_nonnull(p);
    return p;
}

static struct srv_account_totals totals(void)
{
    struct srv_account_totals t;

    srv_accounts_totals(accounts, &t);
    return t;
}

static void assert_refused(int status, const char *code, const char *setting)
{
    ck_assert_int_eq(why.status, status);
    ck_assert_str_eq(why.code, code);
    ck_assert_str_eq(why.setting, setting);
    ck_assert_msg(strstr(why.detail, setting), "%s", why.detail);
    ck_assert_int_eq(why.detail[strlen(why.detail) - 1], '.');
}

START_TEST(test_the_total)
{
    struct srv_payer *a = payer("", ""), *b = payer("", "");
    struct srv_charge first = {0}, second = {0};

    ck_assert_int_eq(srv_charge_take(&first, a, SRV_CHARGE_BODIES, 900, NULL), 0);
    ck_assert_int_eq(srv_charge_take(&second, b, SRV_CHARGE_JSON, 101, &why), ELS_ELIMIT);
    assert_refused(503, "memory_limit", "memory_limit");
    ck_assert_ptr_null(second.payer);
    ck_assert_int_eq(srv_charge_take(&second, b, SRV_CHARGE_JSON, 1001, &why), ELS_ELIMIT);
    assert_refused(413, "too_large", "memory_limit");
    ck_assert_int_eq(srv_charge_take(&second, b, SRV_CHARGE_JSON, 100, &why), 0);
    ck_assert_int_eq(totals().total[SRV_MEMORY], 1000);
    ck_assert_int_eq(totals().held[SRV_CHARGE_BODIES], 900);
    ck_assert_uint_eq(totals().refused[SRV_MEMORY][0], 2);
    srv_charge_give(&first);
    srv_charge_give(&first);
    srv_charge_give(&second);
    ck_assert_int_eq(totals().total[SRV_MEMORY], 0);
    ck_assert_int_eq(totals().most[SRV_MEMORY], 1000);
    srv_payer_unref(a);
    srv_payer_unref(b);
}
END_TEST

START_TEST(test_disk_is_apart)
{
    struct srv_payer *a = payer("", "");
    struct srv_charge memory = {0}, disk = {0};

    ck_assert_int_eq(srv_charge_take(&memory, a, SRV_CHARGE_RUNS, 1000, NULL), 0);
    ck_assert_int_eq(srv_charge_take(&disk, a, SRV_CHARGE_DISK_INPUTS, 501, &why), ELS_ELIMIT);
    assert_refused(413, "too_large", "disk_limit");
    ck_assert_int_eq(srv_charge_take(&disk, a, SRV_CHARGE_DISK_INPUTS, 500, NULL), 0);
    srv_charge_give(&memory);
    srv_charge_give(&disk);
    srv_payer_unref(a);
}
END_TEST

START_TEST(test_a_key_has_its_share_wherever_it_calls_from)
{
    struct srv_payer *here = payer("alice", "192.0.2.1"), *there = payer("alice", "192.0.2.2"),
                     *bob = payer("bob", "192.0.2.3");
    struct srv_charge a = {0}, b = {0}, c = {0};

    ck_assert_int_eq(srv_charge_take(&a, here, SRV_CHARGE_BODIES, 400, NULL), 0);
    ck_assert_int_eq(srv_charge_take(&b, there, SRV_CHARGE_INPUTS, 101, &why), ELS_ELIMIT);
    assert_refused(429, "key_memory", "share_per_key");
    ck_assert_int_eq(srv_payer_room(there, SRV_CHARGE_INPUTS), 100);
    ck_assert_int_eq(srv_payer_room(bob, SRV_CHARGE_INPUTS), 500);
    ck_assert_int_eq(srv_charge_take(&c, bob, SRV_CHARGE_INPUTS, 501, &why), ELS_ELIMIT);
    assert_refused(413, "too_large", "share_per_key");
    ck_assert_int_eq(srv_charge_take(&c, bob, SRV_CHARGE_INPUTS, 500, NULL), 0);
    /* What is kept for everybody is not anybody's share, but counts in the total. */
    ck_assert_int_eq(srv_charge_take(&b, here, SRV_CHARGE_STORED, 101, &why), ELS_ELIMIT);
    assert_refused(503, "memory_limit", "memory_limit");
    ck_assert_int_eq(srv_charge_take(&b, here, SRV_CHARGE_STORED, 100, NULL), 0);
    srv_charge_give(&a);
    srv_charge_give(&b);
    srv_charge_give(&c);
    srv_payer_unref(here);
    srv_payer_unref(there);
    srv_payer_unref(bob);
}
END_TEST

START_TEST(test_an_address_has_its_share_whatever_its_keys)
{
    struct srv_payer *a = payer("alice", "192.0.2.1"), *b = payer("", "192.0.2.1");
    struct srv_charge x = {0}, y = {0};

    ck_assert_int_eq(srv_charge_take(&x, a, SRV_CHARGE_STREAMS, 450, NULL), 0);
    ck_assert_int_eq(srv_charge_take(&y, b, SRV_CHARGE_ANSWERS, 51, &why), ELS_ELIMIT);
    assert_refused(429, "address_memory", "share_per_address");
    /* An entry ends with its payers, a charge keeps its payer. */
    srv_payer_unref(a);
    ck_assert_int_eq(srv_payer_room(b, SRV_CHARGE_ANSWERS), 50);
    srv_charge_give(&x);
    ck_assert_int_eq(srv_payer_room(b, SRV_CHARGE_ANSWERS), 500);
    srv_payer_unref(b);
}
END_TEST

START_TEST(test_resize_and_move)
{
    struct srv_payer *a = payer("alice", "");
    struct srv_charge x = {0}, y = {0};

    ck_assert_int_eq(srv_charge_take(&x, a, SRV_CHARGE_BODIES, 0, NULL), 0);
    ck_assert_int_eq(srv_charge_resize(&x, 300, &why), 0);
    ck_assert_int_eq(srv_charge_resize(&x, 501, &why), ELS_ELIMIT);
    assert_refused(413, "too_large", "share_per_key");
    ck_assert_int_eq(x.bytes, 300);
    ck_assert_int_eq(srv_charge_resize(&x, 200, &why), 0);
    srv_charge_move(&y, &x);
    srv_charge_give(&x);
    ck_assert_int_eq(totals().total[SRV_MEMORY], 200);
    srv_charge_give(&y);
    ck_assert_int_eq(totals().total[SRV_MEMORY], 0);
    srv_charge_take_any(&x, a, SRV_CHARGE_RUNS, 5000);
    ck_assert_int_eq(totals().total[SRV_MEMORY], 5000);
    ck_assert_int_eq(srv_payer_room(a, SRV_CHARGE_RUNS), 0);
    ck_assert_int_eq(srv_charge_take(&y, a, SRV_CHARGE_RUNS, 1, &why), ELS_ELIMIT);
    srv_charge_give(&x);
    srv_payer_unref(a);
}
END_TEST

START_TEST(test_long_names_and_many)
{
    char name[200];
    struct srv_payer *many[3000], *a, *b;

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    a = payer(name, name);
    name[SRV_PAYER_NAME - 1] = '\0';
    b = payer(name, name);
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "2001:db8::%x", i);
        many[i] = payer(name, name);
    }
    for (int i = 0; i < 3000; i++) {
        struct srv_charge charge = {0};

        ck_assert_int_eq(srv_charge_take(&charge, many[i], SRV_CHARGE_REQUESTS, 300, NULL), 0);
        srv_charge_give(&charge);
        srv_payer_unref(many[i]);
    }
    srv_payer_unref(a);
    srv_payer_unref(b);
}
END_TEST

enum { THREADS = 4, ROUNDS = 20000 };

static void *charge_at_random(void *arg)
{
    static const char *const keys[] = {"", "alice", "bob"};
    unsigned state = (unsigned)(uintptr_t)arg * 2654435761u + 1;

    for (int i = 0; i < ROUNDS; i++) {
        struct srv_payer *p;
        struct srv_charge charge = {0};

        state = state * 1664525u + 1013904223u;
        p = srv_payer_new(accounts, keys[(state >> 8) % 3], keys[(state >> 16) % 3]);
        if (srv_charge_take(&charge, p, (enum srv_charge_class)((state >> 20) % SRV_CHARGE_DISK_INPUTS),
                            state >> 23, NULL) == 0) {
            (void)srv_charge_resize(&charge, state >> 22, NULL);
            srv_charge_give(&charge);
        }
        srv_payer_unref(p);
    }
    return NULL;
}

START_TEST(test_threads)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, charge_at_random, (void *)(uintptr_t)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(totals().total[SRV_MEMORY], 0);
    for (int i = 0; i < SRV_CHARGE_COUNT; i++)
        ck_assert_int_eq(totals().held[i], 0);
    ck_assert_int_gt(totals().most[SRV_MEMORY], 0);
    ck_assert_int_le(totals().most[SRV_MEMORY], 1000);
}
END_TEST

static void setup(void)
{
    open_accounts(1000, 1000, 50, 50);
}

static void setup_disk(void)
{
    open_accounts(1000, 500, 100, 100);
}

static void teardown(void)
{
    for (int i = 0; i < SRV_CHARGE_COUNT; i++)
        ck_assert_int_eq(totals().held[i], 0);
    accounts = srv_accounts_free(accounts);
}

int main(void)
{
    const TTest *const tests[] = {test_the_total,
                                         test_a_key_has_its_share_wherever_it_calls_from,
                                         test_an_address_has_its_share_whatever_its_keys,
                                         test_resize_and_move,
                                         test_long_names_and_many,
                                         test_threads};
    Suite *suite = suite_create("account");
    TCase *shares = tcase_create("shares"), *disk = tcase_create("disk");
    SRunner *runner;
    int failed;

    tcase_add_checked_fixture(shares, setup, teardown);
    tcase_add_checked_fixture(disk, setup_disk, teardown);
    for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
        tcase_add_test(shares, tests[i]);
    tcase_add_test(disk, test_disk_is_apart);
    suite_add_tcase(suite, shares);
    suite_add_tcase(suite, disk);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
