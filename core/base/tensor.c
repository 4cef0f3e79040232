/*
 * Tensors over borrowed bytes. Called from any thread; holds no state.
 *
 * Data may be unaligned (it comes out of files and request bodies), so elements
 * are fetched with memcpy, which compilers turn into plain loads.
 */
#include "els/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"

/* Files and requests carry little-endian numbers, and we use them where they lie. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "libels runs on little-endian machines");

struct els_tensor els_tensor_view(enum els_dtype dtype, int ndim, const int64_t *dims, const void *data)
{
    struct els_tensor t = {.dtype = dtype, .ndim = ndim, .data = data};

    for (int i = 0; i < ndim; i++)
        t.dims[i] = dims[i];
    return t;
}

size_t els_tensor_count(const struct els_tensor *t)
{
    size_t n = 1;

    for (int i = 0; i < t->ndim; i++)
        n *= (size_t)t->dims[i];
    return n;
}

size_t els_tensor_bytes(const struct els_tensor *t)
{
    return els_tensor_count(t) * els_dtype_size(t->dtype);
}

size_t els_dtype_size(enum els_dtype dtype)
{
    switch (dtype) {
    case ELS_U8:
        return 1;
    case ELS_I32:
    case ELS_F32:
        return 4;
    case ELS_I64:
    case ELS_F64:
        return 8;
    }
    return 0;
}

const char *els_dtype_name(enum els_dtype dtype)
{
    switch (dtype) {
    case ELS_U8:
        return "U8";
    case ELS_I32:
        return "I32";
    case ELS_I64:
        return "I64";
    case ELS_F32:
        return "F32";
    case ELS_F64:
        return "F64";
    }
    return "?";
}

int els_tensor_check_dims(enum els_dtype dtype, int ndim, const int64_t *dims, size_t *bytes)
{
    size_t n = els_dtype_size(dtype);
    size_t total;
    int empty = 0;

    if (ndim < 0 || ndim > ELS_TENSOR_MAX_DIMS)
        return ELS_ELIMIT;
    /* A zero must not hide an overflow among the other dims: [2^62, 2^62, 0] is refused. */
    for (int i = 0; i < ndim; i++) {
        if (dims[i] < 0)
            return ELS_ELIMIT;
        if (dims[i] == 0)
            empty = 1;
        else if (els_mul_overflows(n, dims[i], &n) || n > PTRDIFF_MAX)
            return ELS_ELIMIT;
    }
    total = empty ? 0 : n;
    if (bytes)
        *bytes = total;
    return 0;
}

/* Writes element i of `from`, whatever its type, to out[i] as `type`. */
#define CONVERT(type)                                                                              \
    do {                                                                                           \
        type v;                                                                                    \
        for (size_t i = 0; i < n; i++) {                                                           \
            memcpy(&v, from + i * sizeof(v), sizeof(v));                                           \
            out[i] = (__typeof__(*out))v;                                                          \
        }                                                                                          \
    } while (0)

#define CONVERT_ANY(t)                                                                             \
    do {                                                                                           \
        const unsigned char *from = (t)->data;                                                     \
        size_t n = els_tensor_count(t);                                                            \
        switch ((t)->dtype) {                                                                      \
        case ELS_U8:                                                                               \
            CONVERT(uint8_t);                                                                      \
            break;                                                                                 \
        case ELS_I32:                                                                              \
            CONVERT(int32_t);                                                                      \
            break;                                                                                 \
        case ELS_I64:                                                                              \
            CONVERT(int64_t);                                                                      \
            break;                                                                                 \
        case ELS_F32:                                                                              \
            CONVERT(float);                                                                        \
            break;                                                                                 \
        case ELS_F64:                                                                              \
            CONVERT(double);                                                                       \
            break;                                                                                 \
        }                                                                                          \
    } while (0)

void els_tensor_to_f32(const struct els_tensor *t, float *out)
{
    CONVERT_ANY(t);
}

void els_tensor_to_f64(const struct els_tensor *t, double *out)
{
    CONVERT_ANY(t);
}

void els_tensor_to_times(const struct els_tensor *t, double *out)
{
    char digits[32];

    els_tensor_to_f64(t, out);
    for (size_t i = 0; t->dtype == ELS_F32 && i < els_tensor_count(t); i++) {
        snprintf(digits, sizeof(digits), "%.7g", out[i]);
        out[i] = strtod(digits, NULL);
    }
}

const char *els_tensor_shape_text(const struct els_tensor *t, char *out, size_t size)
{
    size_t used = 0;

    for (int i = 0; i <= t->ndim && used < size; i++) {
        int n = i < t->ndim ? snprintf(out + used, size - used, "%s%lld", i ? ", " : "[",
                                       (long long)t->dims[i])
                            : snprintf(out + used, size - used, i ? "]" : "[]");
        used += n > 0 ? (size_t)n : 0;
    }
    return out;
}
