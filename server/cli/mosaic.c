/*
 * els mosaic: where the pixels of one sampled image come from, as a picture or as JSON. Runs on main's thread and a pool;
 * the sampler draws the image, and the mosaic is taken of the question that a step answers, before it runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/consistency.h"
#include "els/mem.h"
#include "els/mosaic_picture.h"
#include "server/cli/commands.h"
#include "server/cli/json_text.h"
#include "server/cli/output.h"
#include "server/cli/progress.h"
#include "server/cli/spec.h"

enum { GAP = 2, GAP_GREY = 128, TILES = 1 + ELS_MAP_COUNT };

#define MAX_PNG_BYTES ((size_t)1 << 30)

struct options {
    struct cli_sample_options sample;
    int64_t top, step;
};

#define AT(member) offsetof(struct options, member)

static const struct cli_option mosaic_options[] = {
    {"top", 0, "M", CLI_INTEGER, AT(top), 1, ELS_MAX_TOP, .help = "candidates to list per pixel"},
    {"step", 0, "S", CLI_INTEGER, AT(step), 0, ELS_MAX_INFERENCE_STEPS,
     .help = "the step to look into, 0 being the noisiest; by default the last"},
    {"zoom", 'z', "K", CLI_INTEGER, offsetof(struct options, sample.zoom), 1, 16,
     .help = "enlarge a .png result K times"},
    {0},
};

#undef AT

static const struct cli_option *const tables[] = {mosaic_options, cli_process_options,
                                                  cli_choice_options, NULL};

static const char *const examples[] = {
    "the image, its regions, how far each pixel's source lies, and its entropy",
    "els mosaic --seed 7 --zoom 8 -o mosaic.png",
    "the eight heaviest candidates of every pixel",
    "els mosaic --seed 7 --top 8 -o mosaic.json",
    NULL,
};

static const struct cli_command command = {
    .name = "mosaic",
    .operands = "",
    .summary = "where the pixels of a sampled image come from",
    .details = "A .png shows the image, its regions (one colour per training image and "
               "displacement), the displacement "
               "of every pixel's source (grey: in place) and the entropy of its candidates. A "
               ".json lists the heaviest "
               "candidates of every pixel, their weights, entropy and regions, the image's local "
               "consistency and its "
               "nearest training image over all translations.",
    .tables = tables,
    .examples = examples,
};

/* One run: what was asked, and what was found. */
struct run {
    const struct options *o;
    struct cli_spec s;
    struct els_shape shape;
    struct els_sampler *sampler;
    int step;
    struct els_mosaic *mosaic;
    float *x0; /* of the step */
    double consistency;
    struct els_nearest nearest;
};

/* The mosaic of the step, then the step itself. */
static int look_into_step(struct run *r, struct els_pool *pool, const struct els_progress *watch,
                          struct els_error *err)
{
    struct els_evaluation e = els_sampler_evaluation(r->sampler);
    int status = els_mosaic_new(&r->mosaic, &e, (int)r->o->top, pool, watch, err);

    if (status == 0)
        status = els_sampler_step(r->sampler, pool, watch, err);
    if (status == 0)
        memcpy(r->x0, els_sampler_x0(r->sampler), els_shape_values(r->shape) * sizeof(*r->x0));
    return status;
}

static int run_steps(struct run *r, struct els_pool *pool, struct els_error *err)
{
    int steps = els_sampler_num_steps(r->sampler), status = 0;
    struct cli_progress progress;
    struct els_progress watch = {cli_progress_poll, &progress};
    struct els_evaluation last = {0};

    cli_progress_begin(&progress, "step", steps, r->o->sample.choice.quiet);
    for (int s = 0; s < steps && status == 0; s++) {
        progress.step = s;
        last = els_sampler_evaluation(r->sampler);
        if (cli_progress_poll(&progress, 0))
            status = ELS_ECANCELLED;
        else if (s == r->step)
            status = look_into_step(r, pool, &watch, err);
        else
            status = els_sampler_step(r->sampler, pool, &watch, err);
    }
    if (status == 0)
        status = els_local_consistency(&r->consistency, &last, els_sampler_x(r->sampler), pool,
                                       &watch, err);
    if (status == 0)
        status = els_nearest_image(&r->nearest, last.bank, last.images, last.num_images,
                                   els_sampler_x(r->sampler), pool, &watch, err);
    cli_progress_end(&progress);
    return status;
}

