/*
 * log_ring: lines on their way to a descriptor that may not take them. Whoever has a line never waits.
 *
 *     struct srv_log_ring *ring = NULL;
 *     if (srv_log_ring_new(&ring, STDERR_FILENO, say_dropped, user) < 0)
 *         …
 *     srv_log_ring_put(ring, line, size);              // any thread; "…\n"
 *     ring = srv_log_ring_free(ring);                  // writes what is left, within SRV_LOG_LAST_MS
 *
 * At most SRV_LOG_RING_BYTES wait. A line for which there is no room is dropped and counted, and when there is room
 * again one line says how many were.
 */
#ifndef SRV_LOG_RING_H
#define SRV_LOG_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SRV_LOG_LINE = 4096,            /* bytes of the longest line, its end included: a pipe takes that much at once */
    SRV_LOG_RING_BYTES = 256 << 10, /* about 2,000 lines */
    SRV_LOG_LAST_MS = 2000,         /* at the end a reader may take so long for what is left */
};

struct srv_log_ring;

/* Writes the line that says that `count` lines were dropped, and returns its size. Must not log. */
typedef size_t (*srv_log_say_dropped)(void *user, uint64_t count, char line[SRV_LOG_LINE]);

/* Starts the writing thread, which takes no signals. The descriptor is borrowed. ELS_ENOMEM. */
int srv_log_ring_new(struct srv_log_ring **out, int fd, srv_log_say_dropped say, void *user);
/* One line of at most SRV_LOG_LINE bytes that ends in a line break. Lines are written in the order of these calls,
 * each with one write when the descriptor takes it whole. */
void srv_log_ring_put(struct srv_log_ring *ring, const char *line, size_t size);
/* Waits until everything that was put before has been written, at most so long. False: it has not been. */
bool srv_log_ring_flush(struct srv_log_ring *ring, int timeout_ms);
/* Lines that nobody will see: there was no room, or the descriptor took no more. */
uint64_t srv_log_ring_dropped(const struct srv_log_ring *ring);
/* For a handler of fatal signals: writes what waits as far as the descriptor takes it at once. Takes no lock. */
void srv_log_ring_rescue(const struct srv_log_ring *ring);
/* Flushes, ends the thread, frees. NULL is fine. Returns NULL. */
struct srv_log_ring *srv_log_ring_free(struct srv_log_ring *ring);

#endif
