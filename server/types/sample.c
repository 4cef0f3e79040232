/*
 * The kind "sample": images from noise. Here is what its body may say and what it keeps; sample_run.c computes it.
 * The handler pool calls settle(), from any of its threads; no state.
 *
 * The last check makes a sampler for one image and throws it away: then the library itself has accepted the
 * parameters, and an accepted job cannot fail for them.
 */
#include "server/types/sample.h"

#include <string.h>
#include <sys/random.h>

#include "els/effort.h"
#include "els/mosaic.h"
#include "els/scale_auto.h"
#include "server/params/params_fields.h"
#include "server/params/saved_scales.h"

_Static_assert(sizeof(enum els_machine) == sizeof(int), "srv_read_choice writes an int");

/* ---- what is kept ---- */

static struct els_tensor describe_images(const struct srv_extent *e)
{
    return els_tensor_view(ELS_F32, 4, (const int64_t[]){e->num_images, e->shape.c, e->shape.h, e->shape.w}, NULL);
}

/* [N,S,C,H,W] */
static struct els_tensor describe_steps(const struct srv_extent *e, int64_t steps)
{
    return els_tensor_view(ELS_F32, 5,
                           (const int64_t[]){e->num_images, steps, e->shape.c, e->shape.h, e->shape.w}, NULL);
}

static struct els_tensor describe_x0(const struct srv_extent *e)
{
    return describe_steps(e, e->num_steps);
}

static struct els_tensor describe_xt(const struct srv_extent *e)
{
    return describe_steps(e, e->num_steps + 1); /* with the initial noise */
}

static struct els_tensor describe_entropy(const struct srv_extent *e)
{
    return els_tensor_view(ELS_F32, 4, (const int64_t[]){e->num_images, e->num_steps, e->shape.h, e->shape.w}, NULL);
}

/* Of mosaics, [N,S,H,W,…]; `steps` 0: of the last step alone, [N,H,W,…]. A `tail` of 0 ends the dimensions. */
static struct els_tensor describe_mosaic(enum els_dtype dtype, const struct srv_extent *e, int64_t steps,
                                         int64_t tail, int64_t end)
{
    int64_t dims[ELS_TENSOR_MAX_DIMS];
    int n = 0;

    dims[n++] = e->num_images;
    if (steps > 0)
        dims[n++] = steps;
    dims[n++] = e->shape.h;
    dims[n++] = e->shape.w;
    if (tail > 0)
        dims[n++] = tail;
    if (end > 0)
        dims[n++] = end;
    return els_tensor_view(dtype, n, dims, NULL);
}

static struct els_tensor describe_places(const struct srv_extent *e)
{
    return describe_mosaic(ELS_I32, e, e->num_steps, e->depth, SRV_PLACE_VALUES);
}

static struct els_tensor describe_weights(const struct srv_extent *e)
{
    return describe_mosaic(ELS_F32, e, e->num_steps, e->depth, 0);
}

static struct els_tensor describe_regions(const struct srv_extent *e)
{
    return describe_mosaic(ELS_I32, e, e->num_steps, 0, 0);
}

static struct els_tensor describe_final_places(const struct srv_extent *e)
{
    return describe_mosaic(ELS_I32, e, 0, e->depth, SRV_PLACE_VALUES);
}

static struct els_tensor describe_final_weights(const struct srv_extent *e)
{
    return describe_mosaic(ELS_F32, e, 0, e->depth, 0);
}

static struct els_tensor describe_final_regions(const struct srv_extent *e)
{
    return describe_mosaic(ELS_I32, e, 0, 0, 0);
}

