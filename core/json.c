/*
 * Untrusted JSON in, and JSON out as text. Called from any thread; holds no state.
 * Nothing is let at jansson that is deeper or larger than the caller allows.
 */
#include "json.h"

#include "mem.h"

enum { MAX_TEXT = 1 << 30 };

/*
 * Walks the text once. Brackets and commas inside strings do not count. On text that is not JSON
 * the numbers mean nothing, but they still bound what the parser will do with it.
 */
static void measure(const char *text, size_t size, int *deepest, size_t *values)
{
    int depth = 0, in_string = 0;

    *deepest = 0;
    *values = 1;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = 0;
        } else if (c == '"') {
            in_string = 1;
        } else if (c == '[' || c == '{') {
            ++*values;
            if (++depth > *deepest)
                *deepest = depth;
        } else if (c == ']' || c == '}') {
            depth--;
        } else if (c == ',') {
            ++*values;
        }
    }
}

int els_json_parse(json_t **out, const char *text, size_t size, int max_depth, size_t max_values,
                   const char *field, struct els_error *err)
{
    json_error_t why;
    size_t values;
    int deepest;
    json_t *root;

    measure(text, size, &deepest, &values);
    if (deepest > max_depth)
        return els_fail(err, ELS_EFORMAT, field, "the JSON is nested %d levels deep; at most %d are read",
                        deepest, max_depth);
    if (values > max_values)
        return els_fail(err, ELS_ELIMIT, field, "the JSON holds %zu values; at most %zu are read",
                        values, max_values);
    root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!root && json_error_code(&why) == json_error_out_of_memory)
        return els_fail(err, ELS_ENOMEM, field, "out of memory");
    if (!root)
        return els_fail(err, ELS_EFORMAT, field, "the JSON is malformed at byte %d: %s", why.position,
                        why.text);
    *out = root;
    return 0;
}

struct text {
    struct els_buffer bytes;
    int failed; /* for good: jansson may go on after a failure */
};

static int append(const char *bytes, size_t size, void *user)
{
    struct text *text = user;

    if (text->failed || els_buffer_append(&text->bytes, bytes, size) < 0)
        text->failed = 1;
    return text->failed ? -1 : 0;
}

char *els_json_text(const json_t *json, size_t flags)
{
    struct text text = {.bytes = ELS_BUFFER_INIT(MAX_TEXT)};

    if (json && json_dump_callback(json, append, &text, flags) == 0 && !text.failed &&
        els_buffer_append(&text.bytes, "", 1) == 0)
        return (char *)text.bytes.data;
    els_buffer_deinit(&text.bytes);
    return NULL;
}

/* `failed`: the container is not what it should be. */
static void drop_if(json_t **container, int failed)
{
    if (!failed)
        return;
    json_decref(*container);
    *container = NULL;
}

void els_json_append(json_t **array, json_t *value)
{
    drop_if(array, json_array_append_new(*array, value) < 0);
}

void els_json_set(json_t **object, const char *name, json_t *value)
{
    drop_if(object, json_object_set_new(*object, name, value) < 0);
}
