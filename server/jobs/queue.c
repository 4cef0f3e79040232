/*
 * The waiting line. Handlers push and remove, the scheduler pops.
 *
 * Every owner (API key) has a lane, first in first out. Lanes stand in a circle and give one job in turn, so an owner
 * with a thousand jobs does not keep another's first one waiting. A lane lives while it holds jobs; there
 * are never more lanes than jobs, and never more jobs than the capacity (plus what was re-queued at start).
 *
 * Lock: queue->lock, for pointer moves. Jobs' own locks are not taken under it.
 */
#include "server/jobs/queue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "els/mem.h"

enum { FIRST_GUESS_SECONDS = 5, MOST_SECONDS = 600 };

struct lane {
    struct lane *next; /* in the circle */
    char owner[SRV_OWNER_SIZE];
    struct srv_job *first, *last;
    int64_t count;
};

struct srv_queue {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct lane *turn; /* the lane before the one whose turn it is; NULL: the circle is empty */
    int64_t capacity, reserved;
    bool closed;
    double mean_seconds; /* of recent jobs, exponentially forgotten; 0: none yet */
    atomic_int length;   /* read without the lock, by health and metrics */
};

int srv_queue_new(struct srv_queue **out, int64_t capacity)
{
    struct srv_queue *queue = els_alloc_array(1, sizeof(*queue));
    pthread_condattr_t attr;

    if (!queue)
        return ELS_ENOMEM;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->arrived, &attr);
    pthread_condattr_destroy(&attr);
    atomic_init(&queue->length, 0);
    queue->capacity = capacity;
    *out = queue;
    return 0;
}

/* ---- lanes; all under the lock ---- */

static struct lane *find_lane(struct srv_queue *queue, const char *owner)
{
    struct lane *lane = queue->turn;

    if (!lane)
        return NULL;
    do {
        if (strcmp(lane->owner, owner) == 0)
            return lane;
        lane = lane->next;
    } while (lane != queue->turn);
    return NULL;
}

/* A new lane takes the last turn of the round. */
static struct lane *add_lane(struct srv_queue *queue, const char *owner)
{
    struct lane *lane = els_alloc_array(1, sizeof(*lane));

    if (!lane)
        return NULL;
    snprintf(lane->owner, sizeof(lane->owner), "%s", owner);
    lane->next = queue->turn ? queue->turn->next : lane;
    if (queue->turn)
        queue->turn->next = lane;
    queue->turn = lane;
    return lane;
}

/* Takes an empty lane out of the circle. */
static void drop_lane(struct srv_queue *queue, struct lane *lane)
{
    struct lane *before = lane;

    while (before->next != lane)
        before = before->next;
    before->next = lane->next;
    if (queue->turn == lane)
        queue->turn = before == lane ? NULL : before;
    free(lane);
}

/* Unlinks the job after `before` (NULL: the first). The lane goes when it is empty. */
static struct srv_job *unlink_job(struct srv_queue *queue, struct lane *lane, struct srv_job *before)
{
    struct srv_job *job = before ? before->next_queued : lane->first;

    if (before)
        before->next_queued = job->next_queued;
    else
        lane->first = job->next_queued;
    if (lane->last == job)
        lane->last = before;
    job->next_queued = NULL;
    atomic_fetch_sub_explicit(&queue->length, 1, memory_order_relaxed);
    if (--lane->count == 0)
        drop_lane(queue, lane);
    return job;
}

struct srv_queue *srv_queue_free(struct srv_queue *queue)
{
    if (!queue)
        return NULL;
    while (queue->turn)
        srv_job_unref(unlink_job(queue, queue->turn, NULL));
    pthread_cond_destroy(&queue->arrived);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
    return NULL;
}

/* ---- in ---- */

bool srv_queue_reserve(struct srv_queue *queue)
{
    bool free_place;

    pthread_mutex_lock(&queue->lock);
    free_place = !queue->closed && queue->reserved + srv_queue_length(queue) < queue->capacity;
    queue->reserved += free_place;
    pthread_mutex_unlock(&queue->lock);
    return free_place;
}

void srv_queue_release(struct srv_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->reserved--;
    pthread_mutex_unlock(&queue->lock);
}

int srv_queue_push_stored(struct srv_queue *queue, struct srv_job *job)
{
    const char *owner = job->record.owner; /* fixed at birth */
    struct lane *lane;
    int status = ELS_ENOMEM;

    pthread_mutex_lock(&queue->lock);
    lane = find_lane(queue, owner);
    if (!lane)
        lane = add_lane(queue, owner);
    if (lane) {
        srv_job_ref(job);
        if (lane->last)
            lane->last->next_queued = job;
        else
            lane->first = job;
        lane->last = job;
        lane->count++;
        atomic_fetch_add_explicit(&queue->length, 1, memory_order_relaxed);
        pthread_cond_signal(&queue->arrived);
        status = 0;
    }
    pthread_mutex_unlock(&queue->lock);
    return status;
}

