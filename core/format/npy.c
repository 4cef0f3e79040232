/*
 * NumPy's array file. Called from any thread; holds no state; parsing allocates nothing.
 *
 *     \x93NUMPY  major minor  header length  header  data
 *
 * The length is 2 bytes in version 1, 4 in versions 2 and 3. The header is a Python dict literal of exactly
 * three keys, 'descr', 'fortran_order' and 'shape', padded with spaces and ended by a newline.
 * It is read by a scanner for that grammar alone; nothing is evaluated.
 */
#include "els/npy.h"

#include <stdio.h>
#include <string.h>

enum { HEADER_ALIGNMENT = 64, PREFIX_V1 = 10, MAX_HEADER = 65535 };

static const char MAGIC[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

static const struct {
    const char *descr;
    enum els_dtype dtype;
} TYPES[] = {
    {"|u1", ELS_U8}, {"<i4", ELS_I32}, {"<i8", ELS_I64}, {"<f4", ELS_F32}, {"<f8", ELS_F64},
};
enum { NUM_TYPES = sizeof(TYPES) / sizeof(*TYPES) };

struct scanner {
    const char *at, *end;
};

static void skip_spaces(struct scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t'))
        s->at++;
}

/* Takes the character c, with spaces before it. */
static int take(struct scanner *s, char c)
{
    skip_spaces(s);
    if (s->at == s->end || *s->at != c)
        return 0;
    s->at++;
    return 1;
}

static int take_word(struct scanner *s, const char *word)
{
    size_t n = strlen(word);

    skip_spaces(s);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
        return 0;
    s->at += n;
    return 1;
}

/* A quoted string without escapes, cut to fit `out` (which is how a longer one fails to match). */
static int take_string(struct scanner *s, char *out, size_t size)
{
    size_t n = 0;
    char quote;

    skip_spaces(s);
    if (s->at == s->end || (*s->at != '\'' && *s->at != '"'))
        return 0;
    quote = *s->at++;
    for (; s->at < s->end && *s->at != quote; s->at++)
        if (n + 1 < size)
            out[n++] = *s->at >= ' ' && *s->at <= '~' ? *s->at : '?';
    out[n] = '\0';
    return s->at < s->end && *s->at++ == quote;
}

static int take_integer(struct scanner *s, int64_t *out)
{
    int64_t v = 0;

    skip_spaces(s);
    if (s->at == s->end || *s->at < '0' || *s->at > '9')
        return 0;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->at - '0', &v))
            return 0;
    *out = v;
    return 1;
}

static int parse_descr(struct scanner *s, struct els_tensor *t, struct els_error *err)
{
    char descr[32];

    if (!take_string(s, descr, sizeof(descr)))
        return els_fail(err, ELS_EFORMAT, "npy",
                        "the .npy header's descr is not a plain type (structured arrays are not read)");
    for (int i = 0; i < NUM_TYPES; i++) {
        if (strcmp(descr, TYPES[i].descr) == 0) {
            t->dtype = TYPES[i].dtype;
            return 0;
        }
    }
    return els_fail(err, ELS_EFORMAT, "npy",
                    "the .npy holds type '%s'; it must be one of |u1 <i4 <i8 <f4 <f8", descr);
}

static int parse_order(struct scanner *s, struct els_error *err)
{
    if (take_word(s, "False"))
        return 0;
    if (take_word(s, "True"))
        return els_fail(err, ELS_EFORMAT, "npy",
                        "the .npy is in Fortran order; save numpy.ascontiguousarray(x) instead");
    return els_fail(err, ELS_EFORMAT, "npy", "the .npy header's fortran_order is neither True nor False");
}

static int parse_shape(struct scanner *s, struct els_tensor *t, struct els_error *err)
{
    int64_t dim;
    int comma = 1;

    t->ndim = 0;
    if (!take(s, '('))
        return els_fail(err, ELS_EFORMAT, "npy", "the .npy header's shape is not a tuple");
    while (!take(s, ')')) {
        if (!comma || !take_integer(s, &dim))
            return els_fail(err, ELS_EFORMAT, "npy",
                            "the .npy header's shape is not a tuple of whole numbers below 2^63");
        if (t->ndim == ELS_TENSOR_MAX_DIMS)
            return els_fail(err, ELS_ELIMIT, "npy", "the .npy has more than %d dimensions",
                            ELS_TENSOR_MAX_DIMS);
        t->dims[t->ndim++] = dim;
        comma = take(s, ',');
    }
    return 0;
}

