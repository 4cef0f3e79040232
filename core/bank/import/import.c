/*
 * Other people's data sets into a bank: the common part.
 *
 * Called from one thread, of `els bank import` or of a test; holds no state. The sources are hostile. Memory
 * grows only with bytes that were really read, never with what a header claims, and stops at
 * ELS_IMPORT_MAX_BYTES.
 */
#include "els/import.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/bank/bank_internal.h"
#include "core/bank/import/import_internal.h"
#include "core/base/utf8.h"
#include "els/resize.h"

enum { PROGRESS_EVERY = 64 };

int els_importer_full(const struct els_importer *im)
{
    return im->spec->limit && im->count >= im->spec->limit;
}

int els_importer_add_class(struct els_importer *im, const char *name, size_t length, struct els_error *err)
{
    char **grown;

    if (im->num_classes == ELS_MAX_CLASSES)
        return els_fail(err, ELS_ELIMIT, "source", "%.200s has more than %d classes", im->spec->source,
                        ELS_MAX_CLASSES);
    grown = reallocarray(im->class_names, (size_t)im->num_classes + 1, sizeof(*grown));
    if (!grown)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    im->class_names = grown;
    im->class_names[im->num_classes] = strndup(name, length);
    if (!im->class_names[im->num_classes])
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    im->num_classes++;
    return 0;
}

/* Cuts the view down to the crop, about its centre. */
static int crop(struct els_import_view *v, const struct els_import_spec *spec, struct els_error *err)
{
    size_t size = els_dtype_size(v->dtype);
    ptrdiff_t skip;

    if (!spec->crop_h)
        return 0;
    if (spec->crop_h > v->h || spec->crop_w > v->w)
        return els_fail(err, ELS_EINVAL, "crop", "crop is %dx%d, but image has only %dx%d pixels",
                        spec->crop_h, spec->crop_w, v->h, v->w);
    skip = (v->h - spec->crop_h) / 2 * v->row + (v->w - spec->crop_w) / 2 * v->column;
    v->data = (const uint8_t *)v->data + skip * (ptrdiff_t)size;
    v->h = spec->crop_h;
    v->w = spec->crop_w;
    return 0;
}

/* The first image fixes what all others must be. */
static int fix_shape(struct els_importer *im, const struct els_import_view *v, struct els_error *err)
{
    const struct els_import_spec *spec = im->spec;
    struct els_shape shape = {v->c, spec->resize_h ? spec->resize_h : v->h,
                              spec->resize_w ? spec->resize_w : v->w};

    if (shape.c < 1 || shape.c > ELS_MAX_CHANNELS || shape.h < 1 || shape.w < 1 || shape.h > ELS_MAX_SIDE ||
        shape.w > ELS_MAX_SIDE)
        return els_fail(err, ELS_EINVAL, "source",
                        "the images are %d channels of %dx%d; a bank takes up to %d channels of %dx%d (see "
                        "crop and resize)",
                        shape.c, shape.h, shape.w, ELS_MAX_CHANNELS, ELS_MAX_SIDE, ELS_MAX_SIDE);
    if (spec->resize_h && v->dtype != ELS_U8)
        return els_fail(err, ELS_EINVAL, "resize", "only u8 images are resized, not %s",
                        els_dtype_name(v->dtype));
    if (im->shape.c == 0) {
        im->shape = shape;
        im->dtype = v->dtype == ELS_U8 ? ELS_U8 : ELS_F32;
        return 0;
    }
    if (shape.c != im->shape.c || shape.h != im->shape.h || shape.w != im->shape.w)
        return els_fail(err, ELS_EINVAL, "source",
                        "image is %d channels of %dx%d pixels, others are %d of %dx%d: crop or resize them",
                        shape.c, shape.h, shape.w, im->shape.c, im->shape.h, im->shape.w);
    return 0;
}

/* One plane of the view, row by row, as u8 or float32. */
static void gather(const struct els_import_view *v, int c, void *out)
{
    size_t size = els_dtype_size(v->dtype);
    const uint8_t *plane = (const uint8_t *)v->data + c * v->plane * (ptrdiff_t)size;
    uint8_t *u8 = out;
    float *f32 = out;
    double d;

    for (int y = 0; y < v->h; y++) {
        const uint8_t *from = plane + y * v->row * (ptrdiff_t)size;

        for (int x = 0; x < v->w; x++, from += v->column * (ptrdiff_t)size) {
            if (v->dtype == ELS_U8) {
                *u8++ = *from;
            } else if (v->dtype == ELS_F32) {
                memcpy(f32++, from, sizeof(*f32));
            } else {
                memcpy(&d, from, sizeof(d));
                *f32++ = (float)d;
            }
        }
    }
}

static int put_planes(struct els_importer *im, const struct els_import_view *v, uint8_t *to)
{
    size_t plane = (size_t)im->shape.h * (size_t)im->shape.w * els_dtype_size(im->dtype);
    int r = 0;

    if (v->h == im->shape.h && v->w == im->shape.w) {
        for (int c = 0; c < v->c; c++)
            gather(v, c, to + (size_t)c * plane);
        return 0;
    }
    free(im->scratch);
    im->scratch = els_alloc_array((size_t)v->h, (size_t)v->w);
    if (!im->scratch)
        return ELS_ENOMEM;
    for (int c = 0; r == 0 && c < v->c; c++) {
        gather(v, c, im->scratch);
        r = els_resize_bilinear(to + (size_t)c * plane, im->shape.h, im->shape.w, im->scratch, v->h, v->w, 1);
    }
    return r;
}

