/*
 * Accounts: how much memory and disk each API key and each address causes, in all and by class.
 *
 * Called from every thread that allocates for a client: HTTP threads for heads and bodies, handlers for parsed bodies
 * and answers, the scheduler for running jobs, the store for what it keeps.
 *
 * Always true under the lock: the total of a resource is the sum of its classes, and what a holder (a key or an
 * address) has is the sum of the charges of its payers in the classes that shares bound. Nothing counted ever passes
 * its limit, except by srv_charge_take_any.
 */
#include "server/base/account.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "els/error.h"
#include "els/mem.h"

enum { BUCKETS = 1024, LEAST_MEMORY = 64 << 20 };

static const struct {
    const char *name;
    enum srv_resource resource;
    bool shared; /* bounded by shares: somebody's own, and gone when their work is */
} classes[SRV_CHARGE_COUNT] = {
    [SRV_CHARGE_REQUESTS] = {"requests", SRV_MEMORY, true},
    [SRV_CHARGE_BODIES] = {"bodies", SRV_MEMORY, true},
    [SRV_CHARGE_JSON] = {"json", SRV_MEMORY, true},
    [SRV_CHARGE_INPUTS] = {"inputs", SRV_MEMORY, true},
    [SRV_CHARGE_RUNS] = {"runs", SRV_MEMORY, true},
    [SRV_CHARGE_ANSWERS] = {"answers", SRV_MEMORY, true},
    [SRV_CHARGE_STREAMS] = {"streams", SRV_MEMORY, true},
    [SRV_CHARGE_STORED] = {"stored", SRV_MEMORY, false},
    [SRV_CHARGE_BANKS] = {"banks", SRV_MEMORY, false},
    [SRV_CHARGE_DISK_INPUTS] = {"inputs", SRV_DISK, true},
    [SRV_CHARGE_DISK_RESULTS] = {"results", SRV_DISK, false},
};

static const struct {
    const char *word, *limit;                            /* "memory", "memory_limit" */
    const char *code_total, *code_key, *code_address;
} resources[SRV_RESOURCE_COUNT] = {
    [SRV_MEMORY] = {"memory", "memory_limit", "memory_limit", "key_memory", "address_memory"},
    [SRV_DISK] = {"disk", "disk_limit", "disk_limit", "key_disk", "address_disk"},
};

enum kind { KEY, ADDRESS, KINDS };

static const char *const settings[KINDS] = {"share_per_key", "share_per_address"};

/* A key or an address that somebody pays with. */
struct holder {
    struct holder *next;
    int payers;
    int64_t held[SRV_RESOURCE_COUNT];
    char name[SRV_PAYER_NAME];
};

struct srv_accounts {
    pthread_mutex_t lock; /* guards all that follows, and every holder and payer */
    int64_t limit[SRV_RESOURCE_COUNT];
    int64_t share[KINDS][SRV_RESOURCE_COUNT];
    struct srv_account_totals totals;
    struct holder *holders[KINDS][BUCKETS];
};

struct srv_payer {
    struct srv_accounts *accounts;
    int refs;
    struct holder *holder[KINDS]; /* NULL: nobody is counted */
};

/* ---- limits ---- */

int64_t srv_accounts_default_memory(void)
{
    int64_t bytes = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), group = 0;
    FILE *f = fopen("/sys/fs/cgroup/memory.max", "re"); /* in a container: its own */

    if (f) {
        if (fscanf(f, "%" SCNd64, &group) == 1 && group > 0 && group < bytes)
            bytes = group;
        fclose(f);
    }
    bytes /= 4;
    return bytes < LEAST_MEMORY ? LEAST_MEMORY : bytes;
}

int srv_accounts_new(struct srv_accounts **out, const struct srv_account_limits *limits)
{
    struct srv_accounts *accounts = els_alloc_array(1, sizeof(*accounts));

    if (!accounts)
        return ELS_ENOMEM;
    pthread_mutex_init(&accounts->lock, NULL);
    for (int r = 0; r < SRV_RESOURCE_COUNT; r++) {
        accounts->limit[r] = limits->bytes[r];
        accounts->share[KEY][r] = limits->bytes[r] / 100 * limits->percent_per_key;
        accounts->share[ADDRESS][r] = limits->bytes[r] / 100 * limits->percent_per_address;
    }
    *out = accounts;
    return 0;
}

struct srv_accounts *srv_accounts_free(struct srv_accounts *accounts)
{
    if (!accounts)
        return NULL;
    pthread_mutex_destroy(&accounts->lock);
    free(accounts);
    return NULL;
}

int64_t srv_accounts_limit(const struct srv_accounts *accounts, enum srv_resource resource)
{
    return accounts->limit[resource];
}

