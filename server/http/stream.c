/*
 * Streams: a source of bytes behind libmicrohttpd's content reader. The reader runs on an HTTP
 * thread, whenever the socket can take more. When the source has nothing to say the connection is
 * suspended (a reader that returns 0 otherwise is called again at once, for ever), until the waker
 * is woken or it is time for a ping.
 */
#include <stdlib.h>
#include <string.h>

#include "server/http/connection.h"

enum {
    BLOCK = 16 << 10,
    PROBE_MS = 1000, /* between pings to a client that closed its side: is anybody still reading? */
};

/* Nothing to say: suspends, unless there has been news since the source was asked. */
static bool rest(struct srv_request *req)
{
    struct srv_waker *w = req->waker;
    bool rests = false;

    pthread_mutex_lock(&w->lock);
    if (!w->news && req->phase == SRV_SENDING && !atomic_load(&req->http->stopping)) {
        rests = srv_waker_suspend(w);
        if (rests)
            srv_socket_enter(req->link, SRV_SOCKET_STREAMING,
                           srv_socket_is_half_closed(req->link) ? PROBE_MS : SRV_PING_MS, w);
    }
    pthread_mutex_unlock(&w->lock);
    return rests;
}

/* Does it tell what happens, for as long as somebody may listen? */
static bool is_endless(const struct srv_response *res)
{
    return strcmp(res->content_type, "text/event-stream") == 0;
}

static ssize_t read_source(void *cls, uint64_t position, char *out, size_t size)
{
    struct srv_response *res = cls;
    struct srv_request *req = res->req;
    struct srv_waker *w = req->waker;

    for (;;) {
        bool ping, gone, stopping = atomic_load(&req->http->stopping);
        ssize_t n;

        pthread_mutex_lock(&w->lock);
        ping = w->expired;
        w->expired = false;
        w->news = false;
        gone = req->phase == SRV_GONE || (is_endless(res) && !srv_connection_may_stay(req));
        pthread_mutex_unlock(&w->lock);
        /* Not END_WITH_ERROR: libmicrohttpd 0.9.75 then leaves the socket open until the connection's
         * timeout. Nobody can read the end either: sending it fails, and that closes the socket. */
        if (gone)
            return MHD_CONTENT_READER_END_OF_STREAM;
        n = res->stream.read(res->stream.user, out, size, ping);
        if (n > 0) {
            srv_socket_enter(req->link, SRV_SOCKET_SENDING, 0, w);
            return n;
        }
        if (n < 0 || stopping)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (rest(req))
            return 0;
    }
}

struct MHD_Response *srv_stream_create(struct srv_response *res)
{
    /* The source is freed with the request, which outlives libmicrohttpd's use of the reader. */
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_source, res, NULL);
}
