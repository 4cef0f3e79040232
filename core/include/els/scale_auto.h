/*
 * scale_auto: locality scales P(t) from a bank alone, where no network is at hand to calibrate to: `scales: "auto"`.
 *
 *     struct els_scales_auto_spec spec;
 *     struct els_scales scales = {0};
 *     els_scales_auto_spec_init(&spec);                    // bbels, cosine schedule, every image
 *     spec.bank = bank;
 *     if (els_scales_auto(&scales, &spec, pool, NULL, &err) < 0)
 *         …
 *     els_scales_deinit(&scales);
 *
 * The rule. A network is trained to denoise, and is judged on images that it has not seen; so a few images y are held
 * out of the bank, noise is added, x_t = a·y + σ·η, and P(t) is the scale at which the machine denoises them best from
 * the rest of the bank:
 *
 *     P(t) = argmin_P  Σ_y ‖x̂0_P(a·y + σ·η) − y‖²      of equals, the smallest P
 *
 * Too small a P throws away context, too large a P finds no patch like the one it looks for. At low noise the window
 * that can be matched is small, at high noise it grows without bound, so P is capped at max_p, the part that a
 * network's receptive field plays. The search goes up in noise and looks, from the last P found, downhill.
 *
 * What it costs: about 4 scales × ELS_AUTO_HELD images × 20 times over ELS_AUTO_IMAGES bank images.
 */
#ifndef ELS_SCALE_AUTO_H
#define ELS_SCALE_AUTO_H

#include "els/api.h"
#include "els/engine.h"
#include "els/scale.h"
#include "els/schedule.h"

ELS_BEGIN_DECLS

enum {
    ELS_AUTO_HELD = 8,      /* images held out, or a quarter of the bank where that is less (1 at least) */
    ELS_AUTO_IMAGES = 1000, /* images that are left to the machine, evenly spread over the selection */
    ELS_AUTO_TIMES = 20,
};

struct els_scales_auto_spec {
    const struct els_bank *bank;
    enum els_machine machine; /* ls, els or bbels: is and es have no P */
    enum els_candidates candidates;
    struct els_selection_spec selection; /* two images at least */
    enum els_schedule noise_schedule;
    int num_t;               /* 0: i/20 for i = 1…20; else 1…ELS_MAX_SCALES */
    const double *t;         /* [num_t] in [0,1], rising */
    const double *alpha_bar; /* NULL, or [num_t] explicit ᾱ in (0,1), falling: overrides noise_schedule */
    int max_p;               /* the largest P to try; 0: about half the image, (min(H,W) div 2) made odd upwards */
};

/* bbels, wrapped, every image, cosine; all else 0. */
ELS_API void els_scales_auto_spec_init(struct els_scales_auto_spec *spec);

/*
 * Free *out with els_scales_deinit; on failure it is untouched. ELS_EINVAL names the field ("scales" when the bank or the
 * machine allows no choice); ELS_ENOMEM; ELS_ECANCELLED. The same scales for any number of threads.
 */
ELS_API int els_scales_auto(struct els_scales *out, const struct els_scales_auto_spec *spec, struct els_pool *pool,
                            const struct els_progress *progress, struct els_error *err);

ELS_END_DECLS

#endif