int64_t srv_accounts_share(const struct srv_accounts *accounts, enum srv_resource resource)
{
    int64_t key = accounts->share[KEY][resource], address = accounts->share[ADDRESS][resource];

    return key < address ? key : address;
}

/* ---- payers ---- */

static struct holder **find(struct srv_accounts *accounts, enum kind kind, const char *name)
{
    struct holder **link;
    unsigned hash = 5381;

    for (const char *c = name; *c; c++)
        hash = hash * 33 + (unsigned char)*c;
    link = &accounts->holders[kind][hash % BUCKETS];
    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    return link;
}

/* With the lock held. False: out of memory. */
static bool enter(struct srv_payer *payer, enum kind kind, const char *name)
{
    char cut[SRV_PAYER_NAME];
    struct holder **link;

    if (!*name)
        return true;
    snprintf(cut, sizeof(cut), "%s", name);
    link = find(payer->accounts, kind, cut);
    if (!*link) {
        *link = els_alloc_array(1, sizeof(**link));
        if (!*link)
            return false;
        memcpy((*link)->name, cut, sizeof(cut));
    }
    (*link)->payers++;
    payer->holder[kind] = *link;
    return true;
}

/* With the lock held. */
static void leave(struct srv_payer *payer, enum kind kind)
{
    struct holder *holder = payer->holder[kind], **link;

    if (!holder || --holder->payers > 0)
        return;
    link = find(payer->accounts, kind, holder->name);
    *link = holder->next;
    free(holder);
}

struct srv_payer *srv_payer_new(struct srv_accounts *accounts, const char *key, const char *address)
{
    struct srv_payer *payer = els_alloc_array(1, sizeof(*payer));
    bool entered;

    if (!payer)
        return NULL;
    payer->accounts = accounts;
    payer->refs = 1;
    pthread_mutex_lock(&accounts->lock);
    entered = enter(payer, KEY, key) && enter(payer, ADDRESS, address);
    pthread_mutex_unlock(&accounts->lock);
    return entered ? payer : srv_payer_unref(payer);
}

struct srv_payer *srv_payer_ref(struct srv_payer *payer)
{
    pthread_mutex_lock(&payer->accounts->lock);
    payer->refs++;
    pthread_mutex_unlock(&payer->accounts->lock);
    return payer;
}

struct srv_payer *srv_payer_unref(struct srv_payer *payer)
{
    bool last;

    if (!payer)
        return NULL;
    pthread_mutex_lock(&payer->accounts->lock);
    last = --payer->refs == 0;
    for (int kind = 0; kind < KINDS && last; kind++)
        leave(payer, (enum kind)kind);
    pthread_mutex_unlock(&payer->accounts->lock);
    if (last)
        free(payer);
    return NULL;
}

/* ---- refusals ---- */

/* "1.5 MiB": for a person. */
static const char *size_text(char out[24], int64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double size = (double)bytes;
    size_t i = 0;

    while (size >= 1024 && i < 4) {
        size /= 1024;
        i++;
    }
    snprintf(out, 24, size == (double)(int64_t)size ? "%.0f %s" : "%.1f %s", size, units[i]);
    return out;
}

/* `kind` KINDS: the total. */
static void explain(struct srv_refusal *why, const struct srv_accounts *accounts, enum srv_charge_class class,
                    enum kind kind, int64_t bytes, int64_t held)
{
    static const char *const whose[] = {"this API key's", "this address's", "the daemon's"};
    enum srv_resource r = classes[class].resource;
    int64_t limit = kind == KINDS ? accounts->limit[r] : accounts->share[kind][r];
    char wanted[24], used[24], most[24];

    if (!why)
        return;
    why->setting = kind == KINDS ? resources[r].limit : settings[kind];
    if (bytes > limit) {
        why->status = 413;
        why->code = "too_large";
        snprintf(why->detail, sizeof(why->detail), "The request needs %s of %s (%s); %s limit is %s (%s).",
                 size_text(wanted, bytes), resources[r].word, classes[class].name, whose[kind], size_text(most, limit),
                 why->setting);
        return;
    }
    why->status = kind == KINDS ? 503 : 429;
    why->code = kind == KINDS    ? resources[r].code_total
                : kind == KEY    ? resources[r].code_key
                                 : resources[r].code_address;
    snprintf(why->detail, sizeof(why->detail),
             "The request needs %s of %s (%s); %s of %s limit of %s are in use (%s).", size_text(wanted, bytes),
             resources[r].word, classes[class].name, size_text(used, held), whose[kind], size_text(most, limit),
             why->setting);
}

