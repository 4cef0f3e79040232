/*
 * connection: the inside of a request, shared by the files that carry it from socket to answer.
 * Handlers see only http.h.
 *
 * A request's phases, guarded by its waker's lock:
 *
 *     RECEIVING ──► WORKING ──► ANSWERED ──► SENDING
 *                    │   ▲          (streams: SENDING, suspended while there is nothing to say)
 *                    ▼   │
 *                   PARKED            GONE: the client hung up, or the daemon is closing
 *
 *     SENDING ◄──► FETCHING: the next piece of an answer in pieces is being read
 *
 * WORKING, PARKED and FETCHING: libmicrohttpd's connection is suspended and the request belongs to
 * its lane. All others: it belongs to the connection's HTTP thread.
 *
 * Lock order: waker, then lane or link table; libmicrohttpd's own locks come last.
 */
#ifndef SRV_CONNECTION_H
#define SRV_CONNECTION_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "els/mem.h"
#include "server/base/account.h"
#include "server/base/daemon.h"
#include "server/config/apikeys.h"
#include "server/config/config.h"
#include "server/http/request_checks.h"
#include "server/http/http.h"
#include "server/http/lanes.h"
#include "server/http/socket_monitor.h"
#include "server/http/router.h"
#include "server/http/strikes.h"

enum {
    SRV_MAX_PATH = 2048,
    SRV_MAX_HEADERS = 16, /* of an answer, beyond the standing ones */
    SRV_REQUEST_ID_SIZE = 24,
    SRV_PING_MS = 15000,
    SRV_CONNECTION_MEMORY = 32 << 10, /* the library's, of a connection: a request's head must fit */
};

struct srv_http {
    struct srv_daemon *daemon;
    struct MHD_Daemon *mhd;
    const struct srv_route *const *tables;
    struct srv_policy policy;
    struct srv_lanes *lanes;
    struct srv_strikes *strikes; /* wrong API keys */
    struct srv_socket_monitor *links;
    int port;
    unsigned connection_limit; /* the library's: the reserved places and some room included */
    unsigned idle_seconds; /* libmicrohttpd's own clock, where socket_monitor.c's is not the only one */
    uint64_t id_base;
    atomic_uint_fast64_t next_id;
    atomic_bool stopping; /* parked requests and streams are to end */
    atomic_bool closing;  /* nothing may be suspended any more */
    pthread_mutex_t lock; /* active */
    pthread_cond_t idle;
    int active; /* requests whose head has arrived and whose answer has not been sent */
};

enum srv_phase {
    SRV_RECEIVING,
    SRV_WORKING,
    SRV_PARKED,
    SRV_ANSWERED,
    SRV_SENDING,
    SRV_FETCHING,
    SRV_GONE,
};

struct srv_waker {
    atomic_int refs;
    pthread_mutex_t lock;
    struct srv_request *req; /* NULL once the request is over */
    bool suspended;          /* libmicrohttpd's connection is */
    bool news;               /* woken since the sleeper last looked */
    bool expired;            /* the time of a parked request is up; a stream is to ping */
};

struct srv_header {
    char *name, *value;
};

struct srv_response {
    struct srv_request *req;
    int status;
    char content_type[96];
    void *bytes; /* owned unless is_static */
    size_t size;
    bool is_static;
    bool must_close;
    struct srv_header headers[SRV_MAX_HEADERS];
    size_t num_headers;
    json_t *problem;          /* the document while it can still grow */
    struct srv_stream stream; /* read is NULL: no stream */
    struct srv_pieces *pieces; /* NULL: none */
    struct srv_charge charge;
    int park_ms;              /* −1: not parked */
};

struct srv_request {
    struct srv_http *http;
    struct MHD_Connection *mhd;
    struct srv_socket *link;
    struct srv_waker *waker;
    uint64_t ordinal;         /* the how manieth of its connection */
    struct srv_turn turn;     /* in its lane */
    enum srv_phase phase;     /* guarded by waker->lock */

