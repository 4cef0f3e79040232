"""Bare sockets: requests in pieces, in heaps, with two lengths, too slow, too large, and clients that leave in the middle.

What the HTTP layer does inside is in tests/unit/test_http.c; here the daemon is asked from outside, by what no HTTP
library would send.
"""
import contextlib
import http.client
import io
import json
import resource
import select
import socket
import struct
import time

import pytest

from daemon import PATIENCE, QUICK, Daemon, wait_until
from test_idle import cpu_of_threads
from test_jobs import SLOW as SLOW_JOB, cancel, running
from test_metrics import metrics

MANY = 500  # requests in one segment: more than one buffer of the daemon's holds


class Wire(io.BufferedReader):
    """Our end of a connection: what is sent goes out as it is, what comes is taken apart answer by answer."""

    def __init__(self, connection):
        super().__init__(socket.SocketIO(connection, "rb"))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection

    def makefile(self, *_):
        """So that HTTPResponse reads here, and leaves what follows its answer."""
        return self

    def close(self):
        """HTTPResponse closes what it has read; the connection is not over with one answer."""

    def send(self, *parts):
        self.connection.sendall(b"".join(parts))

    def answer(self, method="GET"):
        answer = http.client.HTTPResponse(self, method=method)
        answer.begin()
        answer.content = answer.read()
        return answer

    def refusal(self, status, code=None):
        """The last answer on this connection."""
        answer = self.answer()
        assert answer.status == status, (answer.status, answer.content)
        assert answer.headers["Connection"] == "close"
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = json.loads(answer.content)
        assert problem["status"] == status and code in (None, problem["code"])
        assert self.ended()
        return answer

    def ended(self):
        """The daemon has closed, and nothing more has come."""
        return self.read(1) == b""

    def hang_up(self, reset):
        """As a client that ends, or as one that is torn away."""
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


@contextlib.contextmanager
def dial(elsd):
    with elsd.raw() as connection:
        yield Wire(connection)


def request(method, path, body=b"", *fields):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def quick(**fields):
    return json.dumps(QUICK | fields).encode()


HEALTH = request("GET", "/healthz")
JOB = request("POST", "/v1/jobs", quick())


def accepted(elsd):
    return metrics(elsd)["els_jobs_accepted_total"][()]


@pytest.fixture
def no_job(elsd):
    """None was made of what the test sent."""
    before = accepted(elsd)
    yield
    assert accepted(elsd) == before


def place(answer):
    """Where an answer stands in the daemon's own count of requests."""
    return int(answer.headers["X-Request-Id"][8:], 16)


# ---- many requests in one segment ----

def mixed(number):
    """(request, its method, its status): every kind of route, told apart by the number in it."""
    kinds = [("GET", "/healthz", b"", 200), ("GET", f"/nothing/{number}", b"", 404), ("HEAD", "/v1/banks", b"", 200),
             ("GET", f"/v1/banks/none-{number}", b"", 404), ("POST", f"/v1/samples?{number}", b"[]", 422),
             ("PUT", f"/v1/banks/none-{number}", b"{}", 405), ("GET", "/v1/banks/two-tone/images/0", b"", 200)]
    method, path, body, status = kinds[number % len(kinds)]
    return request(method, path, body), method, status


@pytest.mark.parametrize("count", [2, MANY])
def test_requests_in_one_segment_are_answered_in_order(elsd, count):
    with dial(elsd) as wire:
        sent = [mixed(number) for number in range(1, count + 1)]
        wire.send(*(text for text, _, _ in sent))
        places = []
        for number, (text, method, status) in enumerate(sent, 1):
            answer = wire.answer(method)
            assert answer.status == status, (text, answer.content)
            if status in (404, 405):
                assert json.loads(answer.content)["instance"].endswith(str(number))
            places.append(place(answer))
        assert places == sorted(places)
        wire.send(HEALTH)
        assert wire.answer().status == 200, "the connection is as good as new"


