/*
 * banks: the banks that this daemon serves, by name, in the order of the configuration.
 *
 *     struct els_bank *bank = srv_banks_get(daemon->banks, "digits");   // a reference, or NULL
 *     …
 *     els_bank_unref(bank);
 *
 * Loaded at startup; any thread may read. A reload loads a second table beside the first and swaps
 * them under the lock; who holds a reference keeps the old bank.
 */
#ifndef SRV_BANKS_H
#define SRV_BANKS_H

#include "bank.h"
#include "http.h"

struct srv_config;
struct srv_banks;

/* Loads the configured banks, or the built-in ones when none is configured. The error names the
 * bank. */
int srv_banks_new(struct srv_banks **out, const struct srv_config *config, struct els_error *err);
struct srv_banks *srv_banks_free(struct srv_banks *banks);
/* Serves what `fresh` holds from now on, and frees it. A bank that is the same keeps its memory; who
 * holds a reference to an old one goes on with that. Any thread may be reading `banks`. */
void srv_banks_replace(struct srv_banks *banks, struct srv_banks *fresh);
/* A reference, or NULL. `name` NULL: the default bank (the first configured, else digits). */
struct els_bank *srv_banks_get(struct srv_banks *banks, const char *name);
/* The i-th bank and its served name (copied into `name`), or NULL past the end. */
struct els_bank *srv_banks_at(struct srv_banks *banks, size_t i, char name[64]);
/* "digits, shapes, two-tone", for messages. Returns `out`. */
const char *srv_banks_names(struct srv_banks *banks, char *out, size_t size);

/* Every bank as the capabilities tell it: name, shape, num_images, class names, scales, url. A new
 * reference, or NULL when out of memory. */
json_t *srv_banks_summary(struct srv_banks *banks);

/* Routes under /v1/banks. */
extern const struct srv_route srv_banks_routes[];

#endif
