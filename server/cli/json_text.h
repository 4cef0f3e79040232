/*
 * json_text: results as JSON documents, in the shape of the HTTP contract.
 *
 *     json_t *root = json_pack("{s:o}", "t", cli_json_reals(t, n));     // NULL when out of memory
 *     status = cli_json_write(&file, root, &err);                        // takes root, NULL too
 */
#ifndef CLI_JSON_TEXT_H
#define CLI_JSON_TEXT_H

#include <jansson.h>

#include "els/scale.h"
#include "server/cli/output.h"

/* New references, or NULL when out of memory; a number that is not finite becomes null. */
json_t *cli_json_integers(const int64_t *values, size_t n);
json_t *cli_json_reals(const double *values, size_t n);
/* {"t":[…],"p":[…]}: what --scales takes. */
json_t *cli_json_scales(const struct els_scales *scales);
/* Writes the document and a newline, and commits; drops the reference. */
int cli_json_write(struct cli_output *file, json_t *root, struct els_error *err);

#endif
