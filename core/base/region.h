/*
 * region: memory of whole pages that is filled once and then made read-only.
 *
 *     struct els_region r = {0};
 *     if (els_region_read_file(&r, "digits.safetensors", limit, &err) < 0)
 *         …
 *     els_region_seal(&r);      // a stray write now faults instead of changing a bank under a job
 *     els_region_deinit(&r);
 *
 * It is anonymous memory, not a map of the file: a mapped file that is cut short kills its reader with
 * SIGBUS, and one that is rewritten changes under it.
 */
#ifndef ELS_REGION_H
#define ELS_REGION_H

#include <stddef.h>
#include <stdint.h>

#include "els/error.h"

struct els_region {
    uint8_t *data; /* page-aligned; NULL when size is 0 */
    size_t size;   /* bytes asked for */
};

/* Zeroed. ELS_ENOMEM. */
int els_region_new(struct els_region *out, size_t size);
/* The whole of a regular file of at most `limit` bytes. ELS_ENOENT, ELS_EIO, ELS_ELIMIT, ELS_ENOMEM. */
int els_region_read_file(struct els_region *out, const char *path, size_t limit, struct els_error *err);
/* The first `size` bytes of an open file. `stop` (may be NULL) is polled; when it says so, ELS_ECANCELLED. `path` is
 * for messages. The file's offset is left alone. */
int els_region_read_fd(struct els_region *out, int fd, size_t size, const char *path, int (*stop)(void *user),
                       void *user, struct els_error *err);
/* Gives back the pages past the first `size` bytes. */
void els_region_shrink(struct els_region *r, size_t size);
void els_region_seal(struct els_region *r);
/* Unmaps and zeroes *r; usable with _cleanup_. */
void els_region_deinit(struct els_region *r);

#endif
