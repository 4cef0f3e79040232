"""Large answers: sent in pieces from the store, so that no reader, however slow, makes the daemon hold a whole one."""
import base64
import contextlib
import io
import json
import re
import socket
import struct
import time

import numpy as np
import pytest

from daemon import Daemon, wait_until
from formats import write_safetensors
from test_http import Wire, request
from test_jobs import cancel, running
from test_metrics import metrics

UNREAD = 100
# What ASan keeps of freed memory would hide what is measured here.
ENV = {"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=8"}
LARGE = {"bank": "digits", "machine": "is", "max_samples": 2, "num_images": 64, "num_inference_steps": 18, "seed": 7,
         "outputs": ["image", "x0"]}


class Large:
    """A daemon and a job in it whose tensors are some megabytes."""

    def __init__(self, elsd):
        self.elsd = elsd
        self.job = elsd.post("/v1/samples", 200, json=LARGE).json()
        self.path = f"/v1/jobs/{self.job['id']}/tensors"
        self.whole = elsd.get(self.path, 200).content

    @contextlib.contextmanager
    def reader(self, path=None, buffer=4096, method="GET", fields=()):
        """A connection that has asked and reads as much as it likes; its own system keeps little for it."""
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            connection.settimeout(120)
            connection.connect(("127.0.0.1", self.elsd.port))
            wire = Wire(connection)
            wire.send(request(method, path or self.path, b"", *fields))
            yield wire


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("large"), env=ENV) as elsd:
        yield Large(elsd)


def held(elsd, what="answers"):
    return metrics(elsd)["els_memory_bytes"][(("class", what),)]


def resident(elsd):
    with open(f"/proc/{elsd.pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read())[1]) * 1024


def unpack(whole):
    """{name: the bytes of its tensor} of a safetensors container."""
    size = struct.unpack_from("<Q", whole)[0]
    header = json.loads(whole[8:8 + size])
    return {name: whole[8 + size:][slice(*entry["data_offsets"])] for name, entry in header.items()
            if name != "__metadata__"}


# ---- what is sent ----

def test_all_forms_have_the_same_bytes(large):
    parts = unpack(large.whole)
    assert set(parts) == {"images", "x0"} and len(large.whole) > 64 * 17 * 32 * 32 * 4
    for name, data in parts.items():
        answer = large.elsd.get(f"{large.path}?name={name}", 200)
        array = np.load(io.BytesIO(answer.content))
        assert array.tobytes() == data and int(answer.headers["Content-Length"]) == len(answer.content)
    assert parts["x0"][-4096:] == np.load(io.BytesIO(large.elsd.get(f"{large.path}?name=x0", 200).content))[-1, -1].tobytes()


def test_runs_of_several_scales(large):
    """[K, N, …] lies image by image in the store: its pieces are put together across blobs."""
    x = np.random.default_rng(1).standard_normal((40, 1, 32, 32)).astype(np.float32)
    with io.BytesIO() as f:
        np.save(f, x)
        sent = base64.b64encode(f.getvalue()).decode()
    body = {"bank": "digits", "max_samples": 1, "machine": "els", "x": {"npy_base64": sent}, "t": 0.5, "p": [3, 5, 7],
            "outputs": ["x0", "score"]}
    job = large.elsd.post("/v1/denoise", 200, json=body).json()
    parts = unpack(large.elsd.get(f"/v1/jobs/{job['id']}/tensors", 200).content)
    for name, inside in ((n, job["result"][n]["npy_base64"]) for n in ("x0", "score")):
        array = np.load(io.BytesIO(base64.b64decode(inside)))
        assert array.shape == (3, 40, 1, 32, 32) and array.tobytes() == parts[name]
        assert large.elsd.get(f"/v1/jobs/{job['id']}/tensors?name={name}", 200).content == base64.b64decode(inside)


def test_head_tells_the_length_and_sends_nothing(large):
    with large.reader(method="HEAD") as wire:
        answer = wire.answer("HEAD")
        assert answer.status == 200 and int(answer.headers["Content-Length"]) == len(large.whole)
        assert answer.headers["Content-Type"] == "application/vnd.safetensors"
        wire.send(request("GET", large.path), request("GET", "/healthz"))
        assert wire.answer().content == large.whole
        assert wire.answer().content == b'{"status":"ok"}', "the connection is as good as new"


def test_a_byte_at_a_time(large):
    expected = large.elsd.get(f"{large.path}?name=images", 200).content
    with large.reader(f"{large.path}?name=images") as wire:
        heard = bytearray()
        while len(heard) < len(expected) or len(heard) < heard.index(b"\r\n\r\n") + 4 + len(expected):
            heard += wire.connection.recv(1)
        assert heard.endswith(b"\r\n\r\n" + expected)


# ---- what is held ----

def test_answers_that_nobody_reads_hold_a_piece_each(large):
    before = resident(large.elsd)
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(large.reader(fields=["Connection: close"])) for _ in range(UNREAD)]
        for wire in wires:
            assert wire.connection.recv(15) == b"HTTP/1.1 200 OK"
        assert UNREAD * 64e3 < held(large.elsd) < UNREAD * 256e3
        assert resident(large.elsd) - before < UNREAD * len(large.whole) / 4
        assert large.elsd.get(large.path, 200).content == large.whole
        # One of them reads after all.
        assert wires[7].read().endswith(large.whole[-100:])
    wait_until("the pieces to be given back", lambda: held(large.elsd) == 0)
    large.elsd.check_descriptors()


