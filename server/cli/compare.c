/*
 * els compare: a network's images against the theory's, drawn from the same noise, and against the ideal machine's. Runs
 * on main's thread and a pool; the samplers draw, the library measures.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/compare.h"
#include "els/mem.h"
#include "server/cli/array.h"
#include "server/cli/commands.h"
#include "server/cli/json_text.h"
#include "server/cli/output.h"
#include "server/cli/progress.h"
#include "server/cli/spec.h"

#define MAX_PNG_BYTES ((size_t)1 << 30)

struct options {
    struct cli_sample_options sample;
    const char *seeds, *sheet;
};

#define AT(member) offsetof(struct options, member)

static const struct cli_option compare_options[] = {
    {"seeds", 0, "SEEDS.npy", CLI_TEXT, AT(seeds),
     .help = "the noise seed of every image, a list [S], where they do not count up from --seed"},
    {"sheet", 0, "FILE.png", CLI_TEXT, AT(sheet),
     .help = "also write a picture with a row per image: network, theory, ideal"},
    {0},
};

#undef AT

static const struct cli_option *const tables[] = {compare_options, cli_process_options,
                                                  cli_choice_options, NULL};

static const char *const examples[] = {
    "images that a network drew from the noise of the seeds 0, 1, 2 ...",
    "els compare images.npy --seed 0 --bank mnist.safetensors --scales mnist-resnet-zeros -o "
    "agreement.json",
    NULL,
};

static const struct cli_command command = {
    .name = "compare",
    .operands = "IMAGES.npy",
    .num_operands = 1,
    .summary = "a network's images against the theory's",
    .details =
        "IMAGES.npy holds what a network drew, floats [S,C,H,W]; --seed, --seeds or --noise-file "
        "says from which "
        "noise. The same noise is given to the machine and to the ideal machine (is). The .json "
        "result holds "
        "Pearson's r, its square, the r2 score and the mean squared error of every image, as they "
        "are and "
        "clamped to [-1,1], and their medians, means and 95 % bootstrap intervals of the median.",
    .tables = tables,
    .examples = examples,
};

/* One run: what was asked, and the memory that it needs. */
struct run {
    const struct options *o;
    struct cli_spec s;
    struct cli_array network;
    double *seeds; /* [S] or NULL */
    float *theory, *ideal;
    struct els_comparison comparison;
};

/* ---- the noise ---- */

/* Seeds that do not count up: their noise is drawn here. */
static int draw_noise(struct run *r, struct els_error *err)
{
    size_t values = els_shape_values(els_bank_info(r->s.spec.bank)->shape),
           n = (size_t)r->network.dims[0];

    r->s.x_T = els_alloc_array(n, values * sizeof(float));
    if (!r->s.x_T)
        return els_fail(err, ELS_ENOMEM, "seeds", "out of memory");
    for (size_t i = 0; i < n; i++) {
        struct els_noise g;

        if (!(r->seeds[i] >= 0 && r->seeds[i] <= (double)ELS_MAX_SEED &&
              r->seeds[i] == (double)(uint64_t)r->seeds[i]))
            return els_fail(err, ELS_EINVAL, "seeds",
                            "seeds[%zu] is %.17g; it must be an integer from 0 to %llu", i,
                            r->seeds[i], ELS_MAX_SEED);
        els_noise_init(&g, r->s.spec.noise, (uint64_t)r->seeds[i]);
        els_noise_randn(&g, r->s.x_T + i * values, values);
    }
    r->s.spec.x_T = r->s.x_T;
    return 0;
}

