/*
 * The table of served banks. Filled by the main thread at startup and on SIGHUP, changed by the loader and by
 * handlers, read by any thread, under a lock that is held only while entries are looked up, moved, and referenced.
 *
 * Configured banks come first, in their order, so the first entry is the default. A bank is never let go under the
 * lock: that may free it, which takes others.
 */
#include "server/banks/banks.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/json.h"
#include "els/mem.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/config/config.h"

enum { MOST = SRV_BANKS_CONFIGURED + 2 * SRV_BANKS_LOADED };

struct srv_banks {
    pthread_mutex_t lock;
    struct srv_banks_entry *entries; /* [MOST] */
    size_t n;
};

/* What is served when nothing is configured. */
static const struct srv_config_bank built_in[] = {
    {(char *)"digits", (char *)"digits"},
    {(char *)"shapes", (char *)"shapes"},
    {(char *)"two-tone", (char *)"two-tone"},
};

/* ---- the configured ones ---- */

static bool is_same_source(const struct srv_bank_birth *a, const struct srv_bank_birth *b)
{
    return strcmp(a->source, b->source) == 0 && srv_bank_file_is_same(&a->file, &b->file);
}

/* The entry of `old` that came from the same, unchanged file; NULL when it has to be read. */
static const struct srv_banks_entry *find_unchanged(const struct srv_banks *old, const struct srv_bank_birth *birth)
{
    for (size_t i = 0; old && i < old->n; i++)
        if (old->entries[i].birth.origin == SRV_BANK_CONFIGURED && is_same_source(&old->entries[i].birth, birth))
            return &old->entries[i];
    return NULL;
}

static int take_from(struct srv_banks *old, const struct srv_bank_birth *birth, struct srv_banks_entry *entry)
{
    const struct srv_banks_entry *same;

    if (!old)
        return ELS_ENOENT;
    pthread_mutex_lock(&old->lock);
    same = find_unchanged(old, birth);
    if (same) {
        *entry = *same;
        els_bank_ref(entry->bank);
        memcpy(entry->birth.name, birth->name, sizeof(birth->name));
    }
    pthread_mutex_unlock(&old->lock);
    return same ? 0 : ELS_ENOENT;
}

static int load(struct srv_banks_entry *entry, const struct srv_config_bank *wanted, struct srv_bank_memory *memory,
                struct srv_payer *payer, struct srv_banks *old, struct els_error *err)
{
    struct srv_bank_birth birth = {.origin = SRV_BANK_CONFIGURED, .loaded_at = srv_now_ms(), .file.fd = -1};
    struct srv_bank_demand demand = {.birth = &birth, .path = wanted->file, .fd = -1, .payer = payer};
    struct els_error inner = {0};
    struct srv_refusal why;
    int r = 0;

    snprintf(birth.name, sizeof(birth.name), "%s", wanted->name);
    if (strpbrk(wanted->file, "/.")) {
        /* O_NONBLOCK: opening a FIFO that nobody writes to must not hang. */
        demand.fd = open(wanted->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (demand.fd < 0 || !srv_bank_file_look(demand.fd, &birth.file))
            r = els_fail(&inner, ELS_EIO, "file", "cannot open %.200s: %s", wanted->file, strerror(errno));
    } else {
        snprintf(birth.source, sizeof(birth.source), "%s", wanted->file);
    }
    if (r == 0 && take_from(old, &birth, entry) < 0) {
        if (memory)
            r = srv_bank_memory_open(memory, &demand, &entry->bank, &entry->id, &why, &inner);
        else if (demand.fd >= 0)
            r = els_bank_read(&entry->bank, demand.fd, wanted->file, NULL, &inner);
        else
            r = els_bank_open(&entry->bank, wanted->file, &inner);
        entry->birth = birth;
    }
    if (demand.fd >= 0)
        close(demand.fd);
    if (r < 0)
        return els_fail(err, r, "banks", "the bank \"%s\" (%.120s) cannot be served: %.240s", wanted->name,
                        wanted->file, *inner.message ? inner.message : els_status_text(r));
    return 0;
}

int srv_banks_new(struct srv_banks **out, const struct srv_config *config, struct srv_bank_memory *memory,
                  struct srv_payer *payer, struct srv_banks *old, struct els_error *err)
{
    const struct srv_config_bank *wanted = config->num_banks ? config->banks : built_in;
    size_t n = config->num_banks ? config->num_banks : sizeof(built_in) / sizeof(*built_in);
    struct srv_banks *banks = els_alloc_array(1, sizeof(*banks));
    int r = 0;

