/*
 * What a scan remembers per pixel: the nearest candidates in a sorted list, and the sums of the weights (the
 * monoid of posterior.h, with distances in place of logits so that nothing is lost where β is small). Called by a
 * scan's workers, each on its own part, and by the thread that merges them.
 *
 * Always holds: a list is sorted, its unused end has image −1 and an infinite distance; limit is the last entry's
 * distance plus the slack of fast distances.
 */
#include <math.h>
#include <string.h>

#include "scan_internal.h"

/* e^−60 of the heaviest weight: 1e11 such candidates together stay below 1e-15. */
#define NEGLIGIBLE 60.0

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

void els_scan_keep(const struct els_scan_plan *plan, struct els_scan_part *part, size_t q,
                   const struct els_found *candidate)
{
    int top = plan->q->top, at = top - 1;
    struct els_found *list = part->found + q * (size_t)top;

    if (!els_found_precedes(candidate, &list[at]))
        return;
    for (; at > 0 && els_found_precedes(candidate, &list[at - 1]); at--)
        list[at] = list[at - 1];
    list[at] = *candidate;
    part->limit[q] = list[top - 1].distance + plan->slack;
}

/*
 * e^z for −700 ≤ z ≤ 0, without a branch so that the compiler can run several at once. e^z = 2^k·e^r with |r| ≤
 * ln2/2; ten terms of e^r leave 3e-13.
 */
static inline double exp_of(double z)
{
    static const double MAGIC = 0x1.8p52, LOG2E = 0x1.71547652b82fep0;
    /* ln 2 in two parts, the first with zeros at its end: k times it is exact. */
    static const double LN2_HIGH = 0x1.62e42fefa3800p-1, LN2_LOW = 0x1.ef35793c76730p-45;
    double shifted = z * LOG2E + MAGIC, k = shifted - MAGIC;
    double r = (z - k * LN2_HIGH) - k * LN2_LOW, e, power;
    uint64_t bits;

    e = 1.0 / 3628800;
    e = e * r + 1.0 / 362880;
    e = e * r + 1.0 / 40320;
    e = e * r + 1.0 / 5040;
    e = e * r + 1.0 / 720;
    e = e * r + 1.0 / 120;
    e = e * r + 1.0 / 24;
    e = e * r + 1.0 / 6;
    e = e * r + 0.5;
    e = e * r + 1.0;
    e = e * r + 1.0;
    /* The low bits of `shifted` hold k: moved into the exponent field, they make 2^k of 1. */
    memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits << 52) + 0x3ff0000000000000u;
    memcpy(&power, &bits, sizeof(power));
    return e * power;
}

/* Makes `least` the reference of pixel q's sums. */
static void refer_to(const struct els_scan_plan *plan, struct els_scan_part *part, size_t q,
                     double least)
{
    if (part->s[q] > 0) {
        double shift = (least - part->least[q]) * plan->inverse, keep = exp(shift);

        part->u[q] = keep * (part->u[q] + shift * part->s[q]);
        part->s[q] *= keep;
    }
    part->least[q] = least;
    part->near[q] = least + NEGLIGIBLE / plan->inverse;
}

static void add_weights(double *restrict s, double *restrict u, const double *least,
                        const double *d, int n, double inverse)
{
    for (int i = 0; i < n; i++) {
        double z = (least[i] - d[i]) * inverse, weight;

        z = z > -700.0 ? z : -700.0;
        weight = exp_of(z);
        s[i] += weight;
        u[i] += weight * z;
    }
}

void els_scan_weigh(const struct els_scan_plan *plan, struct els_scan_part *part, size_t q,
                    const double *d, int n)
{
    const double *near = part->near + q, *least = part->least + q;
    int64_t any = 0, nearer = 0;

    for (int i = 0; i < n; i++) {
        any |= d[i] < near[i];
        nearer |= d[i] < least[i];
    }
    if (!any)
        return;
    for (int i = 0; nearer && i < n; i++)
        if (d[i] < least[i])
            refer_to(plan, part, q + (size_t)i, d[i]);
    add_weights(part->s + q, part->u + q, least, d, n, plan->inverse);
}

static void merge_sums(const struct els_scan_plan *plan, struct els_scan_part *into,
                       const struct els_scan_part *from, size_t q)
{
    double shift;

    if (from->s[q] == 0)
        return;
    if (into->s[q] == 0 || from->least[q] < into->least[q])
        refer_to(plan, into, q, from->least[q]);
    shift = (into->least[q] - from->least[q]) * plan->inverse;
    into->u[q] += exp(shift) * (from->u[q] + shift * from->s[q]);
    into->s[q] += exp(shift) * from->s[q];
}

void els_scan_merge(const struct els_scan_plan *plan, struct els_scan_part *into,
                    const struct els_scan_part *from)
{
    size_t top = (size_t)plan->q->top;

    for (size_t q = 0; q < plan->pixels; q++) {
        for (size_t i = 0; i < top && from->found[q * top + i].image >= 0; i++)
            els_scan_keep(plan, into, q, &from->found[q * top + i]);
        if (plan->inverse > 0)
            merge_sums(plan, into, from, q);
    }
}
