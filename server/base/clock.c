/*
 * The two clocks and how a moment is written. Any thread; no state.
 */
#include "server/base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec now = {0};

    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t srv_now_ms(void)
{
    return read_clock(CLOCK_REALTIME);
}

int64_t srv_monotonic_ms(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

const char *srv_time_text(int64_t ms, char out[SRV_TIME_TEXT])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm = {0};
    size_t n;

    gmtime_r(&seconds, &tm);
    n = strftime(out, SRV_TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, SRV_TIME_TEXT - n, ".%03dZ", (int)(ms % 1000));
    return out;
}
