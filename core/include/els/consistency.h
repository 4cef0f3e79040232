/*
 * consistency: is a finished image what the theory says it is, and is it new?
 *
 *     struct els_evaluation last = els_sampler_evaluation(sampler);     // before the last step runs
 *     els_sampler_step(sampler, pool, NULL, &err);
 *     double share;
 *     struct els_nearest nearest;
 *     els_local_consistency(&share, &last, els_sampler_x(sampler), pool, NULL, &err);
 *     els_nearest_image(&nearest, last.bank, last.images, last.num_images, els_sampler_x(sampler), pool, NULL, &err);
 *     printf("%.1f %% locally consistent; image %lld moved by (%d,%d) is %.3f away\n", 100 * share,
 *            (long long)nearest.image, nearest.dy, nearest.dx, nearest.distance);
 *
 * Local consistency (Theorem 4.1): as t → 0, every pixel becomes the centre of the candidate patch that is nearest to
 * the image's own patch around that pixel. How far a finite number of steps got is the share of pixels for which
 * this holds already.
 *
 * The nearest training image, over all circular translations, shows memorisation where there is any: an image that an
 * equivariant machine has copied from the training set, moved or not, is at distance 0.
 */
#ifndef ELS_CONSISTENCY_H
#define ELS_CONSISTENCY_H

#include "els/api.h"
#include "els/engine.h"

ELS_BEGIN_DECLS

/* Every channel of a consistent pixel is this near to the patch's centre, of a range from −1 to 1. */
#define ELS_CONSISTENCY_TOLERANCE 0.02

/*
 * The share of pixels, 0…1, of a finished image [C,H,W] that are within ELS_CONSISTENCY_TOLERANCE, in every channel, of
 * the centre of the nearest candidate patch: argmin_c ‖image_Ω − y_c‖² (a = 1; float64; ties by image, row, column).
 * Of the evaluation `last` only bank, images, machine, candidates and P (one) are read: those of the sampler's last
 * step. For is and es the patches are whole images. ELS_EINVAL names the field; ELS_ENOMEM; ELS_ECANCELLED. The same
 * result for any number of threads.
 */
ELS_API int els_local_consistency(double *share, const struct els_evaluation *last, const float *image,
                                  struct els_pool *pool, const struct els_progress *progress, struct els_error *err);

struct els_nearest {
    int64_t image;   /* bank index */
    int dy, dx;      /* image(i,j) lies on y((i+dy) mod H, (j+dx) mod W); 0 ≤ dy < H, 0 ≤ dx < W */
    double distance; /* √(Σ (image − y)² / C·H·W), in [−1,1] values */
};

/* The nearest of the images [num_images] (ascending bank indices) over all circular translations; ties by image, dy,
 * dx. x: [C,H,W], finite. The same errors. */
ELS_API int els_nearest_image(struct els_nearest *out, const struct els_bank *bank, const int64_t *images,
                              int64_t num_images, const float *x, struct els_pool *pool, const struct els_progress *progress,
                              struct els_error *err);

ELS_END_DECLS

#endif
