/*
 * safetensors: header length (8 bytes, little-endian), JSON header, data.
 *
 *     {"__metadata__": {"name": "digits"},
 *      "images": {"dtype": "U8", "shape": [3000,1,32,32], "data_offsets": [0, 3072000]}}
 *
 * Called from any thread: for bank files and for request bodies, so the bytes are hostile. An object exists
 * only when the whole header was found sound; it keeps the parsed JSON for its strings and views the
 * caller's bytes for the data.
 */
#include "els/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"

enum {
    MAX_HEADER = 16 << 20,
    MAX_DEPTH = 4,       /* the format needs three */
    MAX_VALUES = 100000, /* some 10,000 tensors; bounds the JSON objects made for a header */
};

static const struct els_json_limits LIMITS = {.depth = MAX_DEPTH, .values = MAX_VALUES, .string = MAX_HEADER};
static const char METADATA[] = "__metadata__";
static const enum els_dtype DTYPES[] = {ELS_U8, ELS_I32, ELS_I64, ELS_F32, ELS_F64};

struct entry {
    struct els_named_tensor t;
    size_t begin, end; /* in the data part */
};

struct els_safetensors {
    json_t *header;
    json_t *metadata; /* borrowed from header; may be NULL */
    size_t count;
    struct els_named_tensor *tensors;
};

static int parse_dtype(const json_t *value, const char *name, enum els_dtype *out, struct els_error *err)
{
    const char *text = json_string_value(value);

    for (size_t i = 0; text && i < sizeof(DTYPES) / sizeof(*DTYPES); i++) {
        if (strcmp(text, els_dtype_name(DTYPES[i])) == 0) {
            *out = DTYPES[i];
            return 0;
        }
    }
    return els_fail(err, ELS_EFORMAT, name,
                    "tensor %.60s has dtype %.20s; it must be one of U8 I32 I64 F32 F64", name,
                    text ? text : "that is not a string");
}

static int parse_shape(const json_t *value, const char *name, struct els_tensor *t, struct els_error *err)
{
    size_t n = json_array_size(value);

    if (!json_is_array(value))
        return els_fail(err, ELS_EFORMAT, name, "tensor %.60s has a shape that is not an array", name);
    if (n > ELS_TENSOR_MAX_DIMS)
        return els_fail(err, ELS_ELIMIT, name, "tensor %.60s has %zu dimensions; at most %d are read",
                        name, n, ELS_TENSOR_MAX_DIMS);
    t->ndim = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(value, i);

        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return els_fail(err, ELS_EFORMAT, name,
                            "tensor %.60s has a dimension that is not a whole number from 0", name);
        t->dims[i] = json_integer_value(d);
    }
    return 0;
}

static int parse_offsets(const json_t *value, const char *name, size_t data_size, struct entry *e,
                         struct els_error *err)
{
    const json_t *begin = json_array_get(value, 0), *end = json_array_get(value, 1);

    if (json_array_size(value) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return els_fail(err, ELS_EFORMAT, name,
                        "tensor %.60s has data_offsets that are not two whole numbers", name);
    if (json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin) ||
        (uint64_t)json_integer_value(end) > data_size)
        return els_fail(err, ELS_EFORMAT, name,
                        "tensor %.60s has data_offsets [%" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
                        "] outside the %zu bytes of data",
                        name, json_integer_value(begin), json_integer_value(end), data_size);
    e->begin = (size_t)json_integer_value(begin);
    e->end = (size_t)json_integer_value(end);
    return 0;
}

static int parse_entry(const char *name, json_t *value, const uint8_t *data, size_t data_size,
                       struct entry *e, struct els_error *err)
{
    char shape[192];
    size_t need;
    int r;

    if (!json_is_object(value) || json_object_size(value) != 3)
        return els_fail(err, ELS_EFORMAT, name,
                        "tensor %.60s must have exactly dtype, shape and data_offsets", name);
    r = parse_dtype(json_object_get(value, "dtype"), name, &e->t.tensor.dtype, err);
    if (r == 0)
        r = parse_shape(json_object_get(value, "shape"), name, &e->t.tensor, err);
    if (r == 0)
        r = parse_offsets(json_object_get(value, "data_offsets"), name, data_size, e, err);
    if (r < 0)
        return r;
    els_tensor_shape_text(&e->t.tensor, shape, sizeof(shape));
    if (els_tensor_check_dims(e->t.tensor.dtype, e->t.tensor.ndim, e->t.tensor.dims, &need) < 0)
        return els_fail(err, ELS_ELIMIT, name, "tensor %.60s has shape %s, which does not fit into memory",
                        name, shape);
    if (need != e->end - e->begin)
        return els_fail(err, ELS_EFORMAT, name, "tensor %.60s has %zu bytes, but shape %s of %s needs %zu",
                        name, e->end - e->begin, shape, els_dtype_name(e->t.tensor.dtype), need);
    e->t.name = name;
    e->t.tensor.data = data + e->begin;
    return 0;
}