    if (!banks)
        return els_fail(err, ELS_ENOMEM, "banks", "out of memory");
    pthread_mutex_init(&banks->lock, NULL);
    banks->entries = els_alloc_array(MOST, sizeof(*banks->entries));
    if (!banks->entries)
        r = els_fail(err, ELS_ENOMEM, "banks", "out of memory");
    for (; r == 0 && banks->n < n; banks->n += r == 0)
        r = load(&banks->entries[banks->n], &wanted[banks->n], memory, payer, old, err);
    if (r < 0)
        srv_banks_free(banks);
    else
        *out = banks;
    return r;
}

static bool has_digest(const struct srv_banks_entry *entry, const char *sha256)
{
    return strcmp(els_bank_info(entry->bank)->sha256, sha256) == 0;
}

static struct srv_banks_entry *find(struct srv_banks *banks, const char *name)
{
    for (size_t i = 0; i < banks->n; i++)
        if (!banks->entries[i].hidden && (!name || strcmp(banks->entries[i].birth.name, name) == 0))
            return &banks->entries[i];
    return NULL;
}

/* A bank that was read again and is the same goes on in its old memory: the two entries change places. */
static void keep_same(struct srv_banks_entry *fresh, struct srv_banks_entry *old)
{
    struct srv_banks_entry spare = *old;

    if (old->birth.origin != SRV_BANK_CONFIGURED || !has_digest(old, els_bank_info(fresh->bank)->sha256))
        return;
    old->bank = fresh->bank;
    fresh->bank = spare.bank;
    fresh->id = spare.id;
}

void srv_banks_replace(struct srv_banks *banks, struct srv_banks *fresh, struct srv_log *log)
{
    struct srv_banks_entry *old, *same;
    size_t n, kept = 0;

    pthread_mutex_lock(&banks->lock);
    for (size_t i = 0; i < fresh->n; i++) {
        same = find(banks, fresh->entries[i].birth.name);
        if (same)
            keep_same(&fresh->entries[i], same);
    }
    old = banks->entries;
    n = banks->n;
    for (size_t i = 0; i < n; i++) {
        bool stays = old[i].birth.origin != SRV_BANK_CONFIGURED && (old[i].hidden || !find(fresh, old[i].birth.name));

        if (stays)
            fresh->entries[fresh->n++] = old[i];
        else
            old[kept++] = old[i];
    }
    banks->entries = fresh->entries;
    banks->n = fresh->n;
    pthread_mutex_unlock(&banks->lock);
    fresh->entries = old;
    fresh->n = kept;
    for (size_t i = 0; i < kept; i++)
        if (old[i].birth.origin != SRV_BANK_CONFIGURED)
            srv_log(log, SRV_WARNING, "bank_unloaded", "bank", old[i].birth.name, "reason",
                    "the configuration has a bank of this name now", NULL);
    srv_banks_free(fresh);
}

struct srv_banks *srv_banks_free(struct srv_banks *banks)
{
    if (!banks)
        return NULL;
    for (size_t i = 0; i < banks->n; i++)
        els_bank_unref(banks->entries[i].bank);
    pthread_mutex_destroy(&banks->lock);
    free(banks->entries);
    free(banks);
    return NULL;
}

/* ---- the loaded ones ---- */

enum srv_banks_outcome srv_banks_put(struct srv_banks *banks, const struct srv_banks_entry *entry, bool replace,
                                     struct srv_banks_entry *old)
{
    enum srv_banks_outcome outcome = SRV_BANKS_NEW;
    struct srv_banks_entry *there;
    struct els_bank *gone = NULL;

    pthread_mutex_lock(&banks->lock);
    there = find(banks, entry->birth.name);
    if (there && has_digest(there, els_bank_info(entry->bank)->sha256))
        outcome = SRV_BANKS_SAME;
    else if (there && there->birth.origin == SRV_BANK_CONFIGURED)
        outcome = SRV_BANKS_UNTOUCHED;
    else if (there && !replace)
        outcome = SRV_BANKS_TAKEN;
    else if (there)
        outcome = SRV_BANKS_REPLACED;
    else if (banks->n == MOST)
        outcome = SRV_BANKS_FULL;
    if (outcome == SRV_BANKS_REPLACED) {
        gone = there->bank;
        if (old)
            *old = *there;
    } else if (outcome == SRV_BANKS_NEW) {
        there = &banks->entries[banks->n++];
    }
    if (outcome == SRV_BANKS_NEW || outcome == SRV_BANKS_REPLACED) {
        *there = *entry;
        there->hidden = false;
        els_bank_ref(there->bank);
    }
    pthread_mutex_unlock(&banks->lock);
    if (!old)
        els_bank_unref(gone);
    return outcome;
}

static void take_out(struct srv_banks *banks, struct srv_banks_entry *entry, struct srv_banks_entry *old)
{
    size_t i = (size_t)(entry - banks->entries);

    *old = *entry;
    memmove(entry, entry + 1, (--banks->n - i) * sizeof(*entry));
}

enum srv_banks_outcome srv_banks_remove(struct srv_banks *banks, const char *name, struct srv_banks_entry *old)
{
    enum srv_banks_outcome outcome = SRV_BANKS_REPLACED;
    struct srv_banks_entry *there;