static const struct srv_output outputs[] = {
    [SRV_SAMPLE_IMAGES] = {.word = "image", .tensor = SRV_IMAGES_TENSOR, .describe = describe_images, .always = true},
    [SRV_SAMPLE_X0] = {.word = "x0", .tensor = "x0", .describe = describe_x0},
    [SRV_SAMPLE_XT] = {.word = "xt", .tensor = "xt", .describe = describe_xt},
    [SRV_SAMPLE_ENTROPY] = {.word = "entropy", .tensor = "entropy", .describe = describe_entropy},
    [SRV_SAMPLE_MOSAIC] = {.word = "mosaic", .tensor = "mosaic", .describe = describe_places},
    [SRV_SAMPLE_WEIGHTS] = {.word = "", .tensor = "mosaic_weights", .describe = describe_weights},
    [SRV_SAMPLE_REGIONS] = {.word = "", .tensor = "mosaic_regions", .describe = describe_regions},
    [SRV_SAMPLE_FINAL_MOSAIC] = {.word = "final_mosaic", .tensor = "final_mosaic",
                                 .describe = describe_final_places},
    [SRV_SAMPLE_FINAL_WEIGHTS] = {.word = "", .tensor = "final_mosaic_weights", .describe = describe_final_weights},
    [SRV_SAMPLE_FINAL_REGIONS] = {.word = "", .tensor = "final_mosaic_regions", .describe = describe_final_regions},
    {0},
};

/* ---- what depends on several fields ---- */

static void settle_num_images(struct srv_reading *r)
{
    struct els_sample_spec *spec = &r->params->spec;

    if (r->noise_images == 0)
        return;
    if (!r->num_images_given)
        spec->num_images = r->noise_images;
    if (spec->num_images != r->noise_images)
        srv_fault(r->faults, "/noise", "noise holds %lld images, but num_images is %lld; they must be the same.",
                  (long long)r->noise_images, (long long)spec->num_images);
    srv_resolve(r, "num_images", json_integer(spec->num_images));
}

/* A bank's own list is said as pairs, which serve any number of steps. */
static void resolve_as_pairs(struct srv_reading *r)
{
    srv_resolve(r, "scales", srv_scales_json(&r->params->spec.scales));
}

void srv_sample_settle_steps(struct srv_reading *r)
{
    struct els_sample_spec *spec = &r->params->spec;
    int64_t n = r->num_inference_steps;
    int64_t max = srv_field_max(&srv_field_num_inference_steps, &r->source->limits);

    if (n == 0)
        n = r->list_length ? r->list_length : r->alpha_bar_length ? (int64_t)r->alpha_bar_length - 1 : 20;
    if (n < 2 || n > max)
        srv_fault(r->faults, "/num_inference_steps",
                  "num_inference_steps is %lld, the length of the list; it must be from 2 to %lld.", (long long)n,
                  (long long)max);
    if (r->list_length && r->list_length != n) {
        if (r->list_is_banks)
            resolve_as_pairs(r);
        else
            srv_fault(r->faults, "/scales", "scales has %d entries; a list must have num_inference_steps = %lld.",
                      r->list_length, (long long)n);
    }
    if (r->alpha_bar_length && (int64_t)r->alpha_bar_length != n + 1)
        srv_fault(r->faults, "/noise_schedule/alpha_bar",
                  "noise_schedule.alpha_bar has %zu entries; it must have num_inference_steps + 1 = %lld.",
                  r->alpha_bar_length, (long long)n + 1);
    spec->num_inference_steps = (int)n;
    r->params->num_steps = (int)(spec->start_step == ELS_START_FULL ? n : n - 1);
    srv_resolve(r, "num_inference_steps", json_integer(n));
}

static void settle_seed(struct srv_reading *r)
{
    struct els_sample_spec *spec = &r->params->spec;
    uint32_t random = 0;

    if (r->seed_given) {
        if (spec->seed + (uint64_t)spec->num_images - 1 > ELS_MAX_SEED)
            srv_fault(r->faults, "/seed", "seed is %llu; with %lld images it must be at most %llu.",
                      (unsigned long long)spec->seed, (long long)spec->num_images,
                      (unsigned long long)(ELS_MAX_SEED - (uint64_t)spec->num_images + 1));
    } else {
        /* 32 bits: all that torch's generator uses, and short enough to copy by hand. */
        if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
            srv_fault_memory(r->faults);
        spec->seed = random;
    }
    srv_resolve(r, "seed", json_integer((json_int_t)spec->seed));
}

