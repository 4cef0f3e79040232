/*
 * From bytes to a JSON object. Called by handlers. What a text would cost is measured before
 * jansson is let at it (core/base/json.c); duplicate keys and numbers that overflow are errors.
 */
#include "server/base/json_body.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/json.h"

__attribute__((format(printf, 4, 5))) static json_t *fail(struct srv_json_error *error, int status,
                                                          const char *code, const char *format, ...)
{
    va_list ap;

    error->status = status;
    error->code = code;
    va_start(ap, format);
    vsnprintf(error->detail, sizeof(error->detail), format, ap);
    va_end(ap);
    return NULL;
}

static bool is_blank(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r' && text[i] != '\n')
            return false;
    return true;
}

/* Writes the pointer's next step. Steps that do not fit are left out: the pointer then names an
 * ancestor. */
static void push_step(char *pointer, size_t size, const char *step)
{
    size_t n = strlen(pointer);

    if (n + strlen(step) * 2 + 2 > size)
        return;
    pointer[n++] = '/';
    for (; *step; step++) {
        if (*step == '~' || *step == '/') {
            pointer[n++] = '~';
            pointer[n++] = *step == '~' ? '0' : '1';
        } else {
            pointer[n++] = *step;
        }
    }
    pointer[n] = '\0';
}

/* Is there a text with U+0000 in it? Then `pointer` (at first "") says where. As deep as the JSON
 * is. */
static bool find_nul(const json_t *json, char *pointer, size_t size)
{
    size_t n = strlen(pointer), i;
    const char *key;
    json_t *value;

    if (json_is_string(json))
        return strlen(json_string_value(json)) != json_string_length(json);
    json_object_foreach((json_t *)json, key, value)
    {
        push_step(pointer, size, key);
        if (find_nul(value, pointer, size))
            return true;
        pointer[n] = '\0';
    }
    json_array_foreach(json, i, value)
    {
        char step[24];

        snprintf(step, sizeof(step), "%zu", i);
        push_step(pointer, size, step);
        if (find_nul(value, pointer, size))
            return true;
        pointer[n] = '\0';
    }
    return false;
}

bool srv_json_charge(const struct srv_json_bill *bill, size_t bytes, struct srv_refusal *why)
{
    struct srv_charge *charge = bill->charge;

    if (charge->payer)
        return srv_charge_resize(charge, charge->bytes + (int64_t)bytes, why) == 0;
    return srv_charge_take(charge, bill->payer, SRV_CHARGE_JSON, (int64_t)bytes, why) == 0;
}

json_t *srv_json_parse(const void *bytes, size_t size, const struct srv_json_bill *bill, struct srv_json_error *error)
{
    const struct els_json_limits limits = {SRV_JSON_MAX_DEPTH, SRV_JSON_MAX_VALUES, SRV_JSON_MAX_STRING};
    const char *text = bytes;
    struct els_json_size measured;
    struct els_error err = {0};
    json_error_t reason;
    json_t *json;

    error->pointer[0] = '\0';
    error->refused = false;
    if (is_blank(text, size)) {
        json = json_object();
        return json ? json : fail(error, 500, "out_of_memory", "The daemon is out of memory.");
    }
    switch (els_json_measure(&measured, text, size, &limits, NULL, &err)) {
    case 0:
        break;
    case ELS_EFORMAT:
        return fail(error, 400, "json_too_deep", "The JSON is nested deeper than %d levels.",
                    SRV_JSON_MAX_DEPTH);
    default:
        return fail(error, 413, "json_too_large",
                    "The body is not read: %s. Large tensors travel in a safetensors body.", err.message);
    }
    /* Twice: a handler makes of it what it understood, which is no larger. */
    if (bill && !srv_json_charge(bill, 2 * els_json_memory(&measured), &error->why)) {
        error->refused = true;
        return fail(error, error->why.status, error->why.code, "%s", error->why.detail);
    }
    json =
        json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &reason);
    /* jansson says nothing at all when out of memory before its first token. */
    if (!json && (json_error_code(&reason) == json_error_out_of_memory || !*reason.text))
        return fail(error, 500, "out_of_memory", "The daemon is out of memory.");
    if (!json && json_error_code(&reason) == json_error_null_byte_in_key)
        return fail(error, 422, "invalid_value", "No field's name has the character U+0000.");
    if (!json)
        return fail(error, 400, "invalid_json", "The body is not JSON: line %d, column %d: %s.",
                    reason.line, reason.column, reason.text);
    if (!json_is_object(json)) {
        json_decref(json);
        return fail(error, 422, "invalid_value", "The body is JSON, but must be an object.");
    }
    if (find_nul(json, error->pointer, sizeof(error->pointer))) {
        json_decref(json);
        return fail(error, 422, "invalid_value", "No text may hold the character U+0000.");
    }
    return json;
}

json_t *srv_json_stored(const char *text)
{
    const struct els_json_limits limits = {SRV_JSON_MAX_DEPTH, SRV_JSON_STORED_VALUES, ELS_JSON_MAX_STRING};
    json_t *json = NULL;

    if (!text || els_json_parse(&json, text, strlen(text), &limits, NULL, NULL) < 0)
        return NULL;
    return json;
}
