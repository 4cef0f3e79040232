/*
 * The back room: a queue and its threads. Any thread pushes; `work` runs on ours. One lock guards
 * the queue and is never held while work runs. First come, first served; every handler is short
 * (those that wait, park), so a few threads are enough.
 */
#include "backroom.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "connection.h"
#include "error.h"
#include "mem.h"

struct srv_backroom {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct srv_request *first, *last;
    bool closing;
    void (*work)(struct srv_request *req);
    int num_threads;
    pthread_t threads[];
};

static struct srv_request *take(struct srv_backroom *room)
{
    struct srv_request *req;

    pthread_mutex_lock(&room->lock);
    while (!room->first && !room->closing)
        pthread_cond_wait(&room->news, &room->lock);
    req = room->first;
    if (req) {
        room->first = req->next;
        if (!room->first)
            room->last = NULL;
        req->next = NULL;
    }
    pthread_mutex_unlock(&room->lock);
    return req;
}

static void *worker(void *arg)
{
    struct srv_backroom *room = arg;
    struct srv_request *req;

    while ((req = take(room)))
        room->work(req);
    return NULL;
}

int srv_backroom_new(struct srv_backroom **out, int threads, void (*work)(struct srv_request *req))
{
    struct srv_backroom *room =
        els_alloc_array(1, sizeof(*room) + (size_t)threads * sizeof(*room->threads));

    if (!room)
        return ELS_ENOMEM;
    pthread_mutex_init(&room->lock, NULL);
    pthread_cond_init(&room->news, NULL);
    room->work = work;
    for (; room->num_threads < threads; room->num_threads++)
        if (pthread_create(&room->threads[room->num_threads], NULL, worker, room) != 0) {
            srv_backroom_free(room);
            return ELS_ENOMEM;
        }
    *out = room;
    return 0;
}

void srv_backroom_push(struct srv_backroom *room, struct srv_request *req)
{
    pthread_mutex_lock(&room->lock);
    req->next = NULL;
    if (room->last)
        room->last->next = req;
    else
        room->first = req;
    room->last = req;
    pthread_cond_signal(&room->news);
    pthread_mutex_unlock(&room->lock);
}

struct srv_backroom *srv_backroom_free(struct srv_backroom *room)
{
    if (!room)
        return NULL;
    pthread_mutex_lock(&room->lock);
    room->closing = true;
    pthread_cond_broadcast(&room->news);
    pthread_mutex_unlock(&room->lock);
    for (int i = 0; i < room->num_threads; i++)
        pthread_join(room->threads[i], NULL);
    pthread_cond_destroy(&room->news);
    pthread_mutex_destroy(&room->lock);
    free(room);
    return NULL;
}
