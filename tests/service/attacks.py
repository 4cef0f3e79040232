"""Attackers: processes that do to a daemon whatever a client can, in an order that a seed decides.

    crew = [Attacker(elsd.port, name, key, seed, rounds=20, stop=event, others=ids) for …]
    for attacker in crew: attacker.start()
    reports = [attacker.report() for attacker in crew]       # waits for its end

An attacker with a key has jobs made, and reports every one that was acknowledged; one without does what needs none.
Each does `rounds` attacks, or, with rounds=None, attacks until the event `stop` is set. What it leaves open
stays open: HELD connections at most, the oldest is torn away for a new one. At its end it asks for all of its jobs to be
cancelled.
"""
import collections
import contextlib
import http.client
import json
import multiprocessing
import queue
import random
import socket
import struct
import traceback

import numpy as np

from daemon import PATIENCE, QUICK, die_with_parent
from formats import SAFETENSORS, write_safetensors
from test_http import HEALTH, Wire, request
from test_smuggling import LARGE_HEADS, MALFORMED

HELD = 24
WAIT = 10  # seconds that an attacker has for an answer; then it goes away
MIB = 1 << 20
JSON = "Content-Type: application/json"

context = multiprocessing.get_context("fork")


def trajectories(seeds, times):
    """A calibration's body: two tensors of seeds x times x 4 KiB."""
    xt = np.random.default_rng(seeds).standard_normal((seeds, times, 1, 32, 32)).astype(np.float32)
    t = np.linspace(1, 0.5, times).astype(np.float32)
    return write_safetensors({"t": t, "xt": xt, "eps": xt + 1}, params={"bank": "two-tone", "p": [3]})


def noisy(images, scales):
    """A denoise of so many images at so many scales."""
    x = np.random.default_rng(images).standard_normal((images, 1, 32, 32)).astype(np.float32)
    return write_safetensors({"x": x}, params={"bank": "digits", "max_samples": 20, "alpha_bar": 0.5,
                                               "p": list(range(1, 2 * scales, 2)), "outputs": ["x0", "entropy"]})


