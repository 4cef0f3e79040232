/*
 * The table of sockets and the thread that watches it. HTTP threads and lanes enter states;
 * the watch thread acts on deadlines and hang-ups.
 *
 * What always holds: a link is in the table exactly while libmicrohttpd holds its socket open, so
 * under the table's lock the descriptor is ours to shut down. Wakers are told only after the lock
 * is released (lock order: waker, then table). The thread's sleep never ends later than the
 * earliest deadline, and is rounded up a little, so that a crowd of deadlines costs one wake-up. An
 * event finds its link by the descriptor's number; only a deadline that has come makes the thread
 * walk through all of them.
 *
 * The reader of a link (wire) belongs to its HTTP thread and is not under the lock.
 */
#include "server/http/socket_monitor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "els/error.h"
#include "els/mem.h"
#include "server/base/clock.h"
#include "server/http/connection.h"
#include "server/http/wire_socket.h"
#include "server/base/quota.h"

enum {
    BATCH = 64,
    LINGER_MS = 2000,
    ROUND_MS = 50,
    RESERVED_MS = 2000, /* for a request to come on a reserved place */
    UNSENT = 128 << 10, /* bytes that the kernel holds of an answer beyond what is on its way to the client */
    FAREWELL_MS = 1000, /* for a request whose client has ended its side to be read to its end */
};

struct srv_socket {
    struct srv_socket_monitor *links;
    struct srv_socket *previous, *next;
    uint64_t serial; /* epoll names it so, with its descriptor: an event may be older than the link */
    int fd;
    struct srv_wire_socket wire;
    struct srv_request *begun; /* and not taken yet */
    uint64_t requests;
    char peer[INET6_ADDRSTRLEN], network[INET6_ADDRSTRLEN];
    enum srv_socket_place place;
    enum srv_socket_state state;
    int64_t deadline; /* 0: none */
    struct srv_waker *waker;
    /* while SENDING: */
    int64_t looked_ms; /* when its progress was last looked at */
    uint64_t taken;    /* bytes that the client had acknowledged then */
    int64_t behind_ms; /* how far it is behind the floor */
    bool watched;     /* the epoll knows it */
    bool half_closed; /* the client has ended its side: no more will come than has come */
    bool gone;        /* or both */
};

struct srv_socket_monitor {
    pthread_mutex_t lock;
    struct srv_socket_limits limits;
    struct srv_socket *first;
    struct srv_socket **by_fd; /* SRV_WIRE_DESCRIPTORS of them */
    uint64_t next_serial;
    int64_t ordinary;         /* links on ordinary places */
    struct srv_quota *shares; /* the same, of each network */
    struct srv_socket *reserved[SRV_SOCKET_MOST_RESERVED]; /* those on reserved places, the oldest first */
    int num_reserved;
    int64_t floor, grace_ms; /* see srv_socket_monitor_floor */
    int64_t planned; /* when the thread will look again; INT64_MAX: only when told */
    bool stopping;
    int epoll, event;
    pthread_t thread;
    bool has_thread;
};

/* What is to be told to wakers once the lock is released. */
struct errands {
    struct srv_waker *wakers[BATCH];
    void (*tell[BATCH])(struct srv_waker *w);
    size_t n;
};

#define TIMEOUT_BODY                                                                               \
    "{\"type\":\"about:blank\",\"title\":\"Request Timeout\",\"status\":408,"                      \
    "\"code\":\"request_timeout\",\"detail\":\"The request came too slowly.\"}"

static const char timeout_answer[] = "HTTP/1.1 408 Request Timeout\r\n"
                                     "Content-Type: application/problem+json\r\n"
                                     "Content-Length: 126\r\n"
                                     "Connection: close\r\n\r\n" TIMEOUT_BODY;
_Static_assert(sizeof(TIMEOUT_BODY) - 1 == 126, "Content-Length of the timeout answer");

