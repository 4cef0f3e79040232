/*
 * Opening banks for somebody who counts memory and may stop: what is asked for, and when, and that nothing is left.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "els/bank.h"
#include "scratch.h"
#include "unit.h"

enum { N = 20000, SIDE = 16, PIXELS = SIDE * SIDE };

struct watch {
    uint64_t asked[8], limit;
    int asks, looks, stop_at; /* the look that says stop; 0: none */
};

static int need(void *user, uint64_t bytes, struct els_error *err)
{
    struct watch *w = user;

    ck_assert_int_lt(w->asks, 8);
    w->asked[w->asks++] = bytes;
    return bytes > w->limit ? els_fail(err, ELS_ELIMIT, NULL, "no more than %d", (int)w->limit) : 0;
}

static int stop(void *user)
{
    struct watch *w = user;

    return ++w->looks == w->stop_at;
}

/* A file of N images, with labels if wanted. Its size. */
static uint64_t write_bank(const char *path, bool with_labels, enum els_dtype dtype)
{
    size_t bytes = (size_t)N * PIXELS * (dtype == ELS_F32 ? sizeof(float) : 1);
    void *images = calloc(1, bytes);
    int64_t *labels = calloc(N, sizeof(*labels));
    struct els_bank_parts parts = {.name = "sample", .shape = {1, SIDE, SIDE}, .num_images = N, .dtype = dtype,
                                   .images = images, .labels = with_labels ? labels : NULL};
    struct els_bank *bank = NULL;
    struct els_error err = {0};
    struct stat st;

    ck_assert_msg(els_bank_new(&bank, &parts, &err) == 0, "%s", err.message);
    ck_assert_msg(els_bank_save(bank, path, &err) == 0, "%s", err.message);
    ck_assert_int_eq(stat(path, &st), 0);
    els_bank_unref(bank);
    free(labels);
    free(images);
    return (uint64_t)st.st_size;
}

static int open_with(struct watch *w, const char *path, struct els_bank **out, struct els_error *err)
{
    const struct els_bank_opening how = {need, stop, w};

    return els_bank_open_with(out, path, &how, err);
}

START_TEST(test_it_asks_before_it_takes)
{
    struct watch w = {.limit = UINT64_MAX}, less;
    struct els_bank *bank = NULL;
    struct els_error err = {0};
    uint64_t size;

    scratch_make();
    size = write_bank(at("bank.safetensors"), true, ELS_U8);
    ck_assert_int_eq(open_with(&w, at("bank.safetensors"), &bank, &err), 0);
    /* For the file, for what its header becomes, and for labels; a saved bank also names its classes. */
    ck_assert_int_ge(w.asks, 3);
    ck_assert_uint_ge(w.asked[0], size);
    ck_assert_uint_gt(w.asked[1], w.asked[0]);
    ck_assert_uint_ge(w.asked[2], w.asked[1] + 2 * N * sizeof(int64_t));
    /* What it keeps: images and labels once, and little else. */
    ck_assert_uint_ge(els_bank_memory(bank), (uint64_t)N * (PIXELS + sizeof(int64_t)));
    ck_assert_uint_le(els_bank_memory(bank), (uint64_t)N * (PIXELS + sizeof(int64_t)) + 4096);
    els_bank_unref(bank);
    /* Each question may end it. */
    for (int i = 0; i < w.asks; i++) {
        less = (struct watch){.limit = w.asked[i] - 1};
        bank = NULL;
        ck_assert_int_eq(open_with(&less, at("bank.safetensors"), &bank, &err), ELS_ELIMIT);
        ck_assert_ptr_null(bank);
        ck_assert_int_eq(less.asks, i + 1);
        ck_assert_ptr_nonnull(strstr(err.message, "no more than"));
    }
    scratch_remove();
}
END_TEST

/* Two headers of one length: a long text is little more than its bytes, many small values are much more. */
START_TEST(test_a_header_is_asked_for_by_what_it_holds)
{
    enum { HEADER = 200000 };
    static char file[8 + HEADER];
    uint64_t asked[2], length = HEADER;

    scratch_make();
    for (int many = 0; many < 2; many++) {
        struct watch w = {.limit = UINT64_MAX};
        struct els_bank *bank = NULL;
        struct els_error err = {0};

        memcpy(file, &length, sizeof(length));
        memset(file + 8, ' ', HEADER);
        if (many) {
            memcpy(file + 8, "{\"a\":[", 6);
            for (int i = 6; i < 6 + 2 * 40000; i += 2)
                memcpy(file + 8 + i, "1,", 2);
            memcpy(file + 8 + 6 + 2 * 40000, "1]}", 3);
        } else {
            memcpy(file + 8, "{\"__metadata__\":{\"a\":\"", 22);
            memset(file + 8 + 22, 'x', HEADER - 22 - 3);
            memcpy(file + 8 + HEADER - 3, "\"}}", 3);
        }
        ck_assert_int_lt(open_with(&w, spill("header.safetensors", file, sizeof(file)), &bank, &err), 0);
        ck_assert_int_eq(w.asks, 2);
        asked[many] = w.asked[1] - w.asked[0];
    }
    ck_assert_uint_ge(asked[0], HEADER);
    ck_assert_uint_le(asked[0], 8 * HEADER);
    ck_assert_uint_ge(asked[1], 40000 * 16);
    scratch_remove();
}
END_TEST

