/*
 * link: the sockets under the requests, their deadlines, and who has hung up.
 *
 * libmicrohttpd times out idle connections only: a client that sends one byte now and then stays
 * for ever, a suspended connection neither times out nor notices that the client is gone, and an
 * end that comes together with the last bytes is overlooked (it epolls for edges, and reads until
 * a read is short). So every socket is entered here, with at most one deadline, and one thread
 * watches them. It sleeps until the next deadline or a hang-up; a thousand idle streams cost it
 * nothing in between.
 */
#ifndef SRV_LINK_H
#define SRV_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct srv_links;
struct srv_link;
struct srv_waker;

enum srv_link_state {
    SRV_LINK_WAITING,   /* for a request: at its deadline, or once its client is done, it is closed */
    SRV_LINK_RECEIVING, /* one: at its deadline 408; closed when its client is done before its end */
    SRV_LINK_BUSY,      /* the daemon works: no deadline */
    SRV_LINK_PARKED,    /* at its deadline the waker expires; hang-ups are watched for */
    SRV_LINK_STREAMING, /* likewise */
    SRV_LINK_SENDING,   /* at its deadline the socket is closed */
    SRV_LINK_LINGERING, /* refused: at its deadline the socket is closed */
};

int srv_links_new(struct srv_links **out);
/* Every link must be gone. NULL is fine. Returns NULL. */
struct srv_links *srv_links_free(struct srv_links *links);

/* A socket was accepted. NULL when out of memory. */
struct srv_link *srv_link_new(struct srv_links *links, int fd);
/* Before the socket is closed. NULL is fine. */
void srv_link_free(struct srv_link *link);
/* The client's address as text. */
const char *srv_link_peer(const struct srv_link *link);

/* Enters a state with a deadline in `ms` from now (−1: none). `waker` (NULL: none) is told of the
 * deadline and of a hang-up; the link takes its own reference. False when the link has just been
 * refused (RECEIVING ran out) and the request must be dropped. */
bool srv_link_enter(struct srv_link *link, enum srv_link_state state, int64_t ms,
                    struct srv_waker *waker);
/* Has the client closed its side? */
bool srv_link_is_half_closed(const struct srv_link *link);
/* Writes an answer straight to the socket, ends our side, and lingers for what the client still
 * sends. Only while libmicrohttpd is reading. */
void srv_link_refuse(struct srv_link *link, const void *bytes, size_t size);

/* Expires or abandons every waker and closes, at the end, every socket. */
void srv_links_expire_all(struct srv_links *links);
void srv_links_abandon_all(struct srv_links *links);

#endif