static void poke(struct srv_socket_monitor *links)
{
    /* The counter can only be full of earlier pokes, which do as well. */
    if (eventfd_write(links->event, 1) < 0)
        return;
}

static void run_errands(struct errands *errands)
{
    for (size_t i = 0; i < errands->n; i++) {
        errands->tell[i](errands->wakers[i]);
        srv_waker_unref(errands->wakers[i]);
    }
    errands->n = 0;
}

static void add_errand(struct errands *errands, struct srv_socket *link,
                       void (*tell)(struct srv_waker *w))
{
    if (!link->waker)
        return;
    errands->wakers[errands->n] = srv_waker_ref(link->waker);
    errands->tell[errands->n++] = tell;
}

/* Sends all or gives up, and ends our side. With the lock held; never blocks. */
static void answer_and_linger(struct srv_socket *link, const void *bytes, size_t size)
{
    (void)!send(link->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(link->fd, SHUT_WR);
    link->state = SRV_SOCKET_LINGERING;
    link->deadline = srv_monotonic_ms() + LINGER_MS;
}

static bool is_reading(enum srv_socket_state state)
{
    return state == SRV_SOCKET_WAITING || state == SRV_SOCKET_RECEIVING;
}

static bool has_unread(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Bytes that the client has acknowledged since the connection began; 0 where the kernel does not say. */
static uint64_t taken_bytes(int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info.tcpi_bytes_acked : 0;
}

static bool has_unsent(int fd)
{
    int bytes = 0;

    return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

/* So often that one below the floor is closed soon after its grace. */
static int64_t look_again_ms(const struct srv_socket_monitor *links)
{
    return links->grace_ms / 8 + 1;
}

static void begin_sending(struct srv_socket *link)
{
    link->looked_ms = srv_monotonic_ms();
    link->taken = taken_bytes(link->fd);
    link->behind_ms = 0;
    link->deadline = link->looked_ms + look_again_ms(link->links);
}

/*
 * Time that passes while bytes wait for the client puts it behind, bytes that it takes bring it
 * forward by what they are worth at the floor. It gains no lead: however much it took before, the
 * grace is all that it may stop for. So one that keeps to the floor stays, however long its answer
 * takes, and one that stops is closed when its grace is over.
 */
static void look_at_sending(struct srv_socket *link)
{
    const struct srv_socket_monitor *links = link->links;
    int64_t now = srv_monotonic_ms();
    uint64_t taken = taken_bytes(link->fd);

    link->behind_ms += now - link->looked_ms - (int64_t)((taken - link->taken) * 1000 / (uint64_t)links->floor);
    if (link->behind_ms < 0 || !has_unsent(link->fd))
        link->behind_ms = 0;
    link->looked_ms = now;
    link->taken = taken;
    if (link->behind_ms >= links->grace_ms)
        shutdown(link->fd, SHUT_RDWR);
    else
        link->deadline = now + look_again_ms(links);
}

/* The link's deadline has passed. With the lock held. */
static void expire(struct srv_socket *link, struct errands *errands)
{
    link->deadline = 0;
    if (is_reading(link->state) && link->half_closed) {
        /* What has come is still read, but can no longer become a whole request. */
        if (has_unread(link->fd))
            link->deadline = srv_monotonic_ms() + FAREWELL_MS;
        else
            shutdown(link->fd, SHUT_RDWR);
        return;
    }
    switch (link->state) {
    case SRV_SOCKET_RECEIVING:
        answer_and_linger(link, timeout_answer, sizeof(timeout_answer) - 1);
        break;
    case SRV_SOCKET_PARKED:
    case SRV_SOCKET_STREAMING:
        add_errand(errands, link, link->gone ? srv_waker_abandon : srv_waker_expire);
        break;
    case SRV_SOCKET_SENDING:
        look_at_sending(link);
        break;
    case SRV_SOCKET_WAITING:
    case SRV_SOCKET_LINGERING:
        shutdown(link->fd, SHUT_RDWR);
        break;
    case SRV_SOCKET_BUSY:
        break;
    }
}

/* Expires up to a batch of links. Returns the milliseconds to sleep, −1 for ever. With the lock
 * held. */
static int expire_due(struct srv_socket_monitor *links, struct errands *errands)
{
    int64_t now = srv_monotonic_ms(), next = INT64_MAX;

    if (now < links->planned)
        return links->planned == INT64_MAX ? -1 : (int)(links->planned - now);
    for (struct srv_socket *link = links->first; link; link = link->next) {
        if (link->deadline && link->deadline <= now && errands->n < BATCH)
            expire(link, errands);
        if (link->deadline && link->deadline < next)
            next = link->deadline;
    }
    if (next == INT64_MAX) {
        links->planned = next;
        return -1;
    }
    links->planned = (next > now ? next : now) + (errands->n == BATCH ? 0 : ROUND_MS);
    return (int)(links->planned - now);
}

static uint64_t epoll_name(const struct srv_socket *link)
{
    return link->serial << 32 | (uint32_t)link->fd;
}

static struct srv_socket *find(struct srv_socket_monitor *links, uint64_t name)
{
    uint32_t fd = (uint32_t)name;
    struct srv_socket *link = fd < SRV_WIRE_DESCRIPTORS ? links->by_fd[fd] : NULL;

    return link && epoll_name(link) == name ? link : NULL;
}

/* So that the thread looks at the link's deadline in time. With the lock held. */
static void plan(struct srv_socket *link)
{
    if (link->deadline && link->deadline < link->links->planned) {
        link->links->planned = link->deadline;
        poke(link->links);
    }
}

/* The client closed its side (RDHUP), or is gone. With the lock held. */
static void hang_up(struct srv_socket *link, unsigned events, struct errands *errands)
{
    int64_t farewell = srv_monotonic_ms() + FAREWELL_MS;

    link->half_closed = true;
    link->gone = link->gone || (events & (EPOLLERR | EPOLLHUP));
    if (link->gone) {
        add_errand(errands, link, srv_waker_abandon);
    } else if (link->state == SRV_SOCKET_STREAMING) {
        add_errand(errands, link, srv_waker_expire); /* a ping will show whether somebody still reads */
    } else if (is_reading(link->state) && link->deadline > farewell) {
        link->deadline = farewell;
        plan(link);
    }
}

static void *watch(void *arg)
{
    struct srv_socket_monitor *links = arg;
    struct epoll_event events[BATCH / 2];
    struct errands errands = {.n = 0};
    int timeout = 0, n;
    bool stopping = false;

    while (!stopping) {
        n = epoll_wait(links->epoll, events, BATCH / 2, timeout);
        pthread_mutex_lock(&links->lock);
        for (int i = 0; i < n; i++) {
            struct srv_socket *link = find(links, events[i].data.u64);
            eventfd_t count;

            if (link)
                hang_up(link, events[i].events, &errands);
            else if (events[i].data.u64 == 0 && eventfd_read(links->event, &count) < 0)
                continue;
        }
        timeout = expire_due(links, &errands);
        stopping = links->stopping;
        pthread_mutex_unlock(&links->lock);
        run_errands(&errands);
    }
    return NULL;
}

int srv_socket_monitor_new(struct srv_socket_monitor **out, const struct srv_socket_limits *limits)
{
    struct srv_socket_monitor *links = els_alloc_array(1, sizeof(*links));
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};

    if (!links)
        return ELS_ENOMEM;
    pthread_mutex_init(&links->lock, NULL);
    links->limits = *limits;
    links->next_serial = 1;
    links->by_fd = els_alloc_array(SRV_WIRE_DESCRIPTORS, sizeof(*links->by_fd));
    links->epoll = epoll_create1(EPOLL_CLOEXEC);
    links->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!links->by_fd || srv_quota_new(&links->shares, limits->per_address) < 0 ||
        links->epoll < 0 || links->event < 0 ||
        epoll_ctl(links->epoll, EPOLL_CTL_ADD, links->event, &event) < 0 ||
        pthread_create(&links->thread, NULL, watch, links) != 0) {
        srv_socket_monitor_free(links);
        return ELS_EIO;
    }
    links->has_thread = true;
    *out = links;
    return 0;
}

void srv_socket_monitor_floor(struct srv_socket_monitor *links, int64_t bytes_per_second, int64_t grace_ms)
{
    links->floor = bytes_per_second;
    links->grace_ms = grace_ms;
}

struct srv_socket_monitor *srv_socket_monitor_free(struct srv_socket_monitor *links)
{
    if (!links)
        return NULL;
    if (links->has_thread) {
        pthread_mutex_lock(&links->lock);
        links->stopping = true;
        poke(links);
        pthread_mutex_unlock(&links->lock);
        pthread_join(links->thread, NULL);
    }
    if (links->epoll >= 0)
        close(links->epoll);
    if (links->event >= 0)
        close(links->event);
    srv_quota_free(links->shares);
    free(links->by_fd);
    pthread_mutex_destroy(&links->lock);
    free(links);
    return NULL;
}

/* ---- places ---- */

static void name_peer(int fd, char peer[INET6_ADDRSTRLEN], char network[INET6_ADDRSTRLEN])
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    struct in6_addr *v6 = &((struct sockaddr_in6 *)&address)->sin6_addr;
    const void *bytes = &((struct sockaddr_in *)&address)->sin_addr;

    snprintf(peer, INET6_ADDRSTRLEN, "unknown");
    snprintf(network, INET6_ADDRSTRLEN, "unknown");
    if (getpeername(fd, (struct sockaddr *)&address, &size) < 0 ||
        (address.ss_family != AF_INET && address.ss_family != AF_INET6))
        return;
    if (address.ss_family == AF_INET6)
        bytes = v6;
    inet_ntop(address.ss_family, bytes, peer, INET6_ADDRSTRLEN);
    /* Whoever has one address of IPv6 usually has the 2^64 beside it. */
    if (address.ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(v6))
        memset(v6->s6_addr + 8, 0, 8);
    inet_ntop(address.ss_family, bytes, network, INET6_ADDRSTRLEN);
}

