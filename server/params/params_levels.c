/*
 * Times t, noise levels ᾱ and scales P as the bodies of denoise and calibration jobs say them. Called by params.c
 * through the rows, from any back-room thread. What follows from them together (a level for a time, scales that
 * suit the machine) is settled by the kinds.
 *
 * Times may come as a tensor beside the JSON, as notebooks have them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "els/calibrate.h"
#include "els/mem.h"
#include "server/params/params_fields.h"

json_t *srv_numbers_json(const double *values, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < n; i++) {
        if (json_array_append_new(list, json_real(values[i])) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

json_t *srv_p_json(const struct srv_params *p)
{
    json_t *list = json_array();

    for (int k = 0; list && k < p->num_p; k++) {
        if (json_array_append_new(list, json_integer(p->p[k])) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* ---- one number ---- */

/* A number of [min,max] in a new array of one, or null and NULL. */
static int read_one(struct srv_reading *r, const struct srv_field *f, const json_t *value, double **out)
{
    double x = json_number_value(value);
    char pointer[96], text[SRV_VALUE_TEXT];

    if (json_is_null(value))
        return srv_resolve(r, f->name, json_null());
    if (!json_is_number(value) || !(x >= (double)f->min && x <= (double)f->max))
        return srv_fault(r->faults, srv_pointer(pointer, "", f->name), "%s is %s; it must be a number from %lld to %lld.",
                         f->name, srv_value_text(value, text), (long long)f->min, (long long)f->max);
    *out = els_alloc_array(1, sizeof(**out));
    if (!*out)
        return srv_fault_memory(r->faults);
    **out = x;
    r->params->num_t = 1;
    return srv_resolve(r, f->name, json_real(x));
}

int srv_read_t(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    return read_one(r, f, value, &r->params->t);
}

int srv_read_level(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    return read_one(r, f, value, &r->params->level);
}

/* ---- lists of numbers ---- */

static double *list_values(struct srv_reading *r, const struct srv_field *f, const json_t *list)
{
    size_t n = json_array_size(list);
    double *values = els_alloc_array(n, sizeof(*values));
    char pointer[96], text[SRV_VALUE_TEXT];

    if (!values) {
        srv_fault_memory(r->faults);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);

        values[i] = json_number_value(entry);
        if (json_is_number(entry) && values[i] >= (double)f->min && values[i] <= (double)f->max)
            continue;
        snprintf(pointer, sizeof(pointer), "/%s/%zu", f->name, i);
        srv_fault(r->faults, pointer, "%s is %s; it must be a number from %lld to %lld.", pointer + 1,
                  srv_value_text(entry, text), (long long)f->min, (long long)f->max);
        free(values);
        return NULL;
    }
    return values;
}

/* JSON has no word for what is not finite. */
static int check_finite(struct srv_reading *r, const struct srv_field *f, const double *values, size_t n)
{
    char pointer[96];

    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return srv_fault(r->faults, srv_pointer(pointer, "", f->name), "%s[%zu] is %g; it must be a number from %lld to %lld.",
                             f->name, i, values[i], (long long)f->min, (long long)f->max);
    return 0;
}

/* The tensor's values as a JSON list, which is read in its place. NULL and a fault. */
static json_t *tensor_list(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    struct srv_found_tensor found = SRV_FOUND_TENSOR_INIT;
    char pointer[96], dims[96];
    double *values = NULL;
    json_t *list = NULL;
    size_t n;

    if (srv_find_tensor(r, f->name, value, &found) < 0)
        goto out;
    if (found.tensor.ndim != 1 || found.tensor.dims[0] < 1 || found.tensor.dims[0] > ELS_MAX_CALIBRATION_TIMES) {
        srv_fault(r->faults, srv_pointer(pointer, "", f->name), "%s is a tensor of %s %s; it must be [T] with T from 1 to %d.",
                  f->name, els_dtype_name(found.tensor.dtype),
                  els_tensor_shape_text(&found.tensor, dims, sizeof(dims)), ELS_MAX_CALIBRATION_TIMES);
        goto out;
    }
    n = els_tensor_count(&found.tensor);
    values = els_alloc_array(n, sizeof(*values));
    if (values) {
        els_tensor_to_times(&found.tensor, values);
        if (check_finite(r, f, values, n) < 0)
            goto out;
        list = srv_numbers_json(values, n);
    }
    if (!list)
        srv_fault_memory(r->faults);
out:
    srv_found_tensor_deinit(&found);
    free(values);
    return list;
}

/* A list of numbers, or a tensor of them. Sets num_t, or compares with it. */
static int read_numbers(struct srv_reading *r, const struct srv_field *f, const json_t *value, double **out)
{
    json_t *list = json_is_array(value) ? json_incref((json_t *)value) : tensor_list(r, f, value);
    char pointer[96], text[SRV_VALUE_TEXT];
    size_t n = json_array_size(list);
    int status = list ? 0 : ELS_EINVAL;

    srv_pointer(pointer, "", f->name);
    if (status == 0 && (n < 1 || n > ELS_MAX_CALIBRATION_TIMES))
        status = srv_fault(r->faults, pointer, "%s is %s; it must have 1 to %d entries.", f->name,
                           srv_value_text(value, text), ELS_MAX_CALIBRATION_TIMES);
    if (status == 0 && r->params->num_t > 0 && (size_t)r->params->num_t != n)
        status = srv_fault(r->faults, pointer, "%s has %zu entries; it must have one for each of the %d times.", f->name,
                           n, r->params->num_t);
    if (status == 0) {
        r->params->num_t = (int)n;
        *out = list_values(r, f, list);
        status = *out ? srv_resolve(r, f->name, json_deep_copy(list)) : ELS_EINVAL;
    }
    json_decref(list);
    return status;
}

int srv_read_times(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    return read_numbers(r, f, value, &r->params->t);
}

int srv_read_levels(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    if (!srv_tensor_is_given(r, f->name, value))
        return srv_resolve(r, f->name, json_null());
    return read_numbers(r, f, value, &r->params->level);
}

/* ---- scales ---- */

static int read_one_p(struct srv_reading *r, const char *pointer, const json_t *value)
{
    struct srv_params *p = r->params;
    char text[SRV_VALUE_TEXT];
    int64_t number;

    if (!srv_whole(value, &number) || number < 1 || number > ELS_MAX_P || number % 2 == 0)
        return srv_fault(r->faults, pointer, "%s is %s; it must be an odd whole number from 1 to %d.", pointer + 1,
                         srv_value_text(value, text), ELS_MAX_P);
    p->p[p->num_p++] = (int)number;
    return 0;
}

/* One odd number, a list of them, or null. */
int srv_read_p(struct srv_reading *r, const struct srv_field *f, const json_t *value)
{
    char pointer[96], text[SRV_VALUE_TEXT];
    int status = 0;

    if (json_is_null(value))
        return 0; /* the kind says what that means */
    if (!json_is_array(value))
        return read_one_p(r, "/p", value);
    if (json_array_size(value) < 1 || json_array_size(value) > ELS_MAX_P_COUNT)
        return srv_fault(r->faults, "/p", "p is %s; a list must have 1 to %d odd whole numbers.",
                         srv_value_text(value, text), ELS_MAX_P_COUNT);
    for (size_t i = 0; i < json_array_size(value) && status == 0; i++) {
        snprintf(pointer, sizeof(pointer), "/p/%zu", i);
        status = read_one_p(r, pointer, json_array_get(value, i));
    }
    return status;
}
