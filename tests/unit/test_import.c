/*
 * Imports of IDX and .npy, sound, lying and hostile; and the golden bank from the real MNIST where it lies beside
 * the checkout.
 */
#include <string.h>

#include "els/import.h"
#include "els/npy.h"
#include "els/resize.h"
#include "hostile.h"
#include "imports.h"
#include "unit.h"

enum { MANY = 1 << 20 };

/* ---- IDX ---- */

enum { IDX_N = 5, IDX_H = 4, IDX_W = 3 };

/* Pixels count up from 0. Returns the size. */
static size_t make_idx(uint8_t *to, int channels)
{
    const uint8_t dims[] = {IDX_N, IDX_H, IDX_W, (uint8_t)channels};
    int ndim = channels == 1 ? 3 : 4;
    size_t n = 4;

    memcpy(to, (uint8_t[]){0, 0, 8, (uint8_t)ndim}, 4);
    for (int i = 0; i < ndim; i++, n += 4)
        memcpy(to + n, (uint8_t[]){0, 0, 0, dims[i]}, 4);
    for (int i = 0; i < IDX_N * IDX_H * IDX_W * channels; i++)
        to[n++] = (uint8_t)i;
    return n;
}

static const uint8_t IDX_LABELS[] = {0, 0, 8, 1, 0, 0, 0, IDX_N, 3, 0, 1, 1, 7};

START_TEST(test_idx)
{
    uint8_t idx[512];
    size_t size = make_idx(idx, 1);
    const char *const names[][2] = {
        {"a-images-idx3-ubyte", "a-labels-idx1-ubyte"},
        {"b.images.idx3.gz", "b.labels.idx1.gz"},
    };

    scratch_make();
    for (int k = 0; k < 2; k++) {
        const char *path = (k ? spill_gz : spill)(names[k][0], idx, size);
        struct els_bank *bank = import(&(struct els_import_spec){.source = path});

        assert_shape(bank, IDX_N, 1, IDX_H, IDX_W);
        ck_assert_mem_eq(els_bank_images(bank), idx + 16, IDX_N * IDX_H * IDX_W);
        ck_assert_int_eq(els_bank_info(bank)->num_classes, 0);
        els_bank_unref(bank);

        (k ? spill_gz : spill)(names[k][1], IDX_LABELS, sizeof(IDX_LABELS));
        bank = import(&(struct els_import_spec){.source = path, .limit = 2, .name = "mine"});
        assert_shape(bank, 2, 1, IDX_H, IDX_W);
        ck_assert_str_eq(els_bank_info(bank)->name, "mine");
        ck_assert_int_eq(els_bank_info(bank)->num_classes, 8);
        ck_assert_int_eq(els_bank_labels(bank)[0], 3);
        ck_assert_int_eq(els_bank_labels(bank)[1], 0);
        els_bank_unref(bank);
    }
    scratch_remove();
}
END_TEST

START_TEST(test_idx_in_colour)
{
    uint8_t idx[512];
    size_t size = make_idx(idx, 3);
    struct els_bank *bank;
    const uint8_t *p;

    scratch_make();
    bank = import(&(struct els_import_spec){.source = spill("x", idx, size)});
    assert_shape(bank, IDX_N, 3, IDX_H, IDX_W);
    p = els_bank_images(bank);
    for (int i = 0; i < IDX_N; i++)
        for (int c = 0; c < 3; c++)
            for (int q = 0; q < IDX_H * IDX_W; q++)
                ck_assert_int_eq(*p++, (uint8_t)((i * IDX_H * IDX_W + q) * 3 + c));
    els_bank_unref(bank);
    scratch_remove();
}
END_TEST

START_TEST(test_crop_then_resize)
{
    uint8_t idx[512], cropped[6], want[8 * 7];
    size_t size = make_idx(idx, 1);
    struct els_import_spec spec = {.crop_h = 2, .crop_w = 3};
    struct els_bank *bank;

    scratch_make();
    spec.source = spill("x", idx, size);
    bank = import(&spec);
    assert_shape(bank, IDX_N, 1, 2, 3);
    /* The rows 1 and 2 of 0 to 3. */
    memcpy(cropped, idx + 16 + 3, 6);
    ck_assert_mem_eq(els_bank_images(bank), cropped, 6);
    els_bank_unref(bank);

    spec.resize_h = 8;
    spec.resize_w = 7;
    bank = import(&spec);
    assert_shape(bank, IDX_N, 1, 8, 7);
    ck_assert_int_eq(els_resize_bilinear(want, 8, 7, cropped, 2, 3, 1), 0);
    ck_assert_mem_eq(els_bank_images(bank), want, sizeof(want));
    els_bank_unref(bank);

    spec.crop_h = 5;
    assert_refused(&spec, "crop", "crop is 5x3, but image has only 4x3");
    spec.crop_h = 0;
    assert_refused(&spec, "crop", "crop is 0x3");
    spec.crop_w = 0;
    spec.resize_w = ELS_MAX_SIDE + 1;
    assert_refused(&spec, "resize", "from 1 to 512");
    spec.resize_w = 0;
    assert_refused(&spec, "resize", "8x0");
    spec.resize_h = 0;
    spec.limit = -1;
    assert_refused(&spec, "limit", "-1");
    scratch_remove();
}
END_TEST

