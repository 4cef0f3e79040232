/*
 * Loading and unloading. Handlers order and cancel; one thread of ours loads and writes banks.json; whoever lets go of
 * a bank for the last time tells that thread to write it again.
 *
 * Locks: `lock` guards the line and the records; the accounts' lock is taken under it, and those of bank_memory and
 * banks for counting. `saving` makes the writers of banks.json take turns; it is held across the write, never together
 * with `lock`. Watchers are woken with no lock held.
 */
#include "server/banks/bank_loads.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "els/mem.h"
#include "els/synth.h"
#include "server/banks/banks_saved.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/config/config.h"

enum {
    SAVE_AGAIN_SECONDS = 5,     /* after banks.json could not be written */
    BUILT_IN_MEMORY = 16 << 20, /* what core/bank/bank_file.c asks for first */
};

struct srv_bank_loads {
    struct srv_daemon *daemon;
    pthread_mutex_t saving;
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct srv_bank_load *first; /* those that wait, with the line's references */
    struct srv_bank_load *now;   /* the one that loads; borrowed from the thread */
    int waiting;
    struct srv_bank_load *records[SRV_BANK_LOADS_RECORDS]; /* oldest first, with references */
    size_t num_records;
    bool must_save;
    atomic_bool stopping;
    bool started;
    pthread_t thread;
};

/* ---- one load ---- */

bool srv_bank_load_ended(const struct srv_bank_load *load)
{
    return atomic_load(&load->status) >= SRV_LOAD_LOADED;
}

struct srv_bank_load *srv_bank_load_ref(struct srv_bank_load *load)
{
    /* Relaxed: whoever refs already holds a reference. */
    atomic_fetch_add_explicit(&load->refs, 1, memory_order_relaxed);
    return load;
}

/* What only a load that has not ended holds. */
static void give_back(struct srv_bank_load *load)
{
    if (load->fd >= 0)
        close(load->fd);
    load->fd = -1;
    srv_charge_give(&load->charge);
    load->payer = srv_payer_unref(load->payer);
}

struct srv_bank_load *srv_bank_load_unref(struct srv_bank_load *load)
{
    /* Release our own use, and acquire everybody's before the end. */
    if (load && atomic_fetch_sub_explicit(&load->refs, 1, memory_order_acq_rel) == 1) {
        give_back(load);
        srv_waiters_deinit(&load->watchers);
        free(load);
    }
    return NULL;
}

static struct srv_bank_answer *say(struct srv_bank_answer *answer, int status, const char *code, const char *pointer,
                                   int retry_after, const char *format, ...) __attribute__((format(printf, 6, 7)));
static struct srv_bank_answer *say(struct srv_bank_answer *answer, int status, const char *code, const char *pointer,
                                   int retry_after, const char *format, ...)
{
    va_list ap;

    *answer = (struct srv_bank_answer){.status = status, .pointer = pointer, .retry_after = retry_after};
    snprintf(answer->code, sizeof(answer->code), "%s", code);
    va_start(ap, format);
    vsnprintf(answer->detail, sizeof(answer->detail), format, ap);
    va_end(ap);
    return answer;
}

static void say_refused(struct srv_bank_answer *answer, const struct srv_refusal *why)
{
    say(answer, why->status, why->code, NULL, why->status == 413 ? 0 : 5, "%s", why->detail);
}

static void say_no_memory(struct srv_bank_answer *answer)
{
    say(answer, 500, "out_of_memory", NULL, 0, "Out of memory.");
}

/* What the loader said of a file, as an answer. */
static void say_failed(struct srv_bank_answer *answer, int status, const struct els_error *err)
{
    if (status == ELS_ENOMEM)
        say_no_memory(answer);
    else if (status == ELS_ENOENT)
        say(answer, 404, "bank_file_not_found", "/file", 0, "%s", err->message);
    else
        say(answer, 422, "bad_bank_file", "/file", 0, "%s", err->message);
}

