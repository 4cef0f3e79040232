/*
 * els calibrate: a network's locality scales from its own trajectories. Runs on main's thread and a pool; the library
 * measures, this file connects arrays, options and the result.
 */
#include <stdio.h>
#include <stdlib.h>

#include "els/calibrate.h"
#include "server/cli/array.h"
#include "server/cli/commands.h"
#include "server/cli/json_text.h"
#include "server/cli/output.h"
#include "server/cli/progress.h"
#include "server/cli/spec.h"

enum { AS_EPS, AS_X0 };

struct options {
    struct cli_choice choice;
    const char *t;
    struct cli_integers p;
    int outputs_are, metric, fit;
    int64_t trajectories;
};

static const char *outputs_word(int i)
{
    return i == AS_EPS ? "eps" : i == AS_X0 ? "x0" : NULL;
}

static const char *metric_word(int i)
{
    return els_calibration_metric_name((enum els_calibration_metric)i);
}

static const char *fit_word(int i)
{
    return els_calibration_fit_name((enum els_calibration_fit)i);
}

#define AT(member) offsetof(struct options, member)

static const struct cli_option calibrate_options[] = {
    {"t", 't', "T.npy", CLI_TEXT, AT(t),
     .help = "the times, a list [T]; by default 1, (T-1)/T ... 1/T, a whole trajectory of T steps"},
    {"p", 'p', "P,P,...", CLI_INTEGERS, AT(p), 1, ELS_MAX_P,
     .help = "the scales to try, odd; by default 3, 5, 7 ... up to the image's side"},
    {"outputs-are", 0, "WHAT", CLI_WORD, AT(outputs_are), .word = outputs_word,
     .help = "what the second file holds: the network's noise estimates or its clean ones"},
    {"metric", 0, "NAME", CLI_WORD, AT(metric), .word = metric_word,
     .help = "by what a scale is best"},
    {"fit", 0, "RULE", CLI_WORD, AT(fit), .word = fit_word,
     .help = "how the trajectories' best scales make a schedule"},
    {"trajectories", 0, "N", CLI_INTEGER, AT(trajectories), 1, ELS_MAX_CALIBRATION_SEEDS,
     .help = "use the first N trajectories only"},
    {0},
};

#undef AT

static const struct cli_option *const tables[] = {calibrate_options, cli_choice_options, NULL};

static const char *const examples[] = {
    "the released procedure: cosine, and the median over trajectories",
    "els calibrate xt.npy eps.npy --bank mnist.safetensors -o calibration.json",
    "use what was found",
    "els sample --bank mnist.safetensors --scales \"$(els calibrate xt.npy eps.npy --bank "
    "mnist.safetensors -o calibration.json)\" -o image.png",
    NULL,
};

static const struct cli_command command = {
    .name = "calibrate",
    .operands = "XT.npy EPS.npy",
    .num_operands = 2,
    .summary = "find a network's locality scales from its trajectories",
    .details = "XT.npy holds a network's own inputs along reverse trajectories, floats [S,T,C,H,W] "
               "for S seeds and "
               "T times; EPS.npy what it answered. The schedule is printed as JSON that --scales "
               "takes; the .json "
               "result holds the cosine and the L2 distance of every seed, time and scale, and the "
               "schedules of "
               "every fit.",
    .tables = tables,
    .examples = examples,
};

/* One run: what was asked, and the memory that it needs. */
struct run {
    const struct options *o;
    struct els_calibration_spec spec;
    struct cli_array xt, out; /* out: eps or x0 */
    double *t;
    int64_t *classes;
    struct els_calibration *calibration;
};

static int read_times(struct run *r, struct els_error *err)
{
    size_t count = (size_t)r->xt.dims[1];
    int status;

    if (r->o->t) {
        status = cli_list_read(&r->t, &count, r->o->t, "t", els_tensor_to_times, err);
        if (status == 0 && count != (size_t)r->xt.dims[1])
            status =
                els_fail(err, ELS_EINVAL, "t", "t: %.120s has %zu entries, but xt has %lld times",
                         r->o->t, count, (long long)r->xt.dims[1]);
        return status;
    }
    r->t = els_alloc_array(count, sizeof(*r->t));
    if (!r->t)
        return els_fail(err, ELS_ENOMEM, "t", "out of memory");
    for (size_t i = 0; i < count; i++)
        r->t[i] = (double)(count - i) / (double)count;
    return 0;
}