static int check_metadata(json_t *metadata, struct els_error *err)
{
    const char *key;
    json_t *value;

    if (!json_is_object(metadata))
        return els_fail(err, ELS_EFORMAT, METADATA, "__metadata__ is not an object");
    json_object_foreach (metadata, key, value)
        if (!json_is_string(value))
            return els_fail(err, ELS_EFORMAT, METADATA, "__metadata__.%.60s is not a string", key);
    return 0;
}

/* By place in the file; an empty tensor comes before the one that starts where it lies. */
static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->t.name, y->t.name);
}

/* Reads every tensor of the header into entries[], sorted, and checks that they tile the data. */
static int parse_entries(struct els_safetensors *st, struct entry *entries, const uint8_t *data,
                         size_t data_size, struct els_error *err)
{
    size_t n = 0, end = 0;
    const char *key;
    json_t *value;
    int r = 0;

    json_object_foreach (st->header, key, value) {
        if (strcmp(key, METADATA) == 0) {
            r = check_metadata(value, err);
            st->metadata = value;
        } else {
            r = parse_entry(key, value, data, data_size, &entries[n++], err);
        }
        if (r < 0)
            return r;
    }
    if (n)
        qsort(entries, n, sizeof(*entries), compare_entries);
    for (size_t i = 0; i < n; i++) {
        if (entries[i].begin != end)
            return els_fail(err, ELS_EFORMAT, entries[i].t.name,
                            "tensor %.60s begins at byte %zu of the data; %zu was expected (no gaps, no "
                            "overlaps)",
                            entries[i].t.name, entries[i].begin, end);
        end = entries[i].end;
        st->tensors[i] = entries[i].t;
    }
    st->count = n;
    if (end != data_size)
        return els_fail(err, ELS_EFORMAT, "safetensors",
                        "the tensors take %zu bytes, but %zu bytes of data follow the header", end,
                        data_size);
    return 0;
}

static int build(struct els_safetensors *st, const uint8_t *b, size_t header, size_t size,
                 struct els_error *err)
{
    _cleanup_(els_freep) struct entry *entries = NULL;
    int r = els_json_parse(&st->header, (const char *)b + 8, header, &LIMITS, "safetensors", err);
    size_t n;

    if (r < 0)
        return r;
    n = json_object_size(st->header);
    entries = els_alloc_array(n, sizeof(*entries));
    st->tensors = els_alloc_array(n, sizeof(*st->tensors));
    if (!entries || !st->tensors)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    return parse_entries(st, entries, b + 8 + header, size - 8 - header, err);
}

/* The first 8 bytes. */
static uint64_t header_length(const uint8_t *b)
{
    uint64_t length = 0;

    for (int i = 0; i < 8; i++)
        length |= (uint64_t)b[i] << 8 * i;
    return length;
}

size_t els_safetensors_memory(const void *bytes, size_t size)
{
    struct els_json_size measured;
    uint64_t header = size < 8 ? 0 : header_length(bytes);

    if (header == 0 || header > MAX_HEADER || header > size - 8 ||
        els_json_measure(&measured, (const char *)bytes + 8, (size_t)header, &LIMITS, NULL, NULL) < 0)
        return sizeof(struct els_safetensors);
    return sizeof(struct els_safetensors) + els_json_memory(&measured) +
           measured.containers * (sizeof(struct entry) + sizeof(struct els_named_tensor));
}

int els_safetensors_parse(struct els_safetensors **out, const void *bytes, size_t size,
                          struct els_error *err)
{
    const uint8_t *b = bytes;
    struct els_safetensors *st;
    uint64_t header;
    int r;

    if (size < 8)
        return els_fail(err, ELS_EFORMAT, "safetensors", "a safetensors file has at least 8 bytes, not %zu",
                        size);
    header = header_length(b);
    if (header > MAX_HEADER)
        return els_fail(err, ELS_ELIMIT, "safetensors",
                        "the safetensors header claims %" PRIu64 " bytes; at most %d are read", header,
                        MAX_HEADER);
    if (header > size - 8)
        return els_fail(err, ELS_EFORMAT, "safetensors",
                        "the safetensors header claims %" PRIu64 " bytes, but only %zu follow", header,
                        size - 8);
    if (header == 0 || b[8] != '{')
        return els_fail(err, ELS_EFORMAT, "safetensors", "the safetensors header does not begin with '{'");

