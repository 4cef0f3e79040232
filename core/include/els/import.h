/*
 * import: other people's data sets into a bank.
 *
 *     struct els_import_spec spec = {.source = "train-images-idx3-ubyte.gz",
 *                                    .labels = "train-labels-idx1-ubyte.gz",
 *                                    .resize_h = 32, .resize_w = 32};
 *     struct els_bank *bank = NULL;
 *     els_import(&bank, &spec, &err);
 *
 * The kind of the source is told from its content, not its name:
 *   - IDX images (u8, 3 dims [N,H,W] or 4 dims [N,H,W,C]), plain or gzipped; `labels` is an IDX label file
 *     (if NULL and the source is named …images-idx3…, the …labels-idx1… beside it is taken when it is there)
 *   - CIFAR-10 / CIFAR-100 binary batches (a file, or a folder holding data_batch_*.bin[.gz] or train.bin[.gz]);
 *     class names from batches.meta.txt / fine_label_names.txt beside it
 *   - a folder of PNGs and JPEGs; sub-folders, when there are any, are the classes (sorted by name)
 *   - .npy: [N,H,W] or [N,C,H,W] or [N,H,W,C] (C in 1…4) of u8, or of f4/f8 in [−1,1] (kept as F32);
 *     `labels` is then an .npy of integers
 *
 * Order: crop (centre) first, then resize (Pillow's 8-bit bilinear, see resize.h).
 * `crop` larger than an image is an error; images of a folder that end up with different shapes too.
 * Hostile files (truncated, oversized, lying headers, gzip bombs) get an error; memory is bounded by
 * the bytes that the header promises, itself limited.
 */
#ifndef ELS_IMPORT_H
#define ELS_IMPORT_H

#include "els/api.h"
#include "els/bank.h"

ELS_BEGIN_DECLS

struct els_import_spec {
    const char *source;
    const char *labels;      /* NULL: found beside the source, or none */
    const char *name;        /* NULL: from the source's file name */
    int resize_h, resize_w;  /* 0: as they are */
    int crop_h, crop_w;      /* 0: whole */
    int64_t limit;           /* the first `limit` images; 0: all */
    int grey;                /* folder: make every picture one channel; else 3 unless all files are grey */
    /* Called now and then with the share done, 0…1; non-zero stops with ELS_ECANCELLED. May be NULL. */
    int (*progress)(void *user, double done);
    void *user;
};

ELS_API int els_import(struct els_bank **out, const struct els_import_spec *spec, struct els_error *err);

ELS_END_DECLS

#endif
