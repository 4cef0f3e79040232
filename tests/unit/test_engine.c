/*
 * The engine against the plain loop over the definitions: every machine, shapes from one pixel up,
 * windows beyond the image, banks that are no multiple of the lanes, u8 and F32, several noise
 * levels, batches and scales; with every kernel that this CPU can run, or the one that ELS_CPU names.
 *
 * A sanitizer build looks for memory faults in the same cases. The release build compares the numbers
 * of all of them; under a sanitizer the plain loop runs in one case of eight, beside the C kernel alone.
 *
 * Tolerance: x̂0 within 2e-6 and entropy within 2e-5 for the portable kernel (measured 5e-7 and
 * 2.4e-6), and for is and es, whose kernels all run in float64; 1e-4 and 1e-3 for the integer
 * kernels, which keep x to 16 bits or to 23 where the standard error of a logit stays within bounds
 * (kernel/pair_rows.h, kernel/pair_bits.h), and finer elsewhere. What was measured is printed.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/kernel/kernel.h"
#include "els/engine.h"
#include "els/mem.h"
#include "els/noise.h"
#include "unit.h"

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1, COMPARED = 8 };
#else
enum { SANITIZED = 0, COMPARED = 1 };
#endif

/* The next kernel after the i-th that is to be tested becomes the engine's. Returns its index; −1: that was the last. */
static int next_kernel(int i)
{
    const char *only = getenv("ELS_CPU");
    const struct els_kernel *k;

    while ((k = els_kernel_at(++i)))
        if (k->usable() && (!only || strcmp(only, k->name) == 0)) {
            ck_assert_int_eq(els_engine_use_kernel(k->name, NULL), 0);
            return i;
        }
    return -1;
}

#define EACH_KERNEL(i) (int i = next_kernel(-1); i >= 0; i = next_kernel(i))

static double x0_tolerance(enum els_machine machine)
{
    return strcmp(els_engine_kernel(), "c") == 0 || !els_machine_uses_p(machine) ? 2e-6 : 1e-4;
}

static double entropy_tolerance(enum els_machine machine)
{
    return 10 * x0_tolerance(machine);
}

struct problem {
    struct els_shape shape;
    int64_t num_images;
    enum els_dtype dtype;
    enum els_machine machine;
    enum els_candidates candidates;
    int num_p;
    int p[3];
    double beta;
    int64_t batch;
};

struct gap {
    double x0, entropy;
};

enum { MOST_KERNELS = 8 };

