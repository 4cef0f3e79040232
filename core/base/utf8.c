/*
 * UTF-8. Called from any thread; holds no state. A NUL is no continuation byte, so no read passes
 * the end of a string.
 */
#include "core/base/utf8.h"

#include <string.h>

size_t els_utf8_decode(const char *s, uint32_t *out)
{
    static const uint32_t SMALLEST[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *b = (const unsigned char *)s;
    size_t n = b[0] < 0x80 ? 1 : b[0] >> 5 == 6 ? 2 : b[0] >> 4 == 14 ? 3 : b[0] >> 3 == 30 ? 4 : 0;
    uint32_t c;

    if (n == 0)
        return 0;
    c = n == 1 ? b[0] : b[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (b[i] >> 6 != 2)
            return 0;
        c = c << 6 | (b[i] & 0x3f);
    }
    if (c < SMALLEST[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *out = c;
    return n;
}

int els_utf8_is_text(const char *s)
{
    uint32_t c;
    size_t n;

    for (; *s; s += n) {
        n = els_utf8_decode(s, &c);
        if (n == 0)
            return 0;
    }
    return 1;
}

int els_utf8_is_line(const char *s, size_t max)
{
    uint32_t c;
    size_t n;

    if (strlen(s) > max)
        return 0;
    for (; *s; s += n) {
        n = els_utf8_decode(s, &c);
        if (n == 0 || c < ' ' || (c >= 0x7f && c < 0xa0))
            return 0;
    }
    return 1;
}
