/*
 * account: memory and disk that clients cause, charged before it is allocated.
 *
 *     struct srv_accounts *accounts = NULL;
 *     srv_accounts_new(&accounts, &(struct srv_account_limits){...});
 *
 *     struct srv_payer *payer = srv_payer_new(accounts, "alice", "192.0.2.7");
 *     struct srv_charge charge = {0};                    // nothing charged
 *     struct srv_refusal why;
 *     if (srv_charge_take(&charge, payer, SRV_CHARGE_BODIES, size, &why) < 0) {
 *         srv_refuse(res, &why);                         // 413, 429 or 503, with a sentence
 *         return;
 *     }
 *     body = malloc(size);
 *     ...
 *     free(body);
 *     srv_charge_give(&charge);
 *     payer = srv_payer_unref(payer);
 *
 * Every charge counts three times: in the daemon's total, against `memory_limit` or `disk_limit`;
 * with the API key and with the address of its payer, against a share of that limit. A charge that
 * would pass any of the three is refused and nothing is counted. What is kept for everybody (results,
 * banks) counts in the total and is shown per payer, but no share bounds it: retention does.
 *
 * Any thread. One lock, the innermost: nothing is called and nothing is allocated under it but the
 * entry of a new name. An entry lives as long as a payer holds it, so the tables are no larger than
 * what is held.
 */
#ifndef SRV_ACCOUNT_H
#define SRV_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

enum srv_resource {
    SRV_MEMORY,
    SRV_DISK,
    SRV_RESOURCE_COUNT,
};

/* What is charged. The table in account.c says for each its name, resource and whether shares bound it. */
enum srv_charge_class {
    /* memory */
    SRV_CHARGE_REQUESTS, /* heads, arguments and the library's pool of a request */
    SRV_CHARGE_BODIES,   /* bodies, while they arrive and are worked on */
    SRV_CHARGE_JSON,     /* parsed JSON */
    SRV_CHARGE_INPUTS,   /* parameters and uploaded tensors of unfinished jobs */
    SRV_CHARGE_RUNS,     /* running jobs: states, tensors, pictures */
    SRV_CHARGE_ANSWERS,  /* answers under way */
    SRV_CHARGE_STREAMS,  /* event streams */
    SRV_CHARGE_STORED,   /* finished jobs, where there is no state_dir */
    SRV_CHARGE_BANKS,    /* images of banks */
    /* disk */
    SRV_CHARGE_DISK_INPUTS,
    SRV_CHARGE_DISK_RESULTS,
    SRV_CHARGE_COUNT,
};

struct srv_account_limits {
    int64_t bytes[SRV_RESOURCE_COUNT];
    int percent_per_key, percent_per_address; /* of each limit, 1...100 */
};

struct srv_accounts;
struct srv_payer;

int srv_accounts_new(struct srv_accounts **out, const struct srv_account_limits *limits);
/* Every payer must have been given back. NULL is fine. Returns NULL. */
struct srv_accounts *srv_accounts_free(struct srv_accounts *accounts);

/* A quarter of the memory that this process may use: of the machine's, or of its control group's. */
int64_t srv_accounts_default_memory(void);

/*
 * Whoever pays: an API key's name and an address, either of them "" where it is unknown; an empty name is counted
 * with nobody. NULL: out of memory. Names are cut at SRV_PAYER_NAME - 1 bytes.
 */
enum { SRV_PAYER_NAME = 64 };
struct srv_payer *srv_payer_new(struct srv_accounts *accounts, const char *key, const char *address);
struct srv_payer *srv_payer_ref(struct srv_payer *payer);
/* NULL is fine. Returns NULL. */
struct srv_payer *srv_payer_unref(struct srv_payer *payer);

/* Why a charge was refused, as an answer. */
struct srv_refusal {
    int status;          /* 413: larger than could ever be granted; 429: the share is used up; 503: the total is */
    const char *code;    /* "too_large", "key_memory", "address_disk", "memory_limit" ... */
    const char *setting; /* the setting that bounds it */
    char detail[224];    /* one sentence with the class, the bytes, what is used and the limit */
};

/* Bytes of one class that one payer holds. Zeroed: nothing. Not to be copied: see srv_charge_move. */
struct srv_charge {
    struct srv_payer *payer; /* a reference, while bytes are held */
    enum srv_charge_class class;
    int64_t bytes;
};

/* Charges `bytes` >= 0 to a charge that holds nothing. 0; ELS_ELIMIT and *why (which may be NULL) filled. */
int srv_charge_take(struct srv_charge *charge, struct srv_payer *payer, enum srv_charge_class class, int64_t bytes,
                    struct srv_refusal *why);
/* The same without any limit: for what an earlier process accepted, and what the daemon itself needs. */
void srv_charge_take_any(struct srv_charge *charge, struct srv_payer *payer, enum srv_charge_class class,
                         int64_t bytes);
/* To a new total of a charge that was taken. Less never fails; more is refused as by srv_charge_take, and then the
 * charge stays as it was. */
int srv_charge_resize(struct srv_charge *charge, int64_t bytes, struct srv_refusal *why);
/* Gives all of it back; does nothing when nothing is held. */
void srv_charge_give(struct srv_charge *charge);
/* `to`, which holds nothing, holds what `from` held. */
void srv_charge_move(struct srv_charge *to, struct srv_charge *from);

/* ---- for metrics, capabilities and whoever plans ---- */

struct srv_account_totals {
    int64_t held[SRV_CHARGE_COUNT];
    int64_t total[SRV_RESOURCE_COUNT], most[SRV_RESOURCE_COUNT]; /* now, and the most there ever was */
    uint64_t refused[SRV_RESOURCE_COUNT][3]; /* by the total, by a key's share, by an address's share */
};
void srv_accounts_totals(struct srv_accounts *accounts, struct srv_account_totals *out);
int64_t srv_accounts_limit(const struct srv_accounts *accounts, enum srv_resource resource);
/* The most that one payer may hold of classes that shares bound. */
int64_t srv_accounts_share(const struct srv_accounts *accounts, enum srv_resource resource);
/* What a charge of this payer may still come to, at most. 0: none. */
int64_t srv_payer_room(struct srv_payer *payer, enum srv_charge_class class);
/* "bodies" ... and the resource that the class is of. */
const char *srv_charge_name(enum srv_charge_class class);
enum srv_resource srv_charge_resource(enum srv_charge_class class);

#endif
