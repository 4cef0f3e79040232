/*
 * http: requests and responses as the handlers see them; libmicrohttpd stays behind http.c.
 *
 *     static void get_bank(struct srv_request *req, struct srv_response *res)
 *     {
 *         const char *name = srv_request_arg(req, 0);
 *         …
 *         if (!bank) {
 *             srv_problem(res, 404, "bank_not_found", "There is no bank named \"%s\".", name);
 *             return;
 *         }
 *         srv_response_json(res, 200, json);          // takes the reference
 *     }
 *
 *     static const struct srv_route routes[] = {
 *         {"GET", "/v1/banks/{name}", get_bank},
 *         {0},
 *     };
 *
 * Which thread: libmicrohttpd's threads parse, check the framing, collect the bounded body and send.
 * They never compute and never block: every handler runs on a thread of its lane (lanes.h) while the
 * connection is suspended, except routes marked SRV_ROUTE_INLINE (health, metrics), which must only
 * read memory and run at once.
 *
 * A handler that has to wait (a job to finish) parks: see srv_response_park. A handler whose answer
 * is a stream hands over a source: see srv_response_stream. A large answer of known size is read
 * while it is sent: see srv_response_pieces. None of them occupies a thread meanwhile.
 */
#ifndef SRV_HTTP_H
#define SRV_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct els_error;
struct srv_daemon;
struct srv_payer;
struct srv_refusal;
struct srv_request;
struct srv_response;

/* ---- waking: how a job tells a parked request or a stream that there is news ---- */

/*
 * Reference-counted; any thread may wake it, at any time, also after the request is gone. Waking is
 * cheap and never blocks; several wakes before the sleeper looks count as one.
 */
struct srv_waker;
struct srv_waker *srv_waker_ref(struct srv_waker *w);
/* NULL is fine. Returns NULL. */
struct srv_waker *srv_waker_unref(struct srv_waker *w);
void srv_waker_wake(struct srv_waker *w);

/* ---- request: valid until the handler returns (and again in a re-run after parking) ---- */

struct srv_daemon *srv_request_daemon(const struct srv_request *req);
const char *srv_request_method(const struct srv_request *req);
/* The path as routed, without the query, for example "/v1/jobs/ab12/events". */
const char *srv_request_path(const struct srv_request *req);
/* The i-th {…} of the route, percent-decoded. */
const char *srv_request_arg(const struct srv_request *req, size_t i);
/* A header (any case), or NULL. */
const char *srv_request_header(const struct srv_request *req, const char *name);
/* A query argument, percent-decoded, or NULL. */
const char *srv_request_query(const struct srv_request *req, const char *name);
/* An integer query argument: true, and *out is it (or `otherwise` when absent); false, and a 422 is
 * in `res`, when it is not a whole number in [min,max]. */
bool srv_request_query_int(const struct srv_request *req, struct srv_response *res,
                           const char *name, int64_t min, int64_t max, int64_t otherwise,
                           int64_t *out);
/* The whole body; size 0 when there was none. */
const void *srv_request_body(const struct srv_request *req, size_t *size);
/* Media type of the body, lower case, without parameters; "application/json" when no header was
 * sent. */
const char *srv_request_content_type(const struct srv_request *req);
/* The body as a JSON object (an empty body is {}). A new reference, or NULL and the problem is in
 * `res`: 400 not JSON, duplicate keys, deeper than 64 levels, a number that overflows; 413 larger
 * than json_body.h allows; 413, 429 or 503 its memory cannot be charged; 415; 422 not an object. The
 * charge is given back when the handler has run, so the tree must not outlive that. */
json_t *srv_request_json(struct srv_request *req, struct srv_response *res);
/* The same for a text that came inside the body, and is named `where` in what is answered. */
json_t *srv_request_json_text(struct srv_request *req, struct srv_response *res, const char *text, size_t size,
                              const char *where);
/* Charges memory for what a handler parses by itself, until it has run. False: the answer is in `res`. */
bool srv_request_charge_json(struct srv_request *req, struct srv_response *res, size_t bytes);
/* The best of `offers` (NULL-terminated media types, the server's favourite first) for the Accept
 * header, by RFC 9110 (q-values, wildcards); NULL and a 406 in `res` when none is acceptable. */
const char *srv_request_accepts(const struct srv_request *req, struct srv_response *res,
                                const char *const *offers);
/* Seconds of `Prefer: wait=N`, or −1. */
int srv_request_prefer_wait(const struct srv_request *req);
/* Unique per request; in every log line and problem. */
const char *srv_request_id(const struct srv_request *req);
/* Name of the API key that the client showed; "" without keys. */
const char *srv_request_key(const struct srv_request *req);
/* The client's address as text, without the port. */
const char *srv_request_peer(const struct srv_request *req);
/* Who pays for what it causes, borrowed; NULL where nobody keeps accounts. */
struct srv_payer *srv_request_payer(const struct srv_request *req);

/* ---- response: exactly one of these ends a handler ---- */

/* Takes the reference to `body` (on failure too). */
void srv_response_json(struct srv_response *res, int status, json_t *body);
/* Takes `bytes` (from malloc; freed when sent). `content_type` is copied. */
void srv_response_bytes(struct srv_response *res, int status, const char *content_type, void *bytes,
                        size_t size);
/* Borrowed bytes that live as long as the process. */
void srv_response_static(struct srv_response *res, int status, const char *content_type,
                         const void *bytes, size_t size);