    char id[SRV_REQUEST_ID_SIZE];
    int64_t started_ms;
    char *uri;       /* as it came */
    char *path;      /* without the query; into `uri` */
    char *query;     /* after '?', or ""; into `uri` */
    char *arguments; /* decoded query: name NUL value NUL … */
    size_t arguments_size;
    char method[24];
    char content_type[96];
    char *accept; /* every Accept header, joined; NULL: none */
    struct srv_match match;
    struct srv_apikey key; /* that came with it; its name is "" where none is needed */
    struct srv_payer *payer; /* of all that it causes, once its head is there; NULL where nobody keeps accounts */
    struct srv_charge head;  /* for itself */
    struct srv_request_checks checks;
    bool head_seen;
    bool seen_whole; /* its last byte is there, and libmicrohttpd knows that no more is to be read */
    bool refused;    /* answered on the socket already; what still comes is thrown away */
    bool counted;    /* in http->active */
    bool discard;    /* the answer is known already: the body is not kept */
    size_t received; /* bytes of the body, kept or not */
    struct els_buffer body;
    struct srv_charge space; /* for the body, kept as it comes */
    struct srv_charge json; /* for the trees that the handler makes while it runs */

    struct srv_response res;
    void *state; /* of a parked handler */
    void (*free_state)(void *state);
    bool timed_out;
};

/* ---- connection.c: libmicrohttpd's callbacks; `cls` is the srv_http ---- */

void *srv_connection_uri(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result srv_connection_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                      const char *method, const char *version, const char *data,
                                      size_t *size, void **context);
void srv_connection_completed(void *cls, struct MHD_Connection *mhd, void **context,
                              enum MHD_RequestTerminationCode how);
/* Is the API key that it came with still one? */
bool srv_connection_may_stay(struct srv_request *req);
/* NULL is fine. */
void srv_connection_free_request(struct srv_request *req);
/* Runs the handler once, on a thread of its lane. */
void srv_connection_work(struct srv_turn *turn);
/* Queues it for that. With its waker's lock held. */
void srv_connection_queue(struct srv_request *req);

/* ---- request.c ---- */

/* Splits and decodes the URI. ELS_EINVAL: it is malformed; ELS_ENOMEM. */
int srv_request_parse_uri(struct srv_request *req, const char *uri);

/* ---- request_charge.c ---- */

/* It is known who asks: makes the payer and charges what the head takes. `always`: whatever the limits say. False: the
 * refusal is in the answer. */
bool srv_request_charge_head(struct srv_request *req, bool always);
/* A body of so many bytes will come: charges and makes the space for it. False: the refusal is in the answer. */
bool srv_request_expect_body(struct srv_request *req, size_t size);
/* The same for `size` bytes more than there are; the body is no larger than its maximum with them. */
bool srv_request_grow_body(struct srv_request *req, size_t size);

/* ---- response.c ---- */

void srv_response_init(struct srv_response *res, struct srv_request *req);
/* Frees what was not sent. */
void srv_response_deinit(struct srv_response *res);
/* The answer that needs no memory: 500. */
void srv_response_out_of_memory(struct srv_response *res);
/* Begins an answer without a body; what was there before is dropped. */
void srv_response_begin(struct srv_response *res, int status, const char *content_type);
/* Turns a problem into bytes; an answer that was never given becomes a 500. */
void srv_response_finish(struct srv_response *res);
/* Hands the finished answer to libmicrohttpd. False when it would not take it. */
bool srv_response_queue(struct srv_response *res, struct MHD_Connection *mhd);
/* The head and body of a finished answer as bytes for a socket, "Connection: close" included. */
int srv_response_write(const struct srv_response *res, struct els_buffer *out, bool with_body);
const char *srv_status_text(int status);

/* ---- stream.c ---- */

/* libmicrohttpd's reader over res->stream, which it takes over. NULL when out of memory. */
struct MHD_Response *srv_stream_create(struct srv_response *res);

/* ---- pieces.c ---- */

/* libmicrohttpd's reader over res->pieces. NULL when out of memory. */
struct MHD_Response *srv_pieces_create(struct srv_response *res);
/* Reads the next piece, on a handler thread. */
void srv_pieces_fetch(struct srv_request *req);
/* NULL is fine. Returns NULL. */
struct srv_pieces *srv_pieces_free(struct srv_pieces *pieces);

/* ---- waker.c ---- */

struct srv_waker *srv_waker_new(struct srv_request *req);
/* The request is over: later wakes do nothing. */
void srv_waker_detach(struct srv_waker *w);
/* Time is up (a parked request runs again as timed out; a stream pings). */
void srv_waker_expire(struct srv_waker *w);
/* Nobody is there any more: whatever sleeps ends. */
void srv_waker_abandon(struct srv_waker *w);
/* With w->lock held: suspends; false when the daemon is closing. */
bool srv_waker_suspend(struct srv_waker *w);
/* With w->lock held: lets the HTTP thread look again. */
void srv_waker_resume(struct srv_waker *w);

#endif
