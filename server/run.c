/*
 * One job under computation. Only the conductor calls this, from its thread; srv_run_step's poll runs on the pool's
 * workers, and touches only atomics and the job, which looks after itself.
 *
 * Tensors are laid out [N,S,…] from the beginning, so an image's part is one block for the store. Their size was
 * checked when the job was accepted. Previews show x̂0; they are made only while somebody looks
 * on, and never take more than a twentieth of the time: after one that took d comes none for 19·d.
 */
#include "run.h"

#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "clock.h"
#include "picture.h"
#include "sha256.h"

enum {
    PREVIEW_IMAGES = 8,
    PREVIEW_PIXELS = 256 * 256,
    PREVIEW_MS = 100,
    PREVIEW_SHARE = 19,
    MAX_PNG = 64 << 20,
};

/* ---- tensors ---- */

static int allocate(struct srv_run *run)
{
    const struct srv_params *p = run->job->params;
    const char *name;

    for (unsigned i = 0; (name = srv_output_tensor(1u << i)); i++) {
        size_t values = srv_output_values(1u << i, p->shape, p->num_steps);
        size_t all;

        run->kept[i] = (struct srv_kept_tensor){.name = name, .values = values};
        if (i > 0 && !(p->outputs & 1u << i))
            continue;
        if (els_mul_overflows(values, p->spec.num_images, &all))
            return ELS_ENOMEM;
        run->tensors[i] = els_alloc_array(all, sizeof(float));
        if (!run->tensors[i])
            return ELS_ENOMEM;
        run->kept[i].data = run->tensors[i];
    }
    return 0;
}

/* Copies [N,size] into slot `slot` of tensor i, for each image. */
static void keep(struct srv_run *run, int output, int slot, const float *from, size_t size)
{
    int i = __builtin_ctz((unsigned)output);
    float *to = run->tensors[i];

    for (int64_t n = 0; to && from && n < run->job->params->spec.num_images; n++)
        memcpy(to + (size_t)n * run->kept[i].values + (size_t)slot * size, from + (size_t)n * size,
               size * sizeof(float));
}

int srv_run_new(struct srv_run **out, struct srv_job *job, struct els_error *err)
{
    struct srv_run *run = els_alloc_array(1, sizeof(*run));
    const struct srv_params *p = job->params;
    int status = ELS_ENOMEM;

    if (!run)
        return els_fail(err, status, NULL, "Memory is out.");
    run->job = srv_job_ref(job);
    status = allocate(run);
    if (status < 0)
        els_fail(err, status, NULL, "There is no memory for the %llu bytes of the outputs.",
                 (unsigned long long)p->result_bytes);
    else
        status = els_sampler_new(&run->sampler, &p->spec, err);
    if (status < 0) {
        srv_run_free(run);
        return status;
    }
    keep(run, SRV_OUTPUT_XT, 0, els_sampler_x(run->sampler), els_shape_values(p->shape));
    srv_job_unref(job); /* on success the caller's reference is ours */
    *out = run;
    return 0;
}

struct srv_run *srv_run_free(struct srv_run *run)
{
    if (!run)
        return NULL;
    for (int64_t i = 0; run->pictures && i < run->job->params->spec.num_images; i++)
        free(run->pictures[i].png);
    for (int i = 0; i < SRV_RUN_MAX_TENSORS; i++)
        free(run->tensors[i]);
    free(run->pictures);
    free(run->result);
    free(run->engine);
    els_sampler_free(run->sampler);
    srv_job_unref(run->job);
    free(run);
    return NULL;
}

bool srv_run_finished(const struct srv_run *run)
{
    return els_sampler_next(run->sampler) == els_sampler_num_steps(run->sampler);
}

double srv_run_left(const struct srv_run *run)
{
    int steps = els_sampler_num_steps(run->sampler);

    return run->job->params->cost * (steps - els_sampler_next(run->sampler)) / steps;
}

/* ---- previews ---- */

static int preview(struct srv_run *run, int64_t image, int step)
{
    struct els_shape shape = run->job->params->shape;
    const float *x0 = els_sampler_x0(run->sampler) + (size_t)image * els_shape_values(shape);
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG), text = ELS_BUFFER_INIT(MAX_PNG);
    struct els_picture picture = {0};
    int status = els_picture_from_values(&picture, x0, 1, shape, 1);

    if (status == 0)
        status = els_picture_write_png(&png, &picture, NULL, 0);
    if (status == 0)
        status = els_buffer_printf(&text, "{\"image\":%lld,\"step\":%d,\"t\":%.17g,\"png_base64\":\"", (long long)image,
                                   step, els_sampler_step_info(run->sampler, step).t);
    if (status == 0)
        status = srv_base64_encode(&text, png.data, png.size);
    if (status == 0)
        status = els_buffer_append(&text, "\"}", sizeof("\"}")); /* with its NUL */
    if (status == 0)
        srv_events_publish(run->job->events, "preview", (const char *)text.data);
    els_picture_deinit(&picture);
    els_buffer_deinit(&png);
    els_buffer_deinit(&text);
    return status;
}

