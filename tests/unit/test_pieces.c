/*
 * Answers in pieces from inside: a source that fails, clients that leave while a piece is read, and the end of the
 * server meanwhile. The sockets are real. What the daemon sends so is in tests/service/test_answers.py.
 */
#include "http_client.h"

#include <errno.h>
#include <pthread.h>

#include "server/base/account.h"
#include "server/base/daemon.h"
#include "server/base/log.h"
#include "server/config/config.h"

static struct srv_config config;
static struct srv_daemon server;

/* What the handlers and the tests share. */
static atomic_int freed, runs, held;

/* ---- handlers ---- */

static void answer_text(struct srv_response *res, const char *text)
{
    srv_response_static(res, 200, "text/plain", text, strlen(text));
}

static void get_plain(struct srv_request *req, struct srv_response *res)
{
    answer_text(res, "plain");
}

static void note_freed(void *state)
{
    free(state);
    atomic_fetch_add(&freed, 1);
}

/* A body of 1 MiB in which byte i is i / 7; the source cannot read beyond `fail_at`, and waits while `held`. */
enum { PIECES = 1 << 20 };
static atomic_int fail_at, fetches;

static int read_pattern(struct srv_source *source, uint64_t offset, void *out, size_t size, struct els_error *err)
{
    unsigned char *bytes = out;

    atomic_fetch_add(&fetches, 1);
    while (offset > 0 && atomic_load(&held))
        pause_ms(1);
    if (offset + size > (uint64_t)atomic_load(&fail_at))
        return els_fail(err, ELS_ENOENT, NULL, "The bytes are gone.");
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)((offset + i) / 7);
    return 0;
}

static void get_pieces(struct srv_request *req, struct srv_response *res)
{
    struct srv_source source = {.read = read_pattern, .free = note_freed, .user = strdup("user")};
    struct els_error err = {0};

    atomic_fetch_add(&runs, 1);
    if (srv_response_pieces(res, 200, "application/octet-stream", PIECES, &source, &err) < 0)
        srv_problem(res, 410, "gone", "%s", err.message);
}

static const struct srv_route routes[] = {
    {"GET", "/work", get_plain, 0},
    {"GET", "/pieces", get_pieces, 0},
    {0},
};
static const struct srv_route *const tables[] = {routes, NULL};

/* ---- the server ---- */

static void start(void)
{
    char *argv[] = {(char *)"elsd", (char *)"--port", (char *)"0", NULL};
    struct srv_account_limits limits = {.bytes = {1 << 30, 1 << 30}, .percent_per_key = 50, .percent_per_address = 50};
    struct els_error err;
    int exit_now;

    ck_assert_int_eq(srv_config_load(&config, 3, argv, &exit_now, &err), 0);
    server.config = &config;
    ck_assert_int_eq(srv_log_new(&server.log, "error", "text"), 0);
    atomic_store(&server.ready, true);
    atomic_store(&server.draining, false);
    atomic_store(&freed, 0);
    atomic_store(&runs, 0);
    atomic_store(&fetches, 0);
    atomic_store(&fail_at, PIECES);
    ck_assert_int_eq(srv_accounts_new(&server.accounts, &limits), 0);
    ck_assert_int_eq(srv_http_start(&http, &server, tables), 0);
}

/* Everything that was charged must have been given back. */
static void stop(int grace_ms)
{
    struct srv_account_totals totals;

    atomic_store(&server.draining, true);
    http = srv_http_stop(http, grace_ms);
    server.log = srv_log_free(server.log);
    srv_accounts_totals(server.accounts, &totals);
    for (int i = 0; i < SRV_CHARGE_COUNT; i++)
        ck_assert_msg(totals.held[i] == 0, "%s are still charged", srv_charge_name((enum srv_charge_class)i));
    server.accounts = srv_accounts_free(server.accounts);
    srv_config_deinit(&config);
}

/* Reads an answer of /pieces to its end: how many bytes of the body came, each checked. */
static size_t hear_pieces(int fd)
{
    unsigned char bytes[4096];
    size_t head = 0, body = 0, wrong = 0;
    ssize_t n;

    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
        for (ssize_t i = 0; i < n; i++) {
            if (head < 4) {
                head = bytes[i] == (head % 2 ? '\n' : '\r') ? head + 1 : 0;
            } else {
                wrong += bytes[i] != (unsigned char)(body / 7);
                body++;
            }
        }
    ck_assert_msg(wrong == 0, "%zu of %zu bytes are wrong", wrong, body);
    close(fd);
    return body;
}

/* Closes so that the server gets a reset, not an end. */
static void vanish(int fd)
{
    struct linger now = {1, 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

/* ---- tests ---- */

START_TEST(test_pieces)
{
    int fd;

    start();
    ck_assert_uint_eq(hear_pieces(ask("/pieces")), PIECES);
    ck_assert_int_eq(atomic_load(&fetches), 8);
    fd = dial();
    say(fd, "HEAD /pieces HTTP/1.1\r\nHost: localhost\r\n\r\nGET /work HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(fd, "\r\n\r\nplain");
    close(fd);
    ck_assert_int_eq(atomic_load(&fetches), 8);
    await(&freed, 2);
    stop(1000);
}
END_TEST

START_TEST(test_a_first_piece_that_fails_is_a_problem)
{
    int fd;

    start();
    atomic_store(&fail_at, 0);
    fd = ask("/pieces");
    ck_assert(strstr(hear(fd, NULL), "The bytes are gone."));
    close(fd);
    await(&freed, 1);
    stop(1000);
}
END_TEST

START_TEST(test_a_later_piece_that_fails_ends_the_connection)
{
    size_t body;

    start();
    atomic_store(&fail_at, PIECES / 2);
    body = hear_pieces(ask("/pieces"));
    ck_assert_msg(body == PIECES / 2, "%zu", body);
    await(&freed, 1);
    assert_answer(ask("/work"), "\r\n\r\nplain");
    stop(1000);
}
END_TEST

START_TEST(test_who_leaves_while_a_piece_is_read)
{
    start();
    atomic_store(&held, 1);
    for (int i = 0; i < 2; i++) {
        int fd = ask("/pieces");

        await(&fetches, 2 * (i + 1)); /* the second piece is being read */
        if (i == 0)
            vanish(fd);
        else
            close(fd);
    }
    assert_answer(ask("/work"), "\r\n\r\nplain");
    atomic_store(&held, 0);
    await(&freed, 2);
    stop(1000);
}
END_TEST

/* The server ends with a piece being read and with answers that nobody reads. */
START_TEST(test_the_end_while_pieces_are_under_way)
{
    int fds[4];

    start();
    for (int i = 0; i < 4; i++) {
        int size = 4096;

        fds[i] = dial();
        setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        say(fds[i], "GET /pieces HTTP/1.1\r\nHost: localhost\r\n\r\n");
        await(&runs, i + 1);
    }
    stop(0);
    ck_assert_int_eq(atomic_load(&freed), 4);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
}
END_TEST

UNIT_MAIN("pieces", test_pieces, test_a_first_piece_that_fails_is_a_problem,
          test_a_later_piece_that_fails_ends_the_connection, test_who_leaves_while_a_piece_is_read,
          test_the_end_while_pieces_are_under_way)
