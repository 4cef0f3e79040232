/*
 * The waiting line: bounded, first in first out per owner, owners in turn, and positions that come true.
 */
#include <pthread.h>
#include <string.h>

#include "server/jobs/queue.h"
#include "unit.h"

/* A job made by hand: the queue looks at its owner and hands its reference on. */
static struct srv_job *make_job(const char *owner, int number)
{
    struct srv_job *job = calloc(1, sizeof(*job));

    ck_assert_ptr_nonnull(job);
    atomic_init(&job->refs, 1);
    pthread_mutex_init(&job->lock, NULL);
    srv_waiters_init(&job->watchers);
    snprintf(job->record.owner, sizeof(job->record.owner), "%s", owner);
    job->record.sequence = number;
    return job;
}

static struct srv_job *push(struct srv_queue *queue, const char *owner, int number)
{
    struct srv_job *job = make_job(owner, number);

    ck_assert(srv_queue_reserve(queue));
    ck_assert_int_eq(srv_queue_push(queue, job), 0);
    srv_job_unref(job); /* the queue has its own; the pointer stays good as long as it waits */
    return job;
}

static int pop(struct srv_queue *queue)
{
    struct srv_job *job = srv_queue_pop(queue, NULL, NULL, 0);
    int number = job ? (int)job->record.sequence : 0;

    srv_job_unref(job);
    return number;
}

static struct srv_queue *make(int64_t capacity)
{
    struct srv_queue *queue = NULL;

    ck_assert_int_eq(srv_queue_new(&queue, capacity), 0);
    return queue;
}

START_TEST(test_first_in_first_out)
{
    struct srv_queue *queue = make(10);

    for (int i = 1; i <= 5; i++)
        push(queue, "", i);
    for (int i = 1; i <= 5; i++)
        ck_assert_int_eq(pop(queue), i);
    ck_assert_int_eq(pop(queue), 0);
    srv_queue_free(queue);
}
END_TEST

START_TEST(test_owners_in_turn)
{
    static const int expected[] = {1, 4, 6, 2, 5, 3, 0};
    struct srv_queue *queue = make(10);

    push(queue, "ann", 1);
    push(queue, "ann", 2);
    push(queue, "ann", 3);
    push(queue, "bob", 4);
    push(queue, "bob", 5);
    push(queue, "cyd", 6);
    for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++)
        ck_assert_int_eq(pop(queue), expected[i]);
    srv_queue_free(queue);
}
END_TEST

static bool is_even(void *user, const struct srv_job *job)
{
    return job->record.sequence % 2 == 0;
}

/* The job whose turn it is, or none. */
static int pop_next(struct srv_queue *queue)
{
    struct srv_job *job = srv_queue_pop_next(queue, is_even, NULL);
    int number = job ? (int)job->record.sequence : 0;

    srv_job_unref(job);
    return number;
}

START_TEST(test_nobody_is_overtaken)
{
    struct srv_queue *queue = make(10);

    ck_assert_int_eq(pop_next(queue), 0);
    push(queue, "ann", 2);
    push(queue, "ann", 4);
    push(queue, "ann", 6);
    push(queue, "bob", 3);
    push(queue, "bob", 8);
    ck_assert_int_eq(pop_next(queue), 2);
    ck_assert_int_eq(pop_next(queue), 0); /* bob's turn, and his first does not fit */
    ck_assert_int_eq(srv_queue_length(queue), 4);
    ck_assert_int_eq(pop(queue), 3);
    ck_assert_int_eq(pop_next(queue), 4);
    ck_assert_int_eq(pop_next(queue), 8);
    ck_assert_int_eq(pop_next(queue), 6);
    ck_assert_int_eq(pop_next(queue), 0);
    push(queue, "bob", 10);
    srv_queue_close(queue);
    ck_assert_int_eq(pop_next(queue), 0);
    srv_queue_free(queue);
}
END_TEST

START_TEST(test_full)
{
    struct srv_queue *queue = make(3);

    push(queue, "a", 1);
    push(queue, "b", 2);
    ck_assert(srv_queue_reserve(queue));
    ck_assert(!srv_queue_reserve(queue));
    srv_queue_release(queue);
    push(queue, "a", 3);
    ck_assert(!srv_queue_reserve(queue));
    ck_assert_int_eq(pop(queue), 1);
    push(queue, "c", 4);
    ck_assert(!srv_queue_reserve(queue));
    ck_assert_int_eq(srv_queue_length(queue), 3);
    srv_queue_free(queue); /* with three jobs in it: the leak check looks */
}
END_TEST

