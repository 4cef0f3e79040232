/*
 * The lanes by themselves: who runs beside whom, and in which order. Turns say when they begin and
 * wait until they are let go, so nothing here depends on how fast anything is.
 */
#include "unit.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "server/http/lanes.h"

enum { THREADS = 4, MANY = 64 };

struct entry {
    struct srv_turn turn; /* first: a turn is its entry */
    char name[16];
    bool begun, may_end;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static struct entry *order[4 * MANY];
static int num_begun, num_ended;
static struct srv_lanes *lanes;

static void work(struct srv_turn *turn)
{
    struct entry *entry = (struct entry *)turn;

    pthread_mutex_lock(&lock);
    entry->begun = true;
    order[num_begun++] = entry;
    pthread_cond_broadcast(&news);
    while (!entry->may_end)
        pthread_cond_wait(&news, &lock);
    num_ended++;
    pthread_cond_broadcast(&news);
    pthread_mutex_unlock(&lock);
}

static void start(void)
{
    num_begun = num_ended = 0;
    ck_assert_int_eq(srv_lanes_new(&lanes, THREADS, work), 0);
}

static void push(struct entry *entry, enum srv_lane lane, const char *payer, const char *address)
{
    *entry = (struct entry){.turn = {.lane = lane, .payer = payer, .address = address}};
    snprintf(entry->name, sizeof(entry->name), "%.*s", (int)sizeof(entry->name) - 1, payer);
    srv_lanes_push(lanes, &entry->turn);
}

/* Until so many have begun in all. */
static void await(int count)
{
    pthread_mutex_lock(&lock);
    while (num_begun < count)
        pthread_cond_wait(&news, &lock);
    ck_assert_int_eq(num_begun, count);
    pthread_mutex_unlock(&lock);
}

/* Lets one go that runs. */
static void end(struct entry *entry)
{
    pthread_mutex_lock(&lock);
    entry->may_end = true;
    pthread_cond_broadcast(&news);
    pthread_mutex_unlock(&lock);
}

static void end_all(struct entry *entries, int n)
{
    for (int i = 0; i < n; i++)
        end(&entries[i]);
}

START_TEST(test_nobody_holds_all_threads)
{
    static struct entry mine[MANY], other;

    start();
    for (int i = 0; i < MANY; i++)
        push(&mine[i], SRV_LANE_COSTLY, "a", "1");
    await(THREADS - 1);
    push(&other, SRV_LANE_COSTLY, "b", "2");
    await(THREADS);
    ck_assert(other.begun);
    end_all(mine, MANY);
    end(&other);
    lanes = srv_lanes_free(lanes);
    ck_assert_int_eq(num_ended, MANY + 1);
}
END_TEST

START_TEST(test_neither_with_many_keys_nor_with_many_addresses)
{
    static struct entry mine[MANY], other;
    static char names[MANY][8];

    for (int by_key = 0; by_key < 2; by_key++) {
        start();
        for (int i = 0; i < MANY; i++) {
            snprintf(names[i], sizeof(names[i]), "n%d", i);
            push(&mine[i], SRV_LANE_QUICK, by_key ? "k" : names[i], by_key ? names[i] : "1");
        }
        await(THREADS - 1);
        push(&other, SRV_LANE_QUICK, "other", "2");
        await(THREADS);
        ck_assert(other.begun);
        end_all(mine, MANY);
        end(&other);
        lanes = srv_lanes_free(lanes);
        ck_assert_int_eq(num_ended, MANY + 1);
    }
}
END_TEST

START_TEST(test_lanes_do_not_wait_for_each_other)
{
    static struct entry costly[3][MANY], quick;

    start();
    for (int i = 0; i < 3 * MANY; i++)
        push(&costly[i % 3][i / 3], SRV_LANE_COSTLY,
             i % 3 == 0   ? "a"
             : i % 3 == 1 ? "b"
                          : "c",
             "1");
    await(THREADS - 1); /* all have one address */
    push(&quick, SRV_LANE_QUICK, "a", "1");
    await(THREADS);
    ck_assert(quick.begun);
    end(&quick);
    for (int i = 0; i < 3; i++)
        end_all(costly[i], MANY);
    lanes = srv_lanes_free(lanes);
}
END_TEST

/* One that has much to do, and three that come after it with as much: they alternate. */
START_TEST(test_payers_take_turns)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    static struct entry entries[4][MANY];
    int count[4] = {0};

    start();
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < MANY; i++)
            push(&entries[k][i], SRV_LANE_QUICK, names[k], names[k]);
    for (int done = 0; done < 2 * MANY; done++) {
        struct entry *oldest;

        pthread_mutex_lock(&lock);
        while (num_begun <= done)
            pthread_cond_wait(&news, &lock);
        oldest = order[done];
        pthread_mutex_unlock(&lock);
        count[oldest->name[0] - 'a']++;
        end(oldest);
    }
    for (int k = 0; k < 4; k++) {
        ck_assert_int_ge(count[k], MANY / 2 - THREADS);
        ck_assert_int_le(count[k], MANY / 2 + THREADS);
        end_all(entries[k], MANY);
    }
    lanes = srv_lanes_free(lanes);
    ck_assert_int_eq(num_ended, 4 * MANY);
}
END_TEST

/* One turn of somebody new does not wait for all of those who were there before. */
START_TEST(test_a_newcomer_is_next)
{
    static struct entry crowd[MANY], newcomer;

    start();
    for (int i = 0; i < MANY; i++)
        push(&crowd[i], SRV_LANE_QUICK, i % 2 ? "a" : "b", i % 2 ? "1" : "2");
    await(THREADS);
    push(&newcomer, SRV_LANE_QUICK, "c", "3");
    for (int i = 0; i < THREADS; i++)
        end(order[i]);
    await(2 * THREADS);
    ck_assert(newcomer.begun);
    end_all(crowd, MANY);
    end(&newcomer);
    lanes = srv_lanes_free(lanes);
}
END_TEST

UNIT_MAIN("lanes", test_nobody_holds_all_threads,
          test_neither_with_many_keys_nor_with_many_addresses,
          test_lanes_do_not_wait_for_each_other, test_payers_take_turns, test_a_newcomer_is_next)
