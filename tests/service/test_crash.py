"""kill -9 at any moment: no accepted job is lost, none is done twice, and every result is what an undisturbed run gives.

Five kills in the ordinary run, a hundred with ELS_LONG=1. Clients submit with Idempotency-Key while the daemon is
killed; what was not answered is sent again under the same key. Some kills hit the daemon while it starts.
"""
import hashlib
import os
import random
import subprocess
import threading
import time

import requests

from daemon import ELSD, PATIENCE, Daemon, die_with_parent, wait_until

KILLS = 100 if os.environ.get("ELS_LONG") else 5
CLIENTS = 4
PER_LIFE = 3  # jobs that one client sends in one life of the daemon: the queue must get empty some time

# Different kinds of load: many short steps, few long ones, several images, stochastic, uploaded parameters in full.
BODIES = [
    {"bank": "digits", "max_samples": 20, "num_inference_steps": 12, "scales": 5, "seed": 1},
    {"bank": "digits", "max_samples": 50, "num_inference_steps": 4, "scales": 7, "seed": 2, "machine": "els"},
    {"bank": "digits", "max_samples": 10, "num_inference_steps": 6, "scales": 3, "seed": 3, "num_images": 3,
     "outputs": ["image", "x0", "xt", "entropy"]},
    {"bank": "shapes", "max_samples": 15, "num_inference_steps": 5, "scales": 3, "seed": 4, "sampler": "ddpm"},
    {"bank": "two-tone", "max_samples": 2, "num_inference_steps": 20, "scales": 3, "seed": 5, "machine": "els"},
    {"bank": "digits", "label": 3, "num_inference_steps": 5, "scales": 5, "seed": 6, "machine": "ls"},
]


class Client(threading.Thread):
    """Sends jobs until it has sent its share or the daemon is gone."""

    def __init__(self, url, name, pending, accepted, choose):
        super().__init__()
        self.url, self.prefix, self.pending, self.accepted = url, name, pending, accepted
        self.bodies = [choose.randrange(len(BODIES)) for _ in range(PER_LIFE)]
        self.start()

    def run(self):
        with requests.Session() as http:
            http.trust_env = False
            for i, body in enumerate(self.bodies):
                key = f"{self.prefix}-{i}"
                self.pending[key] = body
                if not send(http, self.url, key, body, self.pending, self.accepted):
                    return


def send(http, url, key, body, pending, accepted):
    try:
        answer = http.post(url + "/v1/jobs", json=BODIES[body], headers={"Idempotency-Key": key}, timeout=PATIENCE)
    except (requests.ConnectionError, requests.Timeout):
        return False
    assert answer.status_code in (200, 202), (answer.status_code, answer.text)
    accepted[key] = (answer.json()["id"], body)
    del pending[key]
    return True


def results(elsd, job):
    """Everything that a job keeps, as one digest."""
    digest = hashlib.sha256()
    for image in job["result"]["images"]:
        digest.update(elsd.get(image["url"], 200).content)
    digest.update(elsd.get(job["result"]["tensors_url"], 200).content)
    return digest.hexdigest()


def kill_during_start(elsd, choose):
    with elsd.log_file.open("ab") as log:
        process = subprocess.Popen([ELSD, *map(str, elsd.flags)], cwd=elsd.folder, env=elsd.env, stderr=log,
                                   stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
    time.sleep(choose.uniform(0, 0.4))
    process.kill()
    process.wait()


def all_jobs(elsd):
    jobs, cursor = [], ""
    while cursor is not None:
        page = elsd.get(f"/v1/jobs?limit=100{cursor and '&cursor=' + cursor}", 200).json()
        jobs += page["jobs"]
        cursor = page["next_cursor"]
    return jobs


def test_kills_lose_nothing(tmp_path, tell):
    choose = random.Random(20260102)
    elsd = Daemon(tmp_path / "killed", "--queue-length", 100000)
    pending, accepted, life = {}, {}, 0

    def requeued():
        return elsd.log_file.read_text().count("jobs_requeued")
    # Kills that came when there was nothing to do show nothing: then there are more.
    while life < KILLS or (life < 10 * KILLS and not requeued()):
        life += 1
        elsd.start()
        for key, body in list(pending.items()):
            assert send(elsd.http, elsd.url, key, body, pending, accepted)
        clients = [Client(elsd.url, f"{life}-{c}", pending, accepted, choose) for c in range(CLIENTS)]
        # After so many jobs, however slowly they come in, and a moment.
        enough = len(accepted) + choose.randrange(CLIENTS * PER_LIFE)
        wait_until("some jobs", lambda: len(accepted) >= enough or not any(c.is_alive() for c in clients))
        time.sleep(choose.uniform(0, 0.1))
        elsd.kill()
        for client in clients:
            client.join()
        if choose.random() < 0.25:
            kill_during_start(elsd, choose)
    with elsd:
        for key, body in list(pending.items()):
            assert send(elsd.http, elsd.url, key, body, pending, accepted)
        with Daemon(tmp_path / "undisturbed", state=False) as calm:
            expected = [results(calm, calm.post("/v1/samples", 200, json=body).json()) for body in BODIES]
        wait_until("all jobs", lambda: not elsd.get("/v1/jobs?status=queued&limit=1", 200).json()["jobs"] and
                   not elsd.get("/v1/jobs?status=running&limit=1", 200).json()["jobs"], 3600)
        jobs = {job["id"]: job for job in all_jobs(elsd)}
        # Exactly the accepted ones: nothing lost, nothing twice.
        assert len({job for job, _ in accepted.values()}) == len(accepted)
        assert set(jobs) == {job for job, _ in accepted.values()}
        different = 0
        for job, body in accepted.values():
            now = elsd.get(f"/v1/jobs/{job}", 200).json()
            assert now["status"] == "succeeded", now["error"]
            different += results(elsd, now) != expected[body]
        assert different == 0
        tell(f"{life} kills, {len(accepted)} jobs accepted, 0 lost, {different} results different, "
             f"{requeued()} starts that queued some again")
        assert requeued() > 0
