/*
 * One evaluation: every kernel this CPU can run, side by side, per locality scale; the machines that weigh whole
 * images; and the chosen kernel on a bank of one's own. One thread, processor time, the best of several runs.
 *
 * A "pair" is one query pixel against one candidate patch. Sliding sums take 2·C products for a pair; "of peak" is
 * their share of the products that the same instruction yields at its best, which is measured, too. (Lists take
 * another number of products; the measure is the same.)
 */
#include <math.h>
#include <stdio.h>

#include "core/kernel/kernel.h"
#include "core/theory/geometry.h"
#include "els/engine.h"
#include "els/mem.h"
#include "els/noise.h"
#include "els/schedule.h"
#include "server/cli/bench.h"

enum { REPEATS = 3, PEAK_ROUNDS = 4 << 20, PEAK_REPEATS = 5, FEW_IMAGES = 8, MANY_IMAGES = 1024, WHOLE_IMAGES = 2048 };

const struct bench_point bench_grey_points[BENCH_POINTS] = {{3, 0.05}, {5, 0.15}, {7, 0.3}, {11, 0.6}, {15, 0.85}};
const struct bench_point bench_colour_points[BENCH_POINTS] = {{3, 0.1}, {5, 0.25}, {7, 0.4}, {11, 0.65}, {17, 0.9}};

/* For is and es, which have no scale. */
static const double whole_times[] = {0.05, 0.5, 0.9};

enum { NUM_TIMES = sizeof(whole_times) / sizeof(*whole_times) };

/* Candidates of all queries in one image; 0 when out of memory. */
static int64_t pairs_per_image(struct els_shape shape, int p)
{
    struct els_runs rows = {0}, cols = {0};
    int64_t pairs = 0;

    if (els_runs_new(&rows, ELS_MACHINE_BBELS, 0, shape.h, p / 2, 0, shape.h) == 0 &&
        els_runs_new(&cols, ELS_MACHINE_BBELS, 0, shape.w, p / 2, 0, shape.w) == 0)
        pairs = els_runs_pairs(&rows) * els_runs_pairs(&cols);
    els_runs_deinit(&rows);
    els_runs_deinit(&cols);
    return pairs;
}

/* ---- kernels ---- */

/* The bank's last image, noised: x = a·y + σ·η. */
static void noisy_image(const struct els_bank *bank, double alpha_bar, double beta, float *x)
{
    const struct els_bank_info *info = els_bank_info(bank);
    size_t values = els_shape_values(info->shape);
    struct els_noise noise;
    float eta;

    els_bank_image(bank, info->num_images - 1, x);
    els_noise_init(&noise, ELS_NOISE_NUMPY, 1);
    for (size_t i = 0; i < values; i++) {
        els_noise_randn(&noise, &eta, 1);
        x[i] = (float)(sqrt(alpha_bar) * (double)x[i] + sqrt(beta) * (double)eta);
    }
}

/* The best time of one evaluation over the bank's first images, one thread. */
static int time_point(const struct els_bank *bank, enum els_machine machine, struct bench_point point,
                      int64_t num_images, double *best, struct els_error *err)
{
    size_t values = els_shape_values(els_bank_info(bank)->shape);
    _cleanup_(els_freep) float *x = els_alloc_array(2 * values, sizeof(*x));
    _cleanup_(els_freep) int64_t *images = els_alloc_array((size_t)num_images, sizeof(*images));
    struct els_evaluation e = {
        .bank = bank,
        .images = images,
        .num_images = num_images,
        .machine = machine,
        .num_p = 1,
        .p = &point.p,
        .alpha_bar = els_schedule_alpha_bar(ELS_COSINE, point.t),
        .beta = els_schedule_beta(ELS_COSINE, point.t),
        .batch = 1,
        .x = x,
    };
    struct els_answer answer = {.x0 = x + values};
    int status = 0;

    if (!x || !images)
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    for (int64_t i = 0; i < num_images; i++)
        images[i] = i;
    noisy_image(bank, e.alpha_bar, e.beta, x);
    *best = INFINITY;
    for (int k = 0; status == 0 && k < REPEATS; k++) {
        double start = bench_seconds(CLOCK_PROCESS_CPUTIME_ID);

        status = els_evaluate(&e, NULL, NULL, &answer, err);
        *best = fmin(*best, bench_seconds(CLOCK_PROCESS_CPUTIME_ID) - start);
    }
    return status;
}

