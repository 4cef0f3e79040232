/*
 * Serving what the store keeps. Handlers call this; it holds no state.
 *
 * A final image is stored as its PNG and sent as it is. Everything else is made when it is asked for from the
 * stored float32: enlarged pictures, grids and single steps here, .npy and safetensors in results_tensors.c. A job can
 * be deleted while it is read: then the answer is the 410 that the next request would get too.
 */
#include "server/api/results_internal.h"

#include <stdlib.h>
#include <string.h>

#include "els/npy.h"
#include "els/picture.h"
#include "server/api/answer_room.h"
#include "server/base/base64.h"
#include "server/base/job_type.h"
#include "server/jobs/job_service.h"
#include "server/params/caption.h"
#include "server/params/params.h"

enum { MAX_PNG = 256 << 20, MAX_HEADER = 4 << 10, MAX_INSIDE = 3 << 20 };

const char *const srv_results_types[] = {SRV_JSON_TYPE, SRV_PNG_TYPE, SRV_NPY_TYPE, SRV_SAFETENSORS_TYPE, NULL};

/* ---- finding ---- */

static struct srv_jobs *jobs_of(const struct srv_request *req)
{
    return srv_request_daemon(req)->jobs;
}

void srv_results_store_problem(struct srv_response *res, int status, const struct els_error *err, const char *id)
{
    if (status == SRV_STORE_GONE)
        srv_problem(res, 410, "job_gone", "The job %.40s was deleted or has expired; its results are no longer kept.",
                    id);
    else if (status == ELS_ENOENT)
        srv_problem(res, 404, "job_not_found", "There is no job \"%.40s\".", id);
    else if (srv_store_is_damage(err))
        srv_problem(res, 500, "damaged", "%s", err->message);
    else
        srv_problem(res, 500, "store_failed", "%s", err->message[0] ? err->message : els_status_text(status));
}

bool srv_results_find(struct srv_request *req, struct srv_response *res, const char *id, struct srv_job_record *out)
{
    struct els_error err = {0};
    int status = srv_jobs_record(jobs_of(req), id, srv_request_key(req), out, &err);

    if (status != 0)
        srv_results_store_problem(res, status, &err, id);
    return status == 0;
}

bool srv_results_find_succeeded(struct srv_request *req, struct srv_response *res, const char *id,
                                struct srv_job_record *out)
{
    if (!srv_results_find(req, res, id, out))
        return false;
    if (out->status == SRV_SUCCEEDED)
        return true;
    if (!srv_status_ended(out->status))
        srv_problem(res, 409, "job_not_finished", "The job is %s; its results exist once it has succeeded.",
                    srv_status_name(out->status));
    else
        srv_problem(res, 409, out->status == SRV_FAILED ? "job_failed" : "job_cancelled",
                    "The job is %s; it has no results.", srv_status_name(out->status));
    srv_job_record_deinit(out);
    return false;
}

void srv_results_reading_failed(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                                int status, const struct els_error *err)
{
    struct srv_job_record now = {0};

    if (status == ELS_ENOENT && !srv_results_find(req, res, record->id, &now))
        return;
    srv_job_record_deinit(&now);
    if (status == ELS_ENOMEM)
        srv_problem(res, 500, "out_of_memory", "Out of memory.");
    else if (srv_store_is_damage(err))
        srv_problem(res, 500, "damaged", "%s", err->message);
    else
        srv_problem(res, 500, "store_failed", "%s", err->message[0] ? err->message : els_status_text(status));
}

static void answer_buffer(struct srv_response *res, const char *type, struct els_buffer *bytes)
{
    srv_response_bytes(res, 200, type, bytes->data, bytes->size);
    *bytes = ELS_BUFFER_INIT(0); /* the response owns the bytes now */
}

/* The record's kind; a store that a newer daemon has written can hold others. */
const struct srv_job_type *srv_results_kind(struct srv_response *res, const struct srv_job_record *record)
{
    const struct srv_job_type *kind = srv_job_type_find(record->kind);

    if (!kind)
        srv_problem(res, 500, "unknown_kind", "This daemon does not know jobs of the kind \"%s\".", record->kind);
    return kind;
}

/* ---- pictures ---- */

/* values [n,C,H,W] as a PNG with the parameters of image `index` (−1: of all). `columns` 0: about a square. */
static int draw(const struct srv_job_record *record, const float *values, int64_t n, int columns, int index, int zoom,
                struct els_buffer *png)
{
    _cleanup_(els_freep) char *caption = srv_caption(record->id, record->params, index);
    const char *text[] = {"els", caption};
    struct els_picture picture = {0};
    int status = caption ? els_picture_from_values(&picture, values, n, record->shape, columns) : ELS_ENOMEM;

