/*
 * Tensors of an ended job as .npy and .safetensors, read from the store while they are sent. The handler and the
 * reading of pieces run on handler threads; http.h tells how.
 *
 * The sizes of all tensors follow from the record, so the whole layout is known before anything is read: a header, kept
 * here until it has been sent, and then runs of values, each a part of one blob of the store. In a tensor whose images
 * are its first dimension a run is a blob; in one of [K, N, …] it is one of the K parts of a blob.
 *
 * Results never change while the job is there. When it is removed in the middle of an answer, the store has no such
 * tensor any more, and the connection ends short.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "els/npy.h"
#include "els/safetensors.h"
#include "server/api/results_internal.h"
#include "server/base/job_type.h"
#include "server/jobs/job_service.h"

enum { HEADER_ROOM = 16 << 10 /* of a header, beside the parameters */ };

/* One tensor of an answer. */
struct part {
    const char *tensor;
    uint64_t begins; /* where its values begin in the body */
    size_t outer;    /* K of [K,N,…]; else 1 */
    size_t images;
    size_t run; /* bytes that follow each other in one blob */
};

struct answer {
    struct srv_store *store;
    char id[SRV_ID_SIZE];
    struct els_buffer header;
    uint64_t header_size, size;
    struct part parts[SRV_MAX_OUTPUTS];
    size_t num_parts;
};

static void free_answer(void *user)
{
    struct answer *a = user;

    els_buffer_deinit(&a->header);
    free(a);
}

size_t srv_results_bytes(const struct srv_job_record *record, const struct srv_output *o)
{
    struct srv_extent extent = srv_job_record_extent(record);
    struct els_tensor t = o->describe(&extent);

    return els_tensor_bytes(&t);
}

/* Appends a tensor to the layout. */
static void add_part(struct answer *a, const struct srv_job_record *record, const struct srv_output *o)
{
    struct srv_extent extent = srv_job_record_extent(record);
    struct els_tensor t = o->describe(&extent);
    struct part *p = &a->parts[a->num_parts++];

    p->tensor = o->tensor;
    p->begins = a->size;
    p->outer = o->image_axis == 0 ? 1 : (size_t)t.dims[0];
    p->images = (size_t)t.dims[o->image_axis];
    p->run = srv_output_values(o, &extent) / p->outer * sizeof(float);
    a->size += els_tensor_bytes(&t);
}

/* The part that holds the byte at `offset`, which is one of the values. */
static const struct part *part_at(const struct answer *a, uint64_t offset)
{
    size_t i = a->num_parts - 1;

    while (a->parts[i].begins > offset)
        i--;
    return &a->parts[i];
}

/* Whole values of one run, at most `size` bytes, from the store. Returns how many bytes, or a negative status. */
static int64_t read_run(const struct answer *a, uint64_t offset, uint8_t *out, size_t size, struct els_error *err)
{
    const struct part *p = part_at(a, offset);
    uint64_t within = offset - p->begins;
    size_t run = (size_t)(within / p->run), at = (size_t)(within % p->run);
    size_t first = run / p->images * p->run + at, n = p->run - at < size ? p->run - at : size;
    int status;

    /* Headers end, and pieces begin and end, at multiples of a value. */
    assert(first % sizeof(float) == 0 && n % sizeof(float) == 0);
    status = srv_store_read_tensor(a->store, a->id, p->tensor, (int64_t)(run % p->images), first / sizeof(float),
                                   n / sizeof(float), out, err);
    return status < 0 ? status : (int64_t)n;
}

static int read_answer(struct srv_source *source, uint64_t offset, void *out, size_t size, struct els_error *err)
{
    struct answer *a = source->user;
    uint8_t *to = out;
    size_t n = 0;

    if (offset < a->header_size) {
        n = a->header_size - offset < size ? (size_t)(a->header_size - offset) : size;
        memcpy(to, a->header.data + offset, n);
    } else {
        els_buffer_deinit(&a->header);
        source->held = sizeof(*a);
    }
    while (n < size) {
        int64_t more = read_run(a, offset + n, to + n, size - n, err);

        if (more < 0)
            return (int)more;
        n += (size_t)more;
    }
    return 0;
}

/* ---- the two formats ---- */

/* With room for a header of so many bytes. */
static struct answer *new_answer(struct srv_request *req, const struct srv_job_record *record, size_t header)
{
    struct answer *a = els_alloc_array(1, sizeof(*a));
    void *space;

    if (!a)
        return NULL;
    a->store = srv_request_daemon(req)->jobs->store;
    memcpy(a->id, record->id, sizeof(a->id));
    a->header = ELS_BUFFER_INIT(header);
    if (els_buffer_extend(&a->header, header, &space) < 0) {
        free_answer(a);
        return NULL;
    }
    a->header.size = 0;
    return a;
}

static int make_npy(struct answer *a, const struct srv_job_record *record, const struct srv_output *o)
{
    struct srv_extent extent = srv_job_record_extent(record);
    struct els_tensor t = o->describe(&extent);
    int status = els_npy_write_header(&a->header, t.dtype, t.ndim, t.dims);

    a->size = a->header_size = a->header.size;
    add_part(a, record, o);
    return status;
}

static int make_safetensors(struct answer *a, const struct srv_job_record *record, const struct srv_job_type *kind)
{
    struct srv_extent extent = srv_job_record_extent(record);
    struct els_named_tensor list[SRV_MAX_OUTPUTS];
    const char *key = "params", *value = record->params;
    size_t n = 0;
    int status;

    for (int i = 0; kind->outputs[i].word; i++)
        if (record->outputs & 1u << i)
            list[n++] = (struct els_named_tensor){kind->outputs[i].tensor, kind->outputs[i].describe(&extent)};
    status = els_safetensors_write_header(&a->header, list, n, &key, &value, 1);
    a->size = a->header_size = a->header.size;
    for (int i = 0; kind->outputs[i].word; i++)
        if (record->outputs & 1u << i)
            add_part(a, record, &kind->outputs[i]);
    return status;
}

/* `o` NULL: all of them, as safetensors. */
static void answer(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                   const struct srv_job_type *kind, const struct srv_output *o)
{
    /* The header holds the parameters as a JSON string: a quotation mark becomes two characters. */
    size_t header = HEADER_ROOM + (o ? 0 : 2 * strlen(record->params));
    struct els_error err = {0};
    struct answer *a;
    int status;

    if (!srv_response_charge(res, sizeof(*a) + header))
        return;
    a = new_answer(req, record, header);
    if (!a) {
        srv_results_reading_failed(req, res, record, ELS_ENOMEM, &err);
        return;
    }
    status = o ? make_npy(a, record, o) : make_safetensors(a, record, kind);
    if (status < 0)
        free_answer(a);
    else
        status = srv_response_pieces(res, 200, o ? SRV_NPY_TYPE : SRV_SAFETENSORS_TYPE, a->size,
                                     &(struct srv_source){.read = read_answer, .free = free_answer, .user = a,
                                                          .held = sizeof(*a) + a->header.space},
                                     &err);
    if (status < 0)
        srv_results_reading_failed(req, res, record, status, &err);
}

void srv_results_npy(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record,
                     const struct srv_output *o)
{
    answer(req, res, record, NULL, o);
}

void srv_results_tensors(struct srv_request *req, struct srv_response *res, const struct srv_job_record *record)
{
    const struct srv_job_type *kind = srv_results_kind(res, record);

    if (kind)
        answer(req, res, record, kind, NULL);
}
