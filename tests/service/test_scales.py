"""Locality scales under names: presets, which stay, and saved ones, which serve as `scales` and outlive the daemon."""
import subprocess

import numpy as np
import pytest

from daemon import ELS
from formats import write_bank

PAIRS = {"t": [0.25, 0.5, 0.75], "p": [3, 5, 9]}


def test_presets_are_listed_and_cannot_be_changed(elsd):
    listed = {s["name"]: s for s in elsd.get("/v1/scales", 200).json()["scales"]}
    one = elsd.get("/v1/scales/mnist-unet-zeros", 200).json()
    assert one == listed["mnist-unet-zeros"] and one["preset"] and one["saved_at"] is None
    assert one["p"] == [3, 3, 3, 5, 5, 7, 7, 7, 9, 9, 9, 11, 13, 15, 17, 21, 23, 23, 25, 27]
    assert one["t"] == [i / 20 for i in range(20)]
    for method in ("PUT", "DELETE"):
        for name in ("mnist-unet-zeros", "auto"):
            elsd.problem(method, f"/v1/scales/{name}", 409, "preset_name", json=PAIRS)


def test_a_life(elsd):
    elsd.problem("GET", "/v1/scales/mine", 404, "scales_not_found")
    made = elsd.request("PUT", "/v1/scales/mine", 201, json=PAIRS).json()
    assert {k: made[k] for k in ("name", "preset", "t", "p")} == {"name": "mine", "preset": False, **PAIRS}
    assert elsd.get("/v1/scales/mine", 200).json() == made
    # In any order of t, and once more under the same name.
    other = elsd.request("PUT", "/v1/scales/mine", 200, json={"t": [0.9, 0.1], "p": [7, 1]}).json()
    assert (other["t"], other["p"]) == ([0.1, 0.9], [1, 7])
    assert other in elsd.get("/v1/scales", 200).json()["scales"]
    elsd.delete("/v1/scales/mine", 200)
    elsd.problem("GET", "/v1/scales/mine", 404, "scales_not_found")
    elsd.problem("DELETE", "/v1/scales/mine", 404, "scales_not_found")


def test_a_saved_name_is_what_it_was_when_the_job_came(elsd):
    elsd.request("PUT", "/v1/scales/used", 201, json=PAIRS)
    job = elsd.sample(scales="used", num_inference_steps=8)
    assert job["params"]["scales"] == PAIRS
    assert [s["p"] for s in job["result"]["steps"]] == [9, 9, 9, 5, 5, 3, 3]
    elsd.delete("/v1/scales/used", 200)
    again = elsd.post("/v1/samples", 200, json=job["params"]).json()
    assert again["result"]["images"][0]["sha256"] == job["result"]["images"][0]["sha256"]
    problem = elsd.problem("POST", "/v1/samples", 422, json={"scales": "used"})
    assert problem["errors"][0]["pointer"] == "/scales" and "mnist-unet-zeros" in problem["detail"]


@pytest.mark.parametrize("body, pointer", [
    ({"t": [0.5], "p": [4]}, "/p/0"),
    ({"t": [0.5], "p": [True]}, "/p/0"),
    ({"t": [1.5], "p": [3]}, "/t/0"),
    ({"t": [0.5, 0.6], "p": [3]}, "/t"),
    ({"t": [0.5, 0.5], "p": [3, 3]}, ""),
    ({"t": [], "p": []}, "/p"),
    ({"p": [3]}, ""),
    ({"t": [0.5], "p": [3], "q": 1}, "/q"),
])
def test_scales_that_are_none(elsd, body, pointer):
    problem = elsd.problem("PUT", "/v1/scales/wrong", 422, json=body)
    assert [e["pointer"] for e in problem["errors"]] == [pointer]
    elsd.problem("GET", "/v1/scales/wrong", 404)


