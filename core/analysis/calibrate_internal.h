/*
 * calibrate_internal: what the two halves of a calibration share: calibrate.c measures the curves, calibrate_fit.c
 * reads schedules off them.
 */
#ifndef ELS_CALIBRATE_INTERNAL_H
#define ELS_CALIBRATE_INTERNAL_H

#include "els/calibrate.h"

struct els_calibration {
    struct els_calibration_spec spec;
    struct els_bank *bank;
    int64_t *images, num_images; /* the selection */
    struct els_shape shape;
    size_t values;            /* C·H·W */
    int64_t at_once;          /* seeds per evaluation */
    double *alpha_bar, *beta; /* [T] */
    double *cosine, *l2;      /* [S,T,K] */
    float *x, *answer;        /* [at_once,C,H,W], [K,at_once,C,H,W] */
    int next;
};

#endif
