/*
 * Whole images, is and es: the chosen kernel against the C one, which follows the definitions.
 * Shapes from one pixel up to 32×32 and 512×1, with prime and even sides, 1 to 4 channels, banks that are no
 * multiple of the lanes, u8 and F32, noise from next to none to next to all; images left out,
 * a tolerance, threads, a bank whose images come ever nearer, and one of very many.
 *
 * The release build compares the numbers. A sanitizer build looks for memory faults in the same cases and leaves the C
 * kernel out, which takes most of the time there and has checks of its own in test_kernel and test_engine.
 *
 * Tolerance: x̂0 within 2e-6 and entropy within 2e-5. Both kernels have logits of float64, weights
 * within 1e-7 and sums of float32: what differs is the rounding of up to 2048 additions. Most of
 * it is the C kernel's, which adds every translate by itself: in these tests it is up to 1.4e-6
 * away from the plain loop (els_evaluate_plain), the vector kernels up to 1.8e-7. What was measured
 * is printed.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/engine/pass_internal.h"
#include "core/kernel/kernel.h"
#include "els/engine.h"
#include "els/mem.h"
#include "els/noise.h"
#include "unit.h"

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static const double X0 = 2e-6, ENTROPY = 2e-5;

static uint64_t step(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* A bank, a noisy image near its image `near`, and room for two answers. */
struct problem {
    struct els_bank *bank;
    struct els_evaluation e;
    size_t values, pixels;
    int64_t *images;
    float *x, *x0[2], *entropy[2];
};

static float *new_floats(size_t n)
{
    float *out = els_alloc_array(n, sizeof(*out));

    ck_assert_ptr_nonnull(out);
    return out;
}

/* x = a·y + σ·η, y image `near`. */
static void set_noise(struct problem *q, double beta, int64_t near)
{
    struct els_noise noise;

    q->e.beta = beta;
    q->e.alpha_bar = 1 - beta;
    els_noise_init(&noise, ELS_NOISE_NUMPY, 5);
    els_noise_randn(&noise, q->x, q->values);
    els_bank_image(q->bank, near, q->x0[0]);
    for (size_t i = 0; i < q->values; i++)
        q->x[i] = (float)(sqrt(1 - beta) * (double)q->x0[0][i] + sqrt(beta) * (double)q->x[i]);
}

/* The bank takes over neither array. */
static void init_problem(struct problem *q, struct els_shape shape, int64_t num_images,
                         enum els_dtype dtype, const void *pixels)
{
    struct els_bank_parts parts = {.name = "whole", .shape = shape, .num_images = num_images,
                                   .dtype = dtype, .images = pixels};
    static const int no_p = 1;

    *q = (struct problem){.values = els_shape_values(shape),
                          .pixels = (size_t)shape.h * (size_t)shape.w};
    ck_assert_int_eq(els_bank_new(&q->bank, &parts, NULL), 0);
    q->images = els_alloc_array((size_t)num_images, sizeof(*q->images));
    ck_assert_ptr_nonnull(q->images);
    for (int64_t i = 0; i < num_images; i++)
        q->images[i] = i;
    q->x = new_floats(q->values);
    for (int i = 0; i < 2; i++) {
        q->x0[i] = new_floats(q->values);
        q->entropy[i] = new_floats(q->pixels);
    }
    q->e = (struct els_evaluation){.bank = q->bank, .images = q->images, .num_images = num_images,
                                   .num_p = 1, .p = &no_p, .batch = 1, .x = q->x};
    set_noise(q, 0.5, 0);
}

static void deinit_problem(struct problem *q)
{
    els_bank_unref(q->bank);
    free(q->images);
    free(q->x);
    for (int i = 0; i < 2; i++) {
        free(q->x0[i]);
        free(q->entropy[i]);
    }
}

/* Random pixels, a third of them black. */
static void random_problem(struct problem *q, struct els_shape shape, int64_t num_images,
                           enum els_dtype dtype, uint64_t *state)
{
    size_t count = (size_t)num_images * els_shape_values(shape);
    _cleanup_(els_freep) uint8_t *u8 = els_alloc_array(count, 1);
    _cleanup_(els_freep) float *f32 = new_floats(count);

    ck_assert_ptr_nonnull(u8);
    for (size_t i = 0; i < count; i++) {
        u8[i] = step(state) % 3 ? (uint8_t)step(state) : 0;
        f32[i] = ((float)u8[i] - 127.5f) / 127.5f * 0.999f;
    }
    init_problem(q, shape, num_images, dtype, dtype == ELS_U8 ? (const void *)u8 : f32);
}

static void evaluate(const struct problem *q, struct els_pool *pool, int answer)
{
    struct els_answer a = {.x0 = q->x0[answer], .entropy = q->entropy[answer]};

    ck_assert_int_eq(els_evaluate(&q->e, pool, NULL, &a, NULL), 0);
}

struct gap {
    double x0, entropy;
};

