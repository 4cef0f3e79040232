/*
 * The kind "sample", computed: its sampler's steps, and at the end the PNGs. Only the conductor's
 * thread comes here; the PNGs are drawn by the pool.
 */
#include <stdlib.h>

#include "kind_sample.h"
#include "picture.h"
#include "run.h"
#include "sha256.h"

enum { MAX_PNG = 64 << 20 };

static const struct els_sampler *sampler_of(const struct srv_run *run)
{
    return run->work;
}

int srv_sample_begin(struct srv_run *run, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    struct els_sampler *sampler = NULL;
    int status = els_sampler_new(&sampler, &p->spec, err);

    if (status < 0)
        return status;
    run->work = sampler;
    srv_run_keep(run, SRV_SAMPLE_XT, 0, els_sampler_x(sampler), els_shape_values(p->shape));
    return 0;
}

void srv_sample_end(struct srv_run *run)
{
    els_sampler_free(run->work);
}

double srv_sample_certified_error(const struct srv_run *run)
{
    return els_sampler_certified_error(sampler_of(run));
}

/* ---- a step ---- */

int srv_sample_step(struct srv_run *run, struct els_pool *pool, const struct els_watch *watch, struct els_error *err)
{
    struct els_shape shape = run->job->params->shape;
    size_t values = els_shape_values(shape);
    struct els_sampler *sampler = run->work;
    int step = run->next;
    int status = srv_sample_mosaics(run, sampler, pool, watch, err);

    if (status == 0)
        status = els_sampler_step(sampler, pool, watch, err);
    if (status < 0)
        return status;
    srv_run_keep(run, SRV_SAMPLE_X0, step, els_sampler_x0(sampler), values);
    srv_run_keep(run, SRV_SAMPLE_XT, step + 1, els_sampler_x(sampler), values);
    srv_run_keep(run, SRV_SAMPLE_ENTROPY, step, els_sampler_entropy(sampler), values / (size_t)shape.c);
    return 0;
}

const float *srv_sample_preview(const struct srv_run *run, double *t)
{
    *t = els_sampler_step_info(sampler_of(run), run->next - 1).t;
    return els_sampler_x0(sampler_of(run));
}

/* ---- the outcome ---- */

struct painting {
    struct srv_run *run;
    atomic_int status;
};

/* The PNG of one final image; an item of the pool. */
static void paint(void *arg, size_t i, int worker)
{
    struct painting *painting = arg;
    struct srv_run *run = painting->run;
    struct els_shape shape = run->job->params->shape;
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG);
    _cleanup_(els_freep) char *caption = srv_params_caption(run->job->params->json, (int)i);
    const char *text[] = {"els", caption};
    struct els_picture picture = {0};
    struct els_sha256 hash;
    int status = ELS_ENOMEM;

    if (caption)
        status = els_picture_from_values(&picture, run->tensors[SRV_SAMPLE_IMAGES] + i * els_shape_values(shape), 1,
                                         shape, 1);
    if (status == 0)
        status = els_picture_write_png(&png, &picture, text, 1);
    if (status == 0) {
        els_sha256_init(&hash);
        els_sha256_update(&hash, png.data, png.size);
        els_sha256_hex(&hash, run->pictures[i].sha256);
        run->pictures[i].image = (int64_t)i;
        run->pictures[i].png = png.data;
        run->pictures[i].size = png.size;
    } else {
        els_buffer_deinit(&png);
        /* relaxed: els_pool_run's return orders it before the reader */
        atomic_store_explicit(&painting->status, status, memory_order_relaxed);
    }
    els_picture_deinit(&picture);
}

static json_t *image_json(const struct srv_run *run, int64_t i)
{
    const struct srv_params *p = run->job->params;

    return json_pack("{s:I, s:I, s:o, s:s, s:n, s:n}", "index", (json_int_t)i, "seed",
                     (json_int_t)p->spec.seed + (json_int_t)i, "url",
                     json_sprintf("/v1/jobs/%s/images/%lld", run->job->record.id, (long long)i), "sha256",
                     run->pictures[i].sha256, "local_consistency", "nearest");
}

static json_t *step_json(const struct srv_run *run, int s)
{
    struct els_step_info info = els_sampler_step_info(sampler_of(run), s);

    return json_pack("{s:i, s:f, s:o, s:f}", "step", s, "t", info.t, "p",
                     els_machine_uses_p(run->job->params->spec.machine) ? json_integer(info.p) : json_null(),
                     "alpha_bar", info.alpha_bar);
}

static char *result_text(const struct srv_run *run)
{
    json_t *images = json_array(), *steps = json_array(), *result = NULL;
    int failed = !images || !steps;
    char *text = NULL;

    for (int64_t i = 0; !failed && i < run->job->params->spec.num_images; i++)
        failed = json_array_append_new(images, image_json(run, i));
    for (int s = 0; !failed && s < run->job->params->num_steps; s++)
        failed = json_array_append_new(steps, step_json(run, s));
    if (!failed)
        result = json_pack("{s:O, s:O, s:o}", "images", images, "steps", steps, "tensors_url",
                           json_sprintf("/v1/jobs/%s/tensors", run->job->record.id));
    if (result)
        text = json_dumps(result, JSON_COMPACT);
    json_decref(result);
    json_decref(images);
    json_decref(steps);
    return text;
}

int srv_sample_finish(struct srv_run *run, struct els_pool *pool, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    struct painting painting = {.run = run, .status = 0};

    srv_run_keep(run, SRV_SAMPLE_IMAGES, 0, els_sampler_x(sampler_of(run)), els_shape_values(p->shape));
    run->pictures = els_alloc_array((size_t)p->spec.num_images, sizeof(*run->pictures));
    if (run->pictures) {
        run->num_pictures = p->spec.num_images;
        els_pool_run(pool, (size_t)p->spec.num_images, paint, &painting);
    }
    if (run->pictures && atomic_load(&painting.status) == 0)
        run->result = result_text(run);
    return run->result ? 0 : els_fail(err, ELS_ENOMEM, NULL, "There is no memory for the result.");
}
