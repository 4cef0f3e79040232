/*
 * The patch bank: images, labels and what is said about them.
 *
 * A bank is built on one thread, found sound, and never changes afterwards: its images lie on read-only
 * pages, so any number of threads read it without a lock. Whoever holds a reference keeps it alive; jobs
 * outlive the request that started them, so the count is atomic.
 */
#include "els/bank.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bank/bank_internal.h"
#include "core/base/sha256.h"
#include "core/base/utf8.h"
#include "els/mem.h"

enum {
    MAX_TEXT = 64 << 10,
    MAX_CLASS_NAME = 255,
    PIECE = 4 << 20, /* bytes of images between two looks at `stop` */
};

/* Values of F32 images may pass ±1 by this much: normalising in float32 does. */
static const float SLACK = 1e-3f;

struct els_bank {
    atomic_int references;
    struct els_bank_info info;
    struct els_region images;
    int64_t *labels;
    char **class_names;
    int64_t *class_counts;
    char *scales, *source, *license;
    void (*at_end)(void *user);
    void *end_user;
};

static int name_is_sound(const char *name)
{
    static const char ALLOWED[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t n = strlen(name);

    return n >= 1 && n <= 63 && strspn(name, ALLOWED) == n;
}

void els_bank_name_from_path(char out[64], const char *path)
{
    size_t end = strlen(path), start, n = 0;

    while (end > 0 && path[end - 1] == '/')
        end--;
    start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    /* The stem ends at the last dot, or at the one before it: data.npy.gz, but not at a leading dot. */
    if (end - start > 3 && memcmp(path + end - 3, ".gz", 3) == 0)
        end -= 3;
    for (size_t i = end; i > start + 1; i--) {
        if (path[i - 1] == '.') {
            end = i - 1;
            break;
        }
    }
    for (size_t i = start; i < end && n < 63; i++, n++) {
        out[n] = path[i];
        out[n + 1] = '\0';
        if (!name_is_sound(&out[n]))
            out[n] = '-';
    }
    if (n == 0)
        memcpy(out, "bank", 5);
}

static int check_text(const char *text, const char *field, struct els_error *err)
{
    if (text && strlen(text) > MAX_TEXT)
        return els_fail(err, ELS_EINVAL, field, "%s has %zu bytes; at most %d are kept", field, strlen(text),
                        MAX_TEXT);
    if (text && !els_utf8_is_text(text))
        return els_fail(err, ELS_EINVAL, field, "%s is not UTF-8", field);
    return 0;
}

int els_bank_check_parts(const struct els_bank_parts *p, size_t *bytes, struct els_error *err)
{
    const int64_t dims[] = {p->num_images, p->shape.c, p->shape.h, p->shape.w};
    int r;

    if (!p->name || !name_is_sound(p->name))
        return els_fail(err, ELS_EINVAL, "name",
                        "the bank's name '%.80s' must be 1 to 63 letters, digits, '-' or '_'",
                        p->name ? p->name : "");
    if (p->dtype != ELS_U8 && p->dtype != ELS_F32)
        return els_fail(err, ELS_EINVAL, "images", "images are %s; they must be U8 or F32",
                        els_dtype_name(p->dtype));
    if (p->num_images < 1 || p->num_images > ELS_MAX_IMAGES)
        return els_fail(err, ELS_EINVAL, "images", "a bank holds 1 to %d images, not %lld", ELS_MAX_IMAGES,
                        (long long)p->num_images);
    if (p->shape.c < 1 || p->shape.c > ELS_MAX_CHANNELS)
        return els_fail(err, ELS_EINVAL, "images", "images have 1 to %d channels, not %d",
                        ELS_MAX_CHANNELS, p->shape.c);
    if (p->shape.h < 1 || p->shape.h > ELS_MAX_SIDE || p->shape.w < 1 || p->shape.w > ELS_MAX_SIDE)
        return els_fail(err, ELS_EINVAL, "images", "images are 1 to %d pixels high and wide, not %dx%d",
                        ELS_MAX_SIDE, p->shape.h, p->shape.w);
    if (els_tensor_check_dims(p->dtype, 4, dims, bytes) < 0)
        return els_fail(err, ELS_ELIMIT, "images", "the images do not fit into memory");
    r = check_text(p->scales, "scales", err);
    if (r == 0)
        r = check_text(p->source, "source", err);
    if (r == 0)
        r = check_text(p->license, "license", err);
    return r;
}

int els_bank_is_stopped(const struct els_bank_opening *how)
{
    return how && how->stop && how->stop(how->user);
}

static int check_values(const struct els_bank_parts *p, const void *images, const struct els_bank_opening *how,
                        struct els_error *err)
{
    const float *v = images;
    size_t per_image = els_shape_values(p->shape), n = per_image * (size_t)p->num_images;

    for (size_t i = 0; p->dtype == ELS_F32 && i < n; i++) {
        if (i % (PIECE / sizeof(*v)) == 0 && els_bank_is_stopped(how))
            return els_fail(err, ELS_ECANCELLED, NULL, "opening the bank was stopped");
        if (!(fabsf(v[i]) <= 1 + SLACK))
            return els_fail(err, ELS_EINVAL, "images",
                            "image %zu holds the value %g; F32 images must be finite and in [-1, 1]",
                            i / per_image, (double)v[i]);
    }
    return 0;
}

/* Checks the labels, copies them and counts; *num_classes comes in as the caller's number or 0. */
static int take_labels(struct els_bank *b, const struct els_bank_parts *p, struct els_error *err)
{
    int64_t limit = p->num_classes ? p->num_classes : ELS_MAX_CLASSES, largest = 0;

    if (!p->labels) {
        if (p->num_classes || p->class_names)
            return els_fail(err, ELS_EINVAL, "classes", "there are classes but no labels");
        return 0;
    }
    if (p->num_classes < 0 || p->num_classes > ELS_MAX_CLASSES || (p->class_names && !p->num_classes))
        return els_fail(err, ELS_EINVAL, "classes", "there are 1 to %d classes, not %d", ELS_MAX_CLASSES,
                        p->num_classes);
    for (int64_t i = 0; i < p->num_images; i++) {
        if (p->labels[i] < 0 || p->labels[i] >= limit)
            return els_fail(err, ELS_EINVAL, "labels",
                            "the label of image %lld is %lld; it must be from 0 to %lld", (long long)i,
                            (long long)p->labels[i], (long long)limit - 1);
        if (p->labels[i] > largest)
            largest = p->labels[i];
    }
    b->info.num_classes = p->num_classes ? p->num_classes : (int)largest + 1;
    b->labels = els_alloc_array((size_t)p->num_images, sizeof(*b->labels));
    b->class_counts = els_alloc_array((size_t)b->info.num_classes, sizeof(*b->class_counts));
    if (!b->labels || !b->class_counts)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    memcpy(b->labels, p->labels, (size_t)p->num_images * sizeof(*b->labels));
    for (int64_t i = 0; i < p->num_images; i++)
        b->class_counts[b->labels[i]]++;
    return 0;
}

static int take_class_names(struct els_bank *b, const struct els_bank_parts *p, struct els_error *err)
{
    char number[16];

    b->class_names = els_alloc_array((size_t)b->info.num_classes, sizeof(*b->class_names));
    if (!b->class_names)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    for (int i = 0; i < b->info.num_classes; i++) {
        const char *name = number;

        if (p->class_names)
            name = p->class_names[i];
        else
            snprintf(number, sizeof(number), "%d", i);
        if (!*name || !els_utf8_is_line(name, MAX_CLASS_NAME))
            return els_fail(err, ELS_EINVAL, "classes",
                            "the name of class %d must be 1 to %d bytes of UTF-8 on one line", i,
                            MAX_CLASS_NAME);
        b->class_names[i] = strdup(name);
        if (!b->class_names[i])
            return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    }
    return 0;
}

static int take_texts(struct els_bank *b, const struct els_bank_parts *p, struct els_error *err)
{
    b->scales = strdup(p->scales ? p->scales : "");
    b->source = strdup(p->source ? p->source : "");
    b->license = strdup(p->license ? p->license : "");
    if (!b->scales || !b->source || !b->license)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    return 0;
}

/* The fingerprint covers what a machine reads, so a renamed bank keeps it. */
static int fingerprint(const struct els_bank *b, const uint8_t *images, const struct els_bank_opening *how,
                       char out[ELS_SHA256_HEX])
{
    const struct els_bank_info *info = &b->info;
    struct els_sha256 h;
    char head[96];
    int n = snprintf(head, sizeof(head), "els-bank %s [%lld,%d,%d,%d]\n", els_dtype_name(info->dtype),
                     (long long)info->num_images, info->shape.c, info->shape.h, info->shape.w);

    els_sha256_init(&h);
    els_sha256_update(&h, head, (size_t)n);
    for (size_t at = 0, piece; at < info->bytes; at += piece) {
        if (els_bank_is_stopped(how))
            return ELS_ECANCELLED;
        piece = info->bytes - at < PIECE ? info->bytes - at : PIECE;
        els_sha256_update(&h, images + at, piece);
    }
    if (b->labels)
        els_sha256_update(&h, b->labels, (size_t)info->num_images * sizeof(*b->labels));
    els_sha256_hex(&h, out);
    return 0;
}

static void bank_free(struct els_bank *b)
{
    void (*at_end)(void *user) = b->at_end;
    void *user = b->end_user;

    for (int i = 0; b->class_names && i < b->info.num_classes; i++)
        free(b->class_names[i]);
    free(b->class_names);
    free(b->class_counts);
    free(b->labels);
    free(b->scales);
    free(b->source);
    free(b->license);
    els_region_deinit(&b->images);
    free(b);
    if (at_end)
        at_end(user);
}

int els_bank_adopt(struct els_bank **out, const struct els_bank_parts *parts, struct els_region *images,
                   const struct els_bank_opening *how, struct els_error *err)
{
    struct els_bank *b = els_alloc_array(1, sizeof(*b));
    size_t bytes = 0;
    int r;

    if (!b)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    r = els_bank_check_parts(parts, &bytes, err);
    if (r == 0)
        r = check_values(parts, images->data, how, err);
    if (r == 0)
        r = take_labels(b, parts, err);
    if (r == 0 && b->labels)
        r = take_class_names(b, parts, err);
    if (r == 0)
        r = take_texts(b, parts, err);
    if (r < 0)
        goto fail;
    snprintf(b->info.name, sizeof(b->info.name), "%s", parts->name);
    b->info.shape = parts->shape;
    b->info.num_images = parts->num_images;
    b->info.dtype = parts->dtype;
    b->info.bytes = bytes;
    b->info.class_names = (const char *const *)b->class_names;
    b->info.class_counts = b->class_counts;
    b->info.scales = b->scales;
    b->info.source = b->source;
    b->info.license = b->license;
    r = fingerprint(b, images->data, how, b->info.sha256);
    if (r < 0) {
        els_fail(err, r, NULL, "opening the bank was stopped");
        goto fail;
    }
    els_region_seal(images);
    b->images = *images;
    *images = (struct els_region){0};
    atomic_init(&b->references, 1);
    *out = b;
    return 0;
fail:
    bank_free(b);
    return r;
}

int els_bank_new(struct els_bank **out, const struct els_bank_parts *parts, struct els_error *err)
{
    struct els_region images = {0};
    size_t bytes = 0;
    int r = els_bank_check_parts(parts, &bytes, err);

    if (r < 0)
        return r;
    if (els_region_new(&images, bytes) < 0)
        return els_fail(err, ELS_ENOMEM, "images", "no memory for the %zu bytes of the images", bytes);
    memcpy(images.data, parts->images, bytes);
    r = els_bank_adopt(out, parts, &images, NULL, err);
    els_region_deinit(&images);
    return r;
}

struct els_bank *els_bank_ref(struct els_bank *bank)
{
    /* Relaxed: the caller's own reference already orders everything it can see. */
    atomic_fetch_add_explicit(&bank->references, 1, memory_order_relaxed);
    return bank;
}

struct els_bank *els_bank_unref(struct els_bank *bank)
{
    /* Release our reads, and let the last one out acquire everybody's before it frees. */
    if (bank && atomic_fetch_sub_explicit(&bank->references, 1, memory_order_acq_rel) == 1)
        bank_free(bank);
    return NULL;
}

uint64_t els_bank_memory(const struct els_bank *bank)
{
    const struct els_bank_info *info = &bank->info;
    uint64_t bytes = sizeof(*bank) + info->bytes + strlen(info->scales) + strlen(info->source) + strlen(info->license);

    if (bank->labels)
        bytes += (uint64_t)info->num_images * sizeof(*bank->labels);
    for (int i = 0; i < info->num_classes; i++)
        bytes += strlen(bank->class_names[i]) + 32 + sizeof(*bank->class_names) + sizeof(*bank->class_counts);
    return bytes;
}

void els_bank_at_end(struct els_bank *bank, void (*at_end)(void *user), void *user)
{
    bank->at_end = at_end;
    bank->end_user = user;
}

const struct els_bank_info *els_bank_info(const struct els_bank *bank)
{
    return &bank->info;
}

const void *els_bank_images(const struct els_bank *bank)
{
    return bank->images.data;
}

const int64_t *els_bank_labels(const struct els_bank *bank)
{
    return bank->labels;
}

void els_bank_image(const struct els_bank *bank, int64_t i, float *out)
{
    size_t n = els_shape_values(bank->info.shape), at = (size_t)i * n;

    if (bank->info.dtype == ELS_F32) {
        memcpy(out, (const float *)(const void *)bank->images.data + at, n * sizeof(*out));
        return;
    }
    for (size_t k = 0; k < n; k++)
        out[k] = ((float)bank->images.data[at + k] - 127.5f) / 127.5f;
}
