"""However long a step is, nobody waits for it: another job has its turn, a cancellation and SIGTERM come through, and the
bytes are the same as without all that. Nothing here measures time, but for one ratio inside one run."""
import datetime
import re
import signal

import numpy as np
import pytest

from daemon import QUICK, wait_until
from formats import SAFETENSORS, write_safetensors
from test_bounds import ENDLESS
from test_jobs import cancel
from test_metrics import metrics
from test_queue import submit, status

# One step, of an hour: 64 noisy images at 15 scales.
HUGE = {"bank": "digits", "machine": "els", "t": 0.5, "p": list(range(1, 31, 2)), "max_samples": None}

# The steps are nothing beside the end: so many pictures, one by one.
MANY = {"bank": "two-tone", "machine": "is", "max_samples": 2, "num_inference_steps": 2, "num_images": 2000, "seed": 1,
        "outputs": ["image"]}
MANY_FLAGS = ("--threads", 1, "--max-num-images", 2000)


def denoise(elsd, fields, images=64, size=32):
    x = np.random.default_rng(3).standard_normal((images, 1, size, size)).astype(np.float32)
    return elsd.post("/v1/denoise", 202, data=write_safetensors({"x": x}, params=fields),
                     headers={"Content-Type": SAFETENSORS, "Prefer": "wait=0"}).json()


def progress(elsd, job):
    found = elsd.get(f"/v1/jobs/{job['id']}", 200).json()
    return found["status"], found["progress"]


def runs(elsd, job):
    wait_until("it to run", lambda: status(elsd, job) == "running")
    return job


def ends(elsd, job):
    """All steps are done, but the job has not ended. False: it was too quick."""
    def seen():
        now, at = progress(elsd, job)
        return "late" if now == "succeeded" else "seen" if now == "running" and at["step"] == at["steps"] else None
    return wait_until("its steps", seen) == "seen"


def tensors(elsd, job):
    assert job["status"] == "succeeded", job
    return elsd.get(f"/v1/jobs/{job['id']}/tensors", 200).content


