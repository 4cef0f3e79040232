/*
 * backroom: the few threads that run handlers, so that no HTTP thread ever computes or waits.
 *
 *     struct srv_backroom *room = NULL;
 *     srv_backroom_new(&room, 4, srv_connection_work);
 *     srv_backroom_push(room, req);          // any thread; work(req) runs soon
 *     room = srv_backroom_free(room);        // finishes what is queued, joins
 *
 * The queue is a list through the requests themselves: it needs no memory, and is as long as
 * there are connections at most.
 */
#ifndef SRV_BACKROOM_H
#define SRV_BACKROOM_H

struct srv_backroom;
struct srv_request;

int srv_backroom_new(struct srv_backroom **out, int threads, void (*work)(struct srv_request *req));
void srv_backroom_push(struct srv_backroom *room, struct srv_request *req);
/* Nothing may be pushed any more except by the work itself. NULL is fine. Returns NULL. */
struct srv_backroom *srv_backroom_free(struct srv_backroom *room);

#endif
