/*
 * Answers in pieces: a source of known size behind libmicrohttpd's content reader. The reader runs on
 * an HTTP thread and only copies from the piece that is there. When that is used up the connection is
 * suspended and the request goes to the quick lane, where the next piece is read from the source, and
 * is resumed. So an answer under way holds one piece and one block of libmicrohttpd's, however large it
 * is and however slowly it is read, and no thread waits for a reader.
 *
 * The first piece is read by the handler itself: what cannot be read is then a problem with a status,
 * not a connection that breaks.
 *
 * The piece belongs to whoever the request belongs to (connection.h): the lane while FETCHING,
 * else the HTTP thread.
 */
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/http/connection.h"

enum {
    PIECE = 128 << 10,
    BLOCK = 32 << 10, /* libmicrohttpd's, and what one send takes at most */
};

struct srv_pieces {
    struct srv_source source;
    uint64_t size;
    uint64_t start; /* where `bytes` begin in the body; where the next piece begins, while it is fetched */
    size_t filled;  /* bytes that are there */
    bool failed;
    uint8_t bytes[PIECE];
};

struct srv_pieces *srv_pieces_free(struct srv_pieces *p)
{
    if (p) {
        p->source.free(p->source.user);
        free(p);
    }
    return NULL;
}

/* Reads the piece that begins at p->start. */
static int fill(struct srv_pieces *p, struct els_error *err)
{
    size_t size = p->size - p->start < PIECE ? (size_t)(p->size - p->start) : PIECE;
    int status = size > 0 ? p->source.read(&p->source, p->start, p->bytes, size, err) : 0;

    p->filled = status == 0 ? size : 0;
    return status;
}

int srv_response_pieces(struct srv_response *res, int status, const char *content_type, uint64_t size,
                        const struct srv_source *source, struct els_error *err)
{
    struct srv_pieces *p = NULL;
    int r = 0;

    if (srv_response_charge(res, source->held + sizeof(*p) + BLOCK)) {
        p = malloc(sizeof(*p));
        r = p ? 0 : ELS_ENOMEM;
    }
    if (!p) {
        source->free(source->user);
        return r;
    }
    p->source = *source;
    p->size = size;
    p->start = 0;
    p->filled = 0;
    p->failed = false;
    if (strcmp(res->req->method, "HEAD") != 0)
        r = fill(p, err);
    if (r < 0) {
        srv_pieces_free(p);
        return r;
    }
    srv_response_begin(res, status, content_type);
    res->pieces = p;
    return 0;
}

void srv_pieces_fetch(struct srv_request *req)
{
    struct srv_pieces *p = req->res.pieces;
    struct srv_waker *w = srv_waker_ref(req->waker);
    struct els_error err = {0};
    int status = fill(p, &err);

    p->failed = status < 0;
    if (status < 0)
        srv_log(req->http->daemon->log, SRV_WARNING, "answer_cut", "path", req->path, "reason",
                *err.message ? err.message : els_status_text(status), "request_id", req->id, NULL);
    /* Less than before: never refused. */
    srv_response_charge(&req->res, p->source.held + sizeof(*p) + BLOCK);
    pthread_mutex_lock(&w->lock);
    req->phase = SRV_SENDING;
    srv_waker_resume(w);
    pthread_mutex_unlock(&w->lock);
    srv_waker_unref(w);
}

/* Sends the request for the piece at `position`. False: nobody is there any more, or the daemon ends. */
static bool ask(struct srv_request *req, uint64_t position)
{
    struct srv_pieces *p = req->res.pieces;
    struct srv_waker *w = req->waker;
    bool asked;

    pthread_mutex_lock(&w->lock);
    asked = !p->failed && req->phase == SRV_SENDING && srv_waker_suspend(w);
    if (asked) {
        p->start = position;
        p->filled = 0;
        req->phase = SRV_FETCHING;
        srv_connection_queue(req);
    }
    pthread_mutex_unlock(&w->lock);
    return asked;
}

static ssize_t read_piece(void *cls, uint64_t position, char *out, size_t size)
{
    struct srv_request *req = cls;
    struct srv_pieces *p = req->res.pieces;
    uint64_t at = position - p->start; /* libmicrohttpd never goes back */
    size_t n;

    if (at >= p->filled) {
        if (ask(req, position))
            return 0;
        srv_socket_cut(req->link);
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    n = p->filled - (size_t)at < size ? p->filled - (size_t)at : size;
    memcpy(out, p->bytes + at, n);
    return (ssize_t)n;
}

struct MHD_Response *srv_pieces_create(struct srv_response *res)
{
    /* The piece is freed with the request, which outlives libmicrohttpd's use of the reader. */
    return MHD_create_response_from_callback(res->pieces->size, BLOCK, read_piece, res->req, NULL);
}