/*
 * Charges the memory that making and holding this answer takes (class answers) to the client, before
 * it is allocated: `bytes` is the new total. False: the refusal is in `res`; nothing may be allocated.
 * A smaller total is never refused. What was charged is given back when the answer has been sent.
 * Whoever hands over bytes or JSON without having asked is charged then.
 */
bool srv_response_charge(struct srv_response *res, size_t bytes);

/*
 * An answer of known size that is read while it is sent: a slow reader holds one piece of it.
 *
 *     static int read_part(struct srv_source *s, uint64_t offset, void *out, size_t size, struct els_error *err);
 *     …
 *     status = srv_response_pieces(res, 200, "application/octet-stream", size,
 *                                  &(struct srv_source){.read = read_part, .free = free_part, .user = part}, &err);
 *     if (status < 0)
 *         …                              // nothing has been sent yet: a problem can be answered
 *
 * `read` gives the bytes [offset, offset + size) of the body. It runs on a handler thread, like
 * handlers do, while the connection is suspended; two calls for one answer never overlap. When it
 * fails after the first piece, the connection is closed short of its Content-Length, and the log
 * says why. `free` is called exactly once, also when srv_response_pieces fails.
 */
struct srv_source {
    int (*read)(struct srv_source *source, uint64_t offset, void *out, size_t size, struct els_error *err);
    void (*free)(void *user);
    void *user;
    size_t held; /* memory that the source itself takes; `read` may lower it */
};
/* 0: answered, be it with the refusal of a charge. Else the status of reading the first piece. */
int srv_response_pieces(struct srv_response *res, int status, const char *content_type, uint64_t size,
                        const struct srv_source *source, struct els_error *err);

/* Adds a header; both copied. */
void srv_response_header(struct srv_response *res, const char *name, const char *value);
/* Tags an answer that is always the same: sets ETag, and turns the answer into a 304 when
 * If-None-Match names the tag. Call before the body is made: true means "answered, return now". */
bool srv_response_etag(struct srv_request *req, struct srv_response *res, const char *tag);

/*
 * RFC 9457 problem+json: type, title, status, detail, instance, code, request_id. `code` is a
 * stable snake_case word; the text is one sentence for a person.
 */
void srv_problem(struct srv_response *res, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Adds to `errors` of the problem begun before: a JSON pointer ("/scales/3", "" for the whole) and
 * a sentence. */
void srv_problem_error(struct srv_response *res, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The answer to a charge that was refused, with Retry-After where trying again can help. */
void srv_problem_refused(struct srv_response *res, const struct srv_refusal *why);
/* The usual 422: detail and one error with the pointer. */
void srv_problem_invalid(struct srv_response *res, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Parks: the handler will be run again, with the same request, when the waker is woken or
 * `timeout_ms` has passed (srv_request_timed_out is then true), or the daemon drains. `state` comes
 * back from srv_request_state; free_state is called exactly once when the request ends, also when
 * the client has hung up. To miss nothing: ref the waker, register it where it will be woken, look
 * once more at what you wait for, then park.
 */
struct srv_waker *srv_request_waker(struct srv_request *req);
void srv_response_park(struct srv_request *req, struct srv_response *res, int timeout_ms,
                       void *state, void (*free_state)(void *state));
void *srv_request_state(const struct srv_request *req);
bool srv_request_timed_out(const struct srv_request *req);

/*
 * Streams: `read` is called on an HTTP thread, so it must only copy memory: it writes up to `size`
 * bytes and returns how many, 0 for "nothing now" (it is called again once the request's waker is
 * woken, or with ping = true when 15 s have passed in silence), or −1 for the end. `free` is called
 * exactly once.
 */
struct srv_stream {
    ssize_t (*read)(void *user, char *out, size_t size, bool ping);
    void (*free)(void *user);
    void *user;
};
void srv_response_stream(struct srv_response *res, const char *content_type,
                         const struct srv_stream *stream);

/* ---- routes ---- */

enum {
    SRV_ROUTE_INLINE = 1, /* runs on the HTTP thread: only reads memory, never waits */
    SRV_ROUTE_OPEN = 2,   /* needs no API key */
    SRV_ROUTE_COSTLY = 4, /* draws, encodes or parses: runs in the lane for that */
    SRV_ROUTE_ZOOMS = 8,  /* is costly when the query has a zoom */
};

struct srv_route {
    const char *method;
    const char *pattern; /* "/v1/jobs/{id}/images/{i}"; a {…} matches one non-empty segment */
    void (*handle)(struct srv_request *req, struct srv_response *res);
    unsigned flags;
};

/* ---- the server ---- */

struct srv_http;

/* Binds and serves the tables (NULL-terminated; each ends with an all-zero route). A GET route
 * answers HEAD too; an unknown path is 404; a known path with another method 405 + Allow; OPTIONS
 * is answered here. */
int srv_http_start(struct srv_http **out, struct srv_daemon *daemon,
                   const struct srv_route *const *tables);
/* The port that was bound (for port 0). */
int srv_http_port(const struct srv_http *http);
/* API keys may have been removed: what waits or streams for one that was ends. */
void srv_http_keys_changed(struct srv_http *http);
/* Stops accepting, wakes everything parked, lets answers under way finish for up to `grace_ms`,
 * frees. Returns NULL. */
struct srv_http *srv_http_stop(struct srv_http *http, int grace_ms);

#endif