    st = els_alloc_array(1, sizeof(*st));
    if (!st)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    r = build(st, b, (size_t)header, size, err);
    if (r < 0)
        els_safetensors_free(st);
    else
        *out = st;
    return r;
}

struct els_safetensors *els_safetensors_free(struct els_safetensors *st)
{
    if (st) {
        json_decref(st->header);
        free(st->tensors);
        free(st);
    }
    return NULL;
}

size_t els_safetensors_count(const struct els_safetensors *st)
{
    return st->count;
}

const struct els_named_tensor *els_safetensors_at(const struct els_safetensors *st, size_t i)
{
    return &st->tensors[i];
}

const struct els_tensor *els_safetensors_find(const struct els_safetensors *st, const char *name)
{
    for (size_t i = 0; i < st->count; i++)
        if (strcmp(st->tensors[i].name, name) == 0)
            return &st->tensors[i].tensor;
    return NULL;
}

const char *els_safetensors_metadata(const struct els_safetensors *st, const char *key)
{
    return json_string_value(json_object_get(st->metadata, key));
}

/* Appends a JSON string, quotes included. */
static int put_string(struct els_buffer *out, const char *text)
{
    int r = els_buffer_append(out, "\"", 1);

    for (const char *c = text; r == 0 && *c; c++) {
        if (*c == '"' || *c == '\\')
            r = els_buffer_printf(out, "\\%c", *c);
        else if ((unsigned char)*c < ' ')
            r = els_buffer_printf(out, "\\u%04x", (unsigned)*c);
        else
            r = els_buffer_append(out, c, 1);
    }
    return r == 0 ? els_buffer_append(out, "\"", 1) : r;
}

static int put_metadata(struct els_buffer *out, const char *const *keys, const char *const *values, size_t n)
{
    int r = els_buffer_printf(out, "\"%s\":{", METADATA);

    for (size_t i = 0; r == 0 && i < n; i++) {
        if (i)
            r = els_buffer_append(out, ",", 1);
        if (r == 0)
            r = put_string(out, keys[i]);
        if (r == 0)
            r = els_buffer_append(out, ":", 1);
        if (r == 0)
            r = put_string(out, values[i]);
    }
    return r == 0 ? els_buffer_append(out, "}", 1) : r;
}

static int put_tensor(struct els_buffer *out, const struct els_named_tensor *t, size_t begin, size_t end)
{
    int r = put_string(out, t->name);

    if (r == 0)
        r = els_buffer_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", els_dtype_name(t->tensor.dtype));
    for (int i = 0; r == 0 && i < t->tensor.ndim; i++)
        r = els_buffer_printf(out, "%s%" PRId64, i ? "," : "", t->tensor.dims[i]);
    return r == 0 ? els_buffer_printf(out, "],\"data_offsets\":[%zu,%zu]}", begin, end) : r;
}

static int put_header(struct els_buffer *out, const struct els_named_tensor *tensors, size_t n,
                      const char *const *keys, const char *const *values, size_t num_metadata)
{
    size_t start = out->size, begin = 0, end;
    int r = els_buffer_append(out, "\0\0\0\0\0\0\0\0{", 9);

    if (r == 0 && num_metadata)
        r = put_metadata(out, keys, values, num_metadata);
    for (size_t i = 0; r == 0 && i < n; i++) {
        end = begin + els_tensor_bytes(&tensors[i].tensor);
        if (i || num_metadata)
            r = els_buffer_append(out, ",", 1);
        if (r == 0)
            r = put_tensor(out, &tensors[i], begin, end);
        begin = end;
    }
    if (r == 0)
        r = els_buffer_append(out, "}", 1);
    while (r == 0 && (out->size - start) % 8)
        r = els_buffer_append(out, " ", 1);
    if (r == 0)
        for (int i = 0; i < 8; i++)
            out->data[start + (size_t)i] = (uint8_t)((uint64_t)(out->size - start - 8) >> 8 * i);
    return r;
}

int els_safetensors_write_header(struct els_buffer *out, const struct els_named_tensor *tensors,
                                 size_t n, const char *const *keys, const char *const *values,
                                 size_t num_metadata)
{
    size_t start = out->size;
    int r = put_header(out, tensors, n, keys, values, num_metadata);

    if (r < 0)
        out->size = start;
    return r;
}

int els_safetensors_write(struct els_buffer *out, const struct els_named_tensor *tensors, size_t n,
                          const char *const *keys, const char *const *values, size_t num_metadata)
{
    size_t start = out->size;
    int r = put_header(out, tensors, n, keys, values, num_metadata);

    for (size_t i = 0; r == 0 && i < n; i++)
        r = els_buffer_append(out, tensors[i].tensor.data, els_tensor_bytes(&tensors[i].tensor));
    if (r < 0)
        out->size = start;
    return r;
}
