/*
 * els bench: what the engine costs on this machine. Every kernel this CPU can run, side by side, per locality scale,
 * and for the machines that weigh whole images (bench_steps.c); then whole reverse processes of 20 steps, and the same
 * over 1 … all cores (bench_samples.c). With --data also on real data sets.
 * Runs on main's thread and pools of its own; holds no signals, since there is nothing to clean up.
 *
 * Single steps: processor time, the best of several runs. Whole processes: the time on the clock, and the processor
 * time of all threads. On a busy machine all are noisy, and none is compared with a limit.
 */
#include "server/cli/bench.h"

#include <stdio.h>
#include <string.h>

#include "els/pool.h"
#include "server/cli/commands.h"
#include "server/cli/options.h"
#include "server/cli/output.h"

static const struct cli_option bench_options[] = {
    {"data", 0, "DIR", CLI_TEXT, offsetof(struct bench, data),
     .help = "a folder with mnist/ (IDX) and cifar10/ (binary), each used when it is there"},
    {"threads", 'j', "N", CLI_INTEGER, offsetof(struct bench, threads), 0, ELS_MAX_THREADS,
     .help = "the most threads to try; 0 is one per core"},
    {"quick", 0, NULL, CLI_FLAG, offsetof(struct bench, quick),
     .help = "kernels only, over a few images: a rough look"},
    {"json", 0, NULL, CLI_FLAG, offsetof(struct bench, json), .help = "figures as JSON"},
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

double bench_seconds(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int bench_says(const struct bench *b)
{
    return !b->json;
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

static int bench(struct bench *b, struct els_error *err)
{
    struct els_bank *grey = NULL, *colour = NULL;
    char cpu[128];
    int status = els_bank_open(&grey, "digits", err);

    cpu_name(cpu, sizeof(cpu));
    json_object_set_new(b->root, "cpu", json_string(cpu));
    if (bench_says(b))
        printf("%s\n", cpu);
    if (status == 0)
        status = els_bank_open(&colour, "shapes", err);
    if (status == 0)
        status = bench_kernels(b, grey, colour, err);
    if (status == 0)
        status = bench_whole_images(b, grey, colour, err);
    if (status == 0 && !b->quick)
        status = bench_samples(b, grey, colour, err);
    if (status == 0 && !b->quick)
        status = bench_scaling(b, grey, err);
    if (status == 0 && !bench_says(b))
        json_dumpf(b->root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(4));
    if (status == 0 && !bench_says(b))
        putchar('\n');
    els_bank_unref(grey);
    els_bank_unref(colour);
    return status;
}

int cli_bench(int argc, char **argv)
{
    struct bench b = {0};
    struct els_error err = {0};
    int status;

    if (cli_parse(&command, argc, argv, &b, &status) < 0)
        return status;
    b.root = json_pack("{s:[], s:[], s:[], s:[], s:[]}", "kernels", "whole", "samples", "steps", "scaling");
    status = b.root ? bench(&b, &err) : els_fail(&err, ELS_ENOMEM, NULL, "out of memory");
    status = status < 0 ? cli_report(status, &err) : CLI_OK;
    json_decref(b.root);
    cli_options_deinit(&command, &b);
    return status;
}