static uint64_t step(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Random pixels, a third of them black, so that there are ties and blank patches. */
static struct els_bank *random_bank(const struct problem *q, uint64_t *state)
{
    size_t count = (size_t)q->num_images * els_shape_values(q->shape);
    _cleanup_(els_freep) uint8_t *u8 = els_alloc_array(count, 1);
    _cleanup_(els_freep) float *f32 = els_alloc_array(count, sizeof(*f32));
    struct els_bank_parts parts = {
        .name = "random", .shape = q->shape, .num_images = q->num_images, .dtype = q->dtype};
    struct els_bank *bank = NULL;
    /* Half of the banks are blank but for one place in twelve: most of their patches are equal. */
    uint64_t rare = step(state) % 2 ? 12 : 1;

    for (size_t i = 0; i < count; i++) {
        u8[i] = step(state) % rare == 0 && step(state) % 3 ? (uint8_t)step(state) : 0;
        f32[i] = ((float)u8[i] - 127.5f) / 127.5f * 0.999f;
    }
    parts.images = q->dtype == ELS_U8 ? (const void *)u8 : f32;
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    return bank;
}

static void compare(const float *a, const float *b, size_t n, double *gap)
{
    bool finite = true;

    for (size_t i = 0; i < n; i++) {
        finite = finite && isfinite(a[i]) && isfinite(b[i]);
        *gap = fmax(*gap, fabs((double)a[i] - (double)b[i]));
    }
    ck_assert(finite);
}

/* The worst gap of each kernel, by its index. `plain`: is the plain loop run, too? */
static void solve_both_ways(const struct problem *q, uint64_t *state, bool plain, struct gap gaps[MOST_KERNELS])
{
    size_t values = els_shape_values(q->shape), pixels = (size_t)q->shape.h * (size_t)q->shape.w;
    int num_p = els_machine_uses_p(q->machine) ? q->num_p : 1;
    size_t answers = (size_t)num_p * (size_t)q->batch;
    struct els_bank *bank = random_bank(q, state);
    _cleanup_(els_freep) int64_t *images = els_alloc_array((size_t)q->num_images, sizeof(*images));
    _cleanup_(els_freep) float *x = els_alloc_array((size_t)q->batch * values, sizeof(*x));
    _cleanup_(els_freep) float *out =
        els_alloc_array(2 * answers * (values + pixels), sizeof(*out));
    struct els_answer fast = {.x0 = out, .entropy = out + answers * values};
    struct els_answer reference = {.x0 = fast.entropy + answers * pixels,
                                   .entropy = fast.entropy + answers * (pixels + values)};
    struct els_evaluation e = {
        .bank = bank,
        .images = images,
        .num_images = q->num_images,
        .machine = q->machine,
        .candidates = q->candidates,
        .num_p = num_p,
        .p = q->p,
        .alpha_bar = 1.0 - q->beta,
        .beta = q->beta,
        .batch = q->batch,
        .x = x,
    };
    struct els_noise noise;

    for (int64_t i = 0; i < q->num_images; i++)
        images[i] = i;
    els_noise_init(&noise, ELS_NOISE_TORCH, step(state));
    els_noise_randn(&noise, x, (size_t)q->batch * values);
    if (plain)
        ck_assert_int_eq(els_evaluate_plain(&e, NULL, &reference, NULL), 0);
    for EACH_KERNEL(k) {
        ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &fast, NULL), 0);
        gaps[k] = (struct gap){0};
        if (!plain)
            continue;
        compare(fast.x0, reference.x0, answers * values, &gaps[k].x0);
        compare(fast.entropy, reference.entropy, answers * pixels, &gaps[k].entropy);
    }
    els_bank_unref(bank);
}

/* Odd and within what the machine allows; often beyond the image where that is allowed. */
static int random_p(const struct problem *q, uint64_t *state)
{
    int least = q->shape.h < q->shape.w ? q->shape.h : q->shape.w;
    int most = q->machine == ELS_MACHINE_ELS ? least : 2 * (q->shape.h + q->shape.w);

    return 1 + 2 * (int)(step(state) % (uint64_t)((most + 1) / 2));
}

/*
 * The plain loop's products for els, of the first of the scales. Other machines have fewer by far: their windows, or what
 * they are compared with, are cut off at the edges.
 */
static double plain_products(const struct problem *q)
{
    double pixels = q->shape.h * q->shape.w, values = (double)(q->p[0] * q->p[0] * q->shape.c);

    return (double)q->num_images * pixels * pixels * values;
}

/* A few large problems would take most of the time: they come alone. Batches and lists of scales are left to the others. */
static void spare_the_plain_loop(struct problem *q)
{
    if (q->machine == ELS_MACHINE_ELS && plain_products(q) > 1e6)
        q->batch = q->num_p = 1;
}

static struct problem random_problem(enum els_machine machine, enum els_candidates candidates,
                                     uint64_t *state)
{
    static const double beta[] = {1e-3, 0.02, 0.3, 0.9, 0.9999};
    struct problem q = {
        .shape = {1 + (int)(step(state) % 4), 1 + (int)(step(state) % 11),
                  1 + (int)(step(state) % 11)},
        .num_images = 1 + (int64_t)(step(state) % 37),
        .dtype = step(state) % 4 ? ELS_U8 : ELS_F32,
        .machine = machine,
        .candidates = candidates,
        .num_p = 1 + (int)(step(state) % 3),
        .beta = beta[step(state) % 5],
        .batch = 1 + (int64_t)(step(state) % 3),
    };

    for (int k = 0; k < q.num_p; k++)
        q.p[k] = random_p(&q, state);
    spare_the_plain_loop(&q);
    return q;
}

