/*
 * A request's way from its first line to its last byte: libmicrohttpd's callbacks (HTTP threads)
 * and the run of its handler (lanes.c). connection.h has the phases and their lock.
 *
 * libmicrohttpd 0.9.75 takes an answer only before or after a body, never in between, and an answer
 * before a body makes it close with bytes unread, which resets the connection and may take the
 * answer with it. So an answer that is known early waits for the end of the body, which is thrown
 * away; and when the body itself is the trouble (too large, or of untrusted length) the answer is
 * written to the socket and the connection lingers (socket_monitor.c).
 */
#include "server/http/connection.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/metrics.h"

enum {
    MAX_REFUSAL = 16 << 10,
    MAX_ACCEPT = 8 << 10,
};

/* ---- its beginning and end ---- */

void srv_connection_free_request(struct srv_request *req)
{
    if (!req)
        return;
    if (req->free_state)
        req->free_state(req->state);
    srv_response_deinit(&req->res);
    els_buffer_deinit(&req->body);
    srv_charge_give(&req->space);
    srv_charge_give(&req->head);
    srv_payer_unref(req->payer);
    if (req->waker)
        srv_waker_detach(req->waker);
    srv_waker_unref(req->waker);
    free(req->accept);
    free(req->arguments);
    free(req->uri);
    free(req);
}

/* Libmicrohttpd must not have read it past the strict reader. */
static bool is_checked(const struct srv_request *req)
{
    if (req->ordinal <= srv_socket_wire(req->link)->requests)
        return true;
    srv_log(req->http->daemon->log, SRV_ERROR, "unchecked_request", "reason",
            "libmicrohttpd does not read with recv(2) of this program", NULL);
    return false;
}

void *srv_connection_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct srv_http *http = cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct srv_request *req = els_alloc_array(1, sizeof(*req));
    int status;

    if (!req)
        return NULL;
    req->http = http;
    req->mhd = mhd;
    req->link = info ? info->socket_context : NULL;
    req->started_ms = srv_monotonic_ms();
    req->body = ELS_BUFFER_INIT((size_t)http->daemon->config->max_body_bytes);
    snprintf(req->id, sizeof(req->id), "%08x%08x", (unsigned)http->id_base,
             (unsigned)atomic_fetch_add(&http->next_id, 1));
    srv_response_init(&req->res, req);
    req->waker = srv_waker_new(req);
    if (!req->link || !req->waker) {
        srv_connection_free_request(req);
        return NULL;
    }
    srv_connection_free_request(srv_socket_take(req->link));
    req->ordinal = srv_socket_begin(req->link, req);
    if (!is_checked(req)) {
        srv_connection_free_request(srv_socket_take(req->link));
        return NULL;
    }
    status = srv_request_parse_uri(req, uri);
    if (status == ELS_ENOMEM)
        srv_problem(&req->res, 500, "out_of_memory", "Out of memory.");
    else if (status < 0)
        srv_problem(&req->res, 400, "bad_uri",
                    "The request target is longer than %d bytes or not well formed.", SRV_MAX_PATH);
    req->discard = status < 0;
    srv_socket_enter(req->link, SRV_SOCKET_RECEIVING, http->daemon->config->upload_timeout * 1000,
                   req->waker);
    return req;
}

static void count(struct srv_http *http, int by)
{
    pthread_mutex_lock(&http->lock);
    http->active += by;
    if (!http->active)
        pthread_cond_broadcast(&http->idle);
    pthread_mutex_unlock(&http->lock);
}

static void log_request(const struct srv_request *req, bool whole)
{
    char status[32], ms[32];

    srv_log(
        req->http->daemon->log, SRV_INFO, "http_request", "method", req->method, "path", req->path,
        "route", req->match.pattern, "status", srv_log_number(status, req->res.status), "ms",
        srv_log_number(ms, (double)(srv_monotonic_ms() - req->started_ms)), "peer",
        srv_socket_peer(req->link), "key", *req->key.name ? req->key.name : NULL, "request_id", req->id, "outcome", whole ? NULL : "aborted", NULL);
}

void srv_connection_completed(void *cls, struct MHD_Connection *mhd, void **context,
                              enum MHD_RequestTerminationCode how)
{
    struct srv_request *req = *context;
    struct srv_http *http = cls;
    struct srv_socket *link;
    bool counted;