START_TEST(test_idx_that_lies)
{
    uint8_t idx[512] = {0};
    size_t size = make_idx(idx, 1);
    struct els_import_spec spec = {.source = at("x")};

    scratch_make();
    spec.source = spill("x", idx, size + 1);
    assert_refused(&spec, "source", "goes on");
    idx[4] = 0x05; /* 83,886,085 images */
    spec.source = spill("x", idx, size);
    assert_refused(&spec, "source", "ends too early");
    idx[4] = 0x7f;
    spec.source = spill("x", idx, size);
    assert_refused(&spec, "source", "claims");
    idx[4] = 0;
    memset(idx + 8, 0xff, 8); /* 4294967295 x 4294967295 */
    spec.source = spill("x", idx, size);
    assert_refused(&spec, "source", "claims");
    memset(idx + 8, 0, 8);
    spec.source = spill("x", idx, size);
    assert_refused(&spec, "source", "claims");

    size = make_idx(idx, 1);
    spec.source = spill("x", idx, size);
    spec.labels = spill("y", IDX_LABELS, sizeof(IDX_LABELS) - 1);
    assert_refused(&spec, "source", "ends too early");
    spec.labels = spill("y", (uint8_t[]){0, 0, 8, 1, 0, 0, 0, 4, 1, 2, 3, 4}, 12);
    assert_refused(&spec, "labels", "4 labels for 5 images");
    spec.labels = spill("y", idx, size);
    assert_refused(&spec, "source", "1 to 1 dims");
    spec.labels = at("nothing");
    assert_refused(&spec, "source", "cannot open");
    scratch_remove();
}
END_TEST

/* Ten MiB of zeros in ten KiB: only what the header promises is inflated. */
START_TEST(test_gzip_bomb)
{
    uint8_t *zeros = calloc(1, 10 * MANY);
    struct els_import_spec spec = {0};

    ck_assert_ptr_nonnull(zeros);
    scratch_make();
    make_idx(zeros, 1);
    spec.source = spill_gz("bomb.gz", zeros, 10 * MANY);
    assert_refused(&spec, "source", "goes on");
    free(zeros);
    scratch_remove();
}
END_TEST

START_TEST(test_what_is_nothing)
{
    scratch_make();
    assert_refused(&(struct els_import_spec){.source = at("nothing")}, "source", "cannot open");
    assert_refused(&(struct els_import_spec){.source = spill("empty", "", 0)}, "source", "not IDX");
    assert_refused(&(struct els_import_spec){.source = spill("text", "hello", 5)}, "source", "not IDX");
    assert_refused(&(struct els_import_spec){.source = spill_gz("n.npy.gz", "\x93NUMPY\1\0", 8)}, "source",
                   "gunzip");
    assert_refused(&(struct els_import_spec){.source = "/dev/zero"}, "source", "not a regular file");
    assert_refused(&(struct els_import_spec){.source = ""}, "source", "no source");
    scratch_remove();
}
END_TEST

/* ---- .npy ---- */

static const char *spill_npy(const char *name, enum els_dtype dtype, int ndim, const int64_t *dims,
                             const void *data)
{
    struct els_buffer b = ELS_BUFFER_INIT(MANY);
    struct els_tensor t = els_tensor_view(dtype, ndim, dims, data);
    const char *path;

    ck_assert_int_eq(els_npy_write(&b, &t), 0);
    path = spill(name, b.data, b.size);
    els_buffer_deinit(&b);
    return path;
}

#define DIMS(...) ((const int64_t[]){__VA_ARGS__})

