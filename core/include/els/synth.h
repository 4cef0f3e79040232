/*
 * synth: the built-in banks, drawn by our own code, the same bytes everywhere.
 *
 *     for (int i = 0; i < els_synth_count(); i++)
 *         printf("%s: %s\n", els_synth_name(i), els_synth_summary(i));
 *     els_synth_bank(&bank, "digits", &err);
 *
 *   two-tone  one all-black and one all-white 32×32×1 image: Theorem 4.1's smallest example; classes black, white
 *   digits    stroke-drawn digits 0–9, 32×32×1, 10 classes, 3,000 images, random slant, thickness,
 *             size and position; MNIST-like (black ground, grey soft edges)
 *   shapes    filled circles, squares, triangles, … in colour on coloured grounds, 32×32×3, 1,500 images, 6 classes by shape
 *
 * Image i has the label i mod the number of classes, so the first images show every class.
 *
 * Deterministic: integer arithmetic or correctly rounded operations only, so every machine and compiler
 * makes the same bytes (their sha256 is tested).
 */
#ifndef ELS_SYNTH_H
#define ELS_SYNTH_H

#include "els/api.h"
#include "els/bank.h"

ELS_BEGIN_DECLS

ELS_API int els_synth_count(void);
ELS_API const char *els_synth_name(int i);
/* One line for a person. */
ELS_API const char *els_synth_summary(int i);
/* ELS_ENOENT with the list of names when there is none of that name. */
ELS_API int els_synth_bank(struct els_bank **out, const char *name, struct els_error *err);
/* "two-tone" at another size, for the theorem's tests: N=2, C=1. */
ELS_API int els_synth_two_tone(struct els_bank **out, int h, int w, struct els_error *err);

ELS_END_DECLS

#endif
