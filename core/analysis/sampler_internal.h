/*
 * sampler_internal: what the two halves of a sampler share: sampler.c makes it, sampler_step.c moves it.
 */
#ifndef ELS_SAMPLER_INTERNAL_H
#define ELS_SAMPLER_INTERNAL_H

#include "els/sampler.h"

struct els_sampler {
    struct els_bank *bank;
    int64_t *images; /* the selection */
    int64_t num_bank_images;
    enum els_machine machine;
    enum els_candidates candidates;
    enum els_sampler_kind kind;
    double tolerance;
    struct els_shape shape;
    int64_t num_images;
    int n;         /* num_inference_steps */
    int num_steps; /* S */
    int next;
    double *alpha_bar;       /* [n+1] */
    double *beta;            /* [n+1] */
    int *p;                  /* [n+1]; 0 for is and es */
    struct els_noise *noise; /* [num_images], as x_T left them */
    float *x, *x0;           /* [num_images,C,H,W] */
    float *entropy;          /* [num_images,H,W] or NULL */
    float *z;                /* [C,H,W], DDPM only */
    double certified_error;
};

#endif
