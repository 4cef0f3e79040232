/*
 * The strict reader by itself: what comes out of what goes in, however it is cut into pieces. What
 * the daemon answers is in tests/service/test_smuggling.py.
 */
#include "unit.h"

#include <string.h>

#include "server/http/wire.h"

enum { ROOM = 1 << 20 };

static char out[ROOM], again[ROOM];

/* Feeds the text in pieces of `in` bytes to a reader with `room` bytes at a time. */
static size_t feed(struct srv_wire *wire, const char *text, size_t n, size_t in, size_t room,
                   char *to)
{
    size_t at = 0, made = 0, used, got;

    *wire = (struct srv_wire){0};
    while (at < n) {
        got = srv_wire_feed(wire, text + at, n - at < in ? n - at : in, &used, to + made, room);
        ck_assert(used > 0 || got > 0);
        at += used;
        made += got;
    }
    while ((got = srv_wire_feed(wire, NULL, 0, &used, to + made, room)))
        made += got;
    to[made] = '\0';
    return made;
}

/* The same for every way to cut it. */
static void assert_out(const char *text, const char *expected, int status)
{
    static const size_t sizes[] = {ROOM, 1, 2, 3, 7, 64};
    size_t n = strlen(text);

    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < 6; j++) {
            struct srv_wire wire;
            const struct srv_verdict *why;

            feed(&wire, text, n, sizes[i], sizes[j], again);
            why = srv_wire_refusal(&wire, wire.requests);
            ck_assert_msg(strcmp(again, expected) == 0, "%s\ngives\n%s\nnot\n%s", text, again,
                          expected);
            ck_assert_msg((why ? why->status : 0) == status, "%s: %s", text,
                          why ? why->detail : "passed");
            srv_wire_deinit(&wire);
        }
}

#define GET "GET / HTTP/1.1\r\nHost:x\r\n\r\n"
#define STAND_IN "<refused> * HTTP/1.1\r\nHost:x\r\nContent-Length:1\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nHost:x\r\nTransfer-Encoding:chunked\r\n\r\n"

START_TEST(test_canonical)
{
    assert_out(GET, GET, 0);
    assert_out(GET GET GET, GET GET GET, 0);
    assert_out("\r\n\r\n" GET "\r\n" GET, GET GET, 0);
    assert_out("GET / HTTP/1.1\r\nHost: \t x \t \r\nCookie: a=b\r\nA:\r\nB:  "
               "\r\ncookie:c\r\nCookies: d e\r\n\r\n",
               "GET / HTTP/1.1\r\nHost:x\r\nA:\r\nB:\r\nCookies:d e\r\n\r\n", 0);
    assert_out("GET /a?b=c?d&e HTTP/1.0\r\n\r\n",
               "GET /a\x01"
               "b=c?d&e HTTP/1.0\r\n\r\n",
               0);
    assert_out("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nab\ncd" GET,
               "POST / HTTP/1.0\r\nContent-Length:5\r\n\r\nab\ncd" GET, 0);
    assert_out(
        "POST / HTTP/1.0\r\nContent-Length: "
        "00000000000000000000000000000000000000000000003\r\n\r\nabc" GET,
        "POST / "
        "HTTP/1.0\r\nContent-Length:00000000000000000000000000000000000000000000003\r\n\r\nabc" GET,
        0);
    assert_out(POST "1\r\na\r\n00A;x=\"y\"\r\n0123456789\r\n0;z\r\nTrailer: t\r\n\r\n" GET,
               POST "1\r\na\r\na\r\n0123456789\r\n0\r\n\r\n" GET, 0);
}
END_TEST

START_TEST(test_refused_heads)
{
    static const char *const heads[] = {
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n 9\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\r\n\r\n",
        "\n" GET,
        "\r" GET,
        "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\x7f\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "<refused> / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / http/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/11\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    };

    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        char behind[1024];

        assert_out(heads[i], STAND_IN, 400);
        snprintf(behind, sizeof(behind), "%s%s%s", GET GET, heads[i], GET);
        assert_out(behind, GET GET STAND_IN, 400);
    }
    assert_out("GET / HTTP/2.0\r\n\r\n", STAND_IN, 505);
    assert_out("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
               STAND_IN, 413);
}
END_TEST

START_TEST(test_nul)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\0.evil.example\r\n\r\n";
    struct srv_wire wire;

    feed(&wire, text, sizeof(text) - 1, ROOM, ROOM, out);
    ck_assert_str_eq(out, STAND_IN);
    ck_assert_int_eq(srv_wire_refusal(&wire, 1)->status, 400);
    ck_assert_ptr_null(srv_wire_refusal(&wire, 2));
    srv_wire_deinit(&wire);
}
END_TEST

