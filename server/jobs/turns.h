/*
 * turns: which of several jobs computes now. They take turns of a slice each, however long a step of theirs is: a job
 * whose slice is over stands still where it polls next, in the middle of its work, and goes on from there later.
 *
 *     struct srv_turns turns;
 *     struct srv_turn mine;
 *     srv_turns_init(&turns, 200);                     // milliseconds
 *     srv_turn_join(&mine, &turns);                    // by each thread that computes, with its pool
 *     els_evaluate(&e, pool, &watch, …);               // and watch's poll is:
 *         return srv_turn_poll(&mine, stop, user);     //   any worker of the pool; returns when it is our turn
 *     srv_turn_rest(&mine);                            // waits for a disk, say: others compute meanwhile
 *     srv_turn_leave(&mine);
 *     srv_turns_deinit(&turns);
 *
 * The next slice is of the one that has computed least. Who joins begins level with the one that has had least, so
 * that it neither waits for the others' past nor makes them wait for its own.
 */
#ifndef SRV_TURNS_H
#define SRV_TURNS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct srv_turn;

struct srv_turns {
    pthread_mutex_t lock;
    struct srv_turn *first;           /* those who have joined */
    struct srv_turn *_Atomic holder;  /* whose turn it is; NULL: nobody wants it */
    atomic_llong until;               /* the end of the slice, monotonic ns; far away: nobody waits for it */
    int64_t slice_ns;
};

struct srv_turn {
    struct srv_turns *turns;
    struct srv_turn *next;
    pthread_cond_t changed;
    bool wants;    /* computes, or waits for its turn */
    int weight;    /* of how many jobs this is the turn: they together have so many times the time of one */
    int64_t began; /* its present turn */
    int64_t since; /* its time is counted up to here */
    int64_t used;  /* ns of computing, as counted */
    double share;  /* seconds of computing per job; of who joined late, what it would have had */
};

void srv_turns_init(struct srv_turns *turns, int slice_ms);
void srv_turns_deinit(struct srv_turns *turns);
/* Whoever stands still looks again whether it is to stop. Any thread. */
void srv_turns_wake(struct srv_turns *turns);

/* Does not wait: the first poll does. */
void srv_turn_join(struct srv_turn *turn, struct srv_turns *turns);
/* Nobody may be in srv_turn_poll of this turn any more. */
void srv_turn_leave(struct srv_turn *turn);
/* How many jobs compute by this turn, 1 or more. */
void srv_turn_weigh(struct srv_turn *turn, int weight);
/*
 * Called often by all who compute by this turn. Returns 0 when they may go on: at once, or when it is their turn
 * again. Non-zero when `stop`, which only looks at flags, says so. A flag that it looks at is set before
 * srv_turns_wake.
 */
int srv_turn_poll(struct srv_turn *turn, int (*stop)(void *user), void *user);
/* Gives the turn up until the next poll. */
void srv_turn_rest(struct srv_turn *turn);
/* Is it its turn? Any thread, whether it has joined or not. */
bool srv_turn_held(const struct srv_turns *turns, const struct srv_turn *turn);
/* Seconds of computing so far, standing still not counted. Any thread. */
double srv_turn_seconds(struct srv_turn *turn);

#endif
