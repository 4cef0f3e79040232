/*
 * scan: the nearest candidates of every pixel, exactly, and the sum of all candidates' weights.
 * Internal to core.
 *
 *     struct els_scan found = {0};
 *     struct els_scan_question q = {
 *         .bank = bank, .images = indices, .num_images = n, .machine = ELS_MACHINE_BBELS, .p = 3,
 *         .a = sqrt(alpha_bar), .beta = beta, .x = x, .top = 8,
 *     };
 *     int r = els_scan_run(&found, &q, pool, progress);
 *     … found.found[q * found.top] is the nearest candidate of pixel q …
 *     els_scan_deinit(&found);
 *
 * The engine sums all candidates and forgets which they were; a scan remembers the `top` nearest
 * ones. Distances are ‖x_Ω − a·y_c‖² in float64 as the plain loop (plain.c) adds them up, value by
 * value, so order and ties are those of the definition. Ties go by image, then row, then column.
 */
#ifndef ELS_SCAN_H
#define ELS_SCAN_H

#include "els/bank.h"
#include "els/machine.h"
#include "els/pool.h"
#include "els/progress.h"

struct els_scan_question {
    const struct els_bank *bank;
    const int64_t *images; /* [num_images] bank indices, ascending */
    int64_t num_images;
    enum els_machine machine;
    enum els_candidates candidates; /* read by els only */
    int p;                          /* odd; ignored by is and es */
    double a;                       /* √ᾱ, in [0,1] */
    double beta;                    /* β of the weights; 0: none are wanted */
    const float *x;                 /* [C,H,W], finite */
    int top;                        /* ≥ 1: how many candidates to remember per pixel */
};

struct els_found {
    double distance; /* ‖x_Ω − a·y_c‖² */
    int32_t image;   /* bank index; −1 where a pixel has fewer than `top` candidates */
    /* Of the patch's centre; for is and es: of the pixel that meets pixel (0,0). */
    int16_t row, column;
};

struct els_scan {
    size_t pixels; /* H·W; 1 for is and es, where all pixels share their candidates */
    int top;
    struct els_found *found; /* [pixels,top], nearest first */
    /* With z = (least − ‖x_Ω − a·y_c‖²)/2β: least is about the least distance, and over all
     * candidates s = Σ e^z, u = Σ e^z·z; unset without weights. */
    double *least, *s, *u; /* [pixels]; one block, `least` first */
};

/* 0, ELS_ENOMEM or ELS_ECANCELLED; *out needs els_scan_deinit only after success. The question is
 * valid. The same bytes for any number of threads. */
int els_scan_run(struct els_scan *out, const struct els_scan_question *q, struct els_pool *pool,
                 const struct els_progress *progress);
/* The memory that els_scan_run takes meanwhile, about, with so many threads. q->x is not looked at. */
size_t els_scan_bytes(const struct els_scan_question *q, int threads);
void els_scan_deinit(struct els_scan *scan);

#endif
