/*
 * Banks: built from parts, from bytes and from files, selected from, and refused when unsound.
 */
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/bank/bank_internal.h"
#include "core/base/sha256.h"
#include "els/bank.h"
#include "els/safetensors.h"
#include "hostile.h"
#include "unit.h"

enum { N = 6 };

static const uint8_t PIXELS[N * 2 * 3] = {
    0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 255, 254, 253, 252, 251, 250,
};
static const int64_t LABELS[N] = {0, 2, 1, 0, 2, 2};
static const char *const CLASSES[] = {"cat", "dog", "2", "none"};

static struct els_bank_parts sample(void)
{
    return (struct els_bank_parts){
        .name = "sample",
        .shape = {1, 2, 3},
        .num_images = N,
        .dtype = ELS_U8,
        .images = PIXELS,
        .labels = LABELS,
        .num_classes = 4,
        .class_names = CLASSES,
        .scales = "mnist-resnet-zeros",
        .source = "a test, \"quoted\"",
    };
}

static struct els_bank *make(const struct els_bank_parts *parts)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    ck_assert_msg(els_bank_new(&bank, parts, &err) == 0, "%s", err.message);
    return bank;
}

static void assert_refused(const struct els_bank_parts *parts, const char *field, const char *says)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    ck_assert_int_lt(els_bank_new(&bank, parts, &err), 0);
    ck_assert_ptr_null(bank);
    ck_assert_str_eq(err.field, field);
    ck_assert_msg(strstr(err.message, says) != NULL, "'%s' does not say '%s'", err.message, says);
}

static void assert_same(const struct els_bank *a, const struct els_bank *b)
{
    const struct els_bank_info *x = els_bank_info(a), *y = els_bank_info(b);

    ck_assert_str_eq(x->name, y->name);
    ck_assert_str_eq(x->sha256, y->sha256);
    ck_assert_str_eq(x->scales, y->scales);
    ck_assert_str_eq(x->source, y->source);
    ck_assert_str_eq(x->license, y->license);
    ck_assert_int_eq(x->num_images, y->num_images);
    ck_assert_int_eq(x->num_classes, y->num_classes);
    ck_assert_uint_eq(x->bytes, y->bytes);
    ck_assert_mem_eq(els_bank_images(a), els_bank_images(b), x->bytes);
    for (int i = 0; i < x->num_classes; i++) {
        ck_assert_str_eq(x->class_names[i], y->class_names[i]);
        ck_assert_int_eq(x->class_counts[i], y->class_counts[i]);
    }
    ck_assert((els_bank_labels(a) == NULL) == (els_bank_labels(b) == NULL));
    if (els_bank_labels(a))
        ck_assert_mem_eq(els_bank_labels(a), els_bank_labels(b), (size_t)x->num_images * 8);
}

