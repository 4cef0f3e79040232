/*
 * submit: what every POST that makes a job has in common: reading the body, idempotency, acceptance, waiting, answering.
 *
 *     static void post_samples(struct srv_request *req, struct srv_response *res)
 *     {
 *         srv_post_and_wait(req, res, &srv_job_type_sample);
 *     }
 */
#ifndef SRV_SUBMIT_H
#define SRV_SUBMIT_H

#include "server/base/job_type.h"
#include "server/http/http.h"

/* Makes a job and waits for it, up to sync_timeout or as `Prefer: wait` says; then 202. Accept chooses the form of what
 * has finished. */
void srv_post_and_wait(struct srv_request *req, struct srv_response *res, const struct srv_job_type *kind);
/* Makes a job and answers 202 at once, or waits as `Prefer: wait` says. Always JSON. */
void srv_post_job(struct srv_request *req, struct srv_response *res, const struct srv_job_type *kind);
/* Seconds of `Prefer: wait`, sync_timeout at most; `otherwise` where the client says nothing. */
int srv_patience(const struct srv_request *req, int otherwise);

#endif
