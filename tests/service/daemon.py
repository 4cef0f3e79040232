"""The harness: the real `elsd`, in its own directory, on a port of its own, watched until its end.

    with Daemon(tmp_path, "--queue-length", 2) as elsd:
        job = elsd.sample(seed=7)                    # POST /v1/samples, 200, its JSON
        png = elsd.get(job["result"]["images"][0]["url"], status=200).content

Flags, `env` and `config` (the text of a TOML file) reach the daemon as they are; a state directory is used
unless state=False, and no more `descriptors` than that are allowed. `stderr` is a descriptor that its standard error
goes to instead of log(). Leaving the block stops the daemon with SIGTERM and fails the test when it wrote sanitizer
output, kept a descriptor that it did not have when it was ready, did not end, or ended with a status other than 0.
"""
import collections
import contextlib
import ctypes
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import time

import requests

ELSD = pathlib.Path(os.environ["ELS_BUILD_DIR"]) / "server" / "elsd"
ELS = pathlib.Path(os.environ["ELS_BUILD_DIR"]) / "server" / "cli" / "els"
SHARED = pathlib.Path(os.environ["ELS_SHARED_DIR"])

# A hang is a failure, slowness is not: far above what an instrumented build needs on a slow and busy machine.
PATIENCE = 1200

# Deadlines of the daemon that a slow machine could pass: out of a test's way unless the test sets them itself.
LENIENT = {"upload_timeout": 86400, "sync_timeout": 3600}

# A cheap job of the default bank, for tests that are not about its parameters.
QUICK = {"bank": "digits", "max_samples": 20, "num_inference_steps": 4, "scales": 3, "seed": 7}

FAULTS = re.compile(r"Sanitizer|runtime error|Assertion|stack smashing|double free|corrupted")
PR_SET_PDEATHSIG = 1


def wait_until(what, true, patience=PATIENCE):
    """Polls true() until it says something true, and returns that."""
    end = time.monotonic() + patience
    while not (value := true()):
        assert time.monotonic() < end, f"waited {patience} s for {what}"
        time.sleep(0.01)
    return value


def die_with_parent():
    """A test program that is killed takes its daemons with it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def environment(**extra):
    """Ours, without what would configure the daemon or lead a client elsewhere."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("ELSD_") and not k.lower().endswith("_proxy")}
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    return env | {k: str(v) for k, v in extra.items()}