/* Products per second that the kernel's instruction yields at its best; 0: not measured. */
static double peak_products(const struct els_kernel *kernel)
{
    size_t values = ELS_PEAK_DOTS * (size_t)kernel->lanes;
    _cleanup_(els_freep) int32_t *y = els_alloc_aligned(values, sizeof(*y));
    double best = INFINITY;

    if (!kernel->peak && kernel->otherwise)
        kernel = kernel->otherwise;
    if (!kernel->peak || !y)
        return 0;
    for (size_t i = 0; i < values; i++)
        y[i] = (int32_t)i;
    for (int k = 0; k < PEAK_REPEATS; k++) {
        double start = bench_seconds(CLOCK_PROCESS_CPUTIME_ID);

        kernel->peak(PEAK_ROUNDS, y);
        best = fmin(best, bench_seconds(CLOCK_PROCESS_CPUTIME_ID) - start);
    }
    return (double)PEAK_ROUNDS * (double)values / best;
}

/* "7 %", or "-" when it is not known. */
static const char *share_text(char *out, size_t size, double share)
{
    if (isnan(share))
        return "-";
    snprintf(out, size, "%.0f %%", 100 * share);
    return out;
}

/* One row per point; what is told goes into the list `list`, too. */
static int bench_points(struct bench *b, const char *list, const struct els_kernel *kernel, double peak,
                        const struct els_bank *bank, const struct bench_point *points, int64_t num_images,
                        struct els_error *err)
{
    const struct els_bank_info *info = els_bank_info(bank);
    struct els_shape shape = info->shape;
    char text[16];
    int status = 0;

    for (int i = 0; status == 0 && i < BENCH_POINTS; i++) {
        double best = 0, ns, us, share;

        status = time_point(bank, ELS_MACHINE_BBELS, points[i], num_images, &best, err);
        if (status < 0)
            break;
        ns = best * 1e9 / ((double)pairs_per_image(shape, points[i].p) * (double)num_images);
        us = best * 1e6 / (double)num_images;
        share = peak > 0 ? 2 * shape.c / (ns * 1e-9 * peak) : NAN;
        if (bench_says(b))
            printf("%-12s %-8s %7lld %4d %8.2f %10.3f %12.1f %10s\n", kernel->name, info->name, (long long)num_images,
                   points[i].p, points[i].t, ns, us, share_text(text, sizeof(text), share));
        fflush(stdout);
        json_array_append_new(json_object_get(b->root, list),
                              json_pack("{s:s, s:s, s:I, s:i, s:i, s:f, s:f, s:f, s:o}", "kernel", kernel->name,
                                        "bank", info->name, "images", (json_int_t)num_images, "channels", shape.c,
                                        "p", points[i].p, "t", points[i].t, "ns_per_pair", ns, "us_per_image", us,
                                        "of_peak", peak > 0 ? json_real(share) : json_null()));
    }
    return status;
}

void bench_steps_heading(const struct bench *b)
{
    if (bench_says(b))
        printf("\none thread, bbels, one evaluation, processor time\n"
               "%-12s %-8s %7s %4s %8s %10s %12s %10s\n",
               "kernel", "bank", "images", "P", "t", "ns/pair", "us/image", "of peak");
}