/* ---- json ---- */

enum column { IMAGE, ROW, COLUMN };

static json_t *integers(const struct els_mosaic *m, enum column which)
{
    size_t n = (size_t)m->height * (size_t)m->width * (size_t)m->top;
    _cleanup_(els_freep) int64_t *values = els_alloc_array(n, sizeof(*values));

    for (size_t i = 0; values && i < n; i++) {
        const struct els_candidate *c = &m->candidate[i];

        values[i] = which == IMAGE ? c->image : which == ROW ? c->row : c->column;
    }
    return values ? cli_json_integers(values, n) : NULL;
}

static json_t *weights(const struct els_mosaic *m)
{
    size_t n = (size_t)m->height * (size_t)m->width * (size_t)m->top;
    _cleanup_(els_freep) double *values = els_alloc_array(n, sizeof(*values));

    for (size_t i = 0; values && i < n; i++)
        values[i] = m->candidate[i].weight;
    return values ? cli_json_reals(values, n) : NULL;
}

static json_t *regions(const struct els_mosaic *m)
{
    size_t n = (size_t)m->height * (size_t)m->width;
    _cleanup_(els_freep) int64_t *values = els_alloc_array(n, sizeof(*values));

    for (size_t i = 0; values && i < n; i++)
        values[i] = m->region[i];
    return values ? cli_json_integers(values, n) : NULL;
}

/* As the daemon tells it, and the two findings about the finished image. */
static json_t *result(const struct run *r)
{
    const struct els_mosaic *m = r->mosaic;

    return json_pack(
        "{s:I, s:i, s:i, s:i, s:i, s:f, s:{s:I, s:i, s:i, s:f}, s:{s:o, s:o, s:o, s:o}, s:o, s:o}",
        "seed", (json_int_t)r->s.spec.seed, "step", r->step, "height", m->height, "width", m->width,
        "top", m->top, "local_consistency", r->consistency, "nearest", "bank_index",
        (json_int_t)r->nearest.image, "dy", r->nearest.dy, "dx", r->nearest.dx, "distance",
        r->nearest.distance, "candidates", "image", integers(m, IMAGE), "row", integers(m, ROW),
        "column", integers(m, COLUMN), "weight", weights(m), "entropy",
        cli_json_reals(m->entropy, (size_t)m->height * (size_t)m->width), "region", regions(m));
}

/* ---- png ---- */

/* Puts a picture into a larger RGB one, at column x. */
static void paste(struct els_picture *to, const struct els_picture *from, int x)
{
    for (int i = 0; i < from->height; i++)
        for (int j = 0; j < from->width; j++) {
            uint8_t *p = to->pixels + 3 * ((size_t)i * (size_t)to->width + (size_t)(x + j));
            const uint8_t *q = from->pixels + (size_t)from->channels *
                                                  ((size_t)i * (size_t)from->width + (size_t)j);

            for (int c = 0; c < 3; c++)
                p[c] = q[from->channels == 3 ? c : 0];
        }
}

static int make_sheet(struct els_picture *out, const struct run *r)
{
    struct els_picture tile[TILES] = {0};
    int status = els_picture_from_values(&tile[0], r->x0, 1, r->shape, 0), x = 0;

    for (int map = 0; map < ELS_MAP_COUNT && status == 0; map++)
        status = els_mosaic_picture(&tile[1 + map], r->mosaic, (enum els_mosaic_map)map);
    if (status == 0)
        status =
            els_picture_new(out, tile[0].width + ELS_MAP_COUNT * (r->shape.w + GAP), r->shape.h, 3);
    if (status == 0)
        memset(out->pixels, GAP_GREY, 3 * (size_t)out->width * (size_t)out->height);
    for (int i = 0; i < TILES; i++) {
        if (status == 0)
            paste(out, &tile[i], x);
        x += tile[i].width + GAP;
        els_picture_deinit(&tile[i]);
    }
    return status;
}

