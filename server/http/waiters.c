/*
 * A list of wakers that is woken without its lock being held: a waker belongs to the HTTP room, which has locks of its
 * own and may be calling srv_waiters_remove at this moment.
 *
 * Waking walks the list in chunks: copy references under the lock, let it go, wake them. A watcher that arrives or
 * leaves between chunks does not shift the others out of the walk, because the walk goes by serial number.
 * Who arrives after the news looks for it before it sleeps (see srv_response_park).
 */
#include "server/http/waiters.h"

#include <stdlib.h>
#include <string.h>

#include "els/error.h"

enum { CHUNK = 64, FIRST_SPACE = 4 };

struct srv_waiter {
    uint64_t serial;
    struct srv_waker *waker;
};

void srv_waiters_init(struct srv_waiters *watch)
{
    *watch = (struct srv_waiters){0};
    pthread_mutex_init(&watch->lock, NULL);
}

void srv_waiters_deinit(struct srv_waiters *watch)
{
    for (size_t i = 0; i < watch->count; i++)
        srv_waker_unref(watch->list[i].waker);
    free(watch->list);
    pthread_mutex_destroy(&watch->lock);
}

static int make_room(struct srv_waiters *watch)
{
    size_t space = watch->space ? watch->space * 2 : FIRST_SPACE;
    struct srv_waiter *list;

    if (watch->count < watch->space)
        return 0;
    if (watch->count >= SRV_WAITERS_MOST)
        return ELS_ELIMIT;
    list = reallocarray(watch->list, space, sizeof(*list));
    if (!list)
        return ELS_ENOMEM;
    watch->list = list;
    watch->space = space;
    return 0;
}

int srv_waiters_add(struct srv_waiters *watch, struct srv_waker *waker)
{
    int status;

    pthread_mutex_lock(&watch->lock);
    status = make_room(watch);
    if (status == 0)
        watch->list[watch->count++] = (struct srv_waiter){watch->next_serial++, srv_waker_ref(waker)};
    pthread_mutex_unlock(&watch->lock);
    return status;
}

void srv_waiters_remove(struct srv_waiters *watch, struct srv_waker *waker)
{
    bool found = false;

    pthread_mutex_lock(&watch->lock);
    for (size_t i = 0; i < watch->count && !found; i++) {
        found = watch->list[i].waker == waker;
        if (found)
            memmove(&watch->list[i], &watch->list[i + 1], (--watch->count - i) * sizeof(*watch->list));
    }
    pthread_mutex_unlock(&watch->lock);
    if (found)
        srv_waker_unref(waker);
}

/* The first entry with a serial of at least `serial`. */
static size_t position(const struct srv_waiters *watch, uint64_t serial)
{
    size_t low = 0, high = watch->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (watch->list[middle].serial < serial)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void srv_waiters_wake(struct srv_waiters *watch)
{
    struct srv_waker *chunk[CHUNK];
    uint64_t serial = 0;
    size_t n;

    do {
        n = 0;
        pthread_mutex_lock(&watch->lock);
        for (size_t i = position(watch, serial); i < watch->count && n < CHUNK; i++) {
            chunk[n++] = srv_waker_ref(watch->list[i].waker);
            serial = watch->list[i].serial + 1;
        }
        pthread_mutex_unlock(&watch->lock);
        for (size_t i = 0; i < n; i++) {
            srv_waker_wake(chunk[i]);
            srv_waker_unref(chunk[i]);
        }
    } while (n == CHUNK);
}