static int read_noise(struct run *r, struct els_error *err)
{
    const struct options *o = r->o;
    int ways = (o->sample.seed >= 0) + (o->seeds != NULL) + (o->sample.noise_file != NULL);
    size_t count;
    int status;

    if (ways != 1)
        return els_fail(
            err, ELS_EINVAL, "seed",
            "say which noise the network started from: one of --seed, --seeds and --noise-file");
    if (r->s.spec.num_images != r->network.dims[0] && o->sample.noise_file)
        return els_fail(err, ELS_EINVAL, "noise",
                        "--noise-file holds %lld images, but the network drew %lld",
                        (long long)r->s.spec.num_images, (long long)r->network.dims[0]);
    r->s.spec.num_images = r->network.dims[0];
    if (!o->seeds)
        return 0;
    if (r->s.spec.sampler == ELS_DDPM)
        return els_fail(err, ELS_EINVAL, "seeds",
                        "--sampler ddpm needs seeds that count up from --seed");
    status = cli_list_read(&r->seeds, &count, o->seeds, "seeds", els_tensor_to_f64, err);
    if (status == 0 && count != (size_t)r->network.dims[0])
        status = els_fail(err, ELS_EINVAL, "seeds", "seeds: %.120s has %zu entries for %lld images",
                          o->seeds, count, (long long)r->network.dims[0]);
    return status < 0 ? status : draw_noise(r, err);
}

/* ---- the images ---- */

static int draw(struct run *r, enum els_machine machine, float **out, struct els_pool *pool,
                struct els_error *err)
{
    struct els_sample_spec spec = r->s.spec;
    struct els_sampler *sampler = NULL;
    struct cli_progress progress;
    struct els_progress watch = {cli_progress_poll, &progress};
    size_t count = (size_t)spec.num_images * els_shape_values(els_bank_info(spec.bank)->shape);
    int status;

    spec.machine = machine;
    status = els_sampler_new(&sampler, &spec, err);
    *out = els_alloc_array(count, sizeof(**out));
    if (status == 0 && !*out)
        status = els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    cli_progress_begin(&progress, els_machine_name(machine),
                       status == 0 ? els_sampler_num_steps(sampler) : 1, r->o->sample.choice.quiet);
    while (status == 0 && els_sampler_next(sampler) < els_sampler_num_steps(sampler)) {
        progress.step = els_sampler_next(sampler);
        status = cli_progress_poll(&progress, 0) ? ELS_ECANCELLED
                                                 : els_sampler_step(sampler, pool, &watch, err);
    }
    cli_progress_end(&progress);
    if (status == 0)
        memcpy(*out, els_sampler_x(sampler), count * sizeof(**out));
    els_sampler_free(sampler);
    return status;
}

static int compare_all(struct run *r, struct els_pool *pool, struct els_error *err)
{
    int status = draw(r, ELS_MACHINE_IS, &r->ideal, pool, err);

    if (status == 0)
        status = draw(r, r->s.spec.machine, &r->theory, pool, err);
    if (status == 0)
        status = els_compare(&r->comparison, r->network.values, r->theory, r->ideal,
                             r->network.dims[0], els_bank_info(r->s.spec.bank)->shape, NULL, err);
    return status;
}

/* ---- the result ---- */

/* Takes `value`; leaves `object` NULL when out of memory. */
static void set(json_t **object, const char *key, json_t *value)
{
    if (*object && json_object_set_new(*object, key, value) == 0)
        return;
    if (!*object)
        json_decref(value);
    json_decref(*object);
    *object = NULL;
}

static void set_agreement(json_t **object, const struct els_agreement *a)
{
    for (int m = 0; els_metric_name(m); m++)
        set(object, els_metric_name(m), json_real(els_metric_of(a, m)));
}

static json_t *compared(const struct els_compared *c)
{
    json_t *clamped = json_object(), *object = json_object();

    set_agreement(&object, &c->plain);
    set_agreement(&clamped, &c->clamped);
    set(&object, "clamped", clamped);
    return object;
}

static json_t *spreads(const struct els_spreads *s)
{
    json_t *object = json_object();

    for (int m = 0; els_metric_name(m); m++) {
        const struct els_spread *of = els_metric_spread(s, m);

        set(&object, els_metric_name(m),
            json_pack("{s:f, s:f, s:[f, f]}", "median", of->median, "mean", of->mean, "ci95",
                      of->low, of->high));
    }
    return object;
}

static json_t *summary(const struct els_compared_summary *s)
{
    json_t *object = spreads(&s->plain);

    set(&object, "clamped", spreads(&s->clamped));
    return object;
}

