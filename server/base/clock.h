/*
 * clock: what time it is, twice: for people (milliseconds since 1970, UTC) and for durations.
 *
 *     char text[SRV_TIME_TEXT];
 *     srv_time_text(srv_now_ms(), text);           // "2026-01-02T03:04:05.678Z"
 */
#ifndef SRV_CLOCK_H
#define SRV_CLOCK_H

#include <stdint.h>

enum { SRV_TIME_TEXT = 32 };

/* Milliseconds since 1970-01-01T00:00:00Z; can jump when somebody sets the clock. */
int64_t srv_now_ms(void);
/* Milliseconds since some moment before the process began; never goes back. */
int64_t srv_monotonic_ms(void);
/* RFC 3339 in UTC with milliseconds. Returns `out`. */
const char *srv_time_text(int64_t ms, char out[SRV_TIME_TEXT]);

#endif