static void check_case(const struct problem *q, int round, const struct gap *gap)
{
    ck_assert_msg(
        gap->x0 <= x0_tolerance(q->machine) && gap->entropy <= entropy_tolerance(q->machine),
        "%s, %s round %d: %dx%dx%d, N=%lld, P=%d, beta=%g, %s: x0 differs by %.3g, entropy by %.3g",
        els_engine_kernel(), els_machine_name(q->machine), round, q->shape.c, q->shape.h, q->shape.w,
        (long long)q->num_images, q->p[0], q->beta, q->dtype == ELS_U8 ? "u8" : "f32", gap->x0,
        gap->entropy);
}

static void check_many(enum els_machine machine, enum els_candidates candidates, int rounds)
{
    uint64_t state = 1 + (uint64_t)machine * 2 + candidates;
    struct gap worst[MOST_KERNELS] = {0}, gaps[MOST_KERNELS];
    bool compares = !SANITIZED || strcmp(els_engine_kernel(), "c") == 0;
    int compared = 0;

    for (int round = 0; round < rounds; round++) {
        struct problem q = random_problem(machine, candidates, &state);
        bool plain = compares && round % COMPARED == 0;

        compared += plain;
        solve_both_ways(&q, &state, plain, gaps);
        for EACH_KERNEL(k) {
            check_case(&q, round, &gaps[k]);
            worst[k].x0 = fmax(worst[k].x0, gaps[k].x0);
            worst[k].entropy = fmax(worst[k].entropy, gaps[k].entropy);
        }
    }
    ck_assert_int_eq(compared > 0, compares);
    for EACH_KERNEL(k)
        printf("%s %s: %d cases, of %d x0 within %.2g (allowed %.0g), entropy within %.2g (allowed %.0g), kernel %s\n",
               els_machine_name(machine),
               machine == ELS_MACHINE_ELS ? els_candidates_name(candidates) : "", rounds, compared,
               worst[k].x0, x0_tolerance(machine), worst[k].entropy, entropy_tolerance(machine),
               els_engine_kernel());
}

START_TEST(test_is_equals_plain_loop)
{
    check_many(ELS_MACHINE_IS, 0, 150);
}
END_TEST

START_TEST(test_es_equals_plain_loop)
{
    check_many(ELS_MACHINE_ES, 0, 100);
}
END_TEST

START_TEST(test_ls_equals_plain_loop)
{
    check_many(ELS_MACHINE_LS, 0, 150);
}
END_TEST

START_TEST(test_els_wrapped_equals_plain_loop)
{
    check_many(ELS_MACHINE_ELS, ELS_CANDIDATES_WRAPPED, 100);
}
END_TEST

START_TEST(test_els_valid_equals_plain_loop)
{
    check_many(ELS_MACHINE_ELS, ELS_CANDIDATES_VALID, 100);
}
END_TEST

START_TEST(test_bbels_equals_plain_loop)
{
    check_many(ELS_MACHINE_BBELS, 0, 150);
}
END_TEST

START_TEST(test_bbels_becomes_ls_beyond_the_image)
{
    struct problem q = {.shape = {1, 6, 7},
                        .num_images = 9,
                        .dtype = ELS_U8,
                        .num_p = 1,
                        .p = {15},
                        .beta = 0.2,
                        .batch = 1};
    float x[42], a[42], b[42];
    int64_t images[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    uint64_t state = 5;
    struct els_bank *bank = random_bank(&q, &state);
    struct els_noise noise;
    struct els_evaluation e = {.bank = bank,
                               .images = images,
                               .num_images = 9,
                               .num_p = 1,
                               .p = q.p,
                               .alpha_bar = 0.8,
                               .beta = 0.2,
                               .batch = 1,
                               .x = x};

    els_noise_init(&noise, ELS_NOISE_NUMPY, 3);
    els_noise_randn(&noise, x, 42);
    for EACH_KERNEL(k) {
        e.machine = ELS_MACHINE_BBELS;
        ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &(struct els_answer){.x0 = a}, NULL), 0);
        e.machine = ELS_MACHINE_LS;
        ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &(struct els_answer){.x0 = b}, NULL), 0);
        ck_assert_mem_eq(a, b, sizeof(a));
    }
    els_bank_unref(bank);
}
END_TEST

