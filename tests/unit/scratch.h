/*
 * scratch: files in a folder of the test's own, and imports from it.
 *
 *     scratch_make();
 *     bank = import(&(struct els_import_spec){.source = spill("x.npy", bytes, size)});
 *     …
 *     scratch_remove();
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <check.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "import.h"

static char folder[64];

static inline void scratch_make(void)
{
    snprintf(folder, sizeof(folder), "/tmp/els-import-XXXXXX");
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

static inline const char *spill_gz(const char *name, const void *bytes, size_t size)
{
    const char *path = at(name);
    gzFile gz = gzopen(path, "wb9");

    ck_assert_ptr_nonnull(gz);
    ck_assert_int_eq(gzwrite(gz, bytes, (unsigned)size), (int)size);
    ck_assert_int_eq(gzclose(gz), Z_OK);
    return path;
}

static inline struct els_bank *import(const struct els_import_spec *spec)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    ck_assert_msg(els_import(&bank, spec, &err) == 0, "%s: %s", spec->source, err.message);
    return bank;
}

static inline void assert_refused(const struct els_import_spec *spec, const char *field, const char *says)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    ck_assert_msg(els_import(&bank, spec, &err) < 0, "%s was accepted", spec->source);
    ck_assert_ptr_null(bank);
    ck_assert_msg(strcmp(err.field, field) == 0, "field '%s': %s", err.field, err.message);
    ck_assert_msg(strstr(err.message, says) != NULL, "'%s' does not say '%s'", err.message, says);
}

static inline void assert_shape(const struct els_bank *bank, int64_t n, int c, int h, int w)
{
    const struct els_bank_info *info = els_bank_info(bank);

    ck_assert_int_eq(info->num_images, n);
    ck_assert_int_eq(info->shape.c, c);
    ck_assert_int_eq(info->shape.h, h);
    ck_assert_int_eq(info->shape.w, w);
}

#endif
