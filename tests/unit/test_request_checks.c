/*
 * The checks of a request's head: what may go on, what is refused with which status.
 */
#include "unit.h"

#include <stdarg.h>
#include <string.h>

#include "server/http/request_checks.h"

static const struct srv_policy closed = {"", ""};
static const struct srv_policy proxied = {"els.example, Other.Example", "https://notebook.example"};

static struct srv_verdict verdict;

/* Checks a head given as name, value, …, NULL. Returns 0 when it may go on, else the status. */
__attribute__((sentinel)) static int check(const struct srv_policy *policy, const char *version,
                                           ...)
{
    struct srv_request_checks checks = {0};
    const char *name;
    va_list ap;

    va_start(ap, version);
    while ((name = va_arg(ap, const char *)))
        srv_request_check_field(&checks, name, va_arg(ap, const char *));
    va_end(ap);
    verdict = (struct srv_verdict){0};
    return srv_request_check(&checks, version, policy, &verdict) ? 0 : verdict.status;
}

#define OWN "Host", "127.0.0.1:8080"
#define ONE "HTTP/1.1"

START_TEST(test_ordinary_heads)
{
    ck_assert_int_eq(check(&closed, ONE, OWN, NULL), 0);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Content-Length", "0", NULL), 0);
    ck_assert_int_eq(check(&closed, ONE, OWN, "content-length", "12", "X-Odd!#", "", NULL), 0);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Transfer-Encoding", "Chunked", NULL), 0);
    ck_assert_int_eq(check(&closed, "HTTP/1.0", "Accept", "*/*", NULL), 0);
}
END_TEST

START_TEST(test_doubtful_lengths)
{
    ck_assert_int_eq(check(&closed, ONE, OWN, "Content-Length", "5", "content-length", "5", NULL),
                     400);
    ck_assert_int_eq(
        check(&closed, ONE, OWN, "Content-Length", "5", "Transfer-Encoding", "chunked", NULL), 400);
    ck_assert_str_eq(verdict.code, "bad_framing");
    ck_assert_int_eq(check(&closed, ONE, OWN, "Content-Length", "5, 5", NULL), 400);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Content-Length", "-5", NULL), 400);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Content-Length", "+5", NULL), 400);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Content-Length", "0x5", NULL), 400);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Content-Length", "", NULL), 400);
}
END_TEST

START_TEST(test_other_codings)
{
    static const char *const codings[] = {"gzip",     "identity",         "gzip, chunked",
                                          "chunked,", "chunked, chunked", "",
                                          "xchunked", "chunked;a=b"};

    for (size_t i = 0; i < sizeof(codings) / sizeof(*codings); i++)
        ck_assert_msg(check(&closed, ONE, OWN, "Transfer-Encoding", codings[i], NULL) == 400, "%s",
                      codings[i]);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Transfer-Encoding", "chunked", "Transfer-Encoding",
                           "chunked", NULL),
                     400);
    ck_assert_int_eq(check(&closed, "HTTP/1.0", OWN, "Transfer-Encoding", "chunked", NULL), 400);
}
END_TEST

START_TEST(test_names_are_tokens)
{
    static const char *const names[] = {"Bad Name", "Name ", "",    "Na:me", "N\xc3\xa4me",
                                        "a\tb",     "(x)",   "a/b", "a=b"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        ck_assert_msg(check(&closed, ONE, OWN, names[i], "1", NULL) == 400, "%s", names[i]);
}
END_TEST

START_TEST(test_hosts)
{
    static const char *const own[] = {"127.0.0.1",    "127.0.0.1:8080", "localhost:1",
                                      "LOCALHOST",    "localhost.",     "a.localhost",
                                      "[::1]:8080",   "[::1]",          "192.168.1.7:8080",
                                      "[fe80::1]:80", "localhost:"};
    static const char *const foreign[] = {
        "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
        ".localhost",   "xlocalhost",        "els.example.evil"};
    static const char *const bad[] = {"", ":80", "a:b", "[::1", "[::1]x", "a:1:2", "localhost:80/"};

    for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
        ck_assert_msg(check(&closed, ONE, "Host", own[i], NULL) == 0, "%s", own[i]);
    for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++)
        ck_assert_msg(check(&proxied, ONE, "Host", foreign[i], NULL) == 403, "%s", foreign[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ck_assert_msg(check(&closed, ONE, "Host", bad[i], NULL) == 400, "%s", bad[i]);
    ck_assert_int_eq(check(&closed, ONE, NULL, NULL), 400);
    ck_assert_int_eq(check(&closed, ONE, OWN, OWN, NULL), 400);
    ck_assert_int_eq(check(&closed, ONE, "Host", "els.example", NULL), 403);
    ck_assert_int_eq(check(&proxied, ONE, "Host", "els.example", NULL), 0);
    ck_assert_int_eq(check(&proxied, ONE, "Host", "other.example:443", NULL), 0);
}
END_TEST

START_TEST(test_long_hosts)
{
    char host[600];

    memset(host, 'a', sizeof(host) - 1);
    host[sizeof(host) - 1] = '\0';
    ck_assert_int_eq(check(&closed, ONE, "Host", host, NULL), 400);
    host[255] = '\0';
    ck_assert_int_eq(check(&closed, ONE, "Host", host, NULL), 403);
}
END_TEST

START_TEST(test_origins)
{
    ck_assert_int_eq(check(&closed, ONE, OWN, "Origin", "http://127.0.0.1:8080", NULL), 0);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Origin", "https://127.0.0.1:8080", NULL), 0);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Origin", "http://127.0.0.1:9090", NULL), 403);
    ck_assert_str_eq(verdict.code, "foreign_origin");
    ck_assert_int_eq(check(&closed, ONE, OWN, "Origin", "http://localhost:8080", NULL), 403);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Origin", "null", NULL), 403);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Origin", "", NULL), 403);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Origin", "ftp://127.0.0.1:8080", NULL), 403);
    ck_assert_int_eq(check(&closed, ONE, OWN, "Origin", "https://notebook.example", NULL), 403);
    ck_assert_int_eq(check(&proxied, ONE, OWN, "Origin", "https://notebook.example", NULL), 0);
    ck_assert_int_eq(check(&proxied, ONE, OWN, "Origin", "http://notebook.example", NULL), 403);
    ck_assert_int_eq(check(&proxied, ONE, OWN, "Origin", "https://notebook.example", "Origin",
                           "https://notebook.example", NULL),
                     400);
    ck_assert(srv_request_is_cors(&proxied, "https://notebook.example"));
    ck_assert(!srv_request_is_cors(&proxied, "https://notebook"));
    ck_assert(!srv_request_is_cors(&proxied, NULL));
    ck_assert(!srv_request_is_cors(&closed, ""));
}
END_TEST

UNIT_MAIN("request_checks", test_ordinary_heads, test_doubtful_lengths, test_other_codings,
          test_names_are_tokens, test_hosts, test_long_hosts, test_origins)
