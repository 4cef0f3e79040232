/*
 * Candidate geometry of ls, els and bbels along one axis (eq. 7–10, 38, 41). Called by the engine
 * when it plans an evaluation, and by the plain loop for every pixel. Holds no state.
 *
 * All three machines are one rule: query i pairs with the sources of [from(i), to(i)), see
 * els_sources_of. The runs are read off that rule, displacement by displacement, so there is one
 * place that knows it.
 */
#include "core/theory/geometry.h"

#include <stdlib.h>

#include "els/mem.h"

void els_sources_of(enum els_machine machine, enum els_candidates candidates, int n, int r, int i,
                    int *from, int *to)
{
    int interior = i >= r && i < n - r;

    *from = i;
    *to = i + 1;
    if (machine == ELS_MACHINE_ELS && candidates == ELS_CANDIDATES_WRAPPED) {
        *from = 0;
        *to = n;
    } else if (machine == ELS_MACHINE_ELS || (machine == ELS_MACHINE_BBELS && interior)) {
        *from = r;
        *to = n - r;
    }
}

int els_runs_new(struct els_runs *out, enum els_machine machine, enum els_candidates candidates,
                 int n, int r, int query_from, int query_to)
{
    /* A displacement's queries are contiguous in every machine: at most one run each. */
    struct els_run *run = els_alloc_array((size_t)(2 * n - 1), sizeof(*run));
    int count = 0;

    if (!run)
        return ELS_ENOMEM;
    for (int d = 1 - n; d < n; d++) {
        struct els_run current = {0};

        for (int i = query_from; i < query_to; i++) {
            int from, to;

            els_sources_of(machine, candidates, n, r, i, &from, &to);
            if (i + d < from || i + d >= to)
                continue;
            if (!current.count)
                current = (struct els_run){.query = i, .source = i + d};
            current.count = i + 1 - current.query;
        }
        if (current.count)
            run[count++] = current;
    }
    *out = (struct els_runs){.run = run, .count = count};
    return 0;
}

void els_runs_deinit(struct els_runs *runs)
{
    free(runs->run);
    *runs = (struct els_runs){0};
}

int64_t els_runs_pairs(const struct els_runs *runs)
{
    int64_t pairs = 0;

    for (int k = 0; k < runs->count; k++)
        pairs += runs->run[k].count;
    return pairs;
}

int els_classes_of(enum els_machine machine, enum els_candidates candidates, int n, int r,
                   struct els_class *out, int most)
{
    int count = 0;

    for (int i = 0; i < n; i++) {
        struct els_class *last = count ? &out[count - 1] : NULL;
        int from, to;

        els_sources_of(machine, candidates, n, r, i, &from, &to);
        if (last && last->source == from && last->sources == to - from) {
            last->queries++;
            continue;
        }
        if (count == most)
            return most + 1;
        out[count++] = (struct els_class){i, 1, from, to - from};
    }
    return count;
}

int els_machine_wraps(enum els_machine machine)
{
    return machine == ELS_MACHINE_ELS || machine == ELS_MACHINE_ES;
}
