"""What requests, bodies and waiting jobs are charged: each account overdrawn, while somebody else is served."""
import contextlib
import json
import re
import socket

import pytest

from daemon import PATIENCE, QUICK, wait_until
from formats import SAFETENSORS
from test_http import Wire, chunked, dial, request
from test_jobs import cancel, running
from test_keys import bearer, els
from test_metrics import metrics
from test_store import calibration

KIB, MIB = 1 << 10, 1 << 20
SMALL = ("--memory-limit", 64 * MIB)
HEALTH = request("GET", "/healthz")


def held(elsd, what, resource="memory"):
    """With the API key of elsd's own session, where there is one."""
    return metrics(elsd)[f"els_{resource}_bytes"][(("class", what),)]


def all_given_back(elsd):
    """But for what the request for the metrics takes itself."""
    def nothing():
        memory = metrics(elsd)["els_memory_bytes"]
        return (not any(memory[(("class", what),)] for what in ("bodies", "json", "inputs", "runs"))
                and memory[(("class", "requests"),)] < 64 * KIB and held(elsd, "inputs", "disk") == 0)
    wait_until("everything to be given back", nothing)


@contextlib.contextmanager
def dial_as_another(elsd, address="127.0.0.2"):
    with socket.create_connection(("127.0.0.1", elsd.port), PATIENCE, source_address=(address, 0)) as connection:
        yield Wire(connection)


def serves_another(elsd):
    """A client at another address has its pictures."""
    with dial_as_another(elsd) as wire:
        wire.send(request("POST", "/v1/samples", json.dumps(QUICK).encode()))
        assert wire.answer().status == 200


def announced(size, *fields):
    """A request whose body has not begun to come."""
    return request("POST", "/v1/jobs", b"", f"Content-Length: {size}", *fields)


# ---- bodies ----

@pytest.mark.parametrize("fields", [[], ["Expect: 100-continue"]], ids=["", "expect"])
def test_a_body_that_cannot_fit_is_refused_before_it_is_sent(start, fields):
    elsd = start(*SMALL, "--share-per-address", 12)
    with dial(elsd) as wire:
        wire.send(announced(9 * MIB, *fields))
        problem = json.loads(wire.refusal(413, "too_large").content)
    assert "bodies" in problem["detail"] and "share_per_address" in problem["detail"]
    elsd.sample()
    all_given_back(elsd)