/* It has ended: with `load->answer`. Its watchers see that, and what it held is given back. */
static void end(struct srv_bank_loads *loads, struct srv_bank_load *load)
{
    bool good = load->answer.status < 300;
    char ms[32], status[32];

    give_back(load);
    srv_log(loads->daemon->log, good ? SRV_INFO : SRV_WARNING, good ? "bank_loaded" : "bank_load_failed", "bank",
            load->birth.name, "from", load->birth.source, "status", srv_log_number(status, load->answer.status),
            "reason", good ? NULL : load->answer.detail, "ms",
            srv_log_number(ms, (double)(srv_monotonic_ms() - load->ordered)), "key",
            *load->birth.key ? load->birth.key : NULL, "request_id", load->request, NULL);
    srv_metrics_count(loads->daemon->metrics, good ? SRV_BANK_LOADS_DONE : SRV_BANK_LOADS_FAILED);
    atomic_store(&load->status, good ? SRV_LOAD_LOADED : SRV_LOAD_FAILED);
    srv_waiters_wake(&load->watchers);
}

/* ---- banks.json ---- */

static int save(struct srv_bank_loads *loads, struct els_error *err)
{
    int r;

    pthread_mutex_lock(&loads->saving);
    r = srv_banks_save(loads->daemon, err);
    pthread_mutex_unlock(&loads->saving);
    if (r < 0)
        srv_log(loads->daemon->log, SRV_ERROR, "banks_not_saved", "reason", err->message, NULL);
    return r;
}

static void ask_to_save(struct srv_bank_loads *loads)
{
    pthread_mutex_lock(&loads->lock);
    loads->must_save = true;
    pthread_cond_signal(&loads->news);
    pthread_mutex_unlock(&loads->lock);
}

/* A bank's memory is free; any thread. */
static void freed(void *user, const struct srv_bank_birth *birth)
{
    struct srv_bank_loads *loads = user;

    if (birth->origin == SRV_BANK_CONFIGURED)
        return;
    srv_log(loads->daemon->log, SRV_INFO, "bank_freed", "bank", birth->name, NULL);
    ask_to_save(loads);
}

void srv_bank_loads_reloaded(struct srv_bank_loads *loads)
{
    ask_to_save(loads);
}

/* ---- the thread ---- */

static int is_stopped(void *user)
{
    struct srv_bank_load *load = user;

    return atomic_load(&load->cancelled);
}

/* The bank could not be written down: it is taken back, and what it replaced returns. */
static void take_back(struct srv_bank_loads *loads, const struct srv_bank_load *load, struct srv_banks_entry *old)
{
    struct srv_banks *banks = loads->daemon->banks;
    struct srv_banks_entry gone;

    if (old->bank && srv_banks_put(banks, old, true, &gone) == SRV_BANKS_REPLACED)
        els_bank_unref(gone.bank);
    else if (!old->bank && srv_banks_remove(banks, load->birth.name, &gone) == SRV_BANKS_REPLACED)
        els_bank_unref(gone.bank);
}

static void offer(struct srv_bank_loads *loads, struct srv_bank_load *load, const struct srv_banks_entry *entry)
{
    struct srv_bank_answer *answer = &load->answer;
    const char *name = load->birth.name;
    struct srv_banks_entry old = {0};
    struct els_error err = {0};

    switch (srv_banks_put(loads->daemon->banks, entry, load->replace, &old)) {
    case SRV_BANKS_NEW:
    case SRV_BANKS_REPLACED:
        if (save(loads, &err) < 0) {
            take_back(loads, load, &old);
            say(answer, 503, "store_failed", NULL, 10, "The bank could not be kept. %s", err.message);
        } else {
            say(answer, 201, "", NULL, 0, "The bank is loaded.");
        }
        els_bank_unref(old.bank);
        break;
    case SRV_BANKS_SAME:
        say(answer, 200, "", NULL, 0, "The bank is loaded already.");
        break;
    case SRV_BANKS_TAKEN:
        say(answer, 409, "bank_exists", NULL, 0,
            "There is another bank \"%s\"; send \"replace\": true to put this one in its place.", name);
        break;
    case SRV_BANKS_UNTOUCHED:
        say(answer, 409, "bank_is_configured", NULL, 0,
            "The bank \"%s\" is another one and stands in the configuration; it can only be changed there.", name);
        break;
    default:
        say(answer, 409, "too_many_banks", NULL, 0, "There is no place for another bank.");
    }
}

