/*
 * One job under computation, of any kind. Only the conductor calls this, from its thread; srv_runs_step's poll runs on
 * the pool's workers, and touches only atomics and the job, which looks after itself.
 *
 * Tensors are laid out image by image from the beginning, so an image's part is one block for the store. Their size was
 * checked when the job was accepted. Previews are made only while somebody looks on, and a
 * run's never take more than a twentieth of the time: after some that took d come none for 19·d.
 */
#include "run.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "clock.h"
#include "json.h"
#include "picture.h"

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
    struct srv_extent extent = srv_params_extent(p);
    const struct srv_output *o;
    size_t all;

    for (int i = 0; (o = &run->kind->outputs[i])->word; i++) {
        run->kept[i] = (struct srv_kept_tensor){.name = o->tensor, .values = srv_output_values(o, &extent)};
        if (!srv_params_keep(p, i))
            continue;
        if (els_mul_overflows(run->kept[i].values, p->spec.num_images, &all))
            return ELS_ENOMEM;
        run->tensors[i] = els_alloc_array(all, sizeof(float));
        if (!run->tensors[i])
            return ELS_ENOMEM;
        run->kept[i].data = run->tensors[i];
    }
    return 0;
}

void srv_run_keep(struct srv_run *run, int output, int slot, const float *from, size_t size)
{
    size_t values = run->kept[output].values;
    float *to = run->tensors[output];

    for (int64_t n = 0; to && from && n < run->job->params->spec.num_images; n++)
        memcpy(to + (size_t)n * values + (size_t)slot * size, from + (size_t)n * size, size * sizeof(float));
}

int srv_run_new(struct srv_run **out, struct srv_job *job, struct els_error *err)
{
    struct srv_run *run = els_alloc_array(1, sizeof(*run));
    int status = ELS_ENOMEM;

    if (!run)
        return els_fail(err, status, NULL, "Memory is out.");
    run->job = srv_job_ref(job);
    run->kind = job->params->kind;
    status = allocate(run);
    if (status < 0)
        els_fail(err, status, NULL, "There is no memory for the %llu bytes of the outputs.",
                 (unsigned long long)job->params->result_bytes);
    else
        status = run->kind->begin(run, err);
    if (status < 0) {
        srv_run_free(run);
        return status;
    }
    srv_job_unref(job); /* on success the caller's reference is ours */
    *out = run;
    return 0;
}

struct srv_run *srv_run_free(struct srv_run *run)
{
    if (!run)
        return NULL;
    run->kind->end(run);
    for (int64_t i = 0; run->pictures && i < run->num_pictures; i++)
        free(run->pictures[i].png);
    for (int i = 0; i < SRV_MAX_OUTPUTS; i++)
        free(run->tensors[i]);
    free(run->pictures);
    free(run->result);
    free(run->engine);
    free(run->scales);
    srv_job_unref(run->job);
    free(run);
    return NULL;
}

bool srv_run_finished(const struct srv_run *run)
{
    return run->next == run->job->params->num_steps;
}

bool srv_run_late(const struct srv_run *run)
{
    const double tick = 0.001; /* the clock's */

    return run->limit > 0 && run->seconds + tick >= run->limit;
}

double srv_run_left(const struct srv_run *run)
{
    int steps = run->job->params->num_steps;

    return run->job->params->cost * (steps - run->next) / steps;
}

/* ---- previews ---- */

static int preview(struct srv_run *run, int64_t image, double t, const float *values)
{
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG), text = ELS_BUFFER_INIT(MAX_PNG);
    struct els_picture picture = {0};
    int status = els_picture_from_values(&picture, values, 1, run->job->params->shape, 1);

    if (status == 0)
        status = els_picture_write_png(&png, &picture, NULL, 0);
    if (status == 0)
        status = els_buffer_printf(&text, "{\"image\":%lld,\"step\":%d,\"t\":%.17g,\"png_base64\":\"", (long long)image,
                                   run->next - 1, t);
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
static void preview_all(struct srv_run *run)
{
    struct els_shape shape = run->job->params->shape;
    int64_t images = run->job->params->spec.num_images, began = srv_monotonic_ms(), spent;
    const float *values;
    double t = 0;

    if (!run->kind->preview || shape.h * shape.w > PREVIEW_PIXELS ||
        (!srv_run_finished(run) && began < run->next_preview) || srv_events_readers(run->job->events) == 0)
        return;
    values = run->kind->preview(run, &t);
    if (images > PREVIEW_IMAGES)
        images = PREVIEW_IMAGES;
    for (int64_t i = 0; i < images; i++)
        if (preview(run, i, t, values + (size_t)i * els_shape_values(shape)) < 0)
            break;
    spent = PREVIEW_SHARE * (srv_monotonic_ms() - began);
    run->next_preview = began + (spent > PREVIEW_MS ? spent : PREVIEW_MS);
}

/* ---- a step ---- */

/* Runs that take a step together; mostly it is one. */
struct company {
    struct srv_run *const *runs;
    int count;
    int64_t images;
    int64_t until; /* monotonic ms: then one of them is late */
    const atomic_bool *stop;
};