/* A file name in the test's own folder, made anew; unlink it. */
static const char *scratch(void)
{
    static char path[64];
    int fd;

    snprintf(path, sizeof(path), "/tmp/els-bank-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    /* A bank's file name has a dot or a slash; the slash is there. */
    return path;
}

static void spill(const char *path, const void *bytes, size_t size)
{
    FILE *f;

    /* A file system may flush a file that is cut and written again; a new one it need not. */
    unlink(path);
    f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(test_parts_become_a_bank)
{
    struct els_bank_parts parts = sample();
    struct els_bank *bank = make(&parts);
    const struct els_bank_info *info = els_bank_info(bank);
    struct els_sha256 h;
    char hex[ELS_SHA256_HEX];
    float x[6];

    ck_assert_str_eq(info->name, "sample");
    ck_assert_int_eq(info->num_classes, 4);
    ck_assert_str_eq(info->class_names[1], "dog");
    ck_assert_int_eq(info->class_counts[0], 2);
    ck_assert_int_eq(info->class_counts[2], 3);
    ck_assert_int_eq(info->class_counts[3], 0);
    ck_assert_uint_eq(info->bytes, sizeof(PIXELS));
    ck_assert_str_eq(info->license, "");
    ck_assert_mem_eq(els_bank_images(bank), PIXELS, sizeof(PIXELS));
    ck_assert(els_bank_images(bank) != (const void *)PIXELS);
    els_bank_image(bank, 2, x);
    ck_assert(x[0] == 1.0f && x[1] == (254 - 127.5f) / 127.5f);
    els_bank_image(bank, 0, x);
    ck_assert(x[0] == -1.0f);

    els_sha256_init(&h);
    els_sha256_update(&h, "els-bank U8 [6,1,2,3]\n", 22);
    els_sha256_update(&h, PIXELS, sizeof(PIXELS));
    els_sha256_update(&h, LABELS, sizeof(LABELS));
    els_sha256_hex(&h, hex);
    ck_assert_str_eq(info->sha256, hex);

    ck_assert_ptr_eq(els_bank_ref(bank), bank);
    ck_assert_ptr_null(els_bank_unref(bank));
    ck_assert_int_eq(els_bank_info(bank)->num_images, N);
    ck_assert_ptr_null(els_bank_unref(bank));
    ck_assert_ptr_null(els_bank_unref(NULL));
}
END_TEST

START_TEST(test_classes_without_names)
{
    struct els_bank_parts parts = sample();
    struct els_bank *bank;

    parts.num_classes = 0;
    parts.class_names = NULL;
    bank = make(&parts);
    ck_assert_int_eq(els_bank_info(bank)->num_classes, 3);
    ck_assert_str_eq(els_bank_info(bank)->class_names[2], "2");
    els_bank_unref(bank);
    parts.labels = NULL;
    bank = make(&parts);
    ck_assert_int_eq(els_bank_info(bank)->num_classes, 0);
    ck_assert_ptr_null(els_bank_labels(bank));
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_unsound_parts_are_refused)
{
    const int64_t high[N] = {0, 0, 0, 4}, low[N] = {0, -1};
    const char *const names[] = {"a", "b", "", "d"}, *const lines[] = {"a", "b\nc", "c", "d"};
    struct els_bank_parts p;

#define REFUSE(field, says, ...)                                                                   \
    p = sample();                                                                                  \
    __VA_ARGS__;                                                                                   \
    assert_refused(&p, field, says)

    REFUSE("name", "'a/b'", p.name = "a/b");
    REFUSE("name", "1 to 63", p.name = "");
    REFUSE("name", "1 to 63", p.name = NULL);
    REFUSE("name", "1 to 63",
           p.name = "a123456789b123456789c123456789d123456789e123456789f123456789g123");
    REFUSE("images", "F64", p.dtype = ELS_F64);
    REFUSE("images", "not 0", p.num_images = 0);
    REFUSE("images", "not -5", p.num_images = -5);
    REFUSE("images", "channels, not 5", p.shape.c = 5);
    REFUSE("images", "channels, not 0", p.shape.c = 0);
    REFUSE("images", "not 2x100000", p.shape.w = 100000);
    REFUSE("images", "not -1x3", p.shape.h = -1);
    REFUSE("labels", "image 3 is 4; it must be from 0 to 3", p.labels = high);
    REFUSE("labels", "image 1 is -1", p.labels = low);
    REFUSE("classes", "class 2", p.class_names = names);
    REFUSE("classes", "class 1", p.class_names = lines);
    REFUSE("classes", "no labels", p.labels = NULL);
    REFUSE("source", "not UTF-8", p.source = "caf\xe9");
    REFUSE("classes", "not 100001", p.num_classes = ELS_MAX_CLASSES + 1);
#undef REFUSE
}
END_TEST

START_TEST(test_float_images)
{
    float values[N * 6] = {-1, 1, 0.25f};
    const float bad[] = {NAN, INFINITY, -INFINITY, 1.5f, -127};
    struct els_bank_parts parts = sample();
    struct els_bank *bank;
    float x[6];

    parts.dtype = ELS_F32;
    parts.images = values;
    bank = make(&parts);
    els_bank_image(bank, 0, x);
    ck_assert_mem_eq(x, values, sizeof(x));
    ck_assert_uint_eq(els_bank_info(bank)->bytes, sizeof(values));
    els_bank_unref(bank);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        values[13] = bad[i];
        assert_refused(&parts, "images", "image 2 holds");
    }
}
END_TEST

START_TEST(test_classes_are_found)
{
    struct els_bank_parts parts = sample();
    struct els_bank *bank = make(&parts);
    static const char *const bad[] = {"4", "bird", "", "-1", "1x", "99999999999999999999", " 1"};
    struct els_error err = {0};
    int64_t k;

    ck_assert_int_eq(els_bank_find_class(bank, "dog", &k, &err), 0);
    ck_assert_int_eq(k, 1);
    ck_assert_int_eq(els_bank_find_class(bank, "3", &k, &err), 0);
    ck_assert_int_eq(k, 3);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        ck_assert_int_eq(els_bank_find_class(bank, bad[i], &k, &err), ELS_ENOENT);
        ck_assert_ptr_nonnull(strstr(err.message, "it has 0 to 3: cat, dog, 2, none"));
    }
    els_bank_unref(bank);
    parts.labels = NULL;
    parts.num_classes = 0;
    parts.class_names = NULL;
    bank = make(&parts);
    ck_assert_int_eq(els_bank_find_class(bank, "0", &k, &err), ELS_ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "has no labels"));
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_many_classes_fit_the_sentence)
{
    enum { MANY = 3000 };
    struct els_bank_parts parts = sample();
    static char text[MANY][32];
    static const char *names[MANY];
    struct els_error err = {0};
    struct els_bank *bank;
    int64_t k;

    for (int i = 0; i < MANY; i++) {
        snprintf(text[i], sizeof(text[i]), "the class with number %d", i);
        names[i] = text[i];
    }
    parts.num_classes = MANY;
    parts.class_names = names;
    bank = make(&parts);
    ck_assert_int_eq(els_bank_find_class(bank, "no such", &k, &err), ELS_ENOENT);
    ck_assert_ptr_nonnull(strstr(err.message, "number 1, "));
    ck_assert_ptr_nonnull(strstr(err.message, "…"));
    els_bank_unref(bank);
}
END_TEST

