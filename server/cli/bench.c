/*
 * els bench: what the engine costs on this machine. Every kernel this CPU can run, side by side,
 * per locality scale, and for the machines that weigh whole images; then whole reverse processes of
 * 20 steps, and the same over 1 … all cores.
 * Runs on main's thread and pools of its own; holds no signals, since there is nothing to clean
 * up.
 *
 * A "pair" is one query pixel against one candidate patch. Sliding sums take 2·C products for a
 * pair; "of peak" is their share of the products that the same instruction yields at its best,
 * which is measured, too. (Lists take another number of products; the measure is the same.)
 * Kernels: processor time, the best of
 * several runs. Samples: the time on the clock, and the processor time of all threads. On a busy
 * machine all are noisy, and none is compared with a limit.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "geometry.h"
#include "import.h"
#include "kernel.h"
#include "mem.h"
#include "options.h"
#include "output.h"
#include "sampler.h"

enum { REPEATS = 3, PEAK_ROUNDS = 4 << 20, PEAK_REPEATS = 5, STEPS = 20, FEW_IMAGES = 8, MANY_IMAGES = 1024,
       WHOLE_IMAGES = 2048, MAX_PATH = 4096 };

struct options {
    const char *data;
    int64_t threads;
    int json, quick;
};

static const struct cli_option bench_options[] = {
    {"data", 0, "DIR", CLI_TEXT, offsetof(struct options, data),
     .help = "a folder with mnist/ (IDX) and cifar10/ (binary), each used when it is there"},
    {"threads", 'j', "N", CLI_INTEGER, offsetof(struct options, threads), 0, ELS_MAX_THREADS,
     .help = "the most threads to try; 0 is one per core"},
    {"quick", 0, NULL, CLI_FLAG, offsetof(struct options, quick),
     .help = "kernels only, over a few images: a rough look"},
    {"json", 0, NULL, CLI_FLAG, offsetof(struct options, json), .help = "figures as JSON"},
    {0},
};

static const struct cli_option *const tables[] = {bench_options, NULL};

static const char *const examples[] = {
    "with the real data sets",
    "els bench --data ../shared/data",
    NULL,
};

static const struct cli_command command = {
    .name = "bench",
    .operands = "",
    .summary = "what the engine costs on this machine",
    .details = "Takes a minute or so with the built-in banks alone, and some minutes with real "
               "data.",
    .tables = tables,
    .examples = examples,
};

/* The scale and the time at which the published schedules use it. */
struct point {
    int p;
    double t;
};

static const struct point grey_points[] = {{3, 0.05}, {5, 0.15}, {7, 0.3}, {11, 0.6}, {15, 0.85}};
static const struct point colour_points[] = {{3, 0.1}, {5, 0.25}, {7, 0.4}, {11, 0.65}, {17, 0.9}};

enum { NUM_POINTS = sizeof(grey_points) / sizeof(*grey_points) };

/* For is and es, which have no scale. */
static const double whole_times[] = {0.05, 0.5, 0.9};

enum { NUM_TIMES = sizeof(whole_times) / sizeof(*whole_times) };

struct bench {
    const struct options *o;
    json_t *root; /* kernels, whole, samples, scaling: arrays of objects */
};

static double seconds(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int say(const struct bench *b)
{
    return !b->o->json;
}

/* The model name of /proc/cpuinfo, or "unknown". */
static void cpu_name(char *out, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");

    snprintf(out, size, "unknown");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(out, size, "%.*s", (int)strcspn(strchr(line, ':') + 2, "\n"),
                     strchr(line, ':') + 2);
            break;
        }
    if (f)
        fclose(f);
}

