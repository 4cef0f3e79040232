/*
 * From bytes to a JSON object. Called by handlers. jansson recurses once per level, up to 2048 of
 * them, so the depth is counted before it is let at the text; duplicate keys and numbers that
 * overflow are errors.
 */
#include "json_body.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

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

/* The deepest nesting of brackets outside strings. In text that is no JSON the number may be off;
 * jansson will then refuse the text for what it is, having recursed no deeper than this. */
static size_t depth_of(const char *text, size_t size)
{
    size_t depth = 0, deepest = 0;
    bool in_string = false;

    for (size_t i = 0; i < size; i++) {
        char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
    return deepest;
}

static bool is_blank(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r' && text[i] != '\n')
            return false;
    return true;
}

json_t *srv_json_parse(const void *bytes, size_t size, struct srv_json_error *error)
{
    const char *text = bytes;
    json_error_t reason;
    json_t *json;

    if (is_blank(text, size)) {
        json = json_object();
        return json ? json : fail(error, 500, "out_of_memory", "The daemon is out of memory.");
    }
    if (depth_of(text, size) > SRV_JSON_MAX_DEPTH)
        return fail(error, 400, "json_too_deep", "The JSON is nested deeper than %d levels.",
                    SRV_JSON_MAX_DEPTH);
    json = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &reason);
    if (!json && json_error_code(&reason) == json_error_out_of_memory)
        return fail(error, 500, "out_of_memory", "The daemon is out of memory.");
    if (!json)
        return fail(error, 400, "invalid_json", "The body is not JSON: line %d, column %d: %s.",
                    reason.line, reason.column, reason.text);
    if (!json_is_object(json)) {
        json_decref(json);
        return fail(error, 422, "invalid_value", "The body is JSON, but must be an object.");
    }
    return json;
}