static int bench_kernel(struct bench *b, const struct els_kernel *kernel, const struct els_bank *grey,
                        const struct els_bank *colour, struct els_error *err)
{
    int64_t num_images = b->quick || kernel == &els_kernel_c ? FEW_IMAGES : MANY_IMAGES;
    double peak = peak_products(kernel);
    int status = els_engine_use_kernel(kernel->name, err);

    if (bench_says(b) && peak > 0)
        printf("%-12s %.3g products a second at best\n", kernel->name, peak);
    if (status == 0)
        status = bench_points(b, "kernels", kernel, peak, grey, bench_grey_points, num_images, err);
    if (status == 0)
        status = bench_points(b, "kernels", kernel, peak, colour, bench_colour_points, num_images, err);
    return status;
}

int bench_kernels(struct bench *b, const struct els_bank *grey, const struct els_bank *colour, struct els_error *err)
{
    int status = 0;

    bench_steps_heading(b);
    for (int k = 0; status == 0 && els_kernel_at(k); k++)
        if (els_kernel_at(k)->usable())
            status = bench_kernel(b, els_kernel_at(k), grey, colour, err);
    if (status == 0)
        status = els_engine_use_kernel("auto", err);
    return status;
}

int bench_steps(struct bench *b, const struct els_bank *bank, const struct bench_point *points, struct els_error *err)
{
    const struct els_kernel *kernel = els_kernel_chosen();

    return bench_points(b, "steps", kernel, peak_products(kernel), bank, points, els_bank_info(bank)->num_images, err);
}

/* ---- whole images ---- */

/* One kernel, machine and bank: microseconds per image at each time. */
static int bench_whole(struct bench *b, const struct els_kernel *kernel, enum els_machine machine,
                       const struct els_bank *bank, struct els_error *err)
{
    const struct els_bank_info *info = els_bank_info(bank);
    int slow = kernel == &els_kernel_c && machine == ELS_MACHINE_ES;
    int64_t most = b->quick ? (slow ? FEW_IMAGES : MANY_IMAGES)
                               : (slow ? MANY_IMAGES : WHOLE_IMAGES);
    int64_t num_images = info->num_images < most ? info->num_images : most;
    int status = els_engine_use_kernel(kernel->name, err);

    if (bench_says(b))
        printf("%-12s %d %7s", kernel->name, info->shape.c, els_machine_name(machine));
    for (int i = 0; status == 0 && i < NUM_TIMES; i++) {
        double best = 0, us;

        status = time_point(bank, machine, (struct bench_point){1, whole_times[i]}, num_images, &best,
                            err);
        us = best * 1e6 / (double)num_images;
        if (status == 0 && bench_says(b))
            printf(" %9.2f", us);
        json_array_append_new(json_object_get(b->root, "whole"),
                              json_pack("{s:s, s:i, s:s, s:f, s:f}", "kernel", kernel->name,
                                        "channels", info->shape.c, "machine",
                                        els_machine_name(machine), "t", whole_times[i],
                                        "us_per_image", us));
    }
    if (bench_says(b))
        putchar('\n');
    fflush(stdout);
    return status;
}

int bench_whole_images(struct bench *b, const struct els_bank *grey, const struct els_bank *colour,
                       struct els_error *err)
{
    int status = 0;

    if (bench_says(b)) {
        printf("\none thread, whole images, one evaluation, processor time: us/image\n%-12s C %7s",
               "kernel", "machine");
        for (int i = 0; i < NUM_TIMES; i++)
            printf("  t = %4.2f", whole_times[i]);
        putchar('\n');
    }
    for (int k = 0; status == 0 && els_kernel_at(k); k++)
        for (int m = 0; status == 0 && els_kernel_at(k)->usable() && m < 4; m++)
            status = bench_whole(b, els_kernel_at(k), m % 2 ? ELS_MACHINE_ES : ELS_MACHINE_IS,
                                 m < 2 ? grey : colour, err);
    if (status == 0)
        status = els_engine_use_kernel("auto", err);
    return status;
}
