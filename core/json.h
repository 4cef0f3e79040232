/*
 * json: untrusted text into a jansson value.
 *
 *     json_t *root = NULL;
 *     int r = els_json_parse(&root, text, size, ELS_JSON_MAX_DEPTH, 100000, "body", &err);
 *     …
 *     json_decref(root);
 *
 * jansson recurses up to a fixed depth and makes an object for every value. Both are bounded
 * here by a scan over the bytes before it sees them. Duplicate keys and NUL characters are errors.
 */
#ifndef ELS_JSON_H
#define ELS_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "error.h"

enum { ELS_JSON_MAX_DEPTH = 64 };

/*
 * Any JSON value. ELS_EFORMAT: not JSON, or deeper than `max_depth`; ELS_ELIMIT: more than
 * `max_values` values. `field` goes into *err. On success the caller owns *out.
 */
int els_json_parse(json_t **out, const char *text, size_t size, int max_depth, size_t max_values,
                   const char *field, struct els_error *err);
/* JSON as text (free()); NULL for NULL, and when memory is out. json_dumps must not be used: it passes
 * over a failure to write an object's key, and gives a text without it. */
char *els_json_text(const json_t *json, size_t flags);

/* Appends or sets `value`, which is taken. When that fails, or one of the two is NULL already, *array or
 * *object is freed and becomes NULL: nothing is told with a part missing. */
void els_json_append(json_t **array, json_t *value);
void els_json_set(json_t **object, const char *name, json_t *value);

#endif