@pytest.mark.parametrize("reset", [False, True])
def test_who_hangs_up_in_the_middle_leaves_nothing_behind(large, reset):
    for taken in (1, 100, 5000, 200_000, 2_000_000):
        with contextlib.ExitStack() as stack:
            for wire in [stack.enter_context(large.reader(buffer=65536)) for _ in range(8)]:
                wire.read(taken)
                wire.hang_up(reset)
    wait_until("the pieces to be given back", lambda: held(large.elsd) == 0)
    large.elsd.check_descriptors()
    assert large.elsd.get(large.path, 200).content == large.whole


def test_a_job_that_is_deleted_in_the_middle_of_its_answer(start):
    large = Large(start(env=ENV))
    with large.reader() as wire, large.reader() as other:
        assert other.connection.recv(4) == b"HTTP"
        head = wire.read(1000)
        assert int(re.search(rb"Content-Length: (\d+)", head)[1]) == len(large.whole)
        large.elsd.delete(f"/v1/jobs/{large.job['id']}", 200)
        heard = head + wire.read()
        body = heard.split(b"\r\n\r\n", 1)[1]
        assert 0 < len(body) < len(large.whole) and large.whole.startswith(body), "what came is right, and too short"
        other.hang_up(True)
    large.elsd.problem("GET", large.path, 410, "job_gone")
    assert "answer_cut" in large.elsd.log()
    wait_until("the pieces to be given back", lambda: held(large.elsd) == 0)
    large.elsd.serves()


def test_the_share_of_an_address_bounds_its_answers(start):
    large = Large(start("--memory-limit", 128 << 20, "--share-per-address", 25, "--max-connections-per-address", 0,
                        env=ENV))
    with contextlib.ExitStack() as stack:
        begun = [stack.enter_context(large.reader()).connection.recv(4096) for _ in range(260)]
        refused = [text for text in begun if not text.startswith(b"HTTP/1.1 200")]
        assert 0 < len(refused) < 150 and held(large.elsd) <= 32 << 20
        for text in refused:
            assert text.startswith(b"HTTP/1.1 429 ") and b"Retry-After" in text and b"address_memory" in text
    wait_until("room", lambda: large.elsd.get(large.path).status_code == 200)


# ---- what is made whole ----

