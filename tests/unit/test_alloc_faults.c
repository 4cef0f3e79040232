/*
 * Memory that runs out: every allocation of our code, jansson and SQLite fails in turn while the
 * daemon, in this process and with all its threads, answers one request of each kind. The answer
 * must be whole: what it always is, or an error, or a closed connection; and the next request must
 * be served as if nothing had been.
 *
 * The ordinary run fails each seventh allocation, beginning with another one for each request;
 * with ELS_LONG=1 every single one; with ELS_SLOW=1 (valgrind) each hundredth or so.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "els/mem.h"
#include "failing.h"
#include "scratch.h"
#include "server/api/api_meta.h"
#include "server/banks/bank_loads.h"
#include "server/base/account.h"
#include "server/base/daemon.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/config/config.h"
#include "server/http/router.h"
#include "server/jobs/jobs.h"

enum { MAX_ANSWER = 1 << 22, MOST_ALLOCATIONS = 100000, PATIENCE_S = 1200 };

static const struct srv_route *const tables[] = {srv_meta_routes, srv_banks_routes, srv_bank_loads_routes,
                                                 srv_jobs_routes, NULL};

static struct srv_config config;
static struct srv_daemon server;
static struct srv_http *http;

#define BODY                                                                                       \
    "{\"bank\":\"two-tone\",\"machine\":\"els\",\"num_inference_steps\":3,\"scales\":3,\"seed\":5," \
    "\"outputs\":[\"image\",\"x0\",\"entropy\"]}"

struct request {
    const char *method, *path; /* "%s" stands for the id of a job that has succeeded */
    const char *headers, *body;
    bool same; /* the answer is always the same */
};

static const struct request requests[] = {
    {"POST", "/v1/samples", "", BODY, false},
    {"POST", "/v1/samples", "Accept: image/png\r\n", BODY, true},
    {"POST", "/v1/jobs", "Prefer: wait=60\r\nIdempotency-Key: one\r\n", BODY, true},
    {"POST", "/v1/jobs", "", "{\"num_images\":0,\"sacles\":4}", false},
    {"POST", "/v1/jobs", "", "{\"a\":", false},
    {"GET", "/v1/jobs/%s", "", NULL, true},
    {"GET", "/v1/jobs/%s", "Accept: application/vnd.safetensors\r\n", NULL, true},
    {"GET", "/v1/jobs?limit=1&status=failed", "", NULL, false},
    {"GET", "/v1/jobs/%s/images/0?zoom=2", "", NULL, true},
    {"GET", "/v1/jobs/%s/images/0/steps/1", "", NULL, true},
    {"GET", "/v1/jobs/%s/tensors?name=x0", "", NULL, true},
    {"GET", "/v1/jobs/%s/events", "", NULL, true},
    {"GET", "/v1/jobs/00000000000000000000000000000000", "", NULL, false},
    {"GET", "/v1/capabilities", "", NULL, true},
    {"GET", "/v1/banks", "", NULL, true},
    {"GET", "/v1/banks/two-tone/sheet", "", NULL, true},
    {"GET", "/v1/banks?available=true", "", NULL, true},
    {"POST", "/v1/banks/two-tone", "", "{\"file\":\"tiny.safetensors\"}", false},
    {"POST", "/v1/banks/nothing", "", "{}", false},
    {"DELETE", "/v1/banks/two-tone", "", NULL, false},
    {"GET", "/metrics", "", NULL, false},
    {"GET", "/readyz", "", NULL, false},
    {"DELETE", "/v1/jobs/00000000000000000000000000000000", "", NULL, false},
};

enum { NUM_REQUESTS = sizeof(requests) / sizeof(*requests) };

/* A bank of its own in a directory: that it is loaded and then refused costs nothing and can be repeated. */
static void make_bank_dir(void)
{
    struct els_bank_parts parts = {.name = "tiny", .shape = {1, 1, 1}, .num_images = 1, .dtype = ELS_U8, .images = "x"};
    struct els_bank *bank = NULL;

    scratch_make();
    ck_assert_int_eq(els_bank_new(&bank, &parts, NULL), 0);
    ck_assert_int_eq(els_bank_save(bank, at("tiny.safetensors"), NULL), 0);
    els_bank_unref(bank);
}

