/*
 * calibrate: the locality scales P(t) of a trained network, found from its own reverse trajectories.
 *
 *     struct els_calibration_spec spec;
 *     els_calibration_spec_init(&spec);                 // bbels, cosine schedule, every image
 *     spec.bank = bank;
 *     spec.num_seeds = 24, spec.num_t = 20;
 *     spec.t = t;                                       // [20]
 *     spec.xt = xt, spec.eps = eps;                     // [24,20,C,H,W]
 *     spec.num_p = els_calibration_default_p(spec.p, shape);     // 3, 5, 7 …
 *     struct els_calibration *c = NULL;
 *     struct els_scales scales = {0};
 *     if (els_calibration_new(&c, &spec, &err) < 0)
 *         …
 *     while (els_calibration_next(c) < els_calibration_num_steps(c))
 *         if (els_calibration_step(c, pool, NULL, &err) < 0)
 *             …
 *     els_calibration_scales(&scales, c, ELS_METRIC_COSINE, ELS_FIT_MEDIAN, &err);
 *     c = els_calibration_free(c);
 *
 * For each seed s, time t and scale P, the machine's ε(x_t) = (x_t − a·x̂0)/σ (eq. 24) is held against the network's:
 *
 *     cosine  ⟨ε_cnn, ε⟩ / (‖ε_cnn‖·‖ε‖)     0 where either is 0
 *     l2      ‖ε_cnn − ε‖₂                    over C·H·W values
 *
 * The best P of a seed at a time is that of the largest cosine (or least l2); of equals, the smallest P. A schedule
 * then takes, at each t, over the seeds' best P:
 *
 *     median    the lower median, so always one of the tried P (the released procedure, with cosine: the default)
 *     mode      the most frequent; of equals, the smallest
 *     monotone  instead of the best P one by one: the P(t), never falling as t grows, with the largest sum of mean
 *               cosines (or least sum of mean l2) over all t; of equals, the smallest P from the largest t down
 *
 * The scales are keyed by t, so they serve any number of steps.
 */
#ifndef ELS_CALIBRATE_H
#define ELS_CALIBRATE_H

#include "els/api.h"
#include "els/engine.h"
#include "els/scale.h"
#include "els/schedule.h"

ELS_BEGIN_DECLS

enum {
    ELS_MAX_CALIBRATION_SEEDS = 10000,
    ELS_MAX_CALIBRATION_TIMES = 10000, /* no more than ELS_MAX_SCALES */
    ELS_CALIBRATION_ANSWER_BYTES = 256 << 20, /* of x̂0 that is held at a time; one seed is always taken */
};

enum els_calibration_metric {
    ELS_METRIC_COSINE,
    ELS_METRIC_L2,
    ELS_METRIC_COUNT,
};

enum els_calibration_fit {
    ELS_FIT_MEDIAN,
    ELS_FIT_MODE,
    ELS_FIT_MONOTONE,
    ELS_FIT_COUNT,
};

struct els_calibration_spec {
    struct els_bank *bank; /* borrowed by els_calibration_new, which takes its own reference */
    enum els_machine machine; /* ls, els or bbels: is and es have no P */
    enum els_candidates candidates;
    struct els_selection_spec selection;
    enum els_schedule noise_schedule;
    const double *alpha_bar; /* NULL, or [num_t] explicit ᾱ in (0,1): overrides noise_schedule */
    int64_t num_seeds;       /* S: 1…ELS_MAX_CALIBRATION_SEEDS */
    int num_t;               /* T: 1…ELS_MAX_CALIBRATION_TIMES */
    const double *t;         /* [T] in [0,1], in any order, no two closer than 1e-9 */
    const float *xt;         /* [S,T,C,H,W], the network's input at each t */
    const float *eps;        /* [S,T,C,H,W], its ε there; or NULL, and then */
    const float *x0;         /* [S,T,C,H,W], its x̂0 there */
    int num_p;               /* K: 1…ELS_MAX_P_COUNT */
    int p[ELS_MAX_P_COUNT];  /* the tried scales, odd, in any order, no two equal */
    double tolerance;        /* of each evaluation (engine.h); 0 is exact */
};

/* bbels, wrapped, every image, cosine; all else 0. */
ELS_API void els_calibration_spec_init(struct els_calibration_spec *spec);
/* The scales to try where none are given: 3, 5, 7 … up to min(H,W) (at most ELS_MAX_P_COUNT of them); {1} for images
 * below 3 pixels. Returns how many. */
ELS_API int els_calibration_default_p(int p[ELS_MAX_P_COUNT], struct els_shape shape);

struct els_calibration;

/* Checks every field: ELS_EINVAL names it ("machine", "t", "xt", "eps", "x0", "p", "alpha_bar" …). t, xt, eps and x0
 * stay borrowed until els_calibration_free. ELS_ENOMEM. */
ELS_API int els_calibration_new(struct els_calibration **out, const struct els_calibration_spec *spec,
                                struct els_error *err);
/* NULL is fine. Returns NULL. */
ELS_API struct els_calibration *els_calibration_free(struct els_calibration *c);

/* T: a step is one entry of t, for all seeds and scales in one pass over the bank. */
ELS_API int els_calibration_num_steps(const struct els_calibration *c);
/* The step that els_calibration_step will run next; T when all are done. */
ELS_API int els_calibration_next(const struct els_calibration *c);
/* After ELS_ECANCELLED or an error the step can be run again. The same numbers for any number of threads. */
ELS_API int els_calibration_step(struct els_calibration *c, struct els_pool *pool, const struct els_progress *progress,
                                 struct els_error *err);

/* [S,T,K], owned by the calibration; whole once every step has run. */
ELS_API const double *els_calibration_cosine(const struct els_calibration *c);
ELS_API const double *els_calibration_l2(const struct els_calibration *c);
/* The schedule; every step must have run. Free *out with els_scales_deinit. */
ELS_API int els_calibration_scales(struct els_scales *out, const struct els_calibration *c,
                                   enum els_calibration_metric metric, enum els_calibration_fit fit,
                                   struct els_error *err);

/* "cosine", "l2"; "median", "mode", "monotone"; NULL past the end. Parsing: 0, or ELS_ENOENT. */
ELS_API const char *els_calibration_metric_name(enum els_calibration_metric metric);
ELS_API int els_calibration_metric_parse(const char *name, enum els_calibration_metric *out);
ELS_API const char *els_calibration_fit_name(enum els_calibration_fit fit);
ELS_API int els_calibration_fit_parse(const char *name, enum els_calibration_fit *out);

ELS_END_DECLS

#endif
