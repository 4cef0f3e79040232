/*
 * api_science: POST /v1/denoise, /v1/calibrations and /v1/comparisons.
 */
#ifndef SRV_API_SCIENCE_H
#define SRV_API_SCIENCE_H

#include "server/http/http.h"

extern const struct srv_route srv_science_routes[];

#endif
