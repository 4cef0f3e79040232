"""A disk that is full and comes back, and a store that is damaged: said clearly, nothing lost, nothing half served.

The disk is made full by a limit on the size of the daemon's files, which is lifted again.
"""
import resource
import time

from daemon import QUICK, refuses_to_start, wait_until

FULL = (4096, resource.RLIM_INFINITY)
FREE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def disk(elsd, limits):
    resource.prlimit(elsd.pid, resource.RLIMIT_FSIZE, limits)


def store_up(elsd):
    return "els_store_up 1\n" in elsd.get("/metrics", 200).text


def ready(elsd):
    return elsd.get("/readyz").status_code == 200


def test_a_full_disk_refuses_work_and_serves_the_rest(start):
    elsd = start()
    done = elsd.sample()
    picture = elsd.get(done["result"]["images"][0]["url"], 200).content
    disk(elsd, FULL)
    for _ in range(3):
        problem = elsd.problem("POST", "/v1/jobs", 503, "store_failed", json=QUICK)
        assert "job store" in problem["detail"], problem
    assert int(elsd.post("/v1/jobs", 503, json=QUICK).headers["Retry-After"]) >= 1
    assert elsd.problem("GET", "/readyz", 503, "store_failed")
    elsd.get("/healthz", 200)
    assert not store_up(elsd)
    # What was there still is, and only that.
    assert elsd.get(done["result"]["images"][0]["url"], 200).content == picture
    assert [job["id"] for job in elsd.get("/v1/jobs", 200).json()["jobs"]] == [done["id"]]
    disk(elsd, FREE)
    wait_until("the daemon to notice", lambda: ready(elsd))
    assert store_up(elsd)
    elsd.sample(seed=8)


def run_into_a_full_disk(elsd):
    """A job that runs and cannot be stored when it ends, and one behind it. A job that has ended before the disk was full
    was too short."""
    for steps in (60, 240, 960, 3840):
        job = elsd.job(num_images=2, num_inference_steps=steps, max_samples=40, outputs=["image"])
        behind = elsd.job(num_images=2)
        wait_until("the job to begin", lambda: elsd.get(f"/v1/jobs/{job['id']}", 200).json()["status"] != "queued")
        disk(elsd, FULL)
        status = elsd.get(f"/v1/jobs/{job['id']}", 200).json()["status"]
        if status == "running":
            return job, behind
        assert status == "succeeded"
        disk(elsd, FREE)
        assert elsd.finished(behind)["status"] == "succeeded"
        wait_until("the daemon to be ready", lambda: ready(elsd))
    raise AssertionError("every job had ended before the disk was full")


def test_a_result_waits_for_room(start):
    """The disk is full when a job ends: its result is kept until it can be stored."""
    elsd = start()
    expected = elsd.get(elsd.sample(num_images=2)["result"]["tensors_url"], 200).content
    job, behind = run_into_a_full_disk(elsd)
    wait_until("the store to fail", lambda: not store_up(elsd))
    assert elsd.get(f"/v1/jobs/{job['id']}", 200).json()["status"] == "running"
    elsd.problem("GET", f"/v1/jobs/{job['id']}/images/0", 409, "job_not_finished")
    time.sleep(1)
    assert not ready(elsd)
    disk(elsd, FREE)
    assert elsd.finished(job)["status"] == "succeeded"
    assert elsd.get(elsd.finished(behind)["result"]["tensors_url"], 200).content == expected
    wait_until("the daemon to be ready", lambda: ready(elsd))


def test_stopped_while_the_disk_is_full(start):
    """The daemon ends, and the next start does the job again."""
    elsd = start()
    job, _ = run_into_a_full_disk(elsd)
    wait_until("the store to fail", lambda: not store_up(elsd))
    elsd.stop()
    elsd.start()
    assert elsd.finished(job)["status"] == "succeeded"


def test_a_damaged_store_is_refused_with_its_name(start, tmp_path):
    elsd = start()
    elsd.sample()
    elsd.stop()
    file = elsd.state_dir / "jobs.sqlite3"
    whole = file.read_bytes()
    for damaged in (b"not a database" * 1000, whole[:100] + b"\xff" * (len(whole) - 100), whole[:2000], whole[:5000]):
        file.write_bytes(damaged)
        refuses_to_start(tmp_path, "--state-dir", elsd.state_dir, says="jobs.sqlite3")
        assert file.read_bytes() == damaged  # left for whoever repairs it
    file.write_bytes(whole)
    elsd.start()
    assert len(elsd.get("/v1/jobs", 200).json()["jobs"]) == 1


def test_damaged_results_are_not_served(start):
    """Damage in the large tables shows when they are read: an error, not wrong bytes."""
    elsd = start()
    job = elsd.sample(num_images=8, outputs=["image", "x0", "xt"], num_inference_steps=20)
    elsd.stop()
    file = elsd.state_dir / "jobs.sqlite3"
    whole = bytearray(file.read_bytes())
    size = int.from_bytes(whole[16:18], "big")
    # Overflow chains of blobs: cut the links in the file's second half.
    for page in range(len(whole) // size // 2, len(whole) // size):
        whole[page * size:page * size + 4] = b"\xff\xff\xff\xf0"
    file.write_bytes(whole)
    elsd.start()
    answers = [elsd.get(path) for path in (
        [f"/v1/jobs/{job['id']}/tensors"] +
        [f"/v1/jobs/{job['id']}/images/{i}/steps/{s}" for i in range(8) for s in range(0, 19, 6)])]
    assert any(answer.status_code == 500 for answer in answers)
    for answer in answers:
        assert answer.status_code in (200, 500)
        if answer.status_code == 500:
            assert answer.json()["code"] == "damaged" and "damaged" in answer.json()["detail"], answer.text
    elsd.get("/healthz", 200)