/* Takes an ordinary place, if there is one. With the lock held. */
static enum srv_socket_place take_place(struct srv_socket_monitor *links, const char *network)
{
    if (links->ordinary >= links->limits.connections)
        return SRV_SOCKET_RESERVED;
    if (srv_quota_take(links->shares, network) < 0)
        return SRV_SOCKET_RESERVED_SHARE;
    links->ordinary++;
    return SRV_SOCKET_ORDINARY;
}

static void leave_reserved(struct srv_socket_monitor *links, const struct srv_socket *link)
{
    for (int i = 0; i < links->num_reserved; i++)
        if (links->reserved[i] == link) {
            links->num_reserved--;
            memmove(links->reserved + i, links->reserved + i + 1,
                    (size_t)(links->num_reserved - i) * sizeof(*links->reserved));
            return;
        }
}

/* Onto a reserved place: the oldest that says nothing makes room, or else the new one goes. */
static void enter_reserved(struct srv_socket_monitor *links, struct srv_socket *link)
{
    for (int i = 0; i < links->num_reserved && links->num_reserved >= links->limits.reserved; i++)
        if (links->reserved[i]->state == SRV_SOCKET_WAITING) {
            shutdown(links->reserved[i]->fd, SHUT_RDWR);
            leave_reserved(links, links->reserved[i]);
        }
    if (links->num_reserved >= links->limits.reserved)
        shutdown(link->fd, SHUT_RDWR);
    else
        links->reserved[links->num_reserved++] = link;
}

