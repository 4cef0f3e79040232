/*
 * The ring of events of one job, and its readers. The scheduler publishes (progress from any of its workers);
 * readers run on the HTTP threads and only copy memory, some kilobytes per call.
 *
 * An event is one reference-counted block of text, made before the lock is taken and freed after it is given up.
 * A reader keeps a reference to the block that it is in the middle of, so the ring may forget it meanwhile.
 *
 * Lock: events->lock alone, for a few pointer moves. It is the innermost lock of the server: nothing is called
 * while it is held.
 */
#include "server/jobs/events.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/error.h"
#include "els/mem.h"

struct event {
    atomic_int refs;
    uint64_t number;
    bool terminal;
    size_t size;
    char text[];
};

struct srv_events {
    atomic_int refs;
    atomic_int readers;
    pthread_mutex_t lock;
    struct event *ring[SRV_EVENTS_MOST]; /* event n lies at n % SRV_EVENTS_MOST */
    uint64_t oldest, newest;             /* numbers of what the ring holds; oldest > newest: nothing */
    size_t bytes;
    uint64_t newest_preview;  /* the first preview of the newest step that has one */
    bool previous_was_preview;
    bool ended;
    atomic_bool closed;
};

struct srv_events_reader {
    struct srv_events *events;
    struct event *current; /* being copied */
    size_t offset;
    uint64_t seen;
    bool finished;
};

static struct event *event_new(uint64_t number, const char *type, const char *data)
{
    int size = snprintf(NULL, 0, "id: %llu\nevent: %s\ndata: %s\n\n", (unsigned long long)number, type, data);
    struct event *e;

    if (size < 0)
        return NULL;
    e = els_alloc_array(1, sizeof(*e) + (size_t)size + 1);
    if (!e)
        return NULL;
    atomic_init(&e->refs, 1);
    e->number = number;
    e->size = (size_t)size;
    snprintf(e->text, (size_t)size + 1, "id: %llu\nevent: %s\ndata: %s\n\n", (unsigned long long)number, type, data);
    return e;
}

static struct event *event_ref(struct event *e)
{
    /* relaxed: whoever hands the event over holds a reference itself */
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

static void event_unref(struct event *e)
{
    /* acq_rel: the last holder sees the others' reads finished before it frees */
    if (e && atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1)
        free(e);
}

/* ---- the ring ---- */

int srv_events_new(struct srv_events **out)
{
    struct srv_events *events = els_alloc_array(1, sizeof(*events));

    if (!events)
        return ELS_ENOMEM;
    atomic_init(&events->refs, 1);
    atomic_init(&events->readers, 0);
    atomic_init(&events->closed, false);
    pthread_mutex_init(&events->lock, NULL);
    events->oldest = 1;
    *out = events;
    return 0;
}

struct srv_events *srv_events_ref(struct srv_events *events)
{
    atomic_fetch_add_explicit(&events->refs, 1, memory_order_relaxed);
    return events;
}

struct srv_events *srv_events_unref(struct srv_events *events)
{
    if (events && atomic_fetch_sub_explicit(&events->refs, 1, memory_order_acq_rel) == 1) {
        for (int i = 0; i < SRV_EVENTS_MOST; i++)
            event_unref(events->ring[i]);
        pthread_mutex_destroy(&events->lock);
        free(events);
    }
    return NULL;
}

/* Takes the oldest event out of the ring. */
static struct event *forget_oldest(struct srv_events *events)
{
    struct event **slot = &events->ring[events->oldest % SRV_EVENTS_MOST];
    struct event *e = *slot;

