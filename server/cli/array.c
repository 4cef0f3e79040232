/*
 * Arrays from .npy files. Called from main's thread only. A sentence names the array, the file, what it holds and what it
 * should hold.
 */
#include "server/cli/array.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"
#include "els/npy.h"
#include "server/cli/output.h"

#define MAX_BYTES ((size_t)16 << 30)

static int read_tensor(struct els_buffer *bytes, struct els_tensor *out, const char *path,
                       const char *field, struct els_error *err)
{
    int r = cli_read_file(bytes, path, err);

    if (r == 0)
        r = els_npy_parse(out, bytes->data, bytes->size, err);
    if (r < 0 && err && !*err->field)
        snprintf(err->field, sizeof(err->field), "%s", field);
    return r;
}

static int take(struct cli_array *out, const struct els_tensor *x, const char *path,
                const char *field, int leading, struct els_shape shape, struct els_error *err)
{
    const int64_t *tail = x->dims + leading;
    int fits = x->ndim == leading + 3 && x->dtype != ELS_U8 && tail[0] == shape.c &&
               tail[1] == shape.h && tail[2] == shape.w;
    char text[96];

    for (int i = 0; fits && i < leading; i++)
        fits = x->dims[i] >= 1;
    if (!fits)
        return els_fail(err, ELS_EINVAL, field,
                        "%s: %.120s holds %s %s; it must be floats [%s%d, %d, %d]", field, path,
                        els_dtype_name(x->dtype), els_tensor_shape_text(x, text, sizeof(text)),
                        leading == 2 ? "S, T, " : "S, ", shape.c, shape.h, shape.w);
    out->ndim = x->ndim;
    memcpy(out->dims, x->dims, sizeof(out->dims));
    out->values = els_alloc_array(els_tensor_count(x), sizeof(float));
    if (!out->values)
        return els_fail(err, ELS_ENOMEM, field, "out of memory");
    els_tensor_to_f32(x, out->values);
    return 0;
}

int cli_array_read(struct cli_array *out, const char *path, const char *field, int leading,
                   struct els_shape shape, struct els_error *err)
{
    struct els_buffer bytes = ELS_BUFFER_INIT(MAX_BYTES);
    struct els_tensor x;
    int r = read_tensor(&bytes, &x, path, field, err);

    if (r == 0)
        r = take(out, &x, path, field, leading, shape, err);
    els_buffer_deinit(&bytes);
    return r;
}

int cli_list_read(double **out, size_t *count, const char *path, const char *field,
                  void (*convert)(const struct els_tensor *, double *), struct els_error *err)
{
    struct els_buffer bytes = ELS_BUFFER_INIT(MAX_BYTES);
    struct els_tensor x;
    char text[96];
    int r = read_tensor(&bytes, &x, path, field, err);

    if (r == 0 && (x.ndim != 1 || x.dims[0] < 1))
        r = els_fail(err, ELS_EINVAL, field, "%s: %.120s holds %s; it must be a list [n]", field,
                     path, els_tensor_shape_text(&x, text, sizeof(text)));
    if (r == 0) {
        *count = els_tensor_count(&x);
        *out = els_alloc_array(*count, sizeof(**out));
        if (*out)
            convert(&x, *out);
        else
            r = els_fail(err, ELS_ENOMEM, field, "out of memory");
    }
    els_buffer_deinit(&bytes);
    return r;
}

void cli_array_deinit(struct cli_array *a)
{
    free(a->values);
    *a = (struct cli_array){0};
}
