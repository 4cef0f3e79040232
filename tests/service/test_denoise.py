"""POST /v1/denoise: one evaluation, several scales, against the definitions; what it refuses, and by which name."""
import struct

import numpy as np
import pytest

from daemon import Daemon
from definitions import denoised, posterior
from formats import SAFETENSORS, inside, outside, read_npy, read_safetensors, write_bank, write_safetensors

SHAPE = (2, 7, 6)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    images = np.random.default_rng(6).uniform(-1, 1, (5, *SHAPE)).astype(np.float32)
    return write_bank(tmp_path_factory.mktemp("bank") / "tiny.safetensors", images, [0, 0, 1, 1, 1]), images


@pytest.fixture(scope="module")
def elsd(bank, tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("elsd"), "--bank", f"tiny={bank[0]}", "--bank", "digits=digits") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(8).standard_normal((3, *SHAPE)).astype(np.float32)


def post(elsd, tensors, params, status=200, **headers):
    return elsd.post("/v1/denoise", status, data=write_safetensors(tensors, params=params),
                     headers={"Content-Type": SAFETENSORS, **headers})


@pytest.mark.parametrize("machine, candidates", [("ls", "wrapped"), ("els", "wrapped"), ("els", "valid"), ("bbels", "wrapped")])
def test_the_definitions(elsd, bank, x, machine, candidates):
    alpha_bar, scales = 0.6, [1, 3, 5]
    body = {"bank": "tiny", "machine": machine, "candidates": candidates, "alpha_bar": alpha_bar, "p": scales,
            "outputs": ["x0", "eps", "score", "entropy"]}
    got, metadata = read_safetensors(post(elsd, {"x": x}, body, Accept=SAFETENSORS).content)
    assert {k: v.shape for k, v in got.items()} == {
        "x0": (3, 3, *SHAPE), "eps": (3, 3, *SHAPE), "score": (3, 3, *SHAPE), "entropy": (3, 3, *SHAPE[1:])}
    for k, p in enumerate(scales):
        for b in range(3):
            found = posterior(bank[1], x[b], machine, p, alpha_bar, candidates)
            expected = denoised(bank[1].astype(float), found, SHAPE)
            assert got["x0"][k, b] == pytest.approx(expected, abs=1e-4)
            entropy = [-(w * np.log(np.maximum(w, 1e-300))).sum() for _, w in found.values()]
            assert got["entropy"][k, b].ravel() == pytest.approx(entropy, abs=2e-3)
    a, beta = np.sqrt(alpha_bar), 1 - alpha_bar
    assert got["eps"] == pytest.approx((x - a * got["x0"]) / np.sqrt(beta), abs=1e-5)
    assert got["score"] == pytest.approx((a * got["x0"] - x) / beta, abs=1e-5)
    assert '"machine":"%s"' % machine in metadata["params"]


def test_json_in_and_out(elsd, x):
    body = {"bank": "tiny", "t": 0.4, "p": 3, "x": inside(x), "outputs": ["x0", "entropy"]}
    job = elsd.post("/v1/denoise", 200, json=body).json()
    assert job["kind"] == "denoise" and job["status"] == "succeeded" and job["seeds"] == []
    result = job["result"]
    assert (result["p"], result["t"]) == ([3], 0.4)
    assert result["alpha_bar"] + result["beta"] == pytest.approx(1)
    assert outside(result["x0"]).shape == (1, 3, *SHAPE) and outside(result["entropy"]).shape == (1, 3, *SHAPE[1:])
    # The same from the job, as a file and as a picture; and from its parameters.
    again = elsd.get(f"/v1/jobs/{job['id']}", 200).json()
    assert again["result"] == result
    assert (read_npy(elsd.get(f"{result['tensors_url']}?name=x0", 200).content) == outside(result["x0"])).all()
    assert elsd.get(f"/v1/jobs/{job['id']}", 200, headers={"Accept": "image/png"}).content[:4] == b"\x89PNG"
    repeated = elsd.post("/v1/denoise", 200, json=job["params"]).json()
    assert repeated["result"]["x0"] == result["x0"]
    elsd.problem("GET", f"/v1/jobs/{job['id']}/images/0", 404, "image_not_found")
    elsd.problem("GET", f"/v1/jobs/{job['id']}/tensors?name=eps", 409, "output_not_kept")
    elsd.problem("GET", f"/v1/jobs/{job['id']}/tensors?name=images", 404, "tensor_not_found")


