/*
 * The mergeable posterior. Called by the engine's workers, each on its own element, and by the one thread that
 * merges them. Always holds: s ≥ 0, and s = 0 means empty, whatever m is.
 */
#include "core/theory/posterior.h"

#include <math.h>
#include <stdlib.h>

#include "els/mem.h"

size_t els_posterior_bytes(size_t pixels, int channels)
{
    return pixels * (3 + (size_t)channels) * sizeof(double);
}

int els_posterior_init(struct els_posterior *p, size_t pixels, int channels)
{
    /* One block: m, s, u, v. */
    double *block = els_alloc_array(pixels, (3 + (size_t)channels) * sizeof(double));

    if (!block)
        return ELS_ENOMEM;
    *p = (struct els_posterior){
        .pixels = pixels,
        .channels = channels,
        .m = block,
        .s = block + pixels,
        .u = block + 2 * pixels,
        .v = block + 3 * pixels,
    };
    return 0;
}

void els_posterior_deinit(struct els_posterior *p)
{
    free(p->m);
    *p = (struct els_posterior){0};
}

void els_posterior_add(struct els_posterior *p, size_t q, double m, double s, double u,
                       const double *v)
{
    size_t channels = (size_t)p->channels;
    double keep, take, shift_keep, shift_take, top;

    if (s == 0)
        return;
    top = p->s[q] == 0 || m > p->m[q] ? m : p->m[q];
    /* An empty element has an arbitrary m: it must not reach exp(). */
    shift_keep = p->s[q] == 0 ? 0 : p->m[q] - top;
    shift_take = m - top;
    keep = exp(shift_keep);
    take = exp(shift_take);
    /* Σ e^(l−top)(l−top) = e^(m−top)·(u + (m−top)·s) */
    p->u[q] = keep * (p->u[q] + shift_keep * p->s[q]) + take * (u + shift_take * s);
    p->s[q] = keep * p->s[q] + take * s;
    for (size_t c = 0; c < channels; c++)
        p->v[q * channels + c] = keep * p->v[q * channels + c] + take * v[c];
    p->m[q] = top;
}

void els_posterior_merge(struct els_posterior *into, const struct els_posterior *from)
{
    for (size_t q = 0; q < into->pixels; q++)
        els_posterior_add(into, q, from->m[q], from->s[q], from->u[q],
                          from->v + q * (size_t)from->channels);
}

double els_posterior_mean(const struct els_posterior *p, size_t q, int c)
{
    return p->v[q * (size_t)p->channels + (size_t)c] / p->s[q];
}

double els_posterior_entropy(const struct els_posterior *p, size_t q)
{
    double h = log(p->s[q]) - p->u[q] / p->s[q];

    return h > 0 ? h : 0; /* rounding may leave −1e-16 for a single candidate */
}
