/*
 * A folder of PNGs and JPEGs. Called by import.c; holds no state.
 *
 * Sub-folders that hold pictures are the classes, in the order of their names' bytes. Files are pictures by
 * their ending; hidden ones and others are passed over, but a picture that cannot be read is an error.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/bank/import/import_internal.h"
#include "core/base/region.h"
#include "els/picture.h"

enum { MAX_FILE = 256 << 20 };

struct walk {
    struct els_importer *im;
    int any_colour;
};

static int is_picture(const char *name)
{
    static const char *const ENDINGS[] = {".png", ".jpg", ".jpeg"};
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot && i < sizeof(ENDINGS) / sizeof(*ENDINGS); i++)
        if (strcasecmp(dot, ENDINGS[i]) == 0)
            return 1;
    return 0;
}

static int not_hidden(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* As Pillow's convert("L"): ITU-R 601-2 luma in 16-bit fixed point. In place. */
static void make_grey(struct els_picture *p)
{
    size_t n = (size_t)p->width * (size_t)p->height;

    for (size_t i = 0; p->channels == 3 && i < n; i++) {
        const uint8_t *v = p->pixels + 3 * i;

        p->pixels[i] = (uint8_t)((v[0] * 19595u + v[1] * 38470u + v[2] * 7471u + 0x8000u) >> 16);
    }
    p->channels = 1;
}

static int read_picture(struct els_picture *p, const char *path, struct els_error *err)
{
    _cleanup_(els_region_deinit) struct els_region file = {0};
    int r = els_region_read_file(&file, path, MAX_FILE, err);

    return r == 0 ? els_picture_read(p, file.data, file.size, ELS_PICTURE_MAX_PIXELS, err) : r;
}

/* Puts one picture; a grey one counts as three equal channels until it is known that all are grey. */
static int put_file(struct walk *walk, const char *path, int64_t label, struct els_error *err)
{
    struct els_picture p = {0};
    struct els_error why = {0};
    struct els_import_view v;
    int r = read_picture(&p, path, &why);

    if (r == 0) {
        if (walk->im->spec->grey)
            make_grey(&p);
        walk->any_colour |= p.channels == 3;
        v = (struct els_import_view){
            .dtype = ELS_U8,
            .data = p.pixels,
            .c = walk->im->spec->grey ? 1 : 3,
            .h = p.height,
            .w = p.width,
            .plane = p.channels == 3,
            .row = (ptrdiff_t)p.width * p.channels,
            .column = p.channels,
        };
        r = els_importer_put(walk->im, &v, label, &why);
    }
    els_picture_deinit(&p);
    if (r < 0)
        els_fail(err, r, why.field[0] ? why.field : "source", "%.160s: %.280s", path, why.message);
    return r;
}

static char *join(const char *folder, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

static int is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The visible entries of a folder, by name. */
static int list(const char *folder, struct dirent ***out, struct els_error *err)
{
    int n = scandir(folder, out, not_hidden, by_name);

    return n < 0 ? els_fail(err, ELS_EIO, "source", "cannot list %.200s: %s", folder, strerror(errno)) : n;
}

static void list_free(struct dirent **names, int n)
{
    for (int i = 0; i < n; i++)
        free(names[i]);
    if (n >= 0)
        free(names);
}

/* Puts every picture that lies directly in `folder`. */
static int put_pictures(struct walk *walk, const char *folder, int64_t label, struct els_error *err)
{
    struct dirent **names = NULL;
    int n = list(folder, &names, err), r = n < 0 ? n : 0;

    for (int i = 0; r == 0 && i < n && !els_importer_full(walk->im); i++) {
        _cleanup_(els_freep) char *path = NULL;

        if (!is_picture(names[i]->d_name))
            continue;
        path = join(folder, names[i]->d_name);
        if (!path)
            r = els_fail(err, ELS_ENOMEM, NULL, "out of memory");
        else if (!is_folder(path))
            r = put_file(walk, path, label, err);
    }
    list_free(names, n);
    return r;
}

/* Counts the pictures directly in `folder`, for progress and to see which folders are classes. */
static int count_pictures(const char *folder, int64_t *count, struct els_error *err)
{
    struct dirent **names = NULL;
    int n = list(folder, &names, err);

    *count = 0;
    for (int i = 0; i < n; i++)
        *count += is_picture(names[i]->d_name);
    list_free(names, n);
    return n < 0 ? n : 0;
}

/* Each sub-folder with pictures becomes a class; classes[] gets their paths, freed by the caller. */
static int find_classes(struct els_importer *im, char ***classes, struct els_error *err)
{
    const char *top = im->spec->source;
    struct dirent **names = NULL;
    int n = list(top, &names, err), r = n < 0 ? n : 0;

    *classes = n > 0 ? els_alloc_array((size_t)n, sizeof(**classes)) : NULL;
    if (n > 0 && !*classes)
        r = els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    for (int i = 0; r == 0 && i < n; i++) {
        _cleanup_(els_freep) char *path = join(top, names[i]->d_name);
        int64_t count = 0;

        if (!path)
            r = els_fail(err, ELS_ENOMEM, NULL, "out of memory");
        else if (is_folder(path))
            r = count_pictures(path, &count, err);
        if (r == 0 && count > 0)
            r = els_importer_add_class(im, names[i]->d_name, strlen(names[i]->d_name), err);
        if (r == 0 && count > 0) {
            (*classes)[im->num_classes - 1] = path;
            path = NULL;
            im->expected += count;
        }
    }
    list_free(names, n);
    return r;
}

/* Three equal channels into one, in place. */
static void drop_colour(struct els_importer *im)
{
    size_t plane = (size_t)im->shape.h * (size_t)im->shape.w;

    for (size_t i = 0; i < (size_t)im->count; i++)
        memmove(im->images.data + i * plane, im->images.data + 3 * i * plane, plane);
    im->shape.c = 1;
}

int els_import_folder(struct els_importer *im, struct els_error *err)
{
    struct walk walk = {.im = im};
    char **classes = NULL;
    int64_t loose;
    int r;

    if (im->spec->labels)
        return els_fail(err, ELS_EINVAL, "labels", "the labels of a folder are its sub-folders; give no file");
    r = count_pictures(im->spec->source, &loose, err);
    if (r == 0)
        r = find_classes(im, &classes, err);
    if (r == 0 && loose && im->num_classes)
        r = els_fail(err, ELS_EINVAL, "source",
                     "%.200s holds both pictures and sub-folders of pictures; sub-folders are the classes",
                     im->spec->source);
    im->expected += loose;
    if (r == 0 && !im->num_classes)
        r = put_pictures(&walk, im->spec->source, -1, err);
    for (int i = 0; r == 0 && i < im->num_classes; i++)
        r = put_pictures(&walk, classes[i], i, err);
    if (r == 0 && im->count && im->shape.c == 3 && !walk.any_colour)
        drop_colour(im);
    for (int i = 0; classes && i < im->num_classes; i++)
        free(classes[i]);
    free(classes);
    return r;
}
