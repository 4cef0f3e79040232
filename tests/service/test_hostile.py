"""The hostile hour: everything that a client can do to a daemon, from four keys and from none, while one honest client
has its pictures made.

In the ordinary run each attacker does ROUNDS attacks, as many as there are kinds and a few more; with ELS_LONG=1 they go
on for ELS_HOSTILE_SECONDS, 600 if it is not set. The order is a seed's (ELS_HOSTILE_SEED). What they do is in attacks.py.

What must hold the whole time:

    charged memory <= memory_limit, charged disk <= disk_limit           as /metrics tells
    resident memory <= at the start + (memory_limit - banks) * TIMES + OUTSIDE
    bytes in state_dir <= disk_limit * PAGES + JOURNAL
    descriptors <= at the start + max_connections + OPEN

OUTSIDE is what no account pays for: free memory that the C library keeps (an arena for each thread), stacks that were
touched, SQLite's caches, places of connections. The release build had at most 97 MiB of it in the short form, while heads
and bodies were not charged yet; the test prints it. In a sanitizer build every allocation has a shadow and a border, and
freed memory is kept for a while: TIMES.

And at the end: the honest client has every picture with the bytes that it had before the attack; every job that was
acknowledged to anybody has ended; nothing transient is charged any more; the log has no error but what the attack made.
Times are printed, not asserted: /healthz is asked for by a process of its own.
"""
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

import requests

from attacks import Attacker, context
from daemon import ELS, ELSD, QUICK, wait_until
from test_metrics import parse
from test_soak import rss
from test_store import edit

LONG = bool(os.environ.get("ELS_LONG"))
SECONDS = int(os.environ.get("ELS_HOSTILE_SECONDS", 600)) if LONG else None
SEED = int(os.environ.get("ELS_HOSTILE_SEED", 16))
ROUNDS = 22
KEYS = ["ann", "ben", "cat", "dan"]
MIB = 1 << 20
MEMORY, RETENTION, CONNECTIONS = 192 * MIB, 4 * MIB, 256
DISK = 48 * MIB
SANITIZED = any(word in ELSD.read_bytes() for word in (b"__asan_init", b"__tsan_init"))
TIMES = 4 if SANITIZED else 1
OUTSIDE = (512 if SANITIZED else 128) * MIB
PAGES, JOURNAL = 1.25, 96 * MIB  # pages that are not full; the log of SQLite, 64 MiB at most when it is at rest
OPEN = 32
OURS = {"requests": MIB, "answers": MIB}  # what it costs to ask for the metrics, on a connection that stays open
TRANSIENT = ["requests", "bodies", "json", "inputs", "runs", "answers", "streams"]

SETTINGS = f"""
memory_limit = {MEMORY}
disk_limit = {DISK}
retention_bytes = {RETENTION}
queue_length = 48
queue_bytes = {16 * MIB}
max_jobs_per_key = 10
max_connections = {CONNECTIONS}
max_connections_per_address = 128
max_body_bytes = {16 * MIB}
upload_timeout = 5
log_level = "warning"
"""

# Each of them is refused, and changes nothing (10).
HOSTILE_SETTINGS = ["a." * 50000 + "b = 1\n", "a = " + "[" * 100000, "x = {" + "a = {" * 50000, 'a = "' + "\\u0000" * 5,
                    "max_connections = -1\n", "[" + "a." * 50000 + "a]\n", "\0" * 1000, "memory_limit = 1\n",
                    "a = 1\n" * 100000]

PROBE = """
import select, socket, sys, time
times = []
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 120, ("127.0.0.3", 0)) as s:
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        began = time.perf_counter()
        s.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        answer = s.recv(4096)
        times.append((time.perf_counter() - began) * 1000)
        assert answer.startswith(b"HTTP/1.1 200"), answer
times.sort()
at = lambda q: times[int(q * (len(times) - 1))]
print(f"/healthz of {len(times)}: median {at(.5):.2f} ms, p99 {at(.99):.2f} ms, most {times[-1]:.2f} ms")
"""


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def session(address):
    """A client that has that address."""
    class From(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args, **keys):
            super().init_poolmanager(*args, source_address=(address, 0), **keys)

    http = requests.Session()
    http.trust_env = False
    http.mount("http://", From())
    return http


