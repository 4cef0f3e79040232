/*
 * progress: the bar on the terminal, and the wish to stop.
 *
 *     cli_pool_new(&pool, 0, &err);                  // holds the signals
 *     struct cli_progress p;
 *     cli_progress_begin(&p, "step", 19, quiet);
 *     for (int s = 0; s < 19; s++) {
 *         p.step = s;
 *         els_sampler_step(sampler, pool, &(struct els_progress){cli_progress_poll, &p}, &err);
 *     }
 *     cli_progress_end(&p);
 *
 * Signals: SIGINT, SIGTERM and SIGHUP stay pending while work runs; cli_progress_poll sees them and
 * asks the work to stop. When all is cleaned up, main lets them through (cli_signals_release), so
 * that the process ends by the signal, as a shell expects.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <pthread.h>
#include <stdint.h>

#include "els/error.h"
#include "els/pool.h"

struct cli_progress {
    const char *noun; /* "step"; NULL: a percentage alone */
    int step, steps;  /* the one that runs, from 0 */
    int drawing;
    double started, drawn; /* seconds of the monotonic clock */
    pthread_mutex_t lock;  /* of `drawn` and the terminal line; nothing else is taken under it */
};

void cli_progress_begin(struct cli_progress *p, const char *noun, int steps, int quiet);
/* An els_progress poll, for any thread: draws now and then; non-zero when a signal is pending. */
int cli_progress_poll(void *progress, double done);
/* Wipes the bar. */
void cli_progress_end(struct cli_progress *p);
/* Seconds since cli_progress_begin. */
double cli_progress_seconds(const struct cli_progress *p);

/* Holds the signals, then starts the threads (0: one per core). */
int cli_pool_new(struct els_pool **out, int64_t threads, struct els_error *err);

void cli_signals_hold(void);
/* Whether one of them is pending. */
int cli_signals_pending(void);
void cli_signals_release(void);

#endif
