/*
 * Turns at computing: one computes at a time, however long its work is; the next slice is of the one that has had
 * least; who stands still notices that it is to stop. Nothing here measures how long something takes, but for ratios of
 * what two have had beside each other.
 */
#include "server/jobs/turns.h"

#include <sched.h>
#include <time.h>

#include "els/pool.h"
#include "unit.h"

enum { SLICE_MS = 5, WORKERS = 3 };

/* One that computes until it is told to stop, or has done so many rounds. */
struct worker {
    struct srv_turn turn;
    struct srv_turns *turns;
    atomic_bool stop;
    atomic_llong rounds; /* of work, while it had the turn */
    long long most;      /* 0: no end */
    int weight;
    pthread_t thread;
};

static int is_to_stop(void *user)
{
    return atomic_load(&((struct worker *)user)->stop);
}

/* An item of a pool: as long as a job, with a poll now and then. */
static void compute(void *arg, size_t i, int number)
{
    struct worker *w = arg;
    volatile double x = 1;

    while (!srv_turn_poll(&w->turn, is_to_stop, w)) {
        for (int k = 0; k < 20000; k++)
            x = x * 1.0000001;
        if (atomic_fetch_add(&w->rounds, 1) + 1 >= w->most && w->most > 0)
            return;
    }
}

static void *run(void *user)
{
    struct worker *w = user;
    struct els_pool *pool = NULL;

    ck_assert_int_eq(els_pool_new(&pool, WORKERS), 0);
    srv_turn_join(&w->turn, w->turns);
    srv_turn_weigh(&w->turn, w->weight);
    els_pool_run(pool, WORKERS, compute, w);
    srv_turn_leave(&w->turn);
    els_pool_free(pool);
    return NULL;
}

static void begin(struct worker *w, struct srv_turns *turns, long long most, int weight)
{
    *w = (struct worker){.turns = turns, .most = most, .weight = weight};
    ck_assert_int_eq(pthread_create(&w->thread, NULL, run, w), 0);
}

static void end(struct worker *w)
{
    atomic_store(&w->stop, true);
    srv_turns_wake(w->turns);
    pthread_join(w->thread, NULL);
}

static void await_rounds(struct worker *w, long long more)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    long long from = atomic_load(&w->rounds);

    while (atomic_load(&w->rounds) < from + more)
        nanosleep(&tick, NULL);
}

START_TEST(test_a_short_one_ends_before_a_long_one)
{
    struct srv_turns turns;
    struct worker large, small;

    srv_turns_init(&turns, SLICE_MS);
    begin(&large, &turns, 0, 1);
    await_rounds(&large, 100);
    begin(&small, &turns, 100, 1);
    pthread_join(small.thread, NULL);
    ck_assert_int_ge(atomic_load(&small.rounds), 100);
    /* The other goes on from where it stood. */
    await_rounds(&large, 100);
    end(&large);
    srv_turns_deinit(&turns);
}
END_TEST

/* Two of equal weight have had about the same time, and one of twice the weight twice as much, from when they met. */
static void share(int weight, double least, double most)
{
    struct srv_turns turns;
    struct worker a, b;
    double before, had_a, had_b;

    srv_turns_init(&turns, SLICE_MS);
    begin(&a, &turns, 0, 1);
    await_rounds(&a, 1000); /* its past does not count */
    begin(&b, &turns, 0, weight);
    await_rounds(&b, 1);
    before = srv_turn_seconds(&a.turn);
    had_b = srv_turn_seconds(&b.turn);
    while ((had_a = srv_turn_seconds(&a.turn) - before) < 20 * SLICE_MS * 1e-3)
        await_rounds(&a, 1);
    had_b = srv_turn_seconds(&b.turn) - had_b;
    ck_assert_msg(had_b / had_a > least && had_b / had_a < most, "%g s and %g s", had_b, had_a);
    end(&a);
    end(&b);
    srv_turns_deinit(&turns);
}

START_TEST(test_time_is_shared_evenly)
{
    share(1, 0.6, 1.6);
}
END_TEST

START_TEST(test_two_have_twice_the_time_of_one)
{
    share(2, 1.3, 3);
}
END_TEST

static int never(void *user)
{
    return 0;
}

static bool is_waited_for(struct srv_turns *turns)
{
    int wanted = 0;

    pthread_mutex_lock(&turns->lock);
    for (const struct srv_turn *turn = turns->first; turn; turn = turn->next)
        wanted += turn->wants;
    pthread_mutex_unlock(&turns->lock);
    return wanted > 1;
}

/* One that stands still is told, although it is not its turn and the holder never polls. */
START_TEST(test_who_waits_is_told_to_stop)
{
    struct srv_turns turns;
    struct srv_turn holder;
    struct worker waits;

    srv_turns_init(&turns, 1000 * 1000); /* ms */
    srv_turn_join(&holder, &turns);
    ck_assert_int_eq(srv_turn_poll(&holder, never, NULL), 0);
    begin(&waits, &turns, 0, 1);
    while (!is_waited_for(&turns))
        sched_yield();
    ck_assert(srv_turn_held(&turns, &holder));
    end(&waits);
    ck_assert_int_eq(atomic_load(&waits.rounds), 0);
    srv_turn_leave(&holder);
    srv_turns_deinit(&turns);
}
END_TEST

START_TEST(test_a_holder_that_does_not_poll_delays_nobody)
{
    struct srv_turns turns;
    struct srv_turn holder;
    struct worker waits;

    srv_turns_init(&turns, SLICE_MS);
    srv_turn_join(&holder, &turns);
    ck_assert_int_eq(srv_turn_poll(&holder, never, NULL), 0);
    begin(&waits, &turns, 50, 1);
    pthread_join(waits.thread, NULL);
    ck_assert_int_ge(atomic_load(&waits.rounds), 50);
    srv_turn_leave(&holder);
    srv_turns_deinit(&turns);
}
END_TEST

START_TEST(test_who_rests_lets_others_compute)
{
    struct srv_turns turns;
    struct srv_turn rests;
    struct worker other;
    double used;

    srv_turns_init(&turns, 1000 * 1000); /* ms */
    srv_turn_join(&rests, &turns);
    ck_assert_int_eq(srv_turn_poll(&rests, never, NULL), 0);
    srv_turn_rest(&rests);
    used = srv_turn_seconds(&rests);
    begin(&other, &turns, 50, 1);
    pthread_join(other.thread, NULL);
    ck_assert(srv_turn_seconds(&rests) == used);
    ck_assert(!srv_turn_held(&turns, &rests));
    ck_assert_int_eq(srv_turn_poll(&rests, never, NULL), 0);
    ck_assert(srv_turn_held(&turns, &rests));
    srv_turn_leave(&rests);
    srv_turns_deinit(&turns);
}
END_TEST

UNIT_MAIN("turns", test_a_short_one_ends_before_a_long_one, test_time_is_shared_evenly,
          test_two_have_twice_the_time_of_one, test_who_waits_is_told_to_stop,
          test_a_holder_that_does_not_poll_delays_nobody, test_who_rests_lets_others_compute)
