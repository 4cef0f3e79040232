/*
 * import_internal: what the readers of each kind of source share.
 *
 *     r = els_importer_put(im, &(struct els_import_view){…}, label, &err);   // crop, resize, append
 *
 * A reader is one function, els_import_idx and so on. It puts images until its source ends or
 * els_importer_full() says that the caller wants no more, and sets the classes. import.c makes the bank.
 */
#ifndef ELS_IMPORT_INTERNAL_H
#define ELS_IMPORT_INTERNAL_H

#include <stddef.h>
#include <zlib.h>

#include "els/import.h"
#include "els/mem.h"

/* Bytes of images that one import may collect. */
#define ELS_IMPORT_MAX_BYTES ((size_t)1 << 34)

/* One image wherever its values lie; the strides count values. */
struct els_import_view {
    enum els_dtype dtype; /* ELS_U8, or ELS_F32 and ELS_F64, which become F32 */
    const void *data;
    int c, h, w;
    ptrdiff_t plane, row, column;
};

struct els_importer {
    const struct els_import_spec *spec;
    struct els_shape shape; /* of the images in the bank; c is 0 until the first */
    enum els_dtype dtype;
    struct els_buffer images, labels;
    int64_t count, expected; /* images put; those to come in all, 0 when unknown */
    uint8_t *scratch;        /* one plane, cropped, before it is resized */
    char **class_names;      /* [num_classes], owned, or NULL */
    int num_classes;         /* 0: from the labels */
};

/* label −1: the images have none. All images of an import have labels, or none has. */
int els_importer_put(struct els_importer *im, const struct els_import_view *view, int64_t label,
                     struct els_error *err);
int els_importer_full(const struct els_importer *im);
/* Appends a copy of `name` to the class names. */
int els_importer_add_class(struct els_importer *im, const char *name, size_t length, struct els_error *err);

/* A file, gunzipped on the way when it is gzipped. */
struct els_stream {
    gzFile gz;
    const char *path; /* borrowed, for messages */
};

int els_stream_open(struct els_stream *s, const char *path, struct els_error *err);
/* Up to `size` bytes; *got is less only at the end. */
int els_stream_read_some(struct els_stream *s, void *to, size_t size, size_t *got, struct els_error *err);
/* Exactly `size` bytes: ELS_EFORMAT when the file ends before. */
int els_stream_read(struct els_stream *s, void *to, size_t size, struct els_error *err);
/* ELS_EFORMAT unless nothing is left. */
int els_stream_expect_end(struct els_stream *s, struct els_error *err);
void els_stream_close(struct els_stream *s);

/* True when the folder holds CIFAR batches. */
int els_import_is_cifar_folder(const char *folder);

int els_import_idx(struct els_importer *im, struct els_error *err);
int els_import_cifar(struct els_importer *im, int is_folder, struct els_error *err);
int els_import_folder(struct els_importer *im, struct els_error *err);
int els_import_npy(struct els_importer *im, struct els_error *err);

#endif
