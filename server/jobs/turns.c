/*
 * Turns at computing. Every thread of a pool polls, some fifty times a second; as long as the slice lasts, a poll reads
 * two words and a clock. The first one to find the slice over hands the turn to another, and waits; its fellows follow at
 * their own next polls. So for some milliseconds both compute, which costs nothing but a little of the newcomer's
 * speed. Where nobody polls for long, one of those who wait takes the turn.
 *
 * Lock: turns->lock guards all but the two atomics, which are written under it and read without. `stop` is called under
 * it: it may only read flags.
 */
#include "server/jobs/turns.h"

#include <assert.h>
#include <time.h>

enum { OVERDUE_NS = 60 * 1000 * 1000 };

#define NO_END (INT64_MAX / 4) /* decades from now */

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void srv_turns_init(struct srv_turns *turns, int slice_ms)
{
    *turns = (struct srv_turns){.slice_ns = (int64_t)slice_ms * 1000000};
    atomic_init(&turns->holder, NULL);
    atomic_init(&turns->until, NO_END);
    pthread_mutex_init(&turns->lock, NULL);
}

void srv_turns_deinit(struct srv_turns *turns)
{
    assert(!turns->first);
    pthread_mutex_destroy(&turns->lock);
}

void srv_turns_wake(struct srv_turns *turns)
{
    pthread_mutex_lock(&turns->lock);
    for (struct srv_turn *turn = turns->first; turn; turn = turn->next)
        pthread_cond_broadcast(&turn->changed);
    pthread_mutex_unlock(&turns->lock);
}

/* ---- all under the lock ---- */

static struct srv_turn *holder_of(struct srv_turns *turns)
{
    return atomic_load_explicit(&turns->holder, memory_order_relaxed); /* only written under the lock */
}

/* The slice ends when there is somebody to hand the turn to. */
static void set_end(struct srv_turns *turns)
{
    const struct srv_turn *holder = holder_of(turns);
    bool waited_for = false;

    for (const struct srv_turn *turn = turns->first; turn; turn = turn->next)
        waited_for = waited_for || (turn->wants && turn != holder);
    if (!waited_for || !holder)
        atomic_store(&turns->until, NO_END);
    else if (atomic_load(&turns->until) == NO_END)
        atomic_store(&turns->until, holder->began + turns->slice_ns);
}

static void count_time(struct srv_turn *turn, int64_t now)
{
    turn->used += now - turn->since;
    turn->share += (double)(now - turn->since) * 1e-9 / turn->weight;
    turn->since = now;
}

/* To the one that wants it and has had least; of equals, another than the present holder. */
static void hand_over(struct srv_turns *turns, int64_t now)
{
    struct srv_turn *holder = holder_of(turns), *least = NULL;

    if (holder)
        count_time(holder, now);
    for (struct srv_turn *turn = turns->first; turn; turn = turn->next)
        if (turn->wants && (!least || turn->share < least->share || (turn->share == least->share && least == holder)))
            least = turn;
    atomic_store(&turns->holder, least);
    atomic_store(&turns->until, NO_END);
    if (least) {
        least->began = least->since = now;
        pthread_cond_broadcast(&least->changed);
    }
    set_end(turns);
}

/* ---- one of them ---- */

void srv_turn_join(struct srv_turn *turn, struct srv_turns *turns)
{
    pthread_condattr_t attr;

    *turn = (struct srv_turn){.turns = turns, .weight = 1};
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&turn->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_lock(&turns->lock);
    if (holder_of(turns))
        count_time(holder_of(turns), now_ns());
    turn->share = turns->first ? turns->first->share : 0;
    for (const struct srv_turn *other = turns->first; other; other = other->next)
        turn->share = other->share < turn->share ? other->share : turn->share;
    turn->next = turns->first;
    turns->first = turn;
    pthread_mutex_unlock(&turns->lock);
}

void srv_turn_leave(struct srv_turn *turn)
{
    struct srv_turns *turns = turn->turns;
    struct srv_turn **link = &turns->first;

    srv_turn_rest(turn);
    pthread_mutex_lock(&turns->lock);
    while (*link != turn)
        link = &(*link)->next;
    *link = turn->next;
    pthread_mutex_unlock(&turns->lock);
    pthread_cond_destroy(&turn->changed);
}

void srv_turn_weigh(struct srv_turn *turn, int weight)
{
    pthread_mutex_lock(&turn->turns->lock);
    if (holder_of(turn->turns) == turn)
        count_time(turn, now_ns());
    turn->weight = weight > 0 ? weight : 1;
    pthread_mutex_unlock(&turn->turns->lock);
}

/* Until somebody says so; or until the holder, which should have polled by now, has not. */
static void wait_for_change(struct srv_turn *turn)
{
    struct srv_turns *turns = turn->turns;
    int64_t until = atomic_load(&turns->until) + OVERDUE_NS;
    struct timespec at = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};

    if (pthread_cond_timedwait(&turn->changed, &turns->lock, &at) != 0 &&
        now_ns() - OVERDUE_NS >= atomic_load(&turns->until))
        hand_over(turns, now_ns());
}

int srv_turn_poll(struct srv_turn *turn, int (*stop)(void *user), void *user)
{
    struct srv_turns *turns = turn->turns;
    int64_t now = now_ns();
    int stopped;

    if (atomic_load_explicit(&turns->holder, memory_order_relaxed) == turn &&
        now < atomic_load_explicit(&turns->until, memory_order_relaxed))
        return stop(user);
    pthread_mutex_lock(&turns->lock);
    turn->wants = true;
    if (!holder_of(turns) || (holder_of(turns) == turn && now >= atomic_load(&turns->until)))
        hand_over(turns, now);
    else
        set_end(turns); /* somebody else's slice has an end now */
    while (!(stopped = stop(user)) && holder_of(turns) != turn)
        wait_for_change(turn);
    pthread_mutex_unlock(&turns->lock);
    return stopped;
}

void srv_turn_rest(struct srv_turn *turn)
{
    struct srv_turns *turns = turn->turns;

    pthread_mutex_lock(&turns->lock);
    turn->wants = false;
    if (holder_of(turns) == turn)
        hand_over(turns, now_ns());
    else
        set_end(turns);
    pthread_mutex_unlock(&turns->lock);
}

bool srv_turn_held(const struct srv_turns *turns, const struct srv_turn *turn)
{
    return atomic_load_explicit(&turns->holder, memory_order_relaxed) == turn;
}

double srv_turn_seconds(struct srv_turn *turn)
{
    struct srv_turns *turns = turn->turns;
    int64_t used;

    pthread_mutex_lock(&turns->lock);
    used = turn->used + (holder_of(turns) == turn ? now_ns() - turn->since : 0);
    pthread_mutex_unlock(&turns->lock);
    return (double)used * 1e-9;
}
