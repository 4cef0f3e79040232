/*
 * bank_memory: every bank that is in memory, offered or not: what it is charged for and how it came in.
 *
 *     struct srv_bank_birth birth = {.name = "mnist", .origin = SRV_BANK_FILE, .source = "mnist.safetensors", …};
 *     struct srv_bank_demand demand = {.birth = &birth, .path = "mnist.safetensors", .fd = fd, .payer = payer};
 *     struct els_bank *bank = NULL;
 *     if (srv_bank_memory_open(memory, &demand, &bank, &id, &why, &err) < 0)
 *         …                                          // why.status: the accounts refused it; else err says why
 *     els_bank_unref(bank);                          // the last reference gives the charge back
 *
 * Memory is charged before it is allocated: first for the file and what reading it needs, in the end for what the bank
 * takes. A bank that is no longer offered stays, and stays charged, until the last job lets go of it.
 *
 * Any thread.
 */
#ifndef SRV_BANK_MEMORY_H
#define SRV_BANK_MEMORY_H

#include <stdint.h>

#include "els/bank.h"
#include "server/banks/bank_dir.h"
#include "server/base/account.h"
#include "server/config/apikeys.h"

enum srv_bank_origin {
    SRV_BANK_CONFIGURED,
    SRV_BANK_FILE,     /* loaded over HTTP from bank_dir */
    SRV_BANK_BUILT_IN, /* loaded over HTTP */
};

enum { SRV_BANK_NAME = 64 }; /* with its NUL */

struct srv_bank_birth {
    char name[SRV_BANK_NAME]; /* that it is, or was, served by */
    enum srv_bank_origin origin;
    char source[SRV_BANK_FILE_NAME]; /* the file in bank_dir, or the built-in bank; "" for a configured file */
    char key[SRV_APIKEY_NAME];       /* who loaded it; "": nobody, or there are no keys */
    int64_t loaded_at;               /* ms since 1970 */
    struct srv_bank_file file;       /* as it was when it was opened; not its descriptor */
};

struct srv_bank_demand {
    const struct srv_bank_birth *birth;
    const char *path; /* for messages; a built-in bank's name where fd is −1 */
    int fd;           /* the file, which stays the caller's */
    struct srv_payer *payer;
    struct srv_charge *charge; /* held already for this bank, and taken over; may be NULL */
    int (*stop)(void *user);   /* polled; may be NULL */
    void *user;
};

struct srv_bank_memory;

int srv_bank_memory_new(struct srv_bank_memory **out);
/* Every bank must be gone. NULL is fine. Returns NULL. */
struct srv_bank_memory *srv_bank_memory_free(struct srv_bank_memory *memory);
/* 0: *out is a reference, *id the bank's own number. Else *why is zeroed, or says why the accounts refused, and *err
 * holds a sentence; the charge is given back. */
int srv_bank_memory_open(struct srv_bank_memory *memory, const struct srv_bank_demand *demand, struct els_bank **out,
                         uint64_t *id, struct srv_refusal *why, struct els_error *err);
/* `freed(user, birth)` is called when a bank is gone, on whatever thread let go of it. NULL: nobody. */
void srv_bank_memory_watch(struct srv_bank_memory *memory,
                           void (*freed)(void *user, const struct srv_bank_birth *birth), void *user);

struct srv_bank_held {
    uint64_t id;
    const struct srv_bank_birth *birth;
    const char *sha256;
    int64_t bytes; /* charged */
};
/* Calls `each` for every bank, oldest first. It must not let go of a bank. */
void srv_bank_memory_walk(struct srv_bank_memory *memory, void (*each)(void *user, const struct srv_bank_held *held),
                          void *user);

#endif
