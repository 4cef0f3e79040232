"""Calibrations and comparisons over HTTP: numbers against their definitions, what is saved, and what is refused."""
import numpy as np
import pytest

from daemon import SHARED, Daemon
from formats import SAFETENSORS, inside, read_npy, read_safetensors, write_bank, write_safetensors

SHAPE = (1, 8, 8)
S, T = 3, 4
TIMES = [1.0, 0.75, 0.5, 0.25]


@pytest.fixture(scope="module")
def elsd(tmp_path_factory):
    images = np.random.default_rng(2).uniform(-1, 1, (6, *SHAPE)).astype(np.float32)
    bank = write_bank(tmp_path_factory.mktemp("bank") / "tiny.safetensors", images)
    with Daemon(tmp_path_factory.mktemp("elsd"), "--bank", f"tiny={bank}", "--bank", "digits=digits") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def trajectory(elsd):
    """What a network would send: here the machine bbels itself, at a scale of each time's own."""
    rng = np.random.default_rng(4)
    truth = {1.0: 7, 0.75: 5, 0.5: 5, 0.25: 3}
    xt = rng.standard_normal((S, T, *SHAPE)).astype(np.float32)
    eps = np.empty_like(xt)
    x0 = np.empty_like(xt)
    for i, t in enumerate(TIMES):
        body = write_safetensors({"x": xt[:, i]}, params={"bank": "tiny", "t": t, "p": truth[t], "outputs": ["x0", "eps"]})
        got, _ = read_safetensors(elsd.post("/v1/denoise", 200, data=body,
                                  headers={"Content-Type": SAFETENSORS, "Accept": SAFETENSORS}).content)
        eps[:, i], x0[:, i] = got["eps"][0], got["x0"][0]
    return {"t": np.array(TIMES, np.float32), "xt": xt, "eps": eps, "x0": x0, "truth": truth}


def finished(elsd, path, body):
    """The job that a safetensors body makes, once it has succeeded."""
    job = elsd.finished(elsd.accepted(path, data=body, headers={"Content-Type": SAFETENSORS}))
    assert job["status"] == "succeeded", job
    return job


def calibrate(elsd, tensors, **params):
    return finished(elsd, "/v1/calibrations", write_safetensors(tensors, params={"bank": "tiny"} | params))


def test_a_machine_finds_its_own_scales(elsd, trajectory):
    tensors = {k: trajectory[k] for k in ("t", "xt", "eps")}
    job = calibrate(elsd, tensors, save_as="own")
    result = job["result"]
    assert job["kind"] == "calibration" and result["saved_as"] == "own"
    assert (result["t"], result["p"]) == (TIMES, [3, 5, 7])
    cosine, l2 = np.array(result["cosine"]), np.array(result["l2"])
    assert cosine.shape == l2.shape == (S, T, 3)
    by_t = sorted(trajectory["truth"].items())
    for name in ("scales", "mode"):
        assert list(zip(result[name]["t"], result[name]["p"])) == by_t
    # The definitions, from denoise's own numbers.
    i = 2
    body = write_safetensors({"x": trajectory["xt"][:, i]},
                             params={"bank": "tiny", "t": TIMES[i], "p": [3, 5, 7], "outputs": ["eps"]})
    got, _ = read_safetensors(elsd.post("/v1/denoise", 200, data=body,
                                        headers={"Content-Type": SAFETENSORS, "Accept": SAFETENSORS}).content)
    a, b = got["eps"].reshape(3, S, -1).astype(float), trajectory["eps"][:, i].reshape(S, -1).astype(float)
    dot = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    assert cosine[:, i] == pytest.approx(dot.T, abs=1e-5)
    assert l2[:, i] == pytest.approx(np.linalg.norm(a - b, axis=-1).T, abs=1e-3)
    # The saved schedule is what samples then use.
    saved = elsd.get("/v1/scales/own", 200).json()
    assert {k: saved[k] for k in ("t", "p")} == result["scales"]
    used = elsd.post("/v1/samples", 200, json={"bank": "tiny", "scales": "own", "num_inference_steps": 4}).json()
    assert [s["p"] for s in used["result"]["steps"]] == [5, 5, 3]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("fit", ["median", "mode", "monotone"])
def test_every_metric_and_fit(elsd, trajectory, metric, fit):
    result = calibrate(elsd, {k: trajectory[k] for k in ("xt", "x0")}, t=TIMES, metric=metric, fit=fit)["result"]
    assert result["scales"]["p"] == [3, 5, 5, 7] and (result["metric"], result["fit"]) == (metric, fit)


