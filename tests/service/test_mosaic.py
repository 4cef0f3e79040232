"""Where every pixel comes from, over HTTP: against the definitions, step by step; and what is said when it was not kept."""
import numpy as np
import pytest

from daemon import Daemon
from definitions import posterior
from formats import read_npy, read_png, read_safetensors, write_bank

SHAPE = (2, 7, 6)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Random images, one of them twice, so that there are ties."""
    images = np.random.default_rng(5).uniform(-1, 1, (5, *SHAPE)).astype(np.float32)
    images[3] = images[1]
    return write_bank(tmp_path_factory.mktemp("bank") / "tiny.safetensors", images), images


@pytest.fixture(scope="module")
def elsd(bank, tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("elsd"), "--bank", f"tiny={bank[0]}", "--bank", "digits=digits") as daemon:
        yield daemon


BODY = {"bank": "tiny", "num_images": 2, "num_inference_steps": 4, "scales": [3, 3, 5, 5], "seed": 11}


def check_pixel(got, at, weight, top):
    """Candidates heaviest first; equal weights in the order of image, row, column."""
    n = min(top, len(weight))
    assert got["weight"][:n] == pytest.approx(weight[:n], rel=1e-5, abs=1e-7)
    for k in range(n):
        place = np.array([got["image"][k], got["row"][k], got["column"][k]])
        # Another candidate at this place must be as heavy as the definition's, beyond what float32 x0 allows to tell.
        same = np.flatnonzero((at == place).all(1))
        assert len(same) == 1 and weight[same[0]] == pytest.approx(weight[k], rel=1e-6, abs=1e-9)
    for k in range(n, top):
        assert (got["image"][k], got["weight"][k]) == (-1, 0)


@pytest.mark.parametrize("machine", ["ls", "els", "bbels"])
def test_every_step_is_the_definitions(elsd, bank, machine):
    top = 6
    job = elsd.post("/v1/samples", 200, json=BODY | {"machine": machine, "mosaic_top": top,
                                                     "outputs": ["xt", "mosaic"]}).json()
    assert job["params"]["outputs"] == ["xt", "entropy", "mosaic"]
    xt = read_npy(elsd.get(f"{job['result']['tensors_url']}?name=xt", 200).content)
    h, w = SHAPE[1:]
    for step in job["result"]["steps"]:
        for index in range(2):
            url = f"/v1/jobs/{job['id']}/images/{index}/mosaic?step={step['step']}"
            got = elsd.get(url, 200).json()
            assert (got["index"], got["step"], got["height"], got["width"], got["top"]) == (index, step["step"], h, w, top)
            found = posterior(bank[1], xt[index, step["step"]], machine, step["p"], step["alpha_bar"])
            for (i, j), (at, weight) in found.items():
                pixel = {k: v[(i * w + j) * top:(i * w + j + 1) * top] for k, v in got["candidates"].items()}
                check_pixel(pixel, at, weight, top)
                entropy = -(weight * np.log(np.maximum(weight, 1e-300))).sum()
                assert got["entropy"][i * w + j] == pytest.approx(entropy, abs=2e-4)
    last = elsd.get(f"/v1/jobs/{job['id']}/images/1/mosaic", 200).json()
    assert last == got


def test_equal_patches_are_in_order(elsd):
    """Images 1 and 3 are the same: wherever both are among the candidates, 1 comes right before 3."""
    job = elsd.post("/v1/samples", 200, json=BODY | {"machine": "ls", "outputs": ["mosaic"], "mosaic_top": 5}).json()
    got = elsd.get(f"/v1/jobs/{job['id']}/images/0/mosaic", 200).json()
    images = np.array(got["candidates"]["image"]).reshape(-1, 5)
    weights = np.array(got["candidates"]["weight"]).reshape(-1, 5)
    for row, weight in zip(images.tolist(), weights):
        assert row.index(3) == row.index(1) + 1
        assert weight[row.index(1)] == weight[row.index(3)]


def regions(image, down, right):
    """4-connected pixels of one origin, numbered in the order of their first pixels."""
    h, w = image.shape
    out, count = -np.ones((h, w), int), 0
    for at in range(h * w):
        stack = [divmod(at, w)]
        if out[stack[0]] >= 0:
            continue
        while stack:
            i, j = stack.pop()
            out[i, j] = count
            for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if 0 <= k < h and 0 <= m < w and out[k, m] < 0 and \
                        (image[k, m], down[k, m], right[k, m]) == (image[i, j], down[i, j], right[i, j]):
                    stack.append((k, m))
        count += 1
    return out


@pytest.mark.parametrize("machine, wraps", [("bbels", False), ("els", True)])
def test_regions_have_one_origin(elsd, machine, wraps):
    job = elsd.sample(machine=machine, outputs=["mosaic"], scales=5)
    got = elsd.get(f"/v1/jobs/{job['id']}/images/0/mosaic", 200).json()
    h, w = got["height"], got["width"]
    image, row, column = (np.array(got["candidates"][k]).reshape(h, w, -1)[..., 0] for k in ("image", "row", "column"))
    down, right = row - np.arange(h)[:, None], column - np.arange(w)
    if wraps:
        down, right = down % h, right % w
    assert (np.array(got["region"]).reshape(h, w) == regions(image, down, right)).all()
    assert 1 < max(got["region"]) + 1 < h * w


@pytest.mark.parametrize("machine", ["bbels", "els"])
def test_maps_are_pictures_of_it(elsd, machine):
    job = elsd.sample(machine=machine, outputs=["mosaic"], scales=5)
    url = f"/v1/jobs/{job['id']}/images/0/mosaic"
    got = elsd.get(f"{url}?step=1", 200).json()
    h, w = got["height"], got["width"]
    region = np.array(got["region"]).reshape(h, w)
    image, row, column = (np.array(got["candidates"][k]).reshape(h, w, -1)[..., 0] for k in ("image", "row", "column"))
    entropy = np.array(got["entropy"]).reshape(h, w)
    maps = {name: read_png(elsd.get(f"{url}/{name}?step=1", 200).content).pixels
            for name in ("region", "source", "entropy")}
    assert all(m.shape == (h, w, 3) for m in maps.values())
    # One colour per origin; of neighbouring regions hardly two have the same.
    down, right = row - np.arange(h)[:, None], column - np.arange(w)
    if machine == "els":
        down, right = down % h, right % w
    colours = {}
    for at in np.ndindex(h, w):
        colours.setdefault((image[at], down[at], right[at]), set()).add(tuple(maps["region"][at]))
    assert all(len(c) == 1 for c in colours.values())
    border = region[:, 1:] != region[:, :-1]
    differ = (maps["region"][:, 1:] != maps["region"][:, :-1]).any(-1)
    assert differ[border].mean() > 0.95 and not differ[~border].any()
    # More entropy is brighter.
    bright = maps["entropy"].astype(int).sum(-1)
    assert bright[entropy == entropy.min()].max() <= bright.min() + 1
    assert bright[entropy == entropy.max()].min() == bright.max()
    # What lies in place is grey.
    still = (down == 0) & (right == 0)
    assert (np.ptp(maps["source"][still].astype(int), axis=-1) <= 2).all()
    larger = read_png(elsd.get(f"{url}/region?step=1&zoom=3", 200).content).pixels
    assert (larger == maps["region"].repeat(3, 0).repeat(3, 1)).all()
    elsd.problem("GET", f"{url}/colour", 404, "map_not_found")


def test_tensors_and_json_agree(elsd):
    job = elsd.post("/v1/samples", 200, json=BODY | {"outputs": ["mosaic", "final_mosaic"]}).json()
    tensors, _ = read_safetensors(elsd.get(job["result"]["tensors_url"], 200).content)
    h, w = SHAPE[1:]
    assert {k: (v.dtype.name, v.shape) for k, v in tensors.items()} == {
        "entropy": ("float32", (2, 3, h, w)),
        "mosaic": ("int32", (2, 3, h, w, 4, 3)), "mosaic_weights": ("float32", (2, 3, h, w, 4)),
        "mosaic_regions": ("int32", (2, 3, h, w)),
        "final_mosaic": ("int32", (2, h, w, 4, 3)), "final_mosaic_weights": ("float32", (2, h, w, 4)),
        "final_mosaic_regions": ("int32", (2, h, w))}
    assert (tensors["mosaic"][:, -1] == tensors["final_mosaic"]).all()
    assert (tensors["mosaic_weights"][:, -1] == tensors["final_mosaic_weights"]).all()
    got = elsd.get(f"/v1/jobs/{job['id']}/images/1/mosaic?step=1", 200).json()
    for k, name in enumerate(("image", "row", "column")):
        assert got["candidates"][name] == tensors["mosaic"][1, 1, ..., k].ravel().tolist()
    assert np.float32(got["candidates"]["weight"]).tolist() == tensors["mosaic_weights"][1, 1].ravel().tolist()
    assert np.float32(got["entropy"]).tolist() == tensors["entropy"][1, 1].ravel().tolist()
    assert got["region"] == tensors["mosaic_regions"][1, 1].ravel().tolist()


@pytest.mark.parametrize("machine", ["ls", "els", "bbels"])
def test_findings(elsd, bank, machine):
    """Local consistency: the last step's P and candidates, a = 1, within 0.02; the nearest of all translations."""
    job = elsd.post("/v1/samples", 200, json=BODY | {"machine": machine, "outputs": ["final_mosaic"]}).json()
    images = read_npy(elsd.get(f"{job['result']['tensors_url']}?name=images", 200).content).astype(float)
    known = bank[1].astype(float)
    for x, told in zip(images, job["result"]["images"]):
        # At a = 1 and next to no noise all weight is on the nearest patch.
        found = posterior(bank[1], x, machine, job["result"]["steps"][-1]["p"], 1 - 1e-9)
        good = [(np.abs(known[at[0][0], :, at[0][1], at[0][2]] - x[:, i, j]) <= 0.02).all()
                for (i, j), (at, _) in found.items()]
        assert told["local_consistency"] == pytest.approx(np.mean(good))
        h, w = SHAPE[1:]
        distances = {(n, dy, dx): np.sqrt(((x - np.roll(y, (-dy, -dx), (1, 2))) ** 2).mean())
                     for n, y in enumerate(known) for dy in range(h) for dx in range(w)}
        best = min(distances, key=distances.get)
        nearest = told["nearest"]
        assert (nearest["bank_index"], nearest["dy"], nearest["dx"]) == best
        assert nearest["distance"] == pytest.approx(distances[best], rel=1e-6)
    plain = elsd.post("/v1/samples", 200, json=BODY | {"machine": machine}).json()["result"]["images"][0]
    assert plain["local_consistency"] is None and plain["nearest"] is None