@pytest.mark.parametrize("name", ["-x", ".x", "a%20b", "a%2Fb", "%C3%A9", "x" * 65])
def test_names_that_are_none(elsd, name):
    assert elsd.request("PUT", f"/v1/scales/{name}", json=PAIRS).json()["code"] == "invalid_name"


@pytest.fixture
def tiny(start, tmp_path):
    """A daemon with smooth 8×8 images: choosing scales takes a moment only."""
    rough = np.random.default_rng(3).standard_normal((24, 1, 8, 8))
    smooth = sum(np.roll(rough, (i, j), (2, 3)) for i in range(3) for j in range(3)) / 5
    return start("--bank", f"tiny={write_bank(tmp_path / 'tiny.safetensors', np.clip(smooth, -1, 1))}")


def test_auto_is_of_the_bank_alone(tiny):
    body = {"scales": "auto", "num_inference_steps": 6, "seed": 7}
    job = tiny.post("/v1/samples", 200, json=body).json()
    assert job["params"]["scales"] == "auto"
    scales = job["result"]["scales"]
    assert len(scales["t"]) == 20 and all(p % 2 == 1 for p in scales["p"]) and scales["p"] == sorted(scales["p"])
    at = dict(zip((round(t, 9) for t in scales["t"]), scales["p"]))
    for step in job["result"]["steps"]:
        assert step["p"] == at[min(at, key=lambda t: (round(abs(t - step["t"]), 9), -t))]
    # The same as when they are given, and the same once more.
    given = tiny.post("/v1/samples", 200, json=body | {"scales": scales}).json()
    again = tiny.post("/v1/samples", 200, json=job["params"]).json()
    tensor = [tiny.get(f"{j['result']['tensors_url']}?name=images", 200).content for j in (job, given, again)]
    assert tensor[0] == tensor[1] == tensor[2]


def test_auto_serves_levels_that_are_given(tiny):
    levels = [1 - (i / 30) ** 2 * 0.999 for i in range(31)]
    job = tiny.post("/v1/samples", 200, json={"scales": "auto", "num_inference_steps": 30,
                                              "noise_schedule": {"alpha_bar": levels}}).json()
    assert 1 <= len(job["result"]["scales"]["t"]) <= 20


def test_auto_has_nothing_to_choose(elsd):
    problem = elsd.problem("POST", "/v1/samples", 422, json={"bank": "two-tone", "scales": "auto", "max_samples": 1})
    assert problem["errors"][0]["pointer"] == "/scales"
    job = elsd.sample(machine="is", scales="auto")
    assert "scales" not in job["result"] and job["result"]["steps"][0]["p"] is None


def test_names_are_their_keys_own(start, tmp_path):
    ann, bob = ({"Authorization": "Bearer " + subprocess.run([ELS, "key", "add", tmp_path / "keys", name], text=True,
                                                             check=True, capture_output=True).stdout.strip()}
                for name in ("ann", "bob"))
    elsd = start("--bank", "two-tone=two-tone", "--keys-file", tmp_path / "keys")
    elsd.request("PUT", "/v1/scales/mine", 201, json=PAIRS, headers=ann)
    elsd.get("/v1/scales/mine", 404, headers=bob)
    elsd.request("PUT", "/v1/scales/mine", 201, json={"t": [0.5], "p": [1]}, headers=bob)
    for headers, p in ((ann, PAIRS["p"]), (bob, [1])):
        assert elsd.get("/v1/scales/mine", 200, headers=headers).json()["p"] == p
        job = elsd.post("/v1/samples", 200, json={"scales": "mine", "num_inference_steps": 4}, headers=headers).json()
        assert job["params"]["scales"]["p"] == p


def test_they_outlive_the_daemon(start):
    elsd = start("--bank", "two-tone=two-tone")
    elsd.request("PUT", "/v1/scales/kept", 201, json=PAIRS)
    elsd.kill()
    elsd.start()
    assert elsd.get("/v1/scales/kept", 200).json()["p"] == PAIRS["p"]
