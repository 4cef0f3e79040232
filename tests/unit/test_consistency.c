/*
 * Local consistency and the nearest training image, on images made for it: patch mosaics by construction, copies of
 * training images moved around, and random ones against loops written out here.
 */
#include <math.h>
#include <string.h>

#include "els/consistency.h"
#include "els/mem.h"
#include "els/noise.h"
#include "unit.h"

enum { C = 2, H = 5, W = 7, PLANE = H * W, VALUES = C * PLANE, IMAGES = 6 };

static const int64_t all[IMAGES] = {0, 1, 2, 3, 4, 5};

static struct els_bank *random_bank(void)
{
    uint8_t pixels[IMAGES * VALUES];
    struct els_bank_parts parts = {.name = "random",
                                   .shape = {C, H, W},
                                   .num_images = IMAGES,
                                   .dtype = ELS_U8,
                                   .images = pixels};
    struct els_bank *bank = NULL;
    uint64_t state = 6;

    for (int i = 0; i < IMAGES * VALUES; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        pixels[i] = (uint8_t)(state >> 50);
    }
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    return bank;
}

static void move(float *out, const float *y, int dy, int dx)
{
    for (int c = 0; c < C; c++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++)
                out[(c * H + i) * W + j] = y[(c * H + (i + dy) % H) * W + (j + dx) % W];
}

START_TEST(test_moved_copies_are_found)
{
    struct els_bank *bank = random_bank();
    struct els_nearest nearest;
    float y[VALUES], x[VALUES];

    for (int n = 0; n < IMAGES; n++)
        for (int dy = 0; dy < H; dy += 2)
            for (int dx = 0; dx < W; dx += 3) {
                els_bank_image(bank, n, y);
                move(x, y, dy, dx);
                for (int i = 0; i < VALUES; i++)
                    x[i] += i % 2 ? 0.01f : -0.01f;
                ck_assert_int_eq(
                    els_nearest_image(&nearest, bank, all, IMAGES, x, NULL, NULL, NULL), 0);
                ck_assert_int_eq(nearest.image, n);
                ck_assert_int_eq(nearest.dy, dy);
                ck_assert_int_eq(nearest.dx, dx);
                ck_assert_double_eq_tol(nearest.distance, 0.01, 1e-7);
            }
    /* An image that is not among those selected is not found. */
    els_bank_image(bank, 3, x);
    ck_assert_int_eq(
        els_nearest_image(&nearest, bank, (const int64_t[]){0, 4}, 2, x, NULL, NULL, NULL), 0);
    ck_assert(nearest.image == 0 || nearest.image == 4);
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_nearest_equals_plain_search)
{
    struct els_bank *bank = random_bank();
    struct els_pool *pool = NULL;
    float y[VALUES], moved[VALUES], x[VALUES];

    ck_assert_int_eq(els_pool_new(&pool, 3), 0);
    for (int round = 0; round < 30; round++) {
        struct els_nearest nearest, best = {.distance = INFINITY};
        struct els_noise g;

        els_noise_init(&g, ELS_NOISE_NUMPY, (uint64_t)round);
        els_noise_randn(&g, x, VALUES);
        for (int n = 0; n < IMAGES; n++)
            for (int dy = 0; dy < H; dy++)
                for (int dx = 0; dx < W; dx++) {
                    double sum = 0;

                    els_bank_image(bank, n, y);
                    move(moved, y, dy, dx);
                    for (int i = 0; i < VALUES; i++)
                        sum +=
                            ((double)x[i] - (double)moved[i]) * ((double)x[i] - (double)moved[i]);
                    if (sqrt(sum / VALUES) < best.distance)
                        best = (struct els_nearest){n, dy, dx, sqrt(sum / VALUES)};
                }
        ck_assert_int_eq(els_nearest_image(&nearest, bank, all, IMAGES, x, pool, NULL, NULL), 0);
        ck_assert_int_eq(nearest.image, best.image);
        ck_assert_int_eq(nearest.dy, best.dy);
        ck_assert_int_eq(nearest.dx, best.dx);
        ck_assert_double_eq_tol(nearest.distance, best.distance, 1e-6);
    }
    els_pool_free(pool);
    els_bank_unref(bank);
}
END_TEST

static struct els_evaluation last_step(struct els_bank *bank, enum els_machine machine,
                                       const int *p)
{
    return (struct els_evaluation){
        .bank = bank, .images = all, .num_images = IMAGES, .machine = machine, .num_p = 1, .p = p};
}

static double share_of(const struct els_evaluation *e, const float *image)
{
    double share = -1;

    ck_assert_int_eq(els_local_consistency(&share, e, image, NULL, NULL, NULL), 0);
    return share;
}

