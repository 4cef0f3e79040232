/*
 * The reverse process: step numbering, the update equations, seeds, explicit alpha_bar, cancellation, bad input.
 */
#include <math.h>
#include <string.h>

#include "els/sampler.h"
#include "els/synth.h"
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

/* The cosine schedule of 20 steps, said outright. */
static const double *cosine(double alpha_bar[21])
{
    for (int i = 0; i <= 20; i++)
        alpha_bar[i] = els_schedule_alpha_bar(ELS_COSINE, i / 20.0);
    return alpha_bar;
}

START_TEST(test_explicit_alpha_bar_equals_the_schedule)
{
    struct els_sample_spec spec;
    struct els_sampler *named, *explicit;
    double alpha_bar[21];

    two_tone_spec(&spec);
    named = run(&spec);
    spec.alpha_bar = cosine(alpha_bar);
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
    const struct els_progress watch = {.poll = stop};

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

/* ---- several at once ---- */

enum { SIDE_BY_SIDE = 3, MOST_IMAGES = 3 };

/* x̂0, x and entropy of every step of one sampler, one behind the other. */
struct story {
    float values[20][3 * MOST_IMAGES * 32 * 32];
    size_t n[20];
};

static void tell(struct story *story, const struct els_sampler *s, int64_t num_images, size_t values)
{
    int step = els_sampler_next(s) - 1;
    size_t n = (size_t)num_images * values;

    ck_assert_uint_le(3 * n, sizeof(story->values[0]) / sizeof(float));
    memcpy(story->values[step], els_sampler_x0(s), n * sizeof(float));
    memcpy(story->values[step] + n, els_sampler_x(s), n * sizeof(float));
    if (els_sampler_entropy(s))
        memcpy(story->values[step] + 2 * n, els_sampler_entropy(s), n * sizeof(float));
    story->n[step] = els_sampler_entropy(s) ? 3 * n : 2 * n;
}

/* Seeds, numbers of images and kinds that differ; the rest is the same. */
static void vary(struct els_sample_spec *spec, int i)
{
    spec->seed = 5 + 1000 * (uint64_t)i;
    spec->num_images = 1 + i % MOST_IMAGES;
    spec->sampler = i == 1 ? ELS_DDPM : ELS_DDIM;
}

/* Every step of every sampler, all steps together, against the same samplers one by one. */
static void compare_with_alone(const struct els_sample_spec *all, int threads)
{
    static struct story alone, together[SIDE_BY_SIDE];
    size_t values = els_shape_values(els_bank_info(all->bank)->shape);
    struct els_sampler *s[SIDE_BY_SIDE] = {NULL};
    struct els_sample_spec spec = *all;
    struct els_pool *pool = NULL;
    struct els_error err = {0};

    ck_assert_int_eq(els_pool_new(&pool, threads), 0);
    for (int i = 0; i < SIDE_BY_SIDE; i++) {
        vary(&spec, i);
        ck_assert_msg(els_sampler_new(&s[i], &spec, &err) == 0, "%s", err.message);
    }
    while (els_samplers_alike(s[0], s[1]) && els_samplers_alike(s[0], s[2])) {
        ck_assert_msg(els_samplers_step(s, SIDE_BY_SIDE, pool, NULL, &err) == 0, "%s", err.message);
        for (int i = 0; i < SIDE_BY_SIDE; i++) {
            vary(&spec, i);
            tell(&together[i], s[i], spec.num_images, values);
        }
    }
    for (int i = 0; i < SIDE_BY_SIDE; i++) {
        ck_assert_int_eq(els_sampler_next(s[i]), els_sampler_num_steps(s[i]));
        els_sampler_free(s[i]);
        vary(&spec, i);
        ck_assert_int_eq(els_sampler_new(&s[i], &spec, NULL), 0);
        while (els_sampler_next(s[i]) < els_sampler_num_steps(s[i])) {
            int step = els_sampler_next(s[i]);

            ck_assert_int_eq(els_sampler_step(s[i], NULL, NULL, NULL), 0);
            tell(&alone, s[i], spec.num_images, values);
            ck_assert_uint_eq(alone.n[step], together[i].n[step]);
            ck_assert_msg(memcmp(alone.values[step], together[i].values[step], alone.n[step] * sizeof(float)) == 0,
                          "sampler %d, step %d, %d threads", i, step, threads);
        }
        els_sampler_free(s[i]);
    }
    els_pool_free(pool);
}

START_TEST(test_together_as_alone)
{
    static const char *const scales[] = {"mnist-resnet-zeros", "3"};
    struct els_bank *bank = NULL;
    struct els_sample_spec spec;

    ck_assert_int_eq(els_bank_open(&bank, "digits", NULL), 0);
    for (int i = 0; i < 4; i++) {
        els_sample_spec_init(&spec);
        spec.machine = i == 2 ? ELS_MACHINE_ES : i == 3 ? ELS_MACHINE_ELS : ELS_MACHINE_BBELS;
        spec.selection.max_samples = 70; /* no multiple of any kernel's lanes */
        spec.entropy = i == 1;
        spec.num_inference_steps = 8;
        spec.bank = bank;
        ck_assert_int_eq(els_scales_parse(&spec.scales, scales[i % 2], NULL), 0);
        compare_with_alone(&spec, 1 + i % 2);
        els_scales_deinit(&spec.scales);
    }
    els_bank_unref(bank);
}
END_TEST

static struct els_sampler *make(const struct els_sample_spec *spec)
{
    struct els_sampler *s = NULL;
    struct els_error err = {0};

    ck_assert_msg(els_sampler_new(&s, spec, &err) == 0, "%s", err.message);
    return s;
}

/* Would a sampler of `spec` step together with `s`, which stands at its first step? */
static int alike(const struct els_sampler *s, const struct els_sample_spec *spec)
{
    struct els_sampler *other = make(spec);
    int one = els_samplers_alike(s, other), two = els_samplers_alike(other, s);

    ck_assert_int_eq(!one, !two);
    els_sampler_free(other);
    return one;
}

START_TEST(test_who_is_alike)
{
    static const int64_t first[] = {0}, second[] = {1};
    static const double alpha_bar[] = {0.9999, 0.5, 0.1};
    struct els_sample_spec spec, other;
    struct els_sampler *s;

    two_tone_spec(&spec);
    s = make(&spec);
    other = spec, other.seed = 9, other.num_images = 4, other.sampler = ELS_DDPM, other.noise = ELS_NOISE_NUMPY;
    ck_assert(alike(s, &other));
    other = spec, other.machine = ELS_MACHINE_BBELS;
    ck_assert(!alike(s, &other));
    other = spec, other.candidates = ELS_CANDIDATES_VALID;
    ck_assert(!alike(s, &other));
    other = spec, other.tolerance = 0.1;
    ck_assert(!alike(s, &other));
    other = spec, other.entropy = 1;
    ck_assert(!alike(s, &other));
    other = spec, other.noise_schedule = ELS_LINEAR;
    ck_assert(!alike(s, &other));
    other = spec, other.num_inference_steps = 2, other.alpha_bar = alpha_bar;
    ck_assert(!alike(s, &other));
    other = spec, other.num_inference_steps = 21;
    ck_assert(!alike(s, &other));
    other = spec, other.selection.max_samples = 1;
    ck_assert(!alike(s, &other));
    other = spec, other.scales = (struct els_scales){0};
    ck_assert_int_eq(els_scales_constant(&other.scales, 5, NULL), 0);
    ck_assert(!alike(s, &other));
    els_scales_deinit(&other.scales);
    other = spec, other.bank = NULL;
    ck_assert_int_eq(els_synth_two_tone(&other.bank, SIDE, SIDE, NULL), 0);
    ck_assert(!alike(s, &other)); /* another bank, although its images are the same */
    els_bank_unref(other.bank);
    ck_assert_int_eq(els_sampler_step(s, NULL, NULL, NULL), 0);
    ck_assert(!alike(s, &spec)); /* the one is a step ahead */
    els_sampler_free(s);
    other = spec, other.selection.num_exclude_images = 1, other.selection.exclude_images = first;
    s = make(&other);
    ck_assert(alike(s, &other));
    other.selection.exclude_images = second;
    ck_assert(!alike(s, &other)); /* as many images, but others */
    els_sampler_free(s);
    s = run(&spec);
    ck_assert(!els_samplers_alike(s, s)); /* at the end there is no step to share */
    els_sampler_free(s);
    forget(&spec);
}
END_TEST

/* An explicit ᾱ gives β as 1 − ᾱ, which is not to the last bit what the schedule gives: another question. */
START_TEST(test_beta_to_the_last_bit)
{
    struct els_sample_spec spec;
    struct els_sampler *named, *explicit;
    double alpha_bar[21];
    int differ = 0;

    two_tone_spec(&spec);
    named = make(&spec);
    spec.alpha_bar = cosine(alpha_bar);
    explicit = make(&spec);
    while (els_sampler_next(named) < els_sampler_num_steps(named)) {
        int step = els_sampler_next(named);
        int same = els_sampler_step_info(named, step).beta == els_sampler_step_info(explicit, step).beta;

        ck_assert_int_eq(!els_samplers_alike(named, explicit), !same);
        differ += !same;
        ck_assert_int_eq(els_sampler_step(named, NULL, NULL, NULL), 0);
        ck_assert_int_eq(els_sampler_step(explicit, NULL, NULL, NULL), 0);
    }
    ck_assert_int_gt(differ, 0);
    els_sampler_free(named);
    els_sampler_free(explicit);
    forget(&spec);
}
END_TEST

START_TEST(test_cancelled_together)
{
    const struct els_progress watch = {.poll = stop};
    struct els_sample_spec spec;
    struct els_sampler *s[2];
    float before[2][VALUES];

    two_tone_spec(&spec);
    for (int i = 0; i < 2; i++) {
        spec.seed = (uint64_t)i;
        s[i] = make(&spec);
        memcpy(before[i], els_sampler_x(s[i]), sizeof(before[i]));
    }
    ck_assert_int_eq(els_samplers_step(s, 2, NULL, &watch, NULL), ELS_ECANCELLED);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(els_sampler_next(s[i]), 0);
        ck_assert_mem_eq(before[i], els_sampler_x(s[i]), sizeof(before[i]));
        els_sampler_free(s[i]);
    }
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
          test_together_as_alone, test_who_is_alike, test_beta_to_the_last_bit, test_cancelled_together,
          test_bad_specs_are_named)