START_TEST(test_npy_layouts)
{
    static const struct {
        int ndim;
        int64_t dims[4];
        int c, h, w, last;
    } cases[] = {
        {3, {2, 4, 6}, 1, 4, 6, 0},    {4, {2, 1, 4, 6}, 1, 4, 6, 0}, {4, {2, 3, 4, 2}, 3, 4, 2, 0},
        {4, {2, 4, 3, 2}, 4, 3, 2, 0}, {4, {2, 5, 4, 3}, 3, 5, 4, 1}, {4, {2, 6, 5, 1}, 1, 6, 5, 1},
    };
    uint8_t pixels[256];

    for (int i = 0; i < 256; i++)
        pixels[i] = (uint8_t)i;
    scratch_make();
    for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
        int c = cases[k].c, h = cases[k].h, w = cases[k].w;
        struct els_import_spec spec = {0};
        struct els_bank *bank;
        const uint8_t *p;

        spec.source = spill_npy("x.npy", ELS_U8, cases[k].ndim, cases[k].dims, pixels);
        bank = import(&spec);
        assert_shape(bank, 2, c, h, w);
        p = els_bank_images(bank);
        for (int i = 0; i < 2; i++)
            for (int z = 0; z < c; z++)
                for (int q = 0; q < h * w; q++)
                    ck_assert_int_eq(*p++, cases[k].last ? (i * h * w + q) * c + z : (i * c + z) * h * w + q);
        els_bank_unref(bank);
    }
    scratch_remove();
}
END_TEST

START_TEST(test_npy_floats)
{
    double f8[2 * 3 * 4];
    float want[2 * 2 * 2];
    struct els_import_spec spec = {.crop_h = 2, .crop_w = 2};
    struct els_bank *bank;

    for (int i = 0; i < 24; i++)
        f8[i] = i / 24.0;
    for (int i = 0; i < 8; i++)
        want[i] = (float)f8[i / 4 * 12 + i / 2 % 2 * 4 + i % 2 + 1];
    scratch_make();
    spec.source = spill_npy("x.npy", ELS_F64, 3, DIMS(2, 3, 4), f8);
    bank = import(&spec);
    assert_shape(bank, 2, 1, 2, 2);
    ck_assert_int_eq(els_bank_info(bank)->dtype, ELS_F32);
    ck_assert_mem_eq(els_bank_images(bank), want, sizeof(want));
    els_bank_unref(bank);
    spec.resize_h = spec.resize_w = 4;
    assert_refused(&spec, "resize", "only u8");
    f8[7] = 255;
    spec = (struct els_import_spec){.source = spill_npy("x.npy", ELS_F64, 3, DIMS(2, 3, 4), f8)};
    assert_refused(&spec, "images", "image 0 holds the value 255");
    scratch_remove();
}
END_TEST

START_TEST(test_npy_labels)
{
    static const int64_t labels[] = {4, 0, 2}, low[] = {0, -1, 0}, high[] = {0, 0, INT64_MAX};
    static const uint8_t pixels[3 * 4], u8[] = {1, 2, 3};
    struct els_import_spec spec = {0};
    struct els_bank *bank;

    scratch_make();
    spec.source = spill_npy("x.npy", ELS_U8, 3, DIMS(3, 2, 2), pixels);
    spec.labels = spill_npy("y.npy", ELS_I64, 1, DIMS(3), labels);
    spec.limit = 2;
    bank = import(&spec);
    ck_assert_int_eq(els_bank_info(bank)->num_images, 2);
    ck_assert_int_eq(els_bank_info(bank)->num_classes, 5);
    ck_assert_mem_eq(els_bank_labels(bank), labels, 16);
    els_bank_unref(bank);
    spec.labels = spill_npy("y.npy", ELS_U8, 1, DIMS(3), u8);
    els_bank_unref(import(&spec));
    spec.labels = spill_npy("y.npy", ELS_I64, 1, DIMS(2), labels);
    assert_refused(&spec, "labels", "shape [3]");
    spec.labels = spill_npy("y.npy", ELS_I64, 1, DIMS(3), low);
    assert_refused(&spec, "labels", "label 1 is -1");
    spec.labels = spill_npy("y.npy", ELS_I64, 1, DIMS(3), high);
    assert_refused(&spec, "labels", "label 2 is 9223372036854775808");
    spec.labels = spill_npy("y.npy", ELS_F64, 1, DIMS(1), pixels);
    assert_refused(&spec, "labels", "F64");
    scratch_remove();
}
END_TEST