    if (!req)
        return;
    *context = NULL;
    link = req->link;
    counted = req->counted;
    if (req->head_seen) {
        log_request(req, how == MHD_REQUEST_TERMINATED_COMPLETED_OK || req->refused);
        srv_metrics_request(http->daemon->metrics, req->match.pattern, req->res.status);
    }
    MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, http->idle_seconds);
    srv_socket_wait(link, http->daemon->config->upload_timeout * 1000);
    srv_connection_free_request(req);
    if (counted)
        count(http, -1);
}

/* ---- its head ---- */

/* Writes the answer in req->res to the socket at once; what the client still sends is thrown away.
 */
static void refuse(struct srv_request *req)
{
    _cleanup_(els_buffer_deinit) struct els_buffer bytes = ELS_BUFFER_INIT(MAX_REFUSAL);

    req->refused = true;
    req->discard = true;
    req->res.must_close = true;
    srv_response_finish(&req->res);
    (void)!srv_response_write(&req->res, &bytes, strcmp(req->method, "HEAD") != 0);
    srv_socket_refuse(req->link, bytes.data, bytes.size);
}

/* What the strict reader found. False when it found nothing. */
static bool refuse_malformed(struct srv_request *req)
{
    const struct srv_verdict *why = srv_wire_refusal(srv_socket_wire(req->link), req->ordinal);

    if (!why)
        return false;
    srv_problem(&req->res, why->status, why->code, "%s", why->detail);
    refuse(req);
    return true;
}

static enum MHD_Result visit_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    struct srv_request *req = cls;

    srv_request_check_field(&req->checks, name ? name : "", value ? value : "");
    return MHD_YES;
}

/* Every Accept header of a request. */
struct joined {
    struct els_buffer text;
    int status;
};

static enum MHD_Result visit_accept(void *cls, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    struct joined *joined = cls;
    struct els_buffer *text = &joined->text;

    if (name && value && strcasecmp(name, "Accept") == 0)
        joined->status = els_buffer_printf(text, "%s%s", text->size ? ", " : "", value);
    return joined->status < 0 ? MHD_NO : MHD_YES;
}

/* ELS_ENOMEM: the Accept header was there and could not be kept. */
static int read_types(struct srv_request *req)
{
    struct joined accept = {.text = ELS_BUFFER_INIT(MAX_ACCEPT)};
    const char *type = srv_request_header(req, "Content-Type");
    size_t n;

    if (!type || !*type)
        type = "application/json";
    n = strcspn(type, "; \t");
    if (n >= sizeof(req->content_type))
        n = sizeof(req->content_type) - 1;
    for (size_t i = 0; i < n; i++)
        req->content_type[i] = (char)tolower((unsigned char)type[i]);
    MHD_get_connection_values(req->mhd, MHD_HEADER_KIND, visit_accept, &accept);
    if (accept.status != ELS_ENOMEM && accept.text.size)
        accept.status = els_buffer_append(&accept.text, "", 1);
    if (accept.status == 0 && accept.text.size)
        req->accept = (char *)accept.text.data;
    else
        els_buffer_deinit(&accept.text);
    return accept.status == ELS_ENOMEM ? ELS_ENOMEM : 0;
}

static void answer_options(struct srv_request *req)
{
    struct srv_response *res = &req->res;

    srv_response_header(res, "Allow", req->match.allowed);
    if (srv_request_is_cors(&req->http->policy, req->checks.origin)) {
        srv_response_header(res, "Access-Control-Allow-Methods", req->match.allowed);
        srv_response_header(res, "Access-Control-Allow-Headers",
                            "Accept, Authorization, Content-Type, Idempotency-Key, Last-Event-ID, "
                            "Prefer");
        srv_response_header(res, "Access-Control-Max-Age", "600");
    }
    srv_response_static(res, 204, "", NULL, 0);
}

static bool is_reading(const struct srv_request *req)
{
    return strcmp(req->method, "POST") != 0 && strcmp(req->method, "PUT") != 0;
}

/* The token of "Authorization: Bearer TOKEN", or NULL. */
static const char *bearer_token(const struct srv_request *req)
{
    static const char scheme[] = "Bearer";
    const char *value = srv_request_header(req, "Authorization");
    const size_t n = sizeof(scheme) - 1;

    if (!value || strncasecmp(value, scheme, n) != 0 || value[n] != ' ')
        return NULL;
    return value + n + strspn(value + n, " ");
}

