/*
 * results_internal: what the files of results share.
 */
#ifndef SRV_RESULTS_INTERNAL_H
#define SRV_RESULTS_INTERNAL_H

#include "server/api/results.h"
#include "server/base/job_type.h"

/* The record's kind; a store that a newer daemon has written can hold others. NULL: the problem is in `res`. */
const struct srv_job_type *srv_results_kind(struct srv_response *res, const struct srv_job_record *record);

/* ---- results_tensors.c ---- */

/* Bytes of a whole tensor. */
size_t srv_results_bytes(const struct srv_job_record *record, const struct srv_output *o);
/* A tensor that the job keeps, as .npy. */
void srv_results_npy(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                     const struct srv_output *o);

#endif