static void load_bank(struct srv_bank_loads *loads, struct srv_bank_load *load)
{
    struct srv_bank_demand demand = {.birth = &load->birth,
                                     .path = load->birth.source,
                                     .fd = load->fd,
                                     .payer = load->payer,
                                     .charge = &load->charge,
                                     .stop = is_stopped,
                                     .user = load};
    struct srv_banks_entry entry = {.birth = load->birth};
    struct els_error err = {0};
    struct srv_refusal why = {0};
    int r = srv_bank_memory_open(loads->daemon->bank_memory, &demand, &entry.bank, &entry.id, &why, &err);

    if (atomic_load(&load->cancelled) || r == ELS_ECANCELLED) {
        if (r == 0)
            els_bank_unref(entry.bank);
        if (atomic_load(&loads->stopping))
            say(&load->answer, 503, "draining", NULL, 5, "The daemon is shutting down.");
        else
            say(&load->answer, 409, "load_cancelled", NULL, 0, "The bank was unloaded while it was being loaded.");
    } else if (why.status) {
        say_refused(&load->answer, &why);
    } else if (r < 0) {
        say_failed(&load->answer, r, &err);
    } else {
        offer(loads, load, &entry);
        els_bank_unref(entry.bank);
    }
}

/* The next in the line, or NULL when banks.json is to be written (*must_save) or there is nothing any more. */
static struct srv_bank_load *next(struct srv_bank_loads *loads, bool save_again, bool *must_save)
{
    struct srv_bank_load *load;
    struct timespec until;
    int waited = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SAVE_AGAIN_SECONDS;
    pthread_mutex_lock(&loads->lock);
    while (!loads->first && !loads->must_save && !atomic_load(&loads->stopping) && waited == 0)
        waited = save_again ? pthread_cond_timedwait(&loads->news, &loads->lock, &until)
                            : pthread_cond_wait(&loads->news, &loads->lock);
    *must_save = loads->must_save || (save_again && waited == ETIMEDOUT);
    loads->must_save = false;
    load = loads->first;
    if (load) {
        loads->first = load->next;
        load->next = NULL;
        loads->waiting--;
        atomic_store(&load->status, SRV_LOAD_LOADING);
        loads->now = load;
    }
    pthread_mutex_unlock(&loads->lock);
    return load;
}

static void *work(void *arg)
{
    struct srv_bank_loads *loads = arg;
    struct els_error err = {0};
    bool must_save = false, failed = false;

    while (!atomic_load(&loads->stopping)) {
        struct srv_bank_load *load = next(loads, failed, &must_save);

        if (load) {
            load_bank(loads, load);
            pthread_mutex_lock(&loads->lock);
            loads->now = NULL;
            pthread_mutex_unlock(&loads->lock);
            end(loads, load);
            srv_bank_load_unref(load);
        }
        if (must_save)
            failed = save(loads, &err) < 0;
    }
    return NULL;
}

/* ---- ordering ---- */

/* The load of that name that has not ended, or NULL. With the lock held. */
static struct srv_bank_load *under_way(struct srv_bank_loads *loads, const char *name)
{
    for (size_t i = 0; i < loads->num_records; i++)
        if (strcmp(loads->records[i]->birth.name, name) == 0 && !srv_bank_load_ended(loads->records[i]))
            return loads->records[i];
    return NULL;
}

static void forget(struct srv_bank_loads *loads, size_t i)
{
    srv_bank_load_unref(loads->records[i]);
    memmove(&loads->records[i], &loads->records[i + 1], (--loads->num_records - i) * sizeof(*loads->records));
}

/* The last load of a name is remembered; the oldest makes room. There are fewer under way than records. */
static void remember(struct srv_bank_loads *loads, struct srv_bank_load *load)
{
    for (size_t i = 0; i < loads->num_records; i++)
        if (strcmp(loads->records[i]->birth.name, load->birth.name) == 0) {
            forget(loads, i);
            break;
        }
    for (size_t i = 0; i < loads->num_records && loads->num_records == SRV_BANK_LOADS_RECORDS; i++)
        if (srv_bank_load_ended(loads->records[i]))
            forget(loads, i);
    loads->records[loads->num_records++] = srv_bank_load_ref(load);
}

