/*
 * Scales from text: a preset's name, one number, a list, or JSON as a bank's metadata holds it.
 * Called from any thread; holds no state.
 *
 * What always holds: a sentence names the entry at fault, and *out is untouched unless all is well.
 * JSON is untrusted (it comes with bank files) and goes through the bounded parser of json.h.
 */
#include "els/scale.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "els/mem.h"

enum { JSON_DEPTH = 3, JSON_VALUES = 3 * ELS_MAX_SCALES, JSON_TEXT = 1000 };

static int find_preset(const char *name)
{
    for (int i = 0; i < els_scales_num_presets(); i++) {
        if (strcmp(name, els_scales_preset_name(i)) == 0)
            return i;
    }
    return -1;
}

static int fail_unknown(const char *text, struct els_error *err)
{
    struct els_buffer list = ELS_BUFFER_INIT(1024);
    int r;

    for (int i = 0; i < els_scales_num_presets(); i++)
        els_buffer_printf(&list, "%s%s", i ? ", " : "", els_scales_preset_name(i));
    r = els_fail(err, ELS_ENOENT, "scales", "no scales named \"%.40s\"; the presets are %.*s", text,
                 (int)list.size, list.data ? (const char *)list.data : "");
    els_buffer_deinit(&list);
    return r;
}

/* One entry of a list, up to a comma or the end. */
static int parse_entry(const char *text, char **end, int *out)
{
    long value;

    if (*text != '-' && (*text < '0' || *text > '9'))
        return ELS_EINVAL;
    errno = 0;
    value = strtol(text, end, 10);
    if (*end == text || (**end != ',' && **end != '\0'))
        return ELS_EINVAL;
    /* What does not fit is out of range all the same: the sentence then names the limit. */
    *out = errno || value > 1000000000 || value < -1000000000 ? 1000000000 : (int)value;
    return 0;
}

static int parse_list(struct els_scales *out, const char *text, struct els_error *err)
{
    _cleanup_(els_freep) int *p = NULL;
    const char *at = text;
    size_t n = 1, i = 0;

    for (const char *c = text; *c; c++)
        n += *c == ',';
    if (n > ELS_MAX_SCALES)
        return els_fail(err, ELS_EINVAL, "scales", "scales has %zu entries; 1 to %d are allowed", n,
                        ELS_MAX_SCALES);
    p = els_alloc_array(n, sizeof(*p));
    if (!p)
        return els_fail(err, ELS_ENOMEM, "scales", "out of memory for %zu scales", n);
    for (;;) {
        char *end;

        if (parse_entry(at, &end, &p[i]) < 0)
            return els_fail(err, ELS_EINVAL, "scales",
                            "scales \"%.60s\": entry %zu is not an integer", text, i);
        i++;
        if (*end == '\0')
            break;
        at = end + 1;
    }
    return n == 1 ? els_scales_constant(out, p[0], err) : els_scales_from_list(out, (int)n, p, err);
}

/* ---- JSON ---- */

static int fail_json(struct els_error *err, const char *what)
{
    return els_fail(
        err, ELS_EINVAL, "scales",
        "%s; JSON scales are an odd integer, a list of them, or {\"t\": [...], \"p\": [...]}",
        what);
}

/* A list of integers into a new array of `n`. */
static int json_p(int **out, const json_t *list, size_t *n, struct els_error *err)
{
    *n = json_array_size(list);
    if (!json_is_array(list) || *n < 1 || *n > ELS_MAX_SCALES)
        return fail_json(err, "scales has no list of P, or one of no or too many entries");
    *out = els_alloc_array(*n, sizeof(**out));
    if (!*out)
        return els_fail(err, ELS_ENOMEM, "scales", "out of memory for %zu scales", *n);
    for (size_t i = 0; i < *n; i++) {
        const json_t *entry = json_array_get(list, i);
        json_int_t p = json_integer_value(entry);

        if (!json_is_integer(entry))
            return fail_json(err, "scales has a P that is not an integer");
        /* What does not fit an int is out of range all the same. */
        (*out)[i] = p > ELS_MAX_P ? ELS_MAX_P + 1 : p < 0 ? 0 : (int)p;
    }
    return 0;
}

static int json_t_list(double **out, const json_t *list, size_t n, struct els_error *err)
{
    if (!json_is_array(list) || json_array_size(list) != n)
        return fail_json(err, "scales needs as many t as p");
    *out = els_alloc_array(n, sizeof(**out));
    if (!*out)
        return els_fail(err, ELS_ENOMEM, "scales", "out of memory for %zu scales", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);

        (*out)[i] = json_is_number(entry) ? json_number_value(entry) : NAN;
    }
    return 0;
}

static int take_json(struct els_scales *out, const json_t *value, struct els_error *err)
{
    int pairs = json_is_object(value);
    _cleanup_(els_freep) int *p = NULL;
    _cleanup_(els_freep) double *t = NULL;
    size_t n;
    int r;

    if (pairs && json_object_size(value) != 2)
        return fail_json(err, "scales has other fields than t and p");
    r = json_p(&p, pairs ? json_object_get(value, "p") : value, &n, err);
    if (r == 0 && pairs)
        r = json_t_list(&t, json_object_get(value, "t"), n, err);
    if (r < 0)
        return r;
    return pairs ? els_scales_from_pairs(out, (int)n, t, p, err)
                 : els_scales_from_list(out, (int)n, p, err);
}

static int parse_json(struct els_scales *out, const char *text, struct els_error *err)
{
    const struct els_json_limits limits = {.depth = JSON_DEPTH, .values = JSON_VALUES, .string = JSON_TEXT};
    json_t *value = NULL;
    int r = els_json_parse(&value, text, strlen(text), &limits, "scales", err);

    if (r < 0)
        return r;
    r = take_json(out, value, err);
    json_decref(value);
    return r;
}

int els_scales_parse(struct els_scales *out, const char *text, struct els_error *err)
{
    int preset = find_preset(text);

    if (preset >= 0) {
        int r = els_scales_from_list(out, ELS_PRESET_LENGTH, els_scales_preset(preset), err);

        /* A preset is a function of t and asks for no number of steps of its own. */
        if (r == 0)
            out->is_list = 0;
        return r;
    }
    if (*text == '\0')
        return els_fail(
            err, ELS_EINVAL, "scales",
            "scales is empty; give a preset's name, one odd integer, or a list such as 3,3,5,7");
    if (*text == '[' || *text == '{')
        return parse_json(out, text, err);
    if (strchr("-0123456789", *text) || strchr(text, ','))
        return parse_list(out, text, err);
    return fail_unknown(text, err);
}