class Honest:
    """Has pictures made, one after the other, and waits when it is asked to."""

    def __init__(self, elsd, key):
        self.elsd, self.http, self.times, self.waits = elsd, session("127.0.0.2"), [], 0
        self.http.headers.update(bearer(key))

    def picture(self, seed):
        """The PNG of a sample."""
        began = time.perf_counter()
        for _ in range(200):
            answer = self.http.post(self.elsd.url + "/v1/samples", json=QUICK | {"seed": seed}, timeout=600)
            if answer.status_code in (429, 503):
                self.waits += 1
                time.sleep(0.2)
                continue
            assert answer.status_code in (200, 202), (answer.status_code, answer.text)
            job = self.elsd_finished(answer.json())
            image = self.http.get(f"{self.elsd.url}/v1/jobs/{job['id']}/images/0", timeout=600)
            if image.status_code == 410:  # so much was stored since: retention
                self.waits += 1
                continue
            assert image.status_code == 200, (image.status_code, image.text)
            self.times.append(time.perf_counter() - began)
            return image.content
        raise AssertionError("refused 200 times")

    def elsd_finished(self, job):
        def ended():
            if job["status"] == "succeeded":
                return job
            answer = self.http.get(f"{self.elsd.url}/v1/jobs/{job['id']}", timeout=600)
            if answer.status_code == 410:
                return job
            assert answer.status_code == 200, answer.text
            now = answer.json()
            assert now["status"] not in ("failed", "cancelled"), now
            return now if now["status"] == "succeeded" else None
        return wait_until("the honest client's job", ended, 600)


class Watch(threading.Thread):
    """Looks at memory, disk, descriptors and metrics all the time; what is beyond a limit is in `faults`."""

    def __init__(self, elsd, key):
        super().__init__(daemon=True)
        self.elsd, self.http, self.end, self.faults = elsd, session("127.0.0.4"), threading.Event(), []
        self.http.headers.update(bearer(key))
        now = self.metrics()
        self.banks = held(now, "memory")["banks"]
        self.resident = rss(elsd.pid)
        self.open = sum(elsd.descriptors().values())
        self.most = {"resident": 0, "charged": 0, "disk": 0, "charged disk": 0, "descriptors": 0}
        self.outside = 0
        self.classes = {}

    def metrics(self):
        answer = self.http.get(self.elsd.url + "/metrics", timeout=600)
        assert answer.status_code == 200, answer.text
        return parse(answer.text)

    def note(self, what, value, most):
        self.most[what] = max(self.most[what], value)
        if value > most:
            self.faults.append(f"{what}: {value} is more than {most}")

    def look(self):
        self.note("resident", rss(self.elsd.pid), self.resident + (MEMORY - self.banks) * TIMES + OUTSIDE)
        self.note("disk", stored(self.elsd), DISK * PAGES + JOURNAL)
        self.note("descriptors", sum(self.elsd.descriptors().values()), self.open + CONNECTIONS + OPEN)

    def account(self):
        before = rss(self.elsd.pid)
        now = self.metrics()
        memory, disk = held(now, "memory"), held(now, "disk")
        self.note("charged", sum(memory.values()), now["els_memory_limit_bytes"][()])
        self.note("charged disk", sum(disk.values()), now["els_disk_limit_bytes"][()])
        self.outside = max(self.outside, before - self.resident - sum(memory.values()) + self.banks)
        for name, value in [*memory.items(), *((f"disk {k}", v) for k, v in disk.items())]:
            self.classes[name] = max(self.classes.get(name, 0), value)

    def run(self):
        try:
            while not self.end.wait(0.1):
                for _ in range(5):
                    self.look()
                    time.sleep(0.05)
                self.account()
        except Exception as e:  # a thread's failure is the test's
            self.faults.append(repr(e))


def held(metrics, resource):
    """{class: bytes}."""
    return {labels[0][1]: value for labels, value in metrics[f"els_{resource}_bytes"].items()}


def stored(elsd):
    total = 0
    for file in elsd.state_dir.iterdir():
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def prepare(start, tmp_path):
    """A daemon with keys, and jobs that are no business of most: one whose row is damaged, one deleted, one there."""
    keys_file = tmp_path / "keys"
    keys = {name: subprocess.run([ELS, "key", "add", keys_file, name], capture_output=True, text=True,
                                 check=True).stdout.strip() for name in [*KEYS, "honest"]}
    settings = f"keys_file = {json.dumps(str(keys_file))}\n" + SETTINGS
    elsd = start(config=settings, env={"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=4"})
    damaged, deleted, there = [elsd.post("/v1/samples", 200, json=QUICK, headers=bearer(keys[name])).json()["id"]
                               for name in ("ann", "honest", "honest")]
    elsd.delete(f"/v1/jobs/{deleted}", 200, headers=bearer(keys["honest"]))
    elsd.stop()
    edit(elsd, "UPDATE jobs SET num_images=? WHERE id=?", 1 << 62, damaged)
    elsd.start()
    return elsd, keys, settings, [damaged, deleted, there]


def reload(elsd, watch, settings, text):
    """A SIGHUP with that; once it has been taken or refused the settings are as they were. The file is whole always."""
    def done():
        return sum(watch.metrics()["els_reloads_total"].values())

    before = done()
    replace(elsd, text)
    elsd.process.send_signal(signal.SIGHUP)
    wait_until("the settings to be read", lambda: done() > before)
    replace(elsd, settings)


def replace(elsd, text):
    new = elsd.folder / "config.toml.new"
    new.write_text(text)
    new.replace(elsd.folder / "config.toml")


