/*
 * The text that pictures carry. Called on the scheduler's threads when a job's pictures are drawn, and by handlers that
 * draw more of them later; no state.
 *
 * A job may have thousands of images and megabytes of parameters, and every image carries a caption: their size is
 * bounded here, and counts as part of the result (srv_caption_bytes, from params.c). The parameters are read once for a
 * job; what is done per image is done to the caption, which is small.
 */
#include "server/params/caption.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/sha256.h"
#include "els/mem.h"
#include "server/base/json_body.h"
#include "server/store/job_record.h"

/* What a seed and a number of images may grow by, or an "index" takes. */
enum { ROOM = 40 };

static char *caption_text(const json_t *json)
{
    return els_json_text(json, JSON_COMPACT | JSON_REAL_PRECISION(17));
}

/* The parameters as a caption shows them, whatever their length. */
static char *whole(const json_t *resolved)
{
    json_t *params = json_object(), *value;
    int status = params ? 0 : -1;
    char *text = NULL;
    const char *key;

    /* json_copy passes over what it has no memory for. */
    json_object_foreach((json_t *)resolved, key, value)
        if (status == 0 && strcmp(key, "client_ref") != 0)
            status = json_object_set(params, key, value);
    if (status == 0 && srv_name_uploads(params) == 0)
        text = caption_text(params);
    json_decref(params);
    return text;
}

/* What stands for parameters that are too long. */
static char *stand_in(const char *id, const char *resolved)
{
    char sha256[ELS_SHA256_HEX], *text;
    struct els_sha256 hash;
    json_t *json;

    els_sha256_init(&hash);
    els_sha256_update(&hash, resolved, strlen(resolved));
    els_sha256_hex(&hash, sha256);
    json = json_pack("{s:s, s:s, s:o}", "job", id, "params_sha256", sha256, "params", json_sprintf("/v1/jobs/%s", id));
    text = caption_text(json);
    json_decref(json);
    return text;
}

char *srv_caption(const char *id, const char *resolved, int index)
{
    json_t *params = srv_json_stored(resolved);
    char *text = params ? whole(params) : NULL;

    json_decref(params);
    if (text && strlen(text) > SRV_CAPTION_BYTES - ROOM) {
        free(text);
        text = stand_in(id, resolved);
    }
    if (text && index >= 0) {
        char *all = text;

        text = srv_caption_of_image(all, index);
        free(all);
    }
    return text;
}

char *srv_caption_of_image(const char *caption, int index)
{
    json_t *json = srv_json_stored(caption);
    char *text = NULL;
    int status;

    if (!json)
        return NULL;
    if (json_object_get(json, "params_sha256")) {
        status = json_object_set_new(json, "index", json_integer(index));
    } else {
        json_int_t seed = json_integer_value(json_object_get(json, "seed"));

        status = json_object_set_new(json, "seed", json_integer(seed + index));
        status |= json_object_set_new(json, "num_images", json_integer(1));
    }
    if (status == 0)
        text = caption_text(json);
    json_decref(json);
    return text;
}

size_t srv_caption_bytes(const json_t *resolved, int64_t num_images)
{
    _cleanup_(els_freep) char *text = whole(resolved);
    size_t each = text ? strlen(text) + ROOM : 0;

    if (each > SRV_CAPTION_BYTES)
        each = 256; /* the stand-in */
    return num_images < 0 ? each : each * (size_t)num_images;
}
