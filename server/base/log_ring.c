/*
 * The ring between those who log and standard error. A pipe that nobody reads, a terminal that was stopped, a slow
 * disk: they hold up the writing thread, and nobody else. Any thread puts lines, under a lock that is held for one
 * copy; the ring's own thread takes them out and writes them without the lock.
 *
 * `head` and `tail` count bytes since the start, and only grow; the byte n lies at n % SRV_LOG_RING_BYTES. The ring
 * holds whole lines. A line leaves it when it has been written, so a crash can still find it there.
 *
 * The writer asks poll() before every write, so that it notices when it is to end; a pipe that is writable takes a
 * line whole. Should it hang in a write all the same (a disk that does not answer), then srv_log_ring_free leaves it
 * and the ring behind, and the process ends without them.
 *
 * The lock comes after all others: nothing is called with it but say_dropped, which only formats.
 */
#include "server/base/log_ring.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "els/error.h"
#include "els/mem.h"
#include "server/base/clock.h"

enum { POLL_MS = 100 };

struct srv_log_ring {
    int fd;
    srv_log_say_dropped say;
    void *user;
    pthread_t thread;
    pthread_mutex_t lock;    /* all below, but for the atomics, which are written under it */
    pthread_cond_t filled;   /* there is something to write, or the thread is to end */
    pthread_cond_t emptied;  /* a line is out */
    atomic_size_t head, tail;
    uint64_t unsaid;         /* lines dropped that no line has told of yet */
    atomic_uint_fast64_t dropped; /* ever */
    int64_t end_ms;          /* monotonic; when writing must end; 0: it goes on */
    bool ended;
    char bytes[SRV_LOG_RING_BYTES];
};

/* ---- in: with the lock ---- */

static size_t room(const struct srv_log_ring *ring)
{
    return SRV_LOG_RING_BYTES - (ring->head - ring->tail);
}

static void copy_in(struct srv_log_ring *ring, const char *line, size_t size)
{
    size_t at = ring->head % SRV_LOG_RING_BYTES, first = SRV_LOG_RING_BYTES - at;

    if (first > size)
        first = size;
    memcpy(ring->bytes + at, line, first);
    memcpy(ring->bytes, line + first, size - first);
    /* release: srv_log_ring_rescue reads the bytes without the lock */
    atomic_store_explicit(&ring->head, ring->head + size, memory_order_release);
}

/* Tells of dropped lines, where they are missing. False: there is no room for that and `more` bytes. */
static bool tell_dropped(struct srv_log_ring *ring, size_t more)
{
    char line[SRV_LOG_LINE];
    size_t size;

    if (ring->unsaid == 0)
        return room(ring) >= more;
    size = ring->say(ring->user, ring->unsaid, line);
    if (room(ring) < size + more)
        return false;
    copy_in(ring, line, size);
    ring->unsaid = 0;
    return true;
}

void srv_log_ring_put(struct srv_log_ring *ring, const char *line, size_t size)
{
    pthread_mutex_lock(&ring->lock);
    if (tell_dropped(ring, size)) {
        copy_in(ring, line, size);
        pthread_cond_signal(&ring->filled);
    } else {
        ring->unsaid++;
        atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&ring->lock);
}

/* ---- out: the writing thread ---- */

/* Copies out the line at byte `from`. Returns its size. */
static size_t line_at(const struct srv_log_ring *ring, size_t from, size_t head, char out[SRV_LOG_LINE])
{
    size_t n = 0;

    while (from + n < head && n < SRV_LOG_LINE) {
        out[n] = ring->bytes[(from + n) % SRV_LOG_RING_BYTES];
        if (out[n++] == '\n')
            break;
    }
    return n;
}

static bool is_late(struct srv_log_ring *ring)
{
    bool late;

    pthread_mutex_lock(&ring->lock);
    late = ring->end_ms && srv_monotonic_ms() >= ring->end_ms;
    pthread_mutex_unlock(&ring->lock);
    return late;
}

/* Waits until the descriptor takes something. False: the time is up. A descriptor that has failed takes everything:
 * the write says what is wrong with it. */
static bool wait_writable(struct srv_log_ring *ring)
{
    struct pollfd p = {.fd = ring->fd, .events = POLLOUT};

    while (poll(&p, 1, POLL_MS) <= 0)
        if (is_late(ring))
            return false;
    return true;
}

/* False: it was not written, or not whole. */
static bool write_line(struct srv_log_ring *ring, const char *line, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n;

        if (!wait_writable(ring))
            return false;
        n = write(ring->fd, line + done, size - done);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return false; /* nobody to tell */
        done += (size_t)n;
    }
    return true;
}

