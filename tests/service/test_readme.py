"""What README.md tells its readers to type, typed: each block after the line <!-- test: service --> runs as it stands
but for the daemon's address, in an empty directory.

The whole bank would take an instrumented build half an hour. Unless ELS_LONG=1 a small one stands in under its name.
"""
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from daemon import ELS, PATIENCE, environment
from formats import read_npy, read_png, write_safetensors

README = pathlib.Path(os.environ["ELS_SOURCE_DIR"]) / "README.md"
ADDRESS = "http://127.0.0.1:8080"
BLOCK = re.compile(r"^<!-- test: service -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
READ = {".png": read_png, ".npy": read_npy}

BLOCKS = BLOCK.findall(README.read_text())


def test_there_are_blocks_of_both_kinds():
    assert {kind for kind, _ in BLOCKS} == set(RUN)
    assert README.read_text().count("<!-- test: service -->") == len(BLOCKS), "no mark stands alone"


def stand_in(path):
    """Two images of noise for each of ten classes."""
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 32, 32), dtype=np.uint8)
    path.write_bytes(write_safetensors({"images": images, "labels": np.arange(20) % 10}))
    return path


@pytest.mark.parametrize("kind, block", BLOCKS, ids=[f"{kind}{i}" for i, (kind, _) in enumerate(BLOCKS)])
def test_a_block_does_what_it_says(start, tmp_path, kind, block):
    bank = "digits" if os.environ.get("ELS_LONG") else stand_in(tmp_path / "digits.safetensors")
    elsd = start("--bank", f"digits={bank}", "--sync-timeout", 3600)
    desk = tmp_path / "desk"
    desk.mkdir()
    assert ADDRESS in block
    done = subprocess.run([*RUN[kind], block.replace(ADDRESS, elsd.url)], cwd=desk, stdin=subprocess.DEVNULL,
                          env=environment(PATH=f"{ELS.parent}:{os.environ['PATH']}", PYTHONUTF8=1), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=5 * PATIENCE)
    assert done.returncode == 0, (done.stdout, done.stderr)
    # curl is content with an error too.
    counts = elsd.get("/metrics", 200).text
    answered = re.findall(r'^els_http_requests_total\{.*code="(\d+)".*\} [1-9]', counts, re.MULTILINE)
    assert answered and set(answered) <= {"200", "202"}, (answered, done.stdout)
    for file in desk.iterdir():
        if file.suffix in READ:
            READ[file.suffix](file.read_bytes())
    assert done.stdout or list(desk.iterdir()), "there is something to see"
    # What a comment promises of a print is what is printed.
    for promised in re.findall(r"^print\(.*\)  # (\(.*\) \w+)", block, re.MULTILINE):
        assert promised in done.stdout, (promised, done.stdout)