START_TEST(test_a_huge_sparse_file_is_only_asked_for)
{
    struct watch w = {.limit = 1 << 20};
    struct els_bank *bank = NULL;
    struct els_error err = {0};
    uint64_t header = 1000;

    scratch_make();
    ck_assert_int_eq(truncate(spill("huge.safetensors", &header, sizeof(header)), (off_t)1 << 35), 0);
    ck_assert_int_eq(open_with(&w, at("huge.safetensors"), &bank, &err), ELS_ELIMIT);
    ck_assert_int_eq(w.asks, 1);
    ck_assert_uint_ge(w.asked[0], (uint64_t)1 << 35);
    ck_assert_int_eq(truncate(at("huge.safetensors"), (off_t)1 << 40), 0);
    ck_assert_int_eq(open_with(&w, at("huge.safetensors"), &bank, &err), ELS_ELIMIT);
    ck_assert_int_eq(w.asks, 1);
    scratch_remove();
}
END_TEST

START_TEST(test_it_stops_at_every_look)
{
    scratch_make();
    for (int f = 0; f < 2; f++) {
        struct watch w = {.limit = UINT64_MAX};
        struct els_bank *bank = NULL;
        struct els_error err = {0};

        write_bank(at("bank.safetensors"), false, f ? ELS_F32 : ELS_U8);
        ck_assert_int_eq(open_with(&w, at("bank.safetensors"), &bank, &err), 0);
        els_bank_unref(bank);
        ck_assert_int_ge(w.looks, f ? 10 : 4);
        for (int k = 1; k <= w.looks; k++) {
            struct watch again = {.limit = UINT64_MAX, .stop_at = k};

            bank = NULL;
            ck_assert_int_eq(open_with(&again, at("bank.safetensors"), &bank, &err), ELS_ECANCELLED);
            ck_assert_ptr_null(bank);
            ck_assert_int_eq(again.looks, k);
        }
    }
    scratch_remove();
}
END_TEST

static void note_end(void *user)
{
    ++*(int *)user;
}

START_TEST(test_the_end_is_told_once)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};
    int ends = 0;

    ck_assert_int_eq(els_bank_open(&bank, "two-tone", &err), 0);
    els_bank_at_end(bank, note_end, &ends);
    els_bank_ref(bank);
    els_bank_unref(bank);
    ck_assert_int_eq(ends, 0);
    els_bank_unref(bank);
    ck_assert_int_eq(ends, 1);
}
END_TEST

START_TEST(test_from_a_descriptor)
{
    struct els_bank *bank = NULL;
    struct els_error err = {0};
    int fd;

    scratch_make();
    write_bank(at("bank.safetensors"), true, ELS_U8);
    fd = open(at("bank.safetensors"), O_RDONLY | O_CLOEXEC);
    /* From the file's beginning, wherever the descriptor is; and again. */
    ck_assert_int_eq(lseek(fd, 100, SEEK_SET), 100);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(els_bank_read(&bank, fd, "a name.safetensors", NULL, &err), 0);
        ck_assert_int_eq(els_bank_info(bank)->num_images, N);
        els_bank_unref(bank);
    }
    ck_assert_int_eq(truncate(at("bank.safetensors"), 1000), 0);
    ck_assert_int_lt(els_bank_read(&bank, fd, "a name.safetensors", NULL, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.message, "a name.safetensors"));
    close(fd);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_eq(els_bank_read(&bank, fd, "folder", NULL, &err), ELS_EIO);
    close(fd);
    scratch_remove();
}
END_TEST

UNIT_MAIN("bank_opening", test_it_asks_before_it_takes, test_a_header_is_asked_for_by_what_it_holds,
          test_a_huge_sparse_file_is_only_asked_for, test_it_stops_at_every_look, test_the_end_is_told_once, test_from_a_descriptor)