def test_one_image_and_float64(elsd, x):
    body = {"bank": "tiny", "t": 0.4, "p": [3]}
    one = read_npy(post(elsd, {"x": x[0]}, body, Accept="application/x-npy").content)
    wide = read_npy(post(elsd, {"x": x.astype(np.float64)}, body, Accept="application/x-npy").content)
    assert one.shape == (1, 1, *SHAPE) and (wide[:, :1] == one).all()


@pytest.mark.parametrize("machine", ["is", "es"])
def test_machines_without_scales(elsd, bank, x, machine):
    job = elsd.post("/v1/denoise", 200, json={"bank": "tiny", "machine": machine, "t": 0.3, "x": inside(x)}).json()
    assert job["params"]["p"] is None and job["result"]["p"] is None
    got = outside(job["result"]["x0"])[0]
    if machine == "is":
        a, beta = np.sqrt(job["result"]["alpha_bar"]), job["result"]["beta"]
        for b in range(3):
            distance = ((x[b].astype(float) - a * bank[1]) ** 2).sum((1, 2, 3))
            weight = np.exp(-(distance - distance.min()) / (2 * beta))
            assert got[b] == pytest.approx((weight / weight.sum() @ bank[1].reshape(5, -1)).reshape(SHAPE), abs=1e-4)


def test_large_results_stay_outside(elsd):
    x = np.zeros((32, 1, 32, 32), np.float32)
    body = {"bank": "digits", "max_samples": 1, "t": 0.5, "p": list(range(3, 63, 2)), "x": "noisy"}
    job = post(elsd, {"noisy": x}, body).json()
    assert job["params"]["x"] == "noisy" and job["result"]["x0"] is None
    assert read_npy(elsd.get(job["result"]["tensors_url"] + "?name=x0", 200).content).shape == (30, 32, 1, 32, 32)


GOOD = {"bank": "tiny", "t": 0.5, "p": 3}
ONE = np.zeros((1, *SHAPE), np.float32)


@pytest.mark.parametrize("tensors, change, pointer, says", [
    ({}, {}, "/x", "x is missing"),
    ({"y": ONE}, {}, "/x", "x is missing"),
    ({"x": ONE}, {"x": "z"}, "/x", '"z"'),
    ({"x": ONE[0, 0]}, {}, "/x", "[7, 6]; it must be F32 [B, 2, 7, 6]"),
    ({"x": np.zeros((1, 1, *SHAPE), np.float32)}, {}, "/x", "[1, 1, 2, 7, 6]"),
    ({"x": ONE[..., :5]}, {}, "/x", "[1, 2, 7, 5]"),
    ({"x": ONE[:0]}, {}, "/x", "[0, 2, 7, 6]"),
    ({"x": ONE.astype(np.int64)}, {}, "/x", "I64"),
    ({"x": ONE + np.float32(np.nan)}, {}, "/x", "x[0], in row-major order, is nan"),
    ({"x": ONE - np.float32(np.inf)}, {}, "/x", "-inf"),
    ({"x": ONE + 20000}, {}, "/x", "10000"),
    ({"x": ONE}, {"p": 4}, "/p", "odd"),
    ({"x": ONE}, {"p": [3, 4]}, "/p/1", "odd"),
    ({"x": ONE}, {"p": []}, "/p", "1 to 64"),
    ({"x": ONE}, {"p": [3] * 65}, "/p", "1 to 64"),
    ({"x": ONE}, {"p": None}, "/p", "missing"),
    ({"x": ONE}, {"machine": "els", "p": 9}, "/p", "9"),
    ({"x": ONE}, {"t": None}, "/t", "either t or alpha_bar"),
    ({"x": ONE}, {"alpha_bar": 0.5}, "/t", "either t or alpha_bar"),
    ({"x": ONE}, {"t": 1.5}, "/t", "1.5"),
    ({"x": ONE}, {"t": 0}, "/t", "beta"),
    ({"x": ONE}, {"t": None, "alpha_bar": 1}, "/alpha_bar", "beta"),
    ({"x": ONE}, {"t": None, "alpha_bar": 0}, "/alpha_bar", "above 0"),
    ({"x": ONE}, {"outputs": ["images"]}, "/outputs/0", "x0, eps, score, entropy"),
    ({"x": ONE}, {"seed": 3}, "/seed", "no field"),
    ({"x": ONE}, {"label": 7}, "/label", "7"),
    ({"x": ONE}, {"noise_schedule": {"alpha_bar": [1, 0.5, 0.1]}}, "/noise_schedule", "cosine"),
])
def test_refusals_name_what_is_wrong(elsd, tensors, change, pointer, says):
    problem = elsd.problem("POST", "/v1/denoise", 422, "invalid_parameters", headers={"Content-Type": SAFETENSORS},
                           data=write_safetensors(tensors, params=GOOD | change))
    assert [e["pointer"] for e in problem["errors"]] == [pointer]
    assert says in problem["errors"][0]["detail"]


