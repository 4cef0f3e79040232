"""The same parameters and the same seed give the same bytes: with any number of threads, alone or in a batch, whatever
else runs, through `els` and through HTTP."""
import contextlib
import hashlib
import itertools
import json
import subprocess

import numpy as np
import pytest

from daemon import ELS, QUICK, Daemon, environment
from formats import read_png, read_safetensors

THREADS = [1, 2, 5]
NUM_IMAGES = 3
OUTPUTS = ["image", "x0", "xt", "entropy"]

# Every machine, both samplers, both generators, grey and colour, a bank smaller than the number of threads.
CASES = [
    {},
    {"machine": "els", "scales": [3, 3, 5, 7], "sampler": "ddpm"},
    {"machine": "els", "candidates": "valid", "noise": "numpy", "start_step": "full"},
    {"machine": "ls", "bank": "shapes", "scales": 5, "max_samples": 20},
    {"machine": "is", "noise_schedule": "linear", "label": 3},
    {"machine": "es", "bank": "two-tone", "max_samples": 2},
    {"machine": "bbels", "bank": "shapes", "max_samples": 3, "sampler": "ddpm", "num_inference_steps": 3},
]


@pytest.fixture(scope="module")
def daemons(tmp_path_factory):
    """One daemon for each number of threads."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Daemon(tmp_path_factory.mktemp(f"threads{n}"), "--threads", n)) for n in THREADS]


def body(case, **fields):
    return QUICK | {"max_samples": 8, "num_images": NUM_IMAGES, "outputs": OUTPUTS} | case | fields


def els(fields, threads, out):
    """The bytes that `els sample` writes for the parameters of a request."""
    words = {"num_inference_steps": "steps"}
    flags = []
    for name, value in fields.items():
        value = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        flags += ["--" + words.get(name, name).replace("_", "-"), value]
    done = subprocess.run([ELS, "sample", *flags, "--threads", str(threads), "--quiet", "--output", out],
                          env=environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return out.read_bytes()


def over_http(elsd, fields, accept):
    answer = elsd.post("/v1/samples", 200, json=fields, headers={"Accept": accept})
    assert answer.headers["Content-Type"] == accept
    return answer.content


def the_one(copies):
    """What all of them are."""
    copies = list(copies)
    assert len(set(copies)) == 1, [hashlib.sha256(c).hexdigest() for c in copies]
    return copies[0]


@pytest.mark.parametrize("case", CASES, ids=json.dumps)
def test_threads_batches_els_and_http(daemons, tmp_path, case):
    by_els = the_one(els(body(case), n, tmp_path / f"{n}.safetensors") for n in THREADS)
    by_http = the_one(over_http(d, body(case), "application/vnd.safetensors") for d in daemons)
    tensors, _ = read_safetensors(by_http)
    assert list(tensors) == ["images", "x0", "xt", "entropy"]
    # The containers differ in metadata; every number is the same.
    for name, tensor in read_safetensors(by_els)[0].items():
        assert tensor.tobytes() == tensors[name].tobytes(), name
    # It would be no wonder if all images were the same.
    assert len({x.tobytes() for x in tensors["xt"][:, 0]}) == NUM_IMAGES

    one = body(case, num_images=1)
    for i, elsd in zip(range(NUM_IMAGES), itertools.cycle(daemons)):
        alone, _ = read_safetensors(over_http(elsd, one | {"seed": QUICK["seed"] + i}, "application/vnd.safetensors"))
        for name, tensor in alone.items():
            assert tensor[0].tobytes() == tensors[name][i].tobytes(), (i, name)


@pytest.mark.parametrize("count", [1, NUM_IMAGES])
def test_npy_and_png(daemons, tmp_path, count):
    fields = body({"seed": 12}, num_images=count, outputs=["image"])
    by_els = {kind: the_one(els(fields, n, tmp_path / f"a.{kind}") for n in THREADS) for kind in ("npy", "png")}
    assert the_one(over_http(d, fields, "application/x-npy") for d in daemons) == by_els["npy"]
    served = the_one(over_http(d, fields, "image/png") for d in daemons)
    # The same pixels; the parameters, which `els` writes in its own order, make the same picture again.
    drawn = read_png(by_els["png"])
    assert np.array_equal(drawn.pixels, read_png(served).pixels)
    again = over_http(daemons[0], json.loads(drawn.text["els"]), "image/png")
    assert np.array_equal(read_png(again).pixels, drawn.pixels)


def test_whatever_else_runs(daemons):
    """Jobs that wait together may be computed as one batch, which must not show."""
    _, _, elsd = daemons
    fields = [body(case, num_images=1, seed=seed) for seed in range(3) for case in CASES[:3]]
    jobs = [elsd.accepted("/v1/jobs", json=f) for f in fields]
    digests = [[i["sha256"] for i in elsd.finished(job)["result"]["images"]] for job in jobs]
    for f, digest in zip(fields, digests):
        alone = daemons[0].post("/v1/samples", 200, json=f).json()
        assert [i["sha256"] for i in alone["result"]["images"]] == digest, f
    assert len(set(map(tuple, digests))) == len(fields)


def test_a_job_sent_again_to_another_daemon(daemons):
    """The resolved parameters are complete: another process makes the same of them."""
    first = daemons[0].post("/v1/samples", 200, json=body({"scales": "mnist-unet-zeros", "seed": None})).json()
    again = daemons[2].post("/v1/samples", 200, json=first["params"]).json()
    assert again["params"] == first["params"] and again["seeds"] == first["seeds"]
    a, b = (d.get(j["result"]["tensors_url"], 200).content for d, j in ((daemons[0], first), (daemons[2], again)))
    assert a == b
