/*
 * The softmax of the integer kernels: a distance D from a query's floor becomes a weight, and a
 * floor that has fallen behind is raised. Included by a kernel after its vector operations.
 */
#ifndef ELS_KERNEL_SOFTMAX_H
#define ELS_KERNEL_SOFTMAX_H

#include <math.h>

#include "core/kernel/kernel.h"

enum { ALIVE_BITS = 6 }; /* log2 units from a floor: weights lie between 2·2^0 and 2·2^64 */

/* How a noisy image is held in integers, and what their sums mean: a query begins with it. */
struct query_header {
    int planes;
    int bits;       /* one plane: of x in the second number of a pair; two: of the low part of D */
    int fraction;   /* k: D counts 2^−k log2 units; or where that is no power of two, */
    int factor;     /* D counts factor·2^−23 of them */
    int64_t alive;  /* a floor that any D has passed so far is raised */
    int shift;      /* column sums are finer than D by this many bits */
    double unit;    /* of D, in nats */
    double per_one; /* xi = x·per_one */
    double bias;    /* times Σ(2u − 255)² is the bias in D's units */
    int64_t cut;    /* from the floor to the reference */
};

enum { HEADER_BYTES = 128 };

/* The weights' unit: w = 2·2^(D·2^−k) = e^(l − m), D = l − floor in integers. */
static double floor_to_m(const struct query_header *head, int64_t floor)
{
    return (double)floor * head->unit - M_LN2;
}

static void set_floor(const struct query_header *head, struct els_lanes *lanes, size_t q,
                      int64_t floor)
{
    lanes->floor[q] = floor;
    lanes->m[q] = floor_to_m(head, floor);
}

/*
 * After a flush: raises the floor of pixel q to `cut` below ln Σ e^l, for that is what a skipped
 * candidate competes with.
 */
static void follow_total(const struct query_header *head, struct els_lanes *lanes, size_t q)
{
    int64_t least;

    if (lanes->log_total[q] == -INFINITY)
        return;
    least = (int64_t)(lanes->log_total[q] / head->unit) - head->cut;
    set_floor(head, lanes, q, least > lanes->floor[q] ? least : lanes->floor[q]);
    lanes->log_total[q] = -INFINITY;
}

/*
 * 2·2^E for 0 ≤ E < 64, bits = E·2^23: its whole part lies in a float's exponent. So bits + v(f)
 * are the weight's bits, f the fraction and v = 2^f + 1 − f, which lies in (1.9, 2]: a polynomial,
 * within 3e-6 of 2^f.
 */
INLINE vf weight_of(vi bits)
{
    vf f = v_mantissa(bits); /* 1 + f */
    vf v = v_set(1.353416792e-2f);

    v = v_fma(v, f, v_set(-2.125211054e-3f));
    v = v_fma(v, f, v_set(1.666133826e-1f));
    v = v_fma(v, f, v_set(-6.879839691e-1f));
    v = v_fma(v, f, v_set(2.509964223f));
    return v_as_float(v_add_int(v_as_int(v), bits));
}

/*
 * Raises the floor of a query so that D = top falls to the reference, and rescales its sums
 * [slots, LANES].
 */
static void raise_floor(const struct els_sweep *s, const struct query_header *head, double *m,
                        int64_t *floor, float *sum, int64_t top)
{
    int64_t by = top - head->cut;
    double nats = (double)by * head->unit;
    float keep = (float)exp(-nats), *u = sum + (s->slots - 1) * LANES;

    for (int l = 0; s->entropy && l < LANES; l++)
        u[l] -= (float)nats * sum[l];
    for (int k = 0; k < s->slots * LANES; k++)
        sum[k] *= keep;
    *floor += by;
    *m = floor_to_m(head, *floor);
}

#endif
