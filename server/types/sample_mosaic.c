/*
 * The mosaics of a sample: taken of the question that the sampler's next step will answer, image by image, before it
 * runs; and after the last step what is told of the finished images. Only the executor's thread comes here.
 *
 * Places and regions are int32, weights float32; all are kept in the run's tensors, whose values have four bytes.
 */
#include <string.h>

#include "els/mosaic.h"
#include "server/jobs/job_run.h"
#include "server/types/sample.h"

/* Where slot `slot` of image n of output i begins; NULL when it is not kept. */
static void *place_of(struct srv_job_run *run, int i, int64_t n, int slot)
{
    size_t slots = i < SRV_SAMPLE_FINAL_MOSAIC ? (size_t)run->job->params->num_steps : 1;
    float *tensor = run->tensors[i];

    return tensor ? tensor + (size_t)n * run->kept[i].values + (size_t)slot * (run->kept[i].values / slots) : NULL;
}

/* Into slot `slot` of image n, of output `first` and the two that come along with it. */
static void keep_mosaic(struct srv_job_run *run, int first, int64_t n, int slot, const struct els_mosaic *m)
{
    size_t pixels = (size_t)m->height * (size_t)m->width, count = pixels * (size_t)m->top;
    int32_t *places = place_of(run, first, n, slot);
    float *weights = place_of(run, first + 1, n, slot);
    void *regions = place_of(run, first + 2, n, slot);

    _Static_assert(sizeof(*m->region) == sizeof(int32_t), "regions are copied");
    if (!places)
        return;
    for (size_t i = 0; i < count; i++) {
        const struct els_candidate *c = &m->candidate[i];

        places[i * SRV_PLACE_VALUES] = (int32_t)c->image;
        places[i * SRV_PLACE_VALUES + 1] = c->row;
        places[i * SRV_PLACE_VALUES + 2] = c->column;
        weights[i] = (float)c->weight;
    }
    memcpy(regions, m->region, pixels * sizeof(int32_t));
}

int srv_sample_mosaics(struct srv_job_run *run, const struct els_sampler *sampler, struct els_pool *pool,
                       const struct els_progress *watch, struct els_error *err)
{
    const struct srv_params *p = run->job->params;
    struct els_evaluation e = els_sampler_evaluation(sampler);
    int64_t images = p->spec.num_images;
    bool last = run->next == p->num_steps - 1;
    struct srv_part part = {watch, 0, 1 / (double)images};
    struct els_progress partly = srv_part_watch(&part);
    struct els_mosaic *m = NULL;
    int status = 0;

    e.batch = 1;
    for (int64_t n = 0; n < images && status == 0; n++) {
        part.first = (double)n * part.share;
        status = els_mosaic_new(&m, &e, p->depth, pool, &partly, err);
        if (status == 0) {
            keep_mosaic(run, SRV_SAMPLE_MOSAIC, n, run->next, m);
            if (last)
                keep_mosaic(run, SRV_SAMPLE_FINAL_MOSAIC, n, 0, m);
        }
        m = status == 0 ? els_mosaic_free(m) : NULL;
        e.x += els_shape_values(p->shape);
    }
    return status;
}

int srv_sample_findings(struct srv_job_run *run, const struct els_evaluation *last, const float *x,
                        struct srv_finding **out, struct els_pool *pool, const struct els_progress *watch,
                        struct els_error *err)
{
    int64_t images = run->job->params->spec.num_images;
    struct srv_part part = {watch, 0, 1 / (2 * (double)images)};
    struct els_progress partly = srv_part_watch(&part);
    struct srv_finding *findings;
    int status = 0;

    if (*out || (!run->tensors[SRV_SAMPLE_MOSAIC] && !run->tensors[SRV_SAMPLE_FINAL_MOSAIC]))
        return 0;
    findings = els_alloc_array((size_t)images, sizeof(*findings));
    if (!findings)
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    for (int64_t n = 0; n < images && status == 0; n++) {
        part.first = (double)(2 * n) * part.share;
        status = els_local_consistency(&findings[n].local_consistency, last, x, pool, &partly, err);
        part.first += part.share;
        if (status == 0)
            status = els_nearest_image(&findings[n].nearest, last->bank, last->images, last->num_images, x, pool,
                                       &partly, err);
        x += els_shape_values(run->job->params->shape);
    }
    if (status == 0)
        *out = findings;
    else
        free(findings);
    return status;
}
