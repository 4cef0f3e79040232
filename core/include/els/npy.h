/*
 * npy: NumPy's array file, versions 1.0 to 3.0.
 *
 *     struct els_tensor x;
 *     int r = els_npy_parse(&x, bytes, size, &err);      // x views `bytes`
 *
 *     struct els_buffer out = ELS_BUFFER_INIT(1 << 30);
 *     r = els_npy_write(&out, &x);                       // header and data
 *
 * Read: dtypes |u1 <i4 <i8 <f4 <f8, C order. Anything else (Fortran order,
 * big-endian, objects) is an ELS_EFORMAT that says what was found. Trailing
 * or missing bytes are errors. Nothing is executed, nothing allocated.
 */
#ifndef ELS_NPY_H
#define ELS_NPY_H

#include "els/api.h"
#include "els/mem.h"
#include "els/tensor.h"

ELS_BEGIN_DECLS

ELS_API int els_npy_parse(struct els_tensor *out, const void *bytes, size_t size, struct els_error *err);
/* Appends a version 1.0 header (64-byte aligned) and the data. */
ELS_API int els_npy_write(struct els_buffer *out, const struct els_tensor *t);
/* Appends the header alone, for data that is streamed after it. */
ELS_API int els_npy_write_header(struct els_buffer *out, enum els_dtype dtype, int ndim, const int64_t *dims);

ELS_END_DECLS

#endif
