/*
 * From the body of a request to checked parameters and back to resolved JSON, the same way for every kind of job.
 * Called by the handler pool when a job comes in, and by srv_jobs_new when a stored job is queued again; no state.
 *
 * All fields are read before anything is refused, so one answer names every mistake, up to SRV_MAX_FAULTS: there the
 * reading ends, for the rest of a hostile body is not worth the time. What depends on several fields
 * comes after, in the kind's settle(). That ends with the library's own word on the parameters, so an accepted
 * job cannot fail for them.
 */
#include "server/params/params.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/json.h"
#include "els/effort.h"
#include "els/mem.h"
#include "server/base/json_body.h"
#include "server/params/caption.h"
#include "server/params/params_fields.h"

struct srv_limits srv_limits_of(const struct srv_config *config)
{
    /* What is stored takes more than its values: pages, pictures, JSON. Half is sure to fit. */
    int64_t half = config->retention_bytes / 2;

    return (struct srv_limits){
        .max_num_images = config->max_num_images,
        .max_num_inference_steps = config->max_num_inference_steps,
        .max_result_bytes = half > 0 && half < config->max_result_bytes ? half : config->max_result_bytes,
        .max_excluded = SRV_MAX_EXCLUDED,
        .max_cost = (double)config->max_job_cost,
        .threads = config->threads > 0 ? (int)config->threads : (int)sysconf(_SC_NPROCESSORS_ONLN),
    };
}

struct srv_limits srv_limits_widest(void)
{
    return (struct srv_limits){
        .max_num_images = ELS_MAX_NUM_IMAGES,
        .max_num_inference_steps = ELS_MAX_INFERENCE_STEPS,
        .max_result_bytes = INT64_MAX,
        .max_excluded = SRV_MAX_EXCLUDED_ONCE,
    };
}

/* ---- faults ---- */

bool srv_faults_full(const struct srv_faults *faults)
{
    return faults->count == SRV_MAX_FAULTS;
}

int srv_fault(struct srv_faults *faults, const char *pointer, const char *format, ...)
{
    va_list ap;

    if (faults->status == 0) {
        faults->status = 422;
        faults->code = "invalid_parameters";
    }
    if (srv_faults_full(faults))
        return ELS_EINVAL;
    snprintf(faults->fault[faults->count].pointer, sizeof(faults->fault[0].pointer), "%s", pointer);
    va_start(ap, format);
    vsnprintf(faults->fault[faults->count].detail, sizeof(faults->fault[0].detail), format, ap);
    va_end(ap);
    faults->count++;
    return ELS_EINVAL;
}

int srv_fault_memory(struct srv_faults *faults)
{
    srv_fault(faults, "", "Out of memory.");
    faults->status = 500;
    faults->code = "out_of_memory";
    return ELS_ENOMEM;
}

void srv_faults_answer(const struct srv_faults *faults, struct srv_response *res)
{
    if (faults->count == 1)
        srv_problem(res, faults->status, faults->code, "%s", faults->fault[0].detail);
    else
        srv_problem(res, faults->status, faults->code, "%zu values%s are not acceptable. The first: %s", faults->count,
                    srv_faults_full(faults) ? " or more" : "", faults->fault[0].detail);
    for (size_t i = 0; i < faults->count; i++)
        srv_problem_error(res, faults->fault[i].pointer, "%s", faults->fault[i].detail);
}

/* ---- unknown fields ---- */

enum { LONGEST_NAME = 40 };

static int smallest(int a, int b, int c)
{
    int ab = a < b ? a : b;

    return ab < c ? ab : c;
}

/* Levenshtein's edit distance, of names no longer than LONGEST_NAME. There are at most SRV_MAX_FAULTS searches, of a
 * kind's fields each. */
static int edit_distance(const char *a, const char *b)
{
    int row[LONGEST_NAME + 1];
    int n = (int)strlen(b);

    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int corner = row[0];

        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j];

            row[j] = smallest(above + 1, row[j - 1] + 1, corner + (a[i - 1] != b[j - 1]));
            corner = above;
        }
    }
    return row[n];
}

const struct srv_field *srv_field_find(const struct srv_job_type *kind, const char *name)
{
    for (const struct srv_field *const *f = kind->fields; *f; f++)
        if (strcmp((*f)->name, name) == 0)
            return *f;
    return NULL;
}

static void fault_unknown(struct srv_faults *faults, const struct srv_job_type *kind, const char *name)
{
    const char *closest = NULL;
    int best = 4; /* farther than that it is a guess, not a slip */
    char pointer[96];

    for (const struct srv_field *const *f = kind->fields; *f && strlen(name) <= LONGEST_NAME; f++) {
        int distance = edit_distance(name, (*f)->name);

        if (distance < best && distance < (int)strlen((*f)->name)) {
            best = distance;
            closest = (*f)->name;
        }
    }
    srv_pointer(pointer, "", name);
    if (closest)
        srv_fault(faults, pointer, "There is no field \"%.60s\"; did you mean \"%s\"?", name, closest);
    else
        srv_fault(faults, pointer, "There is no field \"%.60s\".", name);
}

