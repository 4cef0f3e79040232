/*
 * engine: posterior means of a batch of noisy images at one noise level.
 *
 *     float x0[C * H * W];
 *     struct els_evaluation e = {
 *         .bank = bank, .images = indices, .num_images = n,        // from els_bank_select()
 *         .machine = ELS_MACHINE_BBELS,
 *         .num_p = 1, .p = (const int[]){5},
 *         .alpha_bar = els_schedule_alpha_bar(ELS_COSINE, 0.5), .beta = els_schedule_beta(ELS_COSINE, 0.5),
 *         .batch = 1, .x = x,
 *     };
 *     int r = els_evaluate(&e, pool, NULL, &(struct els_answer){.x0 = x0}, &err);
 *
 * This narrow interface is the project's seam: one noise level, one machine, one selection of a
 * bank, several noisy images and scales in one pass over the bank. The CPU engine implements it;
 * els_evaluate_plain is the plain loop over the definitions, in float64, the oracle of the tests.
 *
 * The same bytes come out for any number of threads and whatever else is in the batch.
 */
#ifndef ELS_ENGINE_H
#define ELS_ENGINE_H

#include "els/api.h"
#include "els/bank.h"
#include "els/cpu.h"
#include "els/machine.h"
#include "els/pool.h"
#include "els/progress.h"

ELS_BEGIN_DECLS

enum { ELS_MAX_P_COUNT = 64 };

/* The engine takes β down to this: 5,000 cosine steps end at 1e-7. */
#define ELS_MIN_BETA 1e-12
/*
 * A single evaluation that a person asks for should not go below this: ε = (x − a·x̂0)/√β loses
 * its meaning in float32.
 */
#define ELS_MIN_BETA_ALONE 1e-6

struct els_evaluation {
    const struct els_bank *bank;
    const int64_t *images; /* [num_images] bank indices, ascending */
    int64_t num_images;
    enum els_machine machine;
    enum els_candidates candidates; /* read by els only */
    int num_p;                      /* 1…ELS_MAX_P_COUNT; is and es take 1 and ignore its value */
    const int *p;                   /* [num_p] window sides, odd */
    double alpha_bar;               /* ᾱ, in (0,1) */
    double beta;                    /* 1 − ᾱ, given apart because 1 − ᾱ cancels; ≥ ELS_MIN_BETA */
    double tolerance;               /* 0, or the certified bound on |Δx̂0| that skipping work may cost */
    int64_t batch;
    const float *x;                 /* [batch,C,H,W], finite */
};

struct els_answer {
    float *x0;              /* [num_p,batch,C,H,W], borrowed, written on success */
    float *entropy;         /* [num_p,batch,H,W] in nats, or NULL */
    double certified_error; /* ≤ tolerance: what skipping can have changed in any value of x0 */
};

/* x̂0 of every pixel. ELS_EINVAL (shape, P, β, non-finite x), ELS_ENOMEM, ELS_ECANCELLED. */
ELS_API int els_evaluate(const struct els_evaluation *e, struct els_pool *pool, const struct els_progress *progress,
                         struct els_answer *answer, struct els_error *err);

/* The definitions, written as loops, in float64; slow. Same arguments; one thread. */
ELS_API int els_evaluate_plain(const struct els_evaluation *e, const struct els_progress *progress,
                               struct els_answer *answer, struct els_error *err);

/* Tweedie (eq. 3): score = (a·x̂0 − x)/β and ε = (x − a·x̂0)/√β; n values; out may be x0. */
ELS_API void els_score_from_x0(float *out, const float *x0, const float *x, size_t n, double alpha_bar, double beta);
ELS_API void els_epsilon_from_x0(float *out, const float *x0, const float *x, size_t n, double alpha_bar, double beta);

ELS_END_DECLS

#endif
