/*
 * Whole reverse processes of 20 steps, on the built-in banks, on real data sets where they are, and over 1 … all cores:
 * the time on the clock, and the processor time of all threads.
 */
#include <stdio.h>

#include "els/import.h"
#include "els/sampler.h"
#include "server/cli/bench.h"

enum { STEPS = 20, MAX_PATH = 4096 };

static int64_t images_of(const struct els_bank *bank, int64_t label)
{
    const struct els_bank_info *info = els_bank_info(bank);

    return label < 0 ? info->num_images : info->class_counts[label];
}

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
    start = bench_seconds(CLOCK_MONOTONIC);
    started_cpu = bench_seconds(CLOCK_PROCESS_CPUTIME_ID);
    while (status == 0 && els_sampler_next(sampler) < els_sampler_num_steps(sampler))
        status = els_sampler_step(sampler, pool, NULL, err);
    if (status == 0) {
        const struct els_bank_info *info = els_bank_info(bank);
        int64_t images = images_of(bank, label);
        double took = bench_seconds(CLOCK_MONOTONIC) - start;
        double cpu = bench_seconds(CLOCK_PROCESS_CPUTIME_ID) - started_cpu;

        if (bench_says(b))
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

/* ---- real data ---- */

/* A data set that --data may hold, and what is measured on it. */
struct data_set {
    const char *name, *path;
    int side; /* images are brought to side×side; 0: they stay */
    const char *scales;
    int64_t label; /* −1: all images */
    const struct bench_point *points;
    struct els_bank *bank; /* NULL: it is not there */
};

/* That it is not there is no failure. */
static int open_set(const struct bench *b, struct data_set *set, struct els_error *err)
{
    char path[MAX_PATH];
    struct els_import_spec spec = {.source = path, .name = set->name, .resize_h = set->side, .resize_w = set->side};
    int status;

    snprintf(path, sizeof(path), "%s/%s", b->data, set->path);
    status = els_import(&set->bank, &spec, err);
    if (status == ELS_ENOENT && bench_says(b))
        printf("skipped: there is no %s\n", path);
    return status == ELS_ENOENT ? 0 : status;
}

static int bench_data(struct bench *b, struct els_error *err)
{
    struct data_set sets[] = {
        {"mnist", "mnist/train-images-idx3-ubyte.gz", 32, "mnist-resnet-zeros", -1, bench_grey_points, NULL},
        {"cifar10", "cifar10", 0, "cifar10-resnet-zeros", 0, bench_colour_points, NULL},
    };
    enum { NUM_SETS = sizeof(sets) / sizeof(*sets) };
    int status = 0;

    for (int i = 0; status == 0 && i < NUM_SETS; i++) {
        status = open_set(b, &sets[i], err);
        if (status == 0 && sets[i].bank)
            status = time_sample(b, "samples", sets[i].bank, sets[i].scales, sets[i].label, 1, err);
    }
    if (status == 0 && (sets[0].bank || sets[1].bank))
        bench_steps_heading(b);
    for (int i = 0; i < NUM_SETS; i++) {
        if (status == 0 && sets[i].bank)
            status = bench_steps(b, sets[i].bank, sets[i].points, err);
        els_bank_unref(sets[i].bank);
    }
    return status;
}

/* ---- all of it ---- */

int bench_samples(struct bench *b, struct els_bank *grey, struct els_bank *colour, struct els_error *err)
{
    int status;

    if (bench_says(b))
        printf("\n%d steps, bbels, %s\n%-12s %8s %8s %10s %10s\n", STEPS, els_engine_kernel(),
               "bank", "images", "threads", "seconds", "cpu");
    status = time_sample(b, "samples", grey, "mnist-resnet-zeros", -1, 1, err);
    if (status == 0)
        status = time_sample(b, "samples", colour, "cifar10-resnet-zeros", -1, 1, err);
    if (status == 0 && b->data)
        status = bench_data(b, err);
    return status;
}

static int most_threads(const struct bench *b)
{
    struct els_pool *pool = NULL;
    int most = 1;

    if (els_pool_new(&pool, (int)b->threads) == 0)
        most = els_pool_threads(pool);
    els_pool_free(pool);
    return most;
}

/* 1, 2, 4 … and all threads. */
int bench_scaling(struct bench *b, struct els_bank *bank, struct els_error *err)
{
    int most = most_threads(b), status = 0;

    if (bench_says(b))
        printf("\nscaling\n");
    for (int threads = 1; status == 0; threads = 2 * threads < most ? 2 * threads : most) {
        status = time_sample(b, "scaling", bank, "mnist-resnet-zeros", -1, threads, err);
        if (threads == most)
            break;
    }
    return status;
}