/* ---- reading ---- */

static int read_fallback(struct srv_reading *r, const struct srv_field *f)
{
    json_t *value = json_loads(f->fallback, JSON_DECODE_ANY, NULL);
    int n;

    if (!value)
        return srv_fault_memory(r->faults);
    n = f->read(r, f, value);
    json_decref(value);
    return n;
}

static void read_fields(struct srv_reading *r)
{
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)r->source->body, name, value)
    {
        if (srv_faults_full(r->faults))
            return;
        if (!srv_field_find(r->params->kind, name))
            fault_unknown(r->faults, r->params->kind, name);
    }
    for (const struct srv_field *const *f = r->params->kind->fields; *f && !srv_faults_full(r->faults); f++) {
        value = json_object_get(r->source->body, (*f)->name);
        if (value)
            (*f)->read(r, *f, value);
        else
            read_fallback(r, *f);
    }
}

/* ---- what every kind's settle() needs ---- */

/* Is there more than a job may keep? Then a fault. */
static void check_bytes(struct srv_reading *r)
{
    const struct srv_params *p = r->params;
    uint64_t max = (uint64_t)r->source->limits.max_result_bytes;

    if (p->result_bytes <= max)
        return;
    srv_fault(r->faults, "",
              "The outputs would take %llu bytes; at most %llu are allowed. Ask for fewer images, steps or outputs.",
              (unsigned long long)p->result_bytes, (unsigned long long)max);
    r->faults->status = 413;
    r->faults->code = "result_too_large";
}

void srv_settle_bytes(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    struct srv_extent extent = srv_params_extent(p);
    uint64_t per_image = 0;

    for (int i = 0; p->kind->outputs[i].word; i++)
        if (srv_params_keep(p, i))
            per_image += sizeof(float) * srv_output_values(&p->kind->outputs[i], &extent);
    /* At most 2^20 values times 3·10^5 of steps and outputs times 10^4 images: no overflow. */
    p->result_bytes = per_image * (uint64_t)p->spec.num_images;
    check_bytes(r);
}

/* Every picture carries the parameters: with many of both that is more than the tensors take. */
static void settle_captions(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    size_t bytes;

    if (!p->kind->has_images && !p->kind->has_sheet)
        return;
    bytes = srv_caption_bytes(r->resolved, p->kind->has_images ? p->spec.num_images : -1);
    if (bytes == 0) {
        srv_fault_memory(r->faults);
        return;
    }
    p->result_bytes += bytes;
    check_bytes(r);
}

double srv_pass_cost(const struct srv_params *p, int scale, int64_t bank_images)
{
    return els_effort_pairs(p->spec.machine, p->spec.candidates, p->shape, scale) * (double)bank_images;
}

double srv_passes_cost(const struct srv_params *p, int64_t bank_images)
{
    double cost = p->num_p > 0 ? 0 : srv_pass_cost(p, 1, bank_images);

    for (int k = 0; k < p->num_p; k++)
        cost += srv_pass_cost(p, p->p[k], bank_images);
    return cost;
}

/* Every kind's settle() has told the cost. */
static void settle_cost(struct srv_reading *r)
{
    double max = r->source->limits.max_cost;

    if (max <= 0 || r->params->cost <= max)
        return;
    srv_fault(r->faults, "",
              "The job would cost %.3g (images x steps x scales x values x candidates of a pixel); at most %.3g is "
              "allowed. Ask for fewer images, steps or scales, or set max_samples.",
              r->params->cost, max);
    r->faults->code = "job_too_expensive";
}

/* Likewise; on top of what the kind counted come the results themselves, captions included, and what was uploaded. */
static void settle_memory(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    uint64_t max = (uint64_t)r->source->limits.max_run_bytes;

    p->run_bytes += p->result_bytes + srv_params_input_bytes(p);
    if (max == 0 || p->run_bytes <= max)
        return;
    srv_fault(r->faults, "",
              "Running the job would take about %llu bytes of memory; one client can have at most %llu (memory_limit, "
              "and the share of it). Ask for fewer images, steps, scales or outputs.",
              (unsigned long long)p->run_bytes, (unsigned long long)max);
    r->faults->status = 413;
    r->faults->code = "run_too_large";
}

void srv_settle_evaluation_bytes(struct srv_reading *r, const struct els_evaluation *e, int64_t batch, bool entropy)
{
    size_t bytes = els_effort_bytes(e, batch, entropy, r->source->limits.threads > 0 ? r->source->limits.threads : 1);

    if (bytes == 0)
        srv_fault_memory(r->faults);
    if (bytes > r->params->run_bytes)
        r->params->run_bytes = bytes;
}

