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

#endif