static void start(void)
{
    char program[] = "elsd", port[] = "--port=0", bank[] = "--bank=two-tone=two-tone", threads[] = "--threads=2";
    char folder_flag[] = "--bank-dir", *argv[] = {program, port, bank, threads, folder_flag, folder, NULL};
    struct els_error err = {0};
    int exit_now;

    make_bank_dir();
    ck_assert_msg(srv_config_load(&config, 6, argv, &exit_now, &err) == 0, "%s", err.message);
    server.config = &config;
    ck_assert_int_eq(srv_daemon_open_accounts(&server), 0);
    ck_assert_int_eq(srv_log_new(&server.log, "error", "text"), 0);
    ck_assert_int_eq(srv_metrics_new(&server.metrics), 0);
    ck_assert_int_eq(srv_routes_add_to_metrics(tables, server.metrics), 0);
    ck_assert_int_eq(srv_bank_memory_new(&server.bank_memory), 0);
    ck_assert_msg(srv_banks_new(&server.banks, &config, server.bank_memory, server.self, NULL, &err) == 0, "%s",
                  err.message);
    ck_assert_int_eq(srv_bank_loads_new(&server.bank_loads, &server), 0);
    ck_assert_msg(srv_jobs_new(&server.jobs, &server, &err) == 0, "%s", err.message);
    ck_assert_int_eq(srv_http_start(&http, &server, tables), 0);
    ck_assert_int_eq(srv_jobs_start(server.jobs), 0);
    atomic_store(&server.ready, true);
    /* The errors that are provoked here are not worth a line each. */
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr));
}

static void check_nothing_is_charged(void)
{
    struct srv_account_totals totals;

    srv_accounts_totals(server.accounts, &totals);
    for (int i = 0; i < SRV_CHARGE_COUNT; i++)
        ck_assert_msg(totals.held[i] == 0, "%lld bytes of %s are still charged", (long long)totals.held[i],
                      srv_charge_name((enum srv_charge_class)i));
}

static void stop(void)
{
    atomic_store(&server.draining, true);
    srv_jobs_drain(server.jobs);
    srv_bank_loads_drain(server.bank_loads);
    srv_http_stop(http, 5000);
    srv_jobs_free(server.jobs);
    srv_bank_loads_free(server.bank_loads);
    srv_banks_free(server.banks);
    srv_bank_memory_free(server.bank_memory);
    scratch_remove();
    srv_metrics_free(server.metrics);
    srv_log_free(server.log);
    check_nothing_is_charged();
    srv_daemon_close_accounts(&server);
    srv_config_deinit(&config);
}

/* An answer, taken apart in place. */
struct answer {
    char *bytes;
    size_t size;
    int status; /* 0: the connection was closed without one */
    const char *body;
    size_t body_size;
};

static int connect_to_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)srv_http_port(http)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* Until the server closes. The buffer is static: nothing here may be made to fail. */
static void receive(int fd, struct answer *a)
{
    static char bytes[MAX_ANSWER];
    ssize_t n;

    *a = (struct answer){.bytes = bytes};
    while ((n = recv(fd, bytes + a->size, sizeof(bytes) - 1 - a->size, 0)) > 0)
        a->size += (size_t)n;
    ck_assert_msg(n == 0 || a->size == 0, "no answer within %d s", PATIENCE_S);
    bytes[a->size] = '\0';
}

static void take_apart(struct answer *a)
{
    const char *end = strstr(a->bytes, "\r\n\r\n"), *length = strstr(a->bytes, "Content-Length: ");

    if (a->size == 0)
        return;
    ck_assert_msg(end && strncmp(a->bytes, "HTTP/1.1 ", 9) == 0, "half an answer: %s", a->bytes);
    a->status = (int)strtol(a->bytes + 9, NULL, 10);
    a->body = end + 4;
    a->body_size = a->size - (size_t)(a->body - a->bytes);
    if (length && length < end)
        ck_assert_uint_eq(strtoul(length + 16, NULL, 10), a->body_size);
}

