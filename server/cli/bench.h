/*
 * bench: inside `els bench`: what its parts share: bench.c (the command), bench_steps.c (one evaluation) and
 * bench_samples.c (whole reverse processes).
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <jansson.h>
#include <stdint.h>
#include <time.h>

#include "els/bank.h"
#include "els/error.h"

struct bench {
    const char *data;   /* the folder of real data sets, or NULL */
    int64_t threads;    /* the most to try; 0: one per core */
    int json, quick;
    json_t *root; /* kernels, whole, samples, steps, scaling: arrays of objects */
};

/* The scale and the time at which the published schedules use it. */
struct bench_point {
    int p;
    double t;
};

enum { BENCH_POINTS = 5 };

extern const struct bench_point bench_grey_points[BENCH_POINTS], bench_colour_points[BENCH_POINTS];

double bench_seconds(clockid_t clock);
/* Is it to be told in words, not as JSON? */
int bench_says(const struct bench *b);

/* Every kernel, each scale; and the machines that weigh whole images. One thread, on the built-in banks. */
int bench_kernels(struct bench *b, const struct els_bank *grey, const struct els_bank *colour, struct els_error *err);
int bench_whole_images(struct bench *b, const struct els_bank *grey, const struct els_bank *colour,
                       struct els_error *err);
void bench_steps_heading(const struct bench *b);
/* The kernel that is chosen, each scale, over the whole bank. One thread. */
int bench_steps(struct bench *b, const struct els_bank *bank, const struct bench_point *points, struct els_error *err);

/* Reverse processes and single steps on one thread, on the built-in banks and on real data where there is some. */
int bench_samples(struct bench *b, struct els_bank *grey, struct els_bank *colour, struct els_error *err);
/* One reverse process over 1, 2, 4 … threads. */
int bench_scaling(struct bench *b, struct els_bank *bank, struct els_error *err);

#endif
