/*
 * The mosaic of one image at one step, from the store into JSON or a picture. Handlers call this; it
 * holds no state.
 *
 * The arrays are flat and row-major, because a client walks all of them: candidate k of pixel (i,j) is entry
 * (i·width + j)·top + k, and a pixel's entropy and region are entry i·width + j. The text is written straight into
 * a buffer: thousands of numbers as JSON values would take far more memory than their digits.
 */
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"
#include "els/mosaic_picture.h"
#include "server/api/answer_room.h"
#include "server/api/results.h"
#include "server/base/json_body.h"
#include "server/jobs/job_service.h"
#include "server/params/caption.h"
#include "server/types/sample.h"

enum { MAX_TEXT = 256 << 20, MAX_PNG = 256 << 20 };

struct mosaic {
    size_t pixels;
    int top;
    int64_t step;
    bool last; /* from the tensors of the last step alone */
    int32_t *places, *regions;
    float *weights, *entropy;
};

static void mosaic_deinit(struct mosaic *m)
{
    free(m->places);
    free(m->regions);
    free(m->weights);
    free(m->entropy);
}

/* Which tensors tell of the step. False: the problem is in `res`. */
static bool choose(struct srv_response *res, const struct srv_job_record *record, int64_t step, struct mosaic *m)
{
    bool every = record->outputs & 1u << SRV_SAMPLE_MOSAIC, final = record->outputs & 1u << SRV_SAMPLE_FINAL_MOSAIC;
    int64_t last = record->num_steps - 1;

    m->step = step < 0 ? last : step;
    m->last = !every;
    m->top = record->depth;
    m->pixels = (size_t)record->shape.h * (size_t)record->shape.w;
    if (m->step > last)
        srv_problem(res, 404, "step_not_found", "The mosaic has steps 0 to %lld.", (long long)last);
    else if (!every && !final)
        srv_problem(res, 409, "output_not_kept", "The job did not keep mosaic: it was not among its outputs.");
    else if (!every && m->step < last)
        srv_problem(res, 409, "output_not_kept",
                    "The job kept the mosaic of its last step alone, %lld; the output mosaic keeps that of every step.",
                    (long long)last);
    else
        return true;
    return false;
}

/* One step's part of output i. */
static void *read_part(struct srv_request *req, const struct srv_job_record *record, int i, int64_t image, int64_t step,
                       size_t values, int *status, struct els_error *err)
{
    float *part = *status == 0 ? els_alloc_array(values, sizeof(*part)) : NULL;

    if (*status == 0)
        *status = part ? srv_store_read_tensor(srv_request_daemon(req)->jobs->store, record->id,
                                               srv_job_type_sample.outputs[i].tensor, image, (size_t)step * values,
                                               values, part, err)
                       : ELS_ENOMEM;
    return part;
}

static int read_mosaic(struct srv_request *req, const struct srv_job_record *record, int64_t image, struct mosaic *m,
                       struct els_error *err)
{
    int first = m->last ? SRV_SAMPLE_FINAL_MOSAIC : SRV_SAMPLE_MOSAIC, status = 0;
    size_t count = m->pixels * (size_t)m->top;
    int64_t step = m->last ? 0 : m->step;

    m->places = read_part(req, record, first, image, step, count * SRV_PLACE_VALUES, &status, err);
    m->weights = read_part(req, record, first + 1, image, step, count, &status, err);
    m->regions = read_part(req, record, first + 2, image, step, m->pixels, &status, err);
    m->entropy = read_part(req, record, SRV_SAMPLE_ENTROPY, image, m->step, m->pixels, &status, err);
    return status;
}

/* "name":[…] and `after`: every `stride`-th value, n of them. */
static int write_integers(struct els_buffer *out, const char *name, const int32_t *values, size_t n, size_t stride,
                          const char *after)
{
    int status = els_buffer_printf(out, "\"%s\":[", name);

    for (size_t i = 0; i < n && status == 0; i++)
        status = els_buffer_printf(out, i ? ",%d" : "%d", (int)values[i * stride]);
    return status == 0 ? els_buffer_printf(out, "]%s", after) : status;
}