    pthread_mutex_lock(&banks->lock);
    there = find(banks, name);
    if (!there)
        outcome = SRV_BANKS_ABSENT;
    else if (there->birth.origin == SRV_BANK_CONFIGURED)
        outcome = SRV_BANKS_UNTOUCHED;
    else
        take_out(banks, there, old);
    pthread_mutex_unlock(&banks->lock);
    return outcome;
}

void srv_banks_hide(struct srv_banks *banks, const struct srv_banks_entry *entry)
{
    pthread_mutex_lock(&banks->lock);
    if (banks->n < MOST) {
        banks->entries[banks->n] = *entry;
        banks->entries[banks->n].hidden = true;
        els_bank_ref(entry->bank);
        banks->n++;
    }
    pthread_mutex_unlock(&banks->lock);
}

void srv_banks_settle(struct srv_banks *banks)
{
    struct srv_banks_entry old;
    bool found = true;

    while (found) {
        found = false;
        pthread_mutex_lock(&banks->lock);
        for (size_t i = 0; i < banks->n && !found; i++) {
            found = banks->entries[i].hidden;
            if (found)
                take_out(banks, &banks->entries[i], &old);
        }
        pthread_mutex_unlock(&banks->lock);
        if (found)
            els_bank_unref(old.bank);
    }
}

/* ---- looking ---- */

bool srv_banks_look(struct srv_banks *banks, const char *name, struct srv_banks_entry *out)
{
    const struct srv_banks_entry *entry;

    pthread_mutex_lock(&banks->lock);
    entry = find(banks, name);
    if (entry) {
        *out = *entry;
        els_bank_ref(out->bank);
    }
    pthread_mutex_unlock(&banks->lock);
    return entry != NULL;
}

struct els_bank *srv_banks_get(struct srv_banks *banks, const char *name)
{
    struct srv_banks_entry entry;

    return srv_banks_look(banks, name, &entry) ? entry.bank : NULL;
}

struct els_bank *srv_banks_get_exact(struct srv_banks *banks, const char *name, const char *sha256)
{
    struct els_bank *bank = NULL;

    pthread_mutex_lock(&banks->lock);
    for (size_t i = 0; i < banks->n && !bank; i++)
        if (strcmp(banks->entries[i].birth.name, name) == 0 && has_digest(&banks->entries[i], sha256))
            bank = els_bank_ref(banks->entries[i].bank);
    pthread_mutex_unlock(&banks->lock);
    return bank ? bank : srv_banks_get(banks, name);
}

bool srv_banks_offers(struct srv_banks *banks, uint64_t id)
{
    bool found = false;

    pthread_mutex_lock(&banks->lock);
    for (size_t i = 0; i < banks->n && !found; i++)
        found = banks->entries[i].id == id && !banks->entries[i].hidden;
    pthread_mutex_unlock(&banks->lock);
    return found;
}

static bool at(struct srv_banks *banks, size_t i, struct srv_banks_entry *out)
{
    bool found = false;

    pthread_mutex_lock(&banks->lock);
    for (size_t k = 0; k < banks->n && !found; k++) {
        if (banks->entries[k].hidden)
            continue;
        found = i-- == 0;
        if (found) {
            *out = banks->entries[k];
            els_bank_ref(out->bank);
        }
    }
    pthread_mutex_unlock(&banks->lock);
    return found;
}

struct els_bank *srv_banks_at(struct srv_banks *banks, size_t i, char name[64])
{
    struct srv_banks_entry entry;

    if (!at(banks, i, &entry))
        return NULL;
    memcpy(name, entry.birth.name, SRV_BANK_NAME);
    return entry.bank;
}

json_t *srv_banks_list(struct srv_banks *banks)
{
    json_t *list = json_array();
    struct srv_banks_entry entry;

    for (size_t i = 0; at(banks, i, &entry); i++) {
        els_json_append(&list, srv_banks_describe(&entry));
        els_bank_unref(entry.bank);
    }
    return list;
}

const char *srv_banks_names(struct srv_banks *banks, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    pthread_mutex_lock(&banks->lock);
    for (size_t i = 0; i < banks->n && used < size; i++)
        if (!banks->entries[i].hidden)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", banks->entries[i].birth.name);
    pthread_mutex_unlock(&banks->lock);
    return out;
}
