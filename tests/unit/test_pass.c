/*
 * What a pass takes: the memory of a worker, and who gets which kernel.
 */

#include "core/engine/pass_internal.h"
#include "core/kernel/kernel.h"
#include "els/mem.h"
#include "unit.h"

enum { MOST = 64 << 20, IMAGES = 16, MANY = 64 };

/* The worker of one P for `batch` noisy images. */
static size_t worker_bytes(const struct els_bank *bank, enum els_machine machine, int p, int64_t batch)
{
    size_t values = els_shape_values(els_bank_info(bank)->shape), bytes;
    _cleanup_(els_freep) float *x = els_alloc_array((size_t)batch * values, sizeof(*x));
    int64_t images[IMAGES], at_once;
    struct els_evaluation e = {.bank = bank, .images = images, .num_images = IMAGES,
                               .machine = machine, .num_p = 1, .p = &p,
                               .alpha_bar = 0.5, .beta = 0.5, .batch = batch, .x = x};
    struct els_pass *pass = NULL;

    ck_assert_ptr_nonnull(x);
    for (int64_t i = 0; i < IMAGES; i++)
        images[i] = i;
    ck_assert_int_eq(els_pass_new(&pass, &e, 1), 0);
    at_once = els_pass_pairs_at_once(pass);
    bytes = els_pass_worker_bytes(pass, at_once < batch ? at_once : batch);
    els_pass_free(pass);
    return bytes;
}

/*
 * The largest worker for one noisy image of one shape, and for many, over the scales from 1 to beyond it; is and es have
 * none. Each noisy image adds the same at every scale: for many, the scale that is largest for one is enough.
 */
static void largest_workers(enum els_machine machine, struct els_shape shape, size_t largest[2])
{
    int last_p = els_machine_uses_p(machine) ? shape.w + 2 : 1, at = 1;
    _cleanup_(els_freep) uint8_t *u8 = els_alloc_array(IMAGES * els_shape_values(shape), 1);
    struct els_bank_parts parts = {.name = "grey", .shape = shape, .num_images = IMAGES,
                                   .dtype = ELS_U8, .images = u8};
    struct els_bank *bank = NULL;

    ck_assert_ptr_nonnull(u8);
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    largest[0] = 0;
    for (int p = 1; p <= last_p; p += p < 9 ? 2 : shape.w / 4 * 2) {
        size_t bytes = worker_bytes(bank, machine, p, 1);

        if (bytes > largest[0]) {
            largest[0] = bytes;
            at = p;
        }
    }
    largest[1] = worker_bytes(bank, machine, at, MANY);
    els_bank_unref(bank);
}

START_TEST(test_a_worker_stays_below_64_mib)
{
    static const enum els_machine machines[] = {ELS_MACHINE_BBELS, ELS_MACHINE_IS, ELS_MACHINE_ES};
    static const struct els_shape shapes[] = {{1, 28, 28}, {1, 32, 32}, {3, 32, 32}, {3, 64, 64},
                                              {4, 128, 128}, {1, 128, 128}};

    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
        for (int k = 0; k < 3; k++) {
            size_t bytes[2];

            largest_workers(machines[k], shapes[i], bytes);
            for (int many = 0; many < 2; many++) {
                printf("%s, %dx%dx%d, batch %d: %.1f MiB\n", els_machine_name(machines[k]), shapes[i].c,
                       shapes[i].h, shapes[i].w, many ? MANY : 1, (double)bytes[many] / (1 << 20));
                ck_assert_msg(bytes[many] <= MOST, "%s, %dx%dx%d, batch %d: a worker takes %zu bytes",
                              els_machine_name(machines[k]), shapes[i].c, shapes[i].h, shapes[i].w,
                              many ? MANY : 1, bytes[many]);
            }
        }
}
END_TEST

UNIT_MAIN_PER_KERNEL("pass", test_a_worker_stays_below_64_mib)