/* May `bytes` more be charged? With the lock held. Returns the kind of limit that says no; −1: none does. */
static int find_limit(const struct srv_payer *payer, enum srv_charge_class class, int64_t bytes, int64_t *held)
{
    const struct srv_accounts *accounts = payer->accounts;
    enum srv_resource r = classes[class].resource;

    for (int kind = 0; kind < KINDS && classes[class].shared; kind++) {
        const struct holder *holder = payer->holder[kind];

        if (!holder)
            continue;
        *held = holder->held[r];
        if (bytes > accounts->share[kind][r] - *held)
            return kind;
    }
    *held = accounts->totals.total[r];
    return bytes > accounts->limit[r] - *held ? KINDS : -1;
}

/* ---- charges ---- */

/* With the lock held; `bytes` may be negative. */
static void count(struct srv_payer *payer, enum srv_charge_class class, int64_t bytes)
{
    struct srv_account_totals *totals = &payer->accounts->totals;
    enum srv_resource r = classes[class].resource;

    totals->held[class] += bytes;
    totals->total[r] += bytes;
    if (totals->total[r] > totals->most[r])
        totals->most[r] = totals->total[r];
    for (int kind = 0; kind < KINDS && classes[class].shared; kind++)
        if (payer->holder[kind])
            payer->holder[kind]->held[r] += bytes;
}

/* Counts `bytes` more, or says why not. */
static int charge_more(struct srv_payer *payer, enum srv_charge_class class, int64_t before, int64_t bytes,
                       struct srv_refusal *why)
{
    struct srv_accounts *accounts = payer->accounts;
    int64_t held;
    int limit;

    pthread_mutex_lock(&accounts->lock);
    limit = find_limit(payer, class, bytes, &held);
    if (limit < 0)
        count(payer, class, bytes);
    else
        accounts->totals.refused[classes[class].resource][limit == KINDS ? 0 : 1 + limit]++;
    pthread_mutex_unlock(&accounts->lock);
    if (limit < 0)
        return 0;
    /* What the charge itself holds counts with what is wanted: all of it would have to fit. */
    explain(why, accounts, class, (enum kind)limit, before + bytes, held - before);
    return ELS_ELIMIT;
}

int srv_charge_take(struct srv_charge *charge, struct srv_payer *payer, enum srv_charge_class class, int64_t bytes,
                    struct srv_refusal *why)
{
    int status = charge_more(payer, class, 0, bytes, why);

    if (status == 0)
        *charge = (struct srv_charge){srv_payer_ref(payer), class, bytes};
    return status;
}

void srv_charge_take_any(struct srv_charge *charge, struct srv_payer *payer, enum srv_charge_class class,
                         int64_t bytes)
{
    pthread_mutex_lock(&payer->accounts->lock);
    count(payer, class, bytes);
    pthread_mutex_unlock(&payer->accounts->lock);
    *charge = (struct srv_charge){srv_payer_ref(payer), class, bytes};
}

int srv_charge_resize(struct srv_charge *charge, int64_t bytes, struct srv_refusal *why)
{
    struct srv_payer *payer = charge->payer;
    int status = 0;

    if (bytes > charge->bytes) {
        status = charge_more(payer, charge->class, charge->bytes, bytes - charge->bytes, why);
    } else {
        pthread_mutex_lock(&payer->accounts->lock);
        count(payer, charge->class, bytes - charge->bytes);
        pthread_mutex_unlock(&payer->accounts->lock);
    }
    if (status == 0)
        charge->bytes = bytes;
    return status;
}

void srv_charge_give(struct srv_charge *charge)
{
    if (!charge->payer)
        return;
    srv_charge_resize(charge, 0, NULL);
    srv_payer_unref(charge->payer);
    *charge = (struct srv_charge){0};
}

void srv_charge_move(struct srv_charge *to, struct srv_charge *from)
{
    *to = *from;
    *from = (struct srv_charge){0};
}

/* ---- what is held ---- */

void srv_accounts_totals(struct srv_accounts *accounts, struct srv_account_totals *out)
{
    pthread_mutex_lock(&accounts->lock);
    *out = accounts->totals;
    pthread_mutex_unlock(&accounts->lock);
}

int64_t srv_payer_room(struct srv_payer *payer, enum srv_charge_class class)
{
    struct srv_accounts *accounts = payer->accounts;
    enum srv_resource r = classes[class].resource;
    int64_t room;

    pthread_mutex_lock(&accounts->lock);
    room = accounts->limit[r] - accounts->totals.total[r];
    for (int kind = 0; kind < KINDS && classes[class].shared; kind++) {
        const struct holder *holder = payer->holder[kind];

        if (holder && accounts->share[kind][r] - holder->held[r] < room)
            room = accounts->share[kind][r] - holder->held[r];
    }
    pthread_mutex_unlock(&accounts->lock);
    return room > 0 ? room : 0;
}

const char *srv_charge_name(enum srv_charge_class class)
{
    return classes[class].name;
}

enum srv_resource srv_charge_resource(enum srv_charge_class class)
{
    return classes[class].resource;
}