def test_the_last_step_alone(elsd):
    job = elsd.post("/v1/samples", 200, json=BODY | {"outputs": ["image", "final_mosaic"]}).json()
    both = elsd.post("/v1/samples", 200, json=BODY | {"outputs": ["image", "mosaic"]}).json()
    url = f"/v1/jobs/{job['id']}/images/0/mosaic"
    assert elsd.get(url, 200).json() == elsd.get(f"/v1/jobs/{both['id']}/images/0/mosaic", 200).json()
    assert elsd.get(f"{url}?step=2", 200).json() == elsd.get(url, 200).json()
    problem = elsd.problem("GET", f"{url}?step=1", 409, "output_not_kept")
    assert "last step alone" in problem["detail"]


def test_what_cannot_be_told(elsd):
    job = elsd.sample()
    url = f"/v1/jobs/{job['id']}/images"
    elsd.problem("GET", f"{url}/0/mosaic", 409, "output_not_kept")
    elsd.problem("GET", f"{url}/1/mosaic", 404, "image_not_found")
    elsd.problem("GET", "/v1/jobs/" + "0" * 32 + "/images/0/mosaic", 404, "job_not_found")
    kept = elsd.post("/v1/samples", 200, json=BODY | {"outputs": ["mosaic"]}).json()
    elsd.problem("GET", f"/v1/jobs/{kept['id']}/images/0/mosaic?step=3", 404, "step_not_found")
    elsd.get(f"/v1/jobs/{kept['id']}/images/0/mosaic?step=x", 422)
    problem = elsd.problem("POST", "/v1/samples", 422, json=BODY | {"outputs": ["mosaic"], "mosaic_top": 65})
    assert problem["errors"][0]["pointer"] == "/mosaic_top"
