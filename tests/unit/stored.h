/*
 * stored: a store in memory ("") or in a scratch folder, and the job that its tests put into it.
 */
#ifndef STORED_H
#define STORED_H

#include <check.h>
#include <string.h>

#include "core/base/sha256.h"
#include "scratch.h"
#include "server/store/store.h"

static inline struct srv_store *open_store(const char *where)
{
    struct srv_store *store = NULL;
    struct els_error err = {0};

    ck_assert_msg(srv_store_open(&store, where, &err) == 0, "%s", err.message);
    return store;
}

static inline void sha256_of(const void *bytes, size_t size, char hex[ELS_SHA256_HEX])
{
    struct els_sha256 hash;

    els_sha256_init(&hash);
    els_sha256_update(&hash, bytes, size);
    els_sha256_hex(&hash, hex);
}

/* A job of two 1×2×2 images; its id repeats `digit`. */
static inline struct srv_job_record record_of(char digit)
{
    struct srv_job_record r = {.kind = "sample", .created = 1000 + digit, .params = (char *)"{\"seed\":1}",
                           .shape = {1, 2, 2}, .num_images = 2, .num_steps = 3, .depth = 1, .outputs = 3, .seed = 1};

    memset(r.id, digit, SRV_ID_SIZE - 1);
    memset(r.bank_sha256, 'b', 64);
    return r;
}

#endif