/* Training images are consistent for every machine; so are they moved, for those that move. */
START_TEST(test_training_images_are_consistent)
{
    struct els_bank *bank = random_bank();
    const int p = 3;
    float y[VALUES], x[VALUES];

    els_bank_image(bank, 2, y);
    move(x, y, 2, 3);
    for (int machine = 0; machine < ELS_MACHINE_COUNT; machine++) {
        struct els_evaluation e = last_step(bank, (enum els_machine)machine, &p);
        int moves = machine == ELS_MACHINE_ES || machine == ELS_MACHINE_ELS;

        ck_assert_double_eq(share_of(&e, y), 1);
        if (moves)
            ck_assert_double_eq(share_of(&e, x), 1);
        else
            ck_assert_double_lt(share_of(&e, x), 0.5);
    }
    els_bank_unref(bank);
}
END_TEST

/* Pixels moved by less than the tolerance still count, by more they do not; one channel is enough. */
START_TEST(test_tolerance_is_per_channel)
{
    struct els_bank *bank = random_bank();
    const int p = 5;
    struct els_evaluation e = last_step(bank, ELS_MACHINE_LS, &p);
    float y[VALUES];

    els_bank_image(bank, 4, y);
    y[3] += 0.019f;
    ck_assert_double_eq(share_of(&e, y), 1);
    y[PLANE + 3] -= 0.021f;
    ck_assert_double_eq_tol(share_of(&e, y), (PLANE - 1.0) / PLANE, 1e-12);
    els_bank_unref(bank);
}
END_TEST

/* ls by hand: the nearest patch at the same pixel. */
START_TEST(test_share_equals_plain_search)
{
    struct els_bank *bank = random_bank();
    const int p = 3;
    struct els_evaluation e = last_step(bank, ELS_MACHINE_LS, &p);
    float bank_image[IMAGES][VALUES], x[VALUES];
    int seen_both = 0;

    for (int n = 0; n < IMAGES; n++)
        els_bank_image(bank, n, bank_image[n]);
    for (int round = 0; round < 20; round++) {
        struct els_noise g;
        int consistent = 0;

        /* Each pixel is one of the bank's at that place. */
        els_noise_init(&g, ELS_NOISE_NUMPY, (uint64_t)round);
        els_noise_randn(&g, x, VALUES);
        for (int at = 0; at < PLANE; at++) {
            int n = (int)(fabsf(x[at]) * 1000) % IMAGES;

            for (int c = 0; c < C; c++)
                x[c * PLANE + at] = bank_image[n][c * PLANE + at];
        }
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++) {
                double best = INFINITY;
                int from = 0, same = 1;

                for (int n = 0; n < IMAGES; n++) {
                    double sum = 0;

                    for (int u = i > 0 ? i - 1 : 0; u <= i + 1 && u < H; u++)
                        for (int v = j > 0 ? j - 1 : 0; v <= j + 1 && v < W; v++)
                            for (int c = 0; c < C; c++) {
                                int at = (c * H + u) * W + v;

                                sum += ((double)x[at] - (double)bank_image[n][at]) *
                                       ((double)x[at] - (double)bank_image[n][at]);
                            }
                    from = sum < best ? n : from;
                    best = sum < best ? sum : best;
                }
                for (int c = 0; c < C; c++)
                    same &= fabs((double)x[(c * H + i) * W + j] -
                                 (double)bank_image[from][(c * H + i) * W + j]) <= 0.02;
                consistent += same;
            }
        seen_both += consistent > 0 && consistent < PLANE;
        ck_assert_double_eq_tol(share_of(&e, x), (double)consistent / PLANE, 1e-12);
    }
    ck_assert_int_gt(seen_both, 10);
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_faults_are_named)
{
    struct els_bank *bank = random_bank();
    const int p[2] = {4, 5};
    struct els_evaluation e = last_step(bank, ELS_MACHINE_BBELS, p);
    struct els_nearest nearest;
    struct els_error err = {0};
    float x[VALUES] = {0};
    double share;

    ck_assert_int_eq(els_local_consistency(&share, &e, x, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "p");
    e.num_p = 2;
    ck_assert_int_eq(els_local_consistency(&share, &e, x, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "p");
    x[9] = NAN;
    ck_assert_int_eq(els_nearest_image(&nearest, bank, all, IMAGES, x, NULL, NULL, &err),
                     ELS_EINVAL);
    ck_assert_str_eq(err.field, "x");
    els_bank_unref(bank);
}
END_TEST

UNIT_MAIN("consistency", test_moved_copies_are_found, test_nearest_equals_plain_search,
          test_training_images_are_consistent, test_tolerance_is_per_channel,
          test_share_equals_plain_search, test_faults_are_named)
