/*
 * mosaic: where every pixel comes from.
 *
 *     struct els_evaluation e = {…};                        // one noisy image, one P: see engine.h
 *     struct els_mosaic *mosaic = NULL;
 *     if (els_mosaic_new(&mosaic, &e, 4, pool, NULL, &err) < 0)
 *         …
 *     for (int k = 0; k < mosaic->top; k++) {
 *         const struct els_candidate *c = els_mosaic_at(mosaic, i, j, k);
 *         printf("%.3f of pixel (%d,%d) is image %lld, (%d,%d)\n", c->weight, i, j, (long long)c->image,
 *                c->row, c->column);
 *     }
 *     mosaic = els_mosaic_free(mosaic);
 *
 * Of a sampler's image: els_sampler_evaluation gives the evaluation of the step that runs next, so the mosaic of an
 * image is that of its last step, taken before els_sampler_step runs it.
 *
 * Every machine's x̂0(q) = Σ_c w_c(q)·y_c(centre) is a mean of training pixels (machine.h). The mosaic names the
 * candidates c of each pixel q that weigh most. At low noise nearly all weight is on one of them, and the image falls
 * into regions that were cut from one training image at one displacement: the locally consistent patch mosaic.
 *
 * Order: weight descending, which is ‖x_Ω(q) − a·y_c‖² ascending, in float64 and summed as the definition
 * says (els_evaluate_plain), so equal patches tie exactly; ties by image, row, column. For is and es, whose
 * candidates are whole images, (row, column) of a tie is that of the pixel that meets pixel (0,0), and every pixel
 * has the same candidates in the same order.
 *
 * Weights and entropies are sums over all candidates in float64; their relative error is below 1e-9 for β ≥ 1e-4
 * (below it the rounding of distances, about 1e-13 of one, is divided by ever smaller 2β).
 */
#ifndef ELS_MOSAIC_H
#define ELS_MOSAIC_H

#include "els/api.h"
#include "els/engine.h"

ELS_BEGIN_DECLS

enum { ELS_MAX_TOP = 64 };

struct els_candidate {
    int64_t image;   /* bank index; −1 where a pixel has fewer candidates than asked for (the weight is 0) */
    int row, column; /* of the training pixel: the centre of its patch */
    double weight;   /* of all candidates' weights, which add up to 1 */
};

struct els_mosaic {
    int height, width, top;
    struct els_candidate *candidate; /* [H,W,top], heaviest first */
    double *entropy;                 /* [H,W] −Σ w·ln w over all candidates, nats; exp of it is their effective number */
    int *region;                     /* [H,W] 0…num_regions−1, numbered in the order of their first pixels */
    int num_regions;
    int wraps; /* patches wrap around: displacements count modulo H and W */
};

/*
 * The mosaic of x̂0 for e->x, which must be one image [C,H,W] (batch 1) at one P. top: 1…ELS_MAX_TOP candidates per
 * pixel. e->tolerance is not read: a mosaic is exact. ELS_EINVAL names the field at fault; ELS_ENOMEM; ELS_ECANCELLED
 * when the progress callback says so. The same result for any number of threads and for every kernel.
 *
 * Regions: 4-connected pixels whose heaviest candidates come from the same image at the same displacement (row − i,
 * column − j), which is taken modulo H and W where patches wrap around (es, and els with wrapped candidates).
 */
ELS_API int els_mosaic_new(struct els_mosaic **out, const struct els_evaluation *e, int top, struct els_pool *pool,
                           const struct els_progress *progress, struct els_error *err);
/* NULL is fine. Returns NULL. */
ELS_API struct els_mosaic *els_mosaic_free(struct els_mosaic *mosaic);

/* Candidate k < top of pixel (i,j). */
ELS_API const struct els_candidate *els_mosaic_at(const struct els_mosaic *mosaic, int i, int j, int k);

/* The memory that els_mosaic_new takes with so many threads, and what follows from a mosaic: consistency, the nearest
 * image. */
ELS_API size_t els_mosaic_memory(const struct els_evaluation *e, int top, int threads);

ELS_END_DECLS

#endif