START_TEST(test_refused_chunks)
{
    /* What passed before the fault stays; then a byte that stands for it. */
    assert_out(POST "2\n{}\r\n0\r\n\r\n" GET, POST "1\r\n!", 400);
    assert_out(POST "2;foo\n{}\r\n0\r\n\r\n" GET, POST "1\r\n!", 400);
    assert_out(POST "2\r{}\r\n0\r\n\r\n" GET, POST "1\r\n!", 400);
    assert_out(POST "\r\n" GET, POST "1\r\n!", 400);
    assert_out(POST " 2\r\n{}" GET, POST "1\r\n!", 400);
    assert_out(POST "10000000000000000\r\n" GET, POST "1\r\n!", 400);
    assert_out(POST "2\r\n{}\n" GET, POST "2\r\n{}\r\n1\r\n!", 400);
    assert_out(POST "2\r\n{}}" GET, POST "2\r\n{}\r\n1\r\n!", 400);
    assert_out(POST "2\r\n{}\r\nx\r\n" GET, POST "2\r\n{}\r\n1\r\n!", 400);
    assert_out(POST "0\r\n a\r\n\r\n" GET, POST "1\r\n!", 400);
    assert_out(POST "0\r\nA: b\n\r\n" GET, POST "1\r\n!", 400);
    assert_out(POST "0\n\r\n" GET, POST "1\r\n!", 400);
}
END_TEST

/* As many repetitions as are needed to pass a limit, and what the reader then says. */
static void assert_limit(const char *before, const char *one, size_t most, const char *code,
                         const char *after)
{
    for (size_t count = most; count <= most + 1; count++) {
        struct srv_wire wire;
        const struct srv_verdict *why;
        size_t n = (size_t)snprintf(out, ROOM, "%s", before);

        for (size_t i = 0; i < count; i++)
            n += (size_t)snprintf(out + n, ROOM - n, "%s", one);
        n += (size_t)snprintf(out + n, ROOM - n, "%s", after);
        feed(&wire, out, n, ROOM, ROOM, again);
        why = srv_wire_refusal(&wire, 1);
        ck_assert_msg((count > most) == (why != NULL), "%zu %s", count, why ? why->detail : "pass");
        if (why)
            ck_assert_str_eq(why->code, code);
        srv_wire_deinit(&wire);
    }
}

START_TEST(test_limits)
{
    assert_limit("GET / HTTP/1.1\r\nHost: x\r\n", "A: b\r\n", SRV_WIRE_FIELDS - 1,
                 "too_many_headers", "\r\n");
    assert_limit("GET /?", "a&", SRV_WIRE_ARGUMENTS - 1, "too_many_arguments",
                 " HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_limit("GET / HTTP/1.1\r\nHost: x\r\nA: ", "b", SRV_WIRE_HEAD - 16 - 9 - 3 - 4,
                 "head_too_large", "\r\n\r\n");
    assert_limit("GET /", "a", SRV_WIRE_HEAD - 5 - 11 - 9 - 2, "head_too_large",
                 " HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_limit(POST "1;", "a", SRV_WIRE_CHUNK_LINE - 3, "bad_framing", "\r\n!\r\n0\r\n\r\n");
    assert_limit(POST "0\r\n", "A: b\r\n", SRV_WIRE_TRAILERS / 6, "head_too_large", "\r\n");
    assert_limit("", "\r\n", SRV_WIRE_FIELDS, "bad_framing", GET);
}
END_TEST

START_TEST(test_has_begun)
{
    struct srv_wire wire;

    feed(&wire, "GET / HTTP/1.1\r", 15, ROOM, ROOM, out);
    ck_assert(!srv_wire_has_begun(&wire));
    srv_wire_deinit(&wire);
    feed(&wire, "GET / HTTP/1.1\r\nA", 17, ROOM, ROOM, out);
    ck_assert(srv_wire_has_begun(&wire));
    srv_wire_deinit(&wire);
    feed(&wire, GET, strlen(GET), ROOM, ROOM, out);
    ck_assert(!srv_wire_has_begun(&wire) && wire.requests == 1);
    srv_wire_deinit(&wire);
}
END_TEST

START_TEST(test_direct)
{
    static const char head[] = "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n";
    struct srv_wire wire;

    feed(&wire, head, sizeof(head) - 1, ROOM, ROOM, out);
    ck_assert_uint_eq(srv_wire_direct(&wire), 5);
    srv_wire_passed(&wire, 3);
    ck_assert_uint_eq(srv_wire_direct(&wire), 2);
    srv_wire_passed(&wire, 2);
    ck_assert_uint_eq(srv_wire_direct(&wire), 0);
    ck_assert_int_eq(wire.state, SRV_WIRE_IN_HEAD);
    srv_wire_deinit(&wire);
}
END_TEST

UNIT_MAIN("wire", test_canonical, test_refused_heads, test_nul, test_refused_chunks, test_limits,
          test_has_begun, test_direct)
