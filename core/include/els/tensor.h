/*
 * tensor: a dense row-major array of numbers, the currency of files and requests.
 *
 *     struct els_tensor x;
 *     if (els_npy_parse(&x, bytes, size, &err) < 0)
 *         …
 *     float *values = els_alloc_array(els_tensor_count(&x), sizeof(*values));
 *     els_tensor_to_f32(&x, values);
 *
 * A tensor *views* its bytes; whoever owns the buffer keeps it alive. Data is
 * little-endian and may be unaligned.
 */
#ifndef ELS_TENSOR_H
#define ELS_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "els/api.h"
#include "els/error.h"

ELS_BEGIN_DECLS

enum { ELS_TENSOR_MAX_DIMS = 8 };

enum els_dtype {
    ELS_U8,
    ELS_I64,
    ELS_F32,
    ELS_F64,
    ELS_I32,
};

struct els_tensor {
    enum els_dtype dtype;
    int ndim;
    int64_t dims[ELS_TENSOR_MAX_DIMS];
    const void *data; /* row-major, els_tensor_count() elements */
};

/* A tensor over caller-owned data; `dims` has `ndim` entries. */
ELS_API struct els_tensor els_tensor_view(enum els_dtype dtype, int ndim, const int64_t *dims, const void *data);

/* Number of elements (1 for ndim 0). Dims were checked when the tensor was made: no overflow. */
ELS_API size_t els_tensor_count(const struct els_tensor *t);
/* els_tensor_count() times the element size. */
ELS_API size_t els_tensor_bytes(const struct els_tensor *t);
ELS_API size_t els_dtype_size(enum els_dtype dtype);
/* "F32", "U8" … as safetensors spells it. */
ELS_API const char *els_dtype_name(enum els_dtype dtype);
/* Checks dims ≥ 0 and that the byte count fits; ELS_ELIMIT otherwise. *bytes may be NULL. */
ELS_API int els_tensor_check_dims(enum els_dtype dtype, int ndim, const int64_t *dims, size_t *bytes);

/* Converts every element to float32; out holds els_tensor_count() floats. Any dtype. */
ELS_API void els_tensor_to_f32(const struct els_tensor *t, float *out);
/* Converts every element to float64. Any dtype. */
ELS_API void els_tensor_to_f64(const struct els_tensor *t, double *out);
/*
 * The same for times. In float32 0.95 is 0.949999988…: what is read from it is rounded to seven
 * digits, so it is the number that was meant.
 */
ELS_API void els_tensor_to_times(const struct els_tensor *t, double *out);
/* The shape as text, for messages: "[24, 1, 32, 32]". Returns `out`. */
ELS_API const char *els_tensor_shape_text(const struct els_tensor *t, char *out, size_t size);

ELS_END_DECLS

#endif
