/*
 * The field `scales`: a preset's name, a saved one, one odd number, a list with one entry per step, or pairs of t and P.
 * "auto" is what the bank alone says; null is the bank's own schedule, or a preset for a bank that has none. Called by
 * params.c through the rows, from any back-room thread. The machines is and es take scales and ignore them.
 *
 * A list from the request must have num_inference_steps entries (params.c checks it, when that number is known).
 * A bank's own list serves any number of steps, because scales are keyed by t.
 */
#include "server/params/params_fields.h"

#include <stdlib.h>
#include <string.h>

#include "els/mem.h"
#include "server/base/json_body.h"
#include "server/params/saved_scales.h"

#define DEFAULT_SCALES "mnist-resnet-zeros"

/* Passes a sentence of the library on. */
static int scales_fault(struct srv_faults *faults, const char *at, const struct els_error *err)
{
    if (err->code == ELS_ENOMEM)
        return srv_fault_memory(faults);
    return srv_fault(faults, at, "%s", err->message);
}

/* Reads a JSON array of P. A new array, or NULL and a fault. */
static int *read_p_list(struct srv_faults *faults, const char *pointer, const json_t *list)
{
    size_t n = json_array_size(list);
    char at[96], text[SRV_VALUE_TEXT];
    int *p = NULL;
    int64_t value;

    if (!json_is_array(list) || n < 1 || n > ELS_MAX_SCALES) {
        srv_fault(faults, pointer, "%s must be a list of 1 to %d odd whole numbers.", pointer + 1,
                  ELS_MAX_SCALES);
        return NULL;
    }
    p = els_alloc_array(n, sizeof(*p));
    if (!p) {
        srv_fault_memory(faults);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);

        if (srv_whole(entry, &value) && value >= 1 && value <= ELS_MAX_P && value % 2 == 1) {
            p[i] = (int)value;
            continue;
        }
        snprintf(at, sizeof(at), "%s/%zu", pointer, i);
        srv_fault(faults, at, "%s is %s; it must be an odd whole number from 1 to %d.", at + 1,
                  srv_value_text(entry, text), ELS_MAX_P);
        free(p);
        return NULL;
    }
    return p;
}

static double *read_t_list(struct srv_faults *faults, const char *pointer, const json_t *list, size_t n)
{
    char at[96], text[SRV_VALUE_TEXT];
    double *t = NULL;

    if (!json_is_array(list) || json_array_size(list) != n) {
        srv_fault(faults, pointer, "%s must be a list of numbers as long as that of p, which has %zu.", pointer + 1,
                  n);
        return NULL;
    }
    t = els_alloc_array(n, sizeof(*t));
    if (!t) {
        srv_fault_memory(faults);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);

        t[i] = json_number_value(entry);
        if (json_is_number(entry) && t[i] >= 0 && t[i] <= 1)
            continue;
        snprintf(at, sizeof(at), "%s/%zu", pointer, i);
        srv_fault(faults, at, "%s is %s; it must be a number from 0 to 1.", at + 1,
                  srv_value_text(entry, text));
        free(t);
        return NULL;
    }
    return t;
}

int srv_read_pairs(struct srv_faults *faults, const char *at, const json_t *value, struct els_scales *out)
{
    json_t *list = json_object_get(value, "p"), *entry;
    _cleanup_(els_freep) int *p = NULL;
    _cleanup_(els_freep) double *t = NULL;
    struct els_error err = {0};
    char pointer[96];
    const char *key;

    json_object_foreach((json_t *)value, key, entry)
        if (strcmp(key, "t") != 0 && strcmp(key, "p") != 0 && !srv_faults_full(faults))
            srv_fault(faults, srv_pointer(pointer, at, key), "There is no field \"%.60s\"; there are t and p.", key);
    if (!list || !json_object_get(value, "t"))
        return srv_fault(faults, at, "Scales as an object must be {\"t\":[...],\"p\":[...]}.");
    p = read_p_list(faults, srv_pointer(pointer, at, "p"), list);
    if (p)
        t = read_t_list(faults, srv_pointer(pointer, at, "t"), json_object_get(value, "t"), json_array_size(list));
    if (!t)
        return ELS_EINVAL;
    if (els_scales_from_pairs(out, (int)json_array_size(list), t, p, &err) < 0)
        return scales_fault(faults, at, &err);
    return 0;
}

static int read_pairs(struct srv_reading *r, const json_t *value)
{
    if (srv_read_pairs(r->faults, "/scales", value, &r->params->spec.scales) < 0)
        return ELS_EINVAL;
    return srv_resolve(r, "scales", json_deep_copy(value));
}

