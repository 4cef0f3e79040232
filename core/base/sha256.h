/*
 * sha256: fingerprints of what we keep and serve.
 *
 *     struct els_sha256 h;
 *     char hex[ELS_SHA256_HEX];
 *     els_sha256_init(&h);
 *     els_sha256_update(&h, bytes, size);
 *     els_sha256_hex(&h, hex);
 */
#ifndef ELS_SHA256_H
#define ELS_SHA256_H

#include <nettle/sha2.h>
#include <stddef.h>

enum { ELS_SHA256_HEX = 65 };

struct els_sha256 {
    struct sha256_ctx ctx;
};

void els_sha256_init(struct els_sha256 *h);
void els_sha256_update(struct els_sha256 *h, const void *bytes, size_t size);
/* Writes 64 lower-case hex digits and a NUL; h must be initialised again before further use. */
void els_sha256_hex(struct els_sha256 *h, char out[ELS_SHA256_HEX]);

#endif
