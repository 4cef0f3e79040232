/*
 * Banks in and out of .safetensors files.
 *
 * Called from the thread that loads or imports banks. Everything in the file is hostile until checked: the
 * container by safetensors.c, the rest here and in els_bank_adopt. A file is read once, into the pages
 * that the bank then keeps: its images are moved to their front, where they are aligned.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bank/bank_internal.h"
#include "core/base/json.h"
#include "els/bank.h"
#include "els/mem.h"
#include "els/safetensors.h"
#include "els/synth.h"

static const size_t MAX_FILE = (size_t)1 << 36;

enum {
    PIECE = 16 << 20,             /* moved between two looks at `stop` */
    BUILT_IN_MEMORY = 16 << 20,   /* of a bank that is drawn, not read, the copy of els_bank_new included */
    CLASS_BYTES = 48,             /* a class without a name of its own: number, pointer, count */
};

/* The parts of a bank as they were found in a file, and what was allocated to hold them. */
struct found {
    struct els_safetensors *st;
    struct els_bank_parts parts;
    json_t *classes;          /* keeps the names alive */
    const char **class_names;
    int64_t *labels;
    const struct els_bank_opening *how; /* may be NULL */
    uint64_t taken;                     /* bytes that `how` has been asked for */
};

/* Asks for so many bytes more. */
static int need(struct found *f, uint64_t bytes, struct els_error *err)
{
    f->taken += bytes;
    return f->how && f->how->need ? f->how->need(f->how->user, f->taken, err) : 0;
}

static void found_deinit(struct found *f)
{
    els_safetensors_free(f->st);
    json_decref(f->classes);
    free(f->class_names);
    free(f->labels);
}

static int find_images(struct found *f, struct els_error *err)
{
    const struct els_tensor *t = els_safetensors_find(f->st, "images");
    char shape[192];

    if (!t)
        return els_fail(err, ELS_EFORMAT, "images", "the file has no tensor named images");
    els_tensor_shape_text(t, shape, sizeof(shape));
    if (t->ndim != 4)
        return els_fail(err, ELS_EFORMAT, "images", "images has shape %s; it must be [N,C,H,W]", shape);
    for (int i = 0; i < 4; i++)
        if (t->dims[i] < 1 || t->dims[i] > (i == 0 ? ELS_MAX_IMAGES : ELS_MAX_SIDE))
            return els_fail(err, ELS_EINVAL, "images",
                            "images has shape %s; [N,C,H,W] must be from 1 to [%d,%d,%d,%d]", shape,
                            ELS_MAX_IMAGES, ELS_MAX_CHANNELS, ELS_MAX_SIDE, ELS_MAX_SIDE);
    f->parts.num_images = t->dims[0];
    f->parts.shape = (struct els_shape){(int)t->dims[1], (int)t->dims[2], (int)t->dims[3]};
    f->parts.dtype = t->dtype;
    f->parts.images = t->data;
    return 0;
}

static int find_labels(struct found *f, struct els_error *err)
{
    const struct els_tensor *t = els_safetensors_find(f->st, "labels");
    char shape[192];
    int r;

    if (!t)
        return 0;
    if (t->dtype != ELS_I64 || t->ndim != 1 || t->dims[0] != f->parts.num_images)
        return els_fail(err, ELS_EFORMAT, "labels", "labels is %s %s; it must be I64 [%lld]",
                        els_dtype_name(t->dtype), els_tensor_shape_text(t, shape, sizeof(shape)),
                        (long long)f->parts.num_images);
    /* Once here, where they are aligned (in the file they may lie at any address), and once in the bank. */
    r = need(f, 2 * els_tensor_bytes(t) + ELS_MAX_CLASSES * CLASS_BYTES, err);
    if (r < 0)
        return r;
    f->labels = els_alloc_array((size_t)t->dims[0], sizeof(*f->labels));
    if (!f->labels)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    memcpy(f->labels, t->data, els_tensor_bytes(t));
    f->parts.labels = f->labels;
    return 0;
}

static int find_classes(struct found *f, struct els_error *err)
{
    const struct els_json_limits limits = {.depth = 1, .values = ELS_MAX_CLASSES + 1, .string = ELS_JSON_MAX_STRING};
    const char *text = els_safetensors_metadata(f->st, "classes");
    struct els_json_size measured;
    size_t n;
    int r;

    if (!text)
        return 0;
    r = els_json_measure(&measured, text, strlen(text), &limits, "classes", err);
    if (r == 0)
        r = need(f, els_json_memory(&measured) + ELS_MAX_CLASSES * sizeof(*f->class_names), err);
    if (r < 0)
        return r;
    r = els_json_parse(&f->classes, text, strlen(text), &limits, "classes", err);
    if (r < 0)
        return r;
    n = json_array_size(f->classes);
    if (n < 1 || n > ELS_MAX_CLASSES)
        return els_fail(err, ELS_EFORMAT, "classes",
                        "__metadata__.classes must be a JSON array of 1 to %d names", ELS_MAX_CLASSES);
    f->class_names = els_alloc_array(n, sizeof(*f->class_names));
    if (!f->class_names)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        f->class_names[i] = json_string_value(json_array_get(f->classes, i));
        if (!f->class_names[i])
            return els_fail(err, ELS_EFORMAT, "classes", "__metadata__.classes[%zu] is not a string", i);
    }
    f->parts.num_classes = (int)n;
    f->parts.class_names = f->class_names;
    return 0;
}