def test_what_follows_a_request_that_waits_waits_too(elsd):
    job = running(elsd)
    with dial(elsd) as wire:
        wire.send(request("POST", "/v1/samples", quick(seed=3)), request("GET", f"/v1/jobs/{job['id']}/events"), HEALTH)
        assert not select.select([wire.connection], [], [], 0.5)[0]
        cancel(elsd, job)
        made = json.loads(wire.answer().content)
        assert made["status"] == "succeeded" and made["params"]["seed"] == 3
        assert b"event: cancelled" in wire.answer().content
        assert wire.answer().content == b'{"status":"ok"}'


def test_nothing_is_done_after_a_refusal(elsd, no_job):
    with dial(elsd) as wire:
        wire.send(HEALTH, request("GET", "/healthz", b"", "Host: localhost"), JOB)
        assert wire.answer().status == 200
        wire.refusal(400, "bad_framing")


# ---- in pieces ----

@pytest.mark.parametrize("text", [
    request("POST", "/v1/samples", quick()),
    request("POST", "/v1/samples", b"", "Transfer-Encoding: chunked") + chunked(quick()[:9], quick()[9:]),
    request("POST", "/v1/samples", b"", "Transfer-Encoding: chunked") + chunked(*(bytes([b]) for b in quick())),
], ids=["length", "two chunks", "a chunk for each byte"])
def test_one_byte_at_a_time(elsd, text):
    expected = elsd.sample()["result"]["images"]
    with dial(elsd) as wire:
        for byte in text:
            wire.send(bytes([byte]))
            time.sleep(0.0005)  # else they would arrive together after all
        made = json.loads(wire.answer().content)
        assert [i["sha256"] for i in made["result"]["images"]] == [i["sha256"] for i in expected]
        wire.send(HEALTH)
        assert wire.answer().status == 200


# ---- where a request ends: two opinions are one too many ----

