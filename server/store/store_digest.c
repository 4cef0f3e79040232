/*
 * Digests of blobs: what a row holds is compared with them when it is read, so that flipped bits are an error and not an
 * answer. They guard against a damaged disk, not against somebody who can write to the file.
 *
 * A tensor is mostly read in parts, a step or a channel. So its digest is that of pieces of 64 KiB: a part costs the
 * pieces that it touches. Constant data and no state; any thread.
 */
#include <string.h>

#include "core/base/sha256.h"
#include "server/store/store_db.h"

static void digest_piece(unsigned char out[SRV_DIGEST_SIZE], const void *piece, size_t size)
{
    struct els_sha256 hash;

    els_sha256_init(&hash);
    els_sha256_update(&hash, piece, size);
    sha256_digest(&hash.ctx, SRV_DIGEST_SIZE, out);
}

size_t srv_digest_bytes(size_t size)
{
    return (size / SRV_DIGEST_PIECE + (size % SRV_DIGEST_PIECE > 0)) * SRV_DIGEST_SIZE;
}

int srv_digest_append(struct els_buffer *out, const void *data, size_t size)
{
    const char *at = data;
    int status = 0;

    while (status == 0 && size > 0) {
        size_t n = size < SRV_DIGEST_PIECE ? size : SRV_DIGEST_PIECE;
        unsigned char digest[SRV_DIGEST_SIZE];

        digest_piece(digest, at, n);
        status = els_buffer_append(out, digest, sizeof(digest));
        at += n;
        size -= n;
    }
    return status;
}

bool srv_digest_matches(const unsigned char *digest, size_t i, const void *piece, size_t size)
{
    unsigned char now[SRV_DIGEST_SIZE];

    digest_piece(now, piece, size);
    return memcmp(now, digest + i * SRV_DIGEST_SIZE, sizeof(now)) == 0;
}
