/*
 * IDX, the format of MNIST and its kin: 0, 0, type, number of dims, big-endian dims, data.
 * Called by import.c; holds no state. Type 8 is u8, the only one that images and labels come in.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bank/import/import_internal.h"

enum { TYPE_U8 = 8, MAX_IMAGE_BYTES = 64 << 20 };

static int read_header(struct els_stream *s, int min_dims, int max_dims, int64_t *dims, int *ndim,
                       struct els_error *err)
{
    uint8_t head[4], dim[4];
    int r = els_stream_read(s, head, sizeof(head), err);

    if (r < 0)
        return r;
    if (head[0] || head[1] || head[2] != TYPE_U8 || head[3] < min_dims || head[3] > max_dims)
        return els_fail(err, ELS_EFORMAT, "source", "%.200s is not an IDX file of u8 with %d to %d dims",
                        s->path, min_dims, max_dims);
    *ndim = head[3];
    for (int i = 0; r == 0 && i < *ndim; i++) {
        r = els_stream_read(s, dim, sizeof(dim), err);
        dims[i] = (int64_t)dim[0] << 24 | dim[1] << 16 | dim[2] << 8 | dim[3];
    }
    return r;
}

/* One label per image; their largest gives the number of classes, whatever `limit` leaves of them. */
static int read_labels(struct els_importer *im, const char *path, int64_t count, uint8_t **out,
                       struct els_error *err)
{
    struct els_stream s = {0};
    struct els_buffer labels = ELS_BUFFER_INIT(ELS_MAX_IMAGES);
    int64_t n = 0;
    void *to;
    int ndim, r = els_stream_open(&s, path, err);

    if (r == 0)
        r = read_header(&s, 1, 1, &n, &ndim, err);
    if (r == 0 && n != count)
        r = els_fail(err, ELS_EFORMAT, "labels", "%.200s has %lld labels for %lld images", path, (long long)n,
                     (long long)count);
    /* In pieces: the memory follows the bytes that are there, not those that are promised. */
    for (int64_t at = 0, piece; r == 0 && at < n; at += piece) {
        piece = n - at < 65536 ? n - at : 65536;
        r = els_buffer_extend(&labels, (size_t)piece, &to);
        r = r < 0 ? els_fail(err, r, "labels", "%.200s: %s", path, els_status_text(r))
                  : els_stream_read(&s, to, (size_t)piece, err);
    }
    if (r == 0)
        r = els_stream_expect_end(&s, err);
    els_stream_close(&s);
    for (int64_t i = 0; r == 0 && i < n; i++)
        if (labels.data[i] >= im->num_classes)
            im->num_classes = labels.data[i] + 1;
    *out = labels.data;
    return r;
}

/* The label file that belongs to an image file by its name, if it is there; free(). NULL: none. */
static char *find_labels(const char *source)
{
    static const char *const PAIRS[][2] = {{"images-idx3", "labels-idx1"}, {"images.idx3", "labels.idx1"}};

    for (size_t i = 0; i < sizeof(PAIRS) / sizeof(*PAIRS); i++) {
        const char *at = strstr(source, PAIRS[i][0]), *next;
        const char *rest;
        char *path = NULL;

        /* The last such part: folders may be named alike. */
        while (at && (next = strstr(at + 1, PAIRS[i][0])))
            at = next;
        if (!at || strchr(at, '/'))
            continue;
        rest = at + strlen(PAIRS[i][0]);
        if (asprintf(&path, "%.*s%s%s", (int)(at - source), source, PAIRS[i][1], rest) < 0)
            return NULL;
        if (access(path, R_OK) == 0)
            return path;
        free(path);
    }
    return NULL;
}

static int check_dims(const char *path, const int64_t *dims, int ndim, struct els_error *err)
{
    int64_t c = ndim == 4 ? dims[3] : 1;

    if (dims[0] < 1 || dims[0] > ELS_MAX_IMAGES || dims[1] < 1 || dims[2] < 1 || c < 1 ||
        c > ELS_MAX_CHANNELS || dims[1] > MAX_IMAGE_BYTES || dims[2] > MAX_IMAGE_BYTES / dims[1] / c)
        return els_fail(err, ELS_ELIMIT, "source",
                        "%.200s claims %lld images of %lldx%lld with %lld channels; images are 1 to %d, "
                        "channels 1 to %d, and an image has at most %d bytes",
                        path, (long long)dims[0], (long long)dims[1], (long long)dims[2], (long long)c,
                        ELS_MAX_IMAGES, ELS_MAX_CHANNELS, MAX_IMAGE_BYTES);
    return 0;
}

static int read_images(struct els_importer *im, struct els_stream *s, const int64_t *dims, int channels,
                       const uint8_t *labels, struct els_error *err)
{
    int h = (int)dims[1], w = (int)dims[2], r = 0;
    size_t size = (size_t)h * (size_t)w * (size_t)channels;
    _cleanup_(els_freep) uint8_t *image = els_alloc_array(size, 1);
    const struct els_import_view view = {ELS_U8, image, channels, h, w, 1, (ptrdiff_t)w * channels, channels};

    if (!image)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    for (int64_t i = 0; r == 0 && i < dims[0] && !els_importer_full(im); i++) {
        r = els_stream_read(s, image, size, err);
        if (r == 0)
            r = els_importer_put(im, &view, labels ? labels[i] : -1, err);
    }
    if (r == 0 && im->count == dims[0])
        r = els_stream_expect_end(s, err);
    return r;
}

int els_import_idx(struct els_importer *im, struct els_error *err)
{
    _cleanup_(els_freep) char *found = im->spec->labels ? NULL : find_labels(im->spec->source);
    const char *label_path = im->spec->labels ? im->spec->labels : found;
    _cleanup_(els_freep) uint8_t *labels = NULL;
    struct els_stream s = {0};
    int64_t dims[4];
    int ndim, r = els_stream_open(&s, im->spec->source, err);

    if (r == 0)
        r = read_header(&s, 3, 4, dims, &ndim, err);
    if (r == 0)
        r = check_dims(s.path, dims, ndim, err);
    if (r == 0 && label_path)
        r = read_labels(im, label_path, dims[0], &labels, err);
    if (r == 0) {
        im->expected = dims[0];
        r = read_images(im, &s, dims, ndim == 4 ? (int)dims[3] : 1, labels, err);
    }
    els_stream_close(&s);
    return r;
}
