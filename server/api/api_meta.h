/*
 * api_meta: what the daemon says about itself: /healthz, /readyz, /metrics,
 * /v1/capabilities.
 */
#ifndef SRV_API_META_H
#define SRV_API_META_H

#include "server/http/http.h"

extern const struct srv_route srv_meta_routes[];

#endif
