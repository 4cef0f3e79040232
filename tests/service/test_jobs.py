"""Jobs that exist: the list, what can be fetched of one, cancelling and deleting in every state."""
from concurrent.futures import ThreadPoolExecutor
import time

import numpy as np
import pytest

from daemon import wait_until
from formats import read_npy, read_png, read_safetensors, to_u8

# Minutes of work on any machine, in short steps, to be met while it runs; always cancelled.
SLOW = {"bank": "digits", "max_samples": 20, "num_inference_steps": 5000, "scales": 3, "num_images": 8,
        "outputs": ["image"]}

NOBODY = "0" * 32


def running(elsd, **fields):
    """A job that computes now."""
    job = elsd.job(**SLOW | fields)
    wait_until("the job to run", lambda: elsd.get(f"/v1/jobs/{job['id']}", 200).json()["status"] == "running")
    return job


def cancel(elsd, job):
    elsd.delete(f"/v1/jobs/{job['id']}")
    assert elsd.finished(job)["status"] == "cancelled"


@pytest.fixture(scope="module")
def full(elsd):
    """A finished job that kept everything, with its tensors."""
    job = elsd.sample(bank="shapes", num_images=2, outputs=["image", "x0", "xt", "entropy"])
    tensors, _ = read_safetensors(elsd.get(job["result"]["tensors_url"], 200).content)
    return job, tensors


# ---- the list ----