int srv_queue_push(struct srv_queue *queue, struct srv_job *job)
{
    int status = srv_queue_push_stored(queue, job);

    srv_queue_release(queue);
    return status;
}

/* ---- out ---- */

/* The first job in turn that fits. Its lane has then had its turn. */
static struct srv_job *take_fitting(struct srv_queue *queue, bool (*fits)(void *user, const struct srv_job *job),
                                    void *user)
{
    struct lane *lane = queue->turn ? queue->turn->next : NULL, *stop = lane;

    while (lane) {
        struct srv_job *before = NULL;

        for (struct srv_job *job = lane->first; job; before = job, job = job->next_queued) {
            if (!fits || fits(user, job)) {
                queue->turn = lane;
                return unlink_job(queue, lane, before);
            }
        }
        lane = lane->next == stop ? NULL : lane->next;
    }
    return NULL;
}

struct srv_job *srv_queue_pop(struct srv_queue *queue, bool (*fits)(void *user, const struct srv_job *job),
                              void *user, int wait_ms)
{
    struct srv_job *job;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&queue->lock);
    job = queue->closed ? NULL : take_fitting(queue, fits, user);
    while (!job && wait_ms > 0 && !queue->closed) {
        if (pthread_cond_timedwait(&queue->arrived, &queue->lock, &until) != 0)
            wait_ms = 0;
        if (!queue->closed)
            job = take_fitting(queue, fits, user);
    }
    pthread_mutex_unlock(&queue->lock);
    return job;
}

struct srv_job *srv_queue_pop_next(struct srv_queue *queue, bool (*fits)(void *user, const struct srv_job *job),
                                   void *user)
{
    struct srv_job *job = NULL;
    struct lane *lane;

    pthread_mutex_lock(&queue->lock);
    lane = queue->turn && !queue->closed ? queue->turn->next : NULL;
    if (lane && fits(user, lane->first)) {
        queue->turn = lane;
        job = unlink_job(queue, lane, NULL);
    }
    pthread_mutex_unlock(&queue->lock);
    return job;
}

bool srv_queue_remove(struct srv_queue *queue, struct srv_job *job)
{
    struct srv_job *before = NULL, *found = NULL;
    struct lane *lane;

    pthread_mutex_lock(&queue->lock);
    lane = find_lane(queue, job->record.owner);
    for (found = lane ? lane->first : NULL; found && found != job; found = found->next_queued)
        before = found;
    if (found)
        unlink_job(queue, lane, before);
    pthread_mutex_unlock(&queue->lock);
    return found != NULL;
}

/* ---- looking ---- */

/* Lane by lane in turn: those before ours give one job more than those after it until ours gives this one. */
int64_t srv_queue_position(struct srv_queue *queue, const struct srv_job *job)
{
    struct lane *ours, *lane;
    const struct srv_job *other;
    int64_t ahead = 0, index = 0;
    bool before_ours = true;

    pthread_mutex_lock(&queue->lock);
    ours = find_lane(queue, job->record.owner);
    for (other = ours ? ours->first : NULL; other && other != job; other = other->next_queued)
        index++;
    if (other) {
        lane = queue->turn->next;
        do {
            int64_t rounds = index + before_ours;

            if (lane == ours)
                before_ours = false;
            else
                ahead += lane->count < rounds ? lane->count : rounds;
            lane = lane->next;
        } while (lane != queue->turn->next);
        ahead += index + 1;
    }
    pthread_mutex_unlock(&queue->lock);
    return ahead;
}

int srv_queue_length(const struct srv_queue *queue)
{
    return atomic_load_explicit(&queue->length, memory_order_relaxed);
}

void srv_queue_wake(struct srv_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    pthread_cond_signal(&queue->arrived);
    pthread_mutex_unlock(&queue->lock);
}

void srv_queue_close(struct srv_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->arrived);
    pthread_mutex_unlock(&queue->lock);
}

/* ---- when to come back ---- */

void srv_queue_note_duration(struct srv_queue *queue, double seconds)
{
    pthread_mutex_lock(&queue->lock);
    queue->mean_seconds = queue->mean_seconds > 0 ? 0.8 * queue->mean_seconds + 0.2 * seconds : seconds;
    pthread_mutex_unlock(&queue->lock);
}

/* The scheduler computes one job's worth at a time, so on the average a place becomes free once per mean duration.
 * What was re-queued at start beyond the capacity has to go first. */
int srv_queue_retry_after(struct srv_queue *queue)
{
    double seconds;

    pthread_mutex_lock(&queue->lock);
    seconds = queue->mean_seconds > 0 ? queue->mean_seconds : FIRST_GUESS_SECONDS;
    if (srv_queue_length(queue) > queue->capacity)
        seconds *= (double)(srv_queue_length(queue) - queue->capacity + 1);
    pthread_mutex_unlock(&queue->lock);
    seconds = ceil(seconds);
    return seconds < 1 ? 1 : seconds > MOST_SECONDS ? MOST_SECONDS : (int)seconds;
}
