/*
 * From window sums to the sums of the softmax: distances from the floor, their weights, and floors
 * that have fallen behind. See kernel/sweep.h, which includes it.
 */
#ifndef ELS_KERNEL_WEIGH_H
#define ELS_KERNEL_WEIGH_H

#include "core/kernel/block.h"
#include "core/kernel/softmax.h"

/* ---- logits ---- */

/*
 * D = R − bias − floor, the distance of LANES logits from the floor. Two planes: high·2^bits + low;
 * the high part is held within ±2^30, which is far outside what counts. at: the source, counted
 * in lanes.
 */
INLINE vi above_floor(const struct block *b, const struct row *r, int planes, const vi *R,
                      ptrdiff_t at, const vi *floor)
{
    vi high = v_sub(v_sub(R[0], v_load(r->bias[0] + at)), floor[0]), low, bound;

    if (planes == 1 || MOST_PLANES == 1)
        return high;
    low = v_sub(v_sub(R[1], v_load(r->bias[1] + at)), floor[1]);
    bound = v_set_int(1 << (30 - b->head->bits));
    high = v_max_int(v_min_int(high, bound), v_sub(v_set_int(0), bound));
    return v_add_int(v_shift_left(high, v_set_int(b->head->bits)), low);
}

INLINE void load_floor(const struct block *b, const struct row *r, int planes, int j, vi *floor)
{
    int64_t f = r->floor[j], high = f >> b->head->bits;

    floor[0] = v_set_int((int32_t)(planes == 1 ? f : high));
    if (planes == 2)
        floor[1] = v_set_int((int32_t)(f - high * ((int64_t)1 << b->head->bits)));
}

/*
 * The distances of query j, number b of its bundle, R being its window sums. What is below the
 * floor, or no candidate, counts as on the floor.
 */
INLINE void distances(const struct block *of, const struct row *r, struct kind v, enum shape shape,
                      int b, int j, vi (*R)[2], vi *d)
{
    const int32_t *allow = anchored(of->allow + (ptrdiff_t)j * of->slots);
    vi floor[2];

    load_floor(of, r, v.planes, j, floor);
    UNROLL
    for (int k = 0; k < v.n; k++) {
        vi D = v_set_int(0);

        if (takes(shape, v.n, b, k))
            D = above_floor(of, r, v.planes, R[k], (ptrdiff_t)(j + k) * LANES, floor);
        if (shape == ANY || shape == ONE)
            D = v_and(D, v_set_int(allow[k]));
        d[k] = v_max_int(D, v_set_int(0));
    }
}

/* ---- the softmax ---- */

/* Adds Σ w·(l − m) of n candidates of query j to u. */
INLINE void add_entropy(const struct block *of, const struct row *r, int n, int j, const vi *d,
                        const vf *weight)
{
    float *u = r->sum + (ptrdiff_t)((j + 1) * of->sums - LANES);
    vf sum = v_load_float(u), unit = v_set((float)of->head->unit);

    UNROLL
    for (int k = 0; k < n; k++)
        sum = v_fma(weight[k], v_fma(v_to_float(d[k]), unit, v_set((float)M_LN2)), sum);
    v_store_float(u, sum);
}

/* Adds the weights of query j's candidates to s, v and u. */
INLINE void weigh(const struct block *of, const struct row *r, struct kind v, enum shape shape,
                  int b, int j, const vi *d)
{
    float *sum = anchored_floats(r->sum + (ptrdiff_t)j * of->sums);
    const float *centre = anchored_floats(r->centre + (ptrdiff_t)(j * v.channels) * LANES);
    vf weight[BLOCK] = {v_set(0)}, total = v_load_float(sum);

    UNROLL
    for (int k = 0; k < v.n; k++) {
        if (!takes(shape, v.n, b, k))
            continue;
        weight[k] = weight_of(weight_bits(of->head, d[k]));
        total = v_add(total, weight[k]);
    }
    v_store_float(sum, total);
    for (int c = 0; c < v.channels; c++) {
        vf mean = v_load_float(sum + (1 + c) * LANES);

        UNROLL
        for (int k = 0; k < v.n; k++)
            if (takes(shape, v.n, b, k))
                mean = v_fma(weight[k], v_load_float(centre + (k * v.channels + c) * LANES), mean);
        v_store_float(sum + (1 + c) * LANES, mean);
    }
    if (v.entropy)
        add_entropy(of, r, v.n, j, d, weight);
}

/*
 * Raises the floor of query j until no D is too high, and adds the weights. Rare: the window is
 * looked up anew.
 */
static void settle(const struct block *of, const struct row *r, int planes, int j)
{
    const struct els_sweep *s = of->s;
    const struct kind v = {of->n, planes, s->shape.c, s->entropy};
    int32_t top, d[BLOCK * LANES];
    vi R[BLOCK][2], D[BLOCK];

    window_of(of, planes, j, R);
    for (;;) {
        distances(of, r, v, ONE, 0, j, R, D);
        for (int k = 0; k < of->n; k++)
            v_store(d + k * LANES, D[k]);
        top = 0;
        for (int k = 0; k < of->n * LANES; k++)
            top = d[k] > top ? d[k] : top;
        if (top < of->head->alive)
            break;
        raise_floor(s, of->head, &r->m[j], &r->floor[j], r->sum + (ptrdiff_t)j * of->sums, top);
    }
    weigh(of, r, v, ONE, 0, j, D);
}

#endif
