/*
 * The kind "sample", computed: automatic scales, the sampler's steps, and at the end the PNGs. Only the executor's
 * thread comes here; the PNGs are drawn by the pool.
 */
#include <stdlib.h>

#include "core/base/json.h"
#include "core/base/sha256.h"
#include "els/picture.h"
#include "server/jobs/job_run.h"
#include "server/params/caption.h"
#include "server/params/saved_scales.h"
#include "server/types/sample.h"

enum { MAX_PNG = 64 << 20 };

/* What the kind keeps in run->work. */
struct sampling {
    struct els_sampler *sampler;   /* NULL until automatic scales are known */
    struct els_scales scales;      /* the automatic ones */
    struct els_evaluation last;    /* of the last step, once it has run */
    struct srv_finding *findings;  /* [num_images], where mosaics are kept */
};

static struct sampling *work_of(const struct srv_job_run *run)
{
    return run->work;
}

static const struct els_sampler *sampler_of(const struct srv_job_run *run)
{
    return work_of(run)->sampler;
}

static int make_sampler(struct srv_job_run *run, const struct els_scales *scales, struct els_error *err)
{
    struct els_sample_spec spec = run->job->params->spec;
    struct sampling *work = work_of(run);
    int status;

    if (scales)
        spec.scales = *scales;
    status = els_sampler_new(&work->sampler, &spec, err);
    if (status == 0)
        srv_job_run_keep(run, SRV_SAMPLE_XT, 0, els_sampler_x(work->sampler), els_shape_values(run->job->params->shape));
    return status;
}

int srv_sample_begin(struct srv_job_run *run, struct els_error *err)
{
    run->work = els_alloc_array(1, sizeof(struct sampling));
    if (!run->work)
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    return run->job->params->auto_scales ? 0 : make_sampler(run, NULL, err);
}

void srv_sample_end(struct srv_job_run *run)
{
    struct sampling *work = work_of(run);

    if (!work)
        return;
    els_sampler_free(work->sampler);
    els_scales_deinit(&work->scales);
    free(work->findings);
    free(work);
}

double srv_sample_certified_error(const struct srv_job_run *run)
{
    return els_sampler_certified_error(sampler_of(run));
}

/* ---- a step ---- */

static struct srv_sample_cost cost_of(const struct srv_params *p, const struct els_sampler *sampler, int step)
{
    return srv_sample_step_cost(p, step, els_sampler_step_info(sampler, step).p);
}

double srv_sample_step_work(const struct srv_params *p, const struct els_sampler *sampler, int step)
{
    double setup = step == 0 ? p->setup_cost : 0;

    return setup + (sampler ? srv_sample_cost_sum(cost_of(p, sampler, step)) : (p->cost - p->setup_cost) / p->num_steps);
}

double srv_sample_work(const struct srv_job_run *run, int step)
{
    return srv_sample_step_work(run->job->params, sampler_of(run), step);
}

/* So much work of the next step, after `before`. */
static struct srv_part part_of(const struct srv_job_run *run, const struct els_progress *watch, double before, double work)
{
    double all = run->kind->work(run, run->next);

    return (struct srv_part){watch, before / all, work / all};
}

static double setup_of(const struct srv_job_run *run)
{
    return run->next == 0 ? run->job->params->setup_cost : 0;
}

/* What the bank alone says about scales, before the first step. */
static int choose_scales(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch,
                         struct els_error *err)
{
    struct sampling *work = work_of(run);
    struct srv_part part = part_of(run, watch, 0, setup_of(run));
    struct els_progress partly = srv_part_watch(&part);
    int status = srv_sample_auto_scales(&work->scales, run->job->params, pool, &partly, err);

    if (status == 0)
        status = make_sampler(run, &work->scales, err);
    if (status == 0)
        srv_job_run_plan(run);
    return status;
}

struct els_sampler *srv_sample_sampler(const struct srv_job_run *run)
{
    return srv_sample_has_mosaic(run->job->params, run->next) ? NULL : work_of(run)->sampler;
}

void srv_sample_stepped(struct srv_job_run *run)
{
    const struct els_sampler *sampler = sampler_of(run);
    struct els_shape shape = run->job->params->shape;
    size_t values = els_shape_values(shape);

    srv_job_run_keep(run, SRV_SAMPLE_X0, run->next, els_sampler_x0(sampler), values);
    srv_job_run_keep(run, SRV_SAMPLE_XT, run->next + 1, els_sampler_x(sampler), values);
    srv_job_run_keep(run, SRV_SAMPLE_ENTROPY, run->next, els_sampler_entropy(sampler), values / (size_t)shape.c);
}

/* The step itself, with what has to be asked before it and kept after it. */
static int advance(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    struct sampling *work = work_of(run);
    struct srv_sample_cost cost = cost_of(run->job->params, work->sampler, run->next);
    double setup = setup_of(run);
    struct srv_part mosaics = part_of(run, watch, setup, cost.mosaics),
                    pass = part_of(run, watch, setup + cost.mosaics, cost.pass);
    struct els_progress first = srv_part_watch(&mosaics), second = srv_part_watch(&pass);
    int status = cost.mosaics > 0 ? srv_sample_mosaics(run, work->sampler, pool, &first, err) : 0;

    work->last = els_sampler_evaluation(work->sampler);
    if (status == 0)
        status = els_sampler_step(work->sampler, pool, &second, err);
    if (status == 0)
        srv_sample_stepped(run);
    return status;
}