static void assert_selects(const struct els_bank *bank, const struct els_selection_spec *spec, int n,
                           const int64_t *want)
{
    struct els_error err = {0};
    int64_t *got = NULL, count = 0;

    ck_assert_msg(els_bank_select(bank, spec, &got, &count, &err) == 0, "%s", err.message);
    ck_assert_int_eq(count, n);
    ck_assert_mem_eq(got, want, (size_t)n * sizeof(*got));
    free(got);
}

START_TEST(test_selections)
{
    struct els_bank_parts parts = sample();
    struct els_bank *bank = make(&parts);
    const int64_t four_one[] = {4, 1}, two[] = {2};

#define SPEC(...) (&(struct els_selection_spec){__VA_ARGS__})
#define WANT(...) ((const int64_t[]){__VA_ARGS__})
    assert_selects(bank, SPEC(.label = -1), 6, WANT(0, 1, 2, 3, 4, 5));
    assert_selects(bank, SPEC(.label = 2), 3, WANT(1, 4, 5));
    assert_selects(bank, SPEC(.label = 2, .max_samples = 2), 2, WANT(1, 4));
    assert_selects(bank, SPEC(.label = -1, .max_samples = 100), 6, WANT(0, 1, 2, 3, 4, 5));
    assert_selects(bank, SPEC(.label = 2, .max_samples = 2, .exclude_images = four_one,
                              .num_exclude_images = 2),
                   1, WANT(5));
    assert_selects(bank, SPEC(.label = -1, .exclude_classes = two, .num_exclude_classes = 1), 3,
                   WANT(0, 2, 3));
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_selections_out_of_range)
{
    struct els_bank_parts parts = sample();
    struct els_bank *bank = make(&parts);
    const int64_t six[] = {0, 6}, minus[] = {-1}, two[] = {2}, four[] = {4};
    const struct {
        struct els_selection_spec spec;
        const char *field, *says;
    } cases[] = {
        {{.label = 4}, "label", "label is 4; it must be from 0 to 3"},
        {{.label = -2}, "label", "label is -2"},
        {{.label = -1, .max_samples = -1}, "max_samples", "-1"},
        {{.label = -1, .exclude_images = six, .num_exclude_images = 2}, "exclude", "holds 6"},
        {{.label = -1, .exclude_images = minus, .num_exclude_images = 1}, "exclude", "holds -1"},
        {{.label = -1, .exclude_classes = four, .num_exclude_classes = 1}, "exclude", "holds 4"},
        {{.label = -1, .exclude_classes = minus, .num_exclude_classes = 1}, "exclude", "holds -1"},
        {{.label = 3}, "bank", "leaves no image"},
        {{.label = 2, .exclude_classes = two, .num_exclude_classes = 1}, "bank", "leaves no image"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct els_error err = {0};
        int64_t *got = NULL, count;

        ck_assert_int_eq(els_bank_select(bank, &cases[i].spec, &got, &count, &err), ELS_EINVAL);
        ck_assert_ptr_null(got);
        ck_assert_str_eq(err.field, cases[i].field);
        ck_assert_msg(strstr(err.message, cases[i].says) != NULL, "%s", err.message);
    }
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_save_and_open)
{
    struct els_bank_parts parts = sample();
    struct els_bank *bank, *back = NULL;
    struct els_error err = {0};
    const char *path = scratch();
    float values[N * 6] = {0.5f};

    for (int k = 0; k < 3; k++) {
        parts.dtype = k == 2 ? ELS_F32 : ELS_U8;
        parts.images = k == 2 ? (const void *)values : PIXELS;
        if (k == 1) {
            parts.labels = NULL;
            parts.num_classes = 0;
            parts.class_names = NULL;
        }
        bank = make(&parts);
        ck_assert_msg(els_bank_save(bank, path, &err) == 0, "%s", err.message);
        ck_assert_msg(els_bank_open(&back, path, &err) == 0, "%s", err.message);
        assert_same(bank, back);
        ck_assert_uint_eq((uintptr_t)els_bank_images(back) % 64, 0);
        back = els_bank_unref(back);
        els_bank_unref(bank);
    }
    unlink(path);
}
END_TEST

/* What notebooks write: tensors in any order, nothing aligned, no metadata; the name is the file's. */
START_TEST(test_a_bare_file)
{
    static const float values[2 * 6] = {0.5f, -1, 1};
    const struct els_named_tensor t[] = {
        {"odd", els_tensor_view(ELS_U8, 1, (const int64_t[]){3}, "abc")},
        {"images", els_tensor_view(ELS_F32, 4, (const int64_t[]){2, 1, 2, 3}, values)},
        {"labels", els_tensor_view(ELS_I64, 1, (const int64_t[]){2}, (const int64_t[]){1, 0})},
    };
    struct els_buffer b = ELS_BUFFER_INIT(1 << 20);
    struct els_bank *bank = NULL, *other = NULL;
    struct els_error err = {0};
    const char *path = scratch();

    ck_assert_int_eq(els_safetensors_write(&b, t, 3, NULL, NULL, 0), 0);
    spill(path, b.data, b.size);
    ck_assert_msg(els_bank_open(&bank, path, &err) == 0, "%s", err.message);
    ck_assert_str_eq(els_bank_info(bank)->name, strrchr(path, '/') + 1);
    ck_assert_mem_eq(els_bank_images(bank), values, sizeof(values));
    ck_assert_int_eq(els_bank_labels(bank)[0], 1);
    ck_assert_int_eq(els_bank_parse(&other, b.data, b.size, "other", &err), 0);
    ck_assert_str_eq(els_bank_info(other)->name, "other");
    ck_assert_str_eq(els_bank_info(other)->sha256, els_bank_info(bank)->sha256);
    els_bank_unref(bank);
    els_bank_unref(other);
    els_buffer_deinit(&b);
    unlink(path);
}
END_TEST

START_TEST(test_names_from_paths)
{
    static const struct {
        const char *path, *name;
    } cases[] = {
        {"/a/b/mnist.safetensors", "mnist"},
        {"train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"},
        {"x/data.v2.npy.gz", "data-v2"},
        {"cats and dogs/", "cats-and-dogs"},
        {".hidden", "-hidden"},
        {"/", "bank"},
        {"caf\xc3\xa9.npy", "caf--"},
        {"a123456789b123456789c123456789d123456789e123456789f123456789g123456789.npy",
         "a123456789b123456789c123456789d123456789e123456789f123456789g12"},
    };
    char name[64];

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        els_bank_name_from_path(name, cases[i].path);
        ck_assert_str_eq(name, cases[i].name);
    }
}
END_TEST

