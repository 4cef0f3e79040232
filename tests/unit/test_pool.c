/*
 * The thread pool: every item runs once, by a worker in range, loop after loop.
 */
#include <stdatomic.h>
#include <string.h>

#include "els/error.h"
#include "els/pool.h"
#include "unit.h"

enum { ITEMS = 1000 };

struct tally {
    atomic_int runs[ITEMS];
    int threads;
};

static void count(void *arg, size_t i, int worker)
{
    struct tally *t = arg;

    ck_assert(worker >= 0 && worker < t->threads);
    atomic_fetch_add(&t->runs[i], 1);
}

START_TEST(test_every_item_once)
{
    for (int threads = 1; threads <= 9; threads += 4) {
        struct els_pool *pool = NULL;
        static struct tally t;

        memset(&t, 0, sizeof(t));
        t.threads = threads;
        ck_assert_int_eq(els_pool_new(&pool, threads), 0);
        ck_assert_int_eq(els_pool_threads(pool), threads);
        for (int round = 1; round <= 50; round++) {
            els_pool_run(pool, ITEMS, count, &t);
            for (int i = 0; i < ITEMS; i++)
                ck_assert_int_eq(atomic_load(&t.runs[i]), round);
        }
        els_pool_run(pool, 0, count, &t);
        els_pool_free(pool);
    }
}
END_TEST

START_TEST(test_no_pool_runs_here)
{
    static struct tally t;

    t.threads = 1;
    els_pool_run(NULL, ITEMS, count, &t);
    for (int i = 0; i < ITEMS; i++)
        ck_assert_int_eq(atomic_load(&t.runs[i]), 1);
    ck_assert_int_eq(els_pool_threads(NULL), 1);
    els_pool_free(NULL);
}
END_TEST

START_TEST(test_range_of_threads)
{
    struct els_pool *pool = NULL;

    ck_assert_int_eq(els_pool_new(&pool, -1), ELS_EINVAL);
    ck_assert_int_eq(els_pool_new(&pool, ELS_MAX_THREADS + 1), ELS_EINVAL);
    ck_assert_int_eq(els_pool_new(&pool, 0), 0);
    ck_assert_int_ge(els_pool_threads(pool), 1);
    els_pool_free(pool);
}
END_TEST

UNIT_MAIN("pool", test_every_item_once, test_no_pool_runs_here, test_range_of_threads)
