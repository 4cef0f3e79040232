/*
 * config_depth: how deep a TOML text nests, before a parser that recurses sees it.
 *
 *     if (srv_toml_check_depth(text, size, &err) < 0)
 *         …                                   // "line 3 nests too deeply: …"
 *
 * Pure: allocates nothing, walks the text once.
 */
#ifndef SRV_CONFIG_DEPTH_H
#define SRV_CONFIG_DEPTH_H

#include <stddef.h>

#include "els/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Brackets and braces inside each other, and separately the dots of one key. The settings need one of each. */
enum { SRV_TOML_MAX_DEPTH = 16 };

/* 0, or ELS_EFORMAT with the line and the limit in the sentence. Text that is not TOML may pass: the parser says so. */
int srv_toml_check_depth(const char *text, size_t size, struct els_error *err);

#ifdef __cplusplus
}
#endif

#endif
