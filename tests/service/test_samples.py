"""POST /v1/samples: the fields, their defaults, and the forms of the answer."""
import hashlib
import json
import re
import time

import numpy as np
import pytest

from daemon import QUICK
from formats import SAFETENSORS, inside, read_npy, read_png, read_safetensors, to_u8, write_safetensors
from test_jobs import SLOW, cancel, running

NPY = "application/x-npy"

DEFAULTS = {
    "bank": "digits", "machine": "bbels", "candidates": "wrapped", "label": None, "num_images": 1,
    "num_inference_steps": 20, "start_step": "paper", "sampler": "ddim", "noise_schedule": "cosine", "seed": None,
    "exclude": None, "noise": "torch", "max_samples": None, "tolerance": 0, "outputs": ["image", "x0"],
    "client_ref": None,
}


def bytes_of(elsd, **fields):
    return elsd.post("/v1/samples", 200, json=QUICK | fields, headers={"Accept": NPY}).content


# ---- the resolved parameters ----

def test_an_empty_body_means_the_defaults(elsd):
    """The job itself is cancelled: it would be a real one."""
    for body in [{}, {"data": b""}, {"data": b"{}"}, {"json": {}}, {"json": {"seed": None, "label": None}}]:
        job = elsd.accepted("/v1/jobs", **body)
        elsd.delete(f"/v1/jobs/{job['id']}")
        params = job["params"]
        assert isinstance(params["seed"], int) and 0 <= params["seed"] < 2**53
        assert DEFAULTS | params | {"seed": None} == params | DEFAULTS
        assert job["seeds"] == [params["seed"]]
        elsd.finished(job)


def test_scales_set_the_number_of_steps(elsd):
    job = elsd.sample(num_inference_steps=None, scales=[3, 3, 5])
    assert job["params"]["num_inference_steps"] == 3
    assert [(s["step"], s["p"]) for s in job["result"]["steps"]] == [(0, 5), (1, 3)]


def test_random_seeds_differ_and_are_told(elsd):
    first, second = (elsd.sample(seed=None) for _ in "12")
    assert first["params"]["seed"] != second["params"]["seed"]
    assert first["result"]["images"][0]["seed"] == first["params"]["seed"]
    again = elsd.sample(seed=first["params"]["seed"])
    assert again["result"]["images"][0]["sha256"] == first["result"]["images"][0]["sha256"]


VARIANTS = [
    {"bank": "shapes"},
    {"bank": "two-tone"},
    {"machine": "is"},
    {"machine": "es", "max_samples": 3},
    {"machine": "ls"},
    {"machine": "els"},
    {"machine": "els", "candidates": "valid"},
    {"label": 3},
    {"label": "4"},
    {"num_images": 3},
    {"num_inference_steps": 2},
    {"start_step": "full"},
    {"sampler": "ddpm"},
    {"noise_schedule": "cosine_nichol"},
    {"noise_schedule": "linear"},
    {"noise_schedule": "exponential"},
    {"noise_schedule": "ddpm_linear"},
    {"noise_schedule": {"alpha_bar": [1, 0.9, 0.5, 0.2, 0.01]}},
    {"scales": "mnist-unet-zeros"},
    {"scales": "auto", "max_samples": 8},
    {"scales": [3, 5, 7, 9]},
    {"scales": {"t": [0.1, 0.9], "p": [3, 7]}},
    {"seed": 2**53 - 1},
    {"exclude": {"images": [0, 2], "classes": [1, "5"]}},
    {"exclude": {"images": [0]}},
    {"noise": "numpy"},
    {"max_samples": 7},
    {"tolerance": 0.125},
    {"outputs": ["image"]},
    {"outputs": ["xt", "x0", "entropy", "image"]},
    {"client_ref": "α\n\"β\""},
]