/* Candidates of all queries in one image; 0 when memory is out. */
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
static int time_point(const struct els_bank *bank, enum els_machine machine, struct point point,
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
        double start = seconds(CLOCK_PROCESS_CPUTIME_ID);

        status = els_evaluate(&e, NULL, NULL, &answer, err);
        *best = fmin(*best, seconds(CLOCK_PROCESS_CPUTIME_ID) - start);
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
        double start = seconds(CLOCK_PROCESS_CPUTIME_ID);

        kernel->peak(PEAK_ROUNDS, y);
        best = fmin(best, seconds(CLOCK_PROCESS_CPUTIME_ID) - start);
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

static int bench_kernel(struct bench *b, const struct els_kernel *kernel,
                        const struct els_bank *bank, const struct point *points,
                        struct els_error *err)
{
    struct els_shape shape = els_bank_info(bank)->shape;
    int64_t num_images = b->o->quick || kernel == &els_kernel_c ? FEW_IMAGES : MANY_IMAGES;
    int status = els_engine_use_kernel(kernel->name, err);
    double peak = peak_products(kernel);
    char text[16];

    for (int i = 0; status == 0 && i < NUM_POINTS; i++) {
        double best = 0, ns, us, share;

        status = time_point(bank, ELS_MACHINE_BBELS, points[i], num_images, &best, err);
        ns = best * 1e9 / ((double)pairs_per_image(shape, points[i].p) * (double)num_images);
        us = best * 1e6 / (double)num_images;
        share = peak > 0 ? 2 * shape.c / (ns * 1e-9 * peak) : NAN;
        if (status == 0 && say(b))
            printf("%-12s %d %4d %8.2f %10.3f %12.1f %10s\n", kernel->name, shape.c, points[i].p,
                   points[i].t, ns, us, share_text(text, sizeof(text), share));
        fflush(stdout);
        json_array_append_new(json_object_get(b->root, "kernels"),
                              json_pack("{s:s, s:i, s:i, s:f, s:f, s:f, s:o}", "kernel",
                                        kernel->name, "channels", shape.c, "p", points[i].p, "t",
                                        points[i].t, "ns_per_pair", ns, "us_per_image", us,
                                        "of_peak", peak > 0 ? json_real(share) : json_null()));
    }
    return status;
}

static int bench_kernels(struct bench *b, const struct els_bank *grey,
                         const struct els_bank *colour, struct els_error *err)
{
    int status = 0;

    if (say(b))
        printf("\none thread, bbels, one evaluation, processor time\n"
               "%-12s %s %4s %8s %10s %12s %10s\n",
               "kernel", "C", "P", "t", "ns/pair", "us/image", "of peak");
    for (int k = 0; status == 0 && els_kernel_at(k); k++) {
        if (!els_kernel_at(k)->usable())
            continue;
        if (say(b) && peak_products(els_kernel_at(k)) > 0)
            printf("%-12s %.3g products a second at best\n", els_kernel_at(k)->name,
                   peak_products(els_kernel_at(k)));
        status = bench_kernel(b, els_kernel_at(k), grey, grey_points, err);
        if (status == 0)
            status = bench_kernel(b, els_kernel_at(k), colour, colour_points, err);
    }
    if (status == 0)
        status = els_engine_use_kernel("auto", err);
    return status;
}

/* ---- whole images ---- */

/* One kernel, machine and bank: microseconds per image at each time. */
static int bench_whole(struct bench *b, const struct els_kernel *kernel, enum els_machine machine,
                       const struct els_bank *bank, struct els_error *err)
{
    const struct els_bank_info *info = els_bank_info(bank);
    int slow = kernel == &els_kernel_c && machine == ELS_MACHINE_ES;
    int64_t most = b->o->quick ? (slow ? FEW_IMAGES : MANY_IMAGES)
                               : (slow ? MANY_IMAGES : WHOLE_IMAGES);
    int64_t num_images = info->num_images < most ? info->num_images : most;
    int status = els_engine_use_kernel(kernel->name, err);

    if (say(b))
        printf("%-12s %d %7s", kernel->name, info->shape.c, els_machine_name(machine));
    for (int i = 0; status == 0 && i < NUM_TIMES; i++) {
        double best = 0, us;

        status = time_point(bank, machine, (struct point){1, whole_times[i]}, num_images, &best,
                            err);
        us = best * 1e6 / (double)num_images;
        if (status == 0 && say(b))
            printf(" %9.2f", us);
        json_array_append_new(json_object_get(b->root, "whole"),
                              json_pack("{s:s, s:i, s:s, s:f, s:f}", "kernel", kernel->name,
                                        "channels", info->shape.c, "machine",
                                        els_machine_name(machine), "t", whole_times[i],
                                        "us_per_image", us));
    }
    if (say(b))
        putchar('\n');
    fflush(stdout);
    return status;
}

static int bench_whole_images(struct bench *b, const struct els_bank *grey,
                              const struct els_bank *colour, struct els_error *err)
{
    int status = 0;

    if (say(b)) {
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

/* ---- whole reverse processes ---- */

/* 20 steps of bbels with the published scales; label −1: all images. */
static int time_sample(struct bench *b, const char *list, struct els_bank *bank, const char *scales,
                       int64_t label, int threads, struct els_error *err)
{
    struct els_sample_spec spec;
    struct els_sampler *sampler = NULL;
    struct els_pool *pool = NULL;
    double start, started_cpu;
    int status;

    els_sample_spec_init(&spec);
    spec.bank = bank;
    spec.selection.label = label;
    status = els_scales_parse(&spec.scales, scales, err);
    if (status == 0)
        status = els_pool_new(&pool, threads);
    if (status == 0)
        status = els_sampler_new(&sampler, &spec, err);
    start = seconds(CLOCK_MONOTONIC);
    started_cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    while (status == 0 && els_sampler_next(sampler) < els_sampler_num_steps(sampler))
        status = els_sampler_step(sampler, pool, NULL, err);
    if (status == 0) {
        const struct els_bank_info *info = els_bank_info(bank);
        int64_t images = label < 0 ? info->num_images : info->class_counts[label];
        double took = seconds(CLOCK_MONOTONIC) - start;
        double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - started_cpu;

        if (say(b))
            printf("%-12s %8lld %8d %10.2f %10.2f\n", info->name, (long long)images,
                   els_pool_threads(pool), took, cpu);
        fflush(stdout);
        json_array_append_new(
            json_object_get(b->root, list),
            json_pack("{s:s, s:I, s:i, s:s, s:f, s:f}", "bank", info->name, "images",
                      (json_int_t)images, "threads", els_pool_threads(pool), "kernel",
                      els_engine_kernel(), "seconds", took, "cpu_seconds", cpu));
    }
    els_sampler_free(sampler);
    els_pool_free(pool);
    els_scales_deinit(&spec.scales);
    return status;
}

/* A real data set under --data, when it is there; ELS_ENOENT is no failure. */
static int bench_data(struct bench *b, const char *source, int side, const char *scales,
                      int64_t label, struct els_error *err)
{
    char path[MAX_PATH];
    struct els_import_spec spec = {.source = path, .resize_h = side, .resize_w = side};
    struct els_bank *bank = NULL;
    int status;

    snprintf(path, sizeof(path), "%s/%s", b->o->data, source);
    status = els_import(&bank, &spec, err);
    if (status == ELS_ENOENT) {
        if (say(b))
            printf("skipped: there is no %s\n", path);
        return 0;
    }
    if (status == 0)
        status = time_sample(b, "samples", bank, scales, label, 1, err);
    els_bank_unref(bank);
    return status;
}

static int bench_samples(struct bench *b, struct els_bank *grey, struct els_bank *colour,
                         struct els_error *err)
{
    int status;

    if (say(b))
        printf("\n%d steps, bbels, %s\n%-12s %8s %8s %10s %10s\n", STEPS, els_engine_kernel(),
               "bank", "images", "threads", "seconds", "cpu");
    status = time_sample(b, "samples", grey, "mnist-resnet-zeros", -1, 1, err);
    if (status == 0)
        status = time_sample(b, "samples", colour, "cifar10-resnet-zeros", -1, 1, err);
    if (status == 0 && b->o->data)
        status = bench_data(b, "mnist/train-images-idx3-ubyte.gz", 32, "mnist-resnet-zeros", -1,
                            err);
    if (status == 0 && b->o->data)
        status = bench_data(b, "cifar10", 0, "cifar10-resnet-zeros", 0, err);
    return status;
}

static int most_threads(const struct bench *b)
{
    struct els_pool *pool = NULL;
    int most = 1;

    if (els_pool_new(&pool, (int)b->o->threads) == 0)
        most = els_pool_threads(pool);
    els_pool_free(pool);
    return most;
}

/* 1, 2, 4 … and all threads. */
static int bench_scaling(struct bench *b, struct els_bank *bank, struct els_error *err)
{
    int most = most_threads(b), status = 0;

    if (say(b))
        printf("\nscaling\n");
    for (int threads = 1; status == 0; threads = 2 * threads < most ? 2 * threads : most) {
        status = time_sample(b, "scaling", bank, "mnist-resnet-zeros", -1, threads, err);
        if (threads == most)
            break;
    }
    return status;
}

static int bench(struct bench *b, struct els_error *err)
{
    struct els_bank *grey = NULL, *colour = NULL;
    char cpu[128];
    int status = els_bank_open(&grey, "digits", err);

    cpu_name(cpu, sizeof(cpu));
    json_object_set_new(b->root, "cpu", json_string(cpu));
    if (say(b))
        printf("%s\n", cpu);
    if (status == 0)
        status = els_bank_open(&colour, "shapes", err);
    if (status == 0)
        status = bench_kernels(b, grey, colour, err);
    if (status == 0)
        status = bench_whole_images(b, grey, colour, err);
    if (status == 0 && !b->o->quick)
        status = bench_samples(b, grey, colour, err);
    if (status == 0 && !b->o->quick)
        status = bench_scaling(b, grey, err);
    if (status == 0 && !say(b))
        json_dumpf(b->root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(4));
    if (status == 0 && !say(b))
        putchar('\n');
    els_bank_unref(grey);
    els_bank_unref(colour);
    return status;
}

int cli_bench(int argc, char **argv)
{
    struct options o = {0};
    struct bench b = {.o = &o};
    struct els_error err = {0};
    int status;

    if (cli_parse(&command, argc, argv, &o, &status) < 0)
        return status;
    b.root = json_pack("{s:[], s:[], s:[], s:[]}", "kernels", "whole", "samples", "scaling");
    status = b.root ? bench(&b, &err) : els_fail(&err, ELS_ENOMEM, NULL, "out of memory");
    status = status < 0 ? cli_report(status, &err) : CLI_OK;
    json_decref(b.root);
    cli_options_deinit(&command, &o);
    return status;
}
