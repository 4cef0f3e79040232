/*
 * Automatic scales: what the rule promises is checked with errors computed here, by the plain loop, on a bank
 * small enough for it; and on the built-in digits, where P must grow with the noise.
 */
#include <math.h>
#include <string.h>

#include "els/mem.h"
#include "els/noise.h"
#include "els/scale_auto.h"
#include "unit.h"

enum { SIDE = 9, VALUES = SIDE * SIDE, IMAGES = 24, HELD = 6 };

/* Five drawings over and over, each time with other grain: in much noise it takes a large window to tell which. */
static struct els_bank *grainy(void)
{
    static uint8_t pixels[IMAGES * VALUES];
    struct els_bank_parts parts = {.name = "grainy",
                                   .shape = {1, SIDE, SIDE},
                                   .num_images = IMAGES,
                                   .dtype = ELS_U8,
                                   .images = pixels};
    struct els_bank *bank = NULL;
    uint64_t state = 12;

    for (int i = 0; i < IMAGES * VALUES; i++) {
        uint64_t drawing =
            (uint64_t)(i / VALUES % 5 * VALUES + i % VALUES + 1) * 6364136223846793005u;

        state = state * 6364136223846793005u + 1442695040888963407u;
        pixels[i] = (uint8_t)((drawing * drawing >> 63) * 200 + (state >> 60) * 3);
    }
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    return bank;
}

/* The rule's sum at one time and scale, from its words: 6 of 24 images are held out, the 3rd, 7th, 11th … */
static double error_of(const struct els_bank *bank, double t, int p)
{
    double a = sqrt(els_schedule_alpha_bar(ELS_COSINE, t)),
           sigma = sqrt(els_schedule_beta(ELS_COSINE, t)), sum = 0;
    static float y[HELD * VALUES], x[HELD * VALUES], x0[HELD * VALUES];
    int64_t rest[IMAGES];
    int held = 0, n = 0;
    struct els_evaluation e = {.bank = bank,
                               .images = rest,
                               .machine = ELS_MACHINE_BBELS,
                               .num_p = 1,
                               .p = &p,
                               .alpha_bar = els_schedule_alpha_bar(ELS_COSINE, t),
                               .beta = els_schedule_beta(ELS_COSINE, t),
                               .batch = HELD,
                               .x = x};

    for (int i = 0; i < IMAGES; i++) {
        struct els_noise g;

        if (i % 4 != 2) {
            rest[n++] = i;
            continue;
        }
        els_bank_image(bank, i, y + held * VALUES);
        els_noise_init(&g, ELS_NOISE_NUMPY, (uint64_t)held);
        els_noise_randn(&g, x + held * VALUES, VALUES);
        held++;
    }
    ck_assert_int_eq(held, HELD);
    e.num_images = n;
    for (int i = 0; i < HELD * VALUES; i++)
        x[i] = (float)(a * (double)y[i] + sigma * (double)x[i]);
    ck_assert_int_eq(els_evaluate_plain(&e, NULL, &(struct els_answer){.x0 = x0}, NULL), 0);
    for (int i = 0; i < HELD * VALUES; i++)
        sum += ((double)x0[i] - (double)y[i]) * ((double)x0[i] - (double)y[i]);
    return sum;
}