static int write_floats(struct els_buffer *out, const char *name, const float *values, size_t n, const char *after)
{
    int status = els_buffer_printf(out, "\"%s\":[", name);

    for (size_t i = 0; i < n && status == 0; i++)
        status = els_buffer_printf(out, i ? ",%.9g" : "%.9g", (double)values[i]);
    return status == 0 ? els_buffer_printf(out, "]%s", after) : status;
}

static int write_json(struct els_buffer *out, const struct srv_job_record *record, int64_t image, const struct mosaic *m)
{
    size_t count = m->pixels * (size_t)m->top;
    int status = els_buffer_printf(
        out, "{\"index\":%lld,\"step\":%lld,\"height\":%d,\"width\":%d,\"top\":%d,\"candidates\":{",
        (long long)image, (long long)m->step, record->shape.h, record->shape.w, m->top);

    if (status == 0)
        status = write_integers(out, "image", m->places, count, SRV_PLACE_VALUES, ",");
    if (status == 0)
        status = write_integers(out, "row", m->places + 1, count, SRV_PLACE_VALUES, ",");
    if (status == 0)
        status = write_integers(out, "column", m->places + 2, count, SRV_PLACE_VALUES, ",");
    if (status == 0)
        status = write_floats(out, "weight", m->weights, count, "},");
    if (status == 0)
        status = write_floats(out, "entropy", m->entropy, m->pixels, ",");
    return status == 0 ? write_integers(out, "region", m->regions, m->pixels, 1, "}") : status;
}

/* The most bytes of the JSON: three whole numbers of at most 11 characters and one of 15 per candidate, and so on. */
static size_t json_bytes(const struct mosaic *m)
{
    enum { CANDIDATE = 3 * 12 + 16, PIXEL = 16 + 12, FRAME = 1024 };

    return m->pixels * ((size_t)m->top * CANDIDATE + PIXEL) + FRAME;
}

/* What answering takes: the parts; and as JSON (zoom 0) its text, which grows; as a map its mosaic and picture. */
static size_t answer_room(const struct srv_job_record *record, const struct mosaic *m, int zoom)
{
    struct els_shape drawn = {3, record->shape.h, record->shape.w};
    size_t parts = m->pixels * ((size_t)m->top * (SRV_PLACE_VALUES + 1) + 2) * sizeof(float);

    if (zoom == 0)
        return parts + json_bytes(m) + json_bytes(m) / 2;
    return parts + sizeof(struct els_mosaic) +
           m->pixels * (sizeof(struct els_candidate) + sizeof(double) + sizeof(int)) +
           srv_room_picture(drawn, 1, 1, zoom, record->params);
}

/* Reads it all, when the memory of the whole answer could be charged. False: the problem is in `res`. */
static bool find_mosaic(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                        int64_t image, int64_t step, int zoom, struct mosaic *m)
{
    struct els_error err = {0};
    int status;

    if (!srv_results_image_exists(res, record, image))
        return false;
    if (strcmp(record->kind, srv_job_type_sample.name) != 0) {
        srv_problem(res, 404, "tensor_not_found", "A job of the kind %s has no mosaic.", record->kind);
        return false;
    }
    if (!choose(res, record, step, m) || !srv_response_charge(res, answer_room(record, m, zoom)))
        return false;
    status = read_mosaic(req, record, image, m, &err);
    if (status < 0)
        srv_results_reading_failed(req, res, record, status, &err);
    return status == 0;
}

void srv_results_mosaic(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                        int64_t image, int64_t step)
{
    struct els_buffer text = ELS_BUFFER_INIT(MAX_TEXT);
    struct mosaic m = {0};

    if (find_mosaic(req, res, record, image, step, 0, &m)) {
        text.maximum = json_bytes(&m) < MAX_TEXT ? json_bytes(&m) : MAX_TEXT;
        if (write_json(&text, record, image, &m) == 0) {
            srv_response_bytes(res, 200, SRV_JSON_TYPE, text.data, text.size);
            text = ELS_BUFFER_INIT(0); /* the response owns the bytes now */
        } else {
            srv_problem(res, 500, "out_of_memory", "Out of memory.");
        }
    }
    els_buffer_deinit(&text);
    mosaic_deinit(&m);
}