/* On any worker, some twenty times a second. */
static int poll(void *user, double done)
{
    const struct company *c = user;

    /* relaxed: nothing but the flags themselves is read */
    if (atomic_load_explicit(c->stop, memory_order_relaxed) || srv_monotonic_ms() >= c->until)
        return 1;
    for (int i = 0; i < c->count; i++)
        if (atomic_load_explicit(&c->runs[i]->job->cancelled, memory_order_relaxed))
            return 1;
    for (int i = 0; i < c->count; i++)
        srv_job_progress(c->runs[i]->job, c->runs[i]->next, done, false);
    return 0;
}

/* A run's part of the time that they take: by its images. */
static double part_of(const struct company *c, const struct srv_run *run)
{
    return (double)run->job->params->spec.num_images / (double)c->images;
}

static struct company gather(struct srv_run *const *runs, int count, int64_t now, const atomic_bool *stop)
{
    struct company c = {.runs = runs, .count = count, .until = INT64_MAX, .stop = stop};

    for (int i = 0; i < count; i++)
        c.images += runs[i]->job->params->spec.num_images;
    for (int i = 0; i < count; i++) {
        double left = (runs[i]->limit - runs[i]->seconds) * 1000 / part_of(&c, runs[i]);

        if (runs[i]->limit > 0 && now + (int64_t)left < c.until)
            c.until = now + (int64_t)left;
    }
    return c;
}

static int poll_part(void *user, double done)
{
    const struct srv_part *part = user;

    return part->whole->poll(part->whole->user, part->first + part->share * done);
}

struct els_watch srv_part_watch(struct srv_part *part)
{
    return (struct els_watch){poll_part, part};
}

bool srv_runs_alike(const struct srv_run *a, const struct srv_run *b)
{
    const struct els_sampler *x = a->kind->sampler ? a->kind->sampler(a) : NULL;
    const struct els_sampler *y = b->kind->sampler ? b->kind->sampler(b) : NULL;

    return x && y && els_samplers_alike(x, y);
}

static int step_together(struct srv_run *const *runs, int count, struct els_pool *pool, const struct els_watch *watch,
                         struct els_error *err)
{
    struct els_sampler *samplers[SRV_MOST_RUNS];
    int status;

    for (int i = 0; i < count; i++)
        samplers[i] = runs[i]->kind->sampler(runs[i]);
    status = els_samplers_step(samplers, count, pool, watch, err);
    for (int i = 0; status == 0 && i < count; i++)
        runs[i]->kind->stepped(runs[i]);
    return status;
}

int srv_runs_step(struct srv_run *const *runs, int count, struct els_pool *pool, const atomic_bool *stop,
                  struct els_error *err)
{
    int64_t began = srv_monotonic_ms();
    struct company company = gather(runs, count, began, stop);
    struct els_watch watch = {poll, &company};
    double seconds;
    int status;

    assert(count <= SRV_MOST_RUNS);
    if (poll(&company, 0))
        return ELS_ECANCELLED;
    status = count == 1 ? runs[0]->kind->step(runs[0], pool, &watch, err)
                        : step_together(runs, count, pool, &watch, err);
    for (int i = 0; status == 0 && i < count; i++) {
        runs[i]->next++;
        srv_job_progress(runs[i]->job, runs[i]->next, 0, srv_run_finished(runs[i]));
        preview_all(runs[i]);
    }
    seconds = (double)(srv_monotonic_ms() - began) / 1000;
    for (int i = 0; i < count; i++) {
        runs[i]->seconds += seconds * part_of(&company, runs[i]);
        runs[i]->share += seconds / count; /* the same for all, so that they stay together */
    }
    return status;
}

/* ---- the outcome ---- */

const char *srv_run_engine(struct srv_run *run)
{
    json_t *json = json_pack("{s:s, s:s, s:f}", "version", ELS_VERSION, "kernel", els_engine_kernel(),
                             "certified_error", run->kind->certified_error(run));

    free(run->engine);
    run->engine = els_json_text(json, JSON_COMPACT);
    json_decref(json);
    return run->engine;
}

int srv_run_outcome(struct srv_run *run, struct els_pool *pool, struct srv_outcome *outcome,
                    struct els_error *err)
{
    int status = run->kind->finish(run, pool, err);

    if (status < 0)
        return status;
    if (!run->result || !srv_run_engine(run))
        return els_fail(err, ELS_ENOMEM, NULL, "There is no memory for the result.");
    *outcome = (struct srv_outcome){
        .status = SRV_SUCCEEDED,
        .steps_done = run->job->params->num_steps,
        .result = run->result,
        .engine = run->engine,
        .num_images = run->job->params->spec.num_images,
        .tensors = run->kept,
        .num_tensors = SRV_MAX_OUTPUTS,
        .pictures = run->pictures,
        .num_pictures = run->num_pictures,
        .owner = run->job->record.owner,
        .save_as = run->scales ? run->save_as : NULL,
        .scales = run->scales,
    };
    return 0;
}