START_TEST(test_npy_that_fits_no_bank)
{
    static const uint8_t zeros[8 * 1024];
    static const struct {
        enum els_dtype dtype;
        int ndim;
        int64_t dims[4];
        const char *says;
    } cases[] = {
        {ELS_U8, 2, {4, 4}, "[N,H,W]"},           {ELS_U8, 4, {2, 5, 5, 5}, "[N,H,W]"},
        {ELS_U8, 3, {0, 4, 4}, "[0, 4, 4]"},      {ELS_U8, 3, {4, 0, 4}, "[4, 0, 4]"},
        {ELS_I64, 3, {2, 4, 4}, "u1, f4 or f8"},  {ELS_U8, 3, {1, 1, 513}, "up to 4 channels of 512x512"},
        {ELS_U8, 0, {0}, "[]"},
    };

    scratch_make();
    for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
        struct els_import_spec spec = {0};

        spec.source = spill_npy("x.npy", cases[k].dtype, cases[k].ndim, cases[k].dims, zeros);
        assert_refused(&spec, "source", cases[k].says);
    }
    scratch_remove();
}
END_TEST

/* ---- progress, hostile files, real data ---- */

static int watch(void *user, double done)
{
    double *last = user;

    ck_assert(done >= *last && done <= 1);
    *last = done;
    return done > 0.5;
}

START_TEST(test_progress_and_cancel)
{
    static uint8_t pixels[1000];
    double last = 0;
    struct els_import_spec spec = {.progress = watch, .user = &last, .limit = 400};
    struct els_bank *bank = NULL;
    struct els_error err = {0};

    scratch_make();
    spec.source = spill_npy("x.npy", ELS_U8, 3, DIMS(1000, 1, 1), pixels);
    ck_assert_int_eq(els_import(&bank, &spec, &err), ELS_ECANCELLED);
    ck_assert(last > 0.5 && last < 0.8);
    scratch_remove();
}
END_TEST

static int import_one(const void *bytes, size_t size, void *user)
{
    struct els_import_spec spec = {.source = spill("x", bytes, size), .labels = user, .resize_h = 3, .resize_w = 3};
    struct els_bank *bank = NULL;
    struct els_error err = {0};
    int r = els_import(&bank, &spec, &err);

    ck_assert((r == 0) == (bank != NULL));
    ck_assert_int_eq(r, err.code);
    els_bank_unref(bank);
    return r;
}

START_TEST(test_hostile)
{
    uint8_t idx[512], *bytes;
    size_t size = make_idx(idx, 1), packed;

    scratch_make();
    hostile_cut(idx, size, import_one, NULL);
    ck_assert_int_gt(hostile_damage(idx, size, 1500, import_one, NULL), 100);

    spill_gz("packed", idx, size);
    bytes = hostile_load(at("packed"), &packed);
    hostile_cut(bytes, packed, import_one, NULL);
    ck_assert_int_gt(hostile_damage(bytes, packed, 1500, import_one, NULL), 1000);
    free(bytes);

    spill_npy("n", ELS_U8, 3, DIMS(5, 4, 3), idx);
    bytes = hostile_load(at("n"), &size);
    hostile_cut(bytes, size, import_one, NULL);
    ck_assert_int_gt(hostile_damage(bytes, size, 1500, import_one, NULL), 300);
    free(bytes);
    scratch_remove();
}
END_TEST

START_TEST(test_real_mnist)
{
    const char *path = unit_shared_path("data/mnist/train-images-idx3-ubyte.gz");
    struct els_import_spec spec = {.source = path, .resize_h = 32, .resize_w = 32, .limit = 24};
    static const int64_t first[] = {5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5};
    struct els_tensor golden;
    struct els_bank *bank;
    uint8_t *bytes;
    size_t size;

    if (!path) {
        puts("skipped: MNIST is not beside the checkout");
        return;
    }
    bank = import(&spec);
    assert_shape(bank, 24, 1, 32, 32);
    ck_assert_int_eq(els_bank_info(bank)->num_classes, 10);
    ck_assert_mem_eq(els_bank_labels(bank), first, sizeof(first));
    bytes = hostile_load(unit_path("golden/mnist24_images_u8.npy"), &size);
    ck_assert_int_eq(els_npy_parse(&golden, bytes, size, NULL), 0);
    ck_assert_mem_eq(els_bank_images(bank), golden.data, 24 * 1024);
    free(bytes);
    els_bank_unref(bank);
}
END_TEST

UNIT_MAIN("import", test_idx, test_idx_in_colour, test_crop_then_resize, test_idx_that_lies, test_gzip_bomb,
          test_what_is_nothing, test_npy_layouts, test_npy_floats, test_npy_labels, test_npy_that_fits_no_bank,
          test_progress_and_cancel, test_hostile, test_real_mnist)
