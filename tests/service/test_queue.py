"""The queue from outside: who comes next, who is refused and when, and what a cancellation does to a job in any state."""
from concurrent.futures import ThreadPoolExecutor
import collections
import math
import os
import random
import re
import threading
import time

import pytest

from daemon import QUICK, wait_until
from test_bounds import ENDLESS
from test_jobs import cancel
from test_keys import bearer, els
from test_metrics import metrics

# All alike, so that none is small enough to overtake another; an hour of work, so that none ends by itself, in short
# steps, because a small one waits for the end of a step.
LARGE = ENDLESS | {"num_images": 1, "max_samples": None}
LONG = bool(os.environ.get("ELS_LONG"))
STARTED = re.compile(r" job_started id=(\w+)")


def submit(elsd, fields, key=None, **headers):
    return elsd.accepted("/v1/jobs", json=fields, headers=(bearer(key) if key else {}) | headers)


def status(elsd, job, key=None):
    return elsd.get(f"/v1/jobs/{job['id']}", 200, headers=bearer(key) if key else {}).json()["status"]


def running(elsd, fields, key=None):
    job = submit(elsd, fields, key)
    wait_until("it to run", lambda: status(elsd, job, key) == "running")
    return job


def step(elsd, job):
    return elsd.get(f"/v1/jobs/{job['id']}", 200).json()["progress"]["step"]


def order_of_starts(elsd, jobs):
    """Ends each of these when its turn has come, and returns them as they came; the daemon's log tells. Several may
    come at once, since they are alike."""
    began = []
    while len(began) < len(jobs):
        new = wait_until("the next one", lambda: STARTED.findall(elsd.log())[len(began):])
        for job in new:
            elsd.delete(f"/v1/jobs/{job}", 202, headers=jobs[job])
        began += new
    return began


# ---- who comes next ----

def test_first_come_first_served(start):
    elsd = start("--threads", 1)
    first = running(elsd, LARGE)
    jobs = [first["id"]] + [submit(elsd, LARGE | {"client_ref": f"{i}"})["id"] for i in range(6)]
    positions = [elsd.get(f"/v1/jobs/{job}", 200).json()["queue_position"] for job in jobs]
    assert positions[1:] == [1, 2, 3, 4, 5, 6]
    assert order_of_starts(elsd, dict.fromkeys(jobs)) == jobs


def test_keys_take_turns(start, tmp_path):
    """One with many jobs does not keep another's first one waiting; within a key, the first comes first."""
    file = tmp_path / "keys"
    key = {name: els("key", "add", file, name).strip() for name in ("ann", "bob", "cyd")}
    elsd = start("--threads", 1, "--keys-file", file)
    blocker = running(elsd, LARGE, key["ann"])["id"]
    owners = ["ann"] * 4 + ["bob"] * 2 + ["cyd"]
    jobs = [submit(elsd, LARGE, key[owner])["id"] for owner in owners]
    a, b, c = jobs[:4], jobs[4:6], jobs[6:]
    expected = [a[0], b[0], c[0], a[1], b[1], a[2], a[3]]
    headers = {job: bearer(key[owner]) for job, owner in zip([blocker, *jobs], ["ann", *owners])}
    assert [elsd.get(f"/v1/jobs/{job}", 200, headers=headers[job]).json()["queue_position"] for job in expected] == \
        [1, 2, 3, 4, 5, 6, 7]
    assert order_of_starts(elsd, headers) == [blocker, *expected]


