/*
 * The kind "comparison": a machine and the machine `is` draw from a network's own noise, and their images are held
 * against the network's (compare.h). What the body may say is that of a sample, with the network's images and
 * their seeds (or noise) in the place of num_images and seed. settle() runs in the handler pool, the rest on an
 * executor's thread.
 *
 * Seeds need not follow each other. Where they do not, x_T is drawn for each of them here, which is what a sampler
 * would do; ddpm draws on after x_T, so it wants seeds in a row.
 */
#include "els/compare.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/sha256.h"
#include "els/effort.h"
#include "els/mem.h"
#include "server/jobs/job_run.h"
#include "server/params/caption.h"
#include "server/params/params_fields.h"
#include "server/types/sample.h"

enum { THEORY, IDEAL, MAX_PNG = 256 << 20, HASH_PIECE = 4 << 20 };

/* ---- what is kept ---- */

static struct els_tensor describe(const struct srv_extent *e)
{
    return els_tensor_view(ELS_F32, 4, (const int64_t[]){e->num_images, e->shape.c, e->shape.h, e->shape.w}, NULL);
}

static const struct srv_output outputs[] = {
    [THEORY] = {.word = "images", .tensor = SRV_IMAGES_TENSOR, .describe = describe, .always = true},
    [IDEAL] = {.word = "ideal", .tensor = "ideal", .describe = describe, .always = true},
    {0},
};

/* ---- the body ---- */

static int read_images(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    int64_t count = 1;

    r->params->images = srv_read_images(r, f->name, value, "S", r->source->limits.max_num_images, &count);
    r->params->spec.num_images = count;
    return r->params->images ? 0 : ELS_EINVAL;
}

/* The tensor of seeds as a JSON list, which is read in its place. NULL and a fault. */
static json_t *tensor_list(struct srv_reading *r, const json_t *value)
{
    struct srv_found_tensor found = SRV_FOUND_TENSOR_INIT;
    char dims[96];
    json_t *list = NULL;

    if (srv_find_tensor(r, "seeds", value, &found) == 0) {
        const struct els_tensor *x = &found.tensor;

        if (x->dtype != ELS_I64 || x->ndim != 1 || x->dims[0] < 1 || x->dims[0] > ELS_MAX_COMPARED)
            srv_fault(r->faults, "/seeds", "seeds is a tensor of %s %s; it must be I64 [S] with S from 1 to %d.",
                      els_dtype_name(x->dtype), els_tensor_shape_text(x, dims, sizeof(dims)), ELS_MAX_COMPARED);
        else if (!(list = json_array()))
            srv_fault_memory(r->faults);
        for (int64_t i = 0; list && i < x->dims[0]; i++) {
            int64_t seed;

            memcpy(&seed, (const char *)x->data + (size_t)i * sizeof(seed), sizeof(seed));
            json_array_append_new(list, json_integer(seed));
        }
    }
    srv_found_tensor_deinit(&found);
    return list;
}

static int take_seeds(struct srv_reading *r, const json_t *list)
{
    size_t n = json_array_size(list);
    char pointer[96], text[SRV_VALUE_TEXT];
    int64_t seed;

    if (n < 1 || n > ELS_MAX_COMPARED)
        return srv_fault(r->faults, "/seeds", "seeds has %zu entries; it must have one for each image.", n);
    r->params->seeds = els_alloc_array(n, sizeof(*r->params->seeds));
    if (!r->params->seeds)
        return srv_fault_memory(r->faults);
    r->params->num_seeds = (int64_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);

        if (!srv_whole(entry, &seed) || seed < 0 || seed > (int64_t)ELS_MAX_SEED) {
            snprintf(pointer, sizeof(pointer), "/seeds/%zu", i);
            return srv_fault(r->faults, pointer, "%s is %s; it must be a whole number from 0 to 9007199254740991.",
                             pointer + 1, srv_value_text(entry, text));
        }
        r->params->seeds[i] = (uint64_t)seed;
    }
    return srv_resolve(r, "seeds", json_deep_copy(list));
}

static int read_seeds(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    json_t *list;
    int status;

    if (!srv_tensor_is_given(r, f->name, value))
        return srv_resolve(r, f->name, json_null());
    list = json_is_array(value) ? json_incref((json_t *)value) : tensor_list(r, value);
    status = list ? take_seeds(r, list) : ELS_EINVAL;
    json_decref(list);
    return status;
}

