/*
 * geometry: which source positions a query position may take its candidates from.
 *
 * Along one axis of length n, with radius r = P div 2, a machine pairs query i with sources k. The
 * pairs with the same displacement k − i form *runs* of consecutive queries: what a sliding sum
 * walks along.
 *
 *     struct els_runs rows;
 *     els_runs_new(&rows, ELS_MACHINE_BBELS, 0, 32, 1, 0, 32);
 *     for (int k = 0; k < rows.count; k++)
 *         … rows.run[k].query, .source, .count …
 *     els_runs_deinit(&rows);
 *
 *   bbels (eq. 41), n = 8, r = 2:            els valid, n = 6, r = 1:
 *
 *     k 0 1 2 3 4 5 6 7                        k 0 1 2 3 4 5
 *   i 0 x                                    i 0   x x x x
 *     1   x                                    1   x x x x
 *     2     x x x x      interior rows         2   x x x x      every query,
 *     3     x x x x      take any              3   x x x x      sources whose patch
 *     4     x x x x      interior row          4   x x x x      is wholly inside
 *     5     x x x x                            5   x x x x
 *     6             x
 *     7               x  edge rows only themselves
 *
 * Rows and columns are independent: the candidates of a pixel are the product of both axes.
 */
#ifndef ELS_GEOMETRY_H
#define ELS_GEOMETRY_H

#include <stdint.h>

#include "els/machine.h"

/* Queries query … query+count−1 pair with sources source … source+count−1. */
struct els_run {
    int query, source, count;
};

struct els_runs {
    struct els_run *run; /* ascending displacement source − query */
    int count;
};

/* The sources that query i of an axis may take, as the half-open range [*from, *to). */
void els_sources_of(enum els_machine machine, enum els_candidates candidates, int n, int r, int i,
                    int *from, int *to);

/* Every pair (i, k) with i in [query_from, query_to), once. 0 or ELS_ENOMEM. */
int els_runs_new(struct els_runs *out, enum els_machine machine, enum els_candidates candidates,
                 int n, int r, int query_from, int query_to);
void els_runs_deinit(struct els_runs *runs);

/* Pairs along the axis: Σ count. */
int64_t els_runs_pairs(const struct els_runs *runs);

/* Queries of an axis that share their sources: for bbels the interior, and each edge position. */
struct els_class {
    int query, queries;
    int source, sources;
};

/*
 * The classes of an axis, ascending, into out[most]. Their number; most + 1 when there are more.
 */
int els_classes_of(enum els_machine machine, enum els_candidates candidates, int n, int r,
                   struct els_class *out, int most);

/* Do windows of x (and of y) wrap around the image, rather than being clipped at its border? */
int els_machine_wraps(enum els_machine machine);

#endif