def test_pages_of_the_list_are_the_list(start):
    elsd = start("--bank", "two-tone=two-tone")
    assert elsd.get("/v1/jobs", 200).json() == {"jobs": [], "next_cursor": None}
    made = [elsd.sample(bank="two-tone", max_samples=2, seed=i)["id"] for i in range(7)]
    pages, cursor = [], None
    while True:
        page = elsd.get("/v1/jobs", 200, params={"limit": 3, "cursor": cursor}).json()
        pages.append([j["id"] for j in page["jobs"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break
        # A job made meanwhile does not shift the pages.
        elsd.sample(bank="two-tone", max_samples=2)
    assert [len(p) for p in pages] == [3, 3, 1]
    assert sum(pages, []) == made[::-1]
    everything = elsd.get("/v1/jobs", 200).json()
    assert len(everything["jobs"]) == 9 and everything["next_cursor"] is None
    # What the list says of a job is what the job says, but for its result.
    first = everything["jobs"][-1]
    whole = elsd.get(f"/v1/jobs/{first['id']}", 200).json()
    assert {k: v for k, v in whole.items() if k != "result"} == {k: v for k, v in first.items() if k != "result"}


def test_the_list_by_status(start):
    elsd = start("--threads", 1)
    done = elsd.sample(bank="two-tone", max_samples=2)["id"]
    now, waiting, gone = running(elsd), elsd.job(**SLOW), elsd.job(**SLOW)
    cancel(elsd, gone)
    found = {status: [j["id"] for j in elsd.get(f"/v1/jobs?status={status}", 200).json()["jobs"]]
             for status in ("queued", "running", "succeeded", "failed", "cancelled")}
    assert found == {"queued": [waiting["id"]], "running": [now["id"]], "succeeded": [done], "failed": [],
                     "cancelled": [gone["id"]]}
    cancel(elsd, waiting)
    cancel(elsd, now)


@pytest.mark.parametrize("query, says", [
    ("status=done", "queued"), ("limit=0", "1 to "), ("limit=101", "1 to 100"), ("limit=x", "1 to 100"),
    ("cursor=x", "cursor"), ("cursor=-3", "cursor"),
])
def test_a_wrong_query_is_told(elsd, query, says):
    error, = elsd.problem("GET", "/v1/jobs?" + query, 422)["errors"]
    assert error["pointer"] == "?" + query.split("=")[0] and says in error["detail"]


# ---- what can be fetched ----

def test_tensors_have_their_shapes(full):
    _, tensors = full
    assert {k: v.shape for k, v in tensors.items()} == {
        "images": (2, 3, 32, 32), "x0": (2, 3, 3, 32, 32), "xt": (2, 4, 3, 32, 32), "entropy": (2, 3, 32, 32)}
    assert all(t.dtype == np.dtype("<f4") and np.isfinite(t).all() for t in tensors.values())
    assert (tensors["entropy"] >= -1e-6).all()
    assert np.array_equal(tensors["xt"][:, -1], tensors["images"])


def test_one_tensor_as_npy(elsd, full):
    job, tensors = full
    for name, tensor in tensors.items():
        answer = elsd.get(f"{job['result']['tensors_url']}?name={name}", 200)
        assert answer.headers["Content-Type"] == "application/x-npy"
        assert np.array_equal(read_npy(answer.content), tensor)
    elsd.problem("GET", job["result"]["tensors_url"] + "?name=y0", 404)


def test_a_step_is_its_estimate(elsd, full):
    job, tensors = full
    for image in range(2):
        for query, name, steps in [("", "x0", 3), ("?of=x0", "x0", 3), ("?of=xt", "xt", 4)]:
            for step in range(steps):
                png = read_png(elsd.get(f"/v1/jobs/{job['id']}/images/{image}/steps/{step}{query}", 200).content)
                assert np.array_equal(png.pixels, to_u8(tensors[name][image, step]).transpose(1, 2, 0))
    large = elsd.get(f"/v1/jobs/{job['id']}/images/0/steps/0?of=xt&zoom=2", 200).content
    assert read_png(large).width == 64


def test_the_steps_tell_the_reverse_process(elsd, full):
    """DDIM by hand: x_{i-1} = sqrt(abar_{i-1}) x0 + sqrt(beta_{i-1}) eps, from what the job says of each step."""
    job, tensors = full
    steps = job["result"]["steps"]
    for now, then in zip(steps, steps[1:]):
        x, x0 = (tensors[n][:, now["step"]].astype(np.float64) for n in ("xt", "x0"))
        eps = (x - np.sqrt(now["alpha_bar"]) * x0) / np.sqrt(1 - now["alpha_bar"])
        following = np.sqrt(then["alpha_bar"]) * x0 + np.sqrt(1 - then["alpha_bar"]) * eps
        # float32 of values up to about 4
        np.testing.assert_allclose(tensors["xt"][:, then["step"]], following, atol=2e-6)


@pytest.mark.parametrize("path", [
    "images/2", "images/-1", "images/x", "images/00000000000000", "images/0/steps/3", "images/2/steps/0",
    "images/0/steps/-1", "images/0/steps/4?of=xt", "images/99999999999999999999", "images/0/steps/99999999999999999999",
    "nothing",
])
def test_what_is_not_there_is_404(elsd, full, path):
    elsd.problem("GET", f"/v1/jobs/{full[0]['id']}/{path}", 404)


def test_what_was_not_kept_is_409(elsd):
    job = elsd.sample(outputs=["image"])
    for path in ("images/0/steps/0", "images/0/steps/0?of=xt", "tensors?name=x0", "tensors?name=entropy"):
        elsd.problem("GET", f"/v1/jobs/{job['id']}/{path}", 409)
    assert read_npy(elsd.get(f"/v1/jobs/{job['id']}/tensors?name=images", 200).content).shape == (1, 1, 32, 32)
    error, = elsd.problem("GET", f"/v1/jobs/{job['id']}/images/0/steps/0?of=yt", 422)["errors"]
    assert error["pointer"] == "?of" and "x0 or xt" in error["detail"]


@pytest.mark.parametrize("id", [NOBODY, "x", "..", "%2e%2e%2fetc", "A" * 300, "0" * 31, "' OR 1=1 --", "%00"])
def test_nobody_is_404(elsd, id):
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/tensors"), ("GET", "/images/0")]:
        answer = elsd.request(method, f"/v1/jobs/{id}{path}")
        assert answer.status_code in (404, 400), (method, path, answer.text)
        assert answer.headers["Content-Type"] == "application/problem+json"
    elsd.problem("GET", f"/v1/jobs/{NOBODY}", 404, "job_not_found")


# ---- the end ----

RESULTS = ["/images/0", "/images/0/steps/0", "/tensors", "/tensors?name=images"]


def test_a_queued_job_is_cancelled_at_once(elsd):
    first = running(elsd)
    second, third = elsd.job(**SLOW), elsd.job(**SLOW)
    assert elsd.get(f"/v1/jobs/{second['id']}", 200).json()["queue_position"] == 1
    assert elsd.get(f"/v1/jobs/{third['id']}", 200).json()["queue_position"] == 2
    for path in RESULTS:
        elsd.problem("GET", f"/v1/jobs/{third['id']}{path}", 409, "job_not_finished")
    assert elsd.delete(f"/v1/jobs/{second['id']}", 200).json()["status"] == "cancelled"
    assert elsd.get(f"/v1/jobs/{third['id']}", 200).json()["queue_position"] == 1
    assert elsd.get(f"/v1/jobs/{second['id']}", 200).json()["status"] == "cancelled"
    for path in RESULTS:
        elsd.problem("GET", f"/v1/jobs/{second['id']}{path}", 409, "job_cancelled")
    cancel(elsd, third)
    cancel(elsd, first)


def test_a_running_job_stops_soon(elsd):
    job = running(elsd)
    for path in RESULTS:
        elsd.problem("GET", f"/v1/jobs/{job['id']}{path}", 409, "job_not_finished")
    for accept in ("image/png", "application/x-npy", "application/vnd.safetensors"):
        elsd.problem("GET", f"/v1/jobs/{job['id']}", 409, "job_not_finished", headers={"Accept": accept})
    answer = elsd.delete(f"/v1/jobs/{job['id']}", 202).json()
    assert answer["id"] == job["id"] and answer["status"] in ("running", "cancelled")
    done = elsd.finished(job)
    assert done["status"] == "cancelled" and done["result"] is None and done["finished_at"]
    assert done["progress"]["step"] < 4999, "it was not run to its end"
    elsd.problem("GET", f"/v1/jobs/{job['id']}/images/0", 409, "job_cancelled")
    # Deleting it again says the same; it never had results to lose.
    assert elsd.delete(f"/v1/jobs/{job['id']}", 200).json()["status"] == "cancelled"


def test_a_waiting_client_hears_of_the_cancellation(elsd):
    with ThreadPoolExecutor() as pool:
        as_json = pool.submit(elsd.post, "/v1/samples", json=SLOW)
        job = wait_until("the job", lambda: elsd.get("/v1/jobs?status=running", 200).json()["jobs"])[0]
        as_png = pool.submit(elsd.post, "/v1/samples", json=SLOW, headers={"Accept": "image/png"})
        second = wait_until("the other", lambda: elsd.get("/v1/jobs?status=queued", 200).json()["jobs"])[0]
        cancel(elsd, second)
        cancel(elsd, job)
        for answer in (as_json.result(), as_png.result()):
            assert answer.status_code == 409 and answer.json()["code"] == "job_cancelled"


def test_a_finished_job_is_gone(elsd):
    job = elsd.sample()
    path = f"/v1/jobs/{job['id']}"
    elsd.delete(path, 200)
    for rest in ["", "/events", *RESULTS]:
        elsd.problem("GET", path + rest, 410)
    elsd.problem("DELETE", path, 410)
    assert job["id"] not in [j["id"] for j in elsd.get("/v1/jobs?limit=100", 200).json()["jobs"]]


def test_results_expire(start):
    """Looked for every minute and at the start, so this starts again."""
    elsd = start("--retention-seconds", 1)
    job = elsd.sample()
    elsd.stop()
    time.sleep(1.1)
    elsd.start()
    wait_until("the job to expire", lambda: elsd.get(f"/v1/jobs/{job['id']}").status_code == 410)
    elsd.problem("GET", f"/v1/jobs/{job['id']}/images/0", 410)
