/*
 * evaluation: what the engine and the plain loop share: checking a question, writing down the answer.
 * Internal to core.
 */
#ifndef ELS_EVALUATION_H
#define ELS_EVALUATION_H

#include "core/theory/posterior.h"
#include "els/engine.h"

/* A noisy pixel beyond this is no noisy image; sums of its squares would lose their meaning. */
#define ELS_MAX_ABS_X 1e4f

/* Every field in its range, else ELS_EINVAL with the field and a sentence. */
int els_evaluation_check(const struct els_evaluation *e, struct els_error *err);

/* Writes x̂0 and, when wanted, the entropy of pair k·batch + b. */
void els_answer_set(struct els_answer *answer, int64_t pair, struct els_shape shape,
                    const struct els_posterior *posterior);

#endif
