/*
 * bank: a patch bank, the training set that a score machine takes its patches from.
 *
 *     struct els_bank *bank = NULL;
 *     struct els_error err = {0};
 *     if (els_bank_open(&bank, "digits", &err) < 0)         // a built-in bank, or a file
 *         fprintf(stderr, "%s\n", err.message);
 *     const struct els_bank_info *info = els_bank_info(bank);
 *     printf("%lld images of %d×%d×%d\n", (long long)info->num_images,
 *            info->shape.c, info->shape.h, info->shape.w);
 *     bank = els_bank_unref(bank);
 *
 * A bank is immutable and reference-counted: any thread may read it while it
 * holds a reference. Its file is one .safetensors: tensors `images` U8 or F32
 * [N,C,H,W], optional `labels` I64 [N]; __metadata__ `name`, `classes` (a JSON array
 * as a string), `scales`, `source`, `license`. It is read into memory and validated whole before
 * use (a mapped file could be cut short or rewritten under a running job); the
 * pages are then read-only.
 *
 * Pixel values: a u8 pixel u stands for (u/255 − 0.5)/0.5; F32 pixels hold
 * [−1,1] and must be finite (float rounding may pass the ends by 1e-3).
 *
 * A name is 1 to 63 letters, digits, '-' or '_'. A file that names no name has its file's.
 */
#ifndef ELS_BANK_H
#define ELS_BANK_H

#include <stdint.h>

#include "els/api.h"
#include "els/error.h"
#include "els/shape.h"
#include "els/tensor.h"

ELS_BEGIN_DECLS

enum {
    ELS_MAX_CLASSES = 100000,
    ELS_MAX_IMAGES = 100000000,
};

struct els_bank_info {
    char name[64];
    struct els_shape shape;
    int64_t num_images;
    enum els_dtype dtype; /* ELS_U8 or ELS_F32 */
    int num_classes;      /* 0: no labels */
    const char *const *class_names;   /* [num_classes], "0", "1" … when the file names none */
    const int64_t *class_counts;      /* [num_classes] images of each class */
    const char *scales;   /* the bank's own scales: a preset's name or JSON; "" when it has none */
    const char *source;   /* where the images come from; may be "" */
    const char *license;  /* may be "" */
    char sha256[65];      /* of "els-bank U8 [N,C,H,W]\n", the images, and the labels as I64; lower-case hex */
    uint64_t bytes;       /* memory that the images take */
};

/* What a new bank is made of; every pointer is borrowed for the call and copied. */
struct els_bank_parts {
    const char *name;
    struct els_shape shape;
    int64_t num_images;
    enum els_dtype dtype;
    const void *images;    /* [N,C,H,W] */
    const int64_t *labels; /* [N], or NULL */
    int num_classes;       /* 0 with labels: one more than the largest label */
    const char *const *class_names; /* [num_classes], or NULL */
    const char *scales, *source, *license; /* NULL: "" */
};

struct els_bank;

/* Copies `parts` into a new bank with one reference. ELS_EINVAL names the part at fault. */
ELS_API int els_bank_new(struct els_bank **out, const struct els_bank_parts *parts, struct els_error *err);
/* Opens a .safetensors file, or a built-in bank by its name (see synth.h; a name never contains '/' or '.'). */
ELS_API int els_bank_open(struct els_bank **out, const char *file_or_builtin, struct els_error *err);

/*
 * For whoever accounts for memory and may want to stop. Before the opening allocates what depends on the file, `need`
 * hears how many bytes it will have taken at most, all that it took before included; a negative status, with
 * a sentence in *err, ends the opening. `stop` is polled every few milliseconds; nonzero ends it with
 * ELS_ECANCELLED. Each may be NULL. What the finished bank goes on taking: els_bank_memory().
 */
struct els_bank_opening {
    int (*need)(void *user, uint64_t bytes, struct els_error *err);
    int (*stop)(void *user);
    void *user;
};
ELS_API int els_bank_open_with(struct els_bank **out, const char *file_or_builtin, const struct els_bank_opening *how,
                               struct els_error *err);
/* The same from an open regular file, which stays the caller's. `path` is for messages, and names a bank
 * whose file does not. ELS_EIO also when the file changed meanwhile. `how` may be NULL. */
ELS_API int els_bank_read(struct els_bank **out, int fd, const char *path, const struct els_bank_opening *how,
                          struct els_error *err);
/* The same from bytes in memory (copied). `name` is used when the metadata has none; may be NULL. */
ELS_API int els_bank_parse(struct els_bank **out, const void *bytes, size_t size, const char *name,
                           struct els_error *err);
/* Writes path.tmp, syncs, renames: the file is whole or absent. */
ELS_API int els_bank_save(const struct els_bank *bank, const char *path, struct els_error *err);

ELS_API struct els_bank *els_bank_ref(struct els_bank *bank);
/* Drops a reference; NULL is fine. Returns NULL. */
ELS_API struct els_bank *els_bank_unref(struct els_bank *bank);

/* Bytes that the bank takes: images, labels, names. */
ELS_API uint64_t els_bank_memory(const struct els_bank *bank);
/* `at_end(user)` is called when the last reference is dropped, once the memory is free, on whatever thread drops it.
 * To be set before the bank is shared. */
ELS_API void els_bank_at_end(struct els_bank *bank, void (*at_end)(void *user), void *user);

/* Valid while a reference is held. */
ELS_API const struct els_bank_info *els_bank_info(const struct els_bank *bank);
/* [N,C,H,W] of the bank's dtype. */
ELS_API const void *els_bank_images(const struct els_bank *bank);
/* [N], or NULL. */
ELS_API const int64_t *els_bank_labels(const struct els_bank *bank);
/* Image i as float32 [C,H,W] in [−1,1]: for u8, ((float)u − 127.5f)/127.5f. */
ELS_API void els_bank_image(const struct els_bank *bank, int64_t i, float *out);
/* The class of that name (first match) or of that decimal index: 0 … num_classes−1, or ELS_ENOENT
 * with a sentence that lists what there is. */
ELS_API int els_bank_find_class(const struct els_bank *bank, const char *name_or_index, int64_t *out,
                                struct els_error *err);

/*
 * Which images a machine may take candidates from: those of one class, minus
 * exclusions, and of these the first `max_samples`.
 */
struct els_selection_spec {
    int64_t label;       /* class index; −1: every class */
    int64_t max_samples; /* 0: no limit */
    const int64_t *exclude_images;  /* bank indices, any order */
    size_t num_exclude_images;
    const int64_t *exclude_classes; /* class indices */
    size_t num_exclude_classes;
};

/* Writes the selected bank indices, ascending, to a new array (free()); ELS_EINVAL when a value is
 * out of range or nothing is left. */
ELS_API int els_bank_select(const struct els_bank *bank, const struct els_selection_spec *spec,
                            int64_t **indices, int64_t *count, struct els_error *err);

ELS_END_DECLS

#endif
