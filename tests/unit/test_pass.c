/*
 * What a pass takes: the memory of a worker, and who gets which kernel.
 */

#include "core/engine/pass_internal.h"
#include "core/kernel/kernel.h"
#include "els/mem.h"
#include "unit.h"

enum { MOST = 64 << 20, IMAGES = 16, MANY = 64 };

/*
 * The largest worker for `batch` noisy images of one shape, over the scales from 1 to beyond it;
 * is and es have none.
 */
static size_t largest_worker(enum els_machine machine, struct els_shape shape, int64_t batch)
{
    int last_p = els_machine_uses_p(machine) ? shape.w + 2 : 1;
    size_t values = els_shape_values(shape), largest = 0;
    _cleanup_(els_freep) uint8_t *u8 = els_alloc_array(IMAGES * values, 1);
    _cleanup_(els_freep) float *x = els_alloc_array((size_t)batch * values, sizeof(*x));
    struct els_bank_parts parts = {.name = "grey", .shape = shape, .num_images = IMAGES,
                                   .dtype = ELS_U8, .images = u8};
    struct els_bank *bank = NULL;
    int64_t images[IMAGES];

    ck_assert_ptr_nonnull(u8);
    ck_assert_ptr_nonnull(x);
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    for (int64_t i = 0; i < IMAGES; i++)
        images[i] = i;
    for (int p = 1; p <= last_p; p += p < 9 ? 2 : shape.w / 4 * 2) {
        struct els_evaluation e = {.bank = bank, .images = images, .num_images = IMAGES,
                                   .machine = machine, .num_p = 1, .p = &p,
                                   .alpha_bar = 0.5, .beta = 0.5, .batch = batch, .x = x};
        struct els_pass *pass = NULL;
        int64_t at_once;
        size_t bytes;

        ck_assert_int_eq(els_pass_new(&pass, &e, 1), 0);
        at_once = els_pass_pairs_at_once(pass);
        bytes = els_pass_worker_bytes(pass, at_once < batch ? at_once : batch);
        largest = bytes > largest ? bytes : largest;
        els_pass_free(pass);
    }
    els_bank_unref(bank);
    return largest;
}

START_TEST(test_a_worker_stays_below_64_mib)
{
    static const enum els_machine machines[] = {ELS_MACHINE_BBELS, ELS_MACHINE_IS, ELS_MACHINE_ES};
    static const struct els_shape shapes[] = {{1, 28, 28}, {1, 32, 32}, {3, 32, 32}, {3, 64, 64},
                                              {4, 128, 128}, {1, 128, 128}};

    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
        for (int k = 0; k < 6; k++) {
            enum els_machine machine = machines[k / 2];
            int64_t batch = k % 2 ? MANY : 1;
            size_t bytes = largest_worker(machine, shapes[i], batch);

            printf("%s, %dx%dx%d, batch %lld: %.1f MiB\n", els_machine_name(machine), shapes[i].c,
                   shapes[i].h, shapes[i].w, (long long)batch, (double)bytes / (1 << 20));
            ck_assert_msg(bytes <= MOST, "%s, %dx%dx%d, batch %lld: a worker takes %zu bytes",
                          els_machine_name(machine), shapes[i].c, shapes[i].h, shapes[i].w,
                          (long long)batch, bytes);
        }
}
END_TEST

UNIT_MAIN_PER_KERNEL("pass", test_a_worker_stays_below_64_mib)
