/*
 * CIFAR-10 and CIFAR-100 in their binary layout. Called by import.c; holds no state.
 *
 * CIFAR-10: records of one label and 3×32×32 bytes. CIFAR-100: a coarse label, a fine label and the same;
 * the fine one is taken. There is no header, so the file is read twice: once to see which of the two
 * all of its bytes agree with.
 */
#include <dirent.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/bank/import/import_internal.h"

enum { SIDE = 32, PIXELS = 3 * SIDE * SIDE, MAX_NAMES = 64 << 10 };

/* What one file may inflate to; CIFAR-100's 50,000 images are 154 MB. */
static const uint64_t MAX_INFLATED = UINT64_C(1) << 32;

struct kind {
    int labels;     /* bytes before the pixels */
    int limits[2];  /* each label is below its limit; the last one counts */
    int num_classes;
    const char *names_file;
};

static const struct kind KINDS[] = {
    {1, {10}, 10, "batches.meta.txt"},
    {2, {20, 100}, 100, "fine_label_names.txt"},
};
enum { NUM_KINDS = sizeof(KINDS) / sizeof(*KINDS) };

/* True when the piece of the file at `at` has labels where that kind has them. */
static int agrees(const struct kind *k, const uint8_t *piece, size_t size, uint64_t at)
{
    uint64_t record = (uint64_t)(PIXELS + k->labels);

    for (int l = 0; l < k->labels; l++) {
        uint64_t first = (record - at % record + (uint64_t)l) % record;

        for (uint64_t i = first; i < size; i += record)
            if (piece[i] >= k->limits[l])
                return 0;
    }
    return 1;
}

/* Which kind the whole file is, and how many records it has. */
static int detect(const char *path, const struct kind **out, int64_t *records, struct els_error *err)
{
    struct els_stream s = {0};
    int possible[NUM_KINDS] = {1, 1};
    uint64_t total = 0;
    uint8_t piece[16384];
    size_t got = 1;
    int r = els_stream_open(&s, path, err);

    while (r == 0 && got > 0 && (possible[0] || possible[1])) {
        r = els_stream_read_some(&s, piece, sizeof(piece), &got, err);
        for (int k = 0; r == 0 && k < NUM_KINDS; k++)
            possible[k] = possible[k] && agrees(&KINDS[k], piece, got, total);
        total += got;
        if (r == 0 && total > MAX_INFLATED)
            r = els_fail(err, ELS_ELIMIT, "source", "%.200s has more than %llu bytes", path,
                         (unsigned long long)MAX_INFLATED);
    }
    els_stream_close(&s);
    if (r < 0)
        return r;
    for (int k = 0; k < NUM_KINDS; k++) {
        uint64_t record = (uint64_t)(PIXELS + KINDS[k].labels);

        if (possible[k] && total > 0 && total % record == 0) {
            *out = &KINDS[k];
            *records = (int64_t)(total / record);
            return 0;
        }
    }
    return els_fail(err, ELS_EFORMAT, "source",
                    "%.200s is not IDX, not .npy, and not a whole number of CIFAR-10 or CIFAR-100 records",
                    path);
}

/* One name per line of the file beside the batches, if it is there. */
static int read_names(struct els_importer *im, const struct kind *k, const char *folder, struct els_error *err)
{
    _cleanup_(els_freep) char *path = NULL;
    _cleanup_(els_freep) char *text = els_alloc_array(MAX_NAMES + 1, 1);
    struct els_stream s = {0};
    size_t size = 0, n;
    int r;

    im->num_classes = 0;
    if (!text || asprintf(&path, "%s/%s", folder, k->names_file) < 0)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    if (access(path, F_OK) < 0) {
        im->num_classes = k->num_classes;
        return 0;
    }
    r = els_stream_open(&s, path, err);
    if (r == 0)
        r = els_stream_read_some(&s, text, MAX_NAMES, &size, err);
    els_stream_close(&s);
    for (char *line = text; r == 0 && *line; line += n + strspn(line + n, "\r\n")) {
        n = strcspn(line, "\r\n");
        if (n)
            r = els_importer_add_class(im, line, n, err);
    }
    if (r == 0 && im->num_classes != k->num_classes)
        r = els_fail(err, ELS_EFORMAT, "source", "%.200s names %d classes; there are %d", path,
                     im->num_classes, k->num_classes);
    return r;
}