def test_json_and_repeated(elsd, trajectory):
    body = {"bank": "tiny", "t": TIMES, "xt": inside(trajectory["xt"]), "eps": inside(trajectory["eps"]), "p": [3, 7]}
    job = elsd.post("/v1/calibrations", 200, json=body, headers={"Prefer": "wait=3600"}).json()
    again = elsd.post("/v1/calibrations", 200, json=job["params"], headers={"Prefer": "wait=3600"}).json()
    assert again["result"] == job["result"] and job["result"]["p"] == [3, 7]
    listed = elsd.get("/v1/jobs?limit=1", 200).json()["jobs"][0]
    assert listed["params"]["xt"] == "uploaded"
    assert elsd.get(f"/v1/jobs/{job['id']}", 406, headers={"Accept": "image/png"}).json()["code"] == "not_acceptable"


ZEROS = np.zeros((S, T, *SHAPE), np.float32)


@pytest.mark.parametrize("tensors, params, status, pointer", [
    ({"xt": ZEROS}, {}, 422, "/eps"),
    ({"xt": ZEROS, "eps": ZEROS, "x0": ZEROS}, {}, 422, "/eps"),
    ({"eps": ZEROS}, {}, 422, "/xt"),
    ({"xt": ZEROS[:, :3], "eps": ZEROS}, {}, 422, "/xt"),
    ({"xt": ZEROS, "eps": ZEROS[:, :3]}, {}, 422, "/eps"),
    ({"xt": ZEROS, "eps": ZEROS[:2]}, {}, 422, "/eps"),
    ({"xt": ZEROS[0], "eps": ZEROS}, {}, 422, "/xt"),
    ({"xt": ZEROS, "eps": ZEROS + np.float32(np.nan)}, {}, 422, "/eps"),
    ({"xt": ZEROS, "eps": ZEROS}, {"t": TIMES[:3]}, 422, "/xt"),
    ({"xt": ZEROS, "eps": ZEROS}, {"t": [1, 0.5, 0.5, 0.25]}, 422, "/t"),
    ({"xt": ZEROS, "eps": ZEROS}, {"t": [1, 0.75, 0.5, 0]}, 422, "/t"),
    ({"xt": ZEROS, "eps": ZEROS}, {"t": [1, 0.75, 0.5, 1.25]}, 422, "/t/3"),
    ({"xt": ZEROS, "eps": ZEROS, "t": np.array([1, .75, .5, np.nan])}, {"t": None}, 422, "/t"),
    ({"xt": ZEROS, "eps": ZEROS, "t": np.ones((4, 1))}, {"t": None}, 422, "/t"),
    ({"xt": ZEROS, "eps": ZEROS}, {"p": [3, 4]}, 422, "/p/1"),
    ({"xt": ZEROS, "eps": ZEROS}, {"p": [3, 3]}, 422, "/p"),
    ({"xt": ZEROS, "eps": ZEROS}, {"machine": "is"}, 422, "/machine"),
    ({"xt": ZEROS, "eps": ZEROS}, {"metric": "l1"}, 422, "/metric"),
    ({"xt": ZEROS, "eps": ZEROS}, {"save_as": "a b"}, 422, "/save_as"),
    ({"xt": ZEROS, "eps": ZEROS}, {"save_as": "mnist-unet-zeros"}, 409, "/save_as"),
    ({"xt": ZEROS, "eps": ZEROS}, {"alpha_bar": [0.1, 0.2, 0.3]}, 422, "/alpha_bar"),
])
def test_calibrations_that_are_refused(elsd, tensors, params, status, pointer):
    params = {k: v for k, v in ({"bank": "tiny", "t": TIMES} | params).items() if v is not None}
    problem = elsd.problem("POST", "/v1/calibrations", status, data=write_safetensors(tensors, params=params),
                           headers={"Content-Type": SAFETENSORS})
    assert pointer in [e["pointer"] for e in problem["errors"]], problem
    assert pointer.split("/")[1] in problem["detail"]


# ---- comparisons ----

def agreement(f, g):
    """f is the reference."""
    f, g = f.ravel().astype(float), g.ravel().astype(float)
    r = np.corrcoef(f, g)[0, 1]
    return {"pearson_r": r, "pearson_r_squared": r * r, "r2_score": 1 - ((f - g) ** 2).sum() / ((f - f.mean()) ** 2).sum(),
            "mse": ((f - g) ** 2).mean()}


def compare(elsd, tensors, **params):
    params = {"bank": "tiny", "num_inference_steps": 5, "scales": 3} | params
    return finished(elsd, "/v1/comparisons", write_safetensors(tensors, params=params))