static void count_held(void *user, const struct srv_bank_held *held)
{
    *(int *)user += held->birth->origin != SRV_BANK_CONFIGURED;
}

/* Whether the line takes another, with the lock held: a load that does the same; or NULL, and a problem in *answer
 * unless there is none. */
static struct srv_bank_load *find_place(struct srv_bank_loads *loads, const struct srv_bank_order *order,
                                        struct srv_bank_answer *answer)
{
    struct srv_bank_load *same = under_way(loads, order->name);
    int held = loads->waiting + (loads->now != NULL);

    if (same && strcmp(same->birth.source, order->source) == 0 && same->replace == order->replace &&
        (same->birth.origin == SRV_BANK_BUILT_IN) == order->built_in && !atomic_load(&same->cancelled))
        return srv_bank_load_ref(same);
    srv_bank_memory_walk(loads->daemon->bank_memory, count_held, &held);
    if (same)
        say(answer, 409, "bank_loading", NULL, 0, "Another load of the bank \"%s\" is under way.", order->name);
    else if (atomic_load(&loads->stopping))
        say(answer, 503, "draining", NULL, 5, "The daemon is shutting down.");
    else if (loads->waiting >= SRV_BANK_LOADS_WAITING)
        say(answer, 503, "loader_busy", NULL, 5, "%d banks wait to be loaded, which is all that may.",
            SRV_BANK_LOADS_WAITING);
    else if (held >= SRV_BANKS_LOADED)
        say(answer, 409, "too_many_banks", NULL, 0,
            "%d loaded banks are in memory or on their way, those included that were unloaded and are still used by "
            "jobs, and that is all that may; unload one first.",
            held);
    return NULL;
}

/* Is what the order would load being served by that name? By the file, without reading it. */
static bool is_served(struct srv_bank_loads *loads, const struct srv_bank_birth *birth)
{
    struct srv_banks_entry entry;
    bool same;

    if (!srv_banks_look(loads->daemon->banks, birth->name, &entry))
        return false;
    if (birth->origin == SRV_BANK_FILE)
        same = srv_bank_file_is_same(&entry.birth.file, &birth->file);
    else
        same = entry.birth.file.inode == 0 && strcmp(entry.birth.source, birth->source) == 0;
    els_bank_unref(entry.bank);
    return same;
}

static bool is_built_in(const char *name)
{
    for (int i = 0; i < els_synth_count(); i++)
        if (strcmp(els_synth_name(i), name) == 0)
            return true;
    return false;
}

/* Opens the file and charges it. False: *answer says why not, or that the bank is there. */
static bool prepare(struct srv_bank_loads *loads, const struct srv_bank_order *order, struct srv_bank_load *load,
                    struct srv_bank_answer *answer)
{
    struct srv_bank_birth *birth = &load->birth;
    struct els_error err = {0};
    struct srv_refusal why;
    int64_t bytes = BUILT_IN_MEMORY;
    int r = 0;

    snprintf(birth->name, sizeof(birth->name), "%s", order->name);
    snprintf(birth->source, sizeof(birth->source), "%s", order->source);
    snprintf(birth->key, sizeof(birth->key), "%s", order->key);
    birth->loaded_at = srv_now_ms();
    birth->origin = order->built_in ? SRV_BANK_BUILT_IN : SRV_BANK_FILE;
    birth->file.fd = -1;
    if (order->built_in && !is_built_in(order->source)) {
        say(answer, 422, "invalid_value", "/builtin", 0,
            "builtin is \"%.80s\"; GET /v1/capabilities lists those that "
            "there are.",
            order->source);
        return false;
    }
    if (!order->built_in) {
        r = srv_bank_dir_open(loads->daemon->config->bank_dir, order->source, &birth->file, &err);
        load->fd = birth->file.fd;
        bytes = birth->file.size;
    }
    if (r < 0) {
        say_failed(answer, r, &err);
        return false;
    }
    if (is_served(loads, birth)) {
        say(answer, 200, "", NULL, 0, "The bank is loaded already.");
        return false;
    }
    load->payer = srv_payer_new(loads->daemon->accounts, order->key, order->peer);
    if (!load->payer) {
        say_no_memory(answer);
        return false;
    }
    if (srv_charge_take(&load->charge, load->payer, SRV_CHARGE_BANKS, bytes, &why) < 0) {
        say_refused(answer, &why);
        return false;
    }
    return true;
}