/* Answer 0 by the chosen kernel, answer 1 by the C one; the larger of *gap and theirs. */
static void compare_with_c(const struct problem *q, const char *what, struct gap *gap)
{
    const char *mine = els_engine_kernel();
    bool finite = true;

    evaluate(q, NULL, 0);
    for (size_t i = 0; i < q->values; i++)
        finite = finite && isfinite(q->x0[0][i]);
    ck_assert(finite);
    if (SANITIZED)
        return;
    ck_assert_int_eq(els_engine_use_kernel("c", NULL), 0);
    evaluate(q, NULL, 1);
    ck_assert_int_eq(els_engine_use_kernel(mine, NULL), 0);
    for (size_t i = 0; i < q->values; i++) {
        gap->x0 = fmax(gap->x0, fabs((double)q->x0[0][i] - (double)q->x0[1][i]));
    }
    for (size_t i = 0; i < q->pixels; i++)
        gap->entropy =
            fmax(gap->entropy, fabs((double)q->entropy[0][i] - (double)q->entropy[1][i]));
    ck_assert_msg(gap->x0 <= X0 && gap->entropy <= ENTROPY,
                  "%s, %s, %s: x0 differs by %.3g, entropy by %.3g", mine,
                  els_machine_name(q->e.machine), what, gap->x0, gap->entropy);
}

static void print_gap(const char *what, const struct gap *gap)
{
    printf("%s: %s, x0 within %.2g of c (allowed %.0e), entropy within %.2g (allowed %.0e)\n",
           els_engine_kernel(), what, gap->x0, X0, gap->entropy, ENTROPY);
}

static void each_machine(struct problem *q, const char *what, struct gap *gap)
{
    for (int m = ELS_MACHINE_IS; m <= ELS_MACHINE_ES; m++) {
        q->e.machine = (enum els_machine)m;
        compare_with_c(q, what, gap);
    }
}

/* Only the C kernel itself leaves these machines to the C kernel. */
START_TEST(test_whole_images_have_their_kernels)
{
    struct problem q;
    uint64_t state = 1;

    for (int dtype = 0; dtype < 2; dtype++) {
        random_problem(&q, (struct els_shape){3, 5, 7}, 9, dtype ? ELS_F32 : ELS_U8, &state);
        for (int m = ELS_MACHINE_IS; m <= ELS_MACHINE_ES; m++) {
            struct els_pass *pass = NULL;

            q.e.machine = (enum els_machine)m;
            ck_assert_int_eq(els_pass_new(&pass, &q.e, 0), 0);
            ck_assert_int_eq(pass->kernel[0] == &els_kernel_c, els_kernel_chosen() == &els_kernel_c);
            els_pass_free(pass);
        }
        deinit_problem(&q);
    }
}
END_TEST

START_TEST(test_every_shape_equals_c)
{
    static const int sides[][2] = {{1, 1},  {1, 2},   {1, 13},  {9, 1},   {2, 2},  {3, 5}, {8, 8},
                                   {16, 6}, {15, 11}, {2, 64}, {128, 3}, {1, 509}, {512, 1},
                                   {28, 28}, {33, 17}, {32, 32}};
    static const double betas[] = {1e-6, 1e-3, 0.3, 0.9, 0.9999};
    static const int num_images[] = {1, 7, 16, 37, 21};
    uint64_t state = 2;
    struct gap gap = {0};

    for (size_t k = 0; k < sizeof(sides) / sizeof(*sides); k++)
        for (int c = 1; c <= 4; c++) {
            struct els_shape shape = {c, sides[k][0], sides[k][1]};
            struct problem q;
            char what[64];

            random_problem(&q, shape, num_images[(k + (size_t)c) % 5],
                           step(&state) % 4 ? ELS_U8 : ELS_F32, &state);
            for (size_t b = 0; b < sizeof(betas) / sizeof(*betas); b++) {
                snprintf(what, sizeof(what), "%dx%dx%d, beta %g", c, shape.h, shape.w, betas[b]);
                set_noise(&q, betas[b], q.e.num_images / 2);
                each_machine(&q, what, &gap);
            }
            deinit_problem(&q);
        }
    print_gap("every shape", &gap);
}
END_TEST

START_TEST(test_images_left_out_do_not_count)
{
    struct problem q;
    uint64_t state = 3;
    struct gap gap = {0};

    random_problem(&q, (struct els_shape){2, 7, 10}, 100, ELS_U8, &state);
    q.e.num_images = 33;
    for (int i = 0; i < 33; i++)
        q.images[i] = 3 * i + 1;
    for (int left_out = 0; left_out < 2; left_out++) {
        /* x is all but image 61, which is there; or image 60, which is not. */
        set_noise(&q, 1e-3, left_out ? 60 : 61);
        each_machine(&q, "images left out", &gap);
        set_noise(&q, 0.95, left_out ? 60 : 61);
        each_machine(&q, "images left out, much noise", &gap);
    }
    print_gap("images left out", &gap);
    deinit_problem(&q);
}
END_TEST

