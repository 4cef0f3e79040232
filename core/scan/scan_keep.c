/*
 * What a scan remembers per pixel: the nearest candidates in a sorted list, and the sums of the
 * weights (the monoid of posterior.h, with distances in place of logits so that nothing is lost
 * where β is small). Called by a scan's workers, each on its own buffers, and by the thread that
 * merges them.
 *
 * A list belongs to a worker: what is nearest does not depend on who looked first. Sums do, in
 * their last bits, so they belong to a part of the bank, in each lane to every eighth of its
 * images.
 *
 * Always holds: a list is sorted, its unused end has image −1 and an infinite distance; limit is
 * the last entry's distance plus the slack of fast distances.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/scan/scan_internal.h"

/* `least` and `near` before the first candidate, when the lanes' sums mean nothing yet. */
#define UNSET DBL_MAX

enum { LANES = ELS_SCAN_LANES };

int els_found_precedes(const struct els_found *a, const struct els_found *b)
{
    if (a->distance != b->distance)
        return a->distance < b->distance;
    if (a->image != b->image)
        return a->image < b->image;
    if (a->row != b->row)
        return a->row < b->row;
    return a->column < b->column;
}

int els_scan_keep(const struct els_scan_plan *plan, struct els_scan_work *work, size_t q,
                  const struct els_found *candidate)
{
    int top = plan->q->top, at = top - 1;
    struct els_found *list = work->found + q * (size_t)top;

    if (!els_found_precedes(candidate, &list[at]))
        return 0;
    for (; at > 0 && els_found_precedes(candidate, &list[at - 1]); at--)
        list[at] = list[at - 1];
    list[at] = *candidate;
    work->limit[q] = list[top - 1].distance + plan->slack;
    return 1;
}

void els_scan_merge_lists(const struct els_scan_plan *plan, struct els_scan_work *into,
                          const struct els_scan_work *from)
{
    size_t top = (size_t)plan->q->top;

    for (size_t q = 0; q < plan->pixels; q++)
        for (size_t i = 0; i < top && from->found[q * top + i].image >= 0; i++)
            els_scan_keep(plan, into, q, &from->found[q * top + i]);
}

/* ---- weights ---- */

/* Sums that refer to a distance by `shift` = (less − that distance)/2β too large. */
static void rescale(double *s, double *u, double shift)
{
    double keep = exp(shift);

    *u = keep * (*u + shift * *s);
    *s *= keep;
}

/* Makes `least` the reference of pixel q's sums. */
static void refer_to(const struct els_scan_plan *plan, struct els_scan_work *work, size_t q,
                     double least)
{
    double *s = work->s + q * LANES, *u = work->u + q * LANES;

    if (work->least[q] == UNSET) {
        memset(s, 0, LANES * sizeof(*s));
        memset(u, 0, LANES * sizeof(*u));
    } else {
        for (int lane = 0; lane < LANES; lane++)
            rescale(&s[lane], &u[lane], (least - work->least[q]) * plan->inverse);
    }
    work->least[q] = least;
    work->near[q] = least + plan->reach;
}

void els_scan_weigh(const struct els_scan_plan *plan, struct els_scan_work *work, size_t q,
                    const double *d, int n)
{
    if (plan->loops->any_below(d, work->least + q, n))
        for (int i = 0; i < n; i++) {
            double least = INFINITY;

            for (int lane = 0; lane < LANES; lane++)
                least = d[i * LANES + lane] < least ? d[i * LANES + lane] : least;
            if (least < work->least[q + (size_t)i])
                refer_to(plan, work, q + (size_t)i, least);
        }
    plan->loops->add_weights(work->s + q * LANES, work->u + q * LANES, work->least + q,
                             work->near + q, d, n, plan->inverse);
}

void els_scan_clear(const struct els_scan_plan *plan, struct els_scan_work *work)
{
    memset(work->blank_count, 0, plan->pixels * sizeof(*work->blank_count));
    for (size_t q = 0; q < plan->pixels; q++) {
        work->least[q] = UNSET;
        work->near[q] = plan->inverse > 0 ? UNSET : -INFINITY;
    }
}

/* Adds sums that refer to `least`. */
static void add_sums(const struct els_scan_plan *plan, struct els_scan_sums *into, size_t q,
                     double least, double s, double u)
{
    if (s == 0)
        return;
    if (into->s[q] == 0)
        into->least[q] = least;
    if (least < into->least[q]) {
        rescale(&into->s[q], &into->u[q], (least - into->least[q]) * plan->inverse);
        into->least[q] = least;
    }
    rescale(&s, &u, (into->least[q] - least) * plan->inverse);
    into->s[q] += s;
    into->u[q] += u;
}

void els_scan_fold(const struct els_scan_plan *plan, const struct els_scan_work *work,
                   struct els_scan_sums *sums)
{
    for (size_t q = 0; q < plan->pixels; q++) {
        double s = 0, u = 0;

        for (int lane = 0; lane < LANES && work->least[q] < UNSET; lane++) {
            s += work->s[q * LANES + (size_t)lane];
            u += work->u[q * LANES + (size_t)lane];
        }
        add_sums(plan, sums, q, work->least[q], s, u);
        if (work->blank_count[q] > 0)
            add_sums(plan, sums, q, plan->blank[q], work->blank_count[q], 0);
    }
}

void els_scan_merge_sums(const struct els_scan_plan *plan, struct els_scan_sums *into,
                         const struct els_scan_sums *from)
{
    for (size_t q = 0; q < plan->pixels; q++)
        add_sums(plan, into, q, from->least[q], from->s[q], from->u[q]);
}
