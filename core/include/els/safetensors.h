/*
 * safetensors: a container of named tensors: an 8-byte little-endian header
 * length, a JSON header, raw little-endian data.
 *
 *     struct els_safetensors *st = NULL;
 *     if (els_safetensors_parse(&st, bytes, size, &err) < 0)       // st views `bytes`
 *         …
 *     const struct els_tensor *x = els_safetensors_find(st, "x");   // NULL: not there
 *     const char *params = els_safetensors_metadata(st, "params"); // NULL: not there
 *     st = els_safetensors_free(st);
 *
 *     struct els_named_tensor t[] = {{"images", els_tensor_view(ELS_F32, 4, dims, data)}};
 *     struct els_buffer header = ELS_BUFFER_INIT(1 << 20);
 *     els_safetensors_write_header(&header, t, 1, keys, values, 0);  // the data follows, in order
 *
 * Parsing validates everything before anything is used: header at most 16 MiB,
 * depth-limited, no duplicate names, known dtypes, offsets ordered, without gaps or
 * overlaps, inside the file and equal to the shape's bytes, nothing left over.
 */
#ifndef ELS_SAFETENSORS_H
#define ELS_SAFETENSORS_H

#include "els/api.h"
#include "els/mem.h"
#include "els/tensor.h"

ELS_BEGIN_DECLS

struct els_safetensors;

struct els_named_tensor {
    const char *name;
    struct els_tensor tensor;
};

/* *out views `bytes`, which must outlive it. On failure *out is untouched. */
ELS_API int els_safetensors_parse(struct els_safetensors **out, const void *bytes, size_t size,
                                  struct els_error *err);
/* The most bytes that els_safetensors_parse will allocate for these; few for what it refuses. */
ELS_API size_t els_safetensors_memory(const void *bytes, size_t size);
/* Frees; NULL is fine. Returns NULL. */
ELS_API struct els_safetensors *els_safetensors_free(struct els_safetensors *st);

ELS_API size_t els_safetensors_count(const struct els_safetensors *st);
/* Tensor i in file order, i < count. */
ELS_API const struct els_named_tensor *els_safetensors_at(const struct els_safetensors *st, size_t i);
ELS_API const struct els_tensor *els_safetensors_find(const struct els_safetensors *st, const char *name);
/* The string under __metadata__, or NULL. */
ELS_API const char *els_safetensors_metadata(const struct els_safetensors *st, const char *key);

/*
 * Appends the length and the JSON header (padded with spaces to a multiple of 8) for `n`
 * tensors whose data will follow back to back in the order given, and `num_metadata`
 * pairs of strings. The same input gives the same bytes.
 */
ELS_API int els_safetensors_write_header(struct els_buffer *out, const struct els_named_tensor *tensors,
                                         size_t n, const char *const *keys, const char *const *values,
                                         size_t num_metadata);
/* Header and data. */
ELS_API int els_safetensors_write(struct els_buffer *out, const struct els_named_tensor *tensors, size_t n,
                                  const char *const *keys, const char *const *values, size_t num_metadata);

ELS_END_DECLS

#endif