    *slot = NULL;
    events->oldest++;
    events->bytes -= e->size;
    return e;
}

/* Puts `e` in if its number is still the next one; what had to go is in `out` (of SRV_EVENTS_MOST). Returns how many. */
static int put(struct srv_events *events, struct event *e, bool preview, struct event **out)
{
    int dropped = 0;

    while (events->oldest <= events->newest &&
           (events->newest - events->oldest + 1 >= SRV_EVENTS_MOST ||
            events->bytes + e->size > SRV_EVENTS_MOST_BYTES))
        out[dropped++] = forget_oldest(events);
    events->ring[e->number % SRV_EVENTS_MOST] = e;
    events->newest = e->number;
    events->bytes += e->size;
    if (preview && !events->previous_was_preview)
        events->newest_preview = e->number;
    events->previous_was_preview = preview;
    events->ended = e->terminal;
    return dropped;
}

/* ELS_ENOMEM: the event is lost. */
static int publish(struct srv_events *events, const char *type, const char *data, bool terminal)
{
    struct event *out[SRV_EVENTS_MOST];
    bool placed = false, ended = false;
    int dropped = 0;

    /* Another thread may take the number that the text was made with: then it is made anew. */
    while (!placed && !ended) {
        struct event *e = event_new(srv_events_last(events) + 1, type, data);

        if (!e)
            return ELS_ENOMEM;
        e->terminal = terminal;
        pthread_mutex_lock(&events->lock);
        ended = events->ended || (!terminal && e->size > SRV_EVENTS_MOST_BYTES);
        placed = !ended && e->number == events->newest + 1;
        if (placed)
            dropped = put(events, e, strcmp(type, "preview") == 0, out);
        pthread_mutex_unlock(&events->lock);
        if (!placed)
            event_unref(e);
    }
    for (int i = 0; i < dropped; i++)
        event_unref(out[i]);
    return 0;
}

void srv_events_publish(struct srv_events *events, const char *type, const char *data)
{
    publish(events, type, data, false);
}

void srv_events_end(struct srv_events *events, const char *type, const char *data)
{
    /* Nobody must wait for an end that has no room: who comes back learns it from the store. */
    if (publish(events, type, data, true) < 0)
        srv_events_close(events);
}

int srv_events_new_ended(struct srv_events **out, uint64_t number, const char *type, const char *data)
{
    struct srv_events *events = NULL;
    int status = srv_events_new(&events);

    if (status < 0)
        return status;
    events->oldest = number ? number : 1;
    events->newest = events->oldest - 1;
    status = publish(events, type, data, true);
    if (status < 0)
        srv_events_unref(events);
    else
        *out = events;
    return status;
}

void srv_events_close(struct srv_events *events)
{
    atomic_store_explicit(&events->closed, true, memory_order_release);
}

uint64_t srv_events_last(struct srv_events *events)
{
    uint64_t last;

    pthread_mutex_lock(&events->lock);
    last = events->newest;
    pthread_mutex_unlock(&events->lock);
    return last;
}

uint64_t srv_events_fresh(struct srv_events *events)
{
    uint64_t after;

    pthread_mutex_lock(&events->lock);
    after = events->newest_preview ? events->newest_preview - 1 : events->newest;
    /* The terminal event always follows the snapshot. */
    if (events->ended && after == events->newest)
        after--;
    pthread_mutex_unlock(&events->lock);
    return after;
}

bool srv_events_resumable(struct srv_events *events, uint64_t seen)
{
    bool whole;

    pthread_mutex_lock(&events->lock);
    whole = seen + 1 >= events->oldest && seen <= events->newest;
    pthread_mutex_unlock(&events->lock);
    return whole;
}

int srv_events_readers(const struct srv_events *events)
{
    return atomic_load_explicit(&events->readers, memory_order_relaxed);
}

/* ---- readers ---- */

int srv_events_reader_new(struct srv_events_reader **out, struct srv_events *events, uint64_t after,
                          const char *snapshot)
{
    struct srv_events_reader *reader = els_alloc_array(1, sizeof(*reader));

    if (!reader)
        return ELS_ENOMEM;
    if (snapshot) {
        reader->current = event_new(after, "state", snapshot);
        if (!reader->current) {
            free(reader);
            return ELS_ENOMEM;
        }
    }
    reader->seen = after;
    reader->events = srv_events_ref(events);
    atomic_fetch_add_explicit(&events->readers, 1, memory_order_relaxed);
    *out = reader;
    return 0;
}

struct srv_events_reader *srv_events_reader_free(struct srv_events_reader *reader)
{
    if (!reader)
        return NULL;
    atomic_fetch_sub_explicit(&reader->events->readers, 1, memory_order_relaxed);
    event_unref(reader->current);
    srv_events_unref(reader->events);
    free(reader);
    return NULL;
}

/* A reference to the first event after `seen`, or NULL. */
static struct event *next_event(struct srv_events *events, uint64_t seen)
{
    struct event *e = NULL;

    pthread_mutex_lock(&events->lock);
    if (seen < events->newest) {
        uint64_t number = seen + 1 > events->oldest ? seen + 1 : events->oldest;

        e = event_ref(events->ring[number % SRV_EVENTS_MOST]);
    }
    pthread_mutex_unlock(&events->lock);
    return e;
}

ssize_t srv_events_read(struct srv_events_reader *reader, char *out, size_t size, bool ping)
{
    static const char ping_text[] = ": ping\n\n";
    /* Looked at before the ring: what was published before the closing is still read. */
    bool closed = atomic_load_explicit(&reader->events->closed, memory_order_acquire);
    size_t used = 0;

    while (used < size && !reader->finished) {
        struct event *e = reader->current;
        size_t n;

        if (!e) {
            e = reader->current = next_event(reader->events, reader->seen);
            reader->offset = 0;
        }
        if (!e)
            break;
        n = e->size - reader->offset;
        n = n < size - used ? n : size - used;
        memcpy(out + used, e->text + reader->offset, n);
        used += n;
        reader->offset += n;
        if (reader->offset == e->size) {
            reader->seen = e->number;
            reader->finished = e->terminal;
            reader->current = NULL;
            event_unref(e);
        }
    }
    if (used == 0 && (reader->finished || closed))
        return -1;
    if (used == 0 && ping && size >= sizeof(ping_text) - 1) {
        used = sizeof(ping_text) - 1;
        memcpy(out, ping_text, used);
    }
    return (ssize_t)used;
}
