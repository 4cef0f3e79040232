/*
 * watch: who wants to be woken when a job has news: parked requests and event streams.
 *
 *     srv_watch_add(&job->watchers, waker);      // takes its own reference to the waker
 *     …
 *     srv_watch_wake(&job->watchers);            // the conductor: cheap, wakes everyone once
 *     srv_watch_remove(&job->watchers, waker);
 */
#ifndef SRV_WATCH_H
#define SRV_WATCH_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "server/http/http.h"

enum { SRV_WATCH_MOST = 65536 };

struct srv_watch {
    pthread_mutex_t lock;
    struct srv_watcher *list; /* in order of arrival, serials ascending */
    size_t count, space;
    uint64_t next_serial;
};

void srv_watch_init(struct srv_watch *watch);
void srv_watch_deinit(struct srv_watch *watch);
/* 0, ELS_ENOMEM, or ELS_ELIMIT. */
int srv_watch_add(struct srv_watch *watch, struct srv_waker *waker);
/* Removes one entry of that waker, if there is one. */
void srv_watch_remove(struct srv_watch *watch, struct srv_waker *waker);
void srv_watch_wake(struct srv_watch *watch);

#endif
