/*
 * link: the sockets under the requests, their deadlines, and who has hung up.
 *
 * libmicrohttpd times out idle connections only: a client that sends one byte now and then stays
 * for ever, a suspended connection neither times out nor notices that the client is gone, and an
 * end that comes together with the last bytes is overlooked (it epolls for edges, and reads until
 * a read is short). So every socket is entered here, with at most one deadline, and one thread
 * watches them. It sleeps until the next deadline or a hang-up; a thousand idle streams cost it
 * nothing in between.
 *
 * It also gives out the places: so many connections in all, so many of one address. Beyond that a
 * connection is still accepted, on one of a few reserved places, so that whoever watches the daemon
 * gets an answer when others hold all they may: there only health and metrics are served, and who says
 * nothing for a moment is closed, at once when somebody else wants the place.
 */
#ifndef SRV_SOCKET_MONITOR_H
#define SRV_SOCKET_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/http/wire.h"

enum { SRV_SOCKET_MOST_RESERVED = 32 };

struct srv_socket_monitor;
struct srv_socket;
struct srv_request;
struct srv_waker;

enum srv_socket_state {
    SRV_SOCKET_WAITING,   /* for a request: at its deadline, or once its client is done, it is closed */
    SRV_SOCKET_RECEIVING, /* one: at its deadline 408; closed when its client is done before its end */
    SRV_SOCKET_BUSY,      /* the daemon works: no deadline */
    SRV_SOCKET_PARKED,    /* at its deadline the waker expires; hang-ups are watched for */
    SRV_SOCKET_STREAMING, /* likewise */
    SRV_SOCKET_SENDING,   /* closed once its client has read below the floor for too long */
    SRV_SOCKET_LINGERING, /* refused: at its deadline the socket is closed */
};

struct srv_socket_limits {
    int64_t connections; /* in all, beside the reserved ones */
    int64_t per_address; /* 0: no limit of its own */
    int reserved;        /* 0 to SRV_SOCKET_MOST_RESERVED */
    int64_t upload_ms;   /* in which a request must arrive once its first line is there */
};

int srv_socket_monitor_new(struct srv_socket_monitor **out, const struct srv_socket_limits *limits);
/*
 * How fast clients must read: one that is given more than it takes, and falls `grace_ms` behind
 * `bytes_per_second`, is closed. Only what waits in the socket counts: no client is slow while the
 * daemon has nothing for it. Before the first link.
 */
void srv_socket_monitor_floor(struct srv_socket_monitor *links, int64_t bytes_per_second, int64_t grace_ms);
/* Every link must be gone. NULL is fine. Returns NULL. */
struct srv_socket_monitor *srv_socket_monitor_free(struct srv_socket_monitor *links);

/* A socket was accepted: from now on it is read through the strict reader. NULL when out of memory. */
struct srv_socket *srv_socket_new(struct srv_socket_monitor *links, int fd);
/* Before the socket is closed. NULL is fine. */
void srv_socket_free(struct srv_socket *link);
/* The client's address as text. */
const char *srv_socket_peer(const struct srv_socket *link);
/* Who shares a place: the address, of IPv6 its first 64 bits. */
const char *srv_socket_network(const struct srv_socket *link);
/* A request has begun: it is the link's until it is taken, because libmicrohttpd may drop it without a
 * word. Returns its ordinal on this connection. */
uint64_t srv_socket_begin(struct srv_socket *link, struct srv_request *req);
/* The request that has begun, or NULL: the caller's now. */
struct srv_request *srv_socket_take(struct srv_socket *link);
/* What it reads with. On the connection's HTTP thread only. */
const struct srv_wire *srv_socket_wire(const struct srv_socket *link);

enum srv_socket_place {
    SRV_SOCKET_ORDINARY,
    SRV_SOCKET_RESERVED,       /* all places are taken */
    SRV_SOCKET_RESERVED_SHARE, /* all that the address may have */
};

/* Its place now: a reserved one is exchanged for an ordinary one that has become free. */
enum srv_socket_place srv_socket_place(struct srv_socket *link);

/* A request is over: waits for the next one, whose first line may be here already. */
void srv_socket_wait(struct srv_socket *link, int64_t ms);
/* Enters a state with a deadline in `ms` from now (−1: none; SENDING has deadlines of its own). `waker`
 * (NULL: none) is told of the deadline and of a hang-up; the link takes its own reference. Entering
 * RECEIVING or SENDING again changes nothing of its deadline. False when the link has just been
 * refused (RECEIVING ran out) and the request must be dropped. */
bool srv_socket_enter(struct srv_socket *link, enum srv_socket_state state, int64_t ms,
                    struct srv_waker *waker);
/* Has the client closed its side? */
bool srv_socket_is_half_closed(const struct srv_socket *link);
/* Ends the connection in the middle of an answer. */
void srv_socket_cut(struct srv_socket *link);
/* Writes an answer straight to the socket, ends our side, and lingers for what the client still
 * sends. Only while libmicrohttpd is reading. */
void srv_socket_refuse(struct srv_socket *link, const void *bytes, size_t size);

/* Expires or abandons every waker and closes, at the end, every socket. */
void srv_socket_monitor_expire_all(struct srv_socket_monitor *links);
void srv_socket_monitor_abandon_all(struct srv_socket_monitor *links);
/* Wakes every waker: what sleeps looks again. */
void srv_socket_monitor_wake_all(struct srv_socket_monitor *links);

#endif
