/*
 * saved_scales: locality scales under names of people's own: what a name may be, and the routes.
 *
 *     if (srv_saved_name_is_preset(name))
 *         …                                           // 409: it is taken for good
 */
#ifndef SRV_SAVED_SCALES_H
#define SRV_SAVED_SCALES_H

#include <jansson.h>
#include <stdbool.h>

#include "els/scale.h"
#include "server/http/http.h"

/* 1 to 64 letters, digits, '.', '_' and '-', of which the first is a letter or digit. */
#define SRV_SAVED_NAME_RULE "1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit"
bool srv_saved_name_is_good(const char *name);
/* A published calibration's name, or another word that `scales` knows. */
bool srv_saved_name_is_preset(const char *name);
/* {"t":[…],"p":[…]}. A new reference; NULL when out of memory. */
json_t *srv_scales_json(const struct els_scales *s);

/* Routes under /v1/scales. */
extern const struct srv_route srv_scales_routes[];

#endif