/* With the lock; waits for a line. False: the thread is to end, and there is none, or no more time for it. */
static bool next_line(struct srv_log_ring *ring)
{
    while (ring->head == ring->tail) {
        if (tell_dropped(ring, 0) && ring->head != ring->tail)
            break;
        if (ring->end_ms)
            return false;
        pthread_cond_wait(&ring->filled, &ring->lock);
    }
    return !ring->end_ms || srv_monotonic_ms() < ring->end_ms;
}

static void *write_lines(void *user)
{
    struct srv_log_ring *ring = user;
    char line[SRV_LOG_LINE];

    pthread_mutex_lock(&ring->lock);
    while (next_line(ring)) {
        size_t size = line_at(ring, ring->tail, ring->head, line);
        bool written;

        pthread_mutex_unlock(&ring->lock);
        written = write_line(ring, line, size);
        pthread_mutex_lock(&ring->lock);
        if (!written)
            atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
        atomic_store_explicit(&ring->tail, ring->tail + size, memory_order_release);
        pthread_cond_broadcast(&ring->emptied);
    }
    ring->ended = true;
    pthread_cond_broadcast(&ring->emptied);
    pthread_mutex_unlock(&ring->lock);
    return NULL;
}

/* ---- life ---- */

/* With the lock: waits until `tail` is at least `until`, or the thread has ended. */
static bool wait_emptied(struct srv_log_ring *ring, size_t until, bool end, int timeout_ms)
{
    struct timespec deadline;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += timeout_ms / 1000;
    deadline.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (deadline.tv_nsec >= 1000000000L) {
        deadline.tv_sec++;
        deadline.tv_nsec -= 1000000000L;
    }
    while (end ? !ring->ended : ring->tail < until)
        if (pthread_cond_timedwait(&ring->emptied, &ring->lock, &deadline) == ETIMEDOUT)
            return false;
    return true;
}

bool srv_log_ring_flush(struct srv_log_ring *ring, int timeout_ms)
{
    bool done;

    pthread_mutex_lock(&ring->lock);
    done = wait_emptied(ring, ring->head, false, timeout_ms);
    pthread_mutex_unlock(&ring->lock);
    return done;
}

uint64_t srv_log_ring_dropped(const struct srv_log_ring *ring)
{
    return atomic_load_explicit(&ring->dropped, memory_order_relaxed);
}

void srv_log_ring_rescue(const struct srv_log_ring *ring)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    char line[SRV_LOG_LINE];

    while (tail < head) {
        struct pollfd p = {.fd = ring->fd, .events = POLLOUT};
        size_t size = line_at(ring, tail, head, line);

        if (poll(&p, 1, 0) <= 0 || write(ring->fd, line, size) != (ssize_t)size)
            return;
        tail += size;
    }
}

/* No signal is for this thread. */
static int start(struct srv_log_ring *ring)
{
    sigset_t all, before;
    int status;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    status = pthread_create(&ring->thread, NULL, write_lines, ring);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status == 0 ? 0 : ELS_ENOMEM;
}

static void deinit(struct srv_log_ring *ring)
{
    pthread_cond_destroy(&ring->filled);
    pthread_cond_destroy(&ring->emptied);
    pthread_mutex_destroy(&ring->lock);
    free(ring);
}

int srv_log_ring_new(struct srv_log_ring **out, int fd, srv_log_say_dropped say, void *user)
{
    struct srv_log_ring *ring = els_alloc_array(1, sizeof(*ring));
    pthread_condattr_t monotonic;

    if (!ring)
        return ELS_ENOMEM;
    ring->fd = fd;
    ring->say = say;
    ring->user = user;
    pthread_mutex_init(&ring->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&ring->filled, NULL);
    pthread_cond_init(&ring->emptied, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (start(ring) < 0) {
        deinit(ring);
        return ELS_ENOMEM;
    }
    *out = ring;
    return 0;
}

struct srv_log_ring *srv_log_ring_free(struct srv_log_ring *ring)
{
    bool ended;

    if (!ring)
        return NULL;
    pthread_mutex_lock(&ring->lock);
    ring->end_ms = srv_monotonic_ms() + SRV_LOG_LAST_MS;
    pthread_cond_signal(&ring->filled);
    ended = wait_emptied(ring, 0, true, SRV_LOG_LAST_MS + 10 * POLL_MS);
    pthread_mutex_unlock(&ring->lock);
    if (!ended) {
        pthread_detach(ring->thread); /* it hangs in a write, and keeps the ring */
        return NULL;
    }
    pthread_join(ring->thread, NULL);
    deinit(ring);
    return NULL;
}
