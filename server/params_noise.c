/*
 * The field `noise`: a generator's name, or the initial noise x_T itself: a tensor of a safetensors body
 * by its name, or {"npy_base64": "…"}. Called by params.c through the table, from any back-room thread.
 *
 * An uploaded x_T is float32, finite, [N,C,H,W] with the bank's C, H, W, or [C,H,W] for one image.
 * params.c compares N with num_images, or takes num_images from it.
 */
#include "params_fields.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "mem.h"
#include "npy.h"

/* Does the tensor fit the bank? *n is then its number of images. */
static bool shape_fits(const struct els_tensor *x, struct els_shape shape, int64_t *n)
{
    const int64_t *tail = x->ndim == 4 ? x->dims + 1 : x->dims;

    if (x->ndim != 3 && x->ndim != 4)
        return false;
    *n = x->ndim == 4 ? x->dims[0] : 1;
    return tail[0] == shape.c && tail[1] == shape.h && tail[2] == shape.w;
}

static int take_noise(struct srv_reading *r, const struct els_tensor *x)
{
    struct els_shape shape = r->params->shape;
    int64_t n = 0, max = r->source->limits.max_num_images;
    size_t count;
    char text[96];

    if (x->dtype != ELS_F32 || !shape_fits(x, shape, &n) || n < 1 || n > max)
        return srv_fault(r->faults, "/noise",
                         "noise is a tensor of %s %s; it must be F32 [N, %d, %d, %d] with N from 1 to %lld.",
                         els_dtype_name(x->dtype), els_tensor_shape_text(x, text, sizeof(text)), shape.c,
                         shape.h, shape.w, (long long)max);
    count = els_tensor_count(x);
    r->params->x_T = els_alloc_array(count, sizeof(float));
    if (!r->params->x_T)
        return srv_fault_memory(r->faults);
    els_tensor_to_f32(x, r->params->x_T);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(r->params->x_T[i]))
            return srv_fault(r->faults, "/noise", "noise holds a value that is not finite, at flat index %zu.", i);
    r->params->spec.x_T = r->params->x_T;
    r->noise_images = n;
    return 0;
}

static int read_npy(struct srv_reading *r, const json_t *value)
{
    const json_t *text = json_object_get(value, "npy_base64");
    struct els_buffer bytes = ELS_BUFFER_INIT(SRV_MAX_NOISE_TEXT);
    struct els_error err = {0};
    struct els_tensor x;
    int status;

    if (json_object_size(value) != 1 || !json_is_string(text))
        return srv_fault(r->faults, "/noise", "noise as an object must be {\"npy_base64\":\"...\"}.");
    if (json_string_length(text) > SRV_MAX_NOISE_TEXT)
        return srv_fault(r->faults, "/noise/npy_base64",
                         "noise.npy_base64 has %zu characters; at most %d are allowed, send larger noise as a "
                         "safetensors body.",
                         json_string_length(text), SRV_MAX_NOISE_TEXT);
    status = srv_base64_decode(&bytes, json_string_value(text), json_string_length(text));
    if (status == ELS_ENOMEM)
        status = srv_fault_memory(r->faults);
    else if (status < 0)
        status = srv_fault(r->faults, "/noise/npy_base64", "noise.npy_base64 is not base64 with padding.");
    else if (els_npy_parse(&x, bytes.data, bytes.size, &err) < 0)
        status = srv_fault(r->faults, "/noise/npy_base64", "noise.npy_base64: %s", err.message);
    else
        status = take_noise(r, &x);
    els_buffer_deinit(&bytes);
    return status < 0 ? status : srv_resolve(r, "noise", json_deep_copy(value));
}

static int read_tensor(struct srv_reading *r, const char *name)
{
    const struct els_tensor *x = r->source->stored_noise;

    if (!x && r->source->tensors)
        x = els_safetensors_find(r->source->tensors, name);
    if (!x)
        return srv_fault(r->faults, "/noise",
                         "noise is \"%.60s\"; it must be torch, numpy, {\"npy_base64\":\"...\"}, or the name of a "
                         "tensor that the body, as safetensors, holds.",
                         name);
    r->params->noise_from_tensor = true;
    if (take_noise(r, x) < 0)
        return ELS_EINVAL;
    return srv_resolve(r, "noise", json_string(name));
}

int srv_read_noise(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    char text[SRV_VALUE_TEXT];

    if (json_is_string(value) && els_noise_parse(json_string_value(value), &r->params->spec.noise) == 0)
        return srv_resolve(r, f->name, json_string(json_string_value(value)));
    if (!json_is_string(value) && !json_is_object(value))
        return srv_fault(r->faults, "/noise",
                         "noise is %s; it must be torch, numpy, the name of a tensor, or {\"npy_base64\":\"...\"}.",
                         srv_value_text(value, text));
    /* Without a bank there is no shape to compare with, and the bank's fault has been told. */
    if (!r->params->spec.bank)
        return 0;
    return json_is_string(value) ? read_tensor(r, json_string_value(value)) : read_npy(r, value);
}
