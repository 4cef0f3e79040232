/*
 * Checked allocation and the bounded buffer. Called from any thread; holds no state.
 */
#include "els/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/error.h"

enum { ALIGNMENT = 64, FIRST_SPACE = 256 };

void *els_alloc_array(size_t count, size_t size)
{
    size_t bytes;

    if (els_mul_overflows(count, size, &bytes))
        return NULL;
    return calloc(1, bytes ? bytes : 1);
}

void *els_alloc_aligned(size_t count, size_t size)
{
    size_t bytes;
    void *p;

    if (els_mul_overflows(count, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT)
        return NULL;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    p = aligned_alloc(ALIGNMENT, bytes ? bytes : ALIGNMENT);
    if (p)
        memset(p, 0, bytes);
    return p;
}

void els_freep(void *p)
{
    free(*(void **)p);
}

static int buffer_reserve(struct els_buffer *b, size_t n)
{
    size_t space = b->space ? b->space : FIRST_SPACE;
    uint8_t *data;

    if (n > b->maximum || b->size > b->maximum - n)
        return ELS_ELIMIT;
    if (b->size + n <= b->space)
        return 0;
    while (space < b->size + n)
        space = space > b->maximum / 2 ? b->maximum : space * 2;
    data = realloc(b->data, space);
    if (!data)
        return ELS_ENOMEM;
    b->data = data;
    b->space = space;
    return 0;
}

int els_buffer_extend(struct els_buffer *b, size_t n, void **out)
{
    int r = buffer_reserve(b, n);

    if (r < 0)
        return r;
    *out = b->data ? b->data + b->size : NULL; /* nothing was ever asked for: n is 0 */
    b->size += n;
    return 0;
}

int els_buffer_append(struct els_buffer *b, const void *data, size_t n)
{
    void *to;
    int r = els_buffer_extend(b, n, &to);

    if (r < 0)
        return r;
    if (n)
        memcpy(to, data, n);
    return 0;
}

int els_buffer_printf(struct els_buffer *b, const char *format, ...)
{
    va_list ap;
    int n, r;

    va_start(ap, format);
    n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    if (n < 0)
        return ELS_EINVAL;
    /* One byte more for the NUL that vsnprintf insists on; it is given back below. */
    r = buffer_reserve(b, (size_t)n + 1);
    if (r < 0)
        return r;
    va_start(ap, format);
    vsnprintf((char *)b->data + b->size, (size_t)n + 1, format, ap);
    va_end(ap);
    b->size += (size_t)n;
    return 0;
}

void els_buffer_deinit(struct els_buffer *b)
{
    free(b->data);
    *b = ELS_BUFFER_INIT(b->maximum);
}