def test_a_body_without_a_length_is_charged_as_it_grows(start):
    elsd = start(*SMALL, "--share-per-address", 12)
    with dial(elsd) as wire:
        wire.send(request("POST", "/v1/jobs", b"", "Transfer-Encoding: chunked"))
        wire.send(*[chunked(b" " * 64 * KIB)[:-5]] * (MIB // (64 * KIB)))  # without the last chunk
        wait_until("the first to be charged", lambda: held(elsd, "bodies") >= MIB)
        wire.send(*[chunked(b" " * 64 * KIB)[:-5]] * (8 * MIB // (64 * KIB)))
        wire.refusal(413, "too_large")
    elsd.sample()
    all_given_back(elsd)


def test_bodies_of_an_address(start):
    """Three that have only been announced leave no room for a fourth; when they have left, there is room again."""
    elsd = start(*SMALL, "--share-per-address", 12)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(dial(elsd)).send(announced(2 * MIB))
        wait_until("three to be charged", lambda: held(elsd, "bodies") == 6 * MIB)
        with dial(elsd) as wire:
            wire.send(announced(2 * MIB))
            answer = wire.refusal(429, "address_memory")
            assert int(answer.headers["Retry-After"]) >= 1 and "bodies" in json.loads(answer.content)["detail"]
        elsd.get("/healthz", 200)
        serves_another(elsd)
    all_given_back(elsd)
    elsd.sample()


def test_bodies_of_everybody(start):
    """No address has more than its half, and all together no more than there is."""
    elsd = start(*SMALL)
    with contextlib.ExitStack() as stack:
        for address in ("127.0.0.2", "127.0.0.3"):
            stack.enter_context(dial_as_another(elsd, address)).send(announced(24 * MIB))
        wait_until("both to be charged", lambda: held(elsd, "bodies") == 48 * MIB)
        with dial_as_another(elsd, "127.0.0.4") as wire:
            wire.send(announced(24 * MIB))
            answer = wire.refusal(503, "memory_limit")
            assert int(answer.headers["Retry-After"]) >= 1 and "bodies" in json.loads(answer.content)["detail"]
        elsd.get("/healthz", 200)
        elsd.sample()
    all_given_back(elsd)


def test_bodies_of_a_key(start, tmp_path):
    file = tmp_path / "keys"
    texts = {name: els("key", "add", file, name).strip() for name in ("alice", "bob")}
    elsd = start(*SMALL, "--share-per-key", 12, "--keys-file", file)
    alice = f"Authorization: Bearer {texts['alice']}"
    elsd.http.headers.update(bearer(texts["bob"]))
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(dial(elsd)).send(announced(2 * MIB, alice))
        wait_until("three to be charged", lambda: held(elsd, "bodies") == 6 * MIB)
        with dial(elsd) as wire:
            wire.send(announced(2 * MIB, alice))
            wire.refusal(429, "key_memory")
        elsd.sample()
    all_given_back(elsd)


# ---- requests ----

def test_requests_are_charged(start):
    """Each takes some 36 KiB, of the 655 KiB of an address; what tells how the daemon is needs no room."""
    elsd = start(*SMALL, "--share-per-address", 1)
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            wire = stack.enter_context(dial(elsd))
            wire.send(announced(1))
        wait_until("twelve to be charged", lambda: held(elsd, "requests") > 12 * 32 * KIB)

        def refused():
            wire = stack.enter_context(dial(elsd))
            wire.send(request("GET", "/v1/banks"), HEALTH)
            answer = wire.answer()
            assert wire.answer().status == 200
            stack.enter_context(dial(elsd)).send(announced(1))
            return answer if answer.status != 200 else None

        answer = wait_until("one to be refused", refused)
        problem = json.loads(answer.content)
        assert answer.status == 429 and problem["code"] == "address_memory" and "requests" in problem["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        for path in ("/healthz", "/readyz", "/metrics"):
            elsd.get(path, 200)
        with dial_as_another(elsd) as wire:
            wire.send(request("GET", "/v1/banks"))
            assert wire.answer().status == 200
    all_given_back(elsd)
    elsd.get("/v1/banks", 200)


# ---- inputs ----

def upload(elsd, size):
    """Of size x 64 KiB; so much to compute that it does not end by itself while a test looks."""
    body = calibration(8, size, bank="digits", p=[15, 17])
    return elsd.post("/v1/calibrations", data=body, headers={"Content-Type": SAFETENSORS, "Prefer": "respond-async"})


@pytest.mark.parametrize("state, flags, code, word", [
    (True, ("--disk-limit", 64 * MIB, "--share-per-address", 12), "address_disk", "disk"),
    (False, ("--memory-limit", 256 * MIB, "--share-per-address", 16), "address_memory", "memory"),
], ids=["disk", "memory"])
def test_inputs_that_wait(start, state, flags, code, word):
    """Uploads of 2.5 MiB behind a job that computes, until the share of the address is used up."""
    elsd = start(*flags, state=state)
    large = running(elsd)
    jobs = []

    def refused():
        answer = upload(elsd, 40)
        if answer.status_code != 202:
            return [answer]  # a refusal by itself is false
        jobs.append(answer.json())
        assert len(jobs) < 20
        return None

    answer, = wait_until("one to be refused", refused)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (429, code), problem
    assert int(answer.headers["Retry-After"]) >= 1
    assert re.search(rf"of {word} \((inputs|bodies|json)\)", problem["detail"]) and "share_per_address" in problem["detail"]
    assert held(elsd, "inputs", word) > 2 * 2 * MIB
    for job in jobs:
        cancel_or_ended(elsd, job)
    again = upload(elsd, 40)
    assert again.status_code == 202, again.text
    for job in (again.json(), large):
        cancel_or_ended(elsd, job)
    all_given_back(elsd)


def cancel_or_ended(elsd, job):
    elsd.delete(f"/v1/jobs/{job['id']}")
    elsd.finished(job)


def test_inputs_that_can_never_fit(start):
    elsd = start("--disk-limit", 16 * MIB, "--share-per-address", 12)
    answer = upload(elsd, 40)
    assert answer.status_code == 413 and "disk (inputs)" in answer.json()["detail"]
    assert elsd.get("/v1/jobs", 200).json()["jobs"] == []  # nothing is stored
    all_given_back(elsd)


def test_parameters_count_while_they_wait(start):
    """Without tensors too: a list of 60,000 images, twice as text and once as numbers."""
    elsd = start()
    large = running(elsd)
    before = held(elsd, "inputs"), held(elsd, "inputs", "disk")
    job = elsd.job(num_inference_steps=2000, exclude={"images": [2999] * 60000})
    text = len(json.dumps([2999] * 60000, separators=(",", ":")))
    assert held(elsd, "inputs") > before[0] + 2 * text
    assert held(elsd, "inputs", "disk") > before[1] + text
    cancel(elsd, job)
    cancel(elsd, large)
    all_given_back(elsd)


def test_what_waited_is_charged_after_a_restart(start):
    elsd = start()
    large = running(elsd)
    upload(elsd, 40)
    elsd.kill()
    elsd.start()
    wait_until("the jobs to be back", lambda: held(elsd, "inputs") > 0)
    for job in elsd.get("/v1/jobs", 200).json()["jobs"]:
        cancel_or_ended(elsd, job)
    assert large
    all_given_back(elsd)
