/*
 * Untrusted JSON in, and JSON out as text. Called from any thread; holds no state.
 *
 * A text is walked token by token before jansson sees it. The walk does not judge the grammar, but it never counts
 * less than jansson will make: up to jansson's first error both read the same tokens, and there jansson stops. So
 * brackets that do not match end the walk, too.
 *
 * What jansson 2.14 takes on 64-bit glibc, in bytes, malloc's own included, rounded up to its chunks:
 *
 *     a number or word       32                         at most what a string takes
 *     a string               48 + 32 + its text
 *     an array               48 + 80                    at most what an object takes
 *     an object              80 + 144
 *     an array's entry       24                         8, doubled when full, old and new at once
 *     an object's entry      80 + its key, and 48       a pair; a bucket of 16, doubled when full, old and new at once
 *     its lexer              4 × the longest string     a buffer that is doubled, old and new at once, and a copy
 */
#include "core/base/json.h"

#include <string.h>

#include "els/mem.h"

enum {
    MAX_TEXT = 1 << 30,
    SCALAR_BYTES = 80,
    CONTAINER_BYTES = 224,
    ENTRY_BYTES = 24,
    KEY_BYTES = 80 + 48,
    PARSER_BYTES = 4096,
};

/* ---- the walk ---- */

struct walk {
    const char *at, *end;
    int depth;
    uint64_t objects; /* bit d: what is open at depth d + 1 is an object */
    char last;        /* the last mark, or 'v' after a value or key */
};

/* Past the closing quote. Returns the bytes between the quotes; stops when there are more than `most`. */
static size_t skip_string(struct walk *w, size_t most)
{
    const char *begin = ++w->at;

    while (w->at < w->end && *w->at != '"' && (size_t)(w->at - begin) <= most)
        w->at += *w->at == '\\' && w->end - w->at > 1 ? 2 : 1;
    most = (size_t)(w->at - begin);
    if (w->at < w->end)
        w->at++;
    return most;
}

/* A number, a word, or what is neither. */
static size_t skip_word(struct walk *w)
{
    const char *begin = w->at;

    while (w->at < w->end && !memchr(" \t\r\n[]{},:\"", *w->at, 11) && w->at - begin <= ELS_JSON_MAX_NUMBER)
        w->at++;
    return (size_t)(w->at - begin);
}

static int in_object(const struct walk *w)
{
    return w->depth > 0 && (w->objects >> (w->depth - 1) & 1);
}

static void open_container(struct walk *w, char c, struct els_json_size *out)
{
    uint64_t bit = w->depth < ELS_JSON_MAX_DEPTH ? (uint64_t)1 << w->depth : 0;

    w->objects = c == '{' ? w->objects | bit : w->objects & ~bit;
    w->depth++;
    out->containers++;
    out->values++;
    if (w->depth > out->depth)
        out->depth = w->depth;
}

/* One token. False: the text is over, for a parser too. */
static int next_token(struct walk *w, const struct els_json_limits *limits, struct els_json_size *out, size_t *word)
{
    char c = *w->at;
    int is_key;
    size_t n;

    switch (c) {
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        w->at++;
        return 1;
    case '[':
    case '{':
        open_container(w, c, out);
        break;
    case ']':
    case '}':
        if (w->depth == 0 || in_object(w) != (c == '}'))
            return 0;
        w->depth--;
        break;
    case ',':
    case ':':
        break;
    case '"':
        is_key = in_object(w) && (w->last == '{' || w->last == ',');
        out->keys += (size_t)is_key;
        out->values += (size_t)!is_key;
        n = skip_string(w, limits->string);
        out->longest = n > out->longest ? n : out->longest;
        w->last = 'v';
        return 1;
    default:
        out->values++;
        *word = skip_word(w);
        w->last = 'v';
        return 1;
    }
    w->last = c;
    w->at++;
    return 1;
}

int els_json_measure(struct els_json_size *out, const char *text, size_t size, const struct els_json_limits *limits,
                     const char *field, struct els_error *err)
{
    struct walk w = {.at = text, .end = text + size};
    size_t word = 0;

    *out = (struct els_json_size){.bytes = size};
    while (w.at < w.end && next_token(&w, limits, out, &word)) {
        if (out->depth > limits->depth)
            return els_fail(err, ELS_EFORMAT, field, "the JSON is nested deeper than %d levels", limits->depth);
        if (out->values > limits->values)
            return els_fail(err, ELS_ELIMIT, field, "the JSON holds more than %zu values", limits->values);
        if (out->longest > limits->string)
            return els_fail(err, ELS_ELIMIT, field, "the JSON holds a string of more than %zu bytes", limits->string);
        if (word > ELS_JSON_MAX_NUMBER)
            return els_fail(err, ELS_ELIMIT, field, "the JSON holds a number of more than %d characters",
                            ELS_JSON_MAX_NUMBER);
    }
    return 0;
}

size_t els_json_memory(const struct els_json_size *size)
{
    /* Nothing overflows: every value, key and byte of a string is at least one byte of a text in memory. */
    return PARSER_BYTES + size->bytes + 4 * size->longest + size->keys * KEY_BYTES +
           (size->values - size->containers) * (SCALAR_BYTES + ENTRY_BYTES) +
           size->containers * (CONTAINER_BYTES + ENTRY_BYTES);
}

int els_json_parse(json_t **out, const char *text, size_t size, const struct els_json_limits *limits,
                   const char *field, struct els_error *err)
{
    struct els_json_size measured;
    json_error_t why;
    json_t *root;
    int r = els_json_measure(&measured, text, size, limits, field, err);

    if (r < 0)
        return r;
    root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!root && json_error_code(&why) == json_error_out_of_memory)
        return els_fail(err, ELS_ENOMEM, field, "out of memory");
    if (!root)
        return els_fail(err, ELS_EFORMAT, field, "the JSON is malformed at byte %d: %s", why.position,
                        why.text);
    *out = root;
    return 0;
}

/* ---- out ---- */

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
