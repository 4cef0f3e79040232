"""Churn: many clients submit, wait, cancel, follow, hang up, fetch and delete, while banks are reloaded.

Twenty seconds with 24 clients in the ordinary run; ten minutes with 200 clients with ELS_LONG=1; longer where the machine
needs longer for so many jobs. Afterwards the counts must add up, and memory, descriptors and the state directory must
not have grown since the warm-up. The times of /healthz, asked for by a process of its own while all workers compute, are
printed, not asserted.
"""
import collections
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

import requests

from daemon import PATIENCE, wait_until

LONG = bool(os.environ.get("ELS_LONG"))
SECONDS, CLIENTS = (600, 200) if LONG else (20, 24)
JOBS = 100  # at least so many are accepted, and some refused, however long that takes
QUEUE = 16
JOB = {"bank": "digits", "max_samples": 40, "num_inference_steps": 6, "scales": 3}
MIB = 1 << 20

PROBE = """
import socket, statistics, sys, time
times, end = [], time.monotonic() + float(sys.argv[2])
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    while time.monotonic() < end:
        began = time.perf_counter()
        s.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        answer = s.recv(4096)
        times.append((time.perf_counter() - began) * 1000)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        time.sleep(0.02)
times.sort()
at = lambda q: times[int(q * (len(times) - 1))]
print(f"/healthz of {len(times)}: median {at(.5):.2f} ms, p99 {at(.99):.2f} ms, most {times[-1]:.2f} ms")
"""


class Churn(threading.Thread):
    """One client. What goes wrong ends up in `faults`."""

    def __init__(self, url, seed, stop, counts, ended, faults):
        super().__init__()
        self.url, self.stop, self.counts, self.ended, self.faults = url, stop, counts, ended, faults
        self.choose = random.Random(seed)
        self.start()

    def run(self):
        actions = [self.submit, self.wait, self.cancel, self.follow, self.hang_up, self.look, self.fetch, self.remove]
        with requests.Session() as self.http:
            self.http.trust_env = False
            while not self.stop.is_set():
                try:
                    self.choose.choice(actions)()
                except (AssertionError, requests.RequestException) as e:
                    self.faults.append(repr(e))
                    return
                self.stop.wait(self.choose.uniform(0, 0.1))

    def ask(self, method, path, *allowed, **keys):
        answer = self.http.request(method, self.url + path, timeout=PATIENCE, **keys)
        assert answer.status_code in allowed, (method, path, answer.status_code, answer.text[:300])
        return answer

    def post(self, path, **fields):
        """The job, or None when the queue is full."""
        answer = self.ask("POST", path, 200, 202, 429,
                          json=JOB | {"seed": self.choose.randrange(1 << 30)} | fields)
        if answer.status_code == 429:
            assert answer.json()["code"] == "queue_full" and int(answer.headers["Retry-After"]) >= 1
            self.counts["refused"] += 1
            return None
        self.counts["accepted"] += 1
        return answer.json()

    def submit(self):
        job = self.post("/v1/jobs")
        if job:
            self.ended.append(job["id"])

    def wait(self):
        job = self.post("/v1/samples")
        if job:
            assert job["status"] == "succeeded", job
            self.ended.append(job["id"])

    def cancel(self):
        job = self.post("/v1/jobs", num_inference_steps=200)
        if job:
            self.ask("DELETE", f"/v1/jobs/{job['id']}", 200, 202)

    def follow(self):
        job = self.post("/v1/jobs")
        if job:
            with self.ask("GET", f"/v1/jobs/{job['id']}/events", 200, 410, stream=True) as answer:
                text = answer.content
            assert answer.status_code == 410 or re.search(rb"event: (succeeded|cancelled)\n", text), text[-300:]

    def hang_up(self):
        job = self.post("/v1/jobs", num_inference_steps=30)
        if job:
            with self.ask("GET", f"/v1/jobs/{job['id']}/events", 200, 410, stream=True) as answer:
                answer.raw.read(20)
            self.http.close()

    def look(self):
        self.ask("GET", self.choose.choice(["/v1/jobs?limit=50", "/v1/banks", "/metrics", "/v1/capabilities"]), 200)

    def fetch(self):
        if self.ended:
            job = self.choose.choice(self.ended)
            self.ask("GET", self.choose.choice([f"/v1/jobs/{job}", f"/v1/jobs/{job}/images/0?zoom=4",
                                                f"/v1/jobs/{job}/tensors"]), 200, 409, 410)

    def remove(self):
        if self.ended:
            self.ask("DELETE", f"/v1/jobs/{self.ended.popleft()}", 200, 202, 410)


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def metric(elsd, name):
    return float(re.search(rf"^{re.escape(name)} (\S+)$", elsd.get("/metrics", 200).text, re.M)[1])


