/*
 * effort: how much there is to compute in an evaluation (engine.h), and the memory that it takes meanwhile. Both before
 * it runs, to compare jobs with each other, to say how long one will take, and to account for it.
 *
 *     double pairs = images * els_effort_pairs(ELS_MACHINE_BBELS, ELS_CANDIDATES_WRAPPED, shape, 5);
 *     size_t bytes = els_effort_bytes(&e, 64, 0, els_pool_threads(pool));
 */
#ifndef ELS_EFFORT_H
#define ELS_EFFORT_H

#include "els/api.h"
#include "els/engine.h"

ELS_BEGIN_DECLS

/*
 * For one noisy image, one bank image and one scale (which is and es ignore): pairs of a pixel and a candidate, times
 * channels. For each machine about proportional to the time that it takes.
 */
ELS_API double els_effort_pairs(enum els_machine machine, enum els_candidates candidates, struct els_shape shape,
                                        int p);

/* The memory that els_evaluate takes for `batch` noisy images like e->x, of which there are e->batch, with so many
 * threads. 0: it cannot be said, out of memory. */
ELS_API size_t els_effort_bytes(const struct els_evaluation *e, int64_t batch, int entropy, int threads);

ELS_END_DECLS

#endif
