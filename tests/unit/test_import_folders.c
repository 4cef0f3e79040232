/*
 * Imports of CIFAR batches and of folders of pictures; the real CIFAR-10 where it lies beside the checkout.
 */
#include <string.h>
#include <sys/stat.h>

#include "els/import.h"
#include "els/picture.h"
#include "imports.h"
#include "unit.h"

enum { MANY = 1 << 20 };

/* ---- CIFAR ---- */

enum { RECORD = 3073 };

static size_t make_cifar(uint8_t *to, int n, int labels)
{
    uint8_t *p = to;

    for (int i = 0; i < n; i++) {
        if (labels == 2)
            *p++ = (uint8_t)(i % 20);
        *p++ = (uint8_t)(labels == 2 ? 99 - i : i % 10);
        for (int k = 0; k < 3072; k++)
            *p++ = (uint8_t)(i + k / 7);
    }
    return (size_t)(p - to);
}

static const char TEN_NAMES[] = "airplane\nautomobile\r\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

START_TEST(test_cifar10_file)
{
    static uint8_t batch[12 * RECORD];
    size_t size = make_cifar(batch, 12, 1);
    struct els_bank *bank;

    scratch_make();
    for (int k = 0; k < 2; k++) {
        bank = import(&(struct els_import_spec){.source = (k ? spill_gz : spill)("b.bin", batch, size)});
        assert_shape(bank, 12, 3, 32, 32);
        ck_assert_int_eq(els_bank_info(bank)->num_classes, 10);
        ck_assert_str_eq(els_bank_info(bank)->class_names[3], k ? "cat" : "3");
        ck_assert_int_eq(els_bank_labels(bank)[11], 1);
        ck_assert_mem_eq((const uint8_t *)els_bank_images(bank) + 3072, batch + RECORD + 1, 3072);
        els_bank_unref(bank);
        spill("batches.meta.txt", TEN_NAMES, strlen(TEN_NAMES));
    }
    spill("batches.meta.txt", TEN_NAMES, 20);
    assert_refused(&(struct els_import_spec){.source = at("b.bin")}, "source", "names 2 classes");
    assert_refused(&(struct els_import_spec){.source = at("b.bin"), .labels = "x"}, "labels", "hold their labels");
    scratch_remove();
}
END_TEST

START_TEST(test_cifar_folder)
{
    static uint8_t batch[4 * RECORD];
    size_t size = make_cifar(batch, 4, 1);
    struct els_bank *bank;

    scratch_make();
    spill("batches.meta.txt", TEN_NAMES, strlen(TEN_NAMES));
    spill("data_batch_1.bin", batch, size);
    spill_gz("data_batch_1.bin.gz", batch, size);
    spill_gz("data_batch_2.bin.gz", batch, 2 * RECORD);
    spill("test_batch.bin", batch, size);
    bank = import(&(struct els_import_spec){.source = folder});
    assert_shape(bank, 6, 3, 32, 32);
    ck_assert_int_eq(els_bank_labels(bank)[4], 0);
    ck_assert_str_eq(els_bank_info(bank)->class_names[9], "truck");
    els_bank_unref(bank);
    bank = import(&(struct els_import_spec){.source = folder, .limit = 5, .resize_h = 8, .resize_w = 8});
    assert_shape(bank, 5, 3, 8, 8);
    els_bank_unref(bank);
    spill("data_batch_2.bin", batch, 2 * RECORD - 1);
    assert_refused(&(struct els_import_spec){.source = folder}, "source", "ends within a record");
    batch[RECORD] = 10;
    spill("data_batch_2.bin", batch, 2 * RECORD);
    assert_refused(&(struct els_import_spec){.source = folder}, "source", "label out of range");
    scratch_remove();
}
END_TEST

START_TEST(test_cifar100)
{
    static uint8_t batch[3 * (RECORD + 1)];
    size_t size = make_cifar(batch, 3, 2);
    struct els_bank *bank;

    scratch_make();
    spill("train.bin", batch, size);
    bank = import(&(struct els_import_spec){.source = folder});
    assert_shape(bank, 3, 3, 32, 32);
    ck_assert_int_eq(els_bank_info(bank)->num_classes, 100);
    ck_assert_int_eq(els_bank_labels(bank)[2], 97);
    ck_assert_mem_eq(els_bank_images(bank), batch + 2, 3072);
    els_bank_unref(bank);
    scratch_remove();
}
END_TEST

/* ---- folders of pictures ---- */

/* A PNG whose every pixel is (grey, grey/2, 0), or grey. */
static void spill_png(const char *name, int w, int h, int channels, uint8_t grey)
{
    struct els_buffer b = ELS_BUFFER_INIT(MANY);
    struct els_picture p = {0};

    ck_assert_int_eq(els_picture_new(&p, w, h, channels), 0);
    for (int i = 0; i < w * h; i++)
        for (int c = 0; c < channels; c++)
            p.pixels[i * channels + c] = (uint8_t)(c == 0 ? grey : c == 1 ? grey / 2 : 0);
    ck_assert_int_eq(els_picture_write_png(&b, &p, NULL, 0), 0);
    spill(name, b.data, b.size);
    els_picture_deinit(&p);
    els_buffer_deinit(&b);
}

