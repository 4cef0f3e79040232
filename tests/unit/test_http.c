/*
 * The HTTP layer from inside: handlers that park, streams that rest, clients that vanish, and the
 * end of the server while all that is going on. The routes are the test's own; the sockets are
 * real. What the daemon does with hostile requests is in tests/service/test_http.py.
 */
#include "http_client.h"

#include <errno.h>
#include <pthread.h>

#include "server/base/daemon.h"
#include "server/base/log.h"
#include "server/config/config.h"

static struct srv_config config;
static struct srv_daemon server;

/* What the handlers and the tests share. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct srv_waker *sleepers[256];
static size_t num_sleepers;
static atomic_int released, freed, runs, pings, gone_streams, held;

/* ---- handlers ---- */

static void answer_text(struct srv_response *res, const char *text)
{
    srv_response_static(res, 200, "text/plain", text, strlen(text));
}

static void get_plain(struct srv_request *req, struct srv_response *res)
{
    answer_text(res, "plain");
}

static void get_json(struct srv_request *req, struct srv_response *res)
{
    json_t *body = srv_request_json(req, res);

    if (body)
        srv_response_json(res, 200, body);
}

static void get_large(struct srv_request *req, struct srv_response *res)
{
    size_t size = (size_t)64 << 20;

    srv_response_bytes(res, 200, "application/octet-stream", calloc(1, size), size);
}

static void get_nothing(struct srv_request *req, struct srv_response *res)
{
}

static void note_freed(void *state)
{
    free(state);
    atomic_fetch_add(&freed, 1);
}

static void sleep_with(struct srv_waker *w)
{
    pthread_mutex_lock(&lock);
    if (num_sleepers < sizeof(sleepers) / sizeof(*sleepers))
        sleepers[num_sleepers++] = srv_waker_ref(w);
    pthread_mutex_unlock(&lock);
}

static void wake_all(void)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < num_sleepers; i++)
        srv_waker_wake(sleepers[i]);
    pthread_mutex_unlock(&lock);
}

/* Parks until `released` is set. ?early=1: is woken before it has parked. */
static void get_park(struct srv_request *req, struct srv_response *res)
{
    int64_t ms, early;
    void *state = srv_request_state(req);

    atomic_fetch_add(&runs, 1);
    while (atomic_load(&held))
        pause_ms(1);
    if (!srv_request_query_int(req, res, "ms", 0, 1000000, 1000000, &ms) ||
        !srv_request_query_int(req, res, "early", 0, 1, 0, &early))
        return;
    if (!state) {
        state = strdup("state");
        sleep_with(srv_request_waker(req));
        if (early) {
            atomic_store(&released, 1);
            srv_waker_wake(srv_request_waker(req));
        }
        srv_response_park(req, res, (int)ms, state, note_freed);
    } else if (srv_request_timed_out(req)) {
        answer_text(res, "timed out");
    } else if (atomic_load(&released)) {
        answer_text(res, strcmp(state, "state") == 0 ? "woken" : "wrong state");
    } else {
        srv_response_park(req, res, (int)ms, state, note_freed);
    }
}

/* A source that says a line for each release, and ends after three. */
struct source {
    int said;
};

static ssize_t read_source(void *user, char *out, size_t size, bool ping)
{
    struct source *source = user;

    if (source->said >= 3)
        return -1;
    if (source->said < atomic_load(&released))
        return snprintf(out, size, "line %d\n", ++source->said);
    if (ping) {
        atomic_fetch_add(&pings, 1);
        return snprintf(out, size, ": ping\n");
    }
    return 0;
}

static void free_source(void *user)
{
    free(user);
    atomic_fetch_add(&gone_streams, 1);
}

static void get_stream(struct srv_request *req, struct srv_response *res)
{
    struct srv_stream stream = {read_source, free_source, calloc(1, sizeof(struct source))};

    sleep_with(srv_request_waker(req));
    atomic_fetch_add(&runs, 1);
    srv_response_stream(res, "text/event-stream", &stream);
}

static const struct srv_route routes[] = {
    {"GET", "/inline", get_plain, SRV_ROUTE_INLINE},
    {"GET", "/work", get_plain, 0},
    {"POST", "/json", get_json, 0},
    {"GET", "/large", get_large, 0},
    {"GET", "/nothing", get_nothing, 0},
    {"GET", "/park", get_park, 0},
    {"GET", "/stream", get_stream, 0},
    {0},
};
static const struct srv_route *const tables[] = {routes, NULL};