    if (status == 0 && zoom > 1)
        status = els_picture_zoom(&picture, zoom);
    if (status == 0)
        status = els_picture_write_png(png, &picture, text, 1);
    els_picture_deinit(&picture);
    return status;
}

static void answer_drawn(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                         int status, const struct els_error *err, struct els_buffer *png)
{
    if (status == 0)
        answer_buffer(res, SRV_PNG_TYPE, png);
    else if (status == ELS_ELIMIT)
        srv_problem_invalid(res, "?zoom", "zoom makes a picture of more than %d pixels.", ELS_PICTURE_MAX_PIXELS);
    else
        srv_results_reading_failed(req, res, record, status, err);
    els_buffer_deinit(png);
}

/* Reads one image's part of a tensor and draws it. */
static void answer_part(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                        const char *tensor, int64_t image, int64_t step, int zoom)
{
    size_t values = els_shape_values(record->shape);
    _cleanup_(els_freep) float *x = NULL;
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG);
    struct els_error err = {0};
    int status = ELS_ENOMEM;

    if (!srv_response_charge(res, srv_room_picture(record->shape, 1, 1, zoom, record->params)))
        return;
    x = els_alloc_array(values, sizeof(*x));
    if (x)
        status = srv_store_read_tensor(jobs_of(req)->store, record->id, tensor, image, (size_t)step * values, values,
                                       x, &err);
    if (status == 0)
        status = draw(record, x, 1, 1, (int)image, zoom, &png);
    answer_drawn(req, res, record, status, &err, &png);
}

/* The picture of an image never changes as long as the job is there. True: it was answered with 304. */
static bool unchanged(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                      const char *what, int64_t image, int64_t step, int zoom)
{
    char tag[128];

    snprintf(tag, sizeof(tag), "%s-%s-%lld-%lld-%d", record->id, what, (long long)image, (long long)step, zoom);
    return srv_response_etag(req, res, tag);
}

bool srv_results_image_exists(struct srv_response *res, const struct srv_job_record *record, int64_t image)
{
    const struct srv_job_type *kind = srv_results_kind(res, record);

    if (!kind)
        return false;
    if (!kind->has_images)
        srv_problem(res, 404, "image_not_found", "A job of the kind %s has no images.", record->kind);
    else if (image < 0 || image >= record->num_images)
        srv_problem(res, 404, "image_not_found", "The job has images 0 to %lld.", (long long)record->num_images - 1);
    else
        return true;
    return false;
}

void srv_results_image(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                       int64_t image, int zoom)
{
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG);
    struct els_error err = {0};
    char sha256[65];
    int status;

    if (!srv_results_image_exists(res, record, image) || unchanged(req, res, record, "image", image, 0, zoom))
        return;
    if (zoom > 1) {
        answer_part(req, res, record, SRV_IMAGES_TENSOR, image, 0, zoom);
        return;
    }
    if (!srv_response_charge(res, srv_room_picture(record->shape, 1, 1, 1, record->params)))
        return;
    status = srv_store_read_picture(jobs_of(req)->store, record->id, image, &png, sha256, &err);
    answer_drawn(req, res, record, status, &err, &png);
}

/* The row of that word among the outputs that the job keeps. −1: the problem is in `res`. */
static int kept_output(struct srv_response *res, const struct srv_job_record *record, const char *word)
{
    const struct srv_job_type *kind = srv_results_kind(res, record);
    int i = kind ? srv_output_find(kind, word) : -1;

    if (kind && i < 0)
        srv_problem(res, 404, "tensor_not_found", "A job of the kind %s has no \"%.40s\".", record->kind, word);
    if (i >= 0 && !srv_job_record_keeps(record, kind, i)) {
        srv_problem(res, 409, "output_not_kept", "The job did not keep %.40s: it was not among its outputs.", word);
        i = -1;
    }
    return i;
}