START_TEST(test_what_cannot_be_opened)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    ck_assert_int_eq(els_bank_open(&bank, "mnist", &err), ELS_ENOENT);
    ck_assert_str_eq(err.field, "bank");
    ck_assert_ptr_nonnull(strstr(err.message, "'mnist'"));
    ck_assert_ptr_nonnull(strstr(err.message, "digits"));
    ck_assert_ptr_nonnull(strstr(err.message, "two-tone"));
    ck_assert_ptr_nonnull(strstr(err.message, "a file's path needs a '/' or a '.'"));
    ck_assert_int_eq(els_bank_open(&bank, "", &err), ELS_ENOENT);
    ck_assert_int_eq(els_bank_open(&bank, "./nothing", &err), ELS_ENOENT);
    ck_assert_int_eq(els_bank_open(&bank, "/", &err), ELS_EIO);
    ck_assert_ptr_nonnull(strstr(err.message, "not a regular file"));
    ck_assert_int_eq(els_bank_open(&bank, "/dev/zero", &err), ELS_EIO);
    ck_assert_ptr_null(bank);
}
END_TEST

START_TEST(test_failed_save_leaves_nothing)
{
    struct els_bank_parts parts = sample();
    struct els_bank *bank = make(&parts);
    struct els_error err = {0};
    char folder[] = "/tmp/els-folder-XXXXXX", path[64], temporary[80];
    struct stat st;

    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/there", folder);
    snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    /* A folder is in the way of the rename. */
    ck_assert_int_eq(els_bank_save(bank, path, &err), ELS_EIO);
    ck_assert_int_ne(stat(temporary, &st), 0);
    rmdir(path);
    rmdir(folder);
    ck_assert_int_eq(els_bank_save(bank, path, &err), ELS_EIO);
    ck_assert_ptr_nonnull(strstr(err.message, folder));
    els_bank_unref(bank);
}
END_TEST