static bool in_a_row(const struct srv_params *p)
{
    for (int64_t i = 1; i < p->num_seeds; i++)
        if (p->seeds[i] != p->seeds[0] + (uint64_t)i)
            return false;
    return true;
}

/* x_T of each seed, as a sampler would draw it. */
static void draw(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    size_t values = els_shape_values(p->shape);
    struct els_noise noise;

    p->drawn = els_alloc_array((size_t)p->num_seeds, values * sizeof(float));
    if (!p->drawn) {
        srv_fault_memory(r->faults);
        return;
    }
    for (int64_t i = 0; i < p->num_seeds; i++) {
        els_noise_init(&noise, p->spec.noise, p->seeds[i]);
        els_noise_randn(&noise, p->drawn + (size_t)i * values, values);
    }
    p->spec.x_T = p->drawn;
}

static void settle_noise(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    int64_t n = p->spec.num_images;

    if (!p->seeds == !p->spec.x_T)
        srv_fault(r->faults, "/seeds", "Give the seeds of the images, or their noise as a tensor, and not both.");
    else if (p->seeds && p->num_seeds != n)
        srv_fault(r->faults, "/seeds", "seeds has %lld entries, but images has %lld.", (long long)p->num_seeds,
                  (long long)n);
    else if (p->spec.x_T && r->noise_images != n)
        srv_fault(r->faults, "/noise", "noise has %lld images, but images has %lld.", (long long)r->noise_images,
                  (long long)n);
    else if (p->seeds && in_a_row(p))
        p->spec.seed = p->seeds[0];
    else if (p->seeds && p->spec.sampler == ELS_DDPM)
        srv_fault(r->faults, "/seeds", "The sampler ddpm needs seeds in a row: s, s + 1, s + 2 ...");
    else if (p->seeds)
        draw(r);
}

/* Of one step of `is`, for all images. */
static double ideal_work(const struct srv_params *p)
{
    return els_effort_pairs(ELS_MACHINE_IS, p->spec.candidates, p->shape, 1) * (double)p->bank_images *
           (double)p->spec.num_images;
}

/* The second sampler; the sheet's tiles, its pixels and its PNG; what is told of each image. */
static void settle_memory(struct srv_params *p)
{
    uint64_t n = (uint64_t)p->spec.num_images, values = els_shape_values(p->shape);

    p->run_bytes += n * (2 * values * sizeof(float) + sizeof(struct els_noise)) +
                    3 * n * values * (sizeof(float) + 2) +
                    n * (2 * sizeof(struct els_compared) + SRV_SAMPLE_IMAGE_TEXT);
}

static void settle(struct srv_reading *r)
{
    struct srv_params *p = r->params;

    if (r->faults->count == 0)
        settle_noise(r);
    p->outputs = 1u << THEORY | 1u << IDEAL;
    srv_sample_settle_steps(r);
    if (r->faults->count == 0)
        srv_settle_bytes(r);
    if (r->faults->count == 0)
        srv_sample_settle_sampler(r);
    settle_memory(p);
    /* The machine's steps, then as many of `is`. */
    p->cost += p->num_steps * ideal_work(p);
    p->num_steps *= 2;
}

static const struct srv_field field_images = {
    .name = "images", .type = "string, object or null", .fallback = "null", .read = read_images,
    .doc = "The network's images [S,C,H,W]: the tensor images of a safetensors body, another by its name, or "
           "{\"npy_base64\": \"...\"}.",
};

static const struct srv_field field_seeds = {
    .name = "seeds", .type = "array, string, object or null", .fallback = "null", .read = read_seeds,
    .doc = "The seed of each image: a list, or a tensor of I64 [S]. Or send the noise itself.",
};

static const struct srv_field *const fields[] = {
    &srv_field_bank, &field_images, &field_seeds, &srv_field_machine, &srv_field_candidates, &srv_field_label,
    &srv_field_num_inference_steps, &srv_field_start_step, &srv_field_sampler, &srv_field_noise_schedule,
    &srv_field_scales, &srv_field_exclude, &srv_field_noise, &srv_field_max_samples, &srv_field_tolerance,
    &srv_field_client_ref, NULL,
};

/* ---- computing ---- */

struct comparing {
    struct els_sampler *theory, *ideal;
    struct els_scales scales; /* automatic ones, or empty */
};