static int read_arrays(struct run *r, char **operands, struct els_error *err)
{
    const char *name = outputs_word(r->o->outputs_are);
    struct els_shape shape = els_bank_info(r->spec.bank)->shape;
    int64_t wanted = r->o->trajectories;
    int status = cli_array_read(&r->xt, operands[0], "xt", 2, shape, err);

    if (status == 0)
        status = cli_array_read(&r->out, operands[1], name, 2, shape, err);
    if (status == 0 && (r->out.dims[0] != r->xt.dims[0] || r->out.dims[1] != r->xt.dims[1]))
        status = els_fail(err, ELS_EINVAL, name,
                          "%s holds %lld trajectories of %lld times, but xt %lld of %lld", name,
                          (long long)r->out.dims[0], (long long)r->out.dims[1],
                          (long long)r->xt.dims[0], (long long)r->xt.dims[1]);
    if (status == 0 && r->xt.dims[1] > ELS_MAX_CALIBRATION_TIMES)
        status = els_fail(err, ELS_EINVAL, "xt", "xt holds %lld times; 1 to %d are allowed",
                          (long long)r->xt.dims[1], ELS_MAX_CALIBRATION_TIMES);
    if (status == 0 && wanted > r->xt.dims[0])
        status =
            els_fail(err, ELS_EINVAL, "trajectories", "--trajectories is %lld, but xt holds %lld",
                     (long long)wanted, (long long)r->xt.dims[0]);
    return status;
}

static int read_p(struct run *r, struct els_error *err)
{
    const struct cli_integers *p = &r->o->p;

    if (p->count > ELS_MAX_P_COUNT)
        return els_fail(err, ELS_EINVAL, "p", "--p has %zu scales; 1 to %d are allowed", p->count,
                        ELS_MAX_P_COUNT);
    if (p->count == 0)
        r->spec.num_p = els_calibration_default_p(r->spec.p, els_bank_info(r->spec.bank)->shape);
    for (size_t k = 0; k < p->count; k++)
        r->spec.p[r->spec.num_p++] = (int)p->values[k];
    return 0;
}

static int read_all(struct run *r, char **operands, struct els_error *err)
{
    const struct cli_choice *c = &r->o->choice;
    int status = c->cpu ? els_engine_use_kernel(c->cpu, err) : 0;

    els_calibration_spec_init(&r->spec);
    r->spec.machine = (enum els_machine)c->machine;
    r->spec.candidates = (enum els_candidates)c->candidates;
    r->spec.noise_schedule = (enum els_schedule)c->noise_schedule;
    r->spec.tolerance = c->tolerance;
    if (status == 0)
        status = cli_check_ending(c->output, ".json", err);
    if (status == 0)
        status = els_bank_open(&r->spec.bank, c->bank, err);
    if (status == 0)
        status = cli_selection_read(&r->spec.selection, &r->classes, r->spec.bank, c, err);
    if (status == 0)
        status = read_arrays(r, operands, err);
    if (status == 0)
        status = read_times(r, err);
    if (status == 0)
        status = read_p(r, err);
    if (status < 0)
        return status;
    r->spec.num_seeds = r->o->trajectories ? r->o->trajectories : r->xt.dims[0];
    r->spec.num_t = (int)r->xt.dims[1];
    r->spec.t = r->t;
    r->spec.xt = r->xt.values;
    r->spec.eps = r->o->outputs_are == AS_EPS ? r->out.values : NULL;
    r->spec.x0 = r->o->outputs_are == AS_X0 ? r->out.values : NULL;
    return els_calibration_new(&r->calibration, &r->spec, err);
}