static int parse_bank(const void *bytes, size_t size, void *user)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};
    int r = els_bank_parse(&bank, bytes, size, NULL, &err);

    ck_assert((r == 0) == (bank != NULL));
    ck_assert_int_eq(r, err.code);
    els_bank_unref(bank);
    return r;
}

static int open_bank(const void *bytes, size_t size, void *user)
{
    struct els_bank *bank = NULL;
    int r;

    spill(user, bytes, size);
    r = els_bank_open(&bank, user, NULL);
    ck_assert((r == 0) == (bank != NULL));
    els_bank_unref(bank);
    return r;
}

START_TEST(test_hostile)
{
    struct els_bank_parts parts = sample();
    struct els_bank *bank = make(&parts);
    char path[64];
    uint8_t *bytes;
    size_t size;

    snprintf(path, sizeof(path), "%s", scratch());
    ck_assert_int_eq(els_bank_save(bank, path, NULL), 0);
    bytes = hostile_load(path, &size);
    hostile_cut(bytes, size, parse_bank, NULL);
    hostile_cut(bytes, size, open_bank, path);
    ck_assert_int_gt(hostile_damage(bytes, size, 4000, parse_bank, NULL), 2000);
    ck_assert_int_gt(hostile_damage(bytes, size, 1000, open_bank, path), 500);
    unlink(path);
    free(bytes);
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_unsound_files)
{
    static const uint8_t zeros[4096] = {0};
    const struct {
        struct els_named_tensor t[2];
        const char *classes, *name, *field;
    } cases[] = {
        {{{"pictures", els_tensor_view(ELS_U8, 4, (const int64_t[]){2, 1, 2, 3}, zeros)}}, NULL, NULL,
         "images"},
        {{{"images", els_tensor_view(ELS_U8, 3, (const int64_t[]){2, 2, 3}, zeros)}}, NULL, NULL, "images"},
        {{{"images", els_tensor_view(ELS_U8, 4, (const int64_t[]){0, 1, 2, 3}, zeros)}}, NULL, NULL, "images"},
        {{{"images", els_tensor_view(ELS_F64, 4, (const int64_t[]){2, 1, 2, 3}, zeros)}}, NULL, NULL,
         "images"},
        {{{"images", els_tensor_view(ELS_U8, 4, (const int64_t[]){1, 1, 1, 4096}, zeros)}}, NULL, NULL,
         "images"},
        {{{"images", els_tensor_view(ELS_U8, 4, (const int64_t[]){2, 1, 2, 3}, zeros)},
          {"labels", els_tensor_view(ELS_I64, 1, (const int64_t[]){3}, zeros)}},
         NULL, NULL, "labels"},
        {{{"images", els_tensor_view(ELS_U8, 4, (const int64_t[]){2, 1, 2, 3}, zeros)},
          {"labels", els_tensor_view(ELS_I32, 1, (const int64_t[]){2}, zeros)}},
         NULL, NULL, "labels"},
        {{{"images", els_tensor_view(ELS_U8, 4, (const int64_t[]){2, 1, 2, 3}, zeros)},
          {"labels", els_tensor_view(ELS_I64, 1, (const int64_t[]){2}, zeros)}},
         "[\"a\", 3]", NULL, "classes"},
        {{{"images", els_tensor_view(ELS_U8, 4, (const int64_t[]){2, 1, 2, 3}, zeros)},
          {"labels", els_tensor_view(ELS_I64, 1, (const int64_t[]){2}, zeros)}},
         "{\"a\": 3}", NULL, "classes"},
        {{{"images", els_tensor_view(ELS_U8, 4, (const int64_t[]){2, 1, 2, 3}, zeros)},
          {"labels", els_tensor_view(ELS_I64, 1, (const int64_t[]){2}, zeros)}},
         "[]", NULL, "classes"},
        {{{"images", els_tensor_view(ELS_U8, 4, (const int64_t[]){2, 1, 2, 3}, zeros)}}, "[\"a\"]", NULL,
         "classes"},
        {{{"images", els_tensor_view(ELS_U8, 4, (const int64_t[]){2, 1, 2, 3}, zeros)}}, NULL, "../etc",
         "name"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct els_buffer b = ELS_BUFFER_INIT(1 << 20);
        struct els_bank *bank = NULL;
        struct els_error err = {0};
        const char *keys[2], *values[2];
        size_t n = 0;

        if (cases[i].classes)
            keys[n] = "classes", values[n++] = cases[i].classes;
        if (cases[i].name)
            keys[n] = "name", values[n++] = cases[i].name;
        ck_assert_int_eq(els_safetensors_write(&b, cases[i].t, cases[i].t[1].name ? 2 : 1, keys, values, n),
                         0);
        ck_assert_int_lt(els_bank_parse(&bank, b.data, b.size, NULL, &err), 0);
        ck_assert_msg(strcmp(err.field, cases[i].field) == 0, "case %zu: %s", i, err.message);
        els_buffer_deinit(&b);
    }
}
END_TEST

UNIT_MAIN("bank", test_parts_become_a_bank, test_classes_without_names, test_unsound_parts_are_refused,
          test_float_images, test_classes_are_found, test_many_classes_fit_the_sentence, test_selections,
          test_selections_out_of_range, test_save_and_open, test_a_bare_file, test_names_from_paths,
          test_what_cannot_be_opened, test_failed_save_leaves_nothing, test_hostile, test_unsound_files)