static void ask(const struct request *r, const char *id, struct answer *a)
{
    char text[2048], path[256];
    const char *mark = strstr(r->path, "%s");
    int fd, n;

    snprintf(path, sizeof(path), "%.*s%s%s", mark ? (int)(mark - r->path) : (int)strlen(r->path), r->path,
             mark ? id : "", mark ? mark + 2 : "");
    n = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s",
                 r->method, path, r->headers, r->body ? strlen(r->body) : 0, r->body ? r->body : "");
    fd = connect_to_server();
    ck_assert_int_eq(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
    receive(fd, a);
    close(fd);
    take_apart(a);
}

/* Whole JSON, where it should be. */
static void check_json(const struct request *r, const struct answer *a)
{
    json_error_t error;
    json_t *json;

    if (!strstr(a->bytes, "Content-Type: application/json") && !strstr(a->bytes, "application/problem+json"))
        return;
    json = json_loadb(a->body, a->body_size, 0, &error);
    ck_assert_msg(json != NULL, "%s %s: %s: %s", r->method, r->path, error.text, a->body);
    ck_assert_msg(a->status < 400 || json_integer_value(json_object_get(json, "status")) == a->status, "%s", a->body);
    json_decref(json);
}

/* What was sent while memory was there, to compare with. */
struct expected {
    int status;
    char *body;
    size_t size;
};

static void check(const struct request *r, const struct expected *e, const struct answer *a, long nth)
{
    bool error = a->status == 0 || a->status == 500 || a->status == 503;

    ck_assert_msg(error || a->status == e->status || (a->status == 202 && (e->status == 200 || e->status == 409)),
                  "%s %s, allocation %ld: %d: %s", r->method, r->path, nth, a->status, a->body);
    if (a->status)
        check_json(r, a);
    if (r->same && a->status == e->status)
        ck_assert_msg(a->body_size == e->size && memcmp(a->body, e->body, e->size) == 0,
                      "%s %s, allocation %ld: another answer: %.600s", r->method, r->path, nth, a->body);
}

/* A job that has succeeded. */
static void make_job(char id[64])
{
    struct answer a;
    json_t *json;

    ask(&requests[0], "", &a);
    ck_assert_int_eq(a.status, 200);
    json = json_loadb(a.body, a.body_size, 0, NULL);
    snprintf(id, 64, "%s", json_string_value(json_object_get(json, "id")));
    json_decref(json);
}

static void expect(const struct request *r, const char *id, struct expected *e)
{
    struct answer a;

    ask(r, id, &a);
    ck_assert_msg(a.status > 0 && a.status < 500, "%s %s: %d %s", r->method, r->path, a.status, a.body);
    *e = (struct expected){.status = a.status, .body = malloc(a.body_size + 1), .size = a.body_size};
    memcpy(e->body, a.body, a.body_size);
}

/* Each request with each allocation failed. Returns how many were. */
static long fail_all(const struct request *r, const char *id, long first, long stride)
{
    struct expected e;
    struct answer a;
    long n, failed = 0;

    expect(r, id, &e);
    for (n = first; n < MOST_ALLOCATIONS; n += stride) {
        bool reached;

        failing_arm(n);
        ask(r, id, &a);
        reached = failing_disarm();
        check(r, &e, &a, n);
        if (!reached)
            break;
        failed++;
    }
    ck_assert_int_lt(n, MOST_ALLOCATIONS);
    ask(r, id, &a);
    check(r, &e, &a, -1);
    ck_assert_msg(a.status == e.status, "%s %s afterwards: %d: %s", r->method, r->path, a.status, a.body);
    free(e.body);
    return failed;
}

START_TEST(test_every_request)
{
    long stride = getenv("ELS_SLOW") ? 101 : getenv("ELS_LONG") ? 1 : 7, failed = 0;
    char id[64];

    failing_spared = true;
    start();
    make_job(id);
    for (int i = 0; i < NUM_REQUESTS; i++)
        failed += fail_all(&requests[i], id, 1 + i % stride, stride);
    printf("%ld allocations failed\n", failed);
    ck_assert_int_gt(failed, 700 / stride);
    stop();
}
END_TEST

static int run(void)
{
    const TTest *const tests[] = {test_every_request};

    return unit_run("alloc_faults", tests, 1);
}

int main(void)
{
    failing_init();
    return run();
}