/* ---- the server ---- */

static void start(void)
{
    char *argv[] = {(char *)"elsd", (char *)"--port", (char *)"0", NULL};
    struct els_error err;
    int exit_now;

    ck_assert_int_eq(srv_config_load(&config, 3, argv, &exit_now, &err), 0);
    server.config = &config;
    ck_assert_int_eq(srv_log_new(&server.log, "error", "text"), 0);
    atomic_store(&server.ready, true);
    atomic_store(&server.draining, false);
    atomic_store(&released, 0);
    atomic_store(&freed, 0);
    atomic_store(&runs, 0);
    atomic_store(&pings, 0);
    atomic_store(&gone_streams, 0);
    ck_assert_int_eq(srv_http_start(&http, &server, tables), 0);
}

static void stop(int grace_ms)
{
    atomic_store(&server.draining, true);
    http = srv_http_stop(http, grace_ms);
    wake_all(); /* wakers outlive their requests: waking them now does nothing */
    for (size_t i = 0; i < num_sleepers; i++)
        srv_waker_unref(sleepers[i]);
    num_sleepers = 0;
    server.log = srv_log_free(server.log);
    srv_config_deinit(&config);
}

/* Closes so that the server gets a reset, not an end. */
static void vanish(int fd)
{
    struct linger now = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

/* ---- tests ---- */

START_TEST(test_plain)
{
    start();
    assert_answer(ask("/inline"), "\r\n\r\nplain");
    assert_answer(ask("/work"), "\r\n\r\nplain");
    stop(1000);
}
END_TEST

START_TEST(test_a_forgotten_answer_is_500)
{
    int fd;

    start();
    fd = ask("/nothing");
    hear(fd, "\"code\":\"no_answer\"");
    close(fd);
    stop(1000);
}
END_TEST

START_TEST(test_woken)
{
    int fd;

    start();
    fd = ask("/park");
    await(&runs, 1);
    wake_all(); /* nothing has happened: it parks again */
    await(&runs, 2);
    atomic_store(&released, 1);
    wake_all();
    assert_answer(fd, "woken");
    await(&freed, 1);
    stop(1000);
    ck_assert_int_eq(atomic_load(&freed), 1);
}
END_TEST

START_TEST(test_woken_before_it_parks)
{
    start();
    assert_answer(ask("/park?early=1"), "woken");
    stop(1000);
    ck_assert_int_eq(atomic_load(&freed), 1);
}
END_TEST

START_TEST(test_times_out)
{
    start();
    assert_answer(ask("/park?ms=20"), "timed out");
    assert_answer(ask("/park?ms=0"), "timed out");
    stop(1000);
    ck_assert_int_eq(atomic_load(&freed), 2);
}
END_TEST

START_TEST(test_a_parked_client_that_vanishes)
{
    int fd;

    start();
    fd = ask("/park");
    await(&runs, 1);
    vanish(fd);
    await(&freed, 1);
    stop(1000);
    ck_assert_int_eq(atomic_load(&freed), 1);
}
END_TEST

START_TEST(test_a_client_that_vanishes_while_its_handler_runs)
{
    int fd;

    start();
    for (int i = 0; i < 2; i++) {
        int before = atomic_load(&runs);

        atomic_store(&held, i == 0);
        fd = ask("/park");
        await(&runs, before + 1);
        if (i == 1) { /* parked once, its socket is watched; then it runs again */
            atomic_store(&held, 1);
            do {
                wake_all();
                pause_ms(1);
            } while (atomic_load(&runs) == before + 1);
        }
        vanish(fd);
        pause_ms(20);
        atomic_store(&held, 0);
        await(&freed, i + 1);
    }
    stop(1000);
}
END_TEST

START_TEST(test_a_half_closed_client_still_gets_its_answer)
{
    int fd;

    start();
    fd = ask("/park");
    shutdown(fd, SHUT_WR);
    await(&runs, 1);
    atomic_store(&released, 1);
    wake_all();
    assert_answer(fd, "woken");
    stop(1000);
}
END_TEST

START_TEST(test_stream)
{
    int fd;

    start();
    fd = ask("/stream");
    await(&runs, 1);
    hear(fd, "\r\n\r\n");
    for (int i = 1; i <= 3; i++) {
        char line[32];

        atomic_store(&released, i);
        wake_all();
        snprintf(line, sizeof(line), "line %d\n", i);
        hear(fd, line);
    }
    hear(fd, NULL);
    close(fd);
    await(&gone_streams, 1);
    stop(1000);
    ck_assert_int_eq(atomic_load(&gone_streams), 1);
}
END_TEST

START_TEST(test_stream_notices_the_end_of_its_reader)
{
    int fd;

    start();
    for (int i = 0; i < 2; i++) {
        fd = ask("/stream");
        await(&runs, i + 1);
        hear(fd, "\r\n\r\n");
        if (i == 0)
            close(fd); /* an end: a ping must show that nobody reads */
        else
            vanish(fd);
        await(&gone_streams, i + 1);
    }
    stop(1000);
}
END_TEST

START_TEST(test_head_of_a_stream)
{
    int fd;

    start();
    fd = dial();
    say(fd, "HEAD /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    ck_assert_ptr_nonnull(strstr(hear(fd, NULL), "text/event-stream"));
    close(fd);
    await(&gone_streams, 1);
    stop(1000);
}
END_TEST

START_TEST(test_stop_tells_everybody)
{
    int parked, stream;

    start();
    parked = ask("/park");
    stream = ask("/stream");
    await(&runs, 2);
    hear(stream, "\r\n\r\n");
    stop(PATIENCE_MS);
    assert_answer(parked, "timed out");
    hear(stream, NULL);
    close(stream);
    ck_assert_int_eq(atomic_load(&freed), 1);
    ck_assert_int_eq(atomic_load(&gone_streams), 1);
}
END_TEST

START_TEST(test_stop_does_not_wait_for_ever)
{
    int slow, half, idle;

    start();
    idle = dial();
    half = dial();
    say(half, "GET /work HTT");
    slow = ask("/large"); /* and never reads it */
    hear(slow, "\r\n\r\n");
    stop(50);
    close(slow);
    close(half);
    close(idle);
}
END_TEST

START_TEST(test_not_ready_and_draining)
{
    int fd;

    start();
    atomic_store(&server.ready, false);
    assert_answer(ask("/inline"), "plain");
    fd = ask("/work");
    ck_assert_ptr_nonnull(strstr(hear(fd, "\"loading\""), "Retry-After: 1"));
    close(fd);
    atomic_store(&server.ready, true);
    atomic_store(&server.draining, true);
    fd = dial();
    say(fd, "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
    ck_assert_ptr_nonnull(strstr(hear(fd, NULL), "\"draining\"")); /* and the connection closes */
    close(fd);
    assert_answer(ask("/work"), "plain");
    stop(1000);
}
END_TEST

/* Clients of every kind, woken all the time, while the server stops: for the thread sanitizer most
 * of all. */
static atomic_bool churning;

static void *churn(void *arg)
{
    static const char *const paths[] = {"/park?ms=5", "/work", "/stream", "/park?early=1",
                                        "/inline"};
    unsigned kind = (unsigned)(size_t)arg;

    while (atomic_load(&churning)) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)srv_http_port(http)),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char text[512];
        struct pollfd p = {fd, POLLIN, 0};

        snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 paths[kind++ % (sizeof(paths) / sizeof(*paths))]);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
            send(fd, text, strlen(text), MSG_NOSIGNAL) > 0 && poll(&p, 1, 20) == 1)
            (void)!recv(fd, text, sizeof(text), 0);
        if (kind % 3)
            vanish(fd);
        else
            close(fd);
    }
    return NULL;
}

static void *wake_often(void *arg)
{
    while (atomic_load(&churning)) {
        wake_all();
        pause_ms(1);
    }
    return NULL;
}

START_TEST(test_churn)
{
    pthread_t clients[4], waker;

    start();
    atomic_store(&churning, true);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&clients[i], NULL, churn, (void *)i), 0);
    ck_assert_int_eq(pthread_create(&waker, NULL, wake_often, NULL), 0);
    await(&runs, 200);
    atomic_store(&churning, false);
    for (size_t i = 0; i < 4; i++)
        pthread_join(clients[i], NULL);
    pthread_join(waker, NULL);
    stop(200);
}
END_TEST

UNIT_MAIN("http", test_plain, test_a_forgotten_answer_is_500, test_woken,
          test_woken_before_it_parks, test_times_out, test_a_parked_client_that_vanishes,
          test_a_client_that_vanishes_while_its_handler_runs,
          test_a_half_closed_client_still_gets_its_answer, test_stream,
          test_stream_notices_the_end_of_its_reader, test_head_of_a_stream,
          test_stop_tells_everybody, test_stop_does_not_wait_for_ever, test_not_ready_and_draining,
          test_churn)
