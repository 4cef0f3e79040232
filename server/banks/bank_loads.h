/*
 * bank_loads: banks that are loaded and unloaded while the daemon runs.
 *
 *     struct srv_bank_order order = {.name = "mnist", .source = "mnist.safetensors", .key = key, .peer = peer, …};
 *     struct srv_bank_answer answer;
 *     struct srv_bank_load *load = srv_bank_loads_begin(daemon->bank_loads, &order, &answer);
 *     if (!load)
 *         …                                        // answered at once: answer.status and the rest
 *     srv_waiters_add(&load->watchers, waker);       // woken when it has ended
 *     if (srv_bank_load_ended(load))
 *         …                                        // load->answer: 200, 201 or a problem
 *     load = srv_bank_load_unref(load);
 *
 * One thread loads, one bank after the other: reading and checking a large file takes seconds, and is bound by disk
 * and hash, not by threads. The file is opened and charged when the load is ordered; so what is missing or too large
 * is refused at once, and nothing that waits can fail for memory later. A load goes on when whoever ordered it
 * hangs up.
 */
#ifndef SRV_BANK_LOADS_H
#define SRV_BANK_LOADS_H

#include <stdatomic.h>

#include "server/banks/banks.h"
#include "server/base/daemon.h"
#include "server/http/waiters.h"

enum {
    SRV_BANK_LOADS_WAITING = 8,  /* at most; a further one gets 503 */
    SRV_BANK_LOADS_RECORDS = 64, /* the last load of so many names is remembered */
    SRV_BANK_ANSWER_TEXT = 448,
};

/* What becomes of an order, as HTTP says it. */
struct srv_bank_answer {
    int status;          /* 200: it was there already; 201: loaded; else a problem */
    char code[32];       /* of the problem */
    const char *pointer; /* the field at fault, or NULL */
    int retry_after;     /* seconds; 0: trying again is no use */
    char detail[SRV_BANK_ANSWER_TEXT];
};

struct srv_bank_order {
    const char *name;   /* to be served by; a bank's name */
    const char *source; /* a file in bank_dir, or a built-in bank */
    bool built_in;
    bool replace; /* another loaded bank of that name */
    const char *key, *peer, *request;
};

enum srv_bank_load_status {
    SRV_LOAD_WAITING,
    SRV_LOAD_LOADING,
    SRV_LOAD_LOADED,
    SRV_LOAD_FAILED,
};

struct srv_bank_load {
    atomic_int refs;
    struct srv_waiters watchers;
    /* fixed at birth */
    struct srv_bank_birth birth;
    bool replace;
    char request[24];
    int64_t ordered; /* monotonic ms */
    /* the loader's */
    int fd; /* −1: a built-in bank */
    struct srv_payer *payer;
    struct srv_charge charge;
    struct srv_bank_load *next;

    atomic_bool cancelled;
    atomic_int status;             /* enum srv_bank_load_status */
    struct srv_bank_answer answer; /* written before `status` says that it has ended, and never again */
};

struct srv_bank_loads;

/* Loads what an earlier process had loaded (banks_saved.h), and starts the thread. */
int srv_bank_loads_new(struct srv_bank_loads **out, struct srv_daemon *daemon);
/* SIGTERM: what waits or loads ends with 503, and its watchers are woken. */
void srv_bank_loads_drain(struct srv_bank_loads *loads);
/* NULL is fine. Returns NULL. */
struct srv_bank_loads *srv_bank_loads_free(struct srv_bank_loads *loads);

/* A reference to the load: the new one, or the one under way that does the same; NULL: *answer says why not, or that
 * the bank is there. */
struct srv_bank_load *srv_bank_loads_begin(struct srv_bank_loads *loads, const struct srv_bank_order *order,
                                           struct srv_bank_answer *answer);
/* No longer offers the bank, and ends a load of that name that is under way. *in_use: jobs still use the bank. */
void srv_bank_loads_unload(struct srv_bank_loads *loads, const char *name, bool *in_use,
                           struct srv_bank_answer *answer);
/* The last load of that name, with a reference; NULL: there was none, or it has been forgotten. */
struct srv_bank_load *srv_bank_loads_find(struct srv_bank_loads *loads, const char *name);
/* The configuration was read again: what it displaced must be written down. */
void srv_bank_loads_reloaded(struct srv_bank_loads *loads);

bool srv_bank_load_ended(const struct srv_bank_load *load);
struct srv_bank_load *srv_bank_load_ref(struct srv_bank_load *load);
/* NULL is fine. Returns NULL. */
struct srv_bank_load *srv_bank_load_unref(struct srv_bank_load *load);

/* Banks in memory, for metrics. */
struct srv_bank_counts {
    int configured, loaded, unloaded; /* unloaded: no longer offered, still used */
};
struct srv_bank_counts srv_bank_loads_counts(struct srv_daemon *daemon);

/* What GET /v1/capabilities says: {"allowed", "reason", "bank_dir", "builtins", "banks"}. A new reference; NULL when
 * out of memory. */
json_t *srv_bank_loads_capabilities(const struct srv_daemon *daemon, const char *key);

/* Routes that load and unload, and the list of banks. */
extern const struct srv_route srv_bank_loads_routes[];

#endif
