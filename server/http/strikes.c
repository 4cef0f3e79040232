/*
 * A leaky bucket for each address, in a table of fixed size: every wrong key adds to it, and it empties
 * as time passes. Called on the HTTP threads.
 *
 * An address has a set of eight places by its hash; when all are taken, the one that is closest to
 * empty is forgotten. So whoever has very many addresses can make the daemon forget, which is worth
 * less than the addresses, and can never make anybody else wait.
 */
#include "server/http/strikes.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/error.h"
#include "els/mem.h"

enum { WAYS = 8, SETS = SRV_STRIKES_ADDRESSES / WAYS, NAME = 48 };

struct place {
    char address[NAME];
    int64_t empty_at; /* when all its strikes are forgotten */
};

struct srv_strikes {
    pthread_mutex_t lock;
    uint64_t seed;
    struct place places[SETS][WAYS];
};

int srv_strikes_new(struct srv_strikes **out, uint64_t seed)
{
    struct srv_strikes *strikes = els_alloc_array(1, sizeof(*strikes));

    if (!strikes)
        return ELS_ENOMEM;
    pthread_mutex_init(&strikes->lock, NULL);
    strikes->seed = seed;
    *out = strikes;
    return 0;
}

struct srv_strikes *srv_strikes_free(struct srv_strikes *strikes)
{
    if (!strikes)
        return NULL;
    pthread_mutex_destroy(&strikes->lock);
    free(strikes);
    return NULL;
}

/* FNV-1a, begun at the seed, its high bits mixed in. */
static size_t set_of(const struct srv_strikes *strikes, const char *address)
{
    uint64_t hash = strikes->seed ^ 0xcbf29ce484222325u;

    for (; *address; address++)
        hash = (hash ^ (unsigned char)*address) * 0x100000001b3u;
    return (size_t)((hash ^ hash >> 32) % SETS);
}

/* The address's place, or the one that is given to it. */
static struct place *find(struct srv_strikes *strikes, const char *address)
{
    struct place *set = strikes->places[set_of(strikes, address)], *emptiest = set;

    for (int i = 0; i < WAYS; i++) {
        if (strncmp(set[i].address, address, NAME - 1) == 0)
            return &set[i];
        if (set[i].empty_at < emptiest->empty_at)
            emptiest = &set[i];
    }
    emptiest->empty_at = 0;
    snprintf(emptiest->address, sizeof(emptiest->address), "%s", address);
    return emptiest;
}

int srv_strikes_count(struct srv_strikes *strikes, const char *address, int64_t now_ms)
{
    int64_t most = now_ms + (int64_t)SRV_STRIKES_BURST * SRV_STRIKES_EACH_MS, wait;
    struct place *place;

    pthread_mutex_lock(&strikes->lock);
    place = find(strikes, address);
    if (place->empty_at < now_ms)
        place->empty_at = now_ms;
    wait = place->empty_at + SRV_STRIKES_EACH_MS - most;
    if (wait <= 0)
        place->empty_at += SRV_STRIKES_EACH_MS;
    pthread_mutex_unlock(&strikes->lock);
    return wait <= 0 ? 0 : (int)((wait + 999) / 1000);
}
