/*
 * Rounding a noisy image to 16 bits: what is left over is passed on and nothing is lost; and the
 * error that is reported is the one that logits show.
 */
#include <math.h>

#include "core/kernel/rounding.h"
#include "els/mem.h"
#include "els/noise.h"
#include "unit.h"

enum { H = 20, W = 24, C = 2, N = 12, VALUES = C * H * W };

/* A bank of N images: noise, or broad waves. */
static struct els_bank *new_bank(int smooth)
{
    static uint8_t u8[N * VALUES];
    struct els_bank_parts parts = {.name = "rounding", .shape = {C, H, W}, .num_images = N,
                                   .dtype = ELS_U8, .images = u8};
    struct els_bank *bank = NULL;
    uint64_t state = 3;

    for (int k = 0; k < N * VALUES; k++) {
        int n = k / VALUES, i = k / W % H, j = k % W;

        state = state * 6364136223846793005u + 1442695040888963407u;
        u8[k] = smooth ? (uint8_t)(128 + 100 * sin(0.2 * i + 0.15 * j + 1.7 * n))
                       : (uint8_t)(state >> 40);
    }
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    return bank;
}

static struct els_sweep sweep_of(const struct els_bank *bank, const int64_t *images, int r)
{
    return (struct els_sweep){
        .bank = bank,
        .images = images,
        .num_images = N,
        .shape = {C, H, W},
        .machine = ELS_MACHINE_BBELS,
        .r = r,
        .rh = r,
        .rw = r,
        .scale = 0.3,
    };
}

static void noise(float *x)
{
    struct els_noise n;

    els_noise_init(&n, ELS_NOISE_NUMPY, 5);
    els_noise_randn(&n, x, VALUES);
}

/* ⟨rounded − x·per_one, y⟩ of the window around (i, j) and of bank image n there, in u8 units. */
static double window_error(const struct els_bank *bank, const int32_t *rounded, const float *x,
                           double per_one, int r, int i, int j, int n)
{
    const uint8_t *u8 = els_bank_images(bank);
    double sum = 0;

    for (int k = 0; k < VALUES; k++) {
        int di = abs(k / W % H - i), dj = abs(k % W - j);

        if (di <= r && dj <= r)
            sum += (rounded[k] - (double)x[k] * per_one) * (u8[n * VALUES + k] - 127.5);
    }
    return sum;
}

/* The standard error of a difference of two logits over windows that fit in, from its definition. */
static double logit_error(const struct els_bank *bank, const int32_t *rounded, const float *x,
                          double per_one, int r, double scale)
{
    double squares = 0;
    int count = 0;

    for (int i = r; i < H - r; i++)
        for (int j = r; j < W - r; j++) {
            double of[N];

            for (int n = 0; n < N; n++)
                of[n] = window_error(bank, rounded, x, per_one, r, i, j, n);
            for (int n = 0; n < N; n++)
                for (int m = 0; m < n; m++, count++)
                    squares += (of[n] - of[m]) * (of[n] - of[m]);
        }
    return scale / per_one / 127.5 * sqrt(squares / count);
}

START_TEST(test_what_is_left_over_is_passed_on)
{
    static float x[VALUES];
    static int32_t rounded[VALUES];
    int64_t images[N] = {0};
    struct els_bank *bank = new_bank(1);
    struct els_sweep s = sweep_of(bank, images, 3);
    double plain = 0, passed = 0;

    noise(x);
    els_round(&s, x, 100, rounded);
    for (int k = 0; k < VALUES; k++)
        ck_assert_double_le(fabs(rounded[k] - 100 * (double)x[k]), 1);
    /* Errors of 5×5 values cancel, where plain rounding adds them up. */
    for (int i = 2; i < H - 2; i++)
        for (int j = 2; j < W - 2; j++) {
            double a = 0, b = 0;

            for (int k = (i - 2) * W; k < (i + 3) * W; k++)
                if (abs(k % W - j) <= 2) {
                    a += rounded[k] - 100 * (double)x[k];
                    b += rint(100 * (double)x[k]) - 100 * (double)x[k];
                }
            passed += a * a;
            plain += b * b;
        }
    ck_assert_double_lt(passed, plain / 2);
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_integers_stay_as_they_are)
{
    static float x[VALUES];
    static int32_t rounded[VALUES];
    int64_t images[N] = {0};
    struct els_bank *bank = new_bank(0);
    struct els_sweep s = sweep_of(bank, images, 3);

    for (int k = 0; k < VALUES; k++)
        x[k] = (float)(k % 37 - 18);
    els_round(&s, x, 4, rounded);
    for (int k = 0; k < VALUES; k++)
        ck_assert_int_eq(rounded[k], 4 * (k % 37 - 18));
    ck_assert_double_eq(els_rounding_error(&s, x, 4), 0);
    els_bank_unref(bank);
}
END_TEST

/* Sampled from 16 windows and 32 patches: within a factor of 1.6 of what all windows show. */
START_TEST(test_error_is_that_of_logits)
{
    static float x[VALUES];
    static int32_t rounded[VALUES];
    int64_t images[N];

    for (int n = 0; n < N; n++)
        images[n] = n;
    noise(x);
    for (int smooth = 0; smooth < 2; smooth++)
        for (int r = 0; r <= 6; r += 3) {
            struct els_bank *bank = new_bank(smooth);
            struct els_sweep s = sweep_of(bank, images, r);
            double told = els_rounding_error(&s, x, 500), is;

            els_round(&s, x, 500, rounded);
            is = logit_error(bank, rounded, x, 500, r, s.scale);
            printf("%s, P = %d: %.2e nats, of logits %.2e\n", smooth ? "waves" : "noise", 2 * r + 1,
                   told, is);
            ck_assert_double_lt(told, 1.6 * is);
            ck_assert_double_gt(told, is / 1.6);
            els_bank_unref(bank);
        }
}
END_TEST

UNIT_MAIN("rounding", test_what_is_left_over_is_passed_on, test_integers_stay_as_they_are,
          test_error_is_that_of_logits)