static struct srv_bank_load *new_load(const struct srv_bank_order *order)
{
    struct srv_bank_load *load = els_alloc_array(1, sizeof(*load));

    if (!load)
        return NULL;
    atomic_init(&load->refs, 1);
    atomic_init(&load->status, SRV_LOAD_WAITING);
    srv_waiters_init(&load->watchers);
    load->fd = -1;
    load->replace = order->replace;
    load->ordered = srv_monotonic_ms();
    snprintf(load->request, sizeof(load->request), "%s", order->request);
    return load;
}

static void enqueue(struct srv_bank_loads *loads, struct srv_bank_load *load)
{
    struct srv_bank_load **last = &loads->first;

    while (*last)
        last = &(*last)->next;
    *last = srv_bank_load_ref(load);
    loads->waiting++;
    remember(loads, load);
    pthread_cond_signal(&loads->news);
}

struct srv_bank_load *srv_bank_loads_begin(struct srv_bank_loads *loads, const struct srv_bank_order *order,
                                           struct srv_bank_answer *answer)
{
    struct srv_bank_load *load, *same;

    *answer = (struct srv_bank_answer){0};
    pthread_mutex_lock(&loads->lock);
    same = find_place(loads, order, answer);
    pthread_mutex_unlock(&loads->lock);
    if (same || answer->status)
        return same;
    load = new_load(order);
    if (!load) {
        say_no_memory(answer);
        return NULL;
    }
    if (!prepare(loads, order, load, answer))
        return srv_bank_load_unref(load);
    pthread_mutex_lock(&loads->lock);
    same = find_place(loads, order, answer); /* again: others were ordering meanwhile */
    if (!same && !answer->status)
        enqueue(loads, load);
    pthread_mutex_unlock(&loads->lock);
    if (same || answer->status) {
        srv_bank_load_unref(load);
        return same;
    }
    return load;
}

/* ---- unloading ---- */

/* Ends a load of that name; false: there was none under way. */
static bool cancel(struct srv_bank_loads *loads, const char *name)
{
    struct srv_bank_load *load, **link;
    bool waits;

    pthread_mutex_lock(&loads->lock);
    load = under_way(loads, name);
    for (link = &loads->first; *link && *link != load; link = &(*link)->next)
        ;
    waits = load && *link;
    if (load)
        atomic_store(&load->cancelled, true);
    if (waits) {
        *link = load->next;
        load->next = NULL;
        loads->waiting--;
    }
    pthread_mutex_unlock(&loads->lock);
    if (waits) {
        /* It is this thread's own now, and so is the line's reference. */
        say(&load->answer, 409, "load_cancelled", NULL, 0, "The bank was unloaded before it was loaded.");
        end(loads, load);
        srv_bank_load_unref(load);
    }
    return load != NULL;
}

struct search {
    uint64_t id;
    bool found;
};

static void search_id(void *user, const struct srv_bank_held *held)
{
    struct search *s = user;

    s->found |= held->id == s->id;
}

