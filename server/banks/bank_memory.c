/*
 * The banks in memory: a list of what was opened and has not been freed yet. The loader's thread and the main thread
 * open; whoever drops a bank's last reference (a worker, a handler) comes through at_end().
 *
 * Lock: guards the list. The accounts' lock and nothing else is taken under it; a bank must not be let go under it.
 */
#include "server/banks/bank_memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "els/mem.h"

struct held {
    struct held *next, *prev;
    struct srv_bank_memory *memory;
    uint64_t id;
    struct srv_bank_birth birth;
    struct srv_charge charge;
    char sha256[65];
};

struct srv_bank_memory {
    pthread_mutex_t lock;
    struct held *first, *last;
    uint64_t next_id;
    void (*freed)(void *user, const struct srv_bank_birth *birth);
    void *user;
};

int srv_bank_memory_new(struct srv_bank_memory **out)
{
    struct srv_bank_memory *memory = els_alloc_array(1, sizeof(*memory));

    if (!memory)
        return ELS_ENOMEM;
    pthread_mutex_init(&memory->lock, NULL);
    memory->next_id = 1;
    *out = memory;
    return 0;
}

struct srv_bank_memory *srv_bank_memory_free(struct srv_bank_memory *memory)
{
    if (!memory)
        return NULL;
    pthread_mutex_destroy(&memory->lock);
    free(memory);
    return NULL;
}

void srv_bank_memory_watch(struct srv_bank_memory *memory,
                           void (*freed)(void *user, const struct srv_bank_birth *birth), void *user)
{
    pthread_mutex_lock(&memory->lock);
    memory->freed = freed;
    memory->user = user;
    pthread_mutex_unlock(&memory->lock);
}

/* ---- one bank's way in and out ---- */

static void add(struct held *held)
{
    struct srv_bank_memory *memory = held->memory;

    pthread_mutex_lock(&memory->lock);
    held->id = memory->next_id++;
    held->prev = memory->last;
    if (memory->last)
        memory->last->next = held;
    else
        memory->first = held;
    memory->last = held;
    pthread_mutex_unlock(&memory->lock);
}

/* The bank's memory is free. */
static void at_end(void *user)
{
    struct held *held = user;
    struct srv_bank_memory *memory = held->memory;
    void (*freed)(void *user, const struct srv_bank_birth *birth);

    pthread_mutex_lock(&memory->lock);
    *(held->prev ? &held->prev->next : &memory->first) = held->next;
    *(held->next ? &held->next->prev : &memory->last) = held->prev;
    freed = memory->freed;
    user = memory->user;
    pthread_mutex_unlock(&memory->lock);
    srv_charge_give(&held->charge);
    if (freed)
        freed(user, &held->birth);
    free(held);
}

struct opening {
    const struct srv_bank_demand *demand;
    struct held *held;
    struct srv_refusal *why;
};

static int need(void *user, uint64_t bytes, struct els_error *err)
{
    struct opening *o = user;
    struct srv_charge *charge = &o->held->charge;
    int64_t wanted = bytes < INT64_MAX / 2 ? (int64_t)bytes : INT64_MAX / 2;
    int r = 0;

    if (!charge->payer)
        r = srv_charge_take(charge, o->demand->payer, SRV_CHARGE_BANKS, wanted, o->why);
    else if (charge->bytes < wanted)
        r = srv_charge_resize(charge, wanted, o->why);
    return r < 0 ? els_fail(err, ELS_ELIMIT, "memory_limit", "%s", o->why->detail) : 0;
}

static int stop(void *user)
{
    const struct srv_bank_demand *demand = ((struct opening *)user)->demand;

    return demand->stop && demand->stop(demand->user);
}

int srv_bank_memory_open(struct srv_bank_memory *memory, const struct srv_bank_demand *demand, struct els_bank **out,
                         uint64_t *id, struct srv_refusal *why, struct els_error *err)
{
    struct held *held = els_alloc_array(1, sizeof(*held));
    struct opening o = {demand, held, why};
    const struct els_bank_opening how = {need, stop, &o};
    int r;

    *why = (struct srv_refusal){0};
    if (!held) {
        if (demand->charge)
            srv_charge_give(demand->charge);
        return els_fail(err, ELS_ENOMEM, NULL, "out of memory");
    }
    if (demand->charge)
        srv_charge_move(&held->charge, demand->charge);
    r = demand->fd >= 0 ? els_bank_read(out, demand->fd, demand->path, &how, err)
                        : els_bank_open_with(out, demand->path, &how, err);
    if (r < 0) {
        srv_charge_give(&held->charge);
        free(held);
        return r;
    }
    /* Less than what opening it needed. */
    (void)!srv_charge_resize(&held->charge, (int64_t)(els_bank_memory(*out) + sizeof(*held)), NULL);
    held->memory = memory;
    held->birth = *demand->birth;
    held->birth.file.fd = -1;
    memcpy(held->sha256, els_bank_info(*out)->sha256, sizeof(held->sha256));
    add(held);
    *id = held->id;
    els_bank_at_end(*out, at_end, held);
    return 0;
}

void srv_bank_memory_walk(struct srv_bank_memory *memory, void (*each)(void *user, const struct srv_bank_held *held),
                          void *user)
{
    pthread_mutex_lock(&memory->lock);
    for (const struct held *held = memory->first; held; held = held->next)
        each(user, &(struct srv_bank_held){held->id, &held->birth, held->sha256, held->charge.bytes});
    pthread_mutex_unlock(&memory->lock);
}