MIB = 1 << 20


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The path of a bank of noise, whose pictures cannot be compressed."""
    images = np.random.default_rng(0).integers(0, 256, (600, 3, 64, 64), np.uint8)
    path = tmp_path_factory.mktemp("noisy") / "noisy.safetensors"
    path.write_bytes(write_safetensors({"images": images}))
    return path


def test_pictures_are_charged_before_they_are_drawn(start, noisy):
    """The PNGs have room in the share of an address, 7.6 MiB. What drawing takes has not."""
    elsd = start("--bank", f"noisy={noisy}", "--bank", "digits=digits", "--memory-limit", 256 * MIB,
                 "--share-per-address", 3, env=ENV)
    job = elsd.post("/v1/samples", 200, json={"bank": "noisy", "machine": "is", "max_samples": 50, "seed": 1,
                                              "num_inference_steps": 3, "outputs": ["image", "x0"]}).json()
    for path in (f"/v1/jobs/{job['id']}/images/0", f"/v1/jobs/{job['id']}/images/0/steps/1",
                 "/v1/banks/noisy/images/7"):
        elsd.get(path, 200)
        problem = elsd.problem("GET", f"{path}?zoom=16", 413)
        assert "answers" in problem["detail"], problem
    elsd.get("/v1/banks/noisy/sheet?limit=20", 200)
    elsd.problem("GET", "/v1/banks/noisy/sheet?limit=200", 413)
    mosaic = {"bank": "digits", "machine": "els", "scales": 3, "max_samples": 20, "num_inference_steps": 2, "seed": 1,
              "outputs": ["final_mosaic"]}
    wide = elsd.post("/v1/samples", 200, json=mosaic).json()
    elsd.get(f"/v1/jobs/{wide['id']}/images/0/mosaic", 200)
    elsd.get(f"/v1/jobs/{wide['id']}/images/0/mosaic/region?zoom=8", 200)
    assert held(elsd) == 0
    elsd.get("/v1/capabilities", 200)
    wait_until("it to be given back", lambda: held(elsd) == 0)


def test_sheets_that_nobody_reads_are_refused_at_the_share(start, noisy):
    elsd = start("--bank", f"noisy={noisy}", "--memory-limit", 256 * MIB, "--share-per-address", 25, env=ENV)
    path = "/v1/banks/noisy/sheet?limit=200"
    with contextlib.ExitStack() as stack:
        begun = []
        for _ in range(48):
            wire = Wire(stack.enter_context(socket.socket()))
            wire.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.connection.settimeout(120)
            wire.connection.connect(("127.0.0.1", elsd.port))
            wire.send(request("GET", path, b""))
            begun.append(wire.connection.recv(4096))
            assert held(elsd) <= 64 * MIB
        refused = [text for text in begun if not text.startswith(b"HTTP/1.1 200")]
        assert 48 > len(refused) > 12
        for text in refused:
            assert text.startswith(b"HTTP/1.1 429 ") and b"Retry-After" in text and b"address_memory" in text
    wait_until("all to be given back", lambda: held(elsd) == 0)
    elsd.get(path, 200)
    elsd.check_descriptors()


# ---- streams ----

def test_streams_by_the_hundred_are_refused_at_the_share(start):
    elsd = start("--memory-limit", 64 * MIB, "--share-per-address", 25, env=ENV)
    job = running(elsd)
    with contextlib.ExitStack() as stack:
        begun = []
        for _ in range(100):
            answer = stack.enter_context(elsd.get(f"/v1/jobs/{job['id']}/events", stream=True))
            begun.append(answer.status_code)
            if answer.status_code == 429:
                assert "Retry-After" in answer.headers and answer.json()["code"] == "address_memory"
        assert set(begun) == {200, 429} and begun.count(200) < 50
        assert 0 < held(elsd, "streams") <= 16 * MIB
    wait_until("all to be given back", lambda: held(elsd, "streams") == 0)
    cancel(elsd, job)
    with elsd.get(f"/v1/jobs/{job['id']}/events", 200, stream=True) as answer:
        assert b"event: cancelled" in answer.content
    wait_until("that of the ended job, too", lambda: held(elsd, "streams") == held(elsd) == 0)


def test_a_stream_of_a_job_with_huge_parameters_is_small(start, noisy):
    elsd = start("--bank", f"noisy={noisy}")
    with io.BytesIO() as f:
        np.save(f, np.zeros((24, 3, 64, 64), np.float32))
        sent = base64.b64encode(f.getvalue()).decode()
    job = elsd.post("/v1/denoise", 200, json={"bank": "noisy", "max_samples": 1, "machine": "is", "t": 0.5,
                                              "x": {"npy_base64": sent}}).json()
    assert len(elsd.get(f"/v1/jobs/{job['id']}", 200).content) > MIB
    text = elsd.get(f"/v1/jobs/{job['id']}/events", 200).content
    assert len(text) < 64 << 10
    events = [json.loads(line[6:]) for line in text.split(b"\n") if line.startswith(b"data: ")]
    assert len(events) == 2 and all(e["id"] == job["id"] and e["params"] is None for e in events)


# ---- how fast they must be read ----

def test_a_reader_that_pauses_is_not_cut_by_another_clock(start):
    """libmicrohttpd's own clock, of six seconds here, does not run while an answer is sent."""
    large = Large(start("--upload-timeout", 1, "--read-grace", 3600, env=ENV))
    with large.reader(fields=["Connection: close"]) as wire:
        heard = wire.read(1000)
        time.sleep(9)
        assert (heard + wire.read()).endswith(large.whole)


def test_a_reader_below_the_floor_is_cut_and_one_above_is_not(start):
    """However much it has read before: who stops is cut; who goes on is not, however long it takes."""
    large = Large(start("--upload-timeout", 3600, "--min-read-rate", 1000, "--read-grace", 1, env=ENV))
    with large.reader() as stops, large.reader(fields=["Connection: close"]) as goes_on:
        stops.read(2_000_000)
        heard = goes_on.read(1000)

        def cut():
            """It reads on meanwhile, a thousand times the floor."""
            nonlocal heard
            heard += goes_on.read(20_000)
            return held(large.elsd) < 2 * 128 * 1024
        wait_until("the first to be cut", cut)
        assert (heard + goes_on.read()).endswith(large.whole)
        with contextlib.suppress(ConnectionResetError):
            assert len(stops.read()) < len(large.whole) - 2_000_000
