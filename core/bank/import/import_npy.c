/*
 * Images in a .npy. Called by import.c; holds no state.
 *
 * Three dims are [N,H,W]. Of four, the second is taken for the channels when it is 1 to 4, else the last.
 */
#include <stdlib.h>
#include <string.h>

#include "core/bank/import/import_internal.h"
#include "core/base/region.h"
#include "els/npy.h"

enum { MAX_SIDE = 1 << 16 };

/* Where things are in the tensor: the view of image 0, and the values from one image to the next. */
static int lay_out(const struct els_tensor *t, struct els_import_view *v, size_t *per_image,
                   struct els_error *err)
{
    const int64_t *d = t->dims;
    int64_t c = 1, h = d[1], w = d[2];
    int last = 0;
    char shape[192];

    if (t->ndim == 4 && d[1] >= 1 && d[1] <= ELS_MAX_CHANNELS) {
        c = d[1], h = d[2], w = d[3];
    } else if (t->ndim == 4) {
        c = d[3];
        last = 1;
    }
    els_tensor_shape_text(t, shape, sizeof(shape));
    if ((t->ndim != 3 && t->ndim != 4) || d[0] < 1 || c < 1 || c > ELS_MAX_CHANNELS || h < 1 || w < 1 ||
        h > MAX_SIDE || w > MAX_SIDE)
        return els_fail(err, ELS_EFORMAT, "source",
                        "the array has shape %s; it must be [N,H,W], [N,C,H,W] or [N,H,W,C] with C from 1 to %d",
                        shape, ELS_MAX_CHANNELS);
    if (t->dtype != ELS_U8 && t->dtype != ELS_F32 && t->dtype != ELS_F64)
        return els_fail(err, ELS_EFORMAT, "source", "images are u1, f4 or f8, not %s",
                        els_dtype_name(t->dtype));
    *v = (struct els_import_view){t->dtype, t->data, (int)c, (int)h, (int)w, h * w, w, 1};
    if (last)
        v->plane = 1, v->row = w * c, v->column = c;
    *per_image = (size_t)(c * h * w);
    return 0;
}

/* Labels as I64, whatever integers they were; free(). */
static int read_labels(struct els_importer *im, int64_t count, int64_t **out, struct els_error *err)
{
    _cleanup_(els_region_deinit) struct els_region file = {0};
    _cleanup_(els_freep) double *values = NULL;
    struct els_tensor t;
    char shape[192];
    int r = els_region_read_file(&file, im->spec->labels, ELS_IMPORT_MAX_BYTES, err);

    if (r == 0)
        r = els_npy_parse(&t, file.data, file.size, err);
    if (r < 0)
        return r;
    els_tensor_shape_text(&t, shape, sizeof(shape));
    if ((t.dtype != ELS_U8 && t.dtype != ELS_I32 && t.dtype != ELS_I64) || t.ndim != 1 || t.dims[0] != count)
        return els_fail(err, ELS_EFORMAT, "labels", "labels are %s %s; they must be integers of shape [%lld]",
                        els_dtype_name(t.dtype), shape, (long long)count);
    values = els_alloc_array((size_t)count, sizeof(*values));
    *out = els_alloc_array((size_t)count, sizeof(**out));
    if (!values || !*out)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    els_tensor_to_f64(&t, values);
    for (int64_t i = 0; i < count; i++) {
        if (!(values[i] >= 0 && values[i] < ELS_MAX_CLASSES))
            return els_fail(err, ELS_EINVAL, "labels", "label %lld is %.0f; it must be from 0 to %d",
                            (long long)i, values[i], ELS_MAX_CLASSES - 1);
        (*out)[i] = (int64_t)values[i];
        if ((*out)[i] >= im->num_classes)
            im->num_classes = (int)(*out)[i] + 1;
    }
    return 0;
}

int els_import_npy(struct els_importer *im, struct els_error *err)
{
    _cleanup_(els_region_deinit) struct els_region file = {0};
    _cleanup_(els_freep) int64_t *labels = NULL;
    struct els_import_view view;
    struct els_tensor t = {0};
    size_t per_image = 0;
    int r = els_region_read_file(&file, im->spec->source, ELS_IMPORT_MAX_BYTES, err);

    if (r == 0)
        r = els_npy_parse(&t, file.data, file.size, err);
    if (r == 0)
        r = lay_out(&t, &view, &per_image, err);
    if (r == 0 && im->spec->labels)
        r = read_labels(im, t.dims[0], &labels, err);
    if (r == 0)
        im->expected = t.dims[0];
    for (int64_t i = 0; r == 0 && i < t.dims[0] && !els_importer_full(im); i++) {
        r = els_importer_put(im, &view, labels ? labels[i] : -1, err);
        view.data = (const uint8_t *)view.data + per_image * els_dtype_size(t.dtype);
    }
    return r;
}