static int make_sampler(struct els_sampler **out, const struct srv_job_run *run, enum els_machine machine,
                        const struct els_scales *scales, struct els_error *err)
{
    struct els_sample_spec spec = run->job->params->spec;

    spec.machine = machine;
    if (scales)
        spec.scales = *scales;
    return els_sampler_new(out, &spec, err);
}

static int begin(struct srv_job_run *run, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    struct comparing *work = els_alloc_array(1, sizeof(*work));
    int status;

    run->work = work;
    if (!work)
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    status = make_sampler(&work->ideal, run, ELS_MACHINE_IS, NULL, err);
    if (status == 0 && !p->auto_scales)
        status = make_sampler(&work->theory, run, p->spec.machine, NULL, err);
    return status;
}

static void end(struct srv_job_run *run)
{
    struct comparing *work = run->work;

    if (!work)
        return;
    els_sampler_free(work->theory);
    els_sampler_free(work->ideal);
    els_scales_deinit(&work->scales);
    free(work);
}

static double certified_error(const struct srv_job_run *run)
{
    return els_sampler_certified_error(((const struct comparing *)run->work)->theory);
}

static double work(const struct srv_job_run *run, int step)
{
    const struct srv_params *p = run->job->params;
    const struct els_sampler *theory = ((const struct comparing *)run->work)->theory;
    int steps = p->num_steps / 2;
    double setup = step == 0 ? p->setup_cost : 0;

    if (step >= steps)
        return ideal_work(p);
    if (theory)
        return setup + srv_sample_cost_sum(srv_sample_step_cost(p, step, els_sampler_step_info(theory, step).p));
    /* Before automatic scales are known, all steps are taken for equal. */
    return setup + (p->cost - p->setup_cost) / steps - ideal_work(p);
}

/* What the bank alone says about scales, before the first step. */
static int choose_scales(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch,
                         struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    struct comparing *work = run->work;
    struct srv_part part = {watch, 0, p->setup_cost / run->kind->work(run, 0)};
    struct els_progress partly = srv_part_watch(&part);
    int status = srv_sample_auto_scales(&work->scales, p, pool, &partly, err);

    if (status == 0)
        status = make_sampler(&work->theory, run, p->spec.machine, &work->scales, err);
    if (status == 0)
        srv_job_run_plan(run);
    return status;
}

static int step(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    struct comparing *work = run->work;
    struct srv_part part = {watch, 0, 1};
    struct els_progress partly = srv_part_watch(&part);
    int status = 0;

    if (!work->theory)
        status = choose_scales(run, pool, watch, err);
    if (status < 0)
        return status;
    part.first = run->next == 0 ? p->setup_cost / run->kind->work(run, 0) : 0;
    part.share = 1 - part.first;
    return els_sampler_step(run->next < p->num_steps / 2 ? work->theory : work->ideal, pool, &partly, err);
}

/* ---- the outcome ---- */

/* Adds {"pearson_r":…,…}. True when it failed. */
static bool add_agreement(json_t *to, const struct els_agreement *a)
{
    const char *name;
    bool failed = !to;

    for (int i = 0; (name = els_metric_name(i)) && !failed; i++)
        failed = json_object_set_new(to, name, json_real(els_metric_of(a, i))) < 0;
    return failed;
}

/* {…,"clamped":{…}}; NULL when out of memory. */
static json_t *compared_json(const struct els_compared *c)
{
    json_t *json = json_object(), *clamped = json_object();

    if (add_agreement(json, &c->plain) || add_agreement(clamped, &c->clamped) ||
        json_object_set(json, "clamped", clamped) < 0) {
        json_decref(json);
        json = NULL;
    }
    json_decref(clamped);
    return json;
}

static bool add_spreads(json_t *to, const struct els_spreads *s)
{
    const char *name;
    bool failed = !to;

    for (int i = 0; (name = els_metric_name(i)) && !failed; i++) {
        const struct els_spread *spread = els_metric_spread(s, i);

        failed = json_object_set_new(to, name,
                                     json_pack("{s:f, s:f, s:[f, f]}", "median", spread->median, "mean", spread->mean,
                                               "ci95", spread->low, spread->high)) < 0;
    }
    return failed;
}

static json_t *summary_json(const struct els_compared_summary *s)
{
    json_t *json = json_object(), *clamped = json_object();

    if (add_spreads(json, &s->plain) || add_spreads(clamped, &s->clamped) ||
        json_object_set(json, "clamped", clamped) < 0) {
        json_decref(json);
        json = NULL;
    }
    json_decref(clamped);
    return json;
}