@pytest.mark.parametrize("fields", VARIANTS, ids=lambda f: json.dumps(f))
def test_params_sent_again_repeat_the_job(elsd, fields):
    job = elsd.sample(**fields)
    params = job["params"]
    assert set(params) >= set(DEFAULTS) | {"scales"}
    for name, value in fields.items():
        if name not in ("label", "outputs", "scales", "exclude", "noise_schedule"):
            assert params[name] == value, name
    assert set(params["outputs"]) == set(fields.get("outputs", ["image", "x0"]))
    again = elsd.post("/v1/samples", 200, json=params).json()
    assert again["params"] == params and again["id"] != job["id"]
    assert [i["sha256"] for i in again["result"]["images"]] == [i["sha256"] for i in job["result"]["images"]]
    both = [elsd.get(j["result"]["tensors_url"], 200).content for j in (job, again)]
    assert both[0] == both[1]


@pytest.mark.parametrize("fields", [
    f for f in VARIANTS if not {"tolerance", "outputs", "client_ref", "start_step"} & set(f)
    and f.get("scales") != "auto" and "bank" not in f], ids=lambda f: json.dumps(f))
def test_every_field_has_an_effect(elsd, fields):
    """A field that is accepted and forgotten would leave the plain job's numbers."""
    plain = read_npy(bytes_of(elsd))
    with_it = read_npy(bytes_of(elsd, **fields))
    assert plain.shape != with_it.shape or not np.array_equal(plain, with_it)


def test_full_start_runs_one_step_more(elsd):
    paper, full = (elsd.sample(start_step=s)["result"]["steps"] for s in ("paper", "full"))
    assert [s["t"] for s in paper] == [0.75, 0.5, 0.25]
    assert [s["t"] for s in full] == [1, 0.75, 0.5, 0.25]
    assert paper == [s | {"step": s["step"] - 1} for s in full[1:]]
    beta = 1 - np.cos(0.5 / 1.008 * np.pi / 2) ** 2
    assert paper[1]["alpha_bar"] == pytest.approx(1 - beta, abs=1e-12)


def test_the_numbers_of_a_label_come_from_its_images(elsd):
    """`is` at the last step is a mean of candidates: with one candidate it is that image."""
    one = elsd.get("/v1/banks/digits/images/0", 200).content
    got = elsd.post("/v1/samples", 200, json=QUICK | {"machine": "is", "max_samples": 1},
                    headers={"Accept": "image/png"}).content
    assert np.array_equal(read_png(got).pixels, read_png(one).pixels)


# ---- the answer ----

