/*
 * Lanes: each is a list of turns and its threads. Any thread pushes; `work` runs on ours. One lock
 * per lane guards its list and is never held while work runs. Every handler is short (those that
 * wait, park), so a few threads are enough.
 *
 * The order within a lane is self-clocked fair queueing with a cost of one: a turn's tag is one more
 * than the tag of its payer's last turn in the lane, or than that of the turn that began last. The
 * lowest tag goes first. So a payer with a thousand turns waiting and a payer with one alternate.
 * A payer, and an address, runs on all threads but one at most; the last is for whoever else comes.
 *
 * The lists are walked, and are as long as there are connections at most.
 */
#include "server/http/lanes.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "els/error.h"
#include "els/mem.h"

/* A thread, and for whom it runs: copies, because the turn may go before the work ends. */
struct runner {
    struct lane *lane;
    pthread_t thread;
    bool runs;
    uint64_t tag;
    char payer[SRV_LANE_NAME], address[SRV_LANE_NAME];
};

struct lane {
    struct srv_lanes *lanes;
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct srv_turn *first;
    struct runner *runners;
    int num_threads;
    uint64_t now; /* the tag of the turn that began last */
    bool closing;
};

struct srv_lanes {
    void (*work)(struct srv_turn *turn);
    int threads;
    struct lane lane[SRV_LANE_COUNT];
    struct runner runners[];
};

/* May it run beside those that do? */
static bool may_run(const struct lane *lane, const struct srv_turn *turn)
{
    int payers = 0, addresses = 0, most = lane->num_threads > 1 ? lane->num_threads - 1 : 1;

    for (int i = 0; i < lane->num_threads; i++) {
        const struct runner *runner = &lane->runners[i];

        payers += runner->runs && strcmp(runner->payer, turn->payer) == 0;
        addresses += runner->runs && strcmp(runner->address, turn->address) == 0;
    }
    return payers < most && addresses < most;
}

/* Takes the turn with the lowest tag of those that may run, the oldest of them, off the list. */
static struct srv_turn *choose(struct lane *lane)
{
    struct srv_turn **best = NULL, *turn;

    for (struct srv_turn **link = &lane->first; *link; link = &(*link)->next)
        if ((!best || (*link)->tag < (*best)->tag) && may_run(lane, *link))
            best = link;
    if (!best)
        return NULL;
    turn = *best;
    *best = turn->next;
    turn->next = NULL;
    lane->now = turn->tag;
    return turn;
}

static struct srv_turn *take(struct lane *lane, struct runner *runner)
{
    struct srv_turn *turn;

    pthread_mutex_lock(&lane->lock);
    runner->runs = false;
    if (lane->first)
        pthread_cond_broadcast(&lane->news); /* somebody else may run now */
    while (!(turn = choose(lane)) && !(lane->closing && !lane->first))
        pthread_cond_wait(&lane->news, &lane->lock);
    if (turn) {
        runner->runs = true;
        runner->tag = turn->tag;
        snprintf(runner->payer, sizeof(runner->payer), "%s", turn->payer);
        snprintf(runner->address, sizeof(runner->address), "%s", turn->address);
    }
    pthread_mutex_unlock(&lane->lock);
    return turn;
}

static void *run(void *arg)
{
    struct runner *runner = arg;
    struct srv_turn *turn;

    while ((turn = take(runner->lane, runner)))
        runner->lane->lanes->work(turn);
    return NULL;
}

static int start_lane(struct srv_lanes *lanes, struct lane *lane, struct runner *runners)
{
    lane->runners = runners;
    for (int i = 0; i < lanes->threads; i++) {
        runners[i].lane = lane;
        if (pthread_create(&runners[i].thread, NULL, run, &runners[i]) != 0)
            return ELS_ENOMEM;
        pthread_mutex_lock(&lane->lock);
        lane->num_threads++;
        pthread_mutex_unlock(&lane->lock);
    }
    return 0;
}

int srv_lanes_new(struct srv_lanes **out, int threads, void (*work)(struct srv_turn *turn))
{
    struct srv_lanes *lanes = els_alloc_array(1, sizeof(*lanes) + (size_t)threads * SRV_LANE_COUNT *
                                                                      sizeof(*lanes->runners));
    int r = 0;

    if (!lanes)
        return ELS_ENOMEM;
    lanes->work = work;
    lanes->threads = threads;
    for (int i = 0; i < SRV_LANE_COUNT; i++) {
        lanes->lane[i].lanes = lanes;
        pthread_mutex_init(&lanes->lane[i].lock, NULL);
        pthread_cond_init(&lanes->lane[i].news, NULL);
    }
    for (int i = 0; r == 0 && i < SRV_LANE_COUNT; i++)
        r = start_lane(lanes, &lanes->lane[i], lanes->runners + (size_t)i * (size_t)threads);
    if (r < 0)
        srv_lanes_free(lanes);
    else
        *out = lanes;
    return r;
}

void srv_lanes_push(struct srv_lanes *lanes, struct srv_turn *turn)
{
    struct lane *lane = &lanes->lane[turn->lane];
    struct srv_turn **link = &lane->first;

    pthread_mutex_lock(&lane->lock);
    turn->next = NULL;
    turn->tag = lane->now;
    for (int i = 0; i < lane->num_threads; i++)
        if (lane->runners[i].runs && lane->runners[i].tag > turn->tag &&
            strcmp(lane->runners[i].payer, turn->payer) == 0)
            turn->tag = lane->runners[i].tag;
    for (; *link; link = &(*link)->next)
        if ((*link)->tag > turn->tag && strcmp((*link)->payer, turn->payer) == 0)
            turn->tag = (*link)->tag;
    turn->tag++;
    *link = turn;
    pthread_cond_signal(&lane->news);
    pthread_mutex_unlock(&lane->lock);
}

struct srv_lanes *srv_lanes_free(struct srv_lanes *lanes)
{
    if (!lanes)
        return NULL;
    for (int i = 0; i < SRV_LANE_COUNT; i++) {
        struct lane *lane = &lanes->lane[i];

        pthread_mutex_lock(&lane->lock);
        lane->closing = true;
        pthread_cond_broadcast(&lane->news);
        pthread_mutex_unlock(&lane->lock);
    }
    for (int i = 0; i < SRV_LANE_COUNT; i++) {
        struct lane *lane = &lanes->lane[i];

        for (int k = 0; k < lane->num_threads; k++)
            pthread_join(lane->runners[k].thread, NULL);
        pthread_cond_destroy(&lane->news);
        pthread_mutex_destroy(&lane->lock);
    }
    free(lanes);
    return NULL;
}
