/*
 * The strict reader of requests. However the bytes are cut into pieces, the same comes out; what
 * comes out is canonical, that is, passes through another reader unchanged but for the mark of a query; and a refusal has a
 * status, a code and a sentence.
 */
#include <string.h>

#include "fuzz.h"
#include "server/http/wire.h"

static size_t feed(struct srv_wire *wire, const uint8_t *data, size_t size, size_t piece,
                   size_t room, uint8_t *out, size_t space)
{
    size_t at = 0, made = 0, used, got = 1;

    while (at < size || got) {
        size_t n = size - at < piece ? size - at : piece;

        FUZZ_CHECK(made + room <= space);
        got = srv_wire_feed(wire, data + at, n, &used, out + made, room);
        FUZZ_CHECK(used <= n && got <= room && (got || used || !n));
        at += used;
        made += got;
    }
    return made;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A head that stands for another adds less than 64 bytes, a chunk's canonical size less than 8. */
    size_t space = 9 * size + 4096, made, other;
    uint8_t *out = calloc(1, space), *again = calloc(1, space);
    struct srv_wire whole = {0}, pieces = {0}, third = {0};

    FUZZ_CHECK(out && again);
    made = feed(&whole, data, size, size + 1, 2048, out, space);
    other = feed(&pieces, data, size, 1 + size % 7, 1 + size % 5, again, space);
    FUZZ_CHECK(made == other && memcmp(out, again, made) == 0);
    FUZZ_CHECK(whole.requests == pieces.requests && whole.refused == pieces.refused);
    if (whole.refused) {
        const struct srv_verdict *why = srv_wire_refusal(&whole, whole.refused);

        FUZZ_CHECK(whole.refused == whole.requests);
        FUZZ_CHECK(why && why->status >= 400 && why->code[0] && why->detail[0]);
        FUZZ_CHECK(strcmp(why->detail, pieces.why.detail) == 0);
    } else {
        for (size_t i = 0; i < made; i++)
            out[i] = out[i] == SRV_WIRE_QUERY ? '?' : out[i];
        other = feed(&third, out, made, made + 1, 2048, again, space);
        FUZZ_CHECK(!third.refused && third.requests == whole.requests);
        for (size_t i = 0; i < other; i++)
            again[i] = again[i] == SRV_WIRE_QUERY ? '?' : again[i];
        FUZZ_CHECK(made == other && memcmp(out, again, made) == 0);
    }
    srv_wire_deinit(&whole);
    srv_wire_deinit(&pieces);
    srv_wire_deinit(&third);
    free(out);
    free(again);
    return 0;
}
