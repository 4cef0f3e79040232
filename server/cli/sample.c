/*
 * els sample: images from noise. Runs on main's thread and a pool; the sampler does the work, this
 * file connects options, progress and the result's file.
 */
#include <stdio.h>

#include "els/pool.h"
#include "server/cli/commands.h"
#include "server/cli/progress.h"
#include "server/cli/result.h"

static const struct cli_option *const tables[] = {cli_sample_options, cli_process_options,
                                                  cli_choice_options, NULL};

static const char *const examples[] = {
    "four digits, enlarged",
    "els sample --num-images 4 --seed 7 --zoom 4 -o digits.png",
    "a circular network's theory, on a bank of your own, with everything kept",
    "els sample --bank mnist.safetensors --machine els --scales mnist-resnet-circular --outputs "
    "image,x0,xt,entropy,mosaic -o run.safetensors",
    "sevens only, without the images 12 and 40",
    "els sample --label 7 --exclude-images 12,40 -o seven.png",
    NULL,
};

static const struct cli_command command = {
    .name = "sample",
    .operands = "",
    .summary = "draw images from a bank with a score machine",
    .details =
        "The result is a .png (a grid when there are several images; the resolved "
        "parameters are in its text chunk \"els\"), a .npy (float32 [N,C,H,W] in [-1,1]) "
        "or a .safetensors (tensors images [N,C,H,W], x0 [N,S,C,H,W], xt [N,S+1,C,H,W], "
        "entropy [N,S,H,W], mosaic [N,S,H,W,4,3]: image, row and column of each pixel's "
        "four heaviest candidates, with mosaic_weights and mosaic_regions, as asked for; the "
        "parameters are in its metadata). The same "
        "seed gives the same bytes, whatever else is asked for.",
    .tables = tables,
    .examples = examples,
};

/* The options that only some forms of result can honour. */
static int check_form(struct cli_spec *s, const struct cli_sample_options *o, enum cli_form form,
                      struct els_error *err)
{
    if (form != CLI_PNG && o->zoom)
        return els_fail(err, ELS_EINVAL, "zoom", "--zoom is for .png results only");
    if (form != CLI_SAFETENSORS && (s->outputs & ~(unsigned)CLI_OUTPUT_IMAGE))
        return els_fail(err, ELS_EINVAL, "outputs",
                        "--outputs other than image need a .safetensors result");
    if (s->outputs == 0)
        s->outputs = form == CLI_SAFETENSORS ? CLI_OUTPUT_IMAGE | CLI_OUTPUT_X0 : CLI_OUTPUT_IMAGE;
    return 0;
}

/* The mosaics of the step that runs next, image by image. */
static int keep_mosaics(const struct els_sampler *sampler, struct els_pool *pool,
                        struct cli_result *result, int s, const struct els_progress *watch,
                        struct els_error *err)
{
    struct els_evaluation e = els_sampler_evaluation(sampler);
    int64_t images = e.batch;
    int status = 0;

    e.batch = 1;
    for (int64_t k = 0; k < images && status == 0; k++) {
        struct els_mosaic *mosaic = NULL;

        status = els_mosaic_new(&mosaic, &e, CLI_MOSAIC_TOP, pool, watch, err);
        if (status == 0)
            status = cli_result_mosaic(result, mosaic, k, s, err);
        els_mosaic_free(mosaic);
        e.x += els_shape_values(els_bank_info(e.bank)->shape);
    }
    return status;
}

static int run_steps(struct els_sampler *sampler, struct els_pool *pool, struct cli_result *result,
                     int quiet, double *seconds, struct els_error *err)
{
    int steps = els_sampler_num_steps(sampler), status = 0;
    struct cli_progress progress;
    struct els_progress watch = {cli_progress_poll, &progress};

    cli_progress_begin(&progress, "step", steps, quiet);
    for (int s = 0; s < steps && status == 0; s++) {
        progress.step = s;
        /* Small steps may end before the engine looks in. */
        if (cli_progress_poll(&progress, 0))
            status = ELS_ECANCELLED;
        if (status == 0 && (result->spec->outputs & CLI_OUTPUT_MOSAIC))
            status = keep_mosaics(sampler, pool, result, s, &watch, err);
        if (status == 0)
            status = els_sampler_step(sampler, pool, &watch, err);
        if (status == 0)
            status = cli_result_step(result, sampler, s, err);
    }
    *seconds = cli_progress_seconds(&progress);
    cli_progress_end(&progress);
    return status;
}

static void print_summary(const struct cli_spec *s, const struct els_sampler *sampler,
                          const char *path, double seconds)
{
    const struct els_sample_spec *spec = &s->spec;
    struct els_shape shape = els_bank_info(spec->bank)->shape;

    fprintf(stderr, "%s: %lld image%s %d×%d×%d, ", path, (long long)spec->num_images,
            spec->num_images == 1 ? "" : "s", shape.c, shape.h, shape.w);
    if (spec->x_T && spec->sampler == ELS_DDIM)
        fputs("noise from the file, ", stderr);
    else
        fprintf(stderr, "seed %llu, ", (unsigned long long)spec->seed);
    fprintf(stderr, "%s on %lld images of %s, %d steps, %.1f s (kernel %s)\n",
            els_machine_name(spec->machine), (long long)els_sampler_num_bank_images(sampler),
            els_bank_info(spec->bank)->name, els_sampler_num_steps(sampler), seconds,
            els_engine_kernel());
    if (spec->tolerance > 0)
        fprintf(stderr, "every value of every estimate is within %.3g of the exact one\n",
                els_sampler_certified_error(sampler));
}

static int sample(const struct cli_sample_options *o, struct els_error *err)
{
    struct cli_result result = CLI_RESULT_INIT;
    struct els_sampler *sampler = NULL;
    struct els_pool *pool = NULL;
    struct cli_spec s = {0};
    enum cli_form form;
    double seconds;
    int status;

    status = cli_form_of(o->choice.output, &form, err);
    if (status == 0 && o->choice.cpu)
        status = els_engine_use_kernel(o->choice.cpu, err);
    if (status == 0)
        status = cli_spec_read(&s, o, err);
    if (status == 0)
        status = check_form(&s, o, form, err);
    if (status == 0)
        status = els_sampler_new(&sampler, &s.spec, err);
    if (status < 0)
        goto out;
    status = cli_pool_new(&pool, o->choice.threads, err);
    if (status < 0)
        goto out;
    status = cli_result_open(&result, o->choice.output, form, &s, sampler,
                             o->zoom ? (int)o->zoom : 1, err);
    if (status == 0)
        status = run_steps(sampler, pool, &result, o->choice.quiet, &seconds, err);
    if (status == 0)
        status = cli_result_commit(&result, sampler, err);
    if (status == 0 && !o->choice.quiet)
        print_summary(&s, sampler, o->choice.output, seconds);
out:
    cli_result_deinit(&result);
    els_pool_free(pool);
    els_sampler_free(sampler);
    cli_spec_deinit(&s);
    return status;
}

int cli_sample(int argc, char **argv)
{
    struct cli_sample_options o = CLI_SAMPLE_DEFAULTS;
    struct els_error err = {0};
    int status;

    if (cli_parse(&command, argc, argv, &o, &status) < 0)
        return status;
    status = sample(&o, &err);
    status = status < 0 ? cli_report(status, &err) : CLI_OK;
    cli_options_deinit(&command, &o);
    return status;
}
