/*
 * base64: RFC 4648's alphabet with padding, for tensors and pictures inside JSON.
 *
 *     struct els_buffer out = ELS_BUFFER_INIT(1 << 20);
 *     int r = srv_base64_encode(&out, bytes, size);     // no NUL, no line breaks
 */
#ifndef SRV_BASE64_H
#define SRV_BASE64_H

#include "els/mem.h"

/* Appends the text. 0, ELS_ENOMEM or ELS_ELIMIT. */
int srv_base64_encode(struct els_buffer *out, const void *bytes, size_t size);
/* Appends the bytes. ELS_EFORMAT on anything but the alphabet, right padding and zero spare bits; what was
 * appended is then of no use. */
int srv_base64_decode(struct els_buffer *out, const char *text, size_t size);

#endif