static int64_t big_endian(const uint8_t *at)
{
    return (int64_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

/* What enlarging the PNG takes: its header has the size. */
static size_t enlarged_room(const struct srv_job_record *record, const struct els_buffer *png, int zoom)
{
    enum { WIDTH_AT = 16, HEIGHT_AT = 20, HEADER = 33 };

    return png->size < HEADER ? 0
                              : srv_room_enlarged(big_endian(png->data + WIDTH_AT), big_endian(png->data + HEIGHT_AT), 3,
                                                  zoom, record->params);
}

/* The PNG enlarged, with the same text. */
static int enlarge(const struct srv_job_record *record, struct els_buffer *png, int zoom)
{
    _cleanup_(els_freep) char *caption = srv_caption(record->id, record->params, -1);
    const char *text[] = {"els", caption};
    struct els_picture picture = {0};
    int status = caption ? els_picture_read(&picture, png->data, png->size, ELS_PICTURE_MAX_PIXELS, NULL) : ELS_ENOMEM;

    if (status == 0)
        status = els_picture_zoom(&picture, zoom);
    png->size = 0;
    if (status == 0)
        status = els_picture_write_png(png, &picture, text, 1);
    els_picture_deinit(&picture);
    return status;
}

void srv_results_sheet(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record, int zoom)
{
    const struct srv_job_type *kind = srv_results_kind(res, record);
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG);
    struct els_error err = {0};
    char sha256[65];
    int status;

    if (!kind)
        return;
    if (!kind->has_sheet) {
        srv_problem(res, 404, "sheet_not_found", "A job of the kind %s has no sheet.", record->kind);
        return;
    }
    if (unchanged(req, res, record, "sheet", 0, 0, zoom))
        return;
    status = srv_store_read_picture(jobs_of(req)->store, record->id, SRV_PICTURE_SHEET, &png, sha256, &err);
    if (status == ELS_ENOENT) {
        srv_problem(res, 404, "sheet_not_found", "The images are too many for one picture; the tensors have them.");
        return;
    }
    if (status == 0 && zoom > 1) {
        if (!srv_response_charge(res, png.space + enlarged_room(record, &png, zoom))) {
            els_buffer_deinit(&png);
            return;
        }
        status = enlarge(record, &png, zoom);
    }
    answer_drawn(req, res, record, status, &err, &png);
}

void srv_results_step(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record, int64_t image,
                      int64_t step, bool xt, int zoom)
{
    const char *word = xt ? "xt" : "x0";
    int64_t last = record->num_steps - !xt;

    if (!srv_results_image_exists(res, record, image))
        return;
    if (step < 0 || step > last)
        srv_problem(res, 404, "step_not_found", "%s has steps 0 to %lld.", word, (long long)last);
    else if (kept_output(res, record, word) >= 0 && !unchanged(req, res, record, word, image, step, zoom))
        answer_part(req, res, record, word, image, step, zoom);
}

/* ---- tensors ---- */

/* Appends a whole tensor's data. The buffer's size is a multiple of 8 before: floats are aligned. */
static int append_data(struct srv_request *req, const struct srv_job_record *record, const struct srv_output *o,
                       struct els_buffer *out, struct els_error *err)
{
    struct srv_extent extent = srv_job_record_extent(record);
    struct els_tensor t = o->describe(&extent);
    int64_t outer = o->image_axis == 0 ? 1 : t.dims[0], images = t.dims[o->image_axis];
    size_t values = srv_output_values(o, &extent) / (size_t)outer;
    void *space = NULL;
    int status = els_buffer_extend(out, els_tensor_bytes(&t), &space);

    for (int64_t k = 0; k < outer; k++)
        for (int64_t i = 0; i < images && status == 0; i++)
            status = srv_store_read_tensor(jobs_of(req)->store, record->id, o->tensor, i, (size_t)k * values, values,
                                           (float *)space + (size_t)(k * images + i) * values, err);
    return status;
}

/* The buffer's maximum must allow for it. */
static int append_npy(struct srv_request *req, const struct srv_job_record *record, const struct srv_output *o,
                      struct els_buffer *out, struct els_error *err)
{
    struct srv_extent extent = srv_job_record_extent(record);
    struct els_tensor t = o->describe(&extent);
    int status = els_npy_write_header(out, t.dtype, t.ndim, t.dims);

    return status == 0 ? append_data(req, record, o, out, err) : status;
}

void srv_results_tensor(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                        const char *name)
{
    const struct srv_job_type *kind = srv_results_kind(res, record);
    int i;

    if (!kind)
        return;
    for (i = 0; kind->outputs[i].word && strcmp(kind->outputs[i].tensor, name) != 0; i++)
        ;
    i = kept_output(res, record, kind->outputs[i].word ? kind->outputs[i].word : name);
    if (i >= 0)
        srv_results_npy(req, res, record, &kind->outputs[i]);
}

/* ---- JSON ---- */

/* One tensor as {"npy_base64":"…"}: 0, or a status. */
static int add_inside(struct srv_request *req, const struct srv_job_record *record, const struct srv_output *o,
                      json_t *result, struct els_error *err)
{
    _cleanup_(els_buffer_deinit) struct els_buffer bytes = ELS_BUFFER_INIT(MAX_HEADER + srv_results_bytes(record, o));
    _cleanup_(els_buffer_deinit) struct els_buffer text = ELS_BUFFER_INIT(bytes.maximum / 3 * 4 + 8);
    int status = append_npy(req, record, o, &bytes, err);

    if (status == 0)
        status = srv_base64_encode(&text, bytes.data, bytes.size);
    if (status < 0)
        return status;
    return json_object_set_new(result, o->tensor,
                               json_pack("{s:s%}", "npy_base64", (const char *)text.data, text.size)) < 0
               ? ELS_ENOMEM
               : 0;
}

static size_t kept_bytes(const struct srv_job_record *record, const struct srv_job_type *kind)
{
    size_t all = 0;

    for (int i = 0; kind->outputs[i].word; i++)
        all += srv_job_record_keeps(record, kind, i) ? srv_results_bytes(record, &kind->outputs[i]) : 0;
    return all;
}

/* Are there tensors to be put inside? */
static bool has_inside(const struct srv_job_record *record, const struct srv_job_type *kind)
{
    return kind && kind->tensors_inside && record->status == SRV_SUCCEEDED;
}

/* A tensor has its bytes, their digits and the string that these become at once, and all strings are in the text, which
 * grows: 16/3 of the bytes, and some for headers. */
static size_t inside_room(const struct srv_job_record *record, const struct srv_job_type *kind)
{
    size_t all = has_inside(record, kind) ? kept_bytes(record, kind) : 0;

    return all > 0 && all <= MAX_INSIDE ? 6 * all + SRV_MAX_OUTPUTS * 4 * MAX_HEADER : 0;
}

/* The kept tensors into `result`, when they are small; else null, and tensors_url has them. */
static int add_tensors(struct srv_request *req, const struct srv_job_record *record, const struct srv_job_type *kind,
                       json_t *result, struct els_error *err)
{
    size_t all = kept_bytes(record, kind);
    int status = 0;

    for (int i = 0; kind->outputs[i].word && status == 0; i++) {
        if (!srv_job_record_keeps(record, kind, i))
            continue;
        if (all <= MAX_INSIDE)
            status = add_inside(req, record, &kind->outputs[i], result, err);
        else
            status = json_object_set_new(result, kind->outputs[i].tensor, json_null()) < 0 ? ELS_ENOMEM : 0;
    }
    return status;
}

void srv_results_json(struct srv_request *req, struct srv_response *res, int status, const struct srv_job_record *record)
{
    const struct srv_job_type *kind = srv_job_type_find(record->kind);
    struct els_error err = {0};
    json_t *json;
    int read;

    /* What was just accepted is answered, for its id would be lost: it is charged as the body that it came in. */
    if (status != 202 && !srv_response_charge(res, srv_room_record(record, SRV_RECORD_WHOLE) + inside_room(record, kind)))
        return;
    json = srv_job_record_json(record, SRV_RECORD_WHOLE);
    read = json ? 0 : ELS_ENOMEM;
    if (read == 0 && has_inside(record, kind))
        read = add_tensors(req, record, kind, json_object_get(json, "result"), &err);
    if (read == 0) {
        srv_response_json(res, status, json);
    } else {
        json_decref(json);
        srv_results_reading_failed(req, res, record, read, &err);
    }
}

/* ---- anything ---- */

/* All images of the kind's main output in one picture. */
static void answer_grid(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                        const struct srv_output *o)
{
    struct els_buffer values = ELS_BUFFER_INIT(srv_results_bytes(record, o));
    struct els_buffer png = ELS_BUFFER_INIT(MAX_PNG);
    struct els_error err = {0};
    int64_t n = (int64_t)(srv_results_bytes(record, o) / sizeof(float) / els_shape_values(record->shape));
    int columns = o->image_axis == 1 && record->depth > 1 ? (int)record->num_images : 0; /* a row per scale */
    int status;

    if (!srv_response_charge(res, srv_room_picture(record->shape, n, columns, 1, record->params)))
        return;
    status = append_data(req, record, o, &values, &err);
    if (status == 0)
        status = draw(record, (const float *)(const void *)values.data, n, columns, -1, 1, &png);
    els_buffer_deinit(&values);
    if (status == ELS_ELIMIT) {
        srv_problem(res, 406, "grid_too_large", "The images do not fit into one PNG; fetch them one by one, or as "
                                                "application/vnd.safetensors.");
        els_buffer_deinit(&png);
    } else {
        answer_drawn(req, res, record, status, &err, &png);
    }
}

void srv_results_answer(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                        const char *type)
{
    const struct srv_job_type *kind;

    if (strcmp(type, SRV_JSON_TYPE) == 0) {
        srv_results_json(req, res, 200, record);
        return;
    }
    kind = srv_results_kind(res, record);
    if (!kind)
        return;
    if (!kind->outputs[0].word)
        srv_problem(res, 406, "not_acceptable", "A job of the kind %s has no tensors; its result is JSON.",
                    record->kind);
    else if (strcmp(type, SRV_NPY_TYPE) == 0)
        srv_results_npy(req, res, record, &kind->outputs[0]);
    else if (strcmp(type, SRV_SAFETENSORS_TYPE) == 0)
        srv_results_tensors(req, res, record);
    else if (kind->has_sheet)
        srv_results_sheet(req, res, record, 1);
    else if (kind->has_images && record->num_images == 1)
        srv_results_image(req, res, record, 0, 1);
    else
        answer_grid(req, res, record, &kind->outputs[0]);
}