def test_a_small_job_is_not_stuck_behind_large_ones(start):
    elsd = start("--threads", 1)
    large, waiting = running(elsd, LARGE), submit(elsd, LARGE)
    before = step(elsd, large)
    small = [submit(elsd, QUICK | {"seed": i}) for i in range(4)]
    done = [elsd.finished(job) for job in small]
    assert [job["status"] for job in done] == ["succeeded"] * 4
    assert status(elsd, large) == "running" and status(elsd, waiting) == "queued"
    elsd.logged(STARTED, 5)
    assert [j for j in STARTED.findall(elsd.log()) if j != large["id"]] == [job["id"] for job in small]
    wait_until("the large one to go on", lambda: step(elsd, large) > before)
    cancel(elsd, waiting)
    cancel(elsd, large)
    calm = elsd.sample(seed=0)["result"]["images"][0]["sha256"]
    assert done[0]["result"]["images"][0]["sha256"] == calm, "the same bytes as alone"


def test_steps_of_jobs_interleave(start):
    """Two that run beside each other share the time: neither waits for the other's end."""
    elsd = start("--threads", 1)
    large = running(elsd, LARGE | {"max_samples": 3000})
    medium = running(elsd, LARGE | {"max_samples": 150})
    for _ in range(3):
        seen = step(elsd, large), step(elsd, medium)
        wait_until("both to go on", lambda: step(elsd, large) > seen[0] and step(elsd, medium) > seen[1])
    assert status(elsd, large) == status(elsd, medium) == "running"
    # The one may end; the other does not notice.
    cancel(elsd, large)
    seen = step(elsd, medium)
    wait_until("the other to go on", lambda: step(elsd, medium) > seen)
    cancel(elsd, medium)


# ---- who is refused ----

def at_once(elsd, count, fields):
    """So many submissions at the same time: their answers."""
    barrier = threading.Barrier(count)

    def one(_):
        barrier.wait()
        return elsd.post("/v1/jobs", json=fields)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_as_many_as_there_are_places(start):
    """No place is given twice and none is left: of many who come at once, exactly those who fit are accepted."""
    places, clients = 5, 24
    elsd = start("--queue-length", places)
    first = running(elsd, LARGE)
    waiting = []
    for free in (places, 2, 1, 3):
        answers = at_once(elsd, clients, LARGE)
        assert collections.Counter(a.status_code for a in answers) == {202: free, 429: clients - free}
        for answer in answers:
            if answer.status_code == 429:
                assert answer.json()["code"] == "queue_full" and 1 <= int(answer.headers["Retry-After"]) <= 600
        waiting += [a.json() for a in answers if a.status_code == 202]
        random.Random(free).shuffle(waiting)
        for job in [waiting.pop() for _ in range({places: 2, 2: 1, 1: 3, 3: 0}[free])]:
            elsd.delete(f"/v1/jobs/{job['id']}", 200)
    page = metrics(elsd)
    assert page["els_queue_depth"][()] == places == len(waiting)
    assert page["els_jobs_accepted_total"][()] == 12
    assert page["els_jobs_refused_total"][(("limit", "queue"),)] == 4 * clients - 11
    assert len(elsd.get("/v1/jobs?limit=100", 200).json()["jobs"]) == 12, "nothing is kept of those refused"
    for job in [*waiting, first]:
        cancel(elsd, job)


def test_a_refusal_is_not_remembered_and_an_acceptance_is(start):
    elsd = start("--queue-length", 1)
    first = running(elsd, LARGE)
    waiting = submit(elsd, LARGE, **{"Idempotency-Key": "accepted"})
    late = {"Idempotency-Key": "refused"}
    elsd.problem("POST", "/v1/jobs", 429, "queue_full", json=QUICK, headers=late)
    # Sent again because the answer was lost: that it waits already is no reason to refuse it.
    assert submit(elsd, LARGE, **{"Idempotency-Key": "accepted"})["id"] == waiting["id"]
    cancel(elsd, waiting)
    job = submit(elsd, QUICK, **late)
    cancel(elsd, first)
    assert elsd.finished(job)["status"] == "succeeded"


