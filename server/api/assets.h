/*
 * assets: the page's files, embedded when the daemon is built (embed.py writes the table and the
 * routes). Read-only; any thread.
 */
#ifndef SRV_ASSETS_H
#define SRV_ASSETS_H

#include "server/http/http.h"

struct srv_asset {
    const char *path; /* "/", "/style.css" */
    const char *content_type;
    const char *tag; /* for the ETag */
    const unsigned char *bytes;
    size_t size;
};

/* Ends with an all-zero entry. */
extern const struct srv_asset srv_assets[];
extern const struct srv_route srv_assets_routes[];

void srv_assets_serve(struct srv_request *req, struct srv_response *res);

#endif
