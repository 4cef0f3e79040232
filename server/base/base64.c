/*
 * Base64 both ways, strict when it reads: one text stands for one sequence of bytes. Any thread; no state.
 */
#include "server/base/base64.h"

#include "els/error.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int srv_base64_encode(struct els_buffer *out, const void *bytes, size_t size)
{
    const uint8_t *in = bytes;
    char *to;
    void *space;
    int r;

    if (size > SIZE_MAX / 4 * 3 - 2)
        return ELS_ELIMIT;
    r = els_buffer_extend(out, (size + 2) / 3 * 4, &space);
    if (r < 0)
        return r;
    to = space;
    for (; size >= 3; size -= 3, in += 3) {
        *to++ = alphabet[in[0] >> 2];
        *to++ = alphabet[(in[0] & 3) << 4 | in[1] >> 4];
        *to++ = alphabet[(in[1] & 15) << 2 | in[2] >> 6];
        *to++ = alphabet[in[2] & 63];
    }
    if (size > 0) {
        unsigned second = size > 1 ? in[1] : 0;

        *to++ = alphabet[in[0] >> 2];
        *to++ = alphabet[(in[0] & 3) << 4 | second >> 4];
        *to++ = size > 1 ? alphabet[(second & 15) << 2] : '=';
        *to++ = '=';
    }
    return 0;
}

/* The value of a digit, or −1. */
static int digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int srv_base64_decode(struct els_buffer *out, const char *text, size_t size)
{
    size_t padding = 0;
    uint8_t *to;
    void *space;
    int r;

    if (size % 4 != 0)
        return ELS_EFORMAT;
    while (padding < 2 && padding < size && text[size - 1 - padding] == '=')
        padding++;
    r = els_buffer_extend(out, size / 4 * 3 - padding, &space);
    if (r < 0)
        return r;
    to = space;
    for (size_t i = 0; i < size; i += 4) {
        size_t digits = i + 4 == size ? 4 - padding : 4;
        uint32_t word = 0;

        for (size_t k = 0; k < 4; k++) {
            int d = k < digits ? digit(text[i + k]) : 0;

            if (d < 0)
                return ELS_EFORMAT;
            word = word << 6 | (uint32_t)d;
        }
        for (size_t k = 0; k < digits - 1; k++, word <<= 8)
            *to++ = (uint8_t)(word >> 16);
        if (digits < 4 && (word & 0xffffff) != 0)
            return ELS_EFORMAT;
    }
    return 0;
}