/* Random lanes: the position that each job is told is the pop that it comes with. */
START_TEST(test_positions_come_true)
{
    unsigned state = 1;

    for (int round = 0; round < 50; round++) {
        struct srv_queue *queue = make(64);
        struct srv_job *jobs[40];
        int64_t position[40];
        char owner[2] = "a";

        for (int i = 0; i < 40; i++) {
            state = state * 1664525 + 1013904223;
            owner[0] = (char)('a' + (state >> 16) % 5);
            jobs[i] = push(queue, owner, i + 1);
            if ((state >> 24) % 4 == 0 && i < 20) /* the turn is somewhere in the middle of the circle */
                for (int number = pop(queue); number > 0; number = 0)
                    jobs[number - 1] = NULL;
        }
        for (int i = 0; i < 40; i++)
            position[i] = jobs[i] ? srv_queue_position(queue, jobs[i]) : 0;
        for (int n = 1, number = pop(queue); number > 0; n++, number = pop(queue))
            ck_assert_int_eq(position[number - 1], n);
        srv_queue_free(queue);
    }
}
END_TEST

START_TEST(test_remove)
{
    struct srv_queue *queue = make(10);
    struct srv_job *first = push(queue, "a", 1), *middle = push(queue, "a", 2), *last = push(queue, "a", 3);

    ck_assert(srv_queue_remove(queue, middle));
    ck_assert(!srv_queue_remove(queue, middle));
    srv_job_unref(middle);
    ck_assert(srv_queue_remove(queue, last));
    srv_job_unref(last);
    push(queue, "a", 4);
    ck_assert_int_eq(srv_queue_position(queue, first), 1);
    ck_assert_int_eq(pop(queue), 1);
    ck_assert_int_eq(pop(queue), 4);
    ck_assert_int_eq(pop(queue), 0);
    srv_queue_free(queue);
}
END_TEST

START_TEST(test_pop_what_fits)
{
    struct srv_queue *queue = make(10);
    struct srv_job *job;

    push(queue, "a", 1);
    push(queue, "a", 2);
    push(queue, "b", 3);
    job = srv_queue_pop(queue, is_even, NULL, 0);
    ck_assert_int_eq(job->record.sequence, 2);
    srv_job_unref(job);
    ck_assert_ptr_null(srv_queue_pop(queue, is_even, NULL, 0));
    ck_assert_int_eq(pop(queue), 3); /* a has had its turn */
    ck_assert_int_eq(pop(queue), 1);
    srv_queue_free(queue);
}
END_TEST

static void *push_later(void *user)
{
    push(user, "a", 7);
    return NULL;
}

START_TEST(test_pop_waits)
{
    struct srv_queue *queue = make(10);
    struct srv_job *job;
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, push_later, queue), 0);
    job = srv_queue_pop(queue, NULL, NULL, 60000);
    ck_assert_int_eq(job->record.sequence, 7);
    srv_job_unref(job);
    pthread_join(thread, NULL);
    srv_queue_close(queue);
    ck_assert_ptr_null(srv_queue_pop(queue, NULL, NULL, 60000));
    ck_assert(!srv_queue_reserve(queue));
    srv_queue_free(queue);
}
END_TEST

START_TEST(test_retry_after)
{
    struct srv_queue *queue = make(2);

    ck_assert_int_ge(srv_queue_retry_after(queue), 1);
    srv_queue_note_duration(queue, 0.001);
    ck_assert_int_eq(srv_queue_retry_after(queue), 1);
    for (int i = 0; i < 100; i++)
        srv_queue_note_duration(queue, 29.5);
    ck_assert_int_eq(srv_queue_retry_after(queue), 30);
    for (int i = 0; i < 100; i++)
        srv_queue_note_duration(queue, 1e9);
    ck_assert_int_eq(srv_queue_retry_after(queue), 600);
    srv_queue_free(queue);
}
END_TEST

UNIT_MAIN("queue", test_first_in_first_out, test_owners_in_turn, test_nobody_is_overtaken, test_full,
          test_positions_come_true, test_remove,
          test_pop_what_fits, test_pop_waits, test_retry_after)