/* ---- as a picture ---- */

/* Do the job's patches wrap around? Its parameters say so. */
static int wraps(const struct srv_job_record *record)
{
    json_t *params = srv_json_stored(record->params);
    const char *machine = json_string_value(json_object_get(params, "machine"));
    const char *candidates = json_string_value(json_object_get(params, "candidates"));
    int yes = machine && candidates &&
              (strcmp(machine, "es") == 0 || (strcmp(machine, "els") == 0 && strcmp(candidates, "wrapped") == 0));

    json_decref(params);
    return yes;
}

/* The library's mosaic, as far as a picture looks at it: the heaviest candidates, entropy and regions. */
static struct els_mosaic *restore(const struct srv_job_record *record, const struct mosaic *m)
{
    struct els_mosaic *out = els_alloc_array(1, sizeof(*out));

    if (!out)
        return NULL;
    *out = (struct els_mosaic){.height = record->shape.h, .width = record->shape.w, .top = 1, .wraps = wraps(record)};
    out->candidate = els_alloc_array(m->pixels, sizeof(*out->candidate));
    out->entropy = els_alloc_array(m->pixels, sizeof(*out->entropy));
    out->region = els_alloc_array(m->pixels, sizeof(*out->region));
    if (!out->candidate || !out->entropy || !out->region)
        return els_mosaic_free(out);
    for (size_t q = 0; q < m->pixels; q++) {
        const int32_t *place = m->places + q * (size_t)m->top * SRV_PLACE_VALUES;

        out->candidate[q] = (struct els_candidate){place[0], place[1], place[2],
                                                   (double)m->weights[q * (size_t)m->top]};
        out->entropy[q] = (double)m->entropy[q];
        out->region[q] = m->regions[q];
    }
    return out;
}

static int draw(const struct srv_job_record *record, int64_t image, const struct mosaic *m, enum els_mosaic_map map, int zoom,
                struct els_buffer *png)
{
    _cleanup_(els_freep) char *caption = srv_caption(record->id, record->params, (int)image);
    const char *text[] = {"els", caption};
    struct els_mosaic *mosaic = restore(record, m);
    struct els_picture picture = {0};
    int status = caption && mosaic ? els_mosaic_picture(&picture, mosaic, map) : ELS_ENOMEM;

    if (status == 0)
        status = els_picture_zoom(&picture, zoom);
    if (status == 0)
        status = els_picture_write_png(png, &picture, text, 1);
    els_picture_deinit(&picture);
    els_mosaic_free(mosaic);
    return status;
}

void srv_results_map(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                     int64_t image, int64_t step, const char *name, int zoom)
{
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG);
    enum els_mosaic_map map;
    struct mosaic m = {0};
    int status;

    if (els_mosaic_map_parse(name, &map) < 0) {
        srv_problem(res, 404, "map_not_found", "There is no map \"%.40s\"; there are region, source and entropy.", name);
        return;
    }
    if (find_mosaic(req, res, record, image, step, zoom, &m)) {
        status = draw(record, image, &m, map, zoom, &png);
        if (status == 0) {
            srv_response_bytes(res, 200, SRV_PNG_TYPE, png.data, png.size);
            png = ELS_BUFFER_INIT(0); /* the response owns the bytes now */
        } else if (status == ELS_ELIMIT) {
            srv_problem_invalid(res, "?zoom", "zoom makes a picture of more than %d pixels.", ELS_PICTURE_MAX_PIXELS);
        } else {
            srv_problem(res, 500, "out_of_memory", "Out of memory.");
        }
    }
    els_buffer_deinit(&png);
    mosaic_deinit(&m);
}
