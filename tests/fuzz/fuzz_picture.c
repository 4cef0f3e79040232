/*
 * A PNG or JPEG. What is read as a picture is written as a PNG, which must read as the same picture.
 */
#include <string.h>

#include "els/picture.h"
#include "fuzz.h"

enum { MAX_PIXELS = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct els_picture p = {0}, q = {0};
    struct els_buffer png = ELS_BUFFER_INIT(1 << 24);
    struct els_error err = {0};

    if (els_picture_read(&p, data, size, MAX_PIXELS, &err) < 0) {
        FUZZ_CHECK(err.message[0]);
        return 0;
    }
    FUZZ_CHECK((size_t)p.width * (size_t)p.height <= MAX_PIXELS);
    FUZZ_CHECK(els_picture_write_png(&png, &p, NULL, 0) == 0);
    FUZZ_CHECK(els_picture_read(&q, png.data, png.size, MAX_PIXELS, &err) == 0);
    FUZZ_CHECK(p.width == q.width && p.height == q.height && p.channels == q.channels);
    FUZZ_CHECK(memcmp(p.pixels, q.pixels, (size_t)p.width * (size_t)p.height * (size_t)p.channels) == 0);
    els_buffer_deinit(&png);
    els_picture_deinit(&p);
    els_picture_deinit(&q);
    return 0;
}