static int report(struct els_importer *im, struct els_error *err)
{
    const struct els_import_spec *spec = im->spec;
    int64_t expected = spec->limit && (spec->limit < im->expected || !im->expected) ? spec->limit
                                                                                  : im->expected;
    double done = expected > im->count ? (double)im->count / (double)expected : 1;

    if (spec->progress && im->count % PROGRESS_EVERY == 0 && spec->progress(spec->user, done))
        return els_fail(err, ELS_ECANCELLED, NULL, "the import was cancelled");
    return 0;
}

int els_importer_put(struct els_importer *im, const struct els_import_view *view, int64_t label,
                     struct els_error *err)
{
    struct els_import_view v = *view;
    void *to;
    int r = crop(&v, im->spec, err);

    if (r == 0)
        r = fix_shape(im, &v, err);
    if (r < 0)
        return r;
    r = els_buffer_extend(&im->images, els_shape_values(im->shape) * els_dtype_size(im->dtype), &to);
    if (r == 0)
        r = put_planes(im, &v, to);
    if (r == 0 && label >= 0)
        r = els_buffer_append(&im->labels, &label, sizeof(label));
    if (r == 0 && im->count == ELS_MAX_IMAGES)
        r = ELS_ELIMIT;
    if (r < 0)
        return els_fail(err, r, "source", "image %lld of %.200s: %s", (long long)im->count, im->spec->source,
                        r == ELS_ELIMIT ? "the bank would be larger than we accept" : els_status_text(r));
    im->count++;
    return report(im, err);
}

static int check_spec(const struct els_import_spec *s, struct els_error *err)
{
    if (!s->source || !*s->source)
        return els_fail(err, ELS_EINVAL, "source", "there is no source to import");
    if (s->limit < 0)
        return els_fail(err, ELS_EINVAL, "limit", "limit is %lld; it must be 1 or more", (long long)s->limit);
    if ((s->resize_h == 0) != (s->resize_w == 0) || s->resize_h < 0 || s->resize_w < 0 ||
        s->resize_h > ELS_MAX_SIDE || s->resize_w > ELS_MAX_SIDE)
        return els_fail(err, ELS_EINVAL, "resize", "resize is %dx%d; each side must be from 1 to %d",
                        s->resize_h, s->resize_w, ELS_MAX_SIDE);
    if ((s->crop_h == 0) != (s->crop_w == 0) || s->crop_h < 0 || s->crop_w < 0)
        return els_fail(err, ELS_EINVAL, "crop", "crop is %dx%d; each side must be 1 or more", s->crop_h,
                        s->crop_w);
    return 0;
}

/* Chooses the reader by what the source begins with. */
static int read_source(struct els_importer *im, struct els_error *err)
{
    const char *path = im->spec->source;
    struct els_stream s = {0};
    struct stat st;
    uint8_t head[8];
    size_t got;
    int r, direct;

    if (stat(path, &st) < 0)
        return els_fail(err, errno == ENOENT ? ELS_ENOENT : ELS_EIO, "source", "cannot open %.200s: %s", path,
                        strerror(errno));
    if (S_ISDIR(st.st_mode))
        return els_import_is_cifar_folder(path) ? els_import_cifar(im, 1, err) : els_import_folder(im, err);
    r = els_stream_open(&s, path, err);
    if (r < 0)
        return r;
    r = els_stream_read_some(&s, head, sizeof(head), &got, err);
    direct = gzdirect(s.gz);
    els_stream_close(&s);
    if (r < 0)
        return r;
    if (got >= 6 && memcmp(head, "\x93NUMPY", 6) == 0)
        return direct ? els_import_npy(im, err)
                      : els_fail(err, ELS_EFORMAT, "source", "%.200s is a gzipped .npy: gunzip it first", path);
    if (got >= 4 && memcmp(head, "\0\0\x08", 3) == 0 && (head[3] == 3 || head[3] == 4))
        return els_import_idx(im, err);
    return els_import_cifar(im, 0, err);
}

static int make_bank(struct els_bank **out, const struct els_importer *im, struct els_error *err)
{
    const char *slash = strrchr(im->spec->source, '/');
    char name[64], source[256];

    if (im->count == 0)
        return els_fail(err, ELS_EFORMAT, "source", "%.200s holds no images", im->spec->source);
    els_bank_name_from_path(name, im->spec->source);
    snprintf(source, sizeof(source), "imported from %s", slash && slash[1] ? slash + 1 : im->spec->source);
    return els_bank_new(out,
                        &(struct els_bank_parts){
                            .name = im->spec->name ? im->spec->name : name,
                            .shape = im->shape,
                            .num_images = im->count,
                            .dtype = im->dtype,
                            .images = im->images.data,
                            .labels = im->labels.size ? (const int64_t *)(const void *)im->labels.data : NULL,
                            .num_classes = im->num_classes,
                            .class_names = (const char *const *)im->class_names,
                            .source = els_utf8_is_line(source, sizeof(source)) ? source : "imported",
                        },
                        err);
}

int els_import(struct els_bank **out, const struct els_import_spec *spec, struct els_error *err)
{
    struct els_importer im = {
        .spec = spec,
        .images = ELS_BUFFER_INIT(ELS_IMPORT_MAX_BYTES),
        .labels = ELS_BUFFER_INIT((size_t)ELS_MAX_IMAGES * sizeof(int64_t)),
    };
    int r = check_spec(spec, err);

    if (r == 0)
        r = read_source(&im, err);
    if (r == 0)
        r = make_bank(out, &im, err);
    els_buffer_deinit(&im.images);
    els_buffer_deinit(&im.labels);
    free(im.scratch);
    for (int i = 0; im.class_names && i < im.num_classes; i++)
        free(im.class_names[i]);
    free(im.class_names);
    return r;
}