int srv_fault_library(struct srv_reading *r, const struct els_error *err)
{
    const struct els_selection_spec *selection = &r->params->spec.selection;
    const char *field = err->field;
    char pointer[96] = "";

    if (err->code == ELS_ENOMEM)
        return srv_fault_memory(r->faults);
    /* The bank itself is fine by now: what the library means is that the selection leaves nothing of it. */
    if (strcmp(field, "bank") == 0)
        field = selection->exclude_images || selection->exclude_classes ? "exclude" : "label";
    if (srv_field_find(r->params->kind, field))
        snprintf(pointer, sizeof(pointer), "/%s", field);
    return srv_fault(r->faults, pointer, "%s", err->message);
}

/* The resolved parameters without what a job has of its own, as a fingerprint. */
static int settle_likeness(const struct srv_reading *r)
{
    struct srv_params *p = r->params;
    json_t *rest = json_copy(r->resolved);
    struct els_sha256 hash;
    char *text = NULL;

    for (const struct srv_field *const *f = p->kind->fields; rest && *f; f++)
        if ((*f)->own)
            json_object_del(rest, (*f)->name);
    if (rest)
        text = els_json_text(rest, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    json_decref(rest);
    if (!text)
        return srv_fault_memory(r->faults);
    els_sha256_init(&hash);
    els_sha256_update(&hash, text, strlen(text));
    els_sha256_hex(&hash, p->likeness);
    free(text);
    return 0;
}

int srv_params_new(struct srv_params **out, const struct srv_params_source *source,
                   struct srv_faults *faults)
{
    struct srv_params *p = els_alloc_array(1, sizeof(*p));
    struct srv_reading r = {.source = source, .faults = faults, .params = p, .resolved = json_object()};

    *faults = (struct srv_faults){0};
    if (!p || !r.resolved) {
        srv_fault_memory(faults);
        goto out;
    }
    p->kind = source->kind;
    p->depth = 1;
    els_sample_spec_init(&p->spec);
    read_fields(&r);
    if (!srv_faults_full(faults))
        p->kind->settle(&r);
    if (faults->count == 0)
        settle_captions(&r);
    if (faults->count == 0)
        settle_cost(&r);
    if (faults->count == 0) {
        p->json = els_json_text(r.resolved, JSON_COMPACT | JSON_REAL_PRECISION(17));
        if (!p->json)
            srv_fault_memory(faults);
        else if (p->shares)
            settle_likeness(&r);
    }
    if (faults->count == 0)
        settle_memory(&r);
out:
    json_decref(r.resolved);
    if (faults->count > 0) {
        srv_params_free(p);
        return faults->status == 500 ? ELS_ENOMEM : faults->status == 413 ? ELS_ELIMIT : ELS_EINVAL;
    }
    *out = p;
    return 0;
}

struct srv_params *srv_params_free(struct srv_params *p)
{
    if (!p)
        return NULL;
    els_scales_deinit(&p->spec.scales);
    els_bank_unref(p->spec.bank);
    for (size_t i = 0; i < p->num_inputs; i++)
        free(p->inputs[i].values);
    free(p->json);
    free(p->t);
    free(p->level);
    free(p->seeds);
    free(p->drawn);
    free(p->alpha_bar);
    free(p->exclude_images);
    free(p->exclude_classes);
    free(p);
    return NULL;
}

/* What lists of numbers become: eight bytes for every two characters ("1,"), and no more than there may be values. */
static size_t lists_memory(size_t text)
{
    const size_t most = SRV_JSON_MAX_VALUES * sizeof(double);

    return 4 * text < most ? 4 * text : most;
}

size_t srv_params_text_memory(size_t text)
{
    /* Itself, its copy in the record, and tensors as base64 in it: three bytes for every four characters. */
    return sizeof(struct srv_params) + 2 * text + text / 4 * 3 + lists_memory(text);
}

size_t srv_params_memory(const struct srv_params *p)
{
    size_t text = strlen(p->json), bytes = sizeof(*p) + 2 * text + lists_memory(text);

    bytes += srv_params_held_bytes(p);
    if (p->drawn)
        bytes += (size_t)p->num_seeds * els_shape_values(p->shape) * sizeof(float);
    return bytes;
}

struct srv_extent srv_params_extent(const struct srv_params *p)
{
    return (struct srv_extent){p->shape, p->spec.num_images, p->num_steps, p->depth};
}

bool srv_params_keep(const struct srv_params *p, int i)
{
    return p->kind->outputs[i].always || (p->outputs & 1u << i);
}

bool srv_params_alike(const struct srv_params *a, const struct srv_params *b)
{
    /* A bank that was read again is another, under the same name. */
    return *a->likeness && a->kind == b->kind && a->spec.bank == b->spec.bank && strcmp(a->likeness, b->likeness) == 0;
}
