/*
 * posterior: the sum over candidates as a monoid, one element per pixel.
 *
 *     (m, s, u, v)   m a reference logit,  s = Σ e^(l−m),  u = Σ e^(l−m)·(l−m),
 *                    v_ch = Σ e^(l−m)·y_ch
 *
 * over any set of candidates with logits l = −‖x_Ω − a·y_c‖²/2β (a constant per pixel may be left
 * out) and centre values y. Two disjoint sets merge exactly; the empty set (s = 0) is the neutral
 * element. Then
 *
 *     x̂0 = v/s,   entropy = ln s − u/s   (nats),   effective number of candidates = exp(entropy)
 *
 * Threads, bank shards and progressive refinement are all merges of it. Addition of floating-point
 * numbers does not associate, so whoever wants the same bytes merges in a fixed order.
 */
#ifndef ELS_POSTERIOR_H
#define ELS_POSTERIOR_H

#include <stddef.h>

#include "els/error.h"

struct els_posterior {
    size_t pixels;
    int channels;
    double *m; /* [pixels] */
    double *s; /* [pixels] */
    double *u; /* [pixels] */
    double *v; /* [pixels,channels] */
};

/* The neutral element at every pixel. 0 or ELS_ENOMEM. */
int els_posterior_init(struct els_posterior *p, size_t pixels, int channels);
void els_posterior_deinit(struct els_posterior *p);
/* Bytes that one element of that size takes. */
size_t els_posterior_bytes(size_t pixels, int channels);

/* Adds a set of candidates, given as its sums relative to m, to pixel q. */
void els_posterior_add(struct els_posterior *p, size_t q, double m, double s, double u,
                       const double *v);
/* Adds all of `from` (the same pixels and channels) pixel by pixel. */
void els_posterior_merge(struct els_posterior *into, const struct els_posterior *from);

/* x̂0 of pixel q, channel c. The posterior there must not be empty. */
double els_posterior_mean(const struct els_posterior *p, size_t q, int c);
/* Entropy of the weights at pixel q, nats, ≥ 0. */
double els_posterior_entropy(const struct els_posterior *p, size_t q);

#endif
