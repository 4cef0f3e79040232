/*
 * config_toml: a TOML document as a jansson tree that remembers lines and order.
 *
 *     json_t *entries = NULL;
 *     if (srv_toml_parse(&entries, text, size, &err) < 0)
 *         …
 *     // [{"key": "port", "line": 3, "value": 8080}, {"key": "banks", "line": 9, "value": [{"key":
 * …}]}] json_decref(entries);
 *
 * A table becomes an array of such entries in the order of the file. Strings,
 * integers, floats and booleans become their JSON counterparts; arrays stay arrays wrapped in
 * {"array": […]}; dates and times become null.
 */
#ifndef SRV_CONFIG_TOML_H
#define SRV_CONFIG_TOML_H

#include <jansson.h>
#include <stddef.h>

#include "els/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A new reference in *out, or ELS_EFORMAT with the line in the sentence (not TOML, or deeper than config_depth.h
 * allows), or ELS_ENOMEM. */
int srv_toml_parse(json_t **out, const char *text, size_t size, struct els_error *err);

#ifdef __cplusplus
}
#endif

#endif
