/*
 * banks: the banks that this daemon serves, by name: those of the configuration in its order, then those that were
 * loaded over HTTP.
 *
 *     struct els_bank *bank = srv_banks_get(daemon->banks, "digits");   // a reference, or NULL
 *     …
 *     els_bank_unref(bank);
 *
 * Any thread may read, load and unload. A reload makes a second table beside the first and swaps them under the
 * lock; who holds a reference keeps the old bank. A bank of the configuration can only be changed there; a loaded one
 * outlives a reload, unless the new configuration has its name.
 */
#ifndef SRV_BANKS_H
#define SRV_BANKS_H

#include "els/bank.h"
#include "server/banks/bank_memory.h"
#include "server/http/http.h"

struct srv_config;
struct srv_banks;
struct srv_log;

enum {
    SRV_BANKS_CONFIGURED = 64, /* at most */
    SRV_BANKS_LOADED = 64,     /* in memory at most, those included that are no longer offered but still used */
};

/* Loads the configured banks, or the built-in ones when none is configured; `payer` pays, unless `memory` is NULL. A file that is as
 * it was when `old` (may be NULL) read it is taken from there. The error names the bank. */
int srv_banks_new(struct srv_banks **out, const struct srv_config *config, struct srv_bank_memory *memory,
                  struct srv_payer *payer, struct srv_banks *old, struct els_error *err);
struct srv_banks *srv_banks_free(struct srv_banks *banks);
/* Serves the configured banks of `fresh` from now on, and frees it. A bank that is the same keeps its memory; who
 * holds a reference to an old one goes on with that. Any thread may be reading `banks`. */
void srv_banks_replace(struct srv_banks *banks, struct srv_banks *fresh, struct srv_log *log);

/* A reference, or NULL. `name` NULL: the default bank (the first configured, else digits). */
struct els_bank *srv_banks_get(struct srv_banks *banks, const char *name);
/* The bank of that name with that digest, also when it waits for its jobs of before a restart; else srv_banks_get. */
struct els_bank *srv_banks_get_exact(struct srv_banks *banks, const char *name, const char *sha256);
/* The i-th bank and its served name (copied into `name`), or NULL past the end. */
struct els_bank *srv_banks_at(struct srv_banks *banks, size_t i, char name[64]);
/* "digits, shapes, two-tone", for messages. Returns `out`. */
const char *srv_banks_names(struct srv_banks *banks, char *out, size_t size);

/* ---- loading and unloading ---- */

struct srv_banks_entry {
    struct els_bank *bank;
    uint64_t id; /* of bank_memory.h */
    struct srv_bank_birth birth;
    bool hidden; /* not offered: see srv_banks_hide */
};

enum srv_banks_outcome {
    SRV_BANKS_NEW,
    SRV_BANKS_REPLACED,
    SRV_BANKS_SAME,      /* there already, with the same digest */
    SRV_BANKS_TAKEN,     /* another loaded bank has the name */
    SRV_BANKS_UNTOUCHED, /* a bank of the configuration has the name */
    SRV_BANKS_FULL,
    SRV_BANKS_ABSENT, /* of srv_banks_remove */
};

/* Offers a bank; takes a reference of its own when NEW or REPLACED. What was replaced is in *old (may be NULL), with
 * its reference. */
enum srv_banks_outcome srv_banks_put(struct srv_banks *banks, const struct srv_banks_entry *entry, bool replace,
                                     struct srv_banks_entry *old);
/* No longer offers a loaded bank: REPLACED, and it is in *old with its reference; ABSENT; UNTOUCHED. */
enum srv_banks_outcome srv_banks_remove(struct srv_banks *banks, const char *name, struct srv_banks_entry *old);
/* The entry of that name, with a reference; false when there is none. */
bool srv_banks_look(struct srv_banks *banks, const char *name, struct srv_banks_entry *out);
/* Is the bank of that number offered? */
bool srv_banks_offers(struct srv_banks *banks, uint64_t id);
/* Keeps a bank that is not offered, for jobs of before a restart, until srv_banks_settle. Takes a reference. */
void srv_banks_hide(struct srv_banks *banks, const struct srv_banks_entry *entry);
/* The jobs have their banks: lets go of those that are hidden. */
void srv_banks_settle(struct srv_banks *banks);

/* Every bank as the capabilities tell it: name, shape, num_images, class names, scales, url. A new
 * reference, or NULL when out of memory. */
json_t *srv_banks_summary(struct srv_banks *banks);
/* The most memory that it takes, and its text. */
size_t srv_banks_room(struct srv_banks *banks);
/* One bank in full. A new reference, or NULL when out of memory. */
json_t *srv_banks_describe(const struct srv_banks_entry *entry);
/* The same of every bank. */
json_t *srv_banks_list(struct srv_banks *banks);

/* Routes under /v1/banks that look; those that load are in bank_loads.h. */
extern const struct srv_route srv_banks_routes[];

#endif
