/*
 * api_samples: the handlers that make jobs, and the one that follows them; the table of routes is in api_jobs.c.
 */
#ifndef SRV_API_SAMPLES_H
#define SRV_API_SAMPLES_H

#include "http.h"

/* POST /v1/samples: make a job and wait for it. */
void srv_post_samples(struct srv_request *req, struct srv_response *res);
/* POST /v1/jobs: make a job. */
void srv_post_jobs(struct srv_request *req, struct srv_response *res);
/* GET /v1/jobs/{id}/events. */
void srv_get_events(struct srv_request *req, struct srv_response *res);

#endif