def test_the_finished_job(elsd):
    job = elsd.sample(num_images=2)
    assert set(job) >= {"id", "kind", "status", "created_at", "started_at", "finished_at", "queue_position",
                        "progress", "params", "seeds", "result", "error", "engine"}
    assert job["status"] == "succeeded" and job["kind"] == "sample" and job["error"] is None
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    for when in (job["created_at"], job["started_at"], job["finished_at"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", when)
    assert job["queue_position"] is None
    assert job["progress"] == {"image": 2, "step": 3, "steps": 3, "eta_seconds": 0}
    assert job["seeds"] == [7, 8]
    assert {"version", "kernel", "certified_error"} <= set(job["engine"])
    for i, image in enumerate(job["result"]["images"]):
        assert image["index"] == i and image["seed"] == 7 + i
        assert image["local_consistency"] is None and image["nearest"] is None
        png = elsd.get(image["url"], 200)
        assert png.headers["Content-Type"] == "image/png"
        assert hashlib.sha256(png.content).hexdigest() == image["sha256"]


def test_the_forms_agree(elsd):
    job = elsd.sample(num_images=3)
    path = f"/v1/jobs/{job['id']}"
    tensors, metadata = read_safetensors(elsd.get(path, 200, headers={"Accept": SAFETENSORS}).content)
    assert tensors["images"].shape == (3, 1, 32, 32) and tensors["x0"].shape == (3, 3, 1, 32, 32)
    assert set(tensors) == {"images", "x0"}
    assert json.loads(metadata["params"]) == job["params"]
    npy = elsd.get(path, 200, headers={"Accept": NPY})
    assert npy.headers["Content-Type"] == NPY
    images = read_npy(npy.content)
    assert images.dtype == np.dtype("<f4") and np.array_equal(images, tensors["images"])
    grid = elsd.get(path, 200, headers={"Accept": "image/png"})
    grid_pixels = read_png(grid.content).pixels
    for image in job["result"]["images"]:
        png = read_png(elsd.get(image["url"], 200).content)
        assert (png.width, png.height, png.colour) == (32, 32, 0)
        assert np.array_equal(png.pixels, to_u8(images[image["index"], 0]))
        windows = np.lib.stride_tricks.sliding_window_view(grid_pixels, (32, 32))
        assert (windows == png.pixels).all((2, 3)).any(), "the grid shows every image"


@pytest.mark.parametrize("accept, gives", [
    (None, "application/json"),
    ("*/*", "application/json"),
    ("application/*", "application/json"),
    ("application/json", "application/json"),
    ("image/png", "image/png"),
    ("image/*", "image/png"),
    ("application/x-npy", "application/x-npy"),
    (SAFETENSORS, SAFETENSORS),
    ("application/json;q=0.5, image/png", "image/png"),
    ("image/png;q=0.1, application/x-npy;q=0.2", "application/x-npy"),
    ("text/html, image/png;q=0.9, */*;q=0.1", "image/png"),
    ("IMAGE/PNG", "image/png"),
    ("application/json;q=0, */*;q=0.1", "image/png"),
])
def test_accept(elsd, accept, gives):
    headers = {"Accept": accept}
    made = elsd.post("/v1/samples", 200, json=QUICK, headers=headers)
    assert made.headers["Content-Type"] == gives
    job = elsd.get("/v1/jobs?limit=1", 200).json()["jobs"][0]
    fetched = elsd.get(f"/v1/jobs/{job['id']}", 200, headers=headers)
    assert fetched.headers["Content-Type"] == gives
    assert fetched.content == made.content
    assert [a.headers["Vary"] for a in (made, fetched)] == ["Accept", "Accept"]


@pytest.mark.parametrize("accept", ["image/jpeg", "text/html", "image/png;q=0"])
def test_what_cannot_be_had_is_406(elsd, accept):
    before = elsd.get("/v1/jobs?limit=1", 200).json()["jobs"][0]["id"]
    elsd.problem("POST", "/v1/samples", 406, json=QUICK, headers={"Accept": accept})
    assert elsd.get("/v1/jobs?limit=1", 200).json()["jobs"][0]["id"] == before, "no job was made for it"


def test_the_png_tells_its_parameters(elsd):
    """Resolved, and without id or time: the same bytes wherever it is served."""
    job = elsd.sample(num_images=2, client_ref=None)
    made = elsd.post("/v1/samples", 200, json=QUICK | {"seed": 8}, headers={"Accept": "image/png"}).content
    second = elsd.get(job["result"]["images"][1]["url"], 200).content
    text = json.loads(read_png(second).text["els"])
    for name in set(DEFAULTS) - {"seed", "num_images", "client_ref"}:
        assert text[name] == job["params"][name], name
    assert text["seed"] == 8 and job["id"] not in json.dumps(text)
    assert made == second, "alone or in a batch"
    # What the text says makes the image again.
    again = elsd.post("/v1/samples", 200, json=text, headers={"Accept": "image/png"}).content
    assert again == second


@pytest.mark.parametrize("zoom", [1, 2, 16])
def test_zoom_repeats_pixels(elsd, zoom):
    url = elsd.sample(bank="shapes")["result"]["images"][0]["url"]
    plain = read_png(elsd.get(url, 200).content).pixels
    large = read_png(elsd.get(f"{url}?zoom={zoom}", 200).content).pixels
    assert np.array_equal(large, plain.repeat(zoom, 0).repeat(zoom, 1))


@pytest.mark.parametrize("zoom", ["0", "17", "-1", "2.5", "x", "", "99999999999999999999"])
def test_zoom_has_bounds(elsd, zoom):
    url = elsd.sample()["result"]["images"][0]["url"]
    error, = elsd.problem("GET", f"{url}?zoom={zoom}", 422)["errors"]
    assert error["pointer"] == "?zoom" and "1 to 16" in error["detail"]


def test_pictures_know_when_they_are_unchanged(elsd):
    url = elsd.sample()["result"]["images"][0]["url"]
    tag = elsd.get(url, 200).headers["ETag"]
    assert elsd.get(url, headers={"If-None-Match": tag}).status_code == 304
    assert elsd.get(url + "?zoom=2", 200, headers={"If-None-Match": tag}).content


# ---- waiting ----

def test_jobs_answer_at_once(elsd):
    """Another one runs, so that this one is not over by the time of its answer."""
    other = running(elsd)
    answer = elsd.post("/v1/jobs", 202, json=QUICK)
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job["status"] in ("queued", "running") and job["result"] is None
    cancel(elsd, other)
    done = elsd.finished(job)
    assert done["status"] == "succeeded"


def test_prefer_wait(elsd):
    answer = elsd.post("/v1/jobs", 200, json=QUICK, headers={"Prefer": "wait=3600"})
    assert answer.json()["status"] == "succeeded"
    answer = elsd.post("/v1/jobs", 200, json=QUICK, headers={"Prefer": "respond-async, wait=3600"})
    assert answer.json()["result"]["images"]


def test_a_wait_that_is_too_short_is_202(elsd):
    started = time.monotonic()
    for path, headers in [("/v1/samples", {"Prefer": "wait=0"}), ("/v1/samples", {"Prefer": "wait=1"}),
                          ("/v1/jobs", {"Prefer": "wait=0"}), ("/v1/jobs", {"Prefer": "wait=1"})]:
        answer = elsd.post(path, 202, json=SLOW, headers=headers)
        assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
        assert answer.headers["Content-Type"] == "application/json"
        elsd.delete(answer.headers["Location"])
        elsd.finished(answer.json())
    assert time.monotonic() - started > 1.9, "it did wait"


def test_sync_timeout_is_the_limit(start):
    elsd = start("--sync-timeout", 1)
    answer = elsd.post("/v1/samples", 202, headers={"Accept": "image/png", "Prefer": "wait=3000"},
                       json=SLOW)
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
    elsd.delete(answer.headers["Location"])
    elsd.finished(answer.json())


def test_idempotency_key(elsd):
    key = {"Idempotency-Key": "picture-1"}
    first = elsd.post("/v1/samples", 200, json=QUICK, headers=key).json()
    assert elsd.post("/v1/samples", 200, json=QUICK, headers=key).json() == first
    elsd.problem("POST", "/v1/samples", 409, json=QUICK | {"seed": 8}, headers=key)
    other = elsd.post("/v1/samples", 200, json=QUICK, headers={"Idempotency-Key": "picture-2"}).json()
    assert other["id"] != first["id"]


# ---- noise that the client brings ----

def test_uploaded_noise(elsd):
    """The generator's own noise, taken from xt, gives the same image as the seed: in both ways to send it."""
    made = elsd.sample(num_images=2, outputs=["image", "xt"])
    tensors, _ = read_safetensors(elsd.get(made["result"]["tensors_url"], 200).content)
    noise = np.ascontiguousarray(tensors["xt"][:, 0])
    params = QUICK | {"num_images": 2, "noise": "mine"}
    body = write_safetensors({"mine": noise}, params=params)
    sent = elsd.post("/v1/samples", 200, data=body, headers={"Content-Type": SAFETENSORS, "Accept": NPY})
    assert np.array_equal(read_npy(sent.content), tensors["images"])
    job = elsd.post("/v1/samples", 200, json=params | {"noise": inside(noise)}).json()
    again = elsd.get(f"/v1/jobs/{job['id']}", 200, headers={"Accept": NPY}).content
    assert again == sent.content
    resent = elsd.post("/v1/samples", 200, json=job["params"], headers={"Accept": NPY}).content
    assert resent == again


def test_numpy_noise_is_numpys(elsd):
    job = elsd.sample(noise="numpy", seed=12, num_images=2, outputs=["xt"])
    tensors, _ = read_safetensors(elsd.get(job["result"]["tensors_url"], 200).content)
    for i, xt in enumerate(tensors["xt"]):
        drawn = np.random.default_rng(12 + i).standard_normal((1, 32, 32), dtype=np.float32)
        assert np.array_equal(xt[0], drawn)