static int parse_dict(struct scanner *s, struct els_tensor *t, struct els_error *err)
{
    static const char *const KEYS[] = {"descr", "fortran_order", "shape"};
    unsigned seen = 0;
    char key[32];
    int k, r, comma = 1;

    if (!take(s, '{'))
        return els_fail(err, ELS_EFORMAT, "npy", "the .npy header is not a dict");
    while (!take(s, '}')) {
        if (!comma || !take_string(s, key, sizeof(key)) || !take(s, ':'))
            return els_fail(err, ELS_EFORMAT, "npy", "the .npy header is not a dict of plain keys");
        for (k = 0; k < 3 && strcmp(key, KEYS[k]) != 0; k++)
            ;
        if (k == 3 || (seen & 1u << k))
            return els_fail(err, ELS_EFORMAT, "npy", "the .npy header has %s key '%s'",
                            k == 3 ? "an unknown" : "a second", key);
        seen |= 1u << k;
        r = k == 0 ? parse_descr(s, t, err) : k == 1 ? parse_order(s, err) : parse_shape(s, t, err);
        if (r < 0)
            return r;
        comma = take(s, ',');
    }
    skip_spaces(s);
    if (seen != 7 || s->at != s->end)
        return els_fail(err, ELS_EFORMAT, "npy", seen != 7 ? "the .npy header lacks a key"
                                                           : "the .npy header goes on after its dict");
    return 0;
}

int els_npy_parse(struct els_tensor *out, const void *bytes, size_t size, struct els_error *err)
{
    const uint8_t *b = bytes;
    struct els_tensor t = {0};
    struct scanner s;
    size_t prefix, length, need;
    char shape[192];
    int r;

    if (size < PREFIX_V1 || memcmp(b, MAGIC, sizeof(MAGIC)) != 0)
        return els_fail(err, ELS_EFORMAT, "npy", "not a .npy file: it does not begin with \\x93NUMPY");
    if (b[6] < 1 || b[6] > 3 || b[7] != 0)
        return els_fail(err, ELS_EFORMAT, "npy", "the .npy is version %d.%d; 1.0 to 3.0 are read", b[6],
                        b[7]);
    prefix = b[6] == 1 ? 10 : 12;
    if (size < prefix)
        return els_fail(err, ELS_EFORMAT, "npy", "the .npy ends inside its header");
    length = (size_t)b[8] | (size_t)b[9] << 8;
    if (prefix == 12)
        length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (length > MAX_HEADER)
        return els_fail(err, ELS_ELIMIT, "npy", "the .npy header claims %zu bytes; at most %d are read",
                        length, MAX_HEADER);
    if (length > size - prefix)
        return els_fail(err, ELS_EFORMAT, "npy", "the .npy ends inside its header");

    s.at = (const char *)b + prefix;
    s.end = s.at + length;
    r = parse_dict(&s, &t, err);
    if (r < 0)
        return r;
    els_tensor_shape_text(&t, shape, sizeof(shape));
    if (els_tensor_check_dims(t.dtype, t.ndim, t.dims, &need) < 0)
        return els_fail(err, ELS_ELIMIT, "npy", "the .npy's shape %s does not fit into memory", shape);
    if (need != size - prefix - length)
        return els_fail(err, ELS_EFORMAT, "npy",
                        "the .npy holds %zu bytes of data, but its shape %s of %s needs %zu",
                        size - prefix - length, shape, els_dtype_name(t.dtype), need);
    t.data = b + prefix + length;
    *out = t;
    return 0;
}

int els_npy_write_header(struct els_buffer *out, enum els_dtype dtype, int ndim, const int64_t *dims)
{
    size_t start = out->size, padded, length;
    const char *descr = NULL;
    uint8_t prefix[PREFIX_V1] = {[6] = 1};
    int r;

    for (int i = 0; i < NUM_TYPES; i++)
        if (TYPES[i].dtype == dtype)
            descr = TYPES[i].descr;
    memcpy(prefix, MAGIC, sizeof(MAGIC));
    r = els_buffer_append(out, prefix, sizeof(prefix));
    if (r == 0)
        r = els_buffer_printf(out, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int i = 0; r == 0 && i < ndim; i++)
        r = els_buffer_printf(out, "%lld%s", (long long)dims[i],
                              ndim == 1 ? "," : i + 1 < ndim ? ", " : "");
    if (r == 0)
        r = els_buffer_printf(out, "), }");
    if (r == 0) {
        padded = (out->size - start + 1 + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
        r = els_buffer_printf(out, "%*s\n", (int)(padded - (out->size - start) - 1), "");
    }
    if (r < 0) {
        out->size = start;
        return r;
    }
    length = out->size - start - PREFIX_V1;
    out->data[start + 8] = (uint8_t)(length & 255);
    out->data[start + 9] = (uint8_t)(length >> 8);
    return 0;
}

int els_npy_write(struct els_buffer *out, const struct els_tensor *t)
{
    size_t start = out->size;
    int r = els_npy_write_header(out, t->dtype, t->ndim, t->dims);

    if (r == 0)
        r = els_buffer_append(out, t->data, els_tensor_bytes(t));
    if (r < 0)
        out->size = start;
    return r;
}
