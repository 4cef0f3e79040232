/*
 * queue: the bounded waiting line of jobs: first in, first out per owner, owners in turn.
 *
 *     if (srv_queue_reserve(queue))            // a place: taken before the job is written to the store
 *         …
 *     srv_queue_push(queue, job);              // uses the place; takes a reference
 *     job = srv_queue_pop(queue, NULL, NULL, 1000);  // the scheduler; the reference is now its own
 */
#ifndef SRV_QUEUE_H
#define SRV_QUEUE_H

#include <stdint.h>

#include "server/jobs/job.h"

struct srv_queue;

int srv_queue_new(struct srv_queue **out, int64_t capacity);
/* Drops what still waits; NULL is fine. Returns NULL. */
struct srv_queue *srv_queue_free(struct srv_queue *queue);

/* False when the queue is full or closed. */
bool srv_queue_reserve(struct srv_queue *queue);
/* Gives a place back that was not used. */
void srv_queue_release(struct srv_queue *queue);
/* Uses a reserved place. ELS_ENOMEM (the place is given back), else 0 and a reference is taken. */
int srv_queue_push(struct srv_queue *queue, struct srv_job *job);
/* The same without a place: for jobs that the store held before, which may exceed the capacity. */
int srv_queue_push_stored(struct srv_queue *queue, struct srv_job *job);

/*
 * The next job, in turn of owners, that `fits` (NULL: any). Waits up to `wait_ms` (0: not at all) for one to come.
 * NULL: none, or closed. The caller gets the reference. `fits` runs under the lock: it only looks.
 */
struct srv_job *srv_queue_pop(struct srv_queue *queue, bool (*fits)(void *user, const struct srv_job *job),
                              void *user, int wait_ms);
/* The job whose turn it is, if it fits; never another, so nobody is overtaken. Does not wait. */
struct srv_job *srv_queue_pop_next(struct srv_queue *queue, bool (*fits)(void *user, const struct srv_job *job),
                                   void *user);
/* Takes this job out. True: it waited here and is the caller's now, with its reference. */
bool srv_queue_remove(struct srv_queue *queue, struct srv_job *job);
/* How many pops until this job comes: 1 is the next; 0: it does not wait here. */
int64_t srv_queue_position(struct srv_queue *queue, const struct srv_job *job);
/* Jobs that wait. */
int srv_queue_length(const struct srv_queue *queue);
/* srv_queue_pop asks again which jobs fit. */
void srv_queue_wake(struct srv_queue *queue);
/* Wakes srv_queue_pop, and lets no more in. */
void srv_queue_close(struct srv_queue *queue);

/* A job has taken so long to compute; for the next line. */
void srv_queue_note_duration(struct srv_queue *queue, double seconds);
/* When a place will probably be free, in whole seconds, 1…600. */
int srv_queue_retry_after(struct srv_queue *queue);

#endif