static json_t *images_json(const struct srv_params *p, const struct els_comparison *c)
{
    json_t *list = json_array();

    for (int64_t i = 0; list && i < c->n; i++) {
        json_t *json = compared_json(&c->machine[i]);

        if (json)
            json_object_set_new(json, "index", json_integer(i));
        if (json)
            json_object_set_new(json, "seed", p->seeds ? json_integer((json_int_t)p->seeds[i]) : json_null());
        if (json)
            json_object_set_new(json, "is", compared_json(&c->is[i]));
        if (json_array_append_new(list, json) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static char *result_text(const struct srv_job_run *run, const struct els_comparison *c)
{
    const struct srv_params *p = run->job->params;
    const struct comparing *work = run->work;
    json_t *summary = summary_json(&c->summary), *json = NULL;
    const char *id = run->job->record.id;
    char *text = NULL;

    if (summary && json_object_set_new(summary, "is", summary_json(&c->is_summary)) == 0 &&
        json_object_set_new(summary, "beats_is", json_real(c->beats_is)) == 0)
        json = json_pack("{s:o, s:O, s:o, s:o, s:o}", "images", images_json(p, c), "summary", summary, "steps",
                         srv_sample_steps_json(work->theory, p), "sheet_url", json_sprintf("/v1/jobs/%s/sheet", id),
                         "tensors_url", json_sprintf("/v1/jobs/%s/tensors", id));
    if (json)
        text = els_json_text(json, JSON_COMPACT);
    json_decref(json);
    json_decref(summary);
    return text;
}

/* network | theory | ideal, a row per image, as the job's sheet. */
static int draw_sheet(struct srv_job_run *run, const struct els_progress *watch)
{
    const struct srv_params *p = run->job->params;
    _cleanup_(els_freep) char *caption = srv_caption(run->job->record.id, p->json, -1);
    const char *text[] = {"els", caption};
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG);
    struct els_picture picture = {0};
    struct els_sha256 hash;
    int status = ELS_ENOMEM;

    run->pictures = els_alloc_array(1, sizeof(*run->pictures));
    if (run->pictures && caption)
        status = els_compare_sheet(&picture, p->images, run->tensors[THEORY], run->tensors[IDEAL], p->spec.num_images,
                                   p->shape);
    if (status == 0)
        status = els_picture_write_png_watched(&png, &picture, text, 1, watch);
    els_picture_deinit(&picture);
    els_sha256_init(&hash);
    for (size_t at = 0; status == 0 && at < png.size; at += HASH_PIECE) {
        els_sha256_update(&hash, png.data + at, png.size - at < HASH_PIECE ? png.size - at : HASH_PIECE);
        status = watch->poll(watch->user, 1) ? ELS_ECANCELLED : 0;
    }
    if (status < 0) {
        els_buffer_deinit(&png);
        return status;
    }
    run->num_pictures = 1;
    run->pictures[0] = (struct srv_kept_picture){.image = SRV_PICTURE_SHEET, .png = png.data, .size = png.size};
    els_sha256_hex(&hash, run->pictures[0].sha256);
    return 0;
}

static int finish(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    const struct comparing *work = run->work;
    struct els_comparison c = {0};
    int status;

    srv_job_run_keep(run, THEORY, 0, els_sampler_x(work->theory), els_shape_values(p->shape));
    srv_job_run_keep(run, IDEAL, 0, els_sampler_x(work->ideal), els_shape_values(p->shape));
    status = els_compare(&c, p->images, run->tensors[THEORY], run->tensors[IDEAL], p->spec.num_images, p->shape, watch,
                         err);
    if (status < 0)
        return status;
    run->result = result_text(run, &c);
    els_comparison_deinit(&c);
    status = draw_sheet(run, watch);
    if (status == ELS_ECANCELLED)
        return status;
    if (status == ELS_ELIMIT)
        status = 0; /* as large a sheet is not promised; the tensors have it all */
    if (status < 0 || !run->result)
        return els_fail(err, ELS_ENOMEM, NULL, "There is no memory for the result.");
    return 0;
}

const struct srv_job_type srv_job_type_comparison = {
    .name = "comparison",
    .path = "/v1/comparisons",
    .fields = fields,
    .outputs = outputs,
    .has_sheet = true,
    .settle = settle,
    .begin = begin,
    .work = work,
    .step = step,
    .finish = finish,
    .end = end,
    .certified_error = certified_error,
};
