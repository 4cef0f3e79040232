/*
 * bank_internal: how the bank's files make a bank without copying its images twice.
 *
 *     struct els_region images = …;                     // [N,C,H,W], page-aligned
 *     r = els_bank_adopt(&bank, &parts, &images, &err); // on success the bank owns the pages
 */
#ifndef ELS_BANK_INTERNAL_H
#define ELS_BANK_INTERNAL_H

#include "core/base/region.h"
#include "els/bank.h"

/* Checks name, shape, count, dtype and texts, and computes the bytes of the images. */
int els_bank_check_parts(const struct els_bank_parts *parts, size_t *bytes, struct els_error *err);
/*
 * els_bank_new over images that lie in a region of exactly their size; parts->images is not read. On success
 * *images is emptied; on failure it is still the caller's. `how` (may be NULL): its `stop` is polled.
 */
int els_bank_adopt(struct els_bank **out, const struct els_bank_parts *parts, struct els_region *images,
                   const struct els_bank_opening *how, struct els_error *err);
/* Does the opening's owner want it to end? */
int els_bank_is_stopped(const struct els_bank_opening *how);
/* Copies the stem of a path's last component to `out` as a bank name: other characters become '-'. */
void els_bank_name_from_path(char out[64], const char *path);

#endif
