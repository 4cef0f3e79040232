/*
 * scratch: files in a folder of the test's own.
 *
 *     scratch_make();
 *     bank = load(spill("x.npy", bytes, size));
 *     …
 *     scratch_remove();
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64];

static inline void scratch_make(void)
{
    snprintf(folder, sizeof(folder), "/tmp/els-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

/* Where files are in memory, if there is such a place: for thousands of them, or of transactions. */
static inline void scratch_make_in_memory(void)
{
    snprintf(folder, sizeof(folder), access("/dev/shm", W_OK) == 0 ? "/dev/shm/els-test-XXXXXX" : "/tmp/els-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    return remove(path);
}

static inline void scratch_remove(void)
{
    ck_assert_int_eq(nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* A path in the folder; the last eight stay valid. */
static inline const char *at(const char *name)
{
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static inline const char *spill(const char *name, const void *bytes, size_t size)
{
    const char *path = at(name);
    FILE *f;

    /* A file system may flush a file that is cut and written again; a new one it need not. */
    unlink(path);
    f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
    return path;
}

#endif
