/*
 * From the body of a sampling request to a checked els_sample_spec and back to resolved JSON. Called by the back
 * room when a job comes in, and by srv_jobs_new when a stored job is queued again; no state.
 *
 * All fields are read before anything is refused, so one answer names every mistake. What depends on several fields
 * comes after, in settle(). The last check makes a sampler for one image and throws it away: then
 * the library itself has accepted the parameters, and an accepted job cannot fail for them.
 */
#include "params.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "mem.h"
#include "params_fields.h"

_Static_assert(sizeof(enum els_machine) == sizeof(int), "read_choice writes an int");

struct srv_limits srv_limits_of(const struct srv_config *config)
{
    return (struct srv_limits){
        .max_num_images = config->max_num_images,
        .max_num_inference_steps = config->max_num_inference_steps,
        .max_result_bytes = config->max_result_bytes,
    };
}

struct srv_limits srv_limits_widest(void)
{
    return (struct srv_limits){
        .max_num_images = ELS_MAX_NUM_IMAGES,
        .max_num_inference_steps = ELS_MAX_INFERENCE_STEPS,
        .max_result_bytes = INT64_MAX,
    };
}

/* ---- faults ---- */

int srv_fault(struct srv_faults *faults, const char *pointer, const char *format, ...)
{
    va_list ap;

    if (faults->status == 0) {
        faults->status = 422;
        faults->code = "invalid_parameters";
    }
    if (faults->count == SRV_MAX_FAULTS) {
        faults->left_out++;
        return ELS_EINVAL;
    }
    snprintf(faults->fault[faults->count].pointer, sizeof(faults->fault[0].pointer), "%s", pointer);
    va_start(ap, format);
    vsnprintf(faults->fault[faults->count].detail, sizeof(faults->fault[0].detail), format, ap);
    va_end(ap);
    faults->count++;
    return ELS_EINVAL;
}

int srv_fault_memory(struct srv_faults *faults)
{
    srv_fault(faults, "", "Memory is out.");
    faults->status = 500;
    faults->code = "out_of_memory";
    return ELS_ENOMEM;
}

