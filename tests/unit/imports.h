/*
 * imports: banks made of files in a scratch folder, or refused.
 *
 *     bank = import(&(struct els_import_spec){.source = spill("x.npy", bytes, size)});
 */
#ifndef IMPORTS_H
#define IMPORTS_H

#include <check.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include "els/import.h"
#include "scratch.h"

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
