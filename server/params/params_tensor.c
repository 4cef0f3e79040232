/*
 * Tensors that a client sends: beside the JSON, by their names in a safetensors body, or inside it as
 * {"npy_base64": "…"}; and the field `noise`, which may be one. Called by the readers of fields, from any back-room
 * thread.
 *
 * What is taken is copied as float32 into params->inputs, finite and within what the engine accepts. Whoever takes it
 * has checked the dimensions before, and says what they must be.
 */
#include "server/params/params_fields.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"
#include "els/npy.h"
#include "server/base/base64.h"

/* A noisy pixel beyond this is no noisy image; the engine refuses it too. */
#define MAX_ABS 1e4f

/* ---- finding ---- */

static int find_npy(struct srv_reading *r, const char *field, const json_t *value, struct srv_found_tensor *out)
{
    const json_t *text = json_object_get(value, "npy_base64");
    struct els_error err = {0};
    char at[96], inside[96];
    int status;

    srv_pointer(at, "", field);
    srv_pointer(inside, at, "npy_base64");
    if (json_object_size(value) != 1 || !json_is_string(text))
        return srv_fault(r->faults, at, "%s as an object must be {\"npy_base64\":\"...\"}.", field);
    if (json_string_length(text) > SRV_MAX_TENSOR_TEXT)
        return srv_fault(r->faults, inside,
                         "%s.npy_base64 has %zu characters; at most %d are allowed, send larger tensors in a "
                         "safetensors body.",
                         field, json_string_length(text), SRV_MAX_TENSOR_TEXT);
    status = srv_base64_decode(&out->bytes, json_string_value(text), json_string_length(text));
    if (status == ELS_ENOMEM)
        return srv_fault_memory(r->faults);
    if (status < 0)
        return srv_fault(r->faults, inside, "%s.npy_base64 is not base64 with padding.", field);
    if (els_npy_parse(&out->tensor, out->bytes.data, out->bytes.size, &err) < 0)
        return srv_fault(r->faults, inside, "%s.npy_base64: %s", field, err.message);
    return srv_resolve(r, field, json_deep_copy(value));
}

static int find_beside(struct srv_reading *r, const char *field, const char *name, struct srv_found_tensor *out)
{
    const struct els_tensor *x = r->source->tensors ? els_safetensors_find(r->source->tensors, name) : NULL;
    char at[96];

    if (!x)
        return srv_fault(r->faults, srv_pointer(at, "", field),
                         "%s is missing: there is no tensor \"%.60s\" in a safetensors body; send one, or "
                         "{\"npy_base64\":\"...\"}.",
                         field, name);
    if (strlen(name) >= sizeof(r->params->inputs[0].name) || !*name)
        return srv_fault(r->faults, srv_pointer(at, "", field), "A tensor's name must have 1 to %zu bytes.",
                         sizeof(r->params->inputs[0].name) - 1);
    out->tensor = *x;
    out->name = name;
    return srv_resolve(r, field, json_string(name));
}

int srv_find_tensor(struct srv_reading *r, const char *field, const json_t *value, struct srv_found_tensor *out)
{
    char at[96], text[SRV_VALUE_TEXT];

    if (json_is_object(value))
        return find_npy(r, field, value, out);
    if (json_is_string(value))
        return find_beside(r, field, json_string_value(value), out);
    if (json_is_null(value))
        return find_beside(r, field, field, out);
    return srv_fault(r->faults, srv_pointer(at, "", field),
                     "%s is %s; it must be the name of a tensor in a safetensors body, or {\"npy_base64\":\"...\"}.",
                     field, srv_value_text(value, text));
}

void srv_found_tensor_deinit(struct srv_found_tensor *found)
{
    els_buffer_deinit(&found->bytes);
}

/* ---- taking ---- */

static const float *copy_values(struct srv_reading *r, const char *field, const struct els_tensor *x)
{
    struct srv_input *input = &r->params->inputs[r->params->num_inputs];
    size_t count = els_tensor_count(x);
    char at[96];

    input->values = els_alloc_array(count, sizeof(float));
    if (!input->values) {
        srv_fault_memory(r->faults);
        return NULL;
    }
    els_tensor_to_f32(x, input->values);
    for (size_t i = 0; i < count; i++) {
        if (fabsf(input->values[i]) <= MAX_ABS)
            continue;
        srv_fault(r->faults, srv_pointer(at, "", field),
                  "%s[%zu], in row-major order, is %g; its values must be finite and between %g and %g.", field, i,
                  (double)input->values[i], (double)-MAX_ABS, (double)MAX_ABS);
        free(input->values);
        input->values = NULL;
        return NULL;
    }
    return input->values;
}

