/*
 * `scales: "auto"`: locality scales from the bank alone (scale_auto.h), for the schedule of noise that the job has. It
 * takes a while, so it is part of the job's first step. Only the scheduler's thread comes here.
 *
 * With explicit noise levels at most ELS_AUTO_TIMES of them are looked at, evenly; scales are keyed by t, and the
 * nearest counts. Levels with next to no noise say nothing about scales and are left out.
 */
#include "els/scale_auto.h"
#include "server/types/sample.h"

int srv_sample_auto_scales(struct els_scales *out, const struct srv_params *p, struct els_pool *pool,
                           const struct els_progress *watch, struct els_error *err)
{
    double t[ELS_AUTO_TIMES], alpha_bar[ELS_AUTO_TIMES];
    struct els_scales_auto_spec spec;
    int n = p->spec.num_inference_steps, before = 0;

    els_scales_auto_spec_init(&spec);
    spec.bank = p->spec.bank;
    spec.machine = p->spec.machine;
    spec.candidates = p->spec.candidates;
    spec.selection = p->spec.selection;
    spec.noise_schedule = p->spec.noise_schedule;
    for (int k = 1; p->spec.alpha_bar && k <= ELS_AUTO_TIMES; k++) {
        int i = (int)((int64_t)k * n / ELS_AUTO_TIMES);

        if (i == before || 1 - p->spec.alpha_bar[i] < ELS_MIN_BETA_ALONE)
            continue;
        t[spec.num_t] = (double)i / n;
        alpha_bar[spec.num_t++] = p->spec.alpha_bar[i];
        before = i;
    }
    if (spec.num_t > 0) {
        spec.t = t;
        spec.alpha_bar = alpha_bar;
    }
    return els_scales_auto(out, &spec, pool, watch, err);
}
