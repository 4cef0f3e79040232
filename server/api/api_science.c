/*
 * The routes of what a theory is for beyond pictures. Handlers run in the handler pool; submit.c makes the jobs, and the
 * kinds compute them.
 */
#include "server/api/api_science.h"

#include "server/api/submit.h"

static void post_denoise(struct srv_request *req, struct srv_response *res)
{
    srv_post_and_wait(req, res, &srv_job_type_denoise);
}

static void post_calibrations(struct srv_request *req, struct srv_response *res)
{
    srv_post_job(req, res, &srv_job_type_calibration);
}

static void post_comparisons(struct srv_request *req, struct srv_response *res)
{
    srv_post_job(req, res, &srv_job_type_comparison);
}

const struct srv_route srv_science_routes[] = {
    {"POST", "/v1/denoise", post_denoise, SRV_ROUTE_COSTLY},
    {"POST", "/v1/calibrations", post_calibrations, SRV_ROUTE_COSTLY},
    {"POST", "/v1/comparisons", post_comparisons, SRV_ROUTE_COSTLY},
    {0},
};