@pytest.fixture(scope="module")
def network(elsd):
    """Images that a network might have drawn: the machine's own with something added."""
    seeds = [5, 6, 7, 8]
    job = elsd.post("/v1/samples", 200, json={"bank": "tiny", "num_inference_steps": 5, "scales": 3, "seed": 5,
                                              "num_images": 4}).json()
    images = read_npy(elsd.get(f"{job['result']['tensors_url']}?name=images", 200).content)
    return seeds, images + np.random.default_rng(1).normal(0, 0.3, images.shape).astype(np.float32), images


def test_a_comparison_is_the_definitions(elsd, network):
    seeds, images, own = network
    job = compare(elsd, {"images": images}, seeds=seeds)
    assert job["kind"] == "comparison" and job["seeds"] == seeds
    result = job["result"]
    tensors, _ = read_safetensors(elsd.get(result["tensors_url"], 200).content)
    assert (tensors["images"] == own).all()
    ideal = elsd.post("/v1/samples", 200, json={"bank": "tiny", "machine": "is", "num_inference_steps": 5, "seed": 5,
                                                "num_images": 4}).json()
    assert (read_npy(elsd.get(f"{ideal['result']['tensors_url']}?name=images", 200).content) == tensors["ideal"]).all()
    for k, told in enumerate(result["images"]):
        assert (told["index"], told["seed"]) == (k, seeds[k])
        clamped = np.clip(images[k], -1, 1)
        for got, (f, g) in ((told, (images[k], own[k])), (told["is"], (images[k], tensors["ideal"][k])),
                            (told["clamped"], (clamped, np.clip(own[k], -1, 1))),
                            (told["is"]["clamped"], (clamped, np.clip(tensors["ideal"][k], -1, 1)))):
            for name, value in agreement(f, g).items():
                assert got[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    r = np.array([i["pearson_r"] for i in result["images"]])
    summary = result["summary"]
    assert summary["pearson_r"]["median"] == pytest.approx(np.median(r))
    assert summary["pearson_r"]["mean"] == pytest.approx(r.mean())
    low, high = summary["pearson_r"]["ci95"]
    assert r.min() <= low <= np.median(r) <= high <= r.max()
    assert summary["beats_is"] == np.mean(r > [i["is"]["pearson_r"] for i in result["images"]])
    assert set(summary["clamped"]) == {"pearson_r", "pearson_r_squared", "r2_score", "mse"} <= set(summary["is"])
    sheet = elsd.get(result["sheet_url"], 200)
    assert sheet.content == elsd.get(f"/v1/jobs/{job['id']}", 200, headers={"Accept": "image/png"}).content
    size = [int.from_bytes(elsd.get(f"{result['sheet_url']}?zoom={z}", 200).content[16:24], "big") for z in (1, 3)]
    assert size[1] == 3 * size[0]


def test_seeds_in_any_order_and_noise(elsd, network):
    seeds, images, own = network
    order = [2, 0, 3, 1]
    shuffled = compare(elsd, {"images": images[order], "seeds": np.array(seeds)[order]})
    assert shuffled["seeds"] == [seeds[k] for k in order]
    straight = compare(elsd, {"images": images}, seeds=seeds)
    for k, told in zip(order, shuffled["result"]["images"]):
        assert told["pearson_r"] == straight["result"]["images"][k]["pearson_r"]
    made = elsd.post("/v1/samples", 200, json={"bank": "tiny", "num_inference_steps": 5, "scales": 3, "seed": 5,
                                               "num_images": 4, "outputs": ["xt"]}).json()
    noise = read_npy(elsd.get(f"{made['result']['tensors_url']}?name=xt", 200).content)[:, 0]
    told = compare(elsd, {"images": images, "x_T": noise}, noise="x_T")["result"]
    assert [i["pearson_r"] for i in told["images"]] == [i["pearson_r"] for i in straight["result"]["images"]]
    assert told["images"][0]["seed"] is None


IMAGES = np.zeros((2, *SHAPE), np.float32)


@pytest.mark.parametrize("tensors, params, pointer", [
    ({}, {"seeds": [1, 2]}, "/images"),
    ({"images": IMAGES}, {}, "/seeds"),
    ({"images": IMAGES}, {"seeds": [1]}, "/seeds"),
    ({"images": IMAGES}, {"seeds": [1, -2]}, "/seeds/1"),
    ({"images": IMAGES}, {"seeds": []}, "/seeds"),
    ({"images": IMAGES, "seeds": np.array([1.0, 2.0])}, {}, "/seeds"),
    ({"images": IMAGES, "n": IMAGES}, {"seeds": [1, 2], "noise": "n"}, "/seeds"),
    ({"images": IMAGES, "n": IMAGES[:1]}, {"noise": "n"}, "/noise"),
    ({"images": IMAGES[..., :7]}, {"seeds": [1, 2]}, "/images"),
    ({"images": IMAGES + np.float32(np.nan)}, {"seeds": [1, 2]}, "/images"),
    ({"images": IMAGES}, {"seeds": [1, 3], "sampler": "ddpm"}, "/seeds"),
    ({"images": IMAGES}, {"seeds": [1, 2], "num_images": 2}, "/num_images"),
    ({"images": IMAGES}, {"seeds": [1, 2], "scales": 4}, "/scales"),
])
def test_comparisons_that_are_refused(elsd, tensors, params, pointer):
    problem = elsd.problem("POST", "/v1/comparisons", 422, headers={"Content-Type": SAFETENSORS},
                           data=write_safetensors(tensors, params={"bank": "tiny"} | params))
    assert pointer in [e["pointer"] for e in problem["errors"]], problem


def test_capabilities_tell_every_kind(elsd):
    kinds = {k["name"]: k for k in elsd.get("/v1/capabilities", 200).json()["kinds"]}
    assert {n: k["post"] for n, k in kinds.items()} == {
        "sample": "/v1/samples", "denoise": "/v1/denoise", "calibration": "/v1/calibrations",
        "comparison": "/v1/comparisons"}
    schemas = elsd.get("/openapi.json", 200).json()["components"]["schemas"]
    for kind, schema in (("sample", "SampleRequest"), ("denoise", "DenoiseRequest"),
                         ("calibration", "CalibrationRequest"), ("comparison", "ComparisonRequest")):
        assert {f["name"] for f in kinds[kind]["fields"]} == set(schemas[schema]["properties"])
    assert set(kinds["denoise"]["outputs"]) == {"x0", "eps", "score", "entropy"}


def test_what_was_sent_survives_a_crash(start, tmp_path):
    """Both kinds, queued behind a long one, come out as if nothing had happened; save_as too."""
    elsd = start("--bank", "digits=digits", "--threads", 1)
    rng = np.random.default_rng(3)
    xt = rng.standard_normal((2, 2, 1, 32, 32)).astype(np.float32)
    calibration = write_safetensors({"xt": xt, "eps": xt}, params={"t": [0.6, 0.4], "p": [3, 5], "max_samples": 30,
                                                                   "save_as": "after"})
    comparison = write_safetensors({"images": xt[0]}, params={"seeds": [9, 4], "max_samples": 30,
                                                              "num_inference_steps": 3, "scales": 3})
    headers = {"Content-Type": SAFETENSORS}
    elsd.job(max_samples=3000, num_inference_steps=200, scales=9, outputs=["image"])
    jobs = [elsd.accepted(path, data=body, headers=headers)
            for path, body in (("/v1/calibrations", calibration), ("/v1/comparisons", comparison))]
    elsd.kill()
    elsd.start()
    for job in elsd.get("/v1/jobs", 200).json()["jobs"]:
        if job["kind"] == "sample":
            elsd.delete(f"/v1/jobs/{job['id']}")
    after = [elsd.finished(job)["result"] for job in jobs]
    fresh = [finished(elsd, path, body)["result"]
             for path, body in (("/v1/calibrations", calibration), ("/v1/comparisons", comparison))]
    assert after[0] == fresh[0]
    assert (after[1]["images"], after[1]["summary"]) == (fresh[1]["images"], fresh[1]["summary"])
    assert elsd.get("/v1/scales/after", 200).json()["p"] == after[0]["scales"]["p"]


@pytest.mark.skipif(not (SHARED / "cnn" / "xt.npy").exists(), reason="../shared/cnn is absent")
def test_a_trained_network(start, tmp_path):
    """Two of its seeds at four times, with its float32 times as they are: they are read as the numbers that were meant."""
    cnn = {p.stem: np.load(p) for p in (SHARED / "cnn").glob("*.npy")}
    elsd = start("--bank", "digits=digits")
    some = slice(0, 2), slice(2, 18, 5)
    job = finished(elsd, "/v1/calibrations", write_safetensors(
        {"xt": cnn["xt"][some], "eps": cnn["eps"][some], "t": cnn["t"][some[1]]},
        params={"max_samples": 20, "p": [3, 9, 15]}))
    assert job["result"]["t"] == [0.9, 0.65, 0.4, 0.15]
    assert np.array(job["result"]["cosine"]).max() > 0.5