/* Fills *f, which the caller deinits in any case. */
static int find_parts(struct found *f, const void *bytes, size_t size, const char *name,
                      struct els_error *err)
{
    int r = els_safetensors_parse(&f->st, bytes, size, err);

    if (r == 0)
        r = find_images(f, err);
    if (r == 0)
        r = find_labels(f, err);
    if (r == 0)
        r = find_classes(f, err);
    if (r < 0)
        return r;
    f->parts.name = els_safetensors_metadata(f->st, "name");
    if (!f->parts.name)
        f->parts.name = name;
    f->parts.scales = els_safetensors_metadata(f->st, "scales");
    f->parts.source = els_safetensors_metadata(f->st, "source");
    f->parts.license = els_safetensors_metadata(f->st, "license");
    return 0;
}

int els_bank_parse(struct els_bank **out, const void *bytes, size_t size, const char *name,
                   struct els_error *err)
{
    struct found f = {0};
    int r = find_parts(&f, bytes, size, name ? name : "bank", err);

    if (r == 0)
        r = els_bank_new(out, &f.parts, err);
    found_deinit(&f);
    return r;
}

static int check_file(int fd, const char *path, struct stat *st, struct els_error *err)
{
    if (fstat(fd, st) < 0)
        return els_fail(err, ELS_EIO, "file", "cannot stat %.200s: %s", path, strerror(errno));
    if (!S_ISREG(st->st_mode))
        return els_fail(err, ELS_EIO, "file", "%.200s is not a regular file", path);
    if ((uintmax_t)st->st_size > MAX_FILE)
        return els_fail(err, ELS_ELIMIT, "file", "%.200s has %lld bytes; at most %zu are read", path,
                        (long long)st->st_size, MAX_FILE);
    return 0;
}

/* Nobody wrote to it since. What was read would be checked all the same, but might be half old and half new. */
static int check_unchanged(int fd, const char *path, const struct stat *before, struct els_error *err)
{
    struct stat now;

    if (fstat(fd, &now) < 0 || now.st_size != before->st_size || now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != before->st_mtim.tv_nsec)
        return els_fail(err, ELS_EIO, "file", "%.200s changed while it was read", path);
    return 0;
}

/* Nothing but the images is still needed of the file; every text was copied by jansson. */
static int keep_images(struct found *f, struct els_region *region, size_t bytes, struct els_error *err)
{
    const uint8_t *images = f->parts.images;

    for (size_t at = 0; at < bytes; at += PIECE) {
        if (els_bank_is_stopped(f->how))
            return els_fail(err, ELS_ECANCELLED, NULL, "opening the bank was stopped");
        memmove(region->data + at, images + at, bytes - at < PIECE ? bytes - at : PIECE);
    }
    els_region_shrink(region, bytes);
    return 0;
}

static int build(struct els_bank **out, struct els_region *region, const char *path, struct found *f,
                 struct els_error *err)
{
    struct els_error why = {0};
    char name[64];
    size_t bytes;
    int r;

    els_bank_name_from_path(name, path);
    r = find_parts(f, region->data, region->size, name, &why);
    if (r == 0)
        r = els_bank_check_parts(&f->parts, &bytes, &why);
    if (r == 0)
        r = keep_images(f, region, bytes, &why);
    if (r == 0)
        r = els_bank_adopt(out, &f->parts, region, f->how, &why);
    if (r < 0)
        els_fail(err, r, why.field, "%.160s: %.280s", path, why.message);
    return r;
}

int els_bank_read(struct els_bank **out, int fd, const char *path, const struct els_bank_opening *how,
                  struct els_error *err)
{
    struct els_region region = {0};
    struct found f = {.how = how};
    struct stat st;
    int r = check_file(fd, path, &st, err);

    if (r == 0)
        r = need(&f, (uint64_t)st.st_size, err);
    if (r == 0)
        r = els_region_read_fd(&region, fd, (size_t)st.st_size, path, how ? how->stop : NULL,
                               how ? how->user : NULL, err);
    if (r == 0)
        r = check_unchanged(fd, path, &st, err);
    if (r == 0)
        r = need(&f, els_safetensors_memory(region.data, region.size), err);
    if (r == 0)
        r = build(out, &region, path, &f, err);
    found_deinit(&f);
    els_region_deinit(&region);
    return r;
}

