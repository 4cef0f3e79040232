/*
 * Counts by name. An entry exists while its count is above zero, so the table is never larger than
 * what is held: clients cannot make it grow by changing their names.
 *
 * A small hash table of short chains; names come from clients, but the longest chain is bounded by
 * the jobs that the queue holds.
 */
#include "server/base/quota.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/error.h"
#include "els/mem.h"

enum { BUCKETS = 256 };

struct holder {
    struct holder *next;
    int64_t held;
    char name[SRV_QUOTA_NAME];
};

struct srv_quota {
    pthread_mutex_t lock;
    int64_t most;
    struct holder *bucket[BUCKETS];
};

int srv_quota_new(struct srv_quota **out, int64_t most)
{
    struct srv_quota *quota = els_alloc_array(1, sizeof(*quota));

    if (!quota)
        return ELS_ENOMEM;
    pthread_mutex_init(&quota->lock, NULL);
    quota->most = most;
    *out = quota;
    return 0;
}

struct srv_quota *srv_quota_free(struct srv_quota *quota)
{
    struct holder *holder;

    if (!quota)
        return NULL;
    for (size_t i = 0; i < BUCKETS; i++)
        while ((holder = quota->bucket[i])) {
            quota->bucket[i] = holder->next;
            free(holder);
        }
    pthread_mutex_destroy(&quota->lock);
    free(quota);
    return NULL;
}

/* The link to the name's entry, or to the end of its chain. */
static struct holder **find(struct srv_quota *quota, const char *name)
{
    struct holder **link;
    unsigned hash = 5381;

    for (const char *c = name; *c; c++)
        hash = hash * 33 + (unsigned char)*c;
    link = &quota->bucket[hash % BUCKETS];
    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    return link;
}

static int take(struct srv_quota *quota, const char *name, int64_t most)
{
    struct holder **link;
    int status = 0;

    if (!*name)
        return 0;
    pthread_mutex_lock(&quota->lock);
    link = find(quota, name);
    if (!*link) {
        *link = els_alloc_array(1, sizeof(**link));
        if (*link)
            snprintf((*link)->name, sizeof((*link)->name), "%s", name);
    }
    if (!*link)
        status = ELS_ENOMEM;
    else if (most > 0 && (*link)->held >= most)
        status = ELS_ELIMIT;
    else
        (*link)->held++;
    pthread_mutex_unlock(&quota->lock);
    return status;
}

int srv_quota_take(struct srv_quota *quota, const char *name)
{
    return take(quota, name, quota->most);
}

int srv_quota_take_any(struct srv_quota *quota, const char *name)
{
    return take(quota, name, 0);
}

void srv_quota_give(struct srv_quota *quota, const char *name)
{
    struct holder **link, *gone = NULL;

    if (!*name)
        return;
    pthread_mutex_lock(&quota->lock);
    link = find(quota, name);
    if (*link && --(*link)->held == 0) {
        gone = *link;
        *link = gone->next;
    }
    pthread_mutex_unlock(&quota->lock);
    free(gone);
}

int64_t srv_quota_held(struct srv_quota *quota, const char *name)
{
    int64_t held;

    pthread_mutex_lock(&quota->lock);
    held = *find(quota, name) ? (*find(quota, name))->held : 0;
    pthread_mutex_unlock(&quota->lock);
    return held;
}