CALIBRATION = trajectories(8, 32)
DENOISE = noisy(16, 15)
VALUES = [b'{"a":[' + b"{}," * MIB, b'{"a":[' + b"0," * MIB, b"{" + b'"a":{},' * (MIB // 2),
          json.dumps({f"{i:06}nference_steps": 0 for i in range(30000)}).encode(), b"[" * MIB,
          json.dumps(QUICK | {"exclude": {"images": list(range(10**6))}}).encode()]
EXCLUDED = json.dumps(QUICK | {"max_samples": 40, "num_images": 16, "num_inference_steps": 2,
                               "exclude": {"images": [2999] * 20000}}).encode()
SCALES = json.dumps({"t": [i / 2000 for i in range(1, 2001)], "p": [3] * 2000}).encode()


class Attacker:
    def __init__(self, port, name, key, seed, rounds, stop, others, address="127.0.0.1"):
        self.port, self.name, self.key, self.rounds, self.stop, self.others = port, name, key, rounds, stop, others
        self.address = address
        self.choose = random.Random(seed)
        self.jobs, self.held = [], collections.deque()
        self.statuses, self.did = collections.Counter(), collections.Counter()
        self.results = context.Queue()

    # ---- as a process ----

    def start(self):
        self.process = context.Process(target=self.run, daemon=True)
        self.process.start()

    def ended(self):
        """Its report waits, or will never come."""
        return not self.results.empty() or not self.process.is_alive()

    def report(self):
        """{"jobs": ids, "statuses": counts, "did": counts, "fault": None or a traceback}, once it has ended."""
        while True:
            try:
                report = self.results.get(timeout=5)
                break
            except queue.Empty:
                assert self.process.is_alive(), f"{self.name} ended with {self.process.exitcode}"
        self.process.join(PATIENCE)
        return report

    def run(self):
        die_with_parent()
        fault = None
        try:
            count = 0
            while not self.stop.is_set() and (self.rounds is None or count < self.rounds):
                self.attack(count)
                count += 1
            self.hang_up_all()
            for job in self.jobs:
                self.ask("DELETE", f"/v1/jobs/{job}")
        except Exception:
            fault = traceback.format_exc()
        self.results.put({"jobs": self.jobs, "statuses": self.statuses, "did": self.did, "fault": fault})

    def attack(self, count):
        """Each kind once in an order of its own, then anything."""
        keyed = [self.small_jobs, self.calibrate, self.denoise, self.exclude, self.unread, self.follow, self.gone,
                 self.schedules, self.pictures, self.cancel, self.leave]
        anyone = [self.heads, self.values, self.malformed, self.pipeline, self.idle, self.encoded, self.wrong_key,
                  self.half, self.damaged, self.banks]
        kinds = anyone + (keyed if self.key else [])
        if count % len(kinds) == 0:
            self.order = self.choose.sample(kinds, len(kinds))
        do = self.order[count % len(kinds)]
        self.did[do.__name__] += 1
        with contextlib.suppress(OSError, http.client.HTTPException):
            do()

    # ---- asking ----

    @contextlib.contextmanager
    def wire(self):
        with socket.create_connection(("127.0.0.1", self.port), WAIT, (self.address, 0)) as connection:
            yield Wire(connection)

    def fields(self, *more):
        return [*([f"Authorization: Bearer {self.key}"] if self.key else []), *more]

    def request(self, method, path, body=b"", *fields):
        return request(method, path, body, *self.fields(*fields))

    def read(self, wire, method="GET"):
        """One answer, counted; its JSON where it is some."""
        answer = wire.answer(method)
        self.statuses[answer.status] += 1
        if answer.status in (200, 201, 202) and b'"id"' in answer.content[:100]:
            with contextlib.suppress(ValueError):
                return answer.status, json.loads(answer.content)
        return answer.status, None

    def ask(self, method, path, body=b"", *fields):
        with contextlib.suppress(OSError, http.client.HTTPException), self.wire() as wire:
            with contextlib.suppress(OSError):
                wire.send(self.request(method, path, body, *fields))
            return self.read(wire, method)
        return None, None

    def submit(self, path, body, *fields):
        """The job's id, if one was acknowledged."""
        status, job = self.ask("POST", path, body, *(fields or [JSON]))
        if status in (200, 202) and job:
            self.jobs.append(job["id"])
            return job["id"]
        return None

    def job(self, **more):
        return self.submit("/v1/jobs", json.dumps(QUICK | {"seed": self.choose.randrange(1 << 30)} | more).encode())

    def some_job(self):
        return self.choose.choice(self.jobs) if self.jobs else self.job()

    def hold(self, *texts):
        """A connection that stays, with something asked that nobody will read."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE, (self.address, 0))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.held.append(connection)
        while len(self.held) > HELD:
            self.hang_up(self.held.popleft())
        with contextlib.suppress(OSError):
            connection.sendall(b"".join(texts))

    def hang_up(self, connection):
        if self.choose.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def hang_up_all(self):
        while self.held:
            self.hang_up(self.held.popleft())

    # ---- before anybody asks for a key ----

    def heads(self):
        """More arguments, cookies and headers than a head may have (1)."""
        texts = [text for text, _ in LARGE_HEADS.values()]
        texts += [request("GET", "/x?" + "a&" * 1000), request("GET", "/x", b"", "Cookie: " + "a=b; " * 2500)]
        for text in self.choose.choices(texts, k=20):
            with contextlib.suppress(OSError, http.client.HTTPException), self.wire() as wire:
                wire.send(text)
                if self.choose.random() < 0.7:
                    self.read(wire)

    def malformed(self):
        """What two readers could understand differently (8)."""
        for text in self.choose.choices(list(MALFORMED.values()), k=20):
            with contextlib.suppress(OSError, http.client.HTTPException), self.wire() as wire:
                wire.send(text, HEALTH)
                self.read(wire)

    def pipeline(self):
        with self.wire() as wire:
            texts = [self.choose.choice([HEALTH, self.request("GET", "/v1/banks"), self.request("GET", "/v1/jobs"),
                                         self.request("GET", "/nothing")]) for _ in range(100)]
            wire.send(*texts)
            for _ in range(self.choose.choice([0, 10, 100])):
                self.read(wire)

    def idle(self):
        """Sockets that say nothing, until this address has its share (11)."""
        for _ in range(HELD):
            self.hold()

    def half(self):
        """Heads and bodies that never end."""
        text = self.request("POST", "/v1/jobs", b" " * 100000, JSON)
        for _ in range(4):
            self.hold(text[:self.choose.randrange(1, len(text))])

    def encoded(self):
        for coding in ("gzip", "br", "deflate, gzip"):
            self.ask("POST", "/v1/jobs", b"\x1f\x8b" + bytes(1000), JSON, f"Content-Encoding: {coding}")

    def wrong_key(self):
        with self.wire() as wire:
            for _ in range(20):
                key = f"els_{self.choose.getrandbits(256):064x}"
                wire.send(request("GET", "/v1/jobs", b"", f"Authorization: Bearer {key}"))
                assert self.read(wire)[0] in (401, 429)

    # ---- bodies ----

    def values(self):
        """Millions of values, of mistakes, of brackets (2); exclude lists of a million (7)."""
        path = self.choose.choice(["/v1/jobs", "/v1/samples", "/v1/denoise"])
        body = self.choose.choice(VALUES)
        status, _ = self.ask("POST", path, body, JSON)
        assert status in (None, 400, 401, 413, 422, 429, 503), status

    def exclude(self):
        """Long parameters in the captions of many pictures (7)."""
        self.submit("/v1/jobs", EXCLUDED)

    # ---- work ----

    def small_jobs(self):
        """More results than are kept (3)."""
        body = {"bank": "two-tone", "max_samples": 2, "num_inference_steps": 2, "num_images": 8, "scales": 3}
        for _ in range(12):
            self.job(**body)

    def calibrate(self):
        """Inputs that wait (4)."""
        for _ in range(3):
            job = self.submit("/v1/calibrations", CALIBRATION, f"Content-Type: {SAFETENSORS}")
            if job and self.choose.random() < 0.7:
                self.ask("DELETE", f"/v1/jobs/{job}")

    def denoise(self):
        """Many images at many scales in one pass (5), cancelled somewhere in it."""
        job = self.submit("/v1/denoise", DENOISE, f"Content-Type: {SAFETENSORS}", "Prefer: respond-async")
        if job:
            self.hold(self.request("GET", f"/v1/jobs/{job}/events"))
            self.job()
            self.ask("DELETE", f"/v1/jobs/{job}")

    def cancel(self):
        for _ in range(4):
            job = self.job(num_inference_steps=self.choose.choice([2, 20, 200]), num_images=4)
            if job:
                self.stop.wait(self.choose.uniform(0, 0.2))
                self.ask("DELETE", f"/v1/jobs/{job}")

    def leave(self):
        """Asks for work and is gone before the answer, or in the middle of the question."""
        for _ in range(4):
            text = self.request("POST", "/v1/samples", json.dumps(QUICK).encode(), JSON)
            with self.wire() as wire:
                wire.send(text[:self.choose.choice([len(text), len(text), self.choose.randrange(1, len(text))])])
                self.stop.wait(self.choose.uniform(0, 0.05))
                wire.hang_up(self.choose.random() < 0.5)

    # ---- answers ----

    def unread(self):
        """Tensors that nobody reads (6)."""
        job = self.job(num_images=8, num_inference_steps=8, max_samples=2, bank="two-tone",
                       outputs=["image", "x0", "steps"]) or self.some_job()
        if job:
            for _ in range(HELD):
                self.hold(self.request("GET", f"/v1/jobs/{job}/tensors"))

    def follow(self):
        """Event streams that nobody reads."""
        for _ in range(HELD // 2):
            job = self.some_job()
            if job:
                self.hold(self.request("GET", f"/v1/jobs/{job}/events"))

    def schedules(self):
        """Lists of long schedules, unread (6)."""
        for number in range(3):
            self.ask("PUT", f"/v1/scales/{self.name}-{number}", SCALES, JSON)
        for _ in range(4):
            self.hold(self.request("GET", "/v1/scales?limit=1000"))

    def pictures(self):
        """Costly GETs: enlarged pictures and contact sheets (11)."""
        job = self.some_job()
        for path in (f"/v1/jobs/{job}/images/0?zoom=16", "/v1/banks/digits/sheet?limit=256&zoom=2"):
            for _ in range(3):
                self.hold(self.request("GET", path))
            self.ask("GET", path)

    def gone(self):
        """Other keys' jobs, whether they were deleted or not: none of them is there (11)."""
        for other in self.others[1:]:
            status, _ = self.ask("GET", f"/v1/jobs/{other}")
            assert status in (None, 404, 429, 503), status

    def damaged(self):
        """A job whose row in the database is damaged (9): of the first of them, and its error alone."""
        for rest in ("", "/images/0", "/tensors"):
            status, _ = self.ask("GET", f"/v1/jobs/{self.others[0]}{rest}")
            assert status in (None, 401, 404, 410, 429, 500, 503), status

    def banks(self):
        """Loading and unloading, without the right to."""
        for method in ("POST", "DELETE"):
            status, _ = self.ask(method, f"/v1/banks/{self.choose.choice(['digits', 'none', '..%2fkeys'])}", b"", JSON)
            assert status is None or 400 <= status < 500 or status == 503, status
