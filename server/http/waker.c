/*
 * Wakers: how a job's thread, the watch thread and the lanes reach a request that sleeps. Any
 * thread, any time; a waker outlives its request and then does nothing.
 *
 * All suspending and resuming of libmicrohttpd's connections happens here, under the waker's lock,
 * so that the two always alternate: `suspended` is what libmicrohttpd believes. Lock order: waker,
 * then lane or link table, then libmicrohttpd's own.
 */
#include <stdlib.h>

#include "server/http/connection.h"

struct srv_waker *srv_waker_new(struct srv_request *req)
{
    struct srv_waker *w = els_alloc_array(1, sizeof(*w));

    if (!w)
        return NULL;
    atomic_init(&w->refs, 1);
    pthread_mutex_init(&w->lock, NULL);
    w->req = req;
    return w;
}

struct srv_waker *srv_waker_ref(struct srv_waker *w)
{
    /* Relaxed: whoever refs already holds a reference, so nothing is published here. */
    atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
    return w;
}

struct srv_waker *srv_waker_unref(struct srv_waker *w)
{
    /* Release our own use, and acquire everybody's before the end. */
    if (w && atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) == 1) {
        pthread_mutex_destroy(&w->lock);
        free(w);
    }
    return NULL;
}

bool srv_waker_suspend(struct srv_waker *w)
{
    if (atomic_load(&w->req->http->closing))
        return false;
    MHD_suspend_connection(w->req->mhd);
    w->suspended = true;
    return true;
}

void srv_waker_resume(struct srv_waker *w)
{
    if (!w->suspended)
        return;
    w->suspended = false;
    MHD_resume_connection(w->req->mhd);
}

/* A parked handler runs again. With the lock held. */
static void unpark(struct srv_waker *w)
{
    w->req->phase = SRV_WORKING;
    srv_socket_enter(w->req->link, SRV_SOCKET_BUSY, -1, w);
    srv_connection_queue(w->req);
}

void srv_waker_wake(struct srv_waker *w)
{
    pthread_mutex_lock(&w->lock);
    w->news = true;
    if (w->req && w->req->phase == SRV_PARKED)
        unpark(w);
    else if (w->req && w->req->phase == SRV_SENDING)
        srv_waker_resume(w);
    pthread_mutex_unlock(&w->lock);
}

void srv_waker_expire(struct srv_waker *w)
{
    pthread_mutex_lock(&w->lock);
    if (w->req && w->req->phase == SRV_PARKED) {
        w->expired = true;
        unpark(w);
    } else if (w->req && w->req->phase == SRV_SENDING && w->suspended) {
        w->expired = true;
        srv_waker_resume(w);
    }
    pthread_mutex_unlock(&w->lock);
}

void srv_waker_abandon(struct srv_waker *w)
{
    pthread_mutex_lock(&w->lock);
    if (w->req && (w->req->phase == SRV_PARKED || w->req->phase == SRV_SENDING)) {
        w->req->phase = SRV_GONE;
        srv_waker_resume(w);
    }
    pthread_mutex_unlock(&w->lock);
}

void srv_waker_detach(struct srv_waker *w)
{
    pthread_mutex_lock(&w->lock);
    w->req = NULL;
    pthread_mutex_unlock(&w->lock);
}