enum srv_socket_place srv_socket_place(struct srv_socket *link)
{
    struct srv_socket_monitor *links = link->links;
    enum srv_socket_place place;

    pthread_mutex_lock(&links->lock);
    if (link->place != SRV_SOCKET_ORDINARY) {
        link->place = take_place(links, link->network);
        if (link->place == SRV_SOCKET_ORDINARY)
            leave_reserved(links, link);
    }
    place = link->place;
    pthread_mutex_unlock(&links->lock);
    return place;
}

/* ---- links ---- */

/* The first line of a request has come. Called by the reader. */
static void begin(void *user)
{
    struct srv_socket *link = user;
    bool waits;

    pthread_mutex_lock(&link->links->lock);
    waits = link->state == SRV_SOCKET_WAITING;
    pthread_mutex_unlock(&link->links->lock);
    if (waits)
        srv_socket_enter(link, SRV_SOCKET_RECEIVING, link->links->limits.upload_ms, NULL);
}

static void add_to_table(struct srv_socket_monitor *links, struct srv_socket *link)
{
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET};

    pthread_mutex_lock(&links->lock);
    link->serial = links->next_serial++;
    link->next = links->first;
    if (link->next)
        link->next->previous = link;
    links->first = link;
    links->by_fd[link->fd] = link;
    event.data.u64 = epoll_name(link);
    /* Where memory for it lacks, deadlines and pings find out later. */
    link->watched = epoll_ctl(links->epoll, EPOLL_CTL_ADD, link->fd, &event) == 0;
    link->place = take_place(links, link->network);
    if (link->place != SRV_SOCKET_ORDINARY)
        enter_reserved(links, link);
    pthread_mutex_unlock(&links->lock);
}