static int read_batch(struct els_importer *im, const struct kind *k, const char *path, struct els_error *err)
{
    uint8_t record[2 + PIXELS];
    size_t size = (size_t)(k->labels + PIXELS), got;
    const struct els_import_view view = {ELS_U8, record + k->labels, 3, SIDE, SIDE, SIDE * SIDE, SIDE, 1};
    struct els_stream s = {0};
    int r = els_stream_open(&s, path, err);

    while (r == 0 && !els_importer_full(im)) {
        r = els_stream_read_some(&s, record, size, &got, err);
        if (r < 0 || got == 0)
            break;
        if (got < size || record[k->labels - 1] >= k->num_classes)
            r = els_fail(err, ELS_EFORMAT, "source", "%.200s %s after %lld images", path,
                         got < size ? "ends within a record" : "has a label out of range",
                         (long long)im->count);
        else
            r = els_importer_put(im, &view, record[k->labels - 1], err);
    }
    els_stream_close(&s);
    return r;
}

static int matches(const char *name, const char *pattern)
{
    return fnmatch(pattern, name, 0) == 0;
}

static int is_ten(const struct dirent *e)
{
    return matches(e->d_name, "data_batch_*.bin") || matches(e->d_name, "data_batch_*.bin.gz");
}

static int is_hundred(const struct dirent *e)
{
    return matches(e->d_name, "train.bin") || matches(e->d_name, "train.bin.gz");
}

/* "x.bin" sorts before "x.bin.gz", and the batches by their number's text. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int list(const char *folder, struct dirent ***out)
{
    int n = scandir(folder, out, is_ten, by_name);

    if (n == 0) {
        free(*out);
        n = scandir(folder, out, is_hundred, by_name);
    }
    return n;
}

static void list_free(struct dirent **names, int n)
{
    for (int i = 0; i < n; i++)
        free(names[i]);
    if (n >= 0)
        free(names);
}

int els_import_is_cifar_folder(const char *folder)
{
    struct dirent **names = NULL;
    int n = list(folder, &names);

    list_free(names, n);
    return n > 0;
}

static int import_file(struct els_importer *im, const char *path, const char *folder, int first, int files,
                       const struct kind **kind, struct els_error *err)
{
    int64_t records;
    int r = 0;

    if (first) {
        r = detect(path, kind, &records, err);
        if (r == 0)
            r = read_names(im, *kind, folder, err);
        im->expected = r == 0 ? records * files : 0;
    }
    return r == 0 ? read_batch(im, *kind, path, err) : r;
}

static int import_folder(struct els_importer *im, struct els_error *err)
{
    const char *folder = im->spec->source;
    const struct kind *kind = NULL;
    struct dirent **names = NULL;
    int n = list(folder, &names), r = 0;

    for (int i = 0; r == 0 && i < n && !els_importer_full(im); i++) {
        _cleanup_(els_freep) char *path = NULL;

        /* The same batch twice, plain and gzipped: the plain one was read just before. */
        if (i > 0 && strncmp(names[i]->d_name, names[i - 1]->d_name, strlen(names[i - 1]->d_name)) == 0 &&
            strcmp(names[i]->d_name + strlen(names[i - 1]->d_name), ".gz") == 0)
            continue;
        if (asprintf(&path, "%s/%s", folder, names[i]->d_name) < 0) {
            path = NULL;
            r = els_fail(err, ELS_ENOMEM, NULL, "out of memory");
        } else {
            r = import_file(im, path, folder, i == 0, n, &kind, err);
        }
    }
    list_free(names, n);
    return r;
}

int els_import_cifar(struct els_importer *im, int is_folder, struct els_error *err)
{
    const char *source = im->spec->source, *slash = strrchr(source, '/');
    _cleanup_(els_freep) char *folder = NULL;
    const struct kind *kind = NULL;

    if (im->spec->labels)
        return els_fail(err, ELS_EINVAL, "labels", "CIFAR batches hold their labels; give no label file");
    if (is_folder)
        return import_folder(im, err);
    folder = slash ? strndup(source, slash == source ? 1 : (size_t)(slash - source)) : strdup(".");
    if (!folder)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    return import_file(im, source, folder, 1, 1, &kind, err);
}
