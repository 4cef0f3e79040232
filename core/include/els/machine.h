/*
 * machine: the five score machines and what sets them apart.
 *
 * Every machine is a posterior mean of the clean pixel at each location q,
 *
 *     x̂0(q) = Σ_c w_c(q)·y_c(centre),   w_c(q) ∝ exp(−‖x_Ω(q) − a·y_c‖² / 2σ²),   a = √ᾱ, σ² = β,
 *
 * and differs only in the window Ω and in the candidates c:
 *
 *   is     whole image           every image, in place                          eq. 3–4
 *   es     whole image, circular every circular translate of every image        eq. 5–6
 *   ls     P×P clipped           the same pixel of every image                  eq. 7–8
 *   els    P×P, x wrapped        every pixel of every image; y wrapped too (`wrapped`, eq. 38), or only
 *                                patches wholly inside y (`valid`, the released code)   eq. 9–10
 *   bbels  P×P clipped           interior rows from interior rows, edge rows from the same
 *                                row; columns likewise; in every image          eq. 41
 */
#ifndef ELS_MACHINE_H
#define ELS_MACHINE_H

#include "els/api.h"
#include "els/error.h"
#include "els/shape.h"

ELS_BEGIN_DECLS

enum els_machine {
    ELS_MACHINE_IS,
    ELS_MACHINE_ES,
    ELS_MACHINE_LS,
    ELS_MACHINE_ELS,
    ELS_MACHINE_BBELS,
    ELS_MACHINE_COUNT,
};

enum els_candidates {
    ELS_CANDIDATES_WRAPPED,
    ELS_CANDIDATES_VALID,
    ELS_CANDIDATES_COUNT,
};

/* "is" …; NULL past the end. */
ELS_API const char *els_machine_name(enum els_machine m);
/* 0, or ELS_ENOENT. */
ELS_API int els_machine_parse(const char *name, enum els_machine *out);
/* "wrapped", "valid"; NULL past the end. */
ELS_API const char *els_candidates_name(enum els_candidates c);
ELS_API int els_candidates_parse(const char *name, enum els_candidates *out);
/* One line for a person. */
ELS_API const char *els_machine_summary(enum els_machine m);
/* Whether P (and so a scale schedule) means anything to the machine: not to is and es. */
ELS_API int els_machine_uses_p(enum els_machine m);
/* Is P allowed for this machine on this shape? Odd, 1…ELS_MAX_P, and for els ≤ min(H,W). */
ELS_API int els_machine_check_p(enum els_machine m, struct els_shape shape, int p, struct els_error *err);

ELS_END_DECLS

#endif
