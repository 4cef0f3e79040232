/*
 * lanes: the threads that run handlers, so that no HTTP thread ever computes or waits. There are two
 * lanes with threads of their own: cheap requests never wait behind costly ones. Within a lane those
 * who ask (API keys, or addresses) take turns, and none of them holds all threads.
 *
 *     struct srv_lanes *lanes = NULL;
 *     srv_lanes_new(&lanes, 4, work);
 *     turn->lane = SRV_LANE_QUICK;
 *     turn->payer = turn->address = "192.0.2.7";
 *     srv_lanes_push(lanes, turn);           // any thread; work(turn) runs soon, on one of ours
 *     lanes = srv_lanes_free(lanes);         // finishes what is queued, joins
 *
 * Who waits brings the turn along, so queueing needs no memory.
 */
#ifndef SRV_LANES_H
#define SRV_LANES_H

#include <stdint.h>

enum srv_lane {
    SRV_LANE_QUICK,  /* looks something up */
    SRV_LANE_COSTLY, /* draws, encodes or parses */
    SRV_LANE_COUNT,
};

enum { SRV_LANE_NAME = 64 };

struct srv_turn {
    enum srv_lane lane;
    const char *payer;   /* whose turn it is: the API key's name, or else the address */
    const char *address; /* both stay until it is over; shorter than SRV_LANE_NAME */
    struct srv_turn *next;
    uint64_t tag;
};

struct srv_lanes;

/* So many threads in each lane. The work may free the turn. */
int srv_lanes_new(struct srv_lanes **out, int threads, void (*work)(struct srv_turn *turn));
void srv_lanes_push(struct srv_lanes *lanes, struct srv_turn *turn);
/* Nothing may be pushed any more except by the work itself. NULL is fine. Returns NULL. */
struct srv_lanes *srv_lanes_free(struct srv_lanes *lanes);

#endif
