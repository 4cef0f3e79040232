/*
 * The bar and the signals. cli_progress_poll is called from any worker thread; the rest from
 * main's.
 *
 * Instead of a handler, which could only set a global, the signals are blocked and looked for with
 * sigpending. A signal that the parent chose to ignore (nohup, a shell's background job) is left
 * alone: blocked, it would become pending.
 *
 * The bar is drawn on stderr when that is a terminal, ten times a second at most; who finds the
 * lock taken goes on without drawing.
 */
#include "server/cli/progress.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 24 };

static const int held_signals[] = {SIGINT, SIGTERM, SIGHUP};

static sigset_t held_set(void)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(held_signals) / sizeof(*held_signals); i++) {
        struct sigaction action;

        if (sigaction(held_signals[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&set, held_signals[i]);
    }
    return set;
}

void cli_signals_hold(void)
{
    sigset_t set = held_set();

    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void cli_signals_release(void)
{
    sigset_t set = held_set();

    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int cli_pool_new(struct els_pool **out, int64_t threads, struct els_error *err)
{
    int r;

    cli_signals_hold();
    r = els_pool_new(out, (int)threads);
    return r < 0 ? els_fail(err, r, "threads", "cannot start %lld threads", (long long)threads) : 0;
}

int cli_signals_pending(void)
{
    sigset_t set;

    if (sigpending(&set) < 0)
        return 0;
    for (size_t i = 0; i < sizeof(held_signals) / sizeof(*held_signals); i++) {
        if (sigismember(&set, held_signals[i]) == 1)
            return 1;
    }
    return 0;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void cli_progress_begin(struct cli_progress *p, const char *noun, int steps, int quiet)
{
    const char *terminal = getenv("TERM");

    *p = (struct cli_progress){.noun = noun, .steps = steps, .started = now()};
    p->drawing = !quiet && isatty(STDERR_FILENO) && (!terminal || strcmp(terminal, "dumb") != 0);
    pthread_mutex_init(&p->lock, NULL);
}

/* Seconds as 1:02:03 or 2:03. */
static const char *clock_text(double seconds, char out[24])
{
    long s = seconds < 359999 ? (long)(seconds + 0.5) : 359999;

    if (s >= 3600)
        snprintf(out, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 24, "%ld:%02ld", s / 60, s % 60);
    return out;
}

/* One line, shorter than 80 columns; \033[K wipes what a longer one left behind. */
static void draw(const struct cli_progress *p, double done, double elapsed)
{
    char line[160], bar[BAR + 1], spent[24], left[24];
    int full = (int)(done * BAR), n = 0;

    memset(bar, ' ', BAR);
    memset(bar, '=', (size_t)(full < 0 ? 0 : full > BAR ? BAR : full));
    bar[BAR] = '\0';
    if (p->noun)
        n = snprintf(line, sizeof(line), "%s %d/%d ", p->noun, p->step + 1, p->steps);
    n += snprintf(line + n, sizeof(line) - (size_t)n, "[%s] %3.0f%%  %s", bar, 100 * done,
                  clock_text(elapsed, spent));
    /* The first second says too little about the rest. */
    if (done > 0 && elapsed >= 1)
        snprintf(line + n, sizeof(line) - (size_t)n, ", %s left",
                 clock_text(elapsed / done - elapsed, left));
    fprintf(stderr, "\r%s\033[K", line);
    fflush(stderr);
}

int cli_progress_poll(void *progress, double done)
{
    struct cli_progress *p = progress;

    if (p->drawing && pthread_mutex_trylock(&p->lock) == 0) {
        double at = now();

        if (at - p->drawn >= 0.1) {
            p->drawn = at;
            draw(p, (p->step + done) / p->steps, at - p->started);
        }
        pthread_mutex_unlock(&p->lock);
    }
    return cli_signals_pending();
}

void cli_progress_end(struct cli_progress *p)
{
    if (p->drawing)
        fputs("\r\033[K", stderr);
    p->drawing = 0;
    pthread_mutex_destroy(&p->lock);
}

double cli_progress_seconds(const struct cli_progress *p)
{
    return now() - p->started;
}