static int write_sheet(const struct run *r, struct cli_output *file, struct els_error *err)
{
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG_BYTES);
    struct els_picture sheet = {0};
    char *params = cli_params_json(&r->s);
    const char *text[] = {"els", params};
    int status = params ? make_sheet(&sheet, r) : ELS_ENOMEM;

    if (status == 0)
        status = els_picture_zoom(&sheet, r->o->sample.zoom ? (int)r->o->sample.zoom : 1);
    if (status == 0)
        status = els_picture_write_png(&png, &sheet, text, 1);
    els_picture_deinit(&sheet);
    free(params);
    if (status < 0)
        els_fail(err, status, "output", "cannot make the picture: %s", els_status_text(status));
    if (status == 0)
        status = cli_output_write(file, png.data, png.size, err);
    if (status == 0)
        status = cli_output_commit(file, err);
    els_buffer_deinit(&png);
    return status;
}

/* ---- the face ---- */

static int read_all(struct run *r, struct els_error *err)
{
    const struct options *o = r->o;
    int steps,
        status = o->sample.choice.cpu ? els_engine_use_kernel(o->sample.choice.cpu, err) : 0;

    if (status == 0)
        status = cli_spec_read(&r->s, &o->sample, err);
    if (status == 0 && r->s.spec.num_images != 1)
        status =
            els_fail(err, ELS_EINVAL, "noise", "--noise-file holds %lld images; a mosaic takes 1",
                     (long long)r->s.spec.num_images);
    if (status == 0)
        status = els_sampler_new(&r->sampler, &r->s.spec, err);
    if (status < 0)
        return status;
    r->shape = els_bank_info(r->s.spec.bank)->shape;
    steps = els_sampler_num_steps(r->sampler);
    if (o->step >= steps)
        return els_fail(err, ELS_EINVAL, "step", "--step is %lld; there are steps 0 to %d",
                        (long long)o->step, steps - 1);
    r->step = o->step < 0 ? steps - 1 : (int)o->step;
    r->x0 = els_alloc_array(els_shape_values(r->shape), sizeof(*r->x0));
    return r->x0 ? 0 : els_fail(err, ELS_ENOMEM, NULL, "out of memory");
}

static int mosaic(const struct options *o, struct els_error *err)
{
    const char *path = o->sample.choice.output;
    struct cli_output file = CLI_OUTPUT_INIT;
    struct els_pool *pool = NULL;
    struct run r = {.o = o};
    int as_json = cli_check_ending(path, ".json", NULL) == 0, status = 0;

    if (!as_json && cli_check_ending(path, ".png", NULL) < 0)
        status = els_fail(err, ELS_EINVAL, "output",
                          "the output \"%.200s\" must end in .png or .json", path);
    if (status == 0 && as_json && o->sample.zoom)
        status = els_fail(err, ELS_EINVAL, "zoom", "--zoom is for .png results only");
    if (status == 0)
        status = read_all(&r, err);
    if (status == 0)
        status = cli_pool_new(&pool, o->sample.choice.threads, err);
    if (status == 0)
        status = cli_output_open(&file, path, err);
    if (status == 0)
        status = run_steps(&r, pool, err);
    if (status == 0)
        status = as_json ? cli_json_write(&file, result(&r), err) : write_sheet(&r, &file, err);
    if (status == 0 && !o->sample.choice.quiet)
        fprintf(stderr,
                "%s: seed %llu, %d regions at step %d; %.2f %% of the pixels are locally "
                "consistent; the nearest "
                "training image is %lld, moved by (%d,%d), %.4f away\n",
                path, (unsigned long long)r.s.spec.seed, r.mosaic->num_regions, r.step,
                100 * r.consistency, (long long)r.nearest.image, r.nearest.dy, r.nearest.dx,
                r.nearest.distance);
    cli_output_deinit(&file);
    els_pool_free(pool);
    els_mosaic_free(r.mosaic);
    els_sampler_free(r.sampler);
    cli_spec_deinit(&r.s);
    free(r.x0);
    return status;
}

int cli_mosaic(int argc, char **argv)
{
    struct options o = {.sample = CLI_SAMPLE_DEFAULTS, .top = 4, .step = -1};
    struct els_error err = {0};
    int status;

    if (cli_parse(&command, argc, argv, &o, &status) < 0)
        return status;
    status = mosaic(&o, &err);
    status = status < 0 ? cli_report(status, &err) : CLI_OK;
    cli_options_deinit(&command, &o);
    return status;
}
