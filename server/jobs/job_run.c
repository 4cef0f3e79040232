/*
 * One job under computation, of any kind. An executor calls this, from its thread; polls run on the pool's workers, too.
 * They touch only atomics, the turn and the job, which look after themselves, and what does not change in a step.
 *
 * Tensors are laid out image by image from the beginning, so an image's part is one block for the store. Their size was
 * checked when the job was accepted. Previews are made only while somebody looks on, and a
 * run's never take more than a twentieth of the time: after some that took d come none for 19·d.
 */
#include "server/jobs/job_run.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "els/picture.h"
#include "server/base/base64.h"
#include "server/base/clock.h"

enum {
    PREVIEW_IMAGES = 8,
    PREVIEW_PIXELS = 256 * 256,
    PREVIEW_MS = 100,
    PREVIEW_SHARE = 19,
    MAX_PNG = 64 << 20,
};

/* ---- tensors ---- */

static int allocate(struct srv_job_run *run)
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

void srv_job_run_keep(struct srv_job_run *run, int output, int slot, const float *from, size_t size)
{
    size_t values = run->kept[output].values;
    float *to = run->tensors[output];

    for (int64_t n = 0; to && from && n < run->job->params->spec.num_images; n++)
        memcpy(to + (size_t)n * values + (size_t)slot * size, from + (size_t)n * size, size * sizeof(float));
}

struct srv_job_run *srv_job_run_new(struct srv_job *job)
{
    struct srv_job_run *run = els_alloc_array(1, sizeof(*run));

    if (!run)
        return NULL;
    run->job = job;
    run->kind = job->params->kind;
    atomic_init(&run->left, job->params->cost);
    return run;
}

void srv_job_run_plan(struct srv_job_run *run)
{
    int steps = run->job->params->num_steps;

    run->total = run->done = 0;
    for (int i = 0; i < steps; i++) {
        double work = run->kind->work(run, i);

        run->total += work;
        run->done += i < run->next ? work : 0;
    }
    atomic_store(&run->left, run->total - run->done);
}

/* What finish() has made of it so far. */
static void drop_result(struct srv_job_run *run)
{
    for (int64_t i = 0; run->pictures && i < run->num_pictures; i++)
        free(run->pictures[i].png);
    free(run->pictures);
    free(run->result);
    free(run->scales);
    run->pictures = NULL;
    run->num_pictures = 0;
    run->result = run->scales = NULL;
}

struct srv_job_run *srv_job_run_free(struct srv_job_run *run)
{
    if (!run)
        return NULL;
    run->kind->end(run);
    drop_result(run);
    for (int i = 0; i < SRV_MAX_OUTPUTS; i++)
        free(run->tensors[i]);
    free(run->engine);
    srv_charge_give(&run->charge);
    srv_job_unref(run->job);
    free(run);
    return NULL;
}

bool srv_job_run_finished(const struct srv_job_run *run)
{
    return run->next == run->job->params->num_steps;
}

bool srv_job_run_late(const struct srv_job_run *run)
{
    const double tick = 0.001; /* the clock's */

    return run->limit > 0 && run->seconds + tick >= run->limit;
}

double srv_job_run_left(const struct srv_job_run *run)
{
    return atomic_load(&run->left);
}

/* With `part` of the next step, the share of all steps' work that is done. */
static double share_done(const struct srv_job_run *run, double part)
{
    double next = srv_job_run_finished(run) ? 0 : run->kind->work(run, run->next);

    return run->total > 0 ? fmin(1, (run->done + part * next) / run->total) : 0;
}

/* ---- previews ---- */