def test_when_to_come_back_follows_from_how_long_jobs_take(start):
    """At first it is a guess; then it lies among the times that jobs have taken, in whole seconds."""
    elsd = start("--queue-length", 1)

    def told():
        jobs = [running(elsd, LARGE), submit(elsd, LARGE)]
        seconds = int(elsd.post("/v1/jobs", 429, json=QUICK).headers["Retry-After"])
        for job in jobs[::-1]:
            cancel(elsd, job)
        return seconds
    guess = told()
    for _ in range(8):
        elsd.sample(bank="two-tone", max_samples=2)
    ended = r" job_finished id=\w+ status=succeeded seconds=(\S+)"
    elsd.logged(ended, 8)
    took = [math.ceil(float(seconds)) for seconds in re.findall(ended, elsd.log())]
    assert len(took) == 8 and guess > 1
    assert max(1, min(took)) <= told() <= max(1, *took)


# ---- cancelling ----

def test_what_has_failed_can_be_removed(start):
    elsd = start("--job-timeout", 1)
    job = elsd.finished(submit(elsd, LARGE))
    assert job["status"] == "failed"
    path = f"/v1/jobs/{job['id']}"
    assert elsd.delete(path, 200).json() == {"id": job["id"], "deleted": True}
    for method in ("GET", "DELETE"):
        elsd.problem(method, path, 410)
    elsd.problem("GET", path + "/events", 410)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a large one"])
def test_cancelled_at_any_moment(start, beside):
    """Around its start, in its middle, around its end: what is said to it comes true, and every job is counted once."""
    elsd = start("--threads", 1)
    large = running(elsd, LARGE) if beside else None
    fields = QUICK | {"num_inference_steps": 8}
    began = time.monotonic()
    elsd.finished(submit(elsd, fields))
    took = time.monotonic() - began
    # One that has waited beside a large one for a second is begun.
    moments = (0.3, 1.3 + took) if beside else (0, 3 * took)
    choose, enough, count = random.Random(6), (12 if beside else 60) if LONG else 4 if beside else 16, 0
    said = collections.Counter()
    # It goes on until the moments were not all alike.
    while count < enough or ({code for code, _ in said} != {200, 202} and count < 20 * enough):
        job = submit(elsd, fields | {"seed": count})
        count += 1
        time.sleep(choose.uniform(*moments))
        answer = elsd.delete(f"/v1/jobs/{job['id']}")
        told = answer.json().get("status", "removed")
        said[answer.status_code, told] += 1
        if answer.status_code == 202:
            assert told in ("queued", "running", "cancelled", "succeeded")
            assert elsd.finished(job)["status"] in ("cancelled", "succeeded")
        elif told == "removed":
            elsd.problem("GET", f"/v1/jobs/{job['id']}", 410)
        else:
            assert (answer.status_code, told) == (200, "cancelled")
            assert status(elsd, job) == "cancelled"
    print(dict(said))
    assert {code for code, _ in said} == {200, 202}, "not one moment alone"
    if beside:
        cancel(elsd, large)

    def ended():
        page = metrics(elsd)
        return sum(page["els_jobs_finished_total"].values()) == page["els_jobs_accepted_total"][()] == count + 1 + beside
    wait_until("the count", ended)
    assert metrics(elsd)["els_queue_depth"][()] == 0
    elsd.serves()


def test_a_cancellation_outlives_a_crash(start):
    """What was cancelled or removed is not begun again by the next process; what was not is."""
    elsd = start("--threads", 1)
    removed = elsd.sample()
    elsd.delete(f"/v1/jobs/{removed['id']}", 200)
    stopped, waiting, kept = running(elsd, LARGE), submit(elsd, LARGE), submit(elsd, QUICK)
    elsd.delete(f"/v1/jobs/{waiting['id']}", 200)
    cancel(elsd, stopped)
    elsd.kill()
    elsd.start()
    assert elsd.finished(kept)["status"] == "succeeded"
    assert status(elsd, stopped) == status(elsd, waiting) == "cancelled"
    elsd.problem("GET", f"/v1/jobs/{removed['id']}", 410)
    assert not set(STARTED.findall(elsd.log())) - {kept["id"]}
