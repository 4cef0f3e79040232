/*
 * Theorem 4.1 on its smallest example: a bank of one black and one white image, `els`, P = 3, wrapped. As t → 0 every
 * pixel becomes the centre of its nearest patch: black or white, and equal to the majority of its 3×3 window.
 *
 * Convergence is only logarithmic in the number of steps, so the small image is run long, until it is whole, and the
 * share of the large one is printed and held to what an exact simulation shows.
 */
#include <math.h>

#include "els/pool.h"
#include "els/sampler.h"
#include "els/synth.h"
#include "unit.h"

/* The images of `seeds` consecutive seeds, [seeds,side,side] in *out (free()). */
static void sample_two_tone(int side, int steps, int seeds, float **out)
{
    struct els_sample_spec spec;
    struct els_sampler *s = NULL;
    struct els_pool *pool = NULL;
    struct els_error err = {0};
    size_t values = (size_t)seeds * (size_t)(side * side);

    els_sample_spec_init(&spec);
    ck_assert_int_eq(els_synth_two_tone(&spec.bank, side, side, NULL), 0);
    ck_assert_int_eq(els_scales_constant(&spec.scales, 3, NULL), 0);
    ck_assert_int_eq(els_pool_new(&pool, 0), 0);
    spec.machine = ELS_MACHINE_ELS;
    spec.candidates = ELS_CANDIDATES_WRAPPED;
    spec.num_inference_steps = steps;
    spec.num_images = seeds;
    ck_assert_msg(els_sampler_new(&s, &spec, &err) == 0, "%s", err.message);
    while (els_sampler_next(s) < els_sampler_num_steps(s))
        ck_assert_msg(els_sampler_step(s, pool, NULL, &err) == 0, "%s", err.message);
    *out = malloc(values * sizeof(float));
    ck_assert_ptr_nonnull(*out);
    for (size_t i = 0; i < values; i++)
        (*out)[i] = els_sampler_x(s)[i];
    els_sampler_free(s);
    els_pool_free(pool);
    els_scales_deinit(&spec.scales);
    els_bank_unref(spec.bank);
}

/* +1 or −1: the colour that most pixels of the wrapped 3×3 window have. */
static int majority(const float *x, int side, int i, int j)
{
    int white = 0;

    for (int di = -1; di <= 1; di++)
        for (int dj = -1; dj <= 1; dj++)
            white += x[(i + di + side) % side * side + (j + dj + side) % side] > 0;
    return white >= 5 ? 1 : -1;
}

/* Pixels within 0.02 of the majority colour of their window: the centre of the nearest patch. */
static int consistent_pixels(const float *x, int side)
{
    int consistent = 0;

    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++)
            consistent += fabsf(x[i * side + j] - (float)majority(x, side, i, j)) <= 0.02F;
    return consistent;
}

START_TEST(test_small_images_become_wholly_consistent)
{
    enum { SIDE = 8, STEPS = 5000, SEEDS = 20, PIXELS = SIDE * SIDE };
    float *images = NULL, faintest = 1;

    sample_two_tone(SIDE, STEPS, SEEDS, &images);
    for (int n = 0; n < SEEDS; n++) {
        const float *x = images + n * PIXELS;

        for (int q = 0; q < PIXELS; q++) {
            int colour = x[q] > 0 ? 1 : -1;

            faintest = fminf(faintest, fabsf(x[q]));
            ck_assert_msg(fabsf(x[q]) > 0.999F, "seed %d, pixel %d is %g", n, q, (double)x[q]);
            ck_assert_msg(majority(x, SIDE, q / SIDE, q % SIDE) == colour,
                          "seed %d, pixel %d differs from the majority of its window", n, q);
        }
    }
    printf("two-tone 8×8, %d steps, %d seeds: smallest |x| %.6f (above 0.999), every majority equal\n", STEPS,
           SEEDS, (double)faintest);
    free(images);
}
END_TEST

/* Share of consistent pixels over some seeds at 32×32. */
static double share_at(int steps, int seeds)
{
    enum { SIDE = 32, PIXELS = SIDE * SIDE };
    float *images = NULL;
    int consistent = 0;

    sample_two_tone(SIDE, steps, seeds, &images);
    for (int n = 0; n < seeds; n++)
        consistent += consistent_pixels(images + n * PIXELS, SIDE);
    free(images);
    return (double)consistent / (seeds * PIXELS);
}

START_TEST(test_large_images_approach_consistency)
{
    static const struct {
        int steps, seeds;
        double least;
    } runs[] = {{20, 20, 0.98}, {100, 8, 0.99}, {1000, 5, 0.995}};

    for (size_t i = 0; i < sizeof(runs) / sizeof(*runs); i++) {
        double share = share_at(runs[i].steps, runs[i].seeds);

        printf("two-tone 32×32, %d steps, %d seeds: %.4f of the pixels consistent (at least %.3f)\n",
               runs[i].steps, runs[i].seeds, share, runs[i].least);
        ck_assert_msg(share >= runs[i].least, "%d steps: %.4f", runs[i].steps, share);
    }
}
END_TEST

UNIT_MAIN("theory", test_small_images_become_wholly_consistent, test_large_images_approach_consistency)
