#!/usr/bin/env python3
"""Counts single tests in the logs of `meson test`.

Usage: count.py [--all] BUILD_DIR…

--all: what was not run because the time was up (run.sh --minutes) is a failure.

Meson counts programs. A reader wants to know about cases, so this takes Check's and pytest's own
summaries out of each program's output. A program that says nothing counts as one. One that fails without
naming a failed case (a crash, a timeout, a leak found at exit) counts as one failure more.
The ten slowest programs come before the last line, which is `N passed, N failed, N skipped`; the exit status is 1 when
anything failed.
"""
import json
import pathlib
import re
import sys

CHECK = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.M)
PYTEST = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s.*$", re.M)
TAP = re.compile(r"^# (tests|pass|fail|skipped) (\d+)$", re.M)


def cases(test):
    """(passed, failed, skipped) of one program."""
    output = test.get("stdout", "")
    passed = failed = skipped = 0
    checks, pytests, tap = CHECK.findall(output), PYTEST.findall(output), dict(TAP.findall(output))
    for total, failures, errors in checks:
        failed += int(failures) + int(errors)
        passed += int(total) - int(failures) - int(errors)
    for summary in pytests:
        words = {word: int(n) for n, word in re.findall(r"(\d+) ([a-z]+)", summary)}
        passed += words.get("passed", 0) + words.get("xpassed", 0)
        failed += words.get("failed", 0) + words.get("error", 0) + words.get("errors", 0)
        skipped += words.get("skipped", 0) + words.get("deselected", 0) + words.get("xfailed", 0)
    if not checks and not pytests and tap:
        passed, failed, skipped = (int(tap.get(k, 0)) for k in ("pass", "fail", "skipped"))

    if test["result"] in ("SKIP", "EXPECTEDFAIL"):
        skipped += passed + failed == 0 and skipped == 0
    elif test["result"] == "OK":
        passed += passed + failed + skipped == 0
    elif failed == 0:
        failed = 1
    return passed, failed, skipped


def read(build):
    """The tests of one build. With `--setup NAME` the log is testlog-NAME.json."""
    logs = (build / "meson-logs").glob("testlog*.json")
    return [json.loads(line) for log in logs
            for line in log.read_text(errors="replace").splitlines() if line]


def short(name):
    return name.split(" / ")[-1]


def not_run(build, tests):
    """The programs that were chosen and that the time was up for: never begun, or interrupted."""
    chosen = build / "meson-logs" / "chosen.txt"
    names = {short(line) for line in chosen.read_text().splitlines() if " / " in line} if chosen.exists() else set()
    done = {short(test["name"]) for test in tests if test["result"] != "INTERRUPT"}
    return sorted(names - done)


def main():
    fail_not_run = "--all" in sys.argv
    total = [0, 0, 0]
    bad, left, slow = [], [], []
    for build in map(pathlib.Path, (arg for arg in sys.argv[1:] if arg != "--all")):
        tests = read(build)
        missing = not_run(build, tests)
        left += [f"{build.name}: {name}" for name in missing]
        if not tests and not missing:
            bad.append(f"{build.name}: no tests ran")
            total[1] += 1
            continue
        for test in tests:
            name = short(test["name"])
            if name in missing:
                continue
            counts = cases(test)
            total = [a + b for a, b in zip(total, counts)]
            slow.append((test["duration"], f"{build.name}: {name}"))
            print(f"{build.name:20} {name:32} {test['result']:8} "
                  f"{counts[0]:5} passed {counts[1]:3} failed {counts[2]:3} skipped"
                  f" {test['duration']:7.1f} s")
            if counts[1]:
                bad.append(f"{build.name}: {name}: {test['result']}")
    print("The slowest programs:")
    for seconds, name in sorted(slow, reverse=True)[:10]:
        print(f"{seconds:9.1f} s  {name}")
    for line in bad:
        print("FAILED", line)
    if left:
        print(f"{len(left)} programs were not run, because the time was up:", ", ".join(left))
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] or (left and fail_not_run) else 0


if __name__ == "__main__":
    sys.exit(main())
