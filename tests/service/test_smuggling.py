"""Requests in which two readers could see different things: each is answered 400 and ends its connection, before
anything is done, whether it comes first, later, or right behind another. Then heads that are too large, and bodies in a
coding that nobody here reads.
"""
import json
import time

import pytest

from daemon import QUICK, wait_until
from test_http import HEALTH, JOB, chunked, dial, no_job, quick, request

assert no_job  # a fixture


def post(*lines, body=b""):
    """A request whose header lines are bytes, taken as they are."""
    return b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n" + b"".join(lines) + b"\r\n" + body


LENGTH = b"Content-Length: %d\r\n" % len(quick())

# name: the head of a request, with the body that one reader would see
HEADS = {
    "folded length": post(b"Content-Length:\r\n 9\r\n", body=JOB),
    "folded with a tab": post(LENGTH, b"A: b\r\n\tc\r\n", body=quick()),
    "folded at once": b"POST /v1/jobs HTTP/1.1\r\n Host: localhost\r\n" + LENGTH + b"\r\n" + quick(),
    "folded empty": post(LENGTH, b"A:\r\n \r\n", body=quick()),
    "NUL in a value": post(LENGTH, b"A: b\0c\r\n", body=quick()),
    "NUL in Host": (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\0.evil.example\r\n" + LENGTH + b"\r\n" + quick()),
    "NUL in a name": post(LENGTH, b"A\0b: c\r\n", body=quick()),
    "NUL in the target": b"POST /v1/jobs\0/x HTTP/1.1\r\nHost: localhost\r\n" + LENGTH + b"\r\n" + quick(),
    "NUL first": b"\0" + JOB,
    "bare LF": post(LENGTH, b"A: b\n", body=quick()),
    "bare LF after the first line": JOB.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
    "bare LF at the end": post(LENGTH, b"\n", body=quick()),
    "bare LF throughout": JOB.replace(b"\r\n", b"\n"),
    "bare CR in a value": post(LENGTH, b"A: b\rc: d\r\n", body=quick()),
    "bare CR at a line's end": post(LENGTH, b"A: b\r", body=quick()),
    "two CR": post(LENGTH, b"A: b\r\r\n", body=quick()),
    "empty name": post(LENGTH, b": b\r\n", body=quick()),
    "blank name": post(LENGTH, b"\x0b: b\r\n", body=quick()),
    "space before the colon": post(LENGTH, b"A : b\r\n", body=quick()),
    "space in a name": post(LENGTH, b"A b: c\r\n", body=quick()),
    "no colon": post(LENGTH, b"A\r\n", body=quick()),
    "control byte": post(LENGTH, b"A: \x01\r\n", body=quick()),
    "DEL": post(LENGTH, b"A: \x7f\r\n", body=quick()),
    "two spaces": JOB.replace(b"POST ", b"POST  "),
    "tab for a space": JOB.replace(b"POST ", b"POST\t"),
    "space at the end of the line": JOB.replace(b"HTTP/1.1\r\n", b"HTTP/1.1 \r\n"),
    "method with a colon": JOB.replace(b"POST", b"PO:ST"),
    "length with a sign": post(b"Content-Length: +9\r\n", body=quick()),
    "length of many digits": post(b"Content-Length: " + b"0" * 70 + b"9\r\n", b"Content-Length: 0\r\n", body=quick()),
}

CHUNKED = b"Transfer-Encoding: chunked\r\n"

# name: what follows a head that announces chunks
CHUNKS = {
    "bare LF after the size": b"2\n{}\r\n0\r\n\r\n",
    "bare LF after an extension": b"2;foo\n{}\r\n0\r\n\r\n",
    "bare CR after the size": b"2\r{}\r\n0\r\n\r\n",
    "bare LF after a chunk": b"2\r\n{}\n0\r\n\r\n",
    "NUL in an extension": b"2;a\0b\r\n{}\r\n0\r\n\r\n",
    "long extension": b"2;" + b"a" * 5000 + b"\r\n{}\r\n0\r\n\r\n",
    "space before the size": b" 2\r\n{}\r\n0\r\n\r\n",
    "space after the size": b"2 \r\n{}\r\n0\r\n\r\n",
    "0x": b"0x2\r\n{}\r\n0\r\n\r\n",
    "sign": b"+2\r\n{}\r\n0\r\n\r\n",
    "no size": b"\r\n{}\r\n0\r\n\r\n",
    "17 digits": b"00000000000000002\r\n{}\r\n0\r\n\r\n",
    "longer than its size": b"2\r\n{}}\r\n0\r\n\r\n",
    "bare LF at the end": b"2\r\n{}\r\n0\r\n\n",
    "bare LF after the last": b"2\r\n{}\r\n0\n\r\n",
    "folded trailer": b"2\r\n{}\r\n0\r\nA: b\r\n c\r\n\r\n",
    "trailer without a name": b"2\r\n{}\r\n0\r\n: b\r\n\r\n",
}

MALFORMED = HEADS | {f"chunks: {name}": post(CHUNKED, body=body) for name, body in CHUNKS.items()}


@pytest.mark.parametrize("name", MALFORMED)
def test_it_is_refused_first_and_later(elsd, no_job, name):
    for before in (0, 1, 3):
        with dial(elsd) as wire:
            for _ in range(before):
                wire.send(HEALTH)
                assert wire.answer().status == 200
            wire.send(MALFORMED[name], JOB)
            wire.refusal(400, "bad_framing")


@pytest.mark.parametrize("name", MALFORMED)
def test_it_is_refused_behind_others(elsd, no_job, name):
    """Those before it are answered, in order; those after it are not looked at."""
    with dial(elsd) as wire:
        wire.send(HEALTH, request("GET", "/v1/banks/two-tone"), HEALTH, MALFORMED[name], JOB, JOB)
        for _ in range(3):
            assert wire.answer().status == 200
        wire.refusal(400, "bad_framing")


@pytest.mark.parametrize("name", ["folded length", "bare LF", "chunks: bare LF after the size", "chunks: folded trailer"])
def test_it_is_refused_byte_by_byte(elsd, no_job, name):
    with dial(elsd) as wire:
        try:
            for byte in MALFORMED[name]:
                wire.send(bytes([byte]))
                time.sleep(0.0005)
        except OSError:
            pass
        wire.refusal(400, "bad_framing")


def test_no_handler_has_begun(elsd):
    """Not even one that would run before its body is whole: nothing is logged for the route."""
    before = elsd.log().count("route=/v1/jobs ")
    with dial(elsd) as wire:
        wire.send(post(CHUNKED, body=chunked(quick())[:-5] + b"0\n\r\n"))
        wire.refusal(400, "bad_framing")
    with dial(elsd) as wire:
        wire.send(HEADS["folded length"])
        wire.refusal(400, "bad_framing")
    assert " 202 " not in elsd.log() and "status=202" not in elsd.log()[before:]


# ---- what is well formed still passes ----

@pytest.mark.parametrize("text", [
    post(LENGTH, b"A:b\r\n", b"B: \t c \t \r\n", b"C:\r\n", "D: ü\r\n".encode(), body=quick()),
    post(CHUNKED, body=b"%X;name=value;x=\"y\"\r\n" % len(quick()) + quick() + b"\r\n000\r\nTrailer: x\r\nB: c\r\n\r\n"),
    b"\r\n\r\n" + JOB, JOB + b"\r\n",
    post(LENGTH, b"Content-Encoding: identity\r\n", body=quick()), post(LENGTH, b"Content-Encoding:\r\n", body=quick()),
    JOB.replace(b"/v1/jobs", b"http://localhost/v1/jobs"),
], ids=["blanks", "chunks with extensions", "empty lines before", "an empty line after", "identity", "no encoding", "absolute"])
def test_what_is_well_formed_passes(elsd, text):
    with dial(elsd) as wire:
        for _ in range(2):
            wire.send(text)
            assert wire.answer().status == 202
        wire.send(HEALTH)
        assert wire.answer().status == 200


# ---- too large a head ----

def memory(elsd):
    """KiB that are its own."""
    with open(f"/proc/{elsd.pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))


LARGE_HEADS = {
    "head": (request("GET", "/healthz", b"", "A: " + "b" * 17000), "head_too_large"),
    "line": (request("GET", "/" + "a" * 17000), "head_too_large"),
    "endless": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 300000, "head_too_large"),
    "headers": (request("GET", "/healthz", b"", *["A: b"] * 200), "too_many_headers"),
    "arguments": (request("GET", "/healthz?" + "a&" * 1000), "too_many_arguments"),
    "trailers": (post(CHUNKED, body=b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 2000), "head_too_large"),
}


@pytest.mark.parametrize("name", LARGE_HEADS)
def test_too_large_a_head_is_431_at_once(elsd, no_job, name):
    text, code = LARGE_HEADS[name]
    for before in (b"", HEALTH):
        with dial(elsd) as wire:
            try:
                wire.send(before, text)
            except OSError:
                pass  # it need not read all of this
            if before:
                assert wire.answer().status == 200
            wire.refusal(431, code)


@pytest.mark.parametrize("fields", [
    ["Cookie: " + "a=b; " * 2500], ["Cookie: a=b"] * 90, ["A: b"] * 90, ["A: " + "b" * 15200],
], ids=["one cookie header", "many cookie headers", "many headers", "one header"])
@pytest.mark.parametrize("target", ["/v1/banks", "/v1/banks?" + "a&" * 500], ids=["plain", "with a query"])
def test_a_head_within_the_limits_is_read(elsd, fields, target):
    """All that the limits allow at once still leaves the library room for the body and for its answer."""
    with dial(elsd) as wire:
        for _ in range(2):
            wire.send(request("GET", target, b"", *fields))
            assert wire.answer().status == 200
            wire.send(request("POST", target, b" " * 100000, *fields))
            assert wire.answer().status == 405


def test_heads_that_are_dropped_leave_nothing(start):
    """What is refused before anybody asked for a key costs nothing afterwards."""
    elsd = start(env={"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=1:thread_local_quarantine_size_kb=64"})
    texts = [LARGE_HEADS["arguments"][0], request("GET", "/x?" + "a&" * 500), LARGE_HEADS["headers"][0],
             request("GET", "/x", b"", "Cookie: " + "a=b; " * 2500), HEADS["folded length"]]

    def many(count):
        for number in range(count):
            with dial(elsd) as wire:
                try:
                    wire.send(texts[number % len(texts)])
                    wire.answer()
                except OSError:
                    pass
        wait_until("connections to end", lambda: not elsd.descriptors() - elsd.descriptors_at_start)
        return memory(elsd)

    many(100 * len(texts))
    before = many(100 * len(texts))
    requests = 300 * len(texts)
    grown = many(requests) - before
    print(f"{requests} requests left {grown} KiB")
    assert grown < 2 * requests, "a request that is never freed takes 8 KiB"


# ---- codings ----

@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, identity", "identity, gzip", "x-unknown", "deflate"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/samples", "/v1/denoise"])
def test_an_encoded_body_is_415(elsd, no_job, coding, path):
    problem = elsd.problem("POST", path, 415, "unsupported_encoding", data=quick(),
                           headers={"Content-Type": "application/json", "Content-Encoding": coding})
    assert coding in problem["detail"] and "identity" in problem["detail"]


def test_json_is_still_json(elsd):
    assert json.loads(JOB.split(b"\r\n\r\n")[1]) == QUICK
    elsd.serves()
