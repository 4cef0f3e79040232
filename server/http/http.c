/*
 * The server's life: the listening socket, libmicrohttpd's daemon with its threads, the lanes, the
 * link table, and the order in which they end. Started and stopped by the main thread.
 *
 * The end, in order: no new connections; parked requests and streams are told; answers under way
 * may finish; then nothing may suspend any more, every socket is shut, everything suspended is
 * resumed (libmicrohttpd must not be stopped with a suspended connection), the lanes finish,
 * and the daemon is stopped.
 */
#include "server/http/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/base/log.h"
#include "server/http/connection.h"

enum {
    LANE_THREADS = 4, /* in each lane */
    OTHER_DESCRIPTORS = 64,       /* for the store, banks that are read, and the threads' own */
    IDLE_SPARE_SECONDS = 5,       /* socket_monitor.c is to be first: it says why it closes */
};

/* ---- listening ---- */

static int make_address(const char *bind_to, int port, struct sockaddr_storage *out,
                        socklen_t *size)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

    *out = (struct sockaddr_storage){0};
    if (inet_pton(AF_INET, bind_to, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *size = sizeof(*v4);
        return 0;
    }
    if (inet_pton(AF_INET6, bind_to, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *size = sizeof(*v6);
        return 0;
    }
    errno = EINVAL;
    return -1;
}

/* A listening socket, or −1 with errno. */
static int listen_on(const char *bind_to, int port)
{
    struct sockaddr_storage address;
    socklen_t size;
    int fd = -1, on = 1, saved;

    if (make_address(bind_to, port, &address, &size) < 0)
        return -1;
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return -1;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

/* ---- libmicrohttpd's daemon ---- */

static void log_library(void *cls, const char *format, va_list ap)
{
    struct srv_http *http = cls;
    char text[512];

    vsnprintf(text, sizeof(text), format, ap);
    text[strcspn(text, "\r\n")] = '\0';
    srv_log(http->daemon->log, SRV_DEBUG, "http_library", "message", text, NULL);
}

/* Paths and queries are decoded by request.c, strictly; libmicrohttpd's copy stays as it came. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    return strlen(text);
}

static void connected(void *cls, struct MHD_Connection *mhd, void **context,
                      enum MHD_ConnectionNotificationCode what)
{
    struct srv_http *http = cls;
    const union MHD_ConnectionInfo *info;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*context)
            srv_connection_free_request(srv_socket_take(*context));
        srv_socket_free(*context);
        *context = NULL;
        return;
    }
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    *context = info ? srv_socket_new(http->links, info->connect_fd) : NULL;
    if (*context)
        srv_socket_enter(*context, SRV_SOCKET_WAITING, http->daemon->config->upload_timeout * 1000,
                       NULL);
}

/* How many may be accepted beside max_connections: on the reserved places, and, a moment long, those
 * that are closed to make room there. */
static int64_t spare_connections(const struct srv_config *config, int reserved)
{
    return reserved + 2 * config->http_threads;
}

static int reserved_places(int64_t connections)
{
    int64_t n = connections / 8;

    return n > SRV_SOCKET_MOST_RESERVED ? SRV_SOCKET_MOST_RESERVED : n < 2 ? 2 : (int)n;
}

/* As many as configured, if there are so many descriptors: once they are out, libmicrohttpd's
 * threads spin, and no bank could be read and no result stored. */
static int64_t connection_limit(const struct srv_daemon *daemon)
{
    const struct srv_config *config = daemon->config;
    int64_t most = config->max_connections + spare_connections(config, SRV_SOCKET_MOST_RESERVED), have;
    struct rlimit limit;
    char number[32], wanted[32];

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return most;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= (rlim_t)(most + OTHER_DESCRIPTORS))
        return most;
    have = (int64_t)limit.rlim_cur - OTHER_DESCRIPTORS;
    if (have < spare_connections(config, 2) + 1)
        have = spare_connections(config, 2) + 1;
    srv_log(daemon->log, SRV_WARNING, "few_descriptors", "connections",
            srv_log_number(number, (double)have), "wanted", srv_log_number(wanted, (double)config->max_connections), NULL);
    return have;
}

/* wire_socket.c checks what the library overlooks; a newer one checks as well. */
#if MHD_VERSION >= 0x00097701
#define STRICT_OPTION MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1,
#else
#define STRICT_OPTION MHD_OPTION_STRICT_FOR_CLIENT, 1,
#endif

static int start_mhd(struct srv_http *http, int fd)
{
    const struct srv_config *config = http->daemon->config;
    unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;

    /* clang-format off */
    http->mhd = MHD_start_daemon(
        flags, (uint16_t)http->port, NULL, NULL, srv_connection_access, http,
        MHD_OPTION_EXTERNAL_LOGGER, log_library, http, /* first: it hears of the others' errors */
        MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_THREAD_POOL_SIZE, (unsigned)config->http_threads,
        MHD_OPTION_CONNECTION_LIMIT, http->connection_limit,
        MHD_OPTION_CONNECTION_TIMEOUT, http->idle_seconds,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SRV_CONNECTION_MEMORY,
        STRICT_OPTION
        MHD_OPTION_URI_LOG_CALLBACK, srv_connection_uri, http,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, connected, http,
        MHD_OPTION_NOTIFY_COMPLETED, srv_connection_completed, http,
        MHD_OPTION_END);
    /* clang-format on */
    return http->mhd ? 0 : ELS_EIO;
}

/* ---- start and stop ---- */

static void free_http(struct srv_http *http)
{
    srv_lanes_free(http->lanes);
    srv_socket_monitor_free(http->links);
    srv_strikes_free(http->strikes);
    pthread_cond_destroy(&http->idle);
    pthread_mutex_destroy(&http->lock);
    free(http);
}

static struct srv_http *new_http(struct srv_daemon *daemon, const struct srv_route *const *tables)
{
    const struct srv_config *config = daemon->config;
    struct srv_http *http = els_alloc_array(1, sizeof(*http));
    struct srv_socket_limits limits = {.per_address = config->max_connections_per_address,
                                     .upload_ms = config->upload_timeout * 1000};
    pthread_condattr_t monotonic;

    if (!http)
        return NULL;
    http->connection_limit = (unsigned)connection_limit(daemon);
    limits.connections = http->connection_limit - spare_connections(config, SRV_SOCKET_MOST_RESERVED);
    limits.reserved = SRV_SOCKET_MOST_RESERVED;
    if (limits.connections < config->max_connections) {
        limits.reserved = reserved_places(http->connection_limit);
        limits.connections = http->connection_limit - spare_connections(config, limits.reserved);
    }
    http->daemon = daemon;
    http->tables = tables;
    http->policy = (struct srv_policy){config->allowed_hosts, config->cors_origins};
    http->idle_seconds = 2 * (unsigned)config->upload_timeout + IDLE_SPARE_SECONDS;
    pthread_mutex_init(&http->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&http->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (getrandom(&http->id_base, sizeof(http->id_base), 0) != sizeof(http->id_base) ||
        srv_socket_monitor_new(&http->links, &limits) < 0 ||
        srv_strikes_new(&http->strikes, http->id_base) < 0 ||
        srv_lanes_new(&http->lanes, LANE_THREADS, srv_connection_work) < 0) {
        free_http(http);
        return NULL;
    }
    srv_socket_monitor_floor(http->links, config->min_read_rate, config->read_grace * 1000);
    return http;
}

int srv_http_start(struct srv_http **out, struct srv_daemon *daemon,
                   const struct srv_route *const *tables)
{
    const struct srv_config *config = daemon->config;
    struct srv_http *http = new_http(daemon, tables);
    int fd = -1, r = ELS_ENOMEM;

    if (!http)
        goto out;
    r = ELS_EIO;
    fd = listen_on(config->bind, (int)config->port);
    if (fd < 0) {
        char port[32];

        srv_log(daemon->log, SRV_ERROR, "listen_failed", "bind", config->bind, "port",
                srv_log_number(port, (double)config->port), "reason", strerror(errno), NULL);
        goto out;
    }
    http->port = port_of(fd);
    r = start_mhd(http, fd);
    if (r < 0)
        goto out;
    *out = http;
    http = NULL;
    fd = -1;
out:
    if (fd >= 0)
        close(fd);
    if (http)
        free_http(http);
    return r;
}

int srv_http_port(const struct srv_http *http)
{
    return http->port;
}

void srv_http_keys_changed(struct srv_http *http)
{
    srv_socket_monitor_wake_all(http->links);
}

/* Until no request is active, or the time is up. */
static void wait_idle(struct srv_http *http, int ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&http->lock);
    while (http->active && pthread_cond_timedwait(&http->idle, &http->lock, &until) == 0)
        continue;
    pthread_mutex_unlock(&http->lock);
}

struct srv_http *srv_http_stop(struct srv_http *http, int grace_ms)
{
    int fd;

    if (!http)
        return NULL;
    fd = MHD_quiesce_daemon(http->mhd);
    atomic_store(&http->stopping, true);
    srv_socket_monitor_expire_all(http->links);
    wait_idle(http, grace_ms);
    atomic_store(&http->closing, true);
    srv_socket_monitor_abandon_all(http->links);
    http->lanes = srv_lanes_free(http->lanes);
    MHD_stop_daemon(http->mhd);
    if (fd >= 0)
        close(fd);
    free_http(http);
    return NULL;
}
