/*
 * pass_internal: what the two halves of a pass share: pass_plan.c cuts the work, pass.c does it.
 */
#ifndef ELS_PASS_INTERNAL_H
#define ELS_PASS_INTERNAL_H

#include <stdatomic.h>

#include "core/engine/pass.h"

/* What one worker needs to walk a chain. */
struct worker {
    void *group, *work;
    struct els_lanes *lanes; /* [pairs at once] */
    int64_t polled_ns;
};

struct els_pass {
    const struct els_evaluation *e;
    /* [num_p·batch]: each (P, noisy image) pair has its own, all of `lanes` lanes. */
    const struct els_kernel **kernel;
    int lanes;
    int64_t groups;
    int chains, bands;
    struct els_sweep *sweep; /* [num_p, bands] */
    int64_t max_adds;        /* float32 additions of one group to one sum, at most */
    int64_t pairs_at_once;

    /* the run under way */
    int64_t first, count;
    double before, share;       /* of the work of all pairs: before this run's, and its own */
    void **query;               /* [count] prepared noisy images */
    struct worker *worker;      /* [threads] */
    struct els_posterior *part; /* [chains, bands, count] */
    const struct els_progress *progress;
    atomic_int stop;   /* relaxed: only makes workers leave early */
    atomic_llong done; /* groups·pairs finished; relaxed: progress only */
};

/* Floats that one pair's lane sums take over the sweep's band. */
size_t els_pass_lane_floats(const struct els_pass *pass, const struct els_sweep *s);
/* Pixels that an item's posterior covers: its band, or for is and es the whole image. */
size_t els_pass_part_pixels(const struct els_sweep *s);

/* What els_pass_run and the posteriors of its answer take in all, for `pairs` pairs like those of the pass. */
size_t els_pass_bytes(const struct els_pass *pass, int64_t pairs, int threads);

#endif
