/*
 * schedule: the noise level as a function of time, β(t) and ᾱ(t) = 1 − β(t), t in [0,1].
 *
 *     double beta = els_schedule_beta(ELS_COSINE, 0.5);
 *     double alpha_bar = els_schedule_alpha_bar(ELS_COSINE, 0.5);
 *
 *   cosine         β = 1 − cos²(t/1.008 · π/2)              (the released code's)
 *   cosine_nichol  β = 1 − cos²((t + 0.008)/1.008 · π/2)
 *   linear         β = 0.01 + 0.97 t
 *   exponential    β = 1 − e^(−2t)
 *   ddpm_linear    ᾱ = Π_{k=1..K} (1 − b_k), K = round(1000 t), b_k = 1e-4 + (k−1)(0.02 − 1e-4)/999
 *
 * float64. β is computed without cancellation where t is small (sin², expm1).
 */
#ifndef ELS_SCHEDULE_H
#define ELS_SCHEDULE_H

#include "els/api.h"

ELS_BEGIN_DECLS

enum els_schedule {
    ELS_COSINE,
    ELS_COSINE_NICHOL,
    ELS_LINEAR,
    ELS_EXPONENTIAL,
    ELS_DDPM_LINEAR,
    ELS_SCHEDULE_COUNT,
};

ELS_API double els_schedule_beta(enum els_schedule s, double t);
ELS_API double els_schedule_alpha_bar(enum els_schedule s, double t);
/* "cosine" …; NULL past the end. */
ELS_API const char *els_schedule_name(enum els_schedule s);
/* 0, or ELS_ENOENT. */
ELS_API int els_schedule_parse(const char *name, enum els_schedule *out);

ELS_END_DECLS

#endif
