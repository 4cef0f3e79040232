/*
 * kind_sample: inside the kind "sample": what sample.c (its body) and sample_run.c (its computing) share.
 */
#ifndef SRV_JOB_TYPE_SAMPLE_H
#define SRV_JOB_TYPE_SAMPLE_H

#include "els/consistency.h"
#include "server/base/job_type.h"
#include "server/params/params.h"

/* Rows of its outputs. */
enum {
    SRV_SAMPLE_IMAGES,
    SRV_SAMPLE_X0,
    SRV_SAMPLE_XT,
    SRV_SAMPLE_ENTROPY,
    SRV_SAMPLE_MOSAIC, /* of every step: image, row, column of candidates; its weights and regions come along */
    SRV_SAMPLE_WEIGHTS,
    SRV_SAMPLE_REGIONS,
    SRV_SAMPLE_FINAL_MOSAIC, /* of the last step; the same */
    SRV_SAMPLE_FINAL_WEIGHTS,
    SRV_SAMPLE_FINAL_REGIONS,
};

/* What a mosaic's tensor says of a candidate: image, row, column. */
enum { SRV_PLACE_VALUES = 3 };

/* A mosaic takes about as long as so many passes over the bank. */
enum { SRV_MOSAIC_PASSES = 10 };

/* Bytes of the result's JSON for one image, while it is made, at most. */
enum { SRV_SAMPLE_IMAGE_TEXT = 4096 };

/* Of a step, in the measure of srv_params.cost, for all images: mosaics, the step itself, and what is told of the
 * finished images. Automatic scales are extra: srv_params.setup_cost. */
struct srv_sample_cost {
    double mosaics, pass, findings;
};
struct srv_sample_cost srv_sample_step_cost(const struct srv_params *p, int step, int scale);
double srv_sample_cost_sum(struct srv_sample_cost cost);
/* Does the job keep a mosaic of that step? */
bool srv_sample_has_mosaic(const struct srv_params *p, int step);

/* For the settle() of kinds that run the same sampler: the number of steps, and the library's word on it all. */
void srv_sample_settle_steps(struct srv_reading *r);
void srv_sample_settle_sampler(struct srv_reading *r);

/* What is told of a finished image. */
struct srv_finding {
    double local_consistency;
    struct els_nearest nearest;
};

/* Findings of all images x [N,C,H,W] after the last step, where the job keeps mosaics; else *out stays NULL. The caller
 * frees *out. */
int srv_sample_findings(struct srv_job_run *run, const struct els_evaluation *last, const float *x,
                        struct srv_finding **out, struct els_pool *pool, const struct els_progress *watch,
                        struct els_error *err);
/* `scales: "auto"` of a sampling body (sample_auto.c). */
int srv_sample_auto_scales(struct els_scales *out, const struct srv_params *p, struct els_pool *pool,
                           const struct els_progress *watch, struct els_error *err);
/* The work of step `step` of a sampling job; before automatic scales are known (NULL) all steps are taken for equal. */
double srv_sample_step_work(const struct srv_params *p, const struct els_sampler *sampler, int step);
/* The steps of a result. A new reference; NULL when out of memory. */
json_t *srv_sample_steps_json(const struct els_sampler *sampler, const struct srv_params *p);

/* Takes and keeps the mosaic of the next step, of every image. Before the sampler's own step. */
int srv_sample_mosaics(struct srv_job_run *run, const struct els_sampler *sampler, struct els_pool *pool,
                       const struct els_progress *watch, struct els_error *err);

/* As job_type.h describes them. */
int srv_sample_begin(struct srv_job_run *run, struct els_error *err);
double srv_sample_work(const struct srv_job_run *run, int step);
int srv_sample_step(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err);
struct els_sampler *srv_sample_sampler(const struct srv_job_run *run);
void srv_sample_stepped(struct srv_job_run *run);
int srv_sample_finish(struct srv_job_run *run, struct els_pool *pool, const struct els_progress *watch, struct els_error *err);
const float *srv_sample_preview(const struct srv_job_run *run, double *t);
void srv_sample_end(struct srv_job_run *run);
double srv_sample_certified_error(const struct srv_job_run *run);

#endif
