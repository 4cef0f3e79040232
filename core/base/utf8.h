/*
 * utf8: is this text what people and JSON call text?
 *
 *     uint32_t c;
 *     for (size_t n; *s && (n = els_utf8_decode(s, &c)) > 0; s += n)
 *         …
 *
 * Strict: no overlong forms, no surrogates, nothing past U+10FFFF.
 */
#ifndef ELS_UTF8_H
#define ELS_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The bytes of the first character of a non-empty NUL-terminated string (1…4), or 0 when it is not UTF-8. */
size_t els_utf8_decode(const char *s, uint32_t *out);
/* True when `s` is UTF-8, of any length and with any characters. */
int els_utf8_is_text(const char *s);
/* True when `s` is UTF-8 without control characters and at most `max` bytes long. */
int els_utf8_is_line(const char *s, size_t max);

#endif
