#!/usr/bin/python3
"""What do jobs gain, and what do they pay, when they share passes over the bank (the setting images_per_pass)?

    sharing.py BUILD
        a daemon of the build, 16 jobs of one image each at once, with images_per_pass 1, 2, 4 and 8: the time until all
        are done, and how long one of them took on the average since it was accepted; medians of `--repeats` rounds

`ratio` compares with the same jobs one after the other. Needs numpy, requests (Debian: python3-requests).
"""
import argparse
import datetime
import os
import pathlib
import statistics
import sys
import tempfile
import time

WORKLOADS = {
    "bbels": {},
    "bbels, P = 3": {"scales": 3},
    "es": {"machine": "es"},
}
IMAGES = (1, 2, 4, 8)


def seconds_between(job):
    first, last = (datetime.datetime.fromisoformat(job[key].replace("Z", "+00:00"))
                   for key in ("created_at", "finished_at"))
    return (last - first).total_seconds()


def run(daemon, folder, images, jobs, fields, bank):
    """Seconds until all are done, and the mean over the jobs from acceptance to end."""
    with daemon(folder, "--images-per-pass", images, "--bank", f"bank={bank}") as elsd:
        began = time.monotonic()
        posted = [elsd.post("/v1/jobs", 202, json={"bank": "bank", "seed": seed} | fields).json()
                  for seed in range(jobs)]
        done = [elsd.finished(job) for job in posted]
        return time.monotonic() - began, statistics.mean(map(seconds_between, done))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--bank", default="digits", help="a built-in bank or a .safetensors file")
    parser.add_argument("--max-samples", type=int, help="use the bank's first images only")
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    o = parser.parse_args()
    here = pathlib.Path(__file__).resolve().parent
    os.environ["ELS_BUILD_DIR"] = str(o.build.resolve())
    os.environ.setdefault("ELS_SHARED_DIR", str(here.parent.parent.parent / "shared"))
    sys.path.insert(0, str(here.parent / "service"))
    from daemon import Daemon  # reads the environment

    print(f"{'':14} {'images':>6} {'all':>8} {'ratio':>6} {'mean':>8} {'ratio':>6}")
    for name, fields in WORKLOADS.items():
        fields = fields | ({"max_samples": o.max_samples} if o.max_samples else {})
        times = {images: [] for images in IMAGES}
        for _ in range(o.repeats):  # interleaved: a busy moment of the machine hits all alike
            for images in IMAGES:
                with tempfile.TemporaryDirectory() as folder:
                    times[images].append(run(Daemon, folder, images, o.jobs, fields, o.bank))
        medians = {images: [statistics.median(t) for t in zip(*times[images])] for images in IMAGES}
        for images, (every, mean) in medians.items():
            alone = medians[1]
            print(f"{name:14} {images:6} {every:7.2f}s {every / alone[0]:6.2f} {mean:7.2f}s {mean / alone[1]:6.2f}",
                  flush=True)


if __name__ == "__main__":
    main()
