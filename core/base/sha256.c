/*
 * SHA-256 by nettle: it picks the CPU's SHA instructions at run time, and a daemon that serves HTTP
 * has it loaded already (through GnuTLS). Called from any thread; all state is the caller's.
 */
#include "core/base/sha256.h"

#include <nettle/version.h>

#include <stdint.h>

void els_sha256_init(struct els_sha256 *h)
{
    sha256_init(&h->ctx);
}

void els_sha256_update(struct els_sha256 *h, const void *bytes, size_t size)
{
    /* An empty input may be a NULL pointer, which nettle would hand to memcpy. */
    if (size)
        sha256_update(&h->ctx, size, bytes);
}

void els_sha256_hex(struct els_sha256 *h, char out[ELS_SHA256_HEX])
{
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t digest[SHA256_DIGEST_SIZE];

#if NETTLE_VERSION_MAJOR >= 4
    sha256_digest(&h->ctx, digest);
#else
    sha256_digest(&h->ctx, sizeof(digest), digest);
#endif
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) {
        out[2 * i] = DIGITS[digest[i] >> 4];
        out[2 * i + 1] = DIGITS[digest[i] & 15];
    }
    out[2 * SHA256_DIGEST_SIZE] = '\0';
}
