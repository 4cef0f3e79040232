/*
 * The engine's front: checks an evaluation, runs it in passes over the bank (pass.c) and turns
 * the posteriors into x̂0 and entropy. Called by the sampler, the command line and the job
 * service, one evaluation at a time per pool. Holds no state.
 */
#include "els/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine/evaluation.h"
#include "core/engine/pass.h"
#include "els/mem.h"

int els_evaluation_check(const struct els_evaluation *e, struct els_error *err)
{
    const struct els_bank_info *info = els_bank_info(e->bank);
    size_t values = els_shape_values(info->shape);

    if (!(e->beta >= ELS_MIN_BETA && e->beta <= 1.0))
        return els_fail(err, ELS_EINVAL, "beta", "beta is %g; it must be between %g and 1.",
                        e->beta, ELS_MIN_BETA);
    if (!(e->alpha_bar >= 0.0 && e->alpha_bar < 1.0))
        return els_fail(err, ELS_EINVAL, "alpha_bar",
                        "alpha_bar is %g; it must be between 0 and 1.", e->alpha_bar);
    if (!(e->tolerance >= 0.0 && e->tolerance <= 1.0))
        return els_fail(err, ELS_EINVAL, "tolerance",
                        "tolerance is %g; it must be between 0 and 1.", e->tolerance);
    if (e->batch < 1)
        return els_fail(err, ELS_EINVAL, "x", "x holds no image; at least one is needed.");
    if (e->num_images < 1)
        return els_fail(err, ELS_EINVAL, "bank", "No image of the bank is selected.");
    if (e->num_p < 1 || e->num_p > ELS_MAX_P_COUNT)
        return els_fail(err, ELS_EINVAL, "p", "p lists %d scales; it must list 1 to %d.", e->num_p,
                        ELS_MAX_P_COUNT);
    for (int k = 0; els_machine_uses_p(e->machine) && k < e->num_p; k++) {
        int r = els_machine_check_p(e->machine, info->shape, e->p[k], err);

        if (r < 0) {
            if (err)
                memcpy(err->field, "p", sizeof("p"));
            return r;
        }
    }
    for (size_t i = 0; i < (size_t)e->batch * values; i++)
        if (!(fabsf(e->x[i]) <= ELS_MAX_ABS_X))
            return els_fail(err, ELS_EINVAL, "x",
                            "x[%zu] is %g; values must be finite and at most %g.", i,
                            (double)e->x[i], (double)ELS_MAX_ABS_X);
    return 0;
}

void els_answer_set(struct els_answer *answer, int64_t pair, struct els_shape shape,
                    const struct els_posterior *posterior)
{
    size_t pixels = (size_t)shape.h * (size_t)shape.w;
    float *x0 = answer->x0 + (size_t)pair * els_shape_values(shape);

    for (int c = 0; c < shape.c; c++)
        for (size_t q = 0; q < pixels; q++)
            x0[(size_t)c * pixels + q] = (float)els_posterior_mean(posterior, q, c);
    for (size_t q = 0; answer->entropy && q < pixels; q++)
        answer->entropy[(size_t)pair * pixels + q] = (float)els_posterior_entropy(posterior, q);
}

static int evaluate_slice(struct els_pass *pass, const struct els_evaluation *e, int64_t first,
                          int64_t count, struct els_pool *pool, const struct els_progress *progress,
                          struct els_answer *answer)
{
    struct els_shape shape = els_bank_info(e->bank)->shape;
    struct els_posterior *posterior = els_alloc_array((size_t)count, sizeof(*posterior));
    int r = posterior ? 0 : ELS_ENOMEM;

    for (int64_t i = 0; r == 0 && i < count; i++)
        r = els_posterior_init(&posterior[i], (size_t)shape.h * (size_t)shape.w, shape.c);
    if (r == 0)
        r = els_pass_run(pass, first, count, pool, progress, posterior);
    for (int64_t i = 0; r == 0 && i < count; i++)
        els_answer_set(answer, first + i, shape, &posterior[i]);
    for (int64_t i = 0; posterior && i < count; i++)
        els_posterior_deinit(&posterior[i]);
    free(posterior);
    return r;
}

int els_evaluate(const struct els_evaluation *evaluation, struct els_pool *pool,
                 const struct els_progress *progress, struct els_answer *answer, struct els_error *err)
{
    static const int ignored_p = 1; /* is and es have no P */
    struct els_evaluation e = *evaluation;
    struct els_pass *pass = NULL;
    int64_t pairs, at_once;
    int r;

    if (!els_machine_uses_p(e.machine)) {
        e.num_p = 1;
        e.p = &ignored_p;
    }
    r = els_evaluation_check(&e, err);
    if (r < 0)
        return r;
    r = els_pass_new(&pass, &e, answer->entropy != NULL);
    if (r < 0)
        return els_fail(err, r, NULL, "The evaluation failed: %s.", els_status_text(r));
    pairs = e.num_p * e.batch;
    at_once = els_pass_pairs_at_once(pass);
    for (int64_t first = 0; r == 0 && first < pairs; first += at_once)
        r = evaluate_slice(pass, &e, first, pairs - first < at_once ? pairs - first : at_once, pool,
                           progress, answer);
    els_pass_free(pass);
    if (r < 0)
        return els_fail(err, r, NULL, "The evaluation failed: %s.", els_status_text(r));
    answer->certified_error = e.tolerance;
    return 0;
}

void els_score_from_x0(float *out, const float *x0, const float *x, size_t n, double alpha_bar,
                       double beta)
{
    double a = sqrt(alpha_bar);

    for (size_t i = 0; i < n; i++)
        out[i] = (float)((a * (double)x0[i] - (double)x[i]) / beta);
}

void els_epsilon_from_x0(float *out, const float *x0, const float *x, size_t n, double alpha_bar,
                         double beta)
{
    double a = sqrt(alpha_bar), sigma = sqrt(beta);

    for (size_t i = 0; i < n; i++)
        out[i] = (float)(((double)x[i] - a * (double)x0[i]) / sigma);
}
