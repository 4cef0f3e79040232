/*
 * kind_sample: inside the kind "sample": what kind_sample.c (its body) and kind_sample_run.c (its computing) share.
 */
#ifndef SRV_KIND_SAMPLE_H
#define SRV_KIND_SAMPLE_H

#include "kind.h"

/* Rows of its outputs. */
enum { SRV_SAMPLE_IMAGES, SRV_SAMPLE_X0, SRV_SAMPLE_XT, SRV_SAMPLE_ENTROPY };

/* As kind.h describes them. */
int srv_sample_begin(struct srv_run *run, struct els_error *err);
int srv_sample_step(struct srv_run *run, struct els_pool *pool, const struct els_watch *watch, struct els_error *err);
int srv_sample_finish(struct srv_run *run, struct els_pool *pool, struct els_error *err);
const float *srv_sample_preview(const struct srv_run *run, double *t);
void srv_sample_end(struct srv_run *run);
double srv_sample_certified_error(const struct srv_run *run);

#endif
