"""What one client can take: the cost of a job, its time, connections; each with its answer."""
import contextlib
import socket
import time

import pytest

from daemon import PATIENCE, QUICK, refuses_to_start, wait_until

ENDLESS = {"bank": "digits", "num_inference_steps": 5000, "scales": 3, "outputs": ["image"], "num_images": 4}


def cost(**fields):
    """Of QUICK's job with these, as config.example.toml defines it. bbels with P = 3: interior pixels, 30 of 32 along
    each axis, have interior pixels as candidates; those at the edge only themselves."""
    job = QUICK | fields
    pairs = (30 * 30 + 2) ** 2
    return job.get("num_images", 1) * (job["num_inference_steps"] - 1) * pairs * job["max_samples"]


def test_a_job_that_costs_too_much(start):
    elsd = start("--max-job-cost", cost(num_images=2))
    elsd.sample(num_images=2)
    elsd.sample(num_images=1, num_inference_steps=7)
    for fields in ({"num_images": 3}, {"num_images": 2, "num_inference_steps": 5}, {"num_images": 2, "max_samples": 21},
                   {"max_samples": None}):
        problem = elsd.problem("POST", "/v1/samples", 422, "job_too_expensive", json=QUICK | fields)
        assert f"{cost(num_images=2):.3g} is allowed" in problem["detail"]
    # One pass over each pixel's own place costs less.
    elsd.sample(machine="ls", num_images=4, max_samples=None)
    assert elsd.get("/v1/capabilities", 200).json()["limits"]["job_cost"]["max"] == cost(num_images=2)


def test_a_job_that_takes_too_long(start):
    """All steps together have so much time, not each of them: where one alone takes as long, there is more time."""
    for seconds in (1, 10, 100):
        elsd = start("--job-timeout", seconds)
        began = time.monotonic()
        job = elsd.finished(elsd.job(**ENDLESS | {"num_images": 1, "max_samples": 400}))
        assert job["status"] == "failed" and job["error"]["code"] == "job_timeout", job["error"]
        assert f"{seconds} s" in job["error"]["detail"]
        assert time.monotonic() - began >= seconds
        assert job["progress"]["step"] < 4999
        if job["progress"]["step"] > 1:
            break
    assert job["progress"]["step"] > 1
    elsd.problem("GET", f"/v1/jobs/{job['id']}/tensors", 409, "job_failed")
    elsd.serves()


def test_a_step_that_takes_too_long(start):
    """The limit ends a step in its middle."""
    elsd = start("--job-timeout", 1, "--threads", 1, "--cpu", "c")
    job = elsd.finished(elsd.job(bank="digits", num_images=64, num_inference_steps=2, start_step="full", scales=31,
                                 max_samples=None, outputs=["image"]))
    assert job["error"]["code"] == "job_timeout" and job["progress"]["step"] == 0, job


def test_connections_of_one_address(start):
    elsd = start("--max-connections-per-address", 4)
    elsd.http.close()

    def answers(connection):
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /v1/banks HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.recv(15) == b"HTTP/1.1 200 OK"
        return False

    with contextlib.ExitStack() as stack:
        mine = [stack.enter_context(elsd.raw()) for _ in range(4)]
        assert all(map(answers, mine))
        for _ in range(3):
            assert not answers(stack.enter_context(elsd.raw()))
        # Another address is not held up: 127.0.0.2 is loopback too.
        other = stack.enter_context(socket.create_connection(("127.0.0.1", elsd.port), PATIENCE, ("127.0.0.2", 0)))
        assert answers(other)
        mine.pop().close()
        wait_until("a place", lambda: answers(stack.enter_context(elsd.raw())))


def test_connections_in_all(start):
    elsd = start("--max-connections", 8)
    elsd.http.close()
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(elsd.raw())
        assert elsd.process.poll() is None
    wait_until("the daemon to answer again", lambda: answers_health(elsd))


def answers_health(elsd):
    with contextlib.suppress(Exception):
        return elsd.get("/healthz").status_code == 200
    return False


def test_a_full_queue_says_when_to_come_back(start):
    elsd = start("--queue-length", 2)
    jobs = [elsd.job(**ENDLESS, max_samples=None)]
    wait_until("the first to run", lambda: elsd.get(f"/v1/jobs/{jobs[0]['id']}", 200).json()["status"] == "running")
    jobs += [elsd.job(**ENDLESS, max_samples=None) for _ in range(2)]
    for path in ("/v1/jobs", "/v1/samples"):
        answer = elsd.post(path, 429, json=QUICK)
        assert answer.json()["code"] == "queue_full" and 1 <= int(answer.headers["Retry-After"]) <= 600
    elsd.delete(f"/v1/jobs/{jobs[2]['id']}", 200)
    jobs[2] = elsd.job(**ENDLESS, max_samples=None)
    elsd.problem("POST", "/v1/jobs", 429, "queue_full", json=QUICK)
    for job in jobs:
        elsd.delete(f"/v1/jobs/{job['id']}")


def test_many_arguments_without_values(start):
    elsd = start()
    for n in (1, 2, 5, 50, 300):
        elsd.get("/v1/jobs?" + "&".join("a" * n), 200)
        elsd.get("/v1/jobs?" + "&".join("a" * n) + "&limit=0", 422)


@pytest.mark.parametrize("flag, low, high", [
    ("--max-job-cost", 0, None), ("--job-timeout", -1, None), ("--max-jobs-per-key", -1, 100001),
    ("--max-jobs-per-address", -1, 100001),
])
def test_settings_are_bounded(tmp_path, flag, low, high):
    for value in (low, high, "x"):
        if value is not None:
            refuses_to_start(tmp_path, flag, value, says=[flag, str(value)])
