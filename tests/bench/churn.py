#!/usr/bin/python3
"""How much does a daemon do for many honest clients at once? Compares builds.

    churn.py BUILD [BUILD…]
        the clients of tests/service/test_soak.py (they submit, wait, cancel, follow, hang up, fetch and delete), against
        each build in turn, `--rounds` times, the order reversed every second round. Prints, per round and as medians:
        requests and accepted jobs a second, and the daemon's processor time for each request

An answer that the ordinary test would not allow is counted as odd and printed. Needs numpy, requests (Debian:
python3-requests).
"""
import argparse
import collections
import contextlib
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def counting(churn):
    """A client that counts its requests and goes on after an odd answer."""

    class Counting(churn):
        def ask(self, method, path, *allowed, **keys):
            answer = self.http.request(method, self.url + path, timeout=300, **keys)
            self.counts["requests"] += 1
            self.counts["odd"] += answer.status_code not in allowed
            return answer

        def post(self, path, **fields):
            with contextlib.suppress(AssertionError):
                return super().post(path, **fields)

    return Counting


def measure(elsd, client, number, seconds):
    """(requests a second, jobs a second, processor ms a request, odd answers, clients that gave up)."""
    stop, faults, counts, ended = threading.Event(), [], collections.Counter(), collections.deque(maxlen=500)
    clients = [client(elsd.url, seed, stop, counts, ended, faults) for seed in range(number)]
    time.sleep(min(4, seconds))
    before, began, used = counts.copy(), time.monotonic(), processor_seconds(elsd.pid)
    time.sleep(seconds)
    after, took, used = counts.copy(), time.monotonic() - began, processor_seconds(elsd.pid) - used
    stop.set()
    for one in clients:
        one.join()
    asked = after["requests"] - before["requests"]
    return (asked / took, (after["accepted"] - before["accepted"]) / took, used * 1000 / max(asked, 1), counts["odd"],
            len(faults))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", type=pathlib.Path, nargs="+", metavar="BUILD")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    o = parser.parse_args()
    os.environ["ELS_BUILD_DIR"] = str(o.builds[0].resolve())
    os.environ.setdefault("ELS_SHARED_DIR", str(HERE.parent.parent.parent / "shared"))
    sys.path.insert(0, str(HERE.parent / "service"))
    import daemon
    import test_soak

    client, results = counting(test_soak.Churn), {build: [] for build in o.builds}
    print(f"{o.clients} clients, {o.seconds:g} s, {os.cpu_count()} cores")
    print(f"{'requests/s':>10} {'jobs/s':>7} {'ms CPU each':>11} {'odd':>5} {'gave up':>7}  build")
    for turn in range(o.rounds):
        for build in o.builds[::-1] if turn % 2 else o.builds:
            daemon.ELSD = build.resolve() / "server" / "elsd"
            with tempfile.TemporaryDirectory() as folder, daemon.Daemon(
                    pathlib.Path(folder), "--queue-length", 16, "--retention-bytes", 8 << 20, "--log-level",
                    "warning") as elsd:
                one = measure(elsd, client, o.clients, o.seconds)
            results[build].append(one)
            print("{:10.1f} {:7.1f} {:11.2f} {:5} {:7}  {}".format(*one, build), flush=True)
    print("medians")
    for build, rounds in results.items():
        print("{:10.1f} {:7.1f} {:11.2f} {:5.0f} {:7.0f}  {}".format(*map(statistics.median, zip(*rounds)), build))


if __name__ == "__main__":
    main()