static int preset_fault(struct srv_reading *r, const char *name)
{
    char all[320] = "";
    size_t used = 0;
    const char *preset;

    for (int i = 0; (preset = els_scales_preset_name(i)) && used < sizeof(all); i++)
        used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "", preset);
    return srv_fault(r->faults, "/scales", "scales is \"%.40s\"; it may be auto, a name under which scales are saved, or one of the presets: %s.",
                     name, all);
}

/* What somebody saved under a name. It is resolved to what it is now: the name can come to mean something else. */
static int read_saved(struct srv_reading *r, const char *name)
{
    struct srv_saved_scales saved = {0};
    struct els_error err = {0};
    json_t *value = NULL;
    int status = ELS_ENOENT;

    if (r->source->store && srv_saved_name_is_good(name))
        status = srv_store_get_scales(r->source->store, r->source->owner, name, &saved, &err);
    if (status == ELS_ENOENT)
        return preset_fault(r, name);
    if (status == 0)
        value = srv_json_stored(saved.scales);
    if (value)
        status = read_pairs(r, value);
    else
        status = srv_fault(r->faults, "/scales", "The scales \"%s\" cannot be read: %s", name,
                           err.message[0] ? err.message : "they are not JSON.");
    json_decref(value);
    srv_saved_scales_deinit(&saved);
    return status;
}

static int read_preset(struct srv_reading *r, const char *name)
{
    struct els_error err = {0};
    const char *preset;

    for (int i = 0; (preset = els_scales_preset_name(i)); i++) {
        if (strcmp(name, preset) != 0)
            continue;
        if (els_scales_parse(&r->params->spec.scales, name, &err) < 0)
            return scales_fault(r->faults, "/scales", &err);
        return srv_resolve(r, "scales", json_string(name));
    }
    return read_saved(r, name);
}

static int read_list(struct srv_reading *r, const json_t *value)
{
    _cleanup_(els_freep) int *p = read_p_list(r->faults, "/scales", value);
    struct els_error err = {0};

    if (!p)
        return ELS_EINVAL;
    r->list_length = (int)json_array_size(value);
    if (els_scales_from_list(&r->params->spec.scales, r->list_length, p, &err) < 0)
        return scales_fault(r->faults, "/scales", &err);
    return srv_resolve(r, "scales", json_deep_copy(value));
}

static int read_given(struct srv_reading *r, const json_t *value)
{
    struct els_error err = {0};
    char text[SRV_VALUE_TEXT];
    int64_t p;

    if (json_is_string(value))
        return read_preset(r, json_string_value(value));
    if (json_is_array(value))
        return read_list(r, value);
    if (json_is_object(value))
        return read_pairs(r, value);
    if (!srv_whole(value, &p) || p < 1 || p > ELS_MAX_P || p % 2 == 0)
        return srv_fault(r->faults, "/scales",
                         "scales is %s; it must be a preset's or a saved name, one odd whole number from 1 to %d, a list of "
                         "them, or {\"t\":[...],\"p\":[...]}.",
                         srv_value_text(value, text), ELS_MAX_P);
    if (els_scales_constant(&r->params->spec.scales, (int)p, &err) < 0)
        return scales_fault(r->faults, "/scales", &err);
    return srv_resolve(r, "scales", json_integer(p));
}

/* The bank's own: a preset's name, or JSON of any of the other forms. */
static int read_banks_own(struct srv_reading *r, const char *own)
{
    json_t *value;
    int n;

    if (!strchr("[{0123456789", *own))
        return read_preset(r, own);
    value = srv_json_stored(own);
    if (!value)
        return srv_fault(r->faults, "/scales", "The bank's own scales are not valid JSON; give scales.");
    r->list_is_banks = true;
    n = read_given(r, value);
    json_decref(value);
    return n;
}

/* What the bank alone says. It is found when the job runs; until then the smallest scale stands in. */
static int read_auto(struct srv_reading *r)
{
    struct els_error err = {0};

    r->params->auto_scales = els_machine_uses_p(r->params->spec.machine);
    if (els_scales_constant(&r->params->spec.scales, 1, &err) < 0)
        return scales_fault(r->faults, "/scales", &err);
    return srv_resolve(r, "scales", json_string("auto"));
}

int srv_read_scales(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    const char *own;

    if (json_is_string(value) && strcmp(json_string_value(value), "auto") == 0)
        return read_auto(r);
    if (!json_is_null(value))
        return read_given(r, value);
    /* Without a bank there are no scales to ask for, and the bank's fault has been told. */
    if (!r->params->spec.bank)
        return 0;
    own = els_bank_info(r->params->spec.bank)->scales;
    return own && *own ? read_banks_own(r, own) : read_preset(r, DEFAULT_SCALES);
}
