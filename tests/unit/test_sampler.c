/*
 * The reverse process: step numbering, the update equations, seeds, explicit alpha_bar, cancellation, bad input.
 */
#include <math.h>
#include <string.h>

#include "sampler.h"
#include "synth.h"
#include "unit.h"

enum { SIDE = 6, VALUES = SIDE * SIDE };

static void two_tone_spec(struct els_sample_spec *spec)
{
    els_sample_spec_init(spec);
    ck_assert_int_eq(els_synth_two_tone(&spec->bank, SIDE, SIDE, NULL), 0);
    spec->machine = ELS_MACHINE_ELS;
    ck_assert_int_eq(els_scales_constant(&spec->scales, 3, NULL), 0);
}

static void forget(struct els_sample_spec *spec)
{
    els_scales_deinit(&spec->scales);
    els_bank_unref(spec->bank);
}

static struct els_sampler *run(const struct els_sample_spec *spec)
{
    struct els_sampler *s = NULL;
    struct els_error err = {0};

    ck_assert_msg(els_sampler_new(&s, spec, &err) == 0, "%s", err.message);
    while (els_sampler_next(s) < els_sampler_num_steps(s))
        ck_assert_msg(els_sampler_step(s, NULL, NULL, &err) == 0, "%s", err.message);
    return s;
}

START_TEST(test_steps_are_numbered_noisiest_first)
{
    struct els_sample_spec spec;
    struct els_sampler *s = NULL;

    two_tone_spec(&spec);
    spec.num_inference_steps = 10;
    ck_assert_int_eq(els_sampler_new(&s, &spec, NULL), 0);
    ck_assert_int_eq(els_sampler_num_steps(s), 9);
    ck_assert_int_eq(els_sampler_step_info(s, 0).index, 9);
    ck_assert_double_eq(els_sampler_step_info(s, 0).t, 0.9);
    ck_assert_int_eq(els_sampler_step_info(s, 8).index, 1);
    els_sampler_free(s);
    spec.start_step = ELS_START_FULL;
    ck_assert_int_eq(els_sampler_new(&s, &spec, NULL), 0);
    ck_assert_int_eq(els_sampler_num_steps(s), 10);
    ck_assert_double_eq(els_sampler_step_info(s, 0).t, 1.0);
    ck_assert_int_eq(els_sampler_step_info(s, 9).index, 1);
    els_sampler_free(s);
    forget(&spec);
}
END_TEST

/* One step by hand, from the equations, for DDIM and DDPM. */
static void check_one_step(enum els_sampler_kind kind)
{
    struct els_sample_spec spec;
    struct els_sampler *s = NULL;
    struct els_step_info now, then;
    struct els_noise noise;
    float x[VALUES], z[VALUES];
    double variance = 0;

    two_tone_spec(&spec);
    spec.sampler = kind;
    spec.seed = 11;
    ck_assert_int_eq(els_sampler_new(&s, &spec, NULL), 0);
    els_noise_init(&noise, ELS_NOISE_TORCH, 11);
    els_noise_randn(&noise, x, VALUES);
    els_noise_randn(&noise, z, VALUES);
    ck_assert_mem_eq(x, els_sampler_x(s), sizeof(x));
    now = els_sampler_step_info(s, 0);
    then = els_sampler_step_info(s, 1);
    ck_assert_int_eq(els_sampler_step(s, NULL, NULL, NULL), 0);
    if (kind == ELS_DDPM)
        variance = then.beta / now.beta * (1 - now.alpha_bar / then.alpha_bar);
    for (int q = 0; q < VALUES; q++) {
        double x0 = els_sampler_x0(s)[q];
        double epsilon = (x[q] - sqrt(now.alpha_bar) * x0) / sqrt(now.beta);
        double want = sqrt(then.alpha_bar) * x0 + sqrt(then.beta - variance) * epsilon +
                      sqrt(variance) * z[q];

        ck_assert_double_eq_tol(els_sampler_x(s)[q], want, 1e-6); /* float32 of values up to 4 */
    }
    els_sampler_free(s);
    forget(&spec);
}

START_TEST(test_ddim_step)
{
    check_one_step(ELS_DDIM);
}
END_TEST

START_TEST(test_ddpm_step)
{
    check_one_step(ELS_DDPM);
}
END_TEST

START_TEST(test_image_k_is_seed_plus_k)
{
    for (int kind = 0; kind < 2; kind++) {
        struct els_sample_spec spec;
        struct els_sampler *batch, *alone;

        two_tone_spec(&spec);
        spec.sampler = kind ? ELS_DDPM : ELS_DDIM;
        spec.noise = kind ? ELS_NOISE_NUMPY : ELS_NOISE_TORCH;
        spec.num_images = 3;
        spec.seed = 40;
        batch = run(&spec);
        for (int k = 0; k < 3; k++) {
            spec.num_images = 1;
            spec.seed = 40 + (uint64_t)k;
            alone = run(&spec);
            ck_assert_mem_eq(els_sampler_x(alone), els_sampler_x(batch) + k * VALUES,
                             VALUES * sizeof(float));
            els_sampler_free(alone);
        }
        els_sampler_free(batch);
        forget(&spec);
    }
}
END_TEST