static void spill_classes(void)
{
    scratch_make();
    ck_assert_int_eq(mkdir(at("cats"), 0700), 0);
    ck_assert_int_eq(mkdir(at("ants"), 0700), 0);
    ck_assert_int_eq(mkdir(at("nothing"), 0700), 0);
    spill_png("cats/b.png", 5, 4, 1, 30);
    spill_png("cats/a.PNG", 5, 4, 1, 20);
    spill_png("ants/z.png", 5, 4, 1, 10);
    spill("ants/readme.txt", "no picture", 10);
    spill("ants/.hidden.png", "no picture", 10);
    spill("about.txt", "no picture", 10);
}

START_TEST(test_folder_of_classes)
{
    struct els_import_spec spec = {.source = folder};
    struct els_bank *bank;
    const uint8_t *p;

    spill_classes();
    bank = import(&spec);
    assert_shape(bank, 3, 1, 4, 5);
    ck_assert_int_eq(els_bank_info(bank)->num_classes, 2);
    ck_assert_str_eq(els_bank_info(bank)->class_names[0], "ants");
    ck_assert_str_eq(els_bank_info(bank)->class_names[1], "cats");
    ck_assert_mem_eq(els_bank_labels(bank), ((const int64_t[]){0, 1, 1}), 24);
    p = els_bank_images(bank);
    ck_assert(p[0] == 10 && p[20] == 20 && p[40] == 30 && p[59] == 30);
    els_bank_unref(bank);

    spill_png("cats/c.png", 5, 4, 3, 200); /* one in colour: all get three channels */
    bank = import(&spec);
    assert_shape(bank, 4, 3, 4, 5);
    p = els_bank_images(bank);
    ck_assert(p[0] == 10 && p[20] == 10 && p[40] == 10 && p[180] == 200 && p[200] == 100 && p[220] == 0);
    els_bank_unref(bank);

    spec.grey = 1;
    bank = import(&spec);
    assert_shape(bank, 4, 1, 4, 5);
    p = els_bank_images(bank);
    ck_assert_int_eq(p[60], (200 * 19595 + 100 * 38470 + 0x8000) >> 16);
    els_bank_unref(bank);

    spec.limit = 2;
    bank = import(&spec);
    assert_shape(bank, 2, 1, 4, 5);
    els_bank_unref(bank);
    scratch_remove();
}
END_TEST

START_TEST(test_folder_refusals)
{
    struct els_import_spec spec = {.source = folder};

    spill_classes();
    spill_png("cats/c.png", 6, 4, 1, 1);
    assert_refused(&spec, "source", "cats/c.png: image is 3 channels of 4x6 pixels");
    spec.resize_h = spec.resize_w = 8;
    els_bank_unref(import(&spec));
    spec.crop_h = spec.crop_w = 5;
    assert_refused(&spec, "crop", "ants/z.png: crop is 5x5, but image has only 4x5");
    spec = (struct els_import_spec){.source = folder};
    spill("cats/c.png", "no picture", 10);
    assert_refused(&spec, "picture", "cats/c.png: the file is neither");
    spec.labels = "x";
    assert_refused(&spec, "labels", "sub-folders");
    spec.labels = NULL;
    spill_png("loose.png", 5, 4, 1, 1);
    assert_refused(&spec, "source", "both pictures and sub-folders");
    scratch_remove();
    scratch_make();
    assert_refused(&spec, "source", "holds no images");
    spill_png("big.png", 513, 1, 1, 1);
    assert_refused(&spec, "source", "512x512");
    spec.crop_h = 1;
    spec.crop_w = 512;
    els_bank_unref(import(&spec));
    scratch_remove();
}
END_TEST

START_TEST(test_real_cifar)
{
    const char *path = unit_shared_path("data/cifar10/data_batch_1.bin.gz");
    struct els_bank *bank;

    if (!path) {
        puts("skipped: CIFAR-10 is not beside the checkout");
        return;
    }
    bank = import(&(struct els_import_spec){.source = path});
    assert_shape(bank, 10000, 3, 32, 32);
    ck_assert_int_eq(els_bank_info(bank)->num_classes, 10);
    ck_assert_str_eq(els_bank_info(bank)->class_names[9], "truck");
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(els_bank_info(bank)->class_counts[i], 1000);
    els_bank_unref(bank);
}
END_TEST

UNIT_MAIN("import_folders", test_cifar10_file, test_cifar_folder, test_cifar100, test_folder_of_classes,
          test_folder_refusals, test_real_cifar)
