/*
 * The table of served banks. Filled by the main thread at startup, replaced by it on SIGHUP; read by
 * any thread, under a lock that is held only while a pointer is looked up and its reference taken.
 */
#include "banks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "mem.h"

enum { NAME_SIZE = 64 };

struct entry {
    char name[NAME_SIZE];
    struct els_bank *bank;
};

struct srv_banks {
    pthread_mutex_t lock;
    struct entry *entries;
    size_t n;
};

/* What is served when nothing is configured. */
static const struct srv_config_bank built_in[] = {
    {(char *)"digits", (char *)"digits"},
    {(char *)"shapes", (char *)"shapes"},
    {(char *)"two-tone", (char *)"two-tone"},
};

static int load(struct entry *entry, const struct srv_config_bank *bank, struct els_error *err)
{
    struct els_error inner = {0};
    int r = els_bank_open(&entry->bank, bank->file, &inner);

    if (r < 0)
        return els_fail(err, r, "banks", "the bank \"%s\" (%.120s) cannot be served: %.240s",
                        bank->name, bank->file,
                        *inner.message ? inner.message : els_status_text(r));
    snprintf(entry->name, sizeof(entry->name), "%s", bank->name);
    return 0;
}

int srv_banks_new(struct srv_banks **out, const struct srv_config *config, struct els_error *err)
{
    const struct srv_config_bank *wanted = config->num_banks ? config->banks : built_in;
    size_t n = config->num_banks ? config->num_banks : sizeof(built_in) / sizeof(*built_in);
    struct srv_banks *banks = els_alloc_array(1, sizeof(*banks));
    int r = 0;

    if (!banks)
        return els_fail(err, ELS_ENOMEM, "banks", "out of memory");
    pthread_mutex_init(&banks->lock, NULL);
    banks->entries = els_alloc_array(n, sizeof(*banks->entries));
    if (!banks->entries)
        r = els_fail(err, ELS_ENOMEM, "banks", "out of memory");
    for (; r == 0 && banks->n < n; banks->n += r == 0)
        r = load(&banks->entries[banks->n], &wanted[banks->n], err);
    if (r < 0)
        srv_banks_free(banks);
    else
        *out = banks;
    return r;
}

static const struct entry *find_same(const struct srv_banks *banks, const struct entry *wanted)
{
    const char *sha256 = els_bank_info(wanted->bank)->sha256;

    for (size_t i = 0; i < banks->n; i++)
        if (strcmp(banks->entries[i].name, wanted->name) == 0 &&
            strcmp(els_bank_info(banks->entries[i].bank)->sha256, sha256) == 0)
            return &banks->entries[i];
    return NULL;
}

void srv_banks_replace(struct srv_banks *banks, struct srv_banks *fresh)
{
    struct entry *old;
    size_t n;

    /* Only the main thread changes tables, so this one cannot change under it. */
    for (size_t i = 0; i < fresh->n; i++) {
        const struct entry *same = find_same(banks, &fresh->entries[i]);

        if (same) {
            els_bank_unref(fresh->entries[i].bank);
            fresh->entries[i].bank = els_bank_ref(same->bank);
        }
    }
    pthread_mutex_lock(&banks->lock);
    old = banks->entries;
    n = banks->n;
    banks->entries = fresh->entries;
    banks->n = fresh->n;
    pthread_mutex_unlock(&banks->lock);
    fresh->entries = old;
    fresh->n = n;
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

struct els_bank *srv_banks_get(struct srv_banks *banks, const char *name)
{
    struct els_bank *bank = NULL;

    pthread_mutex_lock(&banks->lock);
    for (size_t i = 0; i < banks->n && !bank; i++)
        if (!name || strcmp(banks->entries[i].name, name) == 0)
            bank = els_bank_ref(banks->entries[i].bank);
    pthread_mutex_unlock(&banks->lock);
    return bank;
}

struct els_bank *srv_banks_at(struct srv_banks *banks, size_t i, char name[64])
{
    struct els_bank *bank = NULL;

    pthread_mutex_lock(&banks->lock);
    if (i < banks->n) {
        bank = els_bank_ref(banks->entries[i].bank);
        snprintf(name, NAME_SIZE, "%s", banks->entries[i].name);
    }
    pthread_mutex_unlock(&banks->lock);
    return bank;
}

const char *srv_banks_names(struct srv_banks *banks, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    pthread_mutex_lock(&banks->lock);
    for (size_t i = 0; i < banks->n && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "",
                                 banks->entries[i].name);
    pthread_mutex_unlock(&banks->lock);
    return out;
}