def moments(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_a_small_job_ends_before_one_long_step(start):
    elsd = start("--threads", 2)
    huge = runs(elsd, denoise(elsd, HUGE))
    for seed in range(2):
        assert elsd.finished(submit(elsd, QUICK | {"seed": seed}))["status"] == "succeeded"
    now, at = progress(elsd, huge)
    assert (now, at["step"], at["steps"]) == ("running", 0, 1)
    cancel(elsd, huge)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_bytes_with_and_without_turns(start, threads):
    elsd = start("--threads", threads)
    machines = [QUICK | {"machine": machine, "outputs": ["image", "xt", "entropy"], "max_samples": 20}
                for machine in ("is", "es", "ls", "els", "bbels")]
    machines += [QUICK | {"outputs": ["final_mosaic"], "max_samples": 10}, QUICK | {"scales": "auto", "max_samples": 8}]
    large = HUGE | {"machine": "bbels", "p": [3, 9], "max_samples": 200}
    alone = [tensors(elsd, elsd.finished(submit(elsd, fields))) for fields in machines]
    alone_large = tensors(elsd, elsd.finished(denoise(elsd, large, images=2)))
    huge = runs(elsd, denoise(elsd, HUGE))
    beside = [submit(elsd, fields) for fields in machines]
    beside_large = denoise(elsd, large, images=2)
    assert [tensors(elsd, elsd.finished(job)) for job in beside] == alone
    assert tensors(elsd, elsd.finished(beside_large)) == alone_large
    assert status(elsd, huge) == "running"
    cancel(elsd, huge)


# ---- the end of a job ----

def test_cancelled_while_its_pictures_are_made(start):
    """Whoever is told 202 finds the job cancelled."""
    elsd = start(*MANY_FLAGS)
    for seed in range(5):
        job = submit(elsd, MANY | {"seed": seed})
        if ends(elsd, job):
            answer = elsd.delete(f"/v1/jobs/{job['id']}")
            if answer.status_code == 202:
                assert elsd.finished(job)["status"] == "cancelled"
                return
            assert answer.json() == {"id": job["id"], "deleted": True}, "it was too late, and says so"
    raise AssertionError("five ended before they could be cancelled")


def phases():
    sample = QUICK | {"num_inference_steps": 2}
    return {
        "a step": lambda elsd: runs(elsd, denoise(elsd, HUGE | {"machine": "bbels", "p": [3, 5], "max_samples": 200}, 4)),
        "scales": lambda elsd: runs(elsd, submit(elsd, sample | {"scales": "auto", "max_samples": 24})),
        "mosaics": lambda elsd: runs(elsd, submit(elsd, sample | {"outputs": ["mosaic"], "max_samples": 60,
                                                                  "num_images": 2})),
        "pictures": lambda elsd: next(job for seed in range(5)
                                      if ends(elsd, job := submit(elsd, MANY | {"seed": seed}))),
    }


@pytest.mark.parametrize("phase", phases())
def test_a_signal_leaves_the_job_to_the_next_start(start, phase):
    """It neither ends meanwhile nor is lost, and has the same bytes in the end."""
    elsd = start(*MANY_FLAGS)
    for _ in range(5):
        job = phases()[phase](elsd)
        elsd.stop(signal.SIGTERM)
        cut = f"job_finished id={job['id']}" not in elsd.log()
        elsd.start()
        if cut:
            break
    assert cut, "five ended before the signal came"
    again = elsd.finished(job)
    assert re.search(rf"job_started id={job['id']}", elsd.log())
    body = {k: v for k, v in again["params"].items() if k != "x"}
    same = denoise(elsd, body, 4) if phase == "a step" else submit(elsd, body)
    assert tensors(elsd, again) == tensors(elsd, elsd.finished(same))


# ---- how long it will take ----

def test_the_time_left_knows_what_scales_cost(start, tell):
    """The first half of the steps takes most of the time: the other half has far fewer candidates."""
    elsd = start("--threads", 1)
    steps = 20
    # Steps run from t = 1 down, and of two scales the nearest in t counts.
    job = submit(elsd, QUICK | {"max_samples": 150, "num_inference_steps": steps, "start_step": "full",
                                "scales": {"t": [0.4, 0.6], "p": [25, 3]}})

    def half():
        now, at = progress(elsd, job)
        return at if now == "succeeded" or at["step"] >= steps // 2 - 2 else None
    at = wait_until("half of the steps", half)
    seen = datetime.datetime.now(datetime.timezone.utc).timestamp()
    done = elsd.finished(job)
    took, left = seen - moments(done["started_at"]), moments(done["finished_at"]) - seen
    tell(f"after {at['step']} of {steps} steps {at['eta_seconds']:.2f} s were left; it was {left:.2f} s, {took:.2f} s gone")
    # By the share of steps it would be as much as has gone.
    assert at["step"] > steps // 2 or at["eta_seconds"] < took / 2


# ---- what running jobs hold ----

def charged(elsd):
    return metrics(elsd)["els_memory_bytes"][(("class", "runs"),)]


def test_a_run_is_charged_and_one_that_has_no_room_waits(start):
    """It was accepted, so it is not lost; smaller ones go by. What could never run is refused."""
    limit = 336 << 20
    elsd = start("--threads", 1, "--memory-limit", limit, "--share-per-address", 25)
    kept = {"outputs": ["xt"], "start_step": "full", "num_images": 32}
    values = 32 * 1024 * 4
    large = runs(elsd, submit(elsd, ENDLESS | kept | {"num_inference_steps": (40 << 20) // values}))
    assert 40 << 20 < charged(elsd) <= limit // 4
    fields = QUICK | kept | {"machine": "is", "max_samples": 1, "num_inference_steps": (30 << 20) // values}
    waits = submit(elsd, fields)
    assert elsd.finished(submit(elsd, QUICK))["status"] == "succeeded"
    assert (status(elsd, large), status(elsd, waits)) == ("running", "queued")
    elsd.problem("POST", "/v1/jobs", 413, "run_too_large", json=fields | {"num_inference_steps": (90 << 20) // values})
    cancel(elsd, large)
    assert elsd.finished(waits)["status"] == "succeeded"
    wait_until("all to be given back", lambda: charged(elsd) == 0)
