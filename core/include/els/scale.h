/*
 * scale: the locality scale P(t): an odd window side for every time.
 *
 *     struct els_scales scales = {0};
 *     els_scales_parse(&scales, "mnist-resnet-zeros", &err);  // or "3,3,5,7" or "9"
 *     int p = els_scales_at(&scales, 0.35);
 *     els_scales_deinit(&scales);
 *
 * Keyed by t, so a schedule serves any number of steps: the nearest t counts, and of two
 * within 1e-9 the larger. A plain list of n entries means: entry i is used at t = i/n.
 */
#ifndef ELS_SCALE_H
#define ELS_SCALE_H

#include "els/api.h"
#include "els/error.h"

ELS_BEGIN_DECLS

enum { ELS_MAX_SCALES = 10000, ELS_MAX_P = 2047, ELS_PRESET_LENGTH = 20 };

struct els_scales {
    int n;
    double *t;   /* [n], strictly ascending, in [0,1] */
    int *p;      /* [n], odd, 1…ELS_MAX_P */
    int is_list; /* made from a plain list: n is also its natural num_inference_steps */
};

/* Copies; t may be in any order (sorted here); duplicates, even p, ranges: ELS_EINVAL. */
ELS_API int els_scales_from_pairs(struct els_scales *out, int n, const double *t, const int *p,
                                  struct els_error *err);
/* Entry i at t = i/n. */
ELS_API int els_scales_from_list(struct els_scales *out, int n, const int *p, struct els_error *err);
/* The same P at every t (n = 1). */
ELS_API int els_scales_constant(struct els_scales *out, int p, struct els_error *err);
/* A preset's name, one odd integer, a comma-separated list, or JSON: [3,5,…] or {"t":[…],"p":[…]}
 * (what a bank's own scales may be). ELS_ENOENT lists the presets. */
ELS_API int els_scales_parse(struct els_scales *out, const char *text, struct els_error *err);
ELS_API int els_scales_copy(struct els_scales *out, const struct els_scales *from);
ELS_API int els_scales_at(const struct els_scales *s, double t);
ELS_API void els_scales_deinit(struct els_scales *s);

/* The ten published calibrations. */
ELS_API int els_scales_num_presets(void);
/* NULL past the end. */
ELS_API const char *els_scales_preset_name(int i);
/* The ELS_PRESET_LENGTH entries of preset i; NULL past the end. */
ELS_API const int *els_scales_preset(int i);

ELS_END_DECLS

#endif
