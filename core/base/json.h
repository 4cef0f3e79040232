/*
 * json: untrusted text into a jansson value, with a bound on what that costs.
 *
 *     const struct els_json_limits limits = {.depth = 3, .values = 1000, .string = 4096};
 *     json_t *root = NULL;
 *     int r = els_json_parse(&root, text, size, &limits, "body", &err);
 *     …
 *     json_decref(root);
 *
 * jansson makes the whole tree, and recurses up to a fixed depth. So the text is walked first, without any
 * allocation, and refused at the first byte that is over a limit. What the walk counted bounds the memory that
 * jansson will take (els_json_memory): who charges for it can do so before. Duplicate keys and NUL characters are
 * errors.
 */
#ifndef ELS_JSON_H
#define ELS_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "els/error.h"

enum {
    ELS_JSON_MAX_DEPTH = 64,     /* no limit may be larger */
    ELS_JSON_MAX_STRING = 8 << 20,
    ELS_JSON_MAX_NUMBER = 1000, /* characters of a number */
};

struct els_json_limits {
    int depth;     /* arrays and objects inside each other */
    size_t values; /* of all kinds, keys not counted */
    size_t string; /* bytes of one string or key, as the text spells it */
};

/* What a text holds. */
struct els_json_size {
    size_t bytes; /* of the text */
    size_t values, containers, keys;
    size_t longest; /* string or key */
    int depth;
};

/*
 * Walks the text. ELS_EFORMAT: deeper than the limit; ELS_ELIMIT: any of the others; `field` goes into *err. A text
 * that is not JSON is measured as far as a parser can get, and 0.
 */
int els_json_measure(struct els_json_size *out, const char *text, size_t size, const struct els_json_limits *limits,
                     const char *field, struct els_error *err);
/* The most bytes of memory that jansson takes for a text of this size, while it parses and after. */
size_t els_json_memory(const struct els_json_size *size);
/*
 * Any JSON value. What els_json_measure says, and ELS_EFORMAT: not JSON; ELS_ENOMEM. On success the caller owns *out.
 */
int els_json_parse(json_t **out, const char *text, size_t size, const struct els_json_limits *limits,
                   const char *field, struct els_error *err);
/* JSON as text (free()); NULL for NULL, and when out of memory. json_dumps must not be used: it passes
 * over a failure to write an object's key, and gives a text without it. */
char *els_json_text(const json_t *json, size_t flags);

/* Appends or sets `value`, which is taken. When that fails, or one of the two is NULL already, *array or
 * *object is freed and becomes NULL: nothing is told with a part missing. */
void els_json_append(json_t **array, json_t *value);
void els_json_set(json_t **object, const char *name, json_t *value);

#endif