struct srv_socket *srv_socket_new(struct srv_socket_monitor *links, int fd)
{
    struct srv_socket *link = els_alloc_array(1, sizeof(*link));
    const int unsent = UNSENT;

    if (!link)
        return NULL;
    /* Where the kernel does not know this, it holds more. */
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    link->links = links;
    link->fd = fd;
    link->state = SRV_SOCKET_BUSY;
    link->wire = (struct srv_wire_socket){.fd = fd, .begun = begin, .user = link};
    name_peer(fd, link->peer, link->network);
    if (srv_wire_attach(&link->wire) < 0) {
        free(link);
        return NULL;
    }
    add_to_table(links, link);
    return link;
}

void srv_socket_free(struct srv_socket *link)
{
    struct srv_socket_monitor *links;
    struct srv_waker *waker;

    if (!link)
        return;
    links = link->links;
    srv_wire_detach(&link->wire);
    pthread_mutex_lock(&links->lock);
    if (link->watched)
        epoll_ctl(links->epoll, EPOLL_CTL_DEL, link->fd, NULL);
    links->by_fd[link->fd] = NULL;
    if (link->previous)
        link->previous->next = link->next;
    else
        links->first = link->next;
    if (link->next)
        link->next->previous = link->previous;
    if (link->place == SRV_SOCKET_ORDINARY) {
        links->ordinary--;
        srv_quota_give(links->shares, link->network);
    } else {
        leave_reserved(links, link);
    }
    waker = link->waker;
    pthread_mutex_unlock(&links->lock);
    srv_waker_unref(waker);
    free(link);
}

const char *srv_socket_peer(const struct srv_socket *link)
{
    return link->peer;
}

const char *srv_socket_network(const struct srv_socket *link)
{
    return link->network;
}

uint64_t srv_socket_begin(struct srv_socket *link, struct srv_request *req)
{
    link->begun = req;
    return ++link->requests;
}

struct srv_request *srv_socket_take(struct srv_socket *link)
{
    struct srv_request *req = link->begun;

    link->begun = NULL;
    return req;
}

const struct srv_wire *srv_socket_wire(const struct srv_socket *link)
{
    return &link->wire.wire;
}

