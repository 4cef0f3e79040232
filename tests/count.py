#!/usr/bin/env python3
"""Counts single tests in the logs of `meson test`.

Usage: count.py BUILD_DIR…

Meson counts programs. A reader wants to know about cases, so this takes Check's and pytest's own
summaries out of each program's output. A program that says nothing counts as one. One that fails without
naming a failed case (a crash, a timeout, a leak found at exit) counts as one failure more.
The last line is `N passed, N failed, N skipped`; the exit status is 1 when anything failed.
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


def main():
    total = [0, 0, 0]
    bad = []
    for build in map(pathlib.Path, sys.argv[1:]):
        tests = read(build)
        if not tests:
            bad.append(f"{build.name}: no tests ran")
            total[1] += 1
            continue
        for test in tests:
            counts = cases(test)
            total = [a + b for a, b in zip(total, counts)]
            name = test["name"].split(" / ")[-1]
            print(f"{build.name:20} {name:32} {test['result']:8} "
                  f"{counts[0]:5} passed {counts[1]:3} failed {counts[2]:3} skipped"
                  f" {test['duration']:7.1f} s")
            if counts[1]:
                bad.append(f"{build.name}: {name}: {test['result']}")
    for line in bad:
        print("FAILED", line)
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