static int run_steps(struct run *r, struct els_pool *pool, struct els_error *err)
{
    int steps = els_calibration_num_steps(r->calibration), status = 0;
    struct cli_progress progress;
    struct els_progress watch = {cli_progress_poll, &progress};

    cli_progress_begin(&progress, "time", steps, r->o->choice.quiet);
    for (int i = 0; i < steps && status == 0; i++) {
        progress.step = i;
        status = cli_progress_poll(&progress, 0)
                     ? ELS_ECANCELLED
                     : els_calibration_step(r->calibration, pool, &watch, err);
    }
    cli_progress_end(&progress);
    return status;
}

/* [S][T][K], or NULL when out of memory. */
static json_t *curves(const struct run *r, const double *values)
{
    size_t k = (size_t)r->spec.num_p;
    json_t *seeds = json_array();

    for (int64_t s = 0; seeds && s < r->spec.num_seeds; s++) {
        json_t *times = json_array();

        for (int t = 0; times && t < r->spec.num_t; t++, values += k)
            if (json_array_append_new(times, cli_json_reals(values, k)) < 0) {
                json_decref(times);
                times = NULL;
            }
        if (json_array_append_new(seeds, times) < 0) {
            json_decref(seeds);
            seeds = NULL;
        }
    }
    return seeds;
}

static json_t *schedule(const struct run *r, int fit)
{
    struct els_scales scales = {0};
    json_t *out = NULL;

    if (els_calibration_scales(&scales, r->calibration, (enum els_calibration_metric)r->o->metric,
                               (enum els_calibration_fit)fit, NULL) == 0)
        out = cli_json_scales(&scales);
    els_scales_deinit(&scales);
    return out;
}

static json_t *result(const struct run *r)
{
    int64_t p[ELS_MAX_P_COUNT];

    for (int k = 0; k < r->spec.num_p; k++)
        p[k] = r->spec.p[k];
    return json_pack("{s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "t",
                     cli_json_reals(r->t, (size_t)r->spec.num_t), "p",
                     cli_json_integers(p, (size_t)r->spec.num_p), "metric",
                     metric_word(r->o->metric), "fit", fit_word(r->o->fit), "scales",
                     schedule(r, r->o->fit), "median", schedule(r, ELS_FIT_MEDIAN), "mode",
                     schedule(r, ELS_FIT_MODE), "monotone", schedule(r, ELS_FIT_MONOTONE), "cosine",
                     curves(r, els_calibration_cosine(r->calibration)), "l2",
                     curves(r, els_calibration_l2(r->calibration)));
}

static int print_schedule(const struct run *r, struct els_error *err)
{
    json_t *scales = schedule(r, r->o->fit);
    char *text = scales ? json_dumps(scales, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    int status =
        text && puts(text) >= 0 ? 0 : els_fail(err, ELS_EIO, "output", "cannot print the schedule");

    free(text);
    json_decref(scales);
    return status;
}

static int calibrate(const struct options *o, char **operands, struct els_error *err)
{
    struct cli_output file = CLI_OUTPUT_INIT;
    struct els_pool *pool = NULL;
    struct run r = {.o = o};
    int status = read_all(&r, operands, err);

    if (status == 0)
        status = cli_pool_new(&pool, o->choice.threads, err);
    if (status == 0)
        status = cli_output_open(&file, o->choice.output, err);
    if (status == 0)
        status = run_steps(&r, pool, err);
    if (status == 0)
        status = cli_json_write(&file, result(&r), err);
    if (status == 0)
        status = print_schedule(&r, err);
    cli_output_deinit(&file);
    els_pool_free(pool);
    els_calibration_free(r.calibration);
    cli_array_deinit(&r.xt);
    cli_array_deinit(&r.out);
    free(r.t);
    free(r.classes);
    els_bank_unref(r.spec.bank);
    return status;
}

int cli_calibrate(int argc, char **argv)
{
    struct options o = {.choice = CLI_CHOICE_DEFAULTS};
    struct els_error err = {0};
    int status, first = cli_parse(&command, argc, argv, &o, &status);

    if (first < 0)
        return status;
    status = calibrate(&o, argv + first, &err);
    status = status < 0 ? cli_report(status, &err) : CLI_OK;
    cli_options_deinit(&command, &o);
    return status;
}
