/*
 * sampler: the reverse process, from noise to images, one step at a time.
 *
 *     struct els_sample_spec spec;
 *     els_sample_spec_init(&spec);                   // the defaults of the HTTP contract
 *     spec.bank = bank;
 *     els_scales_parse(&spec.scales, "mnist-resnet-zeros", &err);
 *     spec.seed = 7;
 *     struct els_sampler *s = NULL;
 *     if (els_sampler_new(&s, &spec, &err) < 0)
 *         …
 *     while (els_sampler_next(s) < els_sampler_num_steps(s))
 *         if (els_sampler_step(s, pool, NULL, &err) < 0)
 *             …                                      // x̂0 of the step: els_sampler_x0(s)
 *     write_images(els_sampler_x(s));                // [N,C,H,W]
 *     s = els_sampler_free(s);
 *
 * n steps, t_i = i/n. ELS_START_PAPER runs i = n−1 … 1 from unit noise (the released ELS sampler),
 * ELS_START_FULL runs i = n … 1. Steps are numbered s = 0 … S−1 in the order they run.
 *
 *     DDIM  x_{i−1} = √ᾱ_{i−1}·x̂0 + √β_{i−1}·ε
 *     DDPM  x_{i−1} = √ᾱ_{i−1}·x̂0 + √(β_{i−1} − σ_i²)·ε + σ_i·z,  σ_i² = (β_{i−1}/β_i)(1 − ᾱ_i/ᾱ_{i−1})
 *
 * Image k uses seed + k, so its bytes depend on nothing else: not on the batch, the
 * number of threads, or what else runs. z continues the image's own generator after x_T.
 */
#ifndef ELS_SAMPLER_H
#define ELS_SAMPLER_H

#include "els/api.h"
#include "els/bank.h"
#include "els/engine.h"
#include "els/noise.h"
#include "els/scale.h"
#include "els/schedule.h"

ELS_BEGIN_DECLS

enum els_start_step {
    ELS_START_PAPER,
    ELS_START_FULL,
};

enum els_sampler_kind {
    ELS_DDIM,
    ELS_DDPM,
};

enum {
    ELS_MAX_INFERENCE_STEPS = 10000,
    ELS_MAX_NUM_IMAGES = 10000,
};

#define ELS_MAX_SEED ((1ull << 53) - 1)

struct els_sample_spec {
    struct els_bank *bank; /* borrowed by els_sampler_new, which takes its own reference */
    enum els_machine machine;
    enum els_candidates candidates;
    struct els_selection_spec selection;
    int64_t num_images;
    int num_inference_steps; /* 2…ELS_MAX_INFERENCE_STEPS */
    enum els_start_step start_step;
    enum els_sampler_kind sampler;
    enum els_schedule noise_schedule;
    const double
        *alpha_bar; /* NULL, or [num_inference_steps+1] explicit ᾱ_i: overrides noise_schedule */
    struct els_scales scales; /* n = 0 only for is and es */
    uint64_t seed;            /* seed + num_images − 1 ≤ ELS_MAX_SEED */
    enum els_noise_kind noise;
    const float *x_T; /* NULL, or [num_images,C,H,W]: overrides the drawn x_T */
    double tolerance;
    int entropy; /* non-zero: every step also gives the posterior entropy */
};

/* bbels, wrapped, 1 image, 20 steps, paper, ddim, cosine, torch, seed 0, no label; no bank, no scales. */
ELS_API void els_sample_spec_init(struct els_sample_spec *spec);

struct els_step_info {
    int step;  /* s, noisiest first */
    int index; /* i: t = i/n */
    double t, alpha_bar, beta;
    int p; /* 0 for is and es */
};

struct els_sampler;

/* Checks every field (ELS_EINVAL names it), copies what it needs and draws x_T. */
ELS_API int els_sampler_new(struct els_sampler **out, const struct els_sample_spec *spec,
                            struct els_error *err);
/* NULL is fine. Returns NULL. */
ELS_API struct els_sampler *els_sampler_free(struct els_sampler *s);

/* S: n−1 (paper) or n (full). */
ELS_API int els_sampler_num_steps(const struct els_sampler *s);
/* The step that els_sampler_step will run next; S when all are done. */
ELS_API int els_sampler_next(const struct els_sampler *s);
/* About step 0 ≤ step < S. */
ELS_API struct els_step_info els_sampler_step_info(const struct els_sampler *s, int step);
/* The evaluation that the next step will run, on all images: its x is els_sampler_x(). Valid until that step has run;
 * the sampler must not be at its end. For a mosaic of image k (mosaic.h): batch 1, x from image k on. */
ELS_API struct els_evaluation els_sampler_evaluation(const struct els_sampler *s);
/* Runs the next step for every image. After ELS_ECANCELLED or an error the sampler stands where it
 * stood before, and the step can be run again. */
ELS_API int els_sampler_step(struct els_sampler *s, struct els_pool *pool, const struct els_progress *progress,
                             struct els_error *err);

/*
 * Several samplers' next steps in one pass over the bank, which takes less time than one after the other:
 *
 *     struct els_sampler *both[] = {a, b};
 *     if (els_samplers_alike(a, b))
 *         r = els_samplers_step(both, 2, pool, progress, &err);
 */

/* Non-zero when both stand before the same step: bank, selection, machine, P, noise level, tolerance, entropy or not.
 * Never at the end of one. Seeds, numbers of images and the kind of sampler may differ. */
ELS_API int els_samplers_alike(const struct els_sampler *a, const struct els_sampler *b);
/* Runs the next step of `count` ≥ 1 different samplers, each alike to the first. Every one gets the bytes that it would
 * get by itself. After an error (as of els_sampler_step) none has moved; an error about x may be about any of them. */
ELS_API int els_samplers_step(struct els_sampler *const *s, int count, struct els_pool *pool,
                                      const struct els_progress *progress,
                              struct els_error *err);

/* x_t now: the initial noise before the first step, the images after the last. [N,C,H,W] in
 * float32, owned by the sampler, changed by els_sampler_step. */
ELS_API const float *els_sampler_x(const struct els_sampler *s);
/* x̂0 of the step that ran last; [N,C,H,W]. */
ELS_API const float *els_sampler_x0(const struct els_sampler *s);
/* [N,H,W] entropy in nats of the step that ran last; NULL unless the spec asked for it. */
ELS_API const float *els_sampler_entropy(const struct els_sampler *s);
/* The largest certified error of any step so far; 0 when exact. */
ELS_API double els_sampler_certified_error(const struct els_sampler *s);
/* Candidates come from this many images. */
ELS_API int64_t els_sampler_num_bank_images(const struct els_sampler *s);

ELS_END_DECLS

#endif