/* Threads, batch and the list of scales must not change a byte; nor must asking for the entropy. */
static void check_bytes(int channels)
{
    struct problem q = {.shape = {channels, 9, 10},
                        .num_images = 133,
                        .dtype = ELS_U8,
                        .num_p = 2,
                        .p = {3, 7},
                        .beta = 0.1,
                        .batch = 3};
    enum { PIXELS = 9 * 10, MOST = ELS_MAX_CHANNELS * PIXELS };
    static float x[3 * MOST], all[6 * MOST], one[MOST], entropy[6 * PIXELS];
    size_t values = (size_t)(channels * PIXELS);
    int64_t images[133];
    uint64_t state = 9;
    struct els_bank *bank = random_bank(&q, &state);
    struct els_noise noise;
    struct els_evaluation e = {.bank = bank,
                               .images = images,
                               .num_images = 133,
                               .num_p = 2,
                               .p = q.p,
                               .machine = ELS_MACHINE_BBELS,
                               .alpha_bar = 0.9,
                               .beta = 0.1,
                               .batch = 3,
                               .x = x};

    for (int i = 0; i < 133; i++)
        images[i] = i;
    els_noise_init(&noise, ELS_NOISE_TORCH, 3);
    els_noise_randn(&noise, x, 3 * values);
    for (int m = 0; m < ELS_MACHINE_COUNT; m++) {
        int num_p = els_machine_uses_p((enum els_machine)m) ? 2 : 1;

        e.machine = (enum els_machine)m;
        e.num_p = num_p;
        e.p = q.p;
        e.batch = 3;
        e.x = x;
        ck_assert_int_eq(
            els_evaluate(&e, NULL, NULL, &(struct els_answer){.x0 = all, .entropy = entropy}, NULL),
            0);
        for (int threads = 1; threads <= 5; threads += 2) {
            struct els_pool *pool = NULL;

            ck_assert_int_eq(els_pool_new(&pool, threads), 0);
            /* Each single answer once, and each number of threads at each scale. */
            for (int pair = threads / 2; pair < 3 * num_p; pair += 3) {
                e.num_p = 1;
                e.p = &q.p[pair / 3];
                e.batch = 1;
                e.x = x + (size_t)(pair % 3) * values;
                ck_assert_int_eq(
                    els_evaluate(&e, pool, NULL, &(struct els_answer){.x0 = one}, NULL), 0);
                ck_assert_mem_eq(one, all + (size_t)pair * values, values * sizeof(*one));
            }
            els_pool_free(pool);
        }
    }
    els_bank_unref(bank);
}

START_TEST(test_bytes_depend_on_nothing_else)
{
    for EACH_KERNEL(k)
        for (int channels = 1; channels <= ELS_MAX_CHANNELS; channels++)
            if (!SANITIZED || channels != 2) /* the same code as of four */
                check_bytes(channels);
}
END_TEST

static int stop_at_once(void *user, double done)
{
    ck_assert(done >= 0 && done <= 1);
    ++*(int *)user;
    return 1;
}

