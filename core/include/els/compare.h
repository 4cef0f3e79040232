/*
 * compare: how well a machine's images agree with a network's, drawn from the same noise.
 *
 *     struct els_comparison c = {0};
 *     if (els_compare(&c, network, theory, ideal, 24, shape, NULL, &err) < 0)   // each [24,C,H,W]
 *         …
 *     printf("median r %.3f (95 %%: %.3f to %.3f), beats is on %.0f %%\n", c.summary.plain.pearson_r.median,
 *            c.summary.plain.pearson_r.low, c.summary.plain.pearson_r.high, 100 * c.beats_is);
 *     els_compare_sheet(&sheet, network, theory, ideal, 24, shape);        // a picture: network | theory | ideal
 *     els_comparison_deinit(&c);
 *
 * Over all n = C·H·W values of one image, f the network's (the reference) and g the machine's:
 *
 *     pearson_r          Σ (f−f̄)(g−ḡ) / √(Σ (f−f̄)² · Σ (g−ḡ)²)      0 where f or g is constant
 *     pearson_r_squared  its square
 *     r2_score           1 − Σ (f−g)² / Σ (f−f̄)²                      where f is constant: 1 when g = f, else 0
 *     mse                Σ (f−g)² / n
 *
 * The literature calls the first three "r²" alike; here they keep their names. Each comes twice: of the values as they
 * are, and with both sides clamped to [−1,1], as a picture shows them. All in float64.
 */
#ifndef ELS_COMPARE_H
#define ELS_COMPARE_H

#include "els/api.h"
#include "els/engine.h"
#include "els/picture.h"

ELS_BEGIN_DECLS

enum { ELS_MAX_COMPARED = 10000, ELS_BOOTSTRAP_RESAMPLES = 5000 };

struct els_agreement {
    double pearson_r, pearson_r_squared, r2_score, mse;
};

/* One image's. */
struct els_compared {
    struct els_agreement plain, clamped;
};

/* Of one metric over images: low to high is the 95 % percentile bootstrap interval of the median
 * (ELS_BOOTSTRAP_RESAMPLES resamples of the images, from a fixed seed: the same numbers every time). */
struct els_spread {
    double median, mean, low, high;
};

struct els_spreads {
    struct els_spread pearson_r, pearson_r_squared, r2_score, mse;
};

struct els_compared_summary {
    struct els_spreads plain, clamped;
};

struct els_comparison {
    int64_t n;
    struct els_compared *machine;             /* [n] */
    struct els_compared *is;                  /* [n] the machine `is` against the network; NULL when not given */
    struct els_compared_summary summary, is_summary; /* is_summary is zero without `is` */
    double beats_is; /* share of images whose pearson_r (as they are) exceeds that of `is`, 0…1; 0 without it */
};

/* The metrics of one image of n ≥ 1 finite values against the reference. */
ELS_API struct els_compared els_compare_one(const float *image, const float *reference, size_t n);

/*
 * network, machine and ideal: [n,C,H,W]; ideal may be NULL. n: 1…ELS_MAX_COMPARED. ELS_EINVAL names the tensor with a
 * value that is not finite: "images" (the network's), "machine" or "is"; ELS_ENOMEM; ELS_ECANCELLED. On success free *out with
 * els_comparison_deinit; on failure it is untouched.
 */
ELS_API int els_compare(struct els_comparison *out, const float *network, const float *machine, const float *ideal,
                        int64_t n, struct els_shape shape, const struct els_progress *progress, struct els_error *err);
ELS_API void els_comparison_deinit(struct els_comparison *c);

/* The i-th metric by its name in the HTTP contract, NULL past the end, and its value (or spread). */
ELS_API const char *els_metric_name(int i);
ELS_API double els_metric_of(const struct els_agreement *a, int i);
ELS_API const struct els_spread *els_metric_spread(const struct els_spreads *s, int i);

/* One row per image: network | machine | ideal (left out when NULL). ELS_ELIMIT when it is too large a picture. */
ELS_API int els_compare_sheet(struct els_picture *out, const float *network, const float *machine, const float *ideal,
                              int64_t n, struct els_shape shape);

ELS_END_DECLS

#endif