/* Threads change no byte, be there one group of images, a few, or several in each chain. */
START_TEST(test_threads_change_nothing)
{
    static const int64_t num_images[] = {5, 70, 900};
    uint64_t state = 4;

    for (int n = 0; n < 3; n++) {
        struct problem q;

        random_problem(&q, (struct els_shape){3, 12, 9}, num_images[n], ELS_U8, &state);
        set_noise(&q, 0.9, 1);
        for (int m = ELS_MACHINE_IS; m <= ELS_MACHINE_ES; m++) {
            q.e.machine = (enum els_machine)m;
            evaluate(&q, NULL, 0);
            for (int threads = 1; threads <= 4; threads++) {
                struct els_pool *pool = NULL;

                ck_assert_int_eq(els_pool_new(&pool, threads), 0);
                evaluate(&q, pool, 1);
                ck_assert_mem_eq(q.x0[0], q.x0[1], q.values * sizeof(float));
                ck_assert_mem_eq(q.entropy[0], q.entropy[1], q.pixels * sizeof(float));
                els_pool_free(pool);
            }
        }
        deinit_problem(&q);
    }
}
END_TEST

START_TEST(test_tolerance_is_kept)
{
    struct problem q;
    uint64_t state = 5;

    random_problem(&q, (struct els_shape){1, 10, 14}, 200, ELS_U8, &state);
    for (int m = ELS_MACHINE_IS; m <= ELS_MACHINE_ES; m++)
        for (double beta = 0.05; beta < 1; beta += 0.09) {
            double gap = 0;

            q.e.machine = (enum els_machine)m;
            set_noise(&q, beta, 3);
            q.e.tolerance = 0;
            evaluate(&q, NULL, 0);
            q.e.tolerance = 1e-2;
            evaluate(&q, NULL, 1);
            for (size_t i = 0; i < q.values; i++)
                gap = fmax(gap, fabs((double)q.x0[0][i] - (double)q.x0[1][i]));
            ck_assert_double_le(gap, 1e-2);
        }
    deinit_problem(&q);
}
END_TEST

/*
 * Images that come ever nearer to x, each a few rows further down: the reference climbs by some
 * 10 nats at a time, from group to group and within a group, and what was weighed before still
 * counts.
 */
START_TEST(test_climbing_reference)
{
    enum { H = 16, W = 12, IMAGES = 1600, VALUES = H * W };
    static uint8_t u8[IMAGES * VALUES];
    static const double betas[] = {0.02, 0.1, 0.4, 0.7, 0.9, 0.97};
    uint64_t state = 6;
    struct problem q;
    struct gap gap = {0};

    for (int n = 0; n < IMAGES; n++)
        for (int i = 0; i < H; i++)
            for (int j = 0; j < W; j++) {
                int at = (i + n / 160) % H;
                double smooth = 60 * sin(0.4 * at) * cos(0.5 * j);
                double rough = (double)(step(&state) % 201) - 100;

                u8[n * VALUES + i * W + j] =
                    (uint8_t)(127 + smooth + rough * (IMAGES - 1 - n) / IMAGES);
            }
    init_problem(&q, (struct els_shape){1, H, W}, IMAGES, ELS_U8, u8);
    for (size_t b = 0; b < sizeof(betas) / sizeof(*betas); b++) {
        set_noise(&q, betas[b], IMAGES - 1);
        each_machine(&q, "climbing", &gap);
    }
    print_gap("climbing", &gap);
    deinit_problem(&q);
}
END_TEST

/* The last image raises the reference, by a little more than the others can bear or by much. */
START_TEST(test_last_image_is_the_nearest)
{
    struct problem q;
    uint64_t state = 8;
    struct gap gap = {0};

    random_problem(&q, (struct els_shape){1, 4, 4}, 900, ELS_U8, &state);
    for (double beta = 0.02; beta < 1; beta += 0.02) {
        set_noise(&q, beta, 899);
        each_machine(&q, "the last image", &gap);
    }
    print_gap("the last image", &gap);
    deinit_problem(&q);
}
END_TEST

/* So many that sums are flushed within a chain. */
START_TEST(test_very_many_images)
{
    struct problem q;
    uint64_t state = 7;
    struct gap gap = {0};

    random_problem(&q, (struct els_shape){1, 2, 3}, 300000, ELS_U8, &state);
    set_noise(&q, 0.99, 9);
    each_machine(&q, "very many", &gap);
    print_gap("very many images", &gap);
    deinit_problem(&q);
}
END_TEST

UNIT_MAIN_PER_KERNEL("whole", test_whole_images_have_their_kernels, test_every_shape_equals_c,
                     test_images_left_out_do_not_count, test_threads_change_nothing,
                     test_tolerance_is_kept, test_climbing_reference, test_last_image_is_the_nearest,
                     test_very_many_images)
