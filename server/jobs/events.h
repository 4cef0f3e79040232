/*
 * events: what happens to one job, as server-sent events in a bounded ring.
 *
 *     struct srv_events *events = NULL;
 *     srv_events_new(&events);
 *     srv_events_publish(events, "progress", "{\"step\":3}");       // the scheduler
 *     srv_events_end(events, "succeeded", json);                     // once, last
 *
 *     struct srv_events_reader *reader = NULL;
 *     srv_events_reader_new(&reader, events, after, snapshot);       // one per stream
 *     n = srv_events_read(reader, out, size, ping);                  // on an HTTP thread: only copies
 *
 * Events are numbered 1, 2, … The ring forgets the oldest when it is full, so a slow reader misses previews
 * and progress; it never misses the terminal event, which is never forgotten.
 */
#ifndef SRV_EVENTS_H
#define SRV_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    SRV_EVENTS_MOST = 256,          /* events kept per job */
    SRV_EVENTS_MOST_BYTES = 4 << 20, /* and so many bytes of them */
};

struct srv_events;

/* One reference. 0 or ELS_ENOMEM. */
int srv_events_new(struct srv_events **out);
/* A log that ended before: holds the terminal event alone, with the number it had. */
int srv_events_new_ended(struct srv_events **out, uint64_t number, const char *type, const char *data);
struct srv_events *srv_events_ref(struct srv_events *events);
/* NULL is fine. Returns NULL. */
struct srv_events *srv_events_unref(struct srv_events *events);

/* `data` has no line breaks. An event that memory or the ring has no room for is dropped. */
void srv_events_publish(struct srv_events *events, const char *type, const char *data);
/* The terminal event; later ones are ignored. */
void srv_events_end(struct srv_events *events, const char *type, const char *data);
/* The daemon is going: readers end when they have read what there is, without a terminal event. */
void srv_events_close(struct srv_events *events);
/* The number of the newest event; 0: none yet. */
uint64_t srv_events_last(struct srv_events *events);
/* Where a reader without Last-Event-ID begins: right before the previews of the newest step. */
uint64_t srv_events_fresh(struct srv_events *events);
/* Can a reader that has seen event `seen` go on without a new snapshot? */
bool srv_events_resumable(struct srv_events *events, uint64_t seen);
/* Streams that are reading now: without any, previews are not worth making. */
int srv_events_readers(const struct srv_events *events);

struct srv_events_reader;

/* Takes its own reference to `events`. `snapshot` (JSON, copied) is sent first as event "state"; NULL: none. */
int srv_events_reader_new(struct srv_events_reader **out, struct srv_events *events, uint64_t after,
                          const char *snapshot);
/* NULL is fine. Returns NULL. */
struct srv_events_reader *srv_events_reader_free(struct srv_events_reader *reader);
/* As srv_stream.read of http.h: bytes written; 0: nothing new; −1: the end. */
ssize_t srv_events_read(struct srv_events_reader *reader, char *out, size_t size, bool ping);

#endif