/* A wrong key has come. True, and a 429 is in the answer, when too many have from that address. */
static bool is_struck(struct srv_request *req)
{
    const char *address = srv_socket_network(req->link);
    int seconds = srv_strikes_count(req->http->strikes, address, srv_monotonic_ms());
    char text[16];

    if (!seconds)
        return false;
    srv_problem(&req->res, 429, "too_many_wrong_keys",
                "Too many requests with wrong API keys have come from %s; wait %d s. Requests with a "
                "right one are answered.",
                address, seconds);
    snprintf(text, sizeof(text), "%d", seconds);
    srv_response_header(&req->res, "Retry-After", text);
    req->res.must_close = true;
    return true;
}

bool srv_connection_may_stay(struct srv_request *req)
{
    struct srv_apikeys *keys = req->http->daemon->apikeys;

    return !keys || !*req->key.name || srv_apikeys_holds(keys, &req->key);
}

/* Who is it? False, and a 401 is in the answer, when a key is needed and none of ours was shown. */
static bool authenticate(struct srv_request *req)
{
    struct srv_apikeys *keys = req->http->daemon->apikeys;
    const char *token = bearer_token(req);

    if (!keys || (token && srv_apikeys_find(keys, token, &req->key)))
        return true;
    if (token && is_struck(req))
        return false;
    srv_problem(&req->res, 401, token ? "invalid_api_key" : "api_key_required", "%s",
                token ? "The API key is not one of this daemon's."
                      : "This daemon needs an API key: send \"Authorization: Bearer KEY\".");
    srv_response_header(&req->res, "WWW-Authenticate",
                        token ? "Bearer realm=\"elsd\", error=\"invalid_token\""
                              : "Bearer realm=\"elsd\"");
    return false;
}

/* False, and the answer says why, when the connection is on a reserved place. */
static bool has_place(struct srv_request *req)
{
    const struct srv_config *config = req->http->daemon->config;
    enum srv_socket_place place = srv_socket_place(req->link);

    if (place == SRV_SOCKET_ORDINARY)
        return true;
    if (place == SRV_SOCKET_RESERVED_SHARE)
        srv_problem(&req->res, 429, "too_many_connections",
                    "%s has %lld connections open, which is all that one address may have "
                    "(max_connections_per_address).",
                    srv_socket_network(req->link), (long long)config->max_connections_per_address);
    else
        srv_problem(&req->res, 503, "too_many_connections",
                    "All %lld connections that this daemon takes are in use (max_connections).",
                    (long long)config->max_connections);
    srv_response_header(&req->res, "Retry-After", "1");
    req->res.must_close = true;
    return false;
}

/* False, and a 415 is in the answer, when the body is encoded. */
static bool is_plain(struct srv_request *req)
{
    const char *encoding = srv_request_header(req, "Content-Encoding");

    if (!encoding || !*encoding || strcasecmp(encoding, "identity") == 0)
        return true;
    srv_problem(&req->res, 415, "unsupported_encoding",
                "The body has the Content-Encoding \"%.80s\"; this daemon takes bodies as they are "
                "(identity).",
                encoding);
    srv_response_header(&req->res, "Accept-Encoding", "identity");
    return false;
}

/* Finds the route. False when the answer is known already. */
static bool route(struct srv_request *req)
{
    struct srv_daemon *daemon = req->http->daemon;
    struct srv_response *res = &req->res;

    srv_router_find(req->http->tables, req->method, req->path, &req->match);
    if (strcmp(req->method, "OPTIONS") == 0 &&
        (req->match.pattern || strcmp(req->path, "*") == 0)) {
        answer_options(req);
        return false;
    }
    if (!req->match.pattern) {
        srv_problem(res, 404, "not_found", "There is nothing at this path.");
        return false;
    }
    if (!req->match.route) {
        srv_problem(res, 405, "method_not_allowed", "This path takes %s.", req->match.allowed);
        srv_response_header(res, "Allow", req->match.allowed);
        return false;
    }
    if (!(req->match.route->flags & SRV_ROUTE_OPEN) && !authenticate(req))
        return false;
    if (req->match.route->flags & SRV_ROUTE_INLINE)
        return true;
    if (!has_place(req) || !is_plain(req))
        return false;
    if (!atomic_load(&daemon->ready)) {
        srv_problem(res, 503, "loading", "The daemon is still loading its banks.");
        srv_response_header(res, "Retry-After", "1");
        return false;
    }
    if (atomic_load(&daemon->draining) && !is_reading(req)) {
        srv_problem(res, 503, "draining", "The daemon is shutting down and takes no new work.");
        srv_response_header(res, "Retry-After", "5");
        return false;
    }
    return true;
}

