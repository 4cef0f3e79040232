/*
 * Serves the embedded files. The route of a file exists because the file does, so nothing is looked
 * up on a disk. The policy lets the page load its own files and nothing else.
 */
#include "server/api/assets.h"

#include <string.h>

static const char policy[] =
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";

void srv_assets_serve(struct srv_request *req, struct srv_response *res)
{
    const struct srv_asset *asset = srv_assets;

    while (asset->path && strcmp(asset->path, srv_request_path(req)) != 0)
        asset++;
    if (!asset->path) {
        srv_problem(res, 404, "not_found", "There is nothing at this path.");
        return;
    }
    srv_response_header(res, "Content-Security-Policy", policy);
    srv_response_header(res, "Referrer-Policy", "no-referrer");
    if (!srv_response_etag(req, res, asset->tag))
        srv_response_static(res, 200, asset->content_type, asset->bytes, asset->size);
}