static json_t *result(const struct run *r)
{
    const struct els_comparison *c = &r->comparison;
    json_t *root = json_object(), *images = json_array(), *all = summary(&c->summary);

    for (int64_t i = 0; images && i < c->n; i++) {
        json_t *image = compared(&c->machine[i]);
        uint64_t seed = r->seeds ? (uint64_t)r->seeds[i] : r->s.spec.seed + (uint64_t)i;

        set(&image, "index", json_integer(i));
        set(&image, "seed", r->o->sample.noise_file ? json_null() : json_integer((json_int_t)seed));
        set(&image, "is", compared(&c->is[i]));
        if (json_array_append_new(images, image) < 0) {
            json_decref(images);
            images = NULL;
        }
    }
    set(&all, "is", summary(&c->is_summary));
    set(&all, "beats_is", json_real(c->beats_is));
    set(&root, "images", images);
    set(&root, "summary", all);
    return root;
}

static int write_sheet(const struct run *r, struct els_error *err)
{
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG_BYTES);
    struct cli_output file = CLI_OUTPUT_INIT;
    struct els_picture p = {0};
    int status = els_compare_sheet(&p, r->network.values, r->theory, r->ideal, r->network.dims[0],
                                   els_bank_info(r->s.spec.bank)->shape);

    if (status == 0)
        status = els_picture_write_png(&png, &p, NULL, 0);
    els_picture_deinit(&p);
    if (status < 0)
        els_fail(err, status, "sheet", "cannot make the sheet: %s", els_status_text(status));
    if (status == 0)
        status = cli_output_open(&file, r->o->sheet, err);
    if (status == 0)
        status = cli_output_write(&file, png.data, png.size, err);
    if (status == 0)
        status = cli_output_commit(&file, err);
    cli_output_deinit(&file);
    els_buffer_deinit(&png);
    return status;
}

static void print_table(const struct run *r)
{
    const struct els_comparison *c = &r->comparison;

    printf("%-18s %9s %9s   %-21s %9s\n", "", "median", "mean", "95 % of the median", "is");
    for (int m = 0; els_metric_name(m); m++) {
        const struct els_spread *s = els_metric_spread(&c->summary.plain, m);

        printf("%-18s %9.4f %9.4f   %9.4f … %9.4f %9.4f\n", els_metric_name(m), s->median, s->mean,
               s->low, s->high, els_metric_spread(&c->is_summary.plain, m)->median);
    }
    printf("closer than is: %.0f of %lld images\n", c->beats_is * (double)c->n, (long long)c->n);
}

static int compare(const struct options *o, const char *path, struct els_error *err)
{
    struct cli_output file = CLI_OUTPUT_INIT;
    struct els_pool *pool = NULL;
    struct run r = {.o = o};
    int status = o->sample.choice.cpu ? els_engine_use_kernel(o->sample.choice.cpu, err) : 0;

    if (status == 0)
        status = cli_check_ending(o->sample.choice.output, ".json", err);
    if (status == 0 && o->sheet)
        status = cli_check_ending(o->sheet, ".png", err);
    if (status == 0)
        status = cli_spec_read(&r.s, &o->sample, err);
    if (status == 0)
        status =
            cli_array_read(&r.network, path, "images", 1, els_bank_info(r.s.spec.bank)->shape, err);
    if (status == 0)
        status = read_noise(&r, err);
    if (status == 0)
        status = cli_pool_new(&pool, o->sample.choice.threads, err);
    if (status == 0)
        status = cli_output_open(&file, o->sample.choice.output, err);
    if (status == 0)
        status = compare_all(&r, pool, err);
    if (status == 0 && o->sheet)
        status = write_sheet(&r, err);
    if (status == 0)
        status = cli_json_write(&file, result(&r), err);
    if (status == 0)
        print_table(&r);
    cli_output_deinit(&file);
    els_pool_free(pool);
    els_comparison_deinit(&r.comparison);
    cli_array_deinit(&r.network);
    cli_spec_deinit(&r.s);
    free(r.seeds);
    free(r.theory);
    free(r.ideal);
    return status;
}

int cli_compare(int argc, char **argv)
{
    struct options o = {.sample = CLI_SAMPLE_DEFAULTS};
    struct els_error err = {0};
    int status, first = cli_parse(&command, argc, argv, &o, &status);

    if (first < 0)
        return status;
    status = compare(&o, argv[first], &err);
    status = status < 0 ? cli_report(status, &err) : CLI_OK;
    cli_options_deinit(&command, &o);
    return status;
}