/* What comes along with what was asked for. A mosaic is told with its entropy and its regions. */
static void settle_outputs(struct srv_reading *r)
{
    struct srv_params *p = r->params;

    if (p->outputs & 1u << SRV_SAMPLE_MOSAIC)
        p->outputs |= 1u << SRV_SAMPLE_ENTROPY | 1u << SRV_SAMPLE_WEIGHTS | 1u << SRV_SAMPLE_REGIONS;
    if (p->outputs & 1u << SRV_SAMPLE_FINAL_MOSAIC)
        p->outputs |= 1u << SRV_SAMPLE_ENTROPY | 1u << SRV_SAMPLE_FINAL_WEIGHTS | 1u << SRV_SAMPLE_FINAL_REGIONS;
    if (p->outputs & (1u << SRV_SAMPLE_MOSAIC | 1u << SRV_SAMPLE_FINAL_MOSAIC))
        p->depth = (int)p->mosaic_top;
    p->spec.entropy = (p->outputs & 1u << SRV_SAMPLE_ENTROPY) != 0;
    srv_resolve_outputs(r);
}

bool srv_sample_has_mosaic(const struct srv_params *p, int step)
{
    return p->outputs & 1u << SRV_SAMPLE_MOSAIC ||
           (p->outputs & 1u << SRV_SAMPLE_FINAL_MOSAIC && step == p->num_steps - 1);
}

/* What is told of finished images is found by two scans: one like a mosaic's, one for the nearest whole image. */
static double findings_cost(const struct srv_params *p, int scale)
{
    if (!(p->outputs & (1u << SRV_SAMPLE_MOSAIC | 1u << SRV_SAMPLE_FINAL_MOSAIC)))
        return 0;
    return SRV_MOSAIC_PASSES * srv_pass_cost(p, scale, p->bank_images) +
           els_effort_pairs(ELS_MACHINE_ES, p->spec.candidates, p->shape, 1) * (double)p->bank_images;
}

struct srv_sample_cost srv_sample_step_cost(const struct srv_params *p, int step, int scale)
{
    double pass = srv_pass_cost(p, scale, p->bank_images) * (double)p->spec.num_images;
    bool last = step == p->num_steps - 1;

    return (struct srv_sample_cost){
        .mosaics = srv_sample_has_mosaic(p, step) ? SRV_MOSAIC_PASSES * pass : 0,
        .pass = pass,
        .findings = last ? findings_cost(p, scale) * (double)p->spec.num_images : 0,
    };
}

double srv_sample_cost_sum(struct srv_sample_cost cost)
{
    return cost.mosaics + cost.pass + cost.findings;
}

/* `sampler` has the steps, and other numbers of images. */
static void settle_cost(struct srv_reading *r, const struct els_sampler *sampler)
{
    int64_t bank_images = els_sampler_num_bank_images(sampler);
    struct srv_params *p = r->params;

    if (p->auto_scales) {
        if (bank_images < 2)
            srv_fault(r->faults, "/scales",
                      "scales is \"auto\", which holds images out of the bank: it needs 2 or more.");
        /* As scale_auto.h says; the scales that it tries most are small ones. */
        p->setup_cost = srv_pass_cost(p, 3, bank_images < ELS_AUTO_IMAGES ? bank_images : ELS_AUTO_IMAGES) * 4 *
                        ELS_AUTO_HELD * ELS_AUTO_TIMES;
    }
    p->bank_images = bank_images;
    p->cost = p->setup_cost;
    for (int i = 0; i < els_sampler_num_steps(sampler); i++)
        p->cost += srv_sample_cost_sum(srv_sample_step_cost(p, i, els_sampler_step_info(sampler, i).p));
}