def test_the_hostile_hour(start, tell, tmp_path):
    elsd, keys, settings, others = prepare(start, tmp_path)
    honest = Honest(elsd, keys["honest"])
    expected = [honest.picture(seed) for seed in range(4)]
    quiet = statistics.median(honest.times)
    honest.times.clear()

    stop = context.Event()
    crew = [Attacker(elsd.port, name, keys.get(name), SEED * 100 + i, None if LONG else ROUNDS, stop, others,
                     "127.0.0.1" if name in keys else "127.0.0.5") for i, name in enumerate([*KEYS, "nobody"])]
    for attacker in crew:
        attacker.start()
    watch = Watch(elsd, keys["honest"])
    watch.start()
    probe = subprocess.Popen([sys.executable, "-c", PROBE, str(elsd.port)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    began, pictures = time.monotonic(), 0
    try:
        while not watch.faults and (time.monotonic() - began < SECONDS if LONG else not all(a.ended() for a in crew)):
            reload(elsd, watch, settings, HOSTILE_SETTINGS[pictures % len(HOSTILE_SETTINGS)] if pictures % 3 else settings)
            assert elsd.process.poll() is None, elsd.log()[-5000:]
            assert honest.picture(pictures % len(expected)) == expected[pictures % len(expected)]
            pictures += 1
    except BaseException as e:
        watch.faults.append(repr(e))
        raise
    finally:
        if LONG or watch.faults:
            stop.set()
        reports = [attacker.report() for attacker in crew]
        watch.end.set()
        watch.join()
        for http in (watch.http, honest.http):
            http.close()
        health = probe.communicate("end\n", timeout=120)[0].strip()
    seconds = time.monotonic() - began
    assert probe.returncode == 0
    faults = [report["fault"] for report in reports if report["fault"]] + watch.faults
    assert not faults, faults[0]

    # Nothing is lost: every job that was acknowledged has ended, or has ended and gone as retention wants it.
    ends = dict.fromkeys(["succeeded", "failed", "cancelled", "gone"], 0)
    for attacker, report in zip(crew, reports):
        for job in report["jobs"]:
            def ended():
                answer = elsd.get(f"/v1/jobs/{job}", headers=bearer(attacker.key))
                assert answer.status_code in (200, 410), (attacker.name, job, answer.text)
                status = answer.json()["status"] if answer.status_code == 200 else "gone"
                return status if status in ends else None
            ends[wait_until(f"the end of {job}", ended)] += 1

    # When all have gone, nothing of theirs is charged.
    def left():
        now = watch.metrics()
        memory, disk = held(now, "memory"), held(now, "disk")
        jobs = sum(now["els_jobs"].values())  # also those whose client had gone before it was answered
        return {name: memory[name] for name in TRANSIENT if memory[name] > OURS.get(name, 0)} | (
            {"disk inputs": disk["inputs"]} if disk["inputs"] else {}) | ({"jobs": jobs} if jobs else {})

    try:
        wait_until("everything transient to be given back", lambda: not left())
    except AssertionError:
        raise AssertionError(f"still charged: {left()}") from None
    now = watch.metrics()
    finished = {labels[0][1]: value for labels, value in now["els_jobs_finished_total"].items()}
    assert now["els_jobs_accepted_total"][()] == sum(finished.values())
    watch.http.close()
    honest.http.close()

    statuses = sum((report["statuses"] for report in reports), start=type(reports[0]["statuses"])())
    did = sum((report["did"] for report in reports), start=type(reports[0]["did"])())
    errors = [line for line in elsd.log().splitlines()
              if " error " in line.lower() and not re.search("reload_failed|store_damaged|damaged", line)]
    times = sorted(honest.times)
    tell(f"{seconds:.0f} s, {sum(did.values())} attacks, {sum(ends.values())} of their jobs acknowledged {ends}, "
         f"answers {dict(sorted(statuses.items(), key=str))}; most: " +
         ", ".join(f"{name} {value if name == 'descriptors' else f'{value / MIB:.1f} MiB'}"
                   for name, value in watch.most.items()) +
         f" (at the start {watch.resident / MIB:.1f} MiB resident, of banks {watch.banks / MIB:.1f}); beside what is "
         f"charged at most {watch.outside / MIB:.1f} MiB; by class, KiB: "
         f"{ {name: int(value / 1024) for name, value in watch.classes.items() if value} }; "
         f"honest: {len(times)} pictures, {honest.waits} waits, median {statistics.median(times):.2f} s, p99 "
         f"{times[-(-99 * len(times) // 100) - 1]:.2f} s, alone {quiet:.2f} s; {health}")
    assert not errors, errors[:5]
    assert set(did) >= {"heads", "values", "small_jobs", "calibrate", "denoise", "unread", "exclude", "malformed"}
    assert pictures > 0 and not statuses.get(501)