void srv_bank_loads_unload(struct srv_bank_loads *loads, const char *name, bool *in_use, struct srv_bank_answer *answer)
{
    struct srv_daemon *daemon = loads->daemon;
    bool cancelled = cancel(loads, name);
    struct srv_banks_entry old = {0};
    enum srv_banks_outcome outcome = srv_banks_remove(daemon->banks, name, &old);
    struct search search = {.id = old.id};
    struct els_error err = {0};
    char names[512];

    *in_use = false;
    if (outcome == SRV_BANKS_REPLACED) {
        els_bank_unref(old.bank);
        srv_bank_memory_walk(daemon->bank_memory, search_id, &search);
        *in_use = search.found;
        srv_log(daemon->log, SRV_INFO, "bank_unloaded", "bank", name, "in_use", *in_use ? "true" : "false", NULL);
        if (save(loads, &err) < 0)
            ask_to_save(loads);
        say(answer, 200, "", NULL, 0, "The bank is unloaded.");
    } else if (cancelled) {
        say(answer, 200, "", NULL, 0, "The load is cancelled.");
    } else if (outcome == SRV_BANKS_UNTOUCHED) {
        say(answer, 409, "bank_is_configured", NULL, 0,
            "The bank \"%s\" stands in the configuration; take it out there and send SIGHUP.", name);
    } else {
        say(answer, 404, "bank_not_found", NULL, 0, "There is no bank named \"%.80s\"; there are: %s.", name,
            srv_banks_names(daemon->banks, names, sizeof(names)));
    }
}

struct srv_bank_load *srv_bank_loads_find(struct srv_bank_loads *loads, const char *name)
{
    struct srv_bank_load *load = NULL;

    pthread_mutex_lock(&loads->lock);
    for (size_t i = 0; i < loads->num_records && !load; i++)
        if (strcmp(loads->records[i]->birth.name, name) == 0)
            load = srv_bank_load_ref(loads->records[i]);
    pthread_mutex_unlock(&loads->lock);
    return load;
}

/* ---- life ---- */

int srv_bank_loads_new(struct srv_bank_loads **out, struct srv_daemon *daemon)
{
    struct srv_bank_loads *loads = els_alloc_array(1, sizeof(*loads));

    if (!loads)
        return ELS_ENOMEM;
    loads->daemon = daemon;
    pthread_mutex_init(&loads->saving, NULL);
    pthread_mutex_init(&loads->lock, NULL);
    pthread_cond_init(&loads->news, NULL);
    srv_banks_restore(daemon);
    srv_bank_memory_watch(daemon->bank_memory, freed, loads);
    loads->started = pthread_create(&loads->thread, NULL, work, loads) == 0;
    if (!loads->started) {
        srv_bank_loads_free(loads);
        return ELS_ENOMEM;
    }
    *out = loads;
    return 0;
}

void srv_bank_loads_drain(struct srv_bank_loads *loads)
{
    struct srv_bank_load *load;

    pthread_mutex_lock(&loads->lock);
    atomic_store(&loads->stopping, true);
    if (loads->now)
        atomic_store(&loads->now->cancelled, true);
    pthread_cond_signal(&loads->news);
    pthread_mutex_unlock(&loads->lock);
    if (loads->started)
        pthread_join(loads->thread, NULL);
    loads->started = false;
    while ((load = loads->first)) {
        loads->first = load->next;
        load->next = NULL;
        say(&load->answer, 503, "draining", NULL, 5, "The daemon is shutting down.");
        end(loads, load);
        srv_bank_load_unref(load);
    }
}

struct srv_bank_loads *srv_bank_loads_free(struct srv_bank_loads *loads)
{
    if (!loads)
        return NULL;
    srv_bank_loads_drain(loads);
    srv_bank_memory_watch(loads->daemon->bank_memory, NULL, NULL);
    while (loads->num_records)
        forget(loads, 0);
    pthread_cond_destroy(&loads->news);
    pthread_mutex_destroy(&loads->lock);
    pthread_mutex_destroy(&loads->saving);
    free(loads);
    return NULL;
}

/* ---- metrics ---- */

struct counting {
    struct srv_banks *banks;
    struct srv_bank_counts counts;
};

static void count(void *user, const struct srv_bank_held *held)
{
    struct counting *c = user;

    if (!srv_banks_offers(c->banks, held->id))
        c->counts.unloaded++;
    else if (held->birth->origin == SRV_BANK_CONFIGURED)
        c->counts.configured++;
    else
        c->counts.loaded++;
}

struct srv_bank_counts srv_bank_loads_counts(struct srv_daemon *daemon)
{
    struct counting c = {.banks = daemon->banks};

    srv_bank_memory_walk(daemon->bank_memory, count, &c);
    return c.counts;
}