def test_containers_that_are_none(elsd):
    whole = write_safetensors({"x": ONE}, params=GOOD)
    cases = [whole[:-1], whole[:40], whole[:4], b"", whole + b"\0", struct.pack("<Q", 1 << 60) + whole[8:]]
    for body in cases:
        elsd.problem("POST", "/v1/denoise", 422, "bad_safetensors", data=body, headers={"Content-Type": SAFETENSORS})
    cut = elsd.problem("POST", "/v1/denoise", 422, data=whole[:-1], headers={"Content-Type": SAFETENSORS})
    assert cut["errors"][0]["pointer"] == "/x" and "tensor x" in cut["detail"]


def test_npy_that_is_none(elsd):
    good = inside(ONE)
    for value in ({"npy_base64": good["npy_base64"][:-8]}, {"npy_base64": "####"}, {"npy": 3}, 7, ["x"], "x",
                  {"npy_base64": good["npy_base64"], "shape": [1]}):
        problem = elsd.problem("POST", "/v1/denoise", 422, json=GOOD | {"x": value})
        assert problem["errors"][0]["pointer"].startswith("/x")


def test_a_killed_daemon_runs_it_again(start, bank):
    """The tensors were stored with the job."""
    x = np.random.default_rng(1).standard_normal((8, 1, 32, 32)).astype(np.float32)
    body = write_safetensors({"x": x}, params={"bank": "digits", "t": 0.3, "p": [3, 7, 15], "outputs": ["x0", "eps"],
                                               "max_samples": 60})
    elsd = start("--bank", "digits=digits", "--threads", 1)
    job = elsd.accepted("/v1/denoise", data=body, headers={"Content-Type": SAFETENSORS, "Prefer": "wait=0"})
    elsd.kill()
    elsd.start()
    assert elsd.finished(job)["status"] == "succeeded"
    undisturbed = elsd.post("/v1/denoise", 200, data=body,
                            headers={"Content-Type": SAFETENSORS, "Accept": SAFETENSORS}).content
    assert elsd.get(f"/v1/jobs/{job['id']}/tensors", 200).content == undisturbed


def test_idempotency_is_of_the_kind_too(elsd, x):
    headers = {"Idempotency-Key": "denoise-1", "Content-Type": SAFETENSORS}
    body = write_safetensors({"x": x}, params=GOOD)
    first = elsd.post("/v1/denoise", 200, data=body, headers=headers).json()
    assert elsd.post("/v1/denoise", 200, data=body, headers=headers).json()["id"] == first["id"]
    elsd.problem("POST", "/v1/samples", 409, "idempotency_conflict", data=body, headers=headers)