static void refuse_size(struct srv_request *req)
{
    srv_problem(&req->res, 413, "body_too_large",
                "The body is larger than the %lld bytes that this daemon takes (max_body_bytes).",
                (long long)req->http->daemon->config->max_body_bytes);
    refuse(req);
}

/* The Content-Length; more than the limit: SIZE_MAX; none: 0. */
static size_t declared_size(const struct srv_request *req)
{
    const char *length = srv_request_header(req, "Content-Length");
    size_t limit = req->body.maximum, size = 0;

    for (; length && *length; length++)
        if (els_mul_overflows(size, 10, &size) || size > limit ||
            (size += (size_t)(*length - '0')) > limit)
            return SIZE_MAX;
    return size;
}

/* Charges the request to whoever sent it, and the body that it announces. What is answered at once is counted but never
 * refused: its answer would take no less. */
static void charge(struct srv_request *req)
{
    bool at_once = req->discard || (req->match.route->flags & SRV_ROUTE_INLINE);
    size_t size = declared_size(req);
    bool paid = srv_request_charge_head(req, at_once);

    if (size == SIZE_MAX) {
        refuse_size(req);
        return;
    }
    if (paid && size > 0 && !req->discard)
        paid = srv_request_expect_body(req, size);
    if (paid)
        return;
    req->discard = true;
    if (req->checks.has_body)
        refuse(req);
}

/* The head is there: decides whether the body is wanted. */
static void read_head(struct srv_request *req, const char *method, const char *version)
{
    struct srv_verdict verdict;
    int status;

    req->head_seen = true;
    req->counted = true;
    count(req->http, 1);
    snprintf(req->method, sizeof(req->method), "%s", method);
    MHD_get_connection_values(req->mhd, MHD_HEADER_KIND, visit_field, req);
    status = read_types(req);
    req->res.must_close = atomic_load(&req->http->daemon->draining);
    if (refuse_malformed(req))
        return;
    if (!srv_request_check(&req->checks, version, &req->http->policy, &verdict)) {
        srv_problem(&req->res, verdict.status, verdict.code, "%s", verdict.detail);
        req->discard = true;
        req->res.must_close = true;
        if (verdict.status == 400 && req->checks.has_body)
            refuse(req);
        return;
    }
    if (!req->discard && status < 0)
        srv_problem(&req->res, 500, "out_of_memory", "Out of memory.");
    if (!req->discard && (status < 0 || !route(req)))
        req->discard = true;
    charge(req);
}

/* ---- its body ---- */

static void receive(struct srv_request *req, const char *data, size_t size)
{
    if (req->refused || refuse_malformed(req))
        return;
    if (size > req->body.maximum - req->received) {
        refuse_size(req);
        return;
    }
    req->received += size;
    if (req->discard)
        return;
    if (!srv_request_grow_body(req, size)) {
        refuse(req);
    } else if (els_buffer_append(&req->body, data, size) < 0) {
        srv_problem(&req->res, 500, "out_of_memory", "Out of memory.");
        refuse(req);
    }
}

/* ---- its answer ---- */

/* Gives the request back to its HTTP thread. It may be gone when this returns. */
static void give_back(struct srv_request *req)
{
    struct srv_waker *w = srv_waker_ref(req->waker);

    pthread_mutex_lock(&w->lock);
    req->phase = SRV_ANSWERED;
    srv_waker_resume(w);
    pthread_mutex_unlock(&w->lock);
    srv_waker_unref(w);
}

/* The handler wants to wait. False when there is nothing left to wait for. */
static bool park(struct srv_request *req)
{
    struct srv_waker *w = req->waker;
    bool stopping, parked = true;

    pthread_mutex_lock(&w->lock);
    stopping = atomic_load(&req->http->stopping);
    if (stopping && req->timed_out) {
        parked = false;
    } else if (w->news || stopping) {
        srv_connection_queue(req);
    } else {
        req->phase = SRV_PARKED;
        srv_socket_enter(req->link, SRV_SOCKET_PARKED, req->res.park_ms, w);
    }
    pthread_mutex_unlock(&w->lock);
    return parked;
}

static void run_handler(struct srv_request *req)
{
    struct srv_response *res = &req->res;

    srv_response_deinit(res);
    srv_response_init(res, req);
    req->match.route->handle(req, res);
    srv_charge_give(&req->json); /* the handler's trees are gone */
}

static void refuse_removed_key(struct srv_request *req)
{
    srv_response_deinit(&req->res);
    srv_response_init(&req->res, req);
    srv_problem(&req->res, 401, "invalid_api_key",
                "The API key has been removed from this daemon's while the request waited.");
}