@pytest.mark.parametrize("fields", [
    ["Content-Length: 5", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", "Content-Length: 5"],
    ["Content-Length: 5", "Content-Length: 500"],
    ["Content-Length: 500", "Content-Length: 5"],
    ["Content-Length: 5", "Content-Length: 5"],
    ["Content-Length: 0", "Content-Length: 5"],
    ["Transfer-Encoding: gzip"], ["Transfer-Encoding: identity"], ["Transfer-Encoding: chunked, identity"],
    ["Transfer-Encoding: gzip, chunked"], ["Transfer-Encoding: xchunked"], ["Transfer-Encoding:"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    ["Transfer-Encoding : chunked"], ["Content-Length : 5"], ["Content-Length\t: 5"], ["Content Length: 5"],
    ["Content-Length: 5", "Host: localhost"],
], ids=", ".join)
def test_a_doubtful_end_is_refused(elsd, no_job, fields):
    """Neither reading of where it ends lets what is hidden in it become a request."""
    with dial(elsd) as wire:
        wire.send(request("POST", "/v1/samples", b"", *fields), b"0\r\n\r\n", JOB, HEALTH)
        wire.refusal(400, "bad_framing")


def test_chunks_need_http_1_1(elsd, no_job):
    with dial(elsd) as wire:
        wire.send(request("POST", "/v1/samples", b"", "Transfer-Encoding: chunked").replace(b"1.1", b"1.0"),
                  chunked(b"{}"), JOB)
        wire.refusal(400, "bad_framing")


LENGTHS = ["5, 5", "+5", "-5", "0x5", "5 5", "", "9" * 30]
CHUNKS = [b"x\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"fffffffffffffffff\r\n{}",
          b"2\r\n{}}\r\n0\r\n\r\n", b"2{}\r\n0\r\n\r\n", b"\r\n\r\n"]


@pytest.mark.parametrize("text", [request("POST", "/v1/jobs", b"", f"Content-Length: {n}") + b"{}   " for n in LENGTHS] + [
    request("POST", "/v1/jobs", b"", "Transfer-Encoding: chunked") + body for body in CHUNKS
] + [
    HEALTH.replace(b"1.1", b"2.0"), HEALTH.replace(b"1.1", b"1"), HEALTH.replace(b"HTTP/1.1", b"http/1.1"),
    b"GET /healthz\r\n\r\n", b"GET\r\n\r\n", b" \r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    request("GET", "/" + "a" * 40000), request("GET", "/", b"", *["A: b"] * 10000), request("GET", "/", b"", "A: " + "b" * 40000),
    request("GET", "/", b"", "No colon"), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 20,
    bytes(100000), b"\n" * 100000, b"\xff" * 100000,
], ids=lambda text: ascii(text[-28:] if text.startswith(b"POST") else text[:24] + text[-14:])[2:-1])
def test_what_is_no_http_makes_nothing(elsd, no_job, text):
    """libmicrohttpd refuses it in words of its own, or just closes; what follows is not looked at."""
    with dial(elsd) as wire:
        heard = b""
        with contextlib.suppress(OSError):  # it need not read all of this
            wire.send(text, JOB)
            wire.connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while more := wire.connection.recv(65536):
                heard += more
    assert not heard or heard.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505", b"HTTP/1.0 4")), heard[:200]
    assert b"HTTP/1.1 2" not in heard
    elsd.get("/healthz", 200)


# ---- too large ----

LARGE = 256 * 1024


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("narrow"), "--max-body-bytes", LARGE) as elsd:
        yield elsd


@pytest.mark.parametrize("text", [
    request("POST", "/v1/samples", b" " * (LARGE + 1)),
    request("POST", "/v1/samples", b" " * (16 * LARGE)),
    request("POST", "/v1/samples", b"", "Transfer-Encoding: chunked") + chunked(*[b" " * 4096] * 200),
    request("POST", "/v1/samples", b"", f"Content-Length: {2**64 - 1}"),
    request("POST", "/v1/samples", b"", f"Content-Length: {LARGE + 1}", "Expect: 100-continue"),
    request("GET", "/healthz", b" " * (LARGE + 1)), request("DELETE", "/nothing", b" " * (LARGE + 1)),
], ids=["a byte too many", "much too many", "chunks", "announced", "expects leave", "of a GET", "to nowhere"])
def test_a_body_that_is_too_large_is_refused_before_it_is_kept(narrow, text):
    """The answer comes whole, also to a client that sends everything before it listens."""
    with dial(narrow) as wire:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            wire.send(text)
        answer = wire.refusal(413, "body_too_large")
        assert str(LARGE) in json.loads(answer.content)["detail"]
    narrow.serves()


def test_who_asks_before_sending_is_told_to_go_on(narrow):
    with dial(narrow) as wire:
        body = quick().ljust(LARGE)
        wire.send(request("POST", "/v1/samples", b"", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert wire.readline() + wire.readline() == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(body)
        assert wire.answer().status == 200


def test_all_bodies_together_are_bounded(start):
    """Three that are held half sent leave no room for a fourth; when they have left, there is room again."""
    most = 2 << 20
    elsd = start("--max-body-bytes", most, "--memory-limit", 64 << 20, "--share-per-address", 12)
    half = request("POST", "/v1/jobs", b"", f"Content-Length: {most}") + b" " * (most - 1)
    whole = quick(bank="two-tone", max_samples=2)

    def refused(reset):
        with contextlib.ExitStack() as stack:
            halves = [stack.enter_context(dial(elsd)) for _ in range(3)]
            for wire in halves:
                wire.send(half)
            time.sleep(0.02)  # they should be there now; where they are not, this is done again
            with dial(elsd) as wire:
                wire.send(request("POST", "/v1/jobs", b"x" * most))
                answer = wire.answer()
                if answer.status == 429:
                    assert json.loads(answer.content)["code"] == "address_memory"
                    assert int(answer.headers["Retry-After"]) >= 1 and wire.ended()
            for wire in halves:
                wire.hang_up(reset)
        wait_until("room", lambda: elsd.post("/v1/samples", data=whole).status_code == 200)
        return answer.status == 429

    for reset in (False, True) * 5:
        wait_until("a fourth to be refused", lambda: refused(reset))
    elsd.check_descriptors()


# ---- too slow ----

# name: (what comes at once, what then comes again and again, the answer: None when the request line was not even there)
SLOW = {
    "nothing": (b"", b"", None),
    "request line": (b"GET /heal", b"x", None),
    "empty lines": (b"", b"\r\n", None),
    "headers": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"A: b\r\n", 408),
    "one header": (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: ", b"b", 408),
    "body": (request("POST", "/v1/jobs", b"", "Content-Length: 100000"), b" ", 408),
    "chunks": (request("POST", "/v1/jobs", b"", "Transfer-Encoding: chunked"), b"1\r\n \r\n", 408),
    "one chunk": (request("POST", "/v1/jobs", b"", "Transfer-Encoding: chunked") + b"ffff\r\n", b" ", 408),
    "body of nowhere": (request("POST", "/nothing", b"", "Content-Length: 100000"), b" ", 408),
    "body that stops": (request("POST", "/v1/jobs", b"", "Content-Length: 9") + b"{", b"", 408),
    "second request": (HEALTH, b"", 200),
    "second headers": (HEALTH + b"GET /healthz HTTP/1.1\r\n", b"A: b\r\n", 200),
}


class Slow:
    """A client that is never done."""

    def __init__(self, stack, elsd, name):
        self.name, self.began = name, time.monotonic()
        self.wire = stack.enter_context(dial(elsd))
        at_once, self.piece, self.status = SLOW[name]
        self.heard, self.took = b"", None
        self.wire.send(at_once)

    def go_on(self):
        """Until the daemon has closed."""
        if self.took is not None:
            return
        while select.select([self.wire.connection], [], [], 0)[0]:
            try:
                more = self.wire.connection.recv(65536)
            except ConnectionResetError:
                more = b""
            self.heard += more
            if not more:
                self.took = time.monotonic() - self.began
                return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wire.send(self.piece)

    def heard_its_answer(self):
        if self.status is None or not self.heard:
            return self.status is None and not self.heard
        assert self.heard.startswith(b"HTTP/1.1 %d " % self.status), (self.name, self.heard)
        if self.status == 408:
            head, body = self.heard.split(b"\r\n\r\n", 1)
            assert b"application/problem+json" in head and json.loads(body)["code"] == "request_timeout"
        return True


def test_slow_clients_are_closed_and_hold_nobody_up(start):
    """What a client sent at once must have been read by the deadline, else it is closed without its answer: where the
    daemon is too slow for that, all is done again with a later one."""
    for deadline in (1, 8, 64):
        unheard = closed_by_deadline(start("--upload-timeout", deadline), deadline)
        if not unheard:
            break
    assert not unheard, "these never got their answer"


def closed_by_deadline(elsd, deadline):
    """The names of those who have not heard their answer."""
    with contextlib.ExitStack() as stack:
        clients = [Slow(stack, elsd, name) for name in SLOW for _ in range(8)]
        health = []
        end = time.monotonic() + PATIENCE
        while any(c.took is None for c in clients) and time.monotonic() < end:
            for client in clients:
                client.go_on()
            began = time.monotonic()
            elsd.get("/healthz", 200)
            health.append(time.monotonic() - began)
            elsd.sample(bank="two-tone", max_samples=2)
            time.sleep(0.05)
        assert not [c.name for c in clients if c.took is None], "these hold on"
        print(f"{len(clients)} slow clients were closed after {min(c.took for c in clients):.2f} to "
              f"{max(c.took for c in clients):.2f} s, the deadline being {deadline} s; meanwhile /healthz took at most "
              f"{max(health) * 1000:.0f} ms")
        assert not [c.name for c in clients if c.took < deadline], "these were closed before it"
        elsd.check_descriptors()
    assert accepted(elsd) == len(health)
    return {c.name for c in clients if not c.heard_its_answer()}


# ---- who leaves ----

@pytest.mark.parametrize("text, says", [
    (HEALTH, b'{"status":"ok"}'), (request("POST", "/v1/samples", quick()), b'"succeeded"'),
    (request("GET", "/v1/jobs/{job}/events"), b"event: cancelled"),
], ids=["at once", "after the job", "stream"])
def test_who_has_said_all_still_hears(elsd, text, says):
    """And is then closed at once, not at the upload's deadline, which is a day here."""
    job = running(elsd)
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(dial(elsd)) for _ in range(10)]
        for wire in wires:
            wire.send(text.replace(b"{job}", job["id"].encode()))
            wire.connection.shutdown(socket.SHUT_WR)
        time.sleep(1.5)  # longer than the daemon waits before it looks whether somebody still reads
        cancel(elsd, job)
        for wire in wires:
            assert says in wire.read()


@pytest.mark.parametrize("reset", [False, True], ids=["ends", "is torn away"])
@pytest.mark.parametrize("text", [HEALTH[:20], HEALTH[:-2], JOB[:-1], JOB[:-len(quick())], chunked(b"{}")[:-2]],
                         ids=["request line", "head", "body", "no body", "chunks"])
def test_half_a_request_is_none(elsd, no_job, text, reset):
    """Its place is free at once, not at the upload's deadline, which is a day here."""
    if text[:1] == b"2":
        text = request("POST", "/v1/jobs", b"", "Transfer-Encoding: chunked") + text
    elsd.check_descriptors()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(dial(elsd)) for _ in range(20)]
        for wire in wires:
            wire.send(text)
            if reset:
                wire.hang_up(True)
            else:
                wire.connection.shutdown(socket.SHUT_WR)
        elsd.check_descriptors()
        if not reset:
            assert not any(wire.read() for wire in wires)


@pytest.mark.parametrize("reset", [False, True], ids=["end", "are torn away"])
def test_streams_that_leave_give_their_places_back(start, reset):
    """At once, not at the next ping or at the end of the job, also where there is nothing to tell; and the job goes on."""
    places = 16
    elsd = start("--max-connections-per-address", places)
    elsd.http.close()
    busy, quiet = running(elsd), elsd.job(**SLOW_JOB)
    elsd.http.close()
    wait_until("our own connection to be closed", lambda: not elsd.connections())

    def gone_before_a_ping():
        """Before somebody else who came first got one: a slow machine may need several tries."""
        with contextlib.ExitStack() as stack:
            other = stack.enter_context(socket.create_connection(("127.0.0.1", elsd.port), PATIENCE, ("127.0.0.2", 0)))
            other.sendall(request("GET", f"/v1/jobs/{quiet['id']}/events"))
            heard = b""
            while b"event: state" not in heard:
                heard += other.recv(65536)
            streams = [stack.enter_context(dial(elsd)) for _ in range(places)]
            for number, wire in enumerate(streams):
                wire.send(request("GET", f"/v1/jobs/{(busy, quiet)[number % 2]['id']}/events"))
                wire.send(HEALTH)  # bytes that nobody has read yet must not hide that the client has left
            for wire in streams:
                assert b"200" in wire.readline()
            with dial(elsd) as wire:
                wire.send(request("GET", "/v1/banks"))
                with contextlib.suppress(ConnectionError, http.client.HTTPException):  # after two seconds it is closed
                    answer = wire.refusal(429, "too_many_connections")
                    assert "max_connections_per_address" in json.loads(answer.content)["detail"]
            for wire in streams:
                wire.hang_up(reset)
            wait_until("all but one to be gone", lambda: elsd.connections() == 1)
            pinged = select.select([other], [], [], 0)[0]
        wait_until("that one to be gone", lambda: not elsd.connections())
        return not pinged
    for _ in range(3):
        wait_until("streams to leave before a ping", gone_before_a_ping)
    elsd.check_descriptors()
    step = elsd.get(f"/v1/jobs/{busy['id']}", 200).json()["progress"]["step"]
    wait_until("a further step", lambda: elsd.get(f"/v1/jobs/{busy['id']}", 200).json()["progress"]["step"] > step)
    for job in (quiet, busy):
        cancel(elsd, job)


@pytest.mark.parametrize("reset", [False, True], ids=["ends", "is torn away"])
def test_who_leaves_while_waiting_leaves_the_job(elsd, reset):
    first = running(elsd)
    with dial(elsd) as wire:
        wire.send(request("POST", "/v1/samples", quick(client_ref="left")))
        job, = wait_until("the job", lambda: elsd.get("/v1/jobs?status=queued", 200).json()["jobs"])
        wire.hang_up(reset)
    elsd.check_descriptors()
    cancel(elsd, first)
    done = elsd.finished(job)
    assert done["status"] == "succeeded" and done["params"]["client_ref"] == "left"


# ---- very many ----

CROWD = 3000
RESERVED = 32  # places for those who ask for health and metrics when all others are taken


def crowd(elsd, stack, count=CROWD):
    """So many connections that say nothing. Those beyond the backlog may be turned away."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    assert limit > count
    for _ in range(count):
        connection = stack.enter_context(socket.socket())
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", elsd.port))


def rests(elsd):
    """For a second the daemon has used less than a fifth of a processor. One that is slow gets there when it has done
    its work, one that polls never does."""
    before, began = sum(cpu_of_threads(elsd.pid).values()), time.monotonic()
    time.sleep(1)
    spent = (sum(cpu_of_threads(elsd.pid).values()) - before) / (time.monotonic() - began)
    print(f"{spent:.0%} of a processor")
    return spent < 0.2


def test_a_crowd_of_one_address_leaves_room_for_others(start):
    places = 64
    elsd = start("--max-connections-per-address", places)
    elsd.http.close()
    with contextlib.ExitStack() as stack:
        crowd(elsd, stack)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", elsd.port), PATIENCE, ("127.0.0.2", 0)) as other:
                wire = Wire(other)
                wire.send(request("POST", "/v1/samples", quick(bank="two-tone", max_samples=2)))
                assert wire.answer().status == 200
        wait_until("those beyond the places to be closed",
                   lambda: 0 < (elsd.descriptors() - elsd.descriptors_at_start)["socket"] <= places + RESERVED)
    wait_until("a place", lambda: answers(elsd))


def answers(elsd):
    with contextlib.suppress(ConnectionError, http.client.HTTPException), dial(elsd) as wire:
        wire.send(HEALTH)
        return wire.answer().status == 200
    return False


def test_a_crowd_beyond_all_places_waits_without_work(start):
    """It costs no processor time."""
    places = 1000
    elsd = start("--max-connections", places, "--max-connections-per-address", 0)
    elsd.http.close()
    with contextlib.ExitStack() as stack:
        crowd(elsd, stack)
        wait_until("all places to be taken",
                   lambda: (elsd.descriptors() - elsd.descriptors_at_start)["socket"] >= places)
        wait_until("the daemon to rest", lambda: rests(elsd))
        taken = (elsd.descriptors() - elsd.descriptors_at_start)["socket"]
        # And, for a moment, those that are closed to make room: two for each of the two HTTP threads.
        assert places <= taken <= places + RESERVED + 2 * 2, taken
    elsd.check_descriptors()
    elsd.serves()


def test_the_deadline_of_a_crowd_makes_room(start):
    elsd = start("--max-connections", 1000, "--max-connections-per-address", 0, "--upload-timeout", 2)
    elsd.http.close()
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        crowd(elsd, stack)
        wait_until("whoever comes last to be served when those before have had their time", lambda: answers(elsd))
        print(f"{CROWD} connections on 1000 places: another was answered after {time.monotonic() - began:.1f} s")
    elsd.check_descriptors()


def test_descriptors_are_left_for_the_work(start):
    """Where the system allows fewer than the settings would need, connections are what is cut."""
    most = 200
    elsd = start("--max-connections", 4096, descriptors=most)
    elsd.http.close()
    assert elsd.logged(r"few_descriptors connections=(\d+) wanted=4096")[1] == str(most - 64)
    with contextlib.ExitStack() as stack:
        mine = stack.enter_context(dial(elsd))
        mine.send(HEALTH)
        assert mine.answer().status == 200
        crowd(elsd, stack)
        wait_until("all places to be taken", lambda: sum(elsd.descriptors().values()) > most - 64)
        wait_until("the daemon to rest", lambda: rests(elsd))
        assert sum(elsd.descriptors().values()) < most
        mine.send(request("POST", "/v1/samples", quick()))
        assert mine.answer().status == 200, "there are some for the store and the work"
    elsd.serves()