static bool is_asleep(enum srv_socket_state state)
{
    return state == SRV_SOCKET_PARKED || state == SRV_SOCKET_STREAMING;
}

bool srv_socket_enter(struct srv_socket *link, enum srv_socket_state state, int64_t ms,
                    struct srv_waker *waker)
{
    struct srv_socket_monitor *links = link->links;
    struct srv_waker *old = NULL;
    bool entered = false;

    pthread_mutex_lock(&links->lock);
    if (link->state != SRV_SOCKET_LINGERING) {
        bool goes_on = (state == SRV_SOCKET_RECEIVING || state == SRV_SOCKET_SENDING) && link->state == state;

        link->state = state;
        /* The hang-up is told once; who goes to sleep after it must not wait for another. */
        if (link->gone && is_asleep(state))
            ms = 0;
        if (link->half_closed && is_reading(state) && ms > FAREWELL_MS)
            ms = FAREWELL_MS;
        if (link->place != SRV_SOCKET_ORDINARY && is_reading(state) && ms > RESERVED_MS)
            ms = RESERVED_MS;
        if (!goes_on && state == SRV_SOCKET_SENDING)
            begin_sending(link);
        else if (!goes_on)
            link->deadline = ms < 0 ? 0 : srv_monotonic_ms() + ms;
        if (link->waker != waker) {
            old = link->waker;
            link->waker = waker ? srv_waker_ref(waker) : NULL;
        }
        plan(link);
        entered = true;
    }
    pthread_mutex_unlock(&links->lock);
    srv_waker_unref(old);
    return entered;
}

void srv_socket_wait(struct srv_socket *link, int64_t ms)
{
    bool begun = srv_wire_has_begun(&link->wire.wire);

    srv_socket_enter(link, begun ? SRV_SOCKET_RECEIVING : SRV_SOCKET_WAITING, ms, NULL);
}

bool srv_socket_is_half_closed(const struct srv_socket *link)
{
    bool half_closed;

    pthread_mutex_lock(&link->links->lock);
    half_closed = link->half_closed;
    pthread_mutex_unlock(&link->links->lock);
    return half_closed;
}

void srv_socket_cut(struct srv_socket *link)
{
    pthread_mutex_lock(&link->links->lock);
    shutdown(link->fd, SHUT_RDWR);
    pthread_mutex_unlock(&link->links->lock);
}

void srv_socket_refuse(struct srv_socket *link, const void *bytes, size_t size)
{
    pthread_mutex_lock(&link->links->lock);
    if (link->state != SRV_SOCKET_LINGERING)
        answer_and_linger(link, bytes, size);
    plan(link);
    pthread_mutex_unlock(&link->links->lock);
}

/* Tells the waker of every link, a batch at a time: serials fall along the list, so that the walk
 * can go on below the last one although links come and go between the batches. */
static void tell_all(struct srv_socket_monitor *links, void (*tell)(struct srv_waker *w))
{
    struct errands errands = {.n = 0};
    uint64_t below = UINT64_MAX;
    bool more = true;

    while (more) {
        more = false;
        pthread_mutex_lock(&links->lock);
        for (struct srv_socket *link = links->first; link; link = link->next) {
            if (link->serial >= below)
                continue;
            if (errands.n == BATCH) {
                more = true;
                break;
            }
            below = link->serial;
            if (tell == srv_waker_abandon)
                shutdown(link->fd, SHUT_RDWR);
            add_errand(&errands, link, tell);
        }
        pthread_mutex_unlock(&links->lock);
        run_errands(&errands);
    }
}

void srv_socket_monitor_expire_all(struct srv_socket_monitor *links)
{
    tell_all(links, srv_waker_expire);
}

void srv_socket_monitor_abandon_all(struct srv_socket_monitor *links)
{
    tell_all(links, srv_waker_abandon);
}

void srv_socket_monitor_wake_all(struct srv_socket_monitor *links)
{
    tell_all(links, srv_waker_wake);
}