/* What the job holds beside its results while it runs. `sampler` is like its own, with one image. */
static void settle_memory(struct srv_reading *r, const struct els_sampler *sampler)
{
    struct srv_params *p = r->params;
    struct els_evaluation e = els_sampler_evaluation(sampler);
    uint64_t n = (uint64_t)p->spec.num_images, values = els_shape_values(p->shape),
             pixels = values / (uint64_t)p->shape.c, mosaic;
    int threads = r->source->limits.threads > 0 ? r->source->limits.threads : 1, least = 0, most = 0;

    for (int i = 0; i < els_sampler_num_steps(sampler); i++) {
        int scale = els_sampler_step_info(sampler, i).p;

        least = i == 0 || scale < least ? scale : least;
        most = scale > most ? scale : most;
    }
    for (int k = 0; k < 2; k++) {
        e.p = k == 0 ? &least : &most;
        srv_settle_evaluation_bytes(r, &e, (int64_t)n, p->spec.entropy);
        if (p->auto_scales)
            srv_settle_evaluation_bytes(r, &e, 4 * ELS_AUTO_HELD, false);
        mosaic = p->outputs & (1u << SRV_SAMPLE_MOSAIC | 1u << SRV_SAMPLE_FINAL_MOSAIC)
                     ? els_mosaic_memory(&e, p->depth, threads)
                     : 0;
        p->run_bytes = mosaic > p->run_bytes ? mosaic : p->run_bytes;
    }
    if (p->auto_scales)
        p->run_bytes += (ELS_MAX_P_COUNT + 3) * ELS_AUTO_HELD * values * sizeof(float);
    /* x and x0, once more where passes are shared; the picture; what is told of it. */
    p->run_bytes += n * (4 * values * sizeof(float) + pixels * sizeof(float) + sizeof(struct els_noise) + values +
                         SRV_SAMPLE_IMAGE_TEXT);
}

/* The library's own word on the parameters. */
void srv_sample_settle_sampler(struct srv_reading *r)
{
    struct els_sample_spec one = r->params->spec;
    struct els_sampler *sampler = NULL;
    struct els_error err = {0};
    int status;

    one.num_images = 1;
    status = els_sampler_new(&sampler, &one, &err);
    if (status == 0)
        settle_cost(r, sampler);
    if (status == 0)
        settle_memory(r, sampler);
    els_sampler_free(sampler);
    if (status < 0)
        srv_fault_library(r, &err);
}

/* Scales that the job finds for itself, and mosaics of every step, are far more work than what could be shared. */
static void settle_shares(struct srv_params *p)
{
    p->shares = !p->auto_scales && !(p->outputs & 1u << SRV_SAMPLE_MOSAIC);
}

static void settle(struct srv_reading *r)
{
    settle_outputs(r);
    settle_shares(r->params);
    settle_num_images(r);
    srv_sample_settle_steps(r);
    settle_seed(r);
    if (r->faults->count == 0)
        srv_settle_bytes(r);
    if (r->faults->count == 0)
        srv_sample_settle_sampler(r);
}

/* ---- the body ---- */

static const struct srv_field field_outputs = {
    .name = "outputs", .type = "array", .fallback = "[\"image\",\"x0\"]", .read = srv_read_outputs,
    .choice = srv_output_word, .doc = "What the job keeps; the images are always kept. mosaic: where every pixel comes from, at every step; "
           "final_mosaic: at the last step only, much sooner.",
};

static const struct srv_field field_mosaic_top = {
    .name = "mosaic_top", .type = "integer", .fallback = "4", .read = srv_read_integer,
    .target = offsetof(struct srv_params, mosaic_top), .min = 1, .max = ELS_MAX_TOP,
    .doc = "How many candidates a mosaic tells of each pixel.",
};

static const struct srv_field *const fields[] = {
    &srv_field_bank, &srv_field_machine, &srv_field_candidates, &srv_field_label, &srv_field_num_images,
    &srv_field_num_inference_steps, &srv_field_start_step, &srv_field_sampler, &srv_field_noise_schedule,
    &srv_field_scales, &srv_field_seed, &srv_field_exclude, &srv_field_noise, &srv_field_max_samples,
    &srv_field_tolerance, &field_outputs, &field_mosaic_top, &srv_field_client_ref, NULL,
};

const struct srv_job_type srv_job_type_sample = {
    .name = "sample",
    .path = "/v1/samples",
    .fields = fields,
    .outputs = outputs,
    .has_images = true,
    .settle = settle,
    .begin = srv_sample_begin,
    .work = srv_sample_work,
    .step = srv_sample_step,
    .sampler = srv_sample_sampler,
    .stepped = srv_sample_stepped,
    .preview = srv_sample_preview,
    .finish = srv_sample_finish,
    .end = srv_sample_end,
    .certified_error = srv_sample_certified_error,
};
