/*
 * log: one line per event on stderr, as text or JSON.
 *
 *     srv_log(daemon->log, SRV_INFO, "job_finished", "id", job_id, "status", "succeeded",
 *             "seconds", srv_log_number(buf, 1.25), NULL);
 *
 * Text: `2026-01-02T03:04:05.678Z info job_finished id=ab12 status=succeeded seconds=1.25`; JSON
 * with log_format = "json": one object per line with time, level, event and the fields (all strings
 * except those from srv_log_number). Values are escaped: a client can never forge a line. Any
 * thread; nobody ever waits for standard error. When it takes nothing, up to SRV_LOG_RING_BYTES of
 * lines wait for it (log_ring.h), more are dropped, and `log_lines_dropped count=N` stands where
 * they are missing.
 */
#ifndef SRV_LOG_H
#define SRV_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum srv_level {
    SRV_DEBUG,
    SRV_INFO,
    SRV_WARNING,
    SRV_ERROR,
};

struct srv_log;

/* level "debug" … "error"; format "text" or "json". Starts the thread that writes, which takes no signals.
 * ELS_EINVAL, ELS_ENOMEM. */
int srv_log_new(struct srv_log **out, const char *level, const char *format);
/* Another level and format, from the next line on. Any thread may be logging. ELS_EINVAL. */
int srv_log_set(struct srv_log *log, const char *level, const char *format);
/* Writes what waits, within SRV_LOG_LAST_MS. NULL is fine. Returns NULL. */
struct srv_log *srv_log_free(struct srv_log *log);
/* Waits until the lines of before are written, at most so long. False: they are not. */
bool srv_log_flush(struct srv_log *log, int timeout_ms);
/* Lines so far that standard error did not take. */
uint64_t srv_log_dropped(const struct srv_log *log);
/* From now on until srv_log_free, a crash (SIGSEGV, SIGABRT, …) first writes the lines that wait, as far as standard
 * error takes them at once, and then goes its way. One log per process. */
void srv_log_rescue_on_crash(struct srv_log *log);
/* NULL-terminated pairs of key and value (strings; a NULL value is left out). */
void srv_log(struct srv_log *log, enum srv_level level, const char *event, ...)
    __attribute__((sentinel));
/* Formats a number for srv_log into a caller's buffer of 32 bytes; JSON logs print it bare. */
const char *srv_log_number(char out[32], double value);

#endif