START_TEST(test_watch_cancels)
{
    struct problem q = {.shape = {1, 40, 40}, .num_images = 400, .dtype = ELS_U8};
    static float x[1600], x0[1600];
    int64_t images[400];
    uint64_t state = 2;
    struct els_bank *bank = random_bank(&q, &state);
    int calls = 0, p = 3;
    struct els_evaluation e = {.bank = bank,
                               .images = images,
                               .num_images = 400,
                               .num_p = 1,
                               .p = &p,
                               .machine = ELS_MACHINE_BBELS,
                               .alpha_bar = 0.5,
                               .beta = 0.5,
                               .batch = 1,
                               .x = x};

    for (int i = 0; i < 400; i++)
        images[i] = i;
    for EACH_KERNEL(k) {
        calls = 0;
        ck_assert_int_eq(els_evaluate(&e, NULL, &(struct els_progress){stop_at_once, &calls},
                                      &(struct els_answer){.x0 = x0}, NULL),
                         ELS_ECANCELLED);
        ck_assert_int_eq(calls, 1);
    }
    els_bank_unref(bank);
}
END_TEST

/* Skipping under a tolerance keeps its promise, and the promise is passed on. */
START_TEST(test_tolerance_is_kept)
{
    struct problem q = {.shape = {1, 12, 12}, .num_images = 50, .dtype = ELS_U8};
    float x[144], exact[144], loose[144];
    int64_t images[50];
    uint64_t state = 4;
    struct els_bank *bank = random_bank(&q, &state);
    struct els_noise noise;
    struct els_answer answer = {.x0 = loose};
    int p = 5;
    struct els_evaluation e = {.bank = bank,
                               .images = images,
                               .num_images = 50,
                               .num_p = 1,
                               .p = &p,
                               .machine = ELS_MACHINE_ELS,
                               .batch = 1,
                               .x = x};

    for (int i = 0; i < 50; i++)
        images[i] = i;
    els_noise_init(&noise, ELS_NOISE_TORCH, 8);
    els_noise_randn(&noise, x, 144);
    for EACH_KERNEL(k)
        for (double beta = 0.01; beta < 1; beta += SANITIZED ? 0.28 : 0.07) {
            double gap = 0;

            e.alpha_bar = 1 - beta;
            e.beta = beta;
            e.tolerance = 0;
            ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &(struct els_answer){.x0 = exact}, NULL), 0);
            e.tolerance = 1e-2;
            ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &answer, NULL), 0);
            compare(exact, loose, 144, &gap);
            ck_assert_double_le(gap, 1e-2);
            ck_assert_double_eq(answer.certified_error, 1e-2);
        }
    els_bank_unref(bank);
}
END_TEST

START_TEST(test_bad_questions_are_named)
{
    struct problem q = {.shape = {1, 4, 4}, .num_images = 2, .dtype = ELS_U8};
    float x[16] = {0}, x0[16];
    int64_t images[2] = {0, 1};
    uint64_t state = 4;
    struct els_bank *bank = random_bank(&q, &state);
    struct els_answer answer = {.x0 = x0};
    struct els_error err;
    int p = 3;
    const struct els_evaluation good = {.bank = bank,
                                        .images = images,
                                        .num_images = 2,
                                        .num_p = 1,
                                        .p = &p,
                                        .machine = ELS_MACHINE_ELS,
                                        .alpha_bar = 0.5,
                                        .beta = 0.5,
                                        .batch = 1,
                                        .x = x};
    struct els_evaluation e = good;

    ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &answer, &err), 0);
    p = 5;
    ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &answer, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "p");
    p = 3;
    e.beta = 1e-13;
    ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &answer, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "beta");
    e = good;
    x[7] = NAN;
    ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &answer, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "x");
    x[7] = 0;
    e.tolerance = -1;
    ck_assert_int_eq(els_evaluate(&e, NULL, NULL, &answer, &err), ELS_EINVAL);
    ck_assert_str_eq(err.field, "tolerance");
    els_bank_unref(bank);
}
END_TEST

UNIT_MAIN_PER_KERNEL("engine", test_is_equals_plain_loop, test_es_equals_plain_loop,
                     test_ls_equals_plain_loop, test_els_wrapped_equals_plain_loop,
                     test_els_valid_equals_plain_loop, test_bbels_equals_plain_loop,
                     test_bbels_becomes_ls_beyond_the_image, test_bytes_depend_on_nothing_else,
                     test_watch_cancels, test_tolerance_is_kept, test_bad_questions_are_named)