class Daemon:
    def __init__(self, folder, *flags, env=None, config=None, state=True, descriptors=None, stderr=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state_dir = self.folder / "state"
        self.log_file = self.folder / "stderr.log"
        self.port_file = self.folder / "port"
        self.flags = ["--port", "0", "--port-file", self.port_file, *flags]
        if state:
            self.flags += ["--state-dir", self.state_dir]
        if config is not None:
            (self.folder / "config.toml").write_text(config)
            self.flags += ["--config", self.folder / "config.toml"]
        lenient = {f"ELSD_{name.upper()}": value for name, value in LENIENT.items() if name not in (config or "")}
        self.env = environment(**lenient | (env or {}))
        self.most_descriptors = descriptors
        self.stderr = stderr
        self.process = None
        self.http = None

    # ---- its life ----

    def prepare(self):
        """In the new process, before it is the daemon."""
        die_with_parent()
        if self.most_descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.most_descriptors,) * 2)

    def start(self):
        """Runs it and waits until it is ready."""
        self.port_file.unlink(missing_ok=True)
        self.http = requests.Session()
        self.http.trust_env = False
        self.seen = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen([ELSD, *map(str, self.flags)], cwd=self.folder, env=self.env,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=self.stderr or log,
                                            preexec_fn=self.prepare)
        wait_until("the port file", lambda: self.port_file.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, f"elsd ended with {self.process.returncode}: {self.log()}"
        self.port = int(self.port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}"
        assert self.get("/readyz").status_code == 200
        self.http.close()
        wait_until("our own connection to be closed", lambda: not self.connections())
        self.descriptors_at_start = self.settled(self.descriptors)
        return self

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        """What it has written since its start. A line may follow what it tells of by a moment: see logged()."""
        with self.log_file.open("rb") as f:
            f.seek(self.seen)
            return f.read().decode(errors="replace")

    def logged(self, pattern, times=1):
        """Waits until the log has the regular expression so often; returns the first match."""
        return wait_until(f"{pattern} in the log",
                          lambda: [*re.finditer(pattern, self.log())][times - 1:])[0]

    def connections(self):
        """How many there are that the daemon has not closed, be they accepted or not."""
        lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        return sum(local.endswith(f":{self.port:04X}") and state in ("01", "08")  # established, or left by the client
                   for _, local, _, state in (line.split()[:4] for line in lines))

    def descriptors(self):
        """What its descriptors lead to, each with how often: sockets and pipes without their numbers."""
        folder, found = pathlib.Path(f"/proc/{self.pid}/fd"), collections.Counter()
        for entry in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                found[re.sub(r":\[\d+\]$", "", os.readlink(entry))] += 1
        return found

    @staticmethod
    def settled(read):
        """A reading that stays the same for a moment."""
        last = read()
        while True:
            time.sleep(0.05)
            if (now := read()) == last:
                return now
            last = now

    def check_descriptors(self, patience=PATIENCE):
        self.http.close()
        try:
            wait_until("descriptors to be closed", lambda: not self.descriptors() - self.descriptors_at_start,
                       patience)
        except AssertionError:
            left = dict(self.descriptors() - self.descriptors_at_start)
            raise AssertionError(f"descriptors leaked: {left}") from None

    def check_log(self):
        log = self.log()
        assert not FAULTS.search(log), log

    def kill(self):
        """As a crash would end it: nothing is written, nothing is checked but its log."""
        self.process.kill()
        self.process.wait()
        self.process = None
        self.http.close()
        self.check_log()

    def stop(self, number=signal.SIGTERM):
        """Asks it to end and checks how it did."""
        if not self.process:
            return
        process, self.process = self.process, None
        self.http.close()
        if process.poll() is None:
            process.send_signal(number)
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"elsd outlived its signal by {PATIENCE} s: {self.log()}") from None
        self.check_log()
        assert status == 0, (status, self.log())

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            raise

    def __exit__(self, kind, *_):
        try:
            if not kind and self.process and self.process.poll() is None:
                self.check_descriptors()
        finally:
            self.stop()

    # ---- what clients ask ----

    def request(self, method, path, status=None, **keys):
        """One request; with `status`, that answer or a failure that tells what came instead."""
        keys.setdefault("timeout", PATIENCE)
        answer = self.http.request(method, self.url + path, **keys)
        if status is not None:
            assert answer.status_code == status, (method, path, answer.status_code, answer.text[:2000])
        return answer

    def get(self, path, status=None, **keys):
        return self.request("GET", path, status, **keys)

    def post(self, path, status=None, **keys):
        return self.request("POST", path, status, **keys)

    def delete(self, path, status=None, **keys):
        return self.request("DELETE", path, status, **keys)

    def sample(self, **fields):
        """The finished job of QUICK's parameters and these."""
        return self.post("/v1/samples", 200, json=QUICK | fields).json()

    def job(self, **fields):
        """The same, accepted and not waited for."""
        return self.accepted("/v1/jobs", json=QUICK | fields)

    def accepted(self, path, **keys):
        """The job of a POST that does not wait: 202, or 200 when the job has ended by the time of the answer."""
        answer = self.post(path, **keys)
        assert answer.status_code in (200, 202), (path, answer.status_code, answer.text[:2000])
        return answer.json()

    def finished(self, job):
        """The job as it is once it has ended."""
        def ended():
            now = self.get(f"/v1/jobs/{job['id']}", 200).json()
            return now if now["status"] in ("succeeded", "failed", "cancelled") else None
        return wait_until(f"the end of {job['id']}", ended)

    def problem(self, method, path, status, code=None, **keys):
        """The RFC 9457 document of a request that is refused; its form is checked here, once."""
        answer = self.request(method, path, status, **keys)
        assert answer.headers["Content-Type"] == "application/problem+json", answer.headers
        problem = answer.json()
        assert {"type", "title", "status", "detail", "instance", "code", "request_id"} <= set(problem), problem
        assert problem["status"] == status and problem["title"] and problem["detail"]
        assert problem["request_id"] == answer.headers["X-Request-Id"]
        assert problem["instance"] == path.split("?")[0]
        for error in problem.get("errors", []):
            assert error["pointer"][:1] in ("", "/", "?") and error["detail"], error
        if code:
            assert problem["code"] == code, problem
        return problem

    def serves(self):
        """It is alive, takes work and gives it back."""
        assert self.process.poll() is None, self.log()
        self.get("/healthz", 200)
        assert self.sample(bank="two-tone", max_samples=2)["status"] == "succeeded"

    @contextlib.contextmanager
    def raw(self):
        """A bare connection, for what no HTTP client would send."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            yield connection


def refuses_to_start(folder, *flags, env=None, says):
    """A start that must fail: soon, with status 1, one sentence that names the cause, and nothing worse."""
    done = subprocess.run([ELSD, "--port", "0", *map(str, flags)], cwd=folder, env=environment(**(env or {})),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=PATIENCE, preexec_fn=die_with_parent)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert not FAULTS.search(done.stderr), done.stderr
    for text in [says] if isinstance(says, str) else says:
        assert text in done.stderr, (text, done.stderr)
    return done.stderr
