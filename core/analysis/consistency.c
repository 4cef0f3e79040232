/*
 * Local consistency (Theorem 4.1) and the nearest training image: two questions to a scan for the one nearest
 * candidate, of the finished image itself (a = 1) rather than of a noisy one. Called by the thread that owns the
 * image; the scan spreads over the pool. Holds no state.
 */
#include "els/consistency.h"

#include <math.h>
#include <stdlib.h>

#include "core/engine/evaluation.h"
#include "core/scan/scan.h"
#include "els/mem.h"

/* Checks what a scan relies on, as an evaluation whose noise level is of no matter. */
static int check(const struct els_evaluation *last, const float *image, struct els_error *err)
{
    struct els_evaluation e = *last;

    e.alpha_bar = 0.5;
    e.beta = 0.5;
    e.tolerance = 0;
    e.batch = 1;
    e.x = image;
    if (els_machine_uses_p(e.machine) && e.num_p != 1)
        return els_fail(err, ELS_EINVAL, "p", "p lists %d scales; 1 is needed.", e.num_p);
    e.num_p = 1;
    return els_evaluation_check(&e, err);
}

/* Is pixel `at` of the image the centre of the candidate that was found for it? */
static int is_centre(const struct els_found *found, int shared, struct els_shape shape,
                     const float *image, int at, const float *source)
{
    int row = found->row, column = found->column, plane = shape.h * shape.w;

    if (shared) {
        row = (row + at / shape.w) % shape.h;
        column = (column + at % shape.w) % shape.w;
    }
    for (int c = 0; c < shape.c; c++) {
        double gap =
            (double)image[c * plane + at] - (double)source[c * plane + row * shape.w + column];

        if (!(fabs(gap) <= ELS_CONSISTENCY_TOLERANCE))
            return 0;
    }
    return 1;
}

static int count_consistent(double *share, const struct els_evaluation *last,
                            const struct els_scan *scan, const float *image)
{
    struct els_shape shape = els_bank_info(last->bank)->shape;
    int pixels = shape.h * shape.w, shared = !els_machine_uses_p(last->machine), consistent = 0;
    _cleanup_(els_freep) float *source = els_alloc_array(els_shape_values(shape), sizeof(*source));
    int32_t loaded = -1;

    if (!source)
        return ELS_ENOMEM;
    for (int at = 0; at < pixels; at++) {
        const struct els_found *found = &scan->found[shared ? 0 : at];

        if (found->image != loaded)
            els_bank_image(last->bank, found->image, source);
        loaded = found->image;
        consistent += is_centre(found, shared, shape, image, at, source);
    }
    *share = (double)consistent / pixels;
    return 0;
}

int els_local_consistency(double *share, const struct els_evaluation *last, const float *image,
                          struct els_pool *pool, const struct els_progress *progress,
                          struct els_error *err)
{
    struct els_scan scan = {0};
    struct els_scan_question q = {
        .bank = last->bank,
        .images = last->images,
        .num_images = last->num_images,
        .machine = last->machine,
        .candidates = last->candidates,
        .p = els_machine_uses_p(last->machine) ? last->p[0] : 1,
        .a = 1,
        .x = image,
        .top = 1,
    };
    int r = check(last, image, err);

    if (r < 0)
        return r;
    r = els_scan_run(&scan, &q, pool, progress);
    if (r == 0)
        r = count_consistent(share, last, &scan, image);
    els_scan_deinit(&scan);
    return r < 0 ? els_fail(err, r, NULL, "The local consistency failed: %s.", els_status_text(r))
                 : 0;
}

int els_nearest_image(struct els_nearest *out, const struct els_bank *bank, const int64_t *images,
                      int64_t num_images, const float *x, struct els_pool *pool,
                      const struct els_progress *progress, struct els_error *err)
{
    struct els_evaluation e = {
        .bank = bank, .images = images, .num_images = num_images, .machine = ELS_MACHINE_ES};
    struct els_scan_question q = {.bank = bank,
                                  .images = images,
                                  .num_images = num_images,
                                  .machine = ELS_MACHINE_ES,
                                  .a = 1,
                                  .x = x,
                                  .top = 1};
    struct els_scan scan = {0};
    int r = check(&e, x, err);

    if (r < 0)
        return r;
    r = els_scan_run(&scan, &q, pool, progress);
    if (r < 0)
        return els_fail(err, r, NULL, "The search for the nearest image failed: %s.",
                        els_status_text(r));
    *out = (struct els_nearest){
        .image = scan.found->image,
        .dy = scan.found->row,
        .dx = scan.found->column,
        .distance =
            sqrt(scan.found->distance / (double)els_shape_values(els_bank_info(bank)->shape)),
    };
    els_scan_deinit(&scan);
    return 0;
}
