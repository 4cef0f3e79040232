/*
 * api_events: the handler that follows a job; the table of routes is in api_jobs.c.
 */
#ifndef SRV_API_EVENTS_H
#define SRV_API_EVENTS_H

#include "server/http/http.h"

/* GET /v1/jobs/{id}/events. */
void srv_get_events(struct srv_request *req, struct srv_response *res);

#endif