void srv_faults_answer(const struct srv_faults *faults, struct srv_response *res)
{
    if (faults->count == 1)
        srv_problem(res, faults->status, faults->code, "%s", faults->fault[0].detail);
    else
        srv_problem(res, faults->status, faults->code, "%zu values are not acceptable. The first: %s",
                    faults->count + faults->left_out, faults->fault[0].detail);
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

/* Levenshtein's edit distance, of names no longer than LONGEST_NAME. */
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

static const struct srv_field *find_field(const char *name)
{
    for (const struct srv_field *f = srv_fields; f->name; f++)
        if (strcmp(f->name, name) == 0)
            return f;
    return NULL;
}

static void fault_unknown(struct srv_faults *faults, const char *name)
{
    const char *closest = NULL;
    int best = 4; /* farther than that it is a guess, not a slip */
    char pointer[96];

    for (const struct srv_field *f = srv_fields; f->name && strlen(name) <= LONGEST_NAME; f++) {
        int distance = edit_distance(name, f->name);

        if (distance < best && distance < (int)strlen(f->name)) {
            best = distance;
            closest = f->name;
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
        if (!find_field(name))
            fault_unknown(r->faults, name);
    for (const struct srv_field *f = srv_fields; f->name; f++) {
        value = json_object_get(r->source->body, f->name);
        if (value)
            f->read(r, f, value);
        else
            read_fallback(r, f);
    }
}

/* ---- what depends on several fields ---- */

static void settle_num_images(struct srv_reading *r)
{
    struct els_sample_spec *spec = &r->params->spec;

    if (r->noise_images == 0)
        return;
    if (!r->num_images_given)
        spec->num_images = r->noise_images;
    if (spec->num_images != r->noise_images)
        srv_fault(r->faults, "/noise", "noise holds %lld images, but num_images is %lld; they must be the same.",
                  (long long)r->noise_images, (long long)spec->num_images);
    srv_resolve(r, "num_images", json_integer(spec->num_images));
}

/* A bank's own list is said as pairs, which serve any number of steps. */
static void resolve_as_pairs(struct srv_reading *r)
{
    const struct els_scales *s = &r->params->spec.scales;
    json_t *t = json_array(), *p = json_array();
    int status = t && p ? 0 : -1;

    for (int i = 0; i < s->n && status == 0; i++)
        status = json_array_append_new(t, json_real(s->t[i])) || json_array_append_new(p, json_integer(s->p[i]));
    if (status == 0) {
        srv_resolve(r, "scales", json_pack("{s:O, s:O}", "t", t, "p", p));
    } else {
        srv_fault_memory(r->faults);
    }
    json_decref(t);
    json_decref(p);
}

static void settle_steps(struct srv_reading *r)
{
    struct els_sample_spec *spec = &r->params->spec;
    int64_t n = r->num_inference_steps;
    int64_t max = srv_field_max(find_field("num_inference_steps"), &r->source->limits);

    if (n == 0)
        n = r->list_length ? r->list_length : r->alpha_bar_length ? (int64_t)r->alpha_bar_length - 1 : 20;
    if (n < 2 || n > max)
        srv_fault(r->faults, "/num_inference_steps",
                  "num_inference_steps is %lld, the length of the list; it must be from 2 to %lld.", (long long)n,
                  (long long)max);
    if (r->list_length && r->list_length != n) {
        if (r->list_is_banks)
            resolve_as_pairs(r);
        else
            srv_fault(r->faults, "/scales", "scales has %d entries; a list must have num_inference_steps = %lld.",
                      r->list_length, (long long)n);
    }
    if (r->alpha_bar_length && (int64_t)r->alpha_bar_length != n + 1)
        srv_fault(r->faults, "/noise_schedule/alpha_bar",
                  "noise_schedule.alpha_bar has %zu entries; it must have num_inference_steps + 1 = %lld.",
                  r->alpha_bar_length, (long long)n + 1);
    spec->num_inference_steps = (int)n;
    r->params->num_steps = (int)(spec->start_step == ELS_START_FULL ? n : n - 1);
    srv_resolve(r, "num_inference_steps", json_integer(n));
}

static void settle_seed(struct srv_reading *r)
{
    struct els_sample_spec *spec = &r->params->spec;
    uint32_t random = 0;

    if (r->seed_given) {
        if (spec->seed + (uint64_t)spec->num_images - 1 > ELS_MAX_SEED)
            srv_fault(r->faults, "/seed", "seed is %llu; with %lld images it must be at most %llu.",
                      (unsigned long long)spec->seed, (long long)spec->num_images,
                      (unsigned long long)(ELS_MAX_SEED - (uint64_t)spec->num_images + 1));
    } else {
        /* 32 bits: all that torch's generator uses, and short enough to copy by hand. */
        if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
            srv_fault_memory(r->faults);
        spec->seed = random;
    }
    srv_resolve(r, "seed", json_integer((json_int_t)spec->seed));
}

const char *srv_output_tensor(unsigned output)
{
    switch (output) {
    case SRV_OUTPUT_IMAGE:
        return "images";
    case SRV_OUTPUT_X0:
        return "x0";
    case SRV_OUTPUT_XT:
        return "xt";
    case SRV_OUTPUT_ENTROPY:
        return "entropy";
    default:
        return NULL;
    }
}

size_t srv_output_values(unsigned output, struct els_shape shape, int num_steps)
{
    size_t values = els_shape_values(shape), steps = (size_t)num_steps;

    switch (output) {
    case SRV_OUTPUT_X0:
        return values * steps;
    case SRV_OUTPUT_XT:
        return values * (steps + 1);
    case SRV_OUTPUT_ENTROPY:
        return values / (size_t)shape.c * steps;
    default:
        return values;
    }
}

static void settle_bytes(struct srv_reading *r)
{
    struct srv_params *p = r->params;
    uint64_t per_image = 0, max = (uint64_t)r->source->limits.max_result_bytes;

    for (unsigned output = 1; srv_output_tensor(output); output <<= 1)
        if (output == SRV_OUTPUT_IMAGE || (p->outputs & output))
            per_image += sizeof(float) * srv_output_values(output, p->shape, p->num_steps);
    /* At most 2^20 values times 3·10^4 steps times 10^4 images: no overflow. */
    p->result_bytes = per_image * (uint64_t)p->spec.num_images;
    if (p->result_bytes <= max)
        return;
    srv_fault(r->faults, "",
              "The outputs would take %llu bytes; at most %llu are allowed. Ask for fewer images, steps or outputs.",
              (unsigned long long)p->result_bytes, (unsigned long long)max);
    r->faults->status = 413;
    r->faults->code = "result_too_large";
}

/* How much there is to compute: pixels times candidates, of all steps and images. A rough measure: only for
 * comparing jobs. */
static double work(const struct srv_params *p, int64_t bank_images)
{
    double pixels = (double)p->shape.h * p->shape.w;
    double per_image = pixels * p->shape.c * (double)bank_images;

    if (p->spec.machine != ELS_MACHINE_IS && p->spec.machine != ELS_MACHINE_LS)
        per_image *= pixels; /* every pixel of the bank is a candidate of every pixel */
    return per_image * p->num_steps * (double)p->spec.num_images;
}

/* The field that the library's sentence is about; the whole body when it names none of ours. */
static void fault_library(struct srv_reading *r, const struct els_error *err)
{
    const struct els_selection_spec *selection = &r->params->spec.selection;
    const char *field = err->field;
    char pointer[96] = "";

    /* The bank itself is fine by now: what the library means is that the selection leaves nothing of it. */
    if (strcmp(field, "bank") == 0)
        field = selection->exclude_images || selection->exclude_classes ? "exclude" : "label";
    if (find_field(field))
        snprintf(pointer, sizeof(pointer), "/%s", field);
    srv_fault(r->faults, pointer, "%s", err->message);
}

/* The library's own word on the parameters. */
static void settle_sampler(struct srv_reading *r)
{
    struct els_sample_spec one = r->params->spec;
    struct els_sampler *sampler = NULL;
    struct els_error err = {0};
    int status;

    one.num_images = 1;
    status = els_sampler_new(&sampler, &one, &err);
    if (status == 0)
        r->params->cost = work(r->params, els_sampler_num_bank_images(sampler));
    els_sampler_free(sampler);
    if (status == ELS_ENOMEM)
        srv_fault_memory(r->faults);
    else if (status < 0)
        fault_library(r, &err);
}

static void settle(struct srv_reading *r)
{
    settle_num_images(r);
    settle_steps(r);
    settle_seed(r);
    if (r->faults->count == 0)
        settle_bytes(r);
    if (r->faults->count == 0)
        settle_sampler(r);
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
    els_sample_spec_init(&p->spec);
    read_fields(&r);
    settle(&r);
    if (faults->count == 0) {
        p->json = json_dumps(r.resolved, JSON_COMPACT | JSON_REAL_PRECISION(17));
        if (!p->json)
            srv_fault_memory(faults);
    }
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
    free(p->json);
    free(p->x_T);
    free(p->alpha_bar);
    free(p->exclude_images);
    free(p->exclude_classes);
    free(p);
    return NULL;
}

char *srv_params_caption(const char *resolved, int index)
{
    json_t *params = json_loads(resolved, 0, NULL);
    char *text = NULL;
    int status = 0;

    if (!params)
        return NULL;
    json_object_del(params, "client_ref");
    if (json_is_object(json_object_get(params, "noise")))
        status |= json_object_set_new(params, "noise", json_string("uploaded"));
    if (index >= 0) {
        json_int_t seed = json_integer_value(json_object_get(params, "seed"));

        status |= json_object_set_new(params, "seed", json_integer(seed + index));
        status |= json_object_set_new(params, "num_images", json_integer(1));
    }
    if (status == 0)
        text = json_dumps(params, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(params);
    return text;
}
