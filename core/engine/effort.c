/*
 * What an evaluation takes, from its plan. Called from any thread; holds no state.
 */
#include "els/effort.h"

#include "core/engine/pass_internal.h"
#include "core/theory/geometry.h"

/* Pairs of a query and a source along an axis of n. */
static double axis_pairs(enum els_machine machine, enum els_candidates candidates, int n, int r)
{
    double pairs = 0;

    for (int i = 0; i < n; i++) {
        int from, to;

        els_sources_of(machine, candidates, n, r, i, &from, &to);
        pairs += to > from ? to - from : 0;
    }
    return pairs;
}

double els_effort_pairs(enum els_machine machine, enum els_candidates candidates, struct els_shape shape, int p)
{
    double values = (double)els_shape_values(shape);

    if (machine == ELS_MACHINE_IS)
        return values;
    if (machine == ELS_MACHINE_ES)
        return values * shape.h * shape.w;
    return axis_pairs(machine, candidates, shape.h, p / 2) * axis_pairs(machine, candidates, shape.w, p / 2) * shape.c;
}

size_t els_effort_bytes(const struct els_evaluation *evaluation, int64_t batch, int entropy, int threads)
{
    static const int ignored_p = 1; /* is and es have no P */
    struct els_evaluation e = *evaluation;
    struct els_pass *pass = NULL;
    size_t bytes;

    if (!els_machine_uses_p(e.machine)) {
        e.num_p = 1;
        e.p = &ignored_p;
    }
    if (els_pass_new(&pass, &e, entropy) < 0)
        return 0;
    bytes = els_pass_bytes(pass, e.num_p * batch, threads);
    els_pass_free(pass);
    return bytes;
}
