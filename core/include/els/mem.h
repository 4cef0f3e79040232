/*
 * mem: every allocation of libels, checked and overflow-safe.
 *
 *     _cleanup_(els_freep) float *x = els_alloc_array(n, sizeof(*x));
 *     if (!x)
 *         return ELS_ENOMEM;
 *
 * els_alloc_array and els_alloc_aligned return NULL when count*size overflows
 * or out of memory. els_buffer is a growable byte buffer that is born with
 * the most it may ever hold.
 */
#ifndef ELS_MEM_H
#define ELS_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "els/api.h"

ELS_BEGIN_DECLS

#define _cleanup_(f) __attribute__((cleanup(f)))

/* count*size bytes, zeroed; free with free(). */
ELS_API void *els_alloc_array(size_t count, size_t size);

/* The same, aligned to 64 bytes (a cache line, an AVX-512 vector); zeroed; free with free(). */
ELS_API void *els_alloc_aligned(size_t count, size_t size);

/* True, and *out unset, when a*b does not fit into size_t. */
#define els_mul_overflows(a, b, out) __builtin_mul_overflow((size_t)(a), (size_t)(b), (out))

/* For _cleanup_: free(*(void **)p). */
ELS_API void els_freep(void *p);

struct els_buffer {
    uint8_t *data;
    size_t size;    /* bytes in use */
    size_t space;   /* bytes allocated */
    size_t maximum; /* size never passes this */
};

#define ELS_BUFFER_INIT(max) ((struct els_buffer){.maximum = (max)})

/* Appends n bytes. 0, ELS_ENOMEM, or ELS_ELIMIT when `maximum` would be passed; on failure unchanged. */
ELS_API int els_buffer_append(struct els_buffer *b, const void *data, size_t n);
/* Grows by n bytes and points *out at them (uninitialised); the same errors. */
ELS_API int els_buffer_extend(struct els_buffer *b, size_t n, void **out);
/* Appends text in printf's manner (no terminating NUL is counted). */
ELS_API int els_buffer_printf(struct els_buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Frees the bytes and empties the buffer; `maximum` stays. Usable with _cleanup_. */
ELS_API void els_buffer_deinit(struct els_buffer *b);

ELS_END_DECLS

#endif