START_TEST(test_scales_denoise_better_than_their_neighbours)
{
    static const double t[] = {0.02, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1};
    struct els_bank *bank = grainy();
    struct els_scales_auto_spec spec;
    struct els_scales scales = {0};
    int distinct = 1;

    els_scales_auto_spec_init(&spec);
    spec.bank = bank;
    spec.num_t = 8;
    spec.t = t;
    spec.max_p = 9;
    ck_assert_int_eq(els_scales_auto(&scales, &spec, NULL, NULL, NULL), 0);
    ck_assert_int_eq(scales.n, 8);
    for (int i = 0; i < 8; i++) {
        int p = els_scales_at(&scales, t[i]);
        double here = error_of(bank, t[i], p);

        ck_assert(p >= 3 && p <= 9 && p % 2 == 1);
        /* Within what the kernels differ by from the plain loop. */
        if (p > 3)
            ck_assert_double_le(here, error_of(bank, t[i], p - 2) * (1 + 1e-3) + 1e-6);
        if (p < 9)
            ck_assert_double_le(here, error_of(bank, t[i], p + 2) * (1 + 1e-3) + 1e-6);
        printf("t = %g: P = %d\n", t[i], p);
        distinct += i > 0 && p != els_scales_at(&scales, t[i - 1]);
    }
    ck_assert_int_gt(distinct, 1);
    els_scales_deinit(&scales);
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_digits_need_more_context_in_more_noise)
{
    static const double t[] = {0.05, 0.3, 0.8};
    struct els_scales_auto_spec spec;
    struct els_scales one = {0}, many = {0};
    struct els_bank *bank = NULL;
    struct els_pool *pool = NULL;

    ck_assert_int_eq(els_bank_open(&bank, "digits", NULL), 0);
    ck_assert_int_eq(els_pool_new(&pool, 3), 0);
    els_scales_auto_spec_init(&spec);
    spec.bank = bank;
    spec.selection.max_samples = 40;
    spec.num_t = 3;
    spec.t = t;
    ck_assert_int_eq(els_scales_auto(&one, &spec, NULL, NULL, NULL), 0);
    ck_assert_int_eq(els_scales_auto(&many, &spec, pool, NULL, NULL), 0);
    ck_assert_int_eq(one.n, many.n);
    ck_assert_mem_eq(one.p, many.p, 3 * sizeof(int));
    printf("digits: P = %d, %d, %d at t = 0.05, 0.3, 0.8\n", one.p[0], one.p[1], one.p[2]);
    ck_assert_int_le(one.p[0], one.p[1]);
    ck_assert_int_lt(one.p[1], one.p[2]);
    ck_assert_int_le(one.p[2], 17); /* half of 32, made odd */
    els_scales_deinit(&one);
    els_scales_deinit(&many);
    els_pool_free(pool);
    els_bank_unref(bank);
}
END_TEST

static int stop_at_once(void *user, double done)
{
    return done >= 0 && done <= 1 && ++*(int *)user;
}

START_TEST(test_faults_are_named_and_the_watch_cancels)
{
    struct els_bank *bank = grainy();
    struct els_scales_auto_spec good, spec;
    struct els_scales scales = {0};
    struct els_error err = {0};
    int calls = 0;

    els_scales_auto_spec_init(&good);
    good.bank = bank;
    spec = good;
    spec.machine = ELS_MACHINE_ES;
    ck_assert_int_eq(els_scales_auto(&scales, &spec, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "scales");
    spec = good;
    spec.selection.max_samples = 1;
    ck_assert_int_eq(els_scales_auto(&scales, &spec, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "scales");
    spec = good;
    spec.max_p = 4;
    ck_assert_int_eq(els_scales_auto(&scales, &spec, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "max_p");
    spec = good;
    spec.num_t = 2;
    spec.t = (const double[]){0.5, 0.5};
    ck_assert_int_eq(els_scales_auto(&scales, &spec, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "t");
    spec.t = (const double[]){0, 0.5};
    ck_assert_int_eq(els_scales_auto(&scales, &spec, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "t");
    spec.alpha_bar = (const double[]){0.9, 1};
    ck_assert_int_eq(els_scales_auto(&scales, &spec, NULL, NULL, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "alpha_bar");
    ck_assert_int_eq(
        els_scales_auto(&scales, &good, NULL, &(struct els_progress){stop_at_once, &calls}, &err),
        ELS_ECANCELLED);
    ck_assert_int_gt(calls, 0);
    ck_assert_int_eq(scales.n, 0);
    els_bank_unref(bank);
}
END_TEST

/* Two images of one pixel, and of two: the smallest problems that have an answer. */
START_TEST(test_smallest_banks)
{
    for (int side = 1; side <= 3; side++)
        for (int machine = ELS_MACHINE_LS; machine <= ELS_MACHINE_BBELS; machine++) {
            uint8_t pixels[2 * 9] = {0, 255, 3, 200, 9, 14, 250, 100, 17, 1};
            struct els_bank_parts parts = {.name = "small",
                                           .shape = {1, side, side},
                                           .num_images = 2,
                                           .dtype = ELS_U8,
                                           .images = pixels};
            struct els_scales_auto_spec spec;
            struct els_scales scales = {0};
            struct els_bank *bank = NULL;

            ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
            els_scales_auto_spec_init(&spec);
            spec.bank = bank;
            spec.machine = (enum els_machine)machine;
            ck_assert_int_eq(els_scales_auto(&scales, &spec, NULL, NULL, NULL), 0);
            ck_assert_int_eq(scales.n, 20);
            ck_assert_int_le(scales.p[19], 3);
            els_scales_deinit(&scales);
            els_bank_unref(bank);
        }
}
END_TEST

UNIT_MAIN("scale_auto", test_scales_denoise_better_than_their_neighbours,
          test_digits_need_more_context_in_more_noise, test_faults_are_named_and_the_watch_cancels,
          test_smallest_banks)