static int open_file(struct els_bank **out, const char *path, const struct els_bank_opening *how,
                     struct els_error *err)
{
    /* O_NONBLOCK: opening a FIFO that nobody writes to must not hang. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int r;

    if (fd < 0)
        return els_fail(err, errno == ENOENT ? ELS_ENOENT : ELS_EIO, "file", "cannot open %.200s: %s", path,
                        strerror(errno));
    r = els_bank_read(out, fd, path, how, err);
    close(fd);
    return r;
}

int els_bank_open(struct els_bank **out, const char *file_or_builtin, struct els_error *err)
{
    return els_bank_open_with(out, file_or_builtin, NULL, err);
}

int els_bank_open_with(struct els_bank **out, const char *file_or_builtin, const struct els_bank_opening *how,
                       struct els_error *err)
{
    struct found f = {.how = how};
    struct els_error why = {0};
    int r;

    if (strpbrk(file_or_builtin, "/."))
        return open_file(out, file_or_builtin, how, err);
    r = need(&f, BUILT_IN_MEMORY, err);
    if (r < 0)
        return r;
    r = els_synth_bank(out, file_or_builtin, &why);
    if (r == ELS_ENOENT)
        els_fail(err, r, "bank", "%.300s; a file's path needs a '/' or a '.'", why.message);
    else if (r < 0)
        els_fail(err, r, why.field, "%s", why.message);
    return r;
}

/* The class names as a JSON array; free(). NULL when out of memory. */
static char *classes_text(const struct els_bank_info *info)
{
    json_t *array = json_array();
    char *text;

    for (int i = 0; i < info->num_classes; i++) {
        if (json_array_append_new(array, json_string(info->class_names[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    text = els_json_text(array, JSON_COMPACT);
    json_decref(array);
    return text;
}

/* The header of the bank's file. Labels come first: there they are aligned, whatever the images' size. */
static int write_header(struct els_buffer *out, const struct els_bank *bank)
{
    const struct els_bank_info *info = els_bank_info(bank);
    const int64_t dims[] = {info->num_images, info->shape.c, info->shape.h, info->shape.w};
    const struct els_named_tensor tensors[] = {
        {"labels", els_tensor_view(ELS_I64, 1, dims, els_bank_labels(bank))},
        {"images", els_tensor_view(info->dtype, 4, dims, els_bank_images(bank))},
    };
    _cleanup_(els_freep) char *classes = NULL;
    const char *keys[5], *values[5];
    size_t n = 0;

    keys[n] = "name", values[n++] = info->name;
    if (info->num_classes) {
        classes = classes_text(info);
        if (!classes)
            return ELS_ENOMEM;
        keys[n] = "classes", values[n++] = classes;
    }
    if (*info->scales)
        keys[n] = "scales", values[n++] = info->scales;
    if (*info->source)
        keys[n] = "source", values[n++] = info->source;
    if (*info->license)
        keys[n] = "license", values[n++] = info->license;
    return info->num_classes ? els_safetensors_write_header(out, tensors, 2, keys, values, n)
                             : els_safetensors_write_header(out, tensors + 1, 1, keys, values, n);
}

static int write_all(int fd, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    ssize_t n;

    while (size > 0) {
        n = write(fd, from, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return ELS_EIO;
        from += n;
        size -= (size_t)n;
    }
    return 0;
}

/* Creates `path` and fills it; on failure it may be left behind, cut short. */
static int write_file(const char *path, const struct els_bank *bank, const struct els_buffer *header)
{
    const struct els_bank_info *info = els_bank_info(bank);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    int r = fd < 0 ? ELS_EIO : write_all(fd, header->data, header->size);

    if (r == 0 && els_bank_labels(bank))
        r = write_all(fd, els_bank_labels(bank), (size_t)info->num_images * sizeof(int64_t));
    if (r == 0)
        r = write_all(fd, els_bank_images(bank), info->bytes);
    if (r == 0 && fsync(fd) < 0)
        r = ELS_EIO;
    /* Some file systems report a failed write only here. */
    if (fd >= 0 && close(fd) < 0 && r == 0)
        r = ELS_EIO;
    return r;
}

/* Makes the rename itself durable. */
static int sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    _cleanup_(els_freep) char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path))
                                              : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int r = fd >= 0 && fsync(fd) == 0 ? 0 : ELS_EIO;

    if (fd >= 0)
        close(fd);
    return r;
}

int els_bank_save(const struct els_bank *bank, const char *path, struct els_error *err)
{
    _cleanup_(els_buffer_deinit) struct els_buffer header = ELS_BUFFER_INIT(16 << 20);
    char *temporary = NULL;
    int r = write_header(&header, bank), created = 0;

    if (r < 0) {
        els_fail(err, r, "file", "the header of %.200s: %s", path, els_status_text(r));
        goto out;
    }
    if (asprintf(&temporary, "%s.tmp", path) < 0) {
        temporary = NULL;
        r = els_fail(err, ELS_ENOMEM, NULL, "out of memory");
        goto out;
    }
    created = 1;
    r = write_file(temporary, bank, &header);
    if (r == 0 && rename(temporary, path) < 0)
        r = ELS_EIO;
    if (r == 0) {
        created = 0;
        r = sync_folder_of(path);
    }
    if (r < 0)
        els_fail(err, r, "file", "cannot write %.200s: %s", path, strerror(errno));
out:
    if (created)
        unlink(temporary);
    free(temporary);
    return r;
}
