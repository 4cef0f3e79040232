"""What JSON costs: bodies of many values, of many mistakes, and long parameters in the captions of many pictures."""
import json
import re

import numpy as np
import pytest

from daemon import QUICK
from formats import SAFETENSORS, read_png, write_safetensors
from test_metrics import metrics

JSON = {"Content-Type": "application/json"}
MIB = 1 << 20
SIZE = 16 * MIB


def flood(begin, part, size=SIZE):
    """A body of that many bytes; it need not end, for nobody reads so far."""
    return (begin + part * (size // len(part) + 1))[:size]


def most_memory(elsd):
    """The most that the process has ever occupied, in bytes."""
    with open(f"/proc/{elsd.pid}/status") as f:
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", f.read())[1])


@pytest.mark.parametrize("begin, part, says", [
    (b'{"a":[', b"{},", "200000 values"),
    (b'{"a":[', b"[],", "200000 values"),
    (b'{"a":[', b"0,", "200000 values"),
    (b'{', b'"seed":{},', "200000 values"),
    (b'{"client_ref":"', b"x", "8388608 bytes"),
    (b'{"seed":1', b"0", "1000 characters"),
])
def test_a_flood_is_refused_and_named(elsd, begin, part, says):
    for method, path in (("POST", "/v1/samples"), ("PUT", "/v1/scales/mine")):
        problem = elsd.problem(method, path, 413, "json_too_large", data=flood(begin, part, 10 * MIB), headers=JSON)
        assert says in problem["detail"]


def test_a_flood_makes_no_tree(start):
    """A tree of 16 MiB of empty objects takes 1.2 GB; refusing it takes no more than any body of that size does."""
    elsd = start(env={"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=1"})
    elsd.post("/v1/jobs", 422, data=b'{"sed":1}' + b" " * (SIZE - 9), headers=JSON)
    before = most_memory(elsd)
    for begin, part in ((b'{"a":[', b"{},"), (b'{"a":[', b"0,"), (b"{", b'"a":{},'), (b'{"a":["', b"\\n")):
        elsd.problem("POST", "/v1/jobs", 413, "json_too_large", data=flood(begin, part), headers=JSON)
    assert most_memory(elsd) - before < 2 * SIZE


def test_16_faults_end_the_reading(elsd):
    """Each unknown field costs a search for the one that was meant: 16 of them, not 30,000."""
    many = {f"{i:06}nference_steps_of_some_length": 0 for i in range(30000)}
    for body in (many, {"exclude": {"images": [-1] * 65536}}, {"noise_schedule": {"alpha_bar": [1, .5, .2]} | many}):
        problem = elsd.problem("POST", "/v1/jobs", 422, "invalid_parameters", json=body)
        assert len(problem["errors"]) == 16
        assert problem["detail"].startswith("16 values or more are not acceptable. The first: ")
    problem = elsd.problem("PUT", "/v1/scales/mine", 422, json={"t": [0.5], "p": [3]} | many)
    assert len(problem["errors"]) == 16


def test_the_limits_are_told(elsd):
    limits = elsd.get("/v1/capabilities", 200).json()["limits"]
    assert limits["json_values"] == {"max": 200000} and limits["json_depth"] == {"max": 64}
    assert limits["json_string"] == {"max": 8 * MIB}
    most = limits["exclude"]["max"]
    openapi = elsd.get("/openapi.json", 200).json()
    lists = openapi["components"]["schemas"]["SampleRequest"]["properties"]["exclude"]["properties"]
    assert lists["images"]["maxItems"] == lists["classes"]["maxItems"] == most
    elsd.sample(exclude={"images": [2999] * most}, max_samples=2)
    error, = elsd.problem("POST", "/v1/jobs", 422, json=QUICK | {"exclude": {"images": [2999] * (most + 1)}})["errors"]
    assert error["pointer"] == "/exclude/images" and str(most) in error["detail"]


def test_a_safetensors_header_is_bounded(elsd):
    header = flood(b'{"__metadata__":{},"a":[', b"{},", 8 * MIB)
    body = len(header).to_bytes(8, "little") + header
    problem = elsd.problem("POST", "/v1/denoise", 422, "bad_safetensors", data=body,
                           headers={"Content-Type": "application/vnd.safetensors"})
    assert "values" in problem["detail"]


def captions(elsd, job):
    """The captions of all images, and of a sheet and a step that are drawn when they are asked for."""
    urls = [image["url"] for image in job["result"]["images"]]
    for url in urls + [f"/v1/jobs/{job['id']}/images/3?zoom=2", f"/v1/jobs/{job['id']}/images/3/steps/0"]:
        png = elsd.get(url, 200).content
        assert len(png) < 48 << 10, url
        yield json.loads(read_png(png).text["els"])


def test_long_parameters_are_kept_once(elsd):
    """Every picture carries the parameters, but not megabytes of them: then it says where they are."""
    excluded = [2999 - i % 100 for i in range(60000)]
    job = elsd.sample(num_images=8, exclude={"images": excluded}, outputs=["image", "x0"])
    assert job["params"]["exclude"]["images"] == excluded
    found = list(captions(elsd, job))
    assert [c.pop("index") for c in found] == [*range(8), 3, 3]
    digest, = {c.pop("params_sha256") for c in found}
    assert re.fullmatch("[0-9a-f]{64}", digest)
    for caption in found:
        assert caption == {"job": job["id"], "params": f"/v1/jobs/{job['id']}"}
    assert elsd.get(found[0]["params"], 200).json()["params"] == job["params"]

    job = elsd.sample(num_images=8, exclude={"images": excluded[:100]}, outputs=["image", "x0"], seed=7)
    for caption, seed in zip(captions(elsd, job), [*range(7, 15), 10, 10]):
        assert caption["exclude"]["images"] == excluded[:100] and caption["seed"] == seed


def test_captions_count_as_part_of_the_result(start):
    elsd = start("--max-result-bytes", MIB)
    job = QUICK | {"num_images": 64, "outputs": ["image"], "max_samples": 2}
    elsd.accepted("/v1/jobs", json=job)
    problem = elsd.problem("POST", "/v1/jobs", 413, "result_too_large",
                           json=job | {"exclude": {"images": [2999] * 4000}})
    assert "bytes" in problem["detail"]


def memory_of_json(elsd):
    return metrics(elsd)["els_memory_bytes"][(("class", "json"),)]


def test_json_is_charged_before_it_is_parsed(start):
    """100,000 numbers are less than a body may hold, but more memory than this daemon's share of one address."""
    elsd = start("--memory-limit", 64 * MIB, "--share-per-address", 12)
    small, large = ({"sed": [0] * n} for n in (1000, 100000))
    tensors = {"x": np.zeros((1, 1, 32, 32), np.float32)}
    for body, status, code in ((small, 422, "invalid_parameters"), (large, 413, "too_large")):
        for path in ("/v1/jobs", "/v1/denoise"):
            elsd.problem("POST", path, status, code, json=body)
        elsd.problem("POST", "/v1/denoise", status, code, headers={"Content-Type": SAFETENSORS},
                     data=write_safetensors(tensors, params=json.dumps(body)))
    header = b'{"__metadata__":{},"a":[' + b"0," * 90000 + b"0]}"
    problem = elsd.problem("POST", "/v1/denoise", 413, "too_large", headers={"Content-Type": SAFETENSORS},
                           data=len(header).to_bytes(8, "little") + header)
    assert "json" in problem["detail"]
    elsd.serves()
    assert memory_of_json(elsd) == 0
