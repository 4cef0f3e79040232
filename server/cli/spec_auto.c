/*
 * --scales auto: asks the library for the scales that denoise the bank's held-out images best. Called from main's thread
 * before the work starts, with threads of its own.
 */
#include "els/mem.h"
#include "els/scale_auto.h"
#include "server/cli/progress.h"
#include "server/cli/spec.h"

/* Explicit noise levels: at most ELS_AUTO_TIMES of the steps, evenly spread, the last one among them. */
static int spread_levels(const struct cli_spec *s, double *t, double *alpha_bar)
{
    int n = s->spec.num_inference_steps, times = n < ELS_AUTO_TIMES ? n : ELS_AUTO_TIMES;

    for (int k = 0; k < times; k++) {
        int i = (k + 1) * n / times;

        t[k] = (double)i / n;
        alpha_bar[k] = s->spec.alpha_bar[i];
    }
    return times;
}

int cli_scales_auto(struct cli_spec *s, const struct cli_choice *choice, struct els_error *err)
{
    double t[ELS_AUTO_TIMES], alpha_bar[ELS_AUTO_TIMES];
    struct els_scales_auto_spec spec;
    struct els_pool *pool = NULL;
    struct cli_progress progress;
    struct els_progress watch = {cli_progress_poll, &progress};
    int r;

    els_scales_auto_spec_init(&spec);
    spec.bank = s->spec.bank;
    spec.machine = s->spec.machine;
    spec.candidates = s->spec.candidates;
    spec.selection = s->spec.selection;
    spec.noise_schedule = s->spec.noise_schedule;
    if (s->spec.alpha_bar) {
        spec.num_t = spread_levels(s, t, alpha_bar);
        spec.t = t;
        spec.alpha_bar = alpha_bar;
    }
    r = cli_pool_new(&pool, choice->threads, err);
    if (r < 0)
        return r;
    cli_progress_begin(&progress, "choosing scales", 1, choice->quiet);
    r = els_scales_auto(&s->spec.scales, &spec, pool, &watch, err);
    cli_progress_end(&progress);
    els_pool_free(pool);
    return r;
}