START_TEST(test_explicit_alpha_bar_equals_the_schedule)
{
    struct els_sample_spec spec;
    struct els_sampler *named, *explicit;
    double alpha_bar[21];

    two_tone_spec(&spec);
    named = run(&spec);
    for (int i = 0; i <= 20; i++)
        alpha_bar[i] = els_schedule_alpha_bar(ELS_COSINE, i / 20.0);
    spec.alpha_bar = alpha_bar;
    explicit = run(&spec);
    for (int q = 0; q < VALUES; q++)
        ck_assert_double_eq_tol(els_sampler_x(named)[q], els_sampler_x(explicit)[q], 1e-6);
    els_sampler_free(named);
    els_sampler_free(explicit);
    forget(&spec);
}
END_TEST

START_TEST(test_uploaded_noise_is_x_T)
{
    struct els_sample_spec spec;
    struct els_sampler *drawn, *given;
    struct els_noise noise;
    float x_T[VALUES];

    two_tone_spec(&spec);
    spec.seed = 5;
    drawn = run(&spec);
    els_noise_init(&noise, ELS_NOISE_TORCH, 5);
    els_noise_randn(&noise, x_T, VALUES);
    spec.x_T = x_T;
    spec.seed = 77;
    given = run(&spec);
    ck_assert_mem_eq(els_sampler_x(drawn), els_sampler_x(given), sizeof(x_T));
    els_sampler_free(drawn);
    els_sampler_free(given);
    forget(&spec);
}
END_TEST

static int stop(void *user, double done)
{
    return 1;
}

START_TEST(test_cancelled_step_can_be_run_again)
{
    struct els_sample_spec spec;
    struct els_sampler *s = NULL, *undisturbed;
    const struct els_watch watch = {.poll = stop};

    two_tone_spec(&spec);
    spec.sampler = ELS_DDPM;
    undisturbed = run(&spec);
    ck_assert_int_eq(els_sampler_new(&s, &spec, NULL), 0);
    while (els_sampler_next(s) < els_sampler_num_steps(s)) {
        int before = els_sampler_next(s);

        ck_assert_int_eq(els_sampler_step(s, NULL, &watch, NULL), ELS_ECANCELLED);
        ck_assert_int_eq(els_sampler_next(s), before);
        ck_assert_int_eq(els_sampler_step(s, NULL, NULL, NULL), 0);
    }
    ck_assert_mem_eq(els_sampler_x(s), els_sampler_x(undisturbed), VALUES * sizeof(float));
    ck_assert_int_eq(els_sampler_step(s, NULL, NULL, NULL), ELS_EINVAL);
    els_sampler_free(s);
    els_sampler_free(undisturbed);
    forget(&spec);
}
END_TEST

static void expect_refusal(const struct els_sample_spec *spec, const char *field)
{
    struct els_sampler *s = NULL;
    struct els_error err = {0};

    ck_assert_int_eq(els_sampler_new(&s, spec, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, field);
    ck_assert_ptr_null(s);
}

START_TEST(test_bad_specs_are_named)
{
    struct els_sample_spec good, bad;
    double rising[3] = {0.5, 0.6, 0.1};
    float x_T[VALUES] = {0};

    two_tone_spec(&good);
    bad = good, bad.bank = NULL, expect_refusal(&bad, "bank");
    bad = good, bad.num_images = 0, expect_refusal(&bad, "num_images");
    bad = good, bad.num_inference_steps = 1, expect_refusal(&bad, "num_inference_steps");
    bad = good, bad.num_inference_steps = ELS_MAX_INFERENCE_STEPS + 1,
    expect_refusal(&bad, "num_inference_steps");
    bad = good, bad.seed = ELS_MAX_SEED, bad.num_images = 2, expect_refusal(&bad, "seed");
    bad = good, bad.tolerance = -0.5, expect_refusal(&bad, "tolerance");
    bad = good, bad.num_inference_steps = 2, bad.alpha_bar = rising,
    expect_refusal(&bad, "noise_schedule");
    bad = good, bad.selection.label = 99, expect_refusal(&bad, "label");
    x_T[3] = INFINITY;
    bad = good, bad.x_T = x_T, expect_refusal(&bad, "noise");
    bad = good, bad.scales = (struct els_scales){0}, expect_refusal(&bad, "scales");
    els_scales_deinit(&good.scales);
    ck_assert_int_eq(els_scales_constant(&good.scales, SIDE + 1, NULL), 0);
    expect_refusal(&good, "scales");
    forget(&good);
}
END_TEST

UNIT_MAIN("sampler", test_steps_are_numbered_noisiest_first, test_ddim_step, test_ddpm_step,
          test_image_k_is_seed_plus_k, test_explicit_alpha_bar_equals_the_schedule,
          test_uploaded_noise_is_x_T, test_cancelled_step_can_be_run_again,
          test_bad_specs_are_named)