static int find(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    struct sampling *work = work_of(run);
    struct srv_sample_cost cost = cost_of(run->job->params, work->sampler, run->next);
    struct srv_part part = part_of(run, watch, setup_of(run) + cost.mosaics + cost.pass, cost.findings);
    struct els_progress partly = srv_part_watch(&part);

    return srv_sample_findings(run, &work->last, els_sampler_x(work->sampler), &work->findings, pool, &partly, err);
}

int srv_sample_step(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    struct sampling *work = work_of(run);
    int status = 0;

    if (!work->sampler)
        status = choose_scales(run, pool, watch, err);
    /* A step that is run again may have come as far as what follows the sampler's own. */
    if (status == 0 && els_sampler_next(work->sampler) == run->next)
        status = advance(run, pool, watch, err);
    if (status == 0 && run->next == run->job->params->num_steps - 1)
        status = find(run, pool, watch, err);
    return status;
}

const float *srv_sample_preview(const struct srv_job_run *run, double *t)
{
    *t = els_sampler_step_info(sampler_of(run), run->next - 1).t;
    return els_sampler_x0(sampler_of(run));
}

/* ---- the outcome ---- */

struct painting {
    struct srv_job_run *run;
    char *caption; /* of all images */
    const struct els_progress *watch;
    atomic_int status;
};

/* True when nothing more is to be painted. */
static bool look_in(struct painting *painting)
{
    return atomic_load_explicit(&painting->status, memory_order_relaxed) < 0 ||
           painting->watch->poll(painting->watch->user, 1);
}

/* The PNG of one final image; an item of the pool. */
static void paint(void *arg, size_t i, int worker)
{
    struct painting *painting = arg;
    struct srv_job_run *run = painting->run;
    struct els_shape shape = run->job->params->shape;
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG);
    _cleanup_(els_freep) char *caption = NULL;
    const char *text[] = {"els", NULL};
    struct els_picture picture = {0};
    struct els_sha256 hash;
    int status = look_in(painting) ? ELS_ECANCELLED : 0;

    if (status == 0)
        text[1] = caption = srv_caption_of_image(painting->caption, (int)i);
    if (status == 0 && !caption)
        status = ELS_ENOMEM;
    if (status == 0)
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

static json_t *nearest_json(const struct els_nearest *nearest)
{
    return json_pack("{s:I, s:i, s:i, s:f}", "bank_index", (json_int_t)nearest->image, "dy", nearest->dy, "dx",
                     nearest->dx, "distance", nearest->distance);
}

static json_t *image_json(const struct srv_job_run *run, int64_t i)
{
    const struct srv_finding *finding = work_of(run)->findings ? &work_of(run)->findings[i] : NULL;
    const struct srv_params *p = run->job->params;

    return json_pack("{s:I, s:I, s:o, s:s, s:o, s:o}", "index", (json_int_t)i, "seed",
                     (json_int_t)p->spec.seed + (json_int_t)i, "url",
                     json_sprintf("/v1/jobs/%s/images/%lld", run->job->record.id, (long long)i), "sha256",
                     run->pictures[i].sha256, "local_consistency",
                     finding ? json_real(finding->local_consistency) : json_null(), "nearest",
                     finding ? nearest_json(&finding->nearest) : json_null());
}

json_t *srv_sample_steps_json(const struct els_sampler *sampler, const struct srv_params *p)
{
    json_t *steps = json_array();

    for (int s = 0; steps && s < els_sampler_num_steps(sampler); s++) {
        struct els_step_info info = els_sampler_step_info(sampler, s);
        json_t *step = json_pack("{s:i, s:f, s:o, s:f}", "step", s, "t", info.t, "p",
                                 els_machine_uses_p(p->spec.machine) ? json_integer(info.p) : json_null(),
                                 "alpha_bar", info.alpha_bar);

        if (json_array_append_new(steps, step) < 0) {
            json_decref(steps);
            steps = NULL;
        }
    }
    return steps;
}

static char *result_text(const struct srv_job_run *run)
{
    json_t *images = json_array(), *steps = srv_sample_steps_json(sampler_of(run), run->job->params), *result = NULL;
    int failed = !images || !steps;
    char *text = NULL;

    for (int64_t i = 0; !failed && i < run->job->params->spec.num_images; i++)
        failed = json_array_append_new(images, image_json(run, i));
    if (!failed)
        result = json_pack("{s:O, s:O, s:o}", "images", images, "steps", steps, "tensors_url",
                           json_sprintf("/v1/jobs/%s/tensors", run->job->record.id));
    if (result && run->job->params->auto_scales &&
        json_object_set_new(result, "scales", srv_scales_json(&work_of(run)->scales)) < 0)
        failed = -1;
    if (result && !failed)
        text = els_json_text(result, JSON_COMPACT);
    json_decref(result);
    json_decref(images);
    json_decref(steps);
    return text;
}

int srv_sample_finish(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    struct painting painting = {
        .run = run, .caption = srv_caption(run->job->record.id, p->json, -1), .watch = watch, .status = 0};

    srv_job_run_keep(run, SRV_SAMPLE_IMAGES, 0, els_sampler_x(sampler_of(run)), els_shape_values(p->shape));
    run->pictures = els_alloc_array((size_t)p->spec.num_images, sizeof(*run->pictures));
    if (run->pictures && painting.caption) {
        run->num_pictures = p->spec.num_images;
        els_pool_run(pool, (size_t)p->spec.num_images, paint, &painting);
    }
    free(painting.caption);
    if (atomic_load(&painting.status) == ELS_ECANCELLED)
        return ELS_ECANCELLED;
    if (run->num_pictures > 0 && atomic_load(&painting.status) == 0)
        run->result = result_text(run);
    return run->result ? 0 : els_fail(err, ELS_ENOMEM, NULL, "There is no memory for the result.");
}
