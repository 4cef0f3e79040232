/*
 * pass: one pass over the selected images of a bank, for several (P, noisy image) pairs.
 *
 * The work is cut the same way whatever the number of threads, of noisy images and of scales:
 *
 *     bank images    | chain 0 | chain 1 | chain 2 | …      each a run of groups of `lanes` images
 *     query rows     | band 0 | band 1 | …                  several for few or large images; one for is,
 *                                                           and for es where it is transformed
 *
 * An item is (chain, band): one worker walks the chain's groups and leaves one posterior per
 * pair. The items' posteriors are merged in the order of the chains. So the bytes depend on the
 * problem and the kernel alone.
 *
 * Memory: per worker at most ELS_WORKER_BYTES of sums (one pair is always taken, however large), and
 * one group of bank images as its kernel lays it out: below 64 MiB in all for images up to
 * 128×128×4 with any P (tests/unit/test_pass.c). Larger images take more, in proportion.
 */
#ifndef ELS_PASS_H
#define ELS_PASS_H

#include "core/kernel/kernel.h"
#include "core/theory/posterior.h"
#include "els/engine.h"

enum {
    ELS_WORKER_BYTES = 32 << 20, /* of lane sums, per worker */
    ELS_PARTS_BYTES = 256 << 20, /* of posteriors that wait to be merged, in all */
};

struct els_pass;

/* Plans for the evaluation: chains, bands, runs. ELS_ENOMEM. */
int els_pass_new(struct els_pass **out, const struct els_evaluation *e, int entropy);
struct els_pass *els_pass_free(struct els_pass *pass);

/*
 * Pairs are numbered k·batch + b, k the scale and b the noisy image. How many of them one run can
 * take.
 */
int64_t els_pass_pairs_at_once(const struct els_pass *pass);
/* What els_pass_run will allocate for each worker when it takes `count` pairs from the first on. */
size_t els_pass_worker_bytes(const struct els_pass *pass, int64_t count);
/*
 * Runs pairs first … first+count−1 and leaves [count] posteriors over H·W pixels in `out`
 * (already initialised).
 */
int els_pass_run(struct els_pass *pass, int64_t first, int64_t count, struct els_pool *pool,
                 const struct els_progress *progress, struct els_posterior *out);

#endif