/* Which lane: what the route says, and whether a picture is to be made larger. */
static enum srv_lane lane_of(const struct srv_request *req)
{
    unsigned flags = req->match.route->flags;
    bool zooms = (flags & SRV_ROUTE_ZOOMS) && srv_request_query(req, "zoom");

    return zooms || (flags & SRV_ROUTE_COSTLY) ? SRV_LANE_COSTLY : SRV_LANE_QUICK;
}

void srv_connection_queue(struct srv_request *req)
{
    req->turn.lane = req->phase == SRV_FETCHING ? SRV_LANE_QUICK : lane_of(req);
    req->turn.address = srv_socket_network(req->link);
    req->turn.payer = *req->key.name ? req->key.name : req->turn.address;
    srv_lanes_push(req->http->lanes, &req->turn);
}

void srv_connection_work(struct srv_turn *turn)
{
    struct srv_request *req =
        (struct srv_request *)((char *)turn - offsetof(struct srv_request, turn));
    struct srv_waker *w = req->waker;

    if (req->phase == SRV_FETCHING) {
        srv_pieces_fetch(req);
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->news = false;
    req->timed_out = w->expired || atomic_load(&req->http->stopping);
    w->expired = false;
    pthread_mutex_unlock(&w->lock);
    if (srv_connection_may_stay(req))
        run_handler(req);
    else
        refuse_removed_key(req);
    if (req->res.park_ms >= 0) {
        if (park(req))
            return;
        srv_problem(&req->res, 503, "draining", "The daemon is shutting down.");
        srv_response_header(&req->res, "Retry-After", "5");
    }
    srv_response_finish(&req->res);
    give_back(req);
}

static enum MHD_Result send_answer(struct srv_request *req)
{
    struct srv_response *res = &req->res;
    struct srv_waker *w = req->waker;

    if (atomic_load(&req->http->daemon->draining))
        res->must_close = true;
    pthread_mutex_lock(&w->lock);
    w->expired = false;
    req->phase = SRV_SENDING;
    pthread_mutex_unlock(&w->lock);
    /* From here on socket_monitor.c alone tells who reads too slowly. */
    MHD_set_connection_option(req->mhd, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
    if (!srv_socket_enter(req->link, SRV_SOCKET_SENDING, 0, w))
        return MHD_NO;
    return srv_response_queue(res, req->mhd) ? MHD_YES : MHD_NO;
}

/*
 * The request is whole: answers at once, or rests until its lane has the answer.
 *
 * It rests at libmicrohttpd's second look at it, which follows the first at once: a connection that
 * is suspended in the first is still marked as one to be read from. When it is resumed it is read,
 * and a client that ended its side after its last request would be closed instead of answered.
 */
static enum MHD_Result answer(struct srv_request *req)
{
    struct srv_waker *w = req->waker;
    bool at_once = req->discard || (req->match.route && (req->match.route->flags & SRV_ROUTE_INLINE));
    bool rests = false;
    enum srv_phase phase;

    if (req->refused)
        return MHD_NO;
    pthread_mutex_lock(&w->lock);
    phase = req->phase;
    if (phase == SRV_RECEIVING && !at_once && !req->seen_whole) {
        req->seen_whole = rests = true;
    } else if (phase == SRV_RECEIVING && !at_once) {
        rests = srv_socket_enter(req->link, SRV_SOCKET_BUSY, -1, w) && srv_waker_suspend(w);
        if (rests) {
            req->phase = SRV_WORKING;
            srv_connection_queue(req);
        }
    } else if (phase == SRV_WORKING || phase == SRV_PARKED) {
        rests = srv_waker_suspend(w);
    }
    pthread_mutex_unlock(&w->lock);
    if (rests)
        return MHD_YES;
    if (phase == SRV_RECEIVING && at_once) {
        if (!req->discard)
            run_handler(req);
        srv_response_finish(&req->res);
        return send_answer(req);
    }
    return phase == SRV_ANSWERED ? send_answer(req) : MHD_NO;
}

enum MHD_Result srv_connection_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                      const char *method, const char *version, const char *data,
                                      size_t *size, void **context)
{
    struct srv_request *req = *context;

    if (!req)
        return MHD_NO; /* out of memory when it began */
    if (!req->head_seen) {
        srv_socket_take(req->link);
        read_head(req, method, version);
        return MHD_YES;
    }
    if (*size) {
        receive(req, data, *size);
        *size = 0;
        return MHD_YES;
    }
    return answer(req);
}
