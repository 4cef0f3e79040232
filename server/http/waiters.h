/*
 * watch: who wants to be woken when a job has news: parked requests and event streams.
 *
 *     srv_waiters_add(&job->watchers, waker);      // takes its own reference to the waker
 *     …
 *     srv_waiters_wake(&job->watchers);            // the scheduler: cheap, wakes everyone once
 *     srv_waiters_remove(&job->watchers, waker);
 */
#ifndef SRV_WAITERS_H
#define SRV_WAITERS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "server/http/http.h"

enum { SRV_WAITERS_MOST = 65536 };

struct srv_waiters {
    pthread_mutex_t lock;
    struct srv_waiter *list; /* in order of arrival, serials ascending */
    size_t count, space;
    uint64_t next_serial;
};

void srv_waiters_init(struct srv_waiters *watch);
void srv_waiters_deinit(struct srv_waiters *watch);
/* 0, ELS_ENOMEM, or ELS_ELIMIT. */
int srv_waiters_add(struct srv_waiters *watch, struct srv_waker *waker);
/* Removes one entry of that waker, if there is one. */
void srv_waiters_remove(struct srv_waiters *watch, struct srv_waker *waker);
void srv_waiters_wake(struct srv_waiters *watch);

#endif