def test_churn(start, tell):
    # A sanitizer keeps freed memory for a while, which would look like growth.
    elsd = start("--queue-length", QUEUE, "--retention-bytes", 8 * MIB, "--log-level", "warning",
                 env={"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=1:thread_local_quarantine_size_kb=16"})
    stop, faults = threading.Event(), []
    counts, ended = collections.Counter(), collections.deque(maxlen=500)
    memory, descriptors, busy = [], [], []
    probe = subprocess.Popen([sys.executable, "-c", PROBE, str(elsd.port), str(SECONDS * 0.9)],
                             stdout=subprocess.PIPE, text=True)
    clients = [Churn(elsd.url, seed, stop, counts, ended, faults) for seed in range(CLIENTS)]
    end = time.monotonic() + SECONDS
    at_last = end + PATIENCE
    while not faults and (time.monotonic() < end or (
            time.monotonic() < at_last and (counts["accepted"] < JOBS or not counts["refused"]))):
        time.sleep(1)
        memory.append(rss(elsd.pid))
        descriptors.append(sum(elsd.descriptors().values()))
        busy.append(metric(elsd, "els_workers_busy") == metric(elsd, "els_workers"))
        if len(memory) % 3 == 0:
            elsd.process.send_signal(signal.SIGHUP)
    stop.set()
    for client in clients:
        client.join()
    health = probe.communicate(timeout=PATIENCE)[0].strip()
    assert not faults, faults[:3]
    assert probe.returncode == 0

    # What the clients counted is what the daemon counted: a 429 was a full queue, and every 2xx a job.
    assert metric(elsd, "els_jobs_accepted_total") == counts["accepted"]
    assert metric(elsd, 'els_jobs_refused_total{limit="queue"}') == counts["refused"] > 0
    wait_until("every job to end", lambda: counts["accepted"] == sum(
        metric(elsd, f'els_jobs_finished_total{{status="{s}"}}') for s in ("succeeded", "failed", "cancelled")))
    assert metric(elsd, 'els_jobs{status="queued"}') == 0
    assert metric(elsd, 'els_jobs_finished_total{status="failed"}') == 0
    assert metric(elsd, 'els_reloads_total{outcome="failed"}') == 0

    quarter = len(memory) // 4
    warm, last = statistics.median(memory[quarter:2 * quarter]), statistics.median(memory[-quarter:])
    kept = sum(f.stat().st_size for f in elsd.state_dir.iterdir())
    tell(f"{SECONDS} s, {CLIENTS} clients: {counts['accepted']} jobs, {counts['refused']} refused; all workers busy in "
         f"{sum(busy) / len(busy):.0%} of looks; memory {warm / MIB:.1f} MiB warm, {last / MIB:.1f} MiB at the end; "
         f"descriptors {max(descriptors[:2 * quarter])} warm, {max(descriptors[-quarter:])} at the end; "
         f"state {kept / MIB:.1f} MiB; {health}")
    assert last <= warm * 1.1 + 8 * MIB
    elsd.check_descriptors()
    assert kept < 192 * MIB  # the retention, one WAL (64 MiB at most is kept), and what a sweep has still to free