const float *srv_take_tensor(struct srv_reading *r, const char *field, const struct srv_found_tensor *found)
{
    const struct els_tensor *x = &found->tensor;
    struct srv_input *input = &r->params->inputs[r->params->num_inputs];
    const float *values;
    char at[96];

    /* A kind has fewer tensor fields than there are places. */
    if (x->dtype != ELS_F32 && x->dtype != ELS_F64) {
        srv_fault(r->faults, srv_pointer(at, "", field), "%s holds %s; it must hold F32 or F64.", field,
                  els_dtype_name(x->dtype));
        return NULL;
    }
    values = copy_values(r, field, x);
    if (!values)
        return NULL;
    snprintf(input->name, sizeof(input->name), "%s", found->name ? found->name : "");
    input->ndim = x->ndim;
    memcpy(input->dims, x->dims, sizeof(input->dims));
    r->params->num_inputs++;
    return values;
}

/* ---- into the store and back ---- */

/* The fields of srv_params that point into its inputs. */
static const size_t into_inputs[] = {
    offsetof(struct srv_params, spec.x_T), offsetof(struct srv_params, x),  offsetof(struct srv_params, xt),
    offsetof(struct srv_params, eps),      offsetof(struct srv_params, x0), offsetof(struct srv_params, images),
};
enum { NUM_INTO_INPUTS = sizeof(into_inputs) / sizeof(*into_inputs) };

static const float **field_into(struct srv_params *p, int i)
{
    return (const float **)((char *)p + into_inputs[i]);
}

/* Two fields may name the same tensor: then each has a copy, and the container has it once. */
static bool is_written(const struct srv_params *p, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(p->inputs[k].name, p->inputs[i].name) == 0)
            return false;
    return *p->inputs[i].name;
}

int srv_params_write_inputs(const struct srv_params *p, struct els_buffer *out)
{
    struct els_named_tensor list[SRV_MAX_INPUTS];
    size_t n = 0;

    for (size_t i = 0; i < p->num_inputs; i++) {
        const struct srv_input *input = &p->inputs[i];

        if (is_written(p, i))
            list[n++] = (struct els_named_tensor){
                input->name, els_tensor_view(ELS_F32, input->ndim, input->dims, input->values)};
    }
    return n > 0 ? els_safetensors_write(out, list, n, NULL, NULL, 0) : 0;
}

static size_t count_values(const struct srv_input *input)
{
    struct els_tensor t = els_tensor_view(ELS_F32, input->ndim, input->dims, NULL);

    return els_tensor_count(&t);
}

size_t srv_params_input_bytes(const struct srv_params *p)
{
    size_t bytes = 0;

    for (size_t i = 0; i < p->num_inputs; i++)
        if (is_written(p, i))
            bytes += count_values(&p->inputs[i]) * sizeof(float);
    return bytes;
}

size_t srv_params_held_bytes(const struct srv_params *p)
{
    size_t bytes = 0;

    for (size_t i = 0; i < p->num_inputs; i++)
        if (p->inputs[i].values)
            bytes += count_values(&p->inputs[i]) * sizeof(float);
    return bytes;
}

void srv_params_drop_inputs(struct srv_params *p)
{
    for (size_t i = 0; i < p->num_inputs; i++) {
        struct srv_input *input = &p->inputs[i];

        if (!*input->name || !input->values)
            continue;
        input->fields = 0;
        for (int k = 0; k < NUM_INTO_INPUTS; k++) {
            if (*field_into(p, k) == input->values) {
                *field_into(p, k) = NULL;
                input->fields |= 1u << k;
            }
        }
        free(input->values);
        input->values = NULL;
    }
}

bool srv_params_lack_inputs(const struct srv_params *p)
{
    for (size_t i = 0; i < p->num_inputs; i++)
        if (!p->inputs[i].values)
            return true;
    return false;
}

static int load_input(struct srv_params *p, struct srv_input *input, const struct els_safetensors *inputs,
                      struct els_error *err)
{
    const struct els_tensor *x = inputs ? els_safetensors_find(inputs, input->name) : NULL;