/* A preview that cannot be made is left out: nobody is promised one. */
static void preview_all(struct srv_run *run, int step)
{
    struct els_shape shape = run->job->params->shape;
    int64_t images = run->job->params->spec.num_images, began = srv_monotonic_ms(), spent;
    bool last = srv_run_finished(run);

    if (shape.h * shape.w > PREVIEW_PIXELS || (!last && began < run->next_preview) ||
        srv_events_readers(run->job->events) == 0)
        return;
    if (images > PREVIEW_IMAGES)
        images = PREVIEW_IMAGES;
    for (int64_t i = 0; i < images; i++)
        if (preview(run, i, step) < 0)
            break;
    spent = PREVIEW_SHARE * (srv_monotonic_ms() - began);
    run->next_preview = began + (spent > PREVIEW_MS ? spent : PREVIEW_MS);
}

/* ---- a step ---- */

struct poll {
    struct srv_job *job;
    const atomic_bool *stop;
    int step;
};

/* On any worker, some twenty times a second. */
static int poll(void *user, double done)
{
    struct poll *p = user;

    /* relaxed: nothing but the flags themselves is read */
    if (atomic_load_explicit(p->stop, memory_order_relaxed) ||
        atomic_load_explicit(&p->job->cancelled, memory_order_relaxed))
        return 1;
    srv_job_progress(p->job, p->step, done, false);
    return 0;
}

int srv_run_step(struct srv_run *run, struct els_pool *pool, const atomic_bool *stop, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    int step = els_sampler_next(run->sampler);
    struct poll user = {run->job, stop, step};
    struct els_watch watch = {poll, &user};
    size_t values = els_shape_values(p->shape);
    int64_t began = srv_monotonic_ms();
    double seconds;
    int status;

    if (poll(&user, 0))
        return ELS_ECANCELLED;
    status = els_sampler_step(run->sampler, pool, &watch, err);
    if (status == 0) {
        keep(run, SRV_OUTPUT_X0, step, els_sampler_x0(run->sampler), values);
        keep(run, SRV_OUTPUT_XT, step + 1, els_sampler_x(run->sampler), values);
        keep(run, SRV_OUTPUT_ENTROPY, step, els_sampler_entropy(run->sampler), values / (size_t)p->shape.c);
        srv_job_progress(run->job, step + 1, 0, srv_run_finished(run));
        preview_all(run, step);
    }
    seconds = (double)(srv_monotonic_ms() - began) / 1000;
    run->seconds += seconds;
    run->share += seconds;
    return status;
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
        status = els_picture_from_values(&picture, run->tensors[0] + i * els_shape_values(shape), 1, shape, 1);
    if (status == 0)
        status = els_picture_write_png(&png, &picture, text, 1);
    if (status == 0) {
        els_sha256_init(&hash);
        els_sha256_update(&hash, png.data, png.size);
        els_sha256_hex(&hash, run->pictures[i].sha256);
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
    struct els_step_info info = els_sampler_step_info(run->sampler, s);

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

const char *srv_run_engine(struct srv_run *run)
{
    json_t *json = json_pack("{s:s, s:s, s:f}", "version", ELS_VERSION, "kernel", els_engine_kernel(),
                             "certified_error", els_sampler_certified_error(run->sampler));

    free(run->engine);
    run->engine = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return run->engine;
}

int srv_run_outcome(struct srv_run *run, struct els_pool *pool, struct srv_outcome *outcome,
                    struct els_error *err)
{
    int64_t images = run->job->params->spec.num_images;
    struct painting painting = {.run = run, .status = 0};

    keep(run, SRV_OUTPUT_IMAGE, 0, els_sampler_x(run->sampler), els_shape_values(run->job->params->shape));
    run->pictures = els_alloc_array((size_t)images, sizeof(*run->pictures));
    if (run->pictures)
        els_pool_run(pool, (size_t)images, paint, &painting);
    if (run->pictures && atomic_load(&painting.status) == 0)
        run->result = result_text(run);
    if (!run->result || !srv_run_engine(run))
        return els_fail(err, ELS_ENOMEM, NULL, "There is no memory for the result.");
    *outcome = (struct srv_outcome){
        .status = SRV_SUCCEEDED,
        .steps_done = run->job->params->num_steps,
        .result = run->result,
        .engine = run->engine,
        .num_images = images,
        .tensors = run->kept,
        .num_tensors = SRV_RUN_MAX_TENSORS,
        .pictures = run->pictures,
    };
    return 0;
}