static int preview(struct srv_job_run *run, int64_t image, double t, const float *values)
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
static void preview_all(struct srv_job_run *run)
{
    struct els_shape shape = run->job->params->shape;
    int64_t images = run->job->params->spec.num_images, began = srv_monotonic_ms(), spent;
    const float *values;
    double t = 0;

    if (!run->kind->preview || shape.h * shape.w > PREVIEW_PIXELS ||
        (!srv_job_run_finished(run) && began < run->next_preview) || srv_events_readers(run->job->events) == 0)
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

/* Runs that compute together; mostly it is one. */
struct group {
    struct srv_job_run *const *runs;
    int count;
    int64_t images;
    const struct srv_compute *with;
    double began; /* seconds of the turn */
    double limit; /* so many later one of them is late; 0: no limit */
};

/* Flags alone: turns.h. */
static int is_to_stop(void *user)
{
    const struct group *g = user;

    /* relaxed: nothing but the flags themselves is read */
    if (atomic_load_explicit(g->with->stop, memory_order_relaxed))
        return 1;
    for (int i = 0; i < g->count; i++)
        if (srv_job_is_cancelled(g->runs[i]->job))
            return 1;
    return 0;
}

/* On any worker, some twenty times a second. */
static int poll(void *user, double done)
{
    struct group *g = user;

    if (srv_turn_poll(g->with->turn, is_to_stop, g))
        return 1;
    if (g->limit > 0 && srv_turn_seconds(g->with->turn) - g->began >= g->limit)
        return 1;
    for (int i = 0; i < g->count; i++)
        srv_job_progress(g->runs[i]->job, g->runs[i]->next, share_done(g->runs[i], done), false);
    return 0;
}

/* A run's part of the time that they take: by its images. */
static double part_of(const struct group *g, const struct srv_job_run *run)
{
    return (double)run->job->params->spec.num_images / (double)g->images;
}

/* Waits for the turn. ELS_ECANCELLED: one of them is to stop. */
static int gather(struct group *g, struct srv_job_run *const *runs, int count, const struct srv_compute *with)
{
    *g = (struct group){.runs = runs, .count = count, .with = with};
    for (int i = 0; i < count; i++)
        g->images += runs[i]->job->params->spec.num_images;
    for (int i = 0; i < count; i++) {
        double left = (runs[i]->limit - runs[i]->seconds) / part_of(g, runs[i]);

        if (runs[i]->limit > 0 && (g->limit == 0 || left < g->limit))
            g->limit = fmax(left, 1e-9);
    }
    if (srv_turn_poll(with->turn, is_to_stop, g))
        return ELS_ECANCELLED;
    g->began = srv_turn_seconds(with->turn);
    return 0;
}

/* They have computed since. */
static void count_time(const struct group *g)
{
    double seconds = srv_turn_seconds(g->with->turn) - g->began;

    for (int i = 0; i < g->count; i++) {
        g->runs[i]->seconds += seconds * part_of(g, g->runs[i]);
        g->runs[i]->share += seconds / g->count;
    }
}

int srv_job_run_begin(struct srv_job_run *run, const struct srv_compute *with, struct els_error *err)
{
    struct group group;
    int status = gather(&group, &run, 1, with);

    if (status < 0)
        return status;
    status = allocate(run);
    if (status < 0)
        els_fail(err, status, NULL, "There is no memory for the %llu bytes of the outputs.",
                 (unsigned long long)run->job->params->result_bytes);
    else
        status = run->kind->begin(run, err);
    if (status == 0)
        srv_job_run_plan(run);
    count_time(&group);
    return status;
}

static int poll_part(void *user, double done)
{
    const struct srv_part *part = user;

    return part->whole->poll(part->whole->user, part->first + part->share * done);
}

struct els_progress srv_part_watch(struct srv_part *part)
{
    return (struct els_progress){poll_part, part};
}

bool srv_job_runs_alike(const struct srv_job_run *a, const struct srv_job_run *b)
{
    const struct els_sampler *x = a->kind->sampler ? a->kind->sampler(a) : NULL;
    const struct els_sampler *y = b->kind->sampler ? b->kind->sampler(b) : NULL;

    return x && y && els_samplers_alike(x, y);
}

static int step_together(struct srv_job_run *const *runs, int count, struct els_pool *pool, const struct els_progress *watch,
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

/* A step of this one is done. */
static void move(struct srv_job_run *run)
{
    run->done += run->kind->work(run, run->next);
    run->next++;
    atomic_store(&run->left, run->total - run->done);
    srv_job_progress(run->job, run->next, share_done(run, 0), srv_job_run_finished(run));
    preview_all(run);
}

int srv_job_runs_step(struct srv_job_run *const *runs, int count, const struct srv_compute *with, struct els_error *err)
{
    struct group group;
    struct els_progress watch = {poll, &group};
    int status = gather(&group, runs, count, with);

    assert(count <= SRV_MOST_RUNS);
    if (status < 0)
        return status;
    status = count == 1 ? runs[0]->kind->step(runs[0], with->pool, &watch, err)
                        : step_together(runs, count, with->pool, &watch, err);
    for (int i = 0; status == 0 && i < count; i++)
        move(runs[i]);
    count_time(&group);
    return status;
}

/* ---- the outcome ---- */

const char *srv_job_run_engine(struct srv_job_run *run)
{
    json_t *json = json_pack("{s:s, s:s, s:f}", "version", ELS_VERSION, "kernel", els_engine_kernel(),
                             "certified_error", run->kind->certified_error(run));

    free(run->engine);
    run->engine = els_json_text(json, JSON_COMPACT);
    json_decref(json);
    return run->engine;
}

int srv_job_run_outcome(struct srv_job_run *run, const struct srv_compute *with, struct srv_outcome *outcome,
                    struct els_error *err)
{
    struct group group;
    struct els_progress watch = {poll, &group};
    int status = gather(&group, &run, 1, with);

    if (status < 0)
        return status;
    group.limit = 0; /* who has come so far may end */
    drop_result(run);
    status = run->kind->finish(run, with->pool, &watch, err);
    if (status == 0 && poll(&group, 0))
        status = ELS_ECANCELLED;
    count_time(&group);
    if (status < 0)
        return status;
    if (!run->result || !srv_job_run_engine(run))
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