    if (!x || x->dtype != ELS_F32 || x->ndim != input->ndim ||
        memcmp(x->dims, input->dims, (size_t)x->ndim * sizeof(*x->dims)) != 0)
        return els_fail(err, ELS_EFORMAT, NULL, "The store does not hold the tensor \"%s\" as it was sent.",
                        input->name);
    input->values = els_alloc_array(els_tensor_count(x), sizeof(float));
    if (!input->values)
        return els_fail(err, ELS_ENOMEM, NULL, "There is no memory for the tensor \"%s\".", input->name);
    els_tensor_to_f32(x, input->values);
    for (int k = 0; k < NUM_INTO_INPUTS; k++)
        if (input->fields & 1u << k)
            *field_into(p, k) = input->values;
    return 0;
}

int srv_params_load_inputs(struct srv_params *p, const struct els_safetensors *inputs, struct els_error *err)
{
    int status = 0;

    for (size_t i = 0; i < p->num_inputs && status == 0; i++)
        if (!p->inputs[i].values)
            status = load_input(p, &p->inputs[i], inputs, err);
    return status;
}

/* ---- images ---- */

bool srv_tensor_is_given(const struct srv_reading *r, const char *field, const json_t *value)
{
    if (!json_is_null(value))
        return true;
    return r->source->tensors && els_safetensors_find(r->source->tensors, field);
}

/* "[B, 1, 32, 32]" */
static const char *wanted_shape(const char *leads, struct els_shape shape, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "[");

    for (; *leads && used < size; leads++)
        used += (size_t)snprintf(out + used, size - used, "%c, ", *leads);
    if (used < size)
        snprintf(out + used, size - used, "%d, %d, %d]", shape.c, shape.h, shape.w);
    return out;
}

/* Do the dimensions fit? Then lead[i] are the leading ones. */
static bool shape_fits(const struct els_tensor *x, struct els_shape shape, int leads, int64_t most, int64_t *lead)
{
    bool alone = leads == 1 && x->ndim == 3;
    const int64_t *tail = x->dims + (alone ? 0 : leads);

    if (!alone && x->ndim != leads + 3)
        return false;
    for (int i = 0; i < leads; i++) {
        lead[i] = alone ? 1 : x->dims[i];
        if (lead[i] < 1 || lead[i] > most)
            return false;
    }
    return tail[0] == shape.c && tail[1] == shape.h && tail[2] == shape.w;
}

const float *srv_read_images(struct srv_reading *r, const char *field, const json_t *value, const char *leads,
                             int64_t most, int64_t *lead)
{
    struct srv_found_tensor found = SRV_FOUND_TENSOR_INIT;
    char at[96], dims[96], wanted[96];
    const float *values = NULL;

    /* Without a bank there is no shape to compare with, and the bank's fault has been told. */
    if (!r->params->spec.bank)
        return NULL;
    if (srv_find_tensor(r, field, value, &found) == 0) {
        if (shape_fits(&found.tensor, r->params->shape, (int)strlen(leads), most, lead))
            values = srv_take_tensor(r, field, &found);
        else
            srv_fault(r->faults, srv_pointer(at, "", field),
                      "%s is a tensor of %s %s; it must be F32 %s with %s from 1 to %lld.", field,
                      els_dtype_name(found.tensor.dtype), els_tensor_shape_text(&found.tensor, dims, sizeof(dims)),
                      wanted_shape(leads, r->params->shape, wanted, sizeof(wanted)),
                      leads[1] ? "each of the others" : leads, (long long)most);
    }
    srv_found_tensor_deinit(&found);
    return values;
}

/* ---- noise ---- */

int srv_read_noise(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    const char *name = json_string_value(value);
    char text[SRV_VALUE_TEXT];

    if (name && els_noise_parse(name, &r->params->spec.noise) == 0)
        return srv_resolve(r, f->name, json_string(name));
    if (!name && !json_is_object(value))
        return srv_fault(r->faults, "/noise",
                         "noise is %s; it must be torch, numpy, the name of a tensor, or {\"npy_base64\":\"...\"}.",
                         srv_value_text(value, text));
    if (name && !(r->source->tensors && els_safetensors_find(r->source->tensors, name)))
        return srv_fault(r->faults, "/noise",
                         "noise is \"%.60s\"; it must be torch, numpy, {\"npy_base64\":\"...\"}, or the name of a "
                         "tensor that the body, as safetensors, holds.",
                         name);
    r->params->spec.x_T = srv_read_images(r, f->name, value, "N", r->source->limits.max_num_images, &r->noise_images);
    return r->params->spec.x_T ? 0 : ELS_EINVAL;
}
