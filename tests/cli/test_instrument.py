"""The theory as an instrument, from the command line: els calibrate, els compare, els mosaic, --scales auto.

NumPy computes every expected number from els sample's and els denoise's own arrays.
"""
import json

import numpy as np
import pytest

from formats import read_png, read_safetensors, to_u8, write_safetensors
from test_cli import els, refused

SHAPE = (1, 8, 8)
T = np.array([1.0, 0.5, 0.1])


def cosine_beta(t):
    return 1 - np.cos(t / 1.008 * np.pi / 2) ** 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bank of thirty images of 8x8 with few grey levels, and trajectories with random outputs."""
    path = tmp_path_factory.mktemp("instrument")
    random = np.random.default_rng(3)
    images = (random.integers(0, 3, (30, *SHAPE)) * 100).astype(np.uint8)
    (path / "bank.safetensors").write_bytes(write_safetensors(
        {"images": images, "labels": np.arange(30, dtype=np.int64) % 2}, name="grey"))
    np.save(path / "xt.npy", random.standard_normal((4, 3, *SHAPE)).astype(np.float32))
    np.save(path / "eps.npy", random.standard_normal((4, 3, *SHAPE)).astype(np.float32))
    np.save(path / "t.npy", T)
    return path


def calibrate(folder, *args, outputs="eps.npy", status=0):
    done = els("calibrate", "xt.npy", outputs, "-t", "t.npy", "--bank", "bank.safetensors", "-o", "c.json", *args,
               cwd=folder, status=status)
    return json.loads(done.stdout), json.loads((folder / "c.json").read_text())


def machine_eps(folder, xt, scales):
    """[S,T,K,...] from els denoise, one noise level at a time."""
    out = np.empty((xt.shape[0], len(T), len(scales), *SHAPE))
    for i, t in enumerate(T):
        np.save(folder / "x.npy", xt[:, i])
        els("denoise", "-x", "x.npy", "-t", t, "-p", ",".join(map(str, scales)), "--bank", "bank.safetensors",
            "-o", "x0.npy", cwd=folder)
        x0 = np.load(folder / "x0.npy").astype(float)
        beta = cosine_beta(t)
        out[:, i] = np.moveaxis((xt[None, :, i] - np.sqrt(1 - beta) * x0) / np.sqrt(beta), 0, 1)
    return out


# ---- calibrate ----

def test_calibration_equals_numpy(folder):
    printed, result = calibrate(folder, "-p", "3,5,7")
    xt, f = np.load(folder / "xt.npy").astype(float), np.load(folder / "eps.npy").astype(float)
    g = machine_eps(folder, xt.astype(np.float32), [3, 5, 7])
    f = f[:, :, None]
    axes = (-3, -2, -1)
    cosine = (f * g).sum(axes) / np.sqrt((f * f).sum(axes) * (g * g).sum(axes))
    # x0 is float32 and is divided by sigma = 0.15 at the last time.
    np.testing.assert_allclose(result["cosine"], cosine, atol=1e-5)
    np.testing.assert_allclose(result["l2"], np.sqrt(((f - g) ** 2).sum(axes)), rtol=1e-5)
    best = np.sort(np.array([3, 5, 7])[cosine.argmax(-1)], axis=0)
    assert dict(zip(result["scales"]["t"], result["scales"]["p"])) == dict(zip(T, best[1]))
    assert printed == result["scales"] == result["median"]
    assert result["t"] == list(T) and result["p"] == [3, 5, 7]
    assert (result["metric"], result["fit"]) == ("cosine", "median")


def test_calibration_options(folder):
    _, everything = calibrate(folder, "-p", "3,7")
    _, two = calibrate(folder, "-p", "3,7", "--trajectories", "2", "--metric", "l2", "--fit", "monotone")
    assert two["cosine"] == everything["cosine"][:2]
    assert two["scales"] == two["monotone"]
    assert two["monotone"]["p"] == sorted(two["monotone"]["p"])  # keyed by t, which rises
    _, threads = calibrate(folder, "-p", "3,7", "-j", "3")
    assert threads == everything


def test_calibration_from_clean_estimates(folder):
    xt, eps = np.load(folder / "xt.npy"), np.load(folder / "eps.npy")
    beta = cosine_beta(T)[None, :, None, None, None]
    np.save(folder / "clean.npy", ((xt - np.sqrt(beta) * eps) / np.sqrt(1 - beta)).astype(np.float32)[:, 1:])
    np.save(folder / "xt2.npy", xt[:, 1:])
    np.save(folder / "eps2.npy", eps[:, 1:])
    np.save(folder / "t2.npy", T[1:].astype(np.float32))
    results = []
    for outputs, kind in (("eps2.npy", "eps"), ("clean.npy", "x0")):
        els("calibrate", "xt2.npy", outputs, "-t", "t2.npy", "--outputs-are", kind, "-p", "3,5", "--bank",
            "bank.safetensors", "-o", "c.json", cwd=folder)
        result = json.loads((folder / "c.json").read_text())
        assert result["t"] == list(T[1:])  # as they were meant, not as float32 has them
        results.append(result["cosine"])
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def test_calibrated_scales_are_accepted(folder):
    printed, _ = calibrate(folder, "-p", "3,5")
    els("sample", "--bank", "bank.safetensors", "--scales", json.dumps(printed), "-s", 1, "-o", "i.npy", cwd=folder)
    assert np.load(folder / "i.npy").shape == (1, *SHAPE)


def test_calibration_refuses(folder):
    def refuses(says, *args, xt="xt.npy", eps="eps.npy"):
        refused("calibrate", xt, eps, "--bank", "bank.safetensors", "-o", "no.json", *args, status=1, says=says,
                cwd=folder)

    xt = np.load(folder / "xt.npy")
    np.save(folder / "short.npy", xt[:, :2])
    np.save(folder / "wrong.npy", xt[..., :7])
    xt[1, 2, 0, 3, 4] = np.nan
    np.save(folder / "nan.npy", xt)
    refuses(["eps", "2 times"], eps="short.npy")
    refuses(["xt", "[S, T, 1, 8, 8]", "[4, 3, 1, 8, 7]"], xt="wrong.npy")
    refuses(["xt", "nan", "seed 1, time 2"], xt="nan.npy")
    refuses(["eps", "nan"], eps="nan.npy")
    refuses(["scale P is 4", "odd"], "-p", "3,4")
    refuses(["machine is"], "--machine", "is")
    np.save(folder / "t4.npy", np.linspace(1, 0.1, 4))
    refuses(["t:", "4 entries", "3 times"], "-t", "t4.npy")
    np.save(folder / "t0.npy", np.array([1, 0.5, 0]))
    refuses(["t = 0", "beta"], "-t", "t0.npy")
    refuses(["--trajectories is 5", "holds 4"], "--trajectories", "5")
    (folder / "cut.npy").write_bytes((folder / "eps.npy").read_bytes()[:-3])
    refuses("bytes", eps="cut.npy")


# ---- compare ----

def metrics(image, reference):
    f, g = reference.ravel().astype(float), image.ravel().astype(float)
    r = np.corrcoef(f, g)[0, 1]
    rest = ((f - g) ** 2).sum()
    return {"pearson_r": r, "pearson_r_squared": r * r, "r2_score": 1 - rest / ((f - f.mean()) ** 2).sum(),
            "mse": rest / f.size}


def close(found, expected):
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-10), name


def test_comparison_equals_numpy(folder):
    common = ["--bank", "bank.safetensors", "--scales", "3,3,5,5"]
    for name, machine in (("theory.npy", "bbels"), ("ideal.npy", "is")):
        els("sample", *common, "--machine", machine, "-n", 3, "-s", 5, "-o", name, cwd=folder)
    theory, ideal = np.load(folder / "theory.npy"), np.load(folder / "ideal.npy")
    network = theory + 0.2 * np.random.default_rng(0).standard_normal(theory.shape).astype(np.float32)
    network[2] = ideal[2]
    np.save(folder / "network.npy", network)
    els("compare", "network.npy", *common, "-s", 5, "-o", "c.json", "--sheet", "s.png", cwd=folder)
    result = json.loads((folder / "c.json").read_text())
    for i, found in enumerate(result["images"]):
        assert (found["index"], found["seed"]) == (i, 5 + i)
        for kept, images in ((found, theory), (found["is"], ideal)):
            close(kept, metrics(images[i], network[i]))
            close(kept["clamped"], metrics(images[i].clip(-1, 1), network[i].clip(-1, 1)))
    values = [image["pearson_r"] for image in result["images"]]
    summary = result["summary"]
    assert summary["pearson_r"]["median"] == pytest.approx(np.median(values))
    assert summary["pearson_r"]["mean"] == pytest.approx(np.mean(values))
    low, high = summary["pearson_r"]["ci95"]
    assert min(values) <= low <= np.median(values) <= high <= max(values)
    assert summary["beats_is"] == pytest.approx(2 / 3)
    assert read_png((folder / "s.png").read_bytes()).pixels.shape == (3 * 8 + 4, 3 * 8 + 4)

    # The same noise, told in other ways.
    np.save(folder / "seeds.npy", np.array([5, 6, 7]))
    els("compare", "network.npy", *common, "--seeds", "seeds.npy", "-o", "d.json", cwd=folder)
    assert json.loads((folder / "d.json").read_text()) == result


def test_comparison_refuses(folder):
    def refuses(says, *args, images="few.npy"):
        refused("compare", images, "--bank", "bank.safetensors", "--scales", "3", "-o", "no.json", *args, status=1,
                says=says, cwd=folder)

    np.save(folder / "few.npy", np.zeros((2, *SHAPE), np.float32))
    np.save(folder / "flat.npy", np.zeros((2, 8, 8), np.float32))
    np.save(folder / "bad.npy", np.full((2, *SHAPE), np.inf, np.float32))
    np.save(folder / "three.npy", np.array([1, 2, 3]))
    np.save(folder / "half.npy", np.array([1.5, 2]))
    refuses("which noise")
    refuses("which noise", "-s", "1", "--seeds", "three.npy")
    refuses(["images", "[S, 1, 8, 8]"], "-s", "1", images="flat.npy")
    refuses(["images", "inf"], "-s", "1", images="bad.npy")
    refuses(["3 entries", "2 images"], "--seeds", "three.npy")
    refuses(["seeds[0]", "1.5"], "--seeds", "half.npy")


# ---- scales auto ----

def test_automatic_scales_repeat_and_travel(folder):
    args = ["sample", "--bank", "bank.safetensors", "--scales", "auto", "-s", 3, "-o"]
    els(*args, "a.safetensors", cwd=folder)
    els(*args, "b.safetensors", "-j", 2, cwd=folder)
    raw = (folder / "a.safetensors").read_bytes()
    assert raw == (folder / "b.safetensors").read_bytes()
    params = json.loads(json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])["__metadata__"]["params"])
    assert len(params["scales"]["t"]) == 20 and set(params["scales"]["p"]) <= {3, 5}
    # What the parameters say gives the same images without looking for scales again.
    els("sample", "--bank", "bank.safetensors", "--scales", json.dumps(params["scales"]), "-s", 3, "-o",
        "c.safetensors", cwd=folder)
    assert raw == (folder / "c.safetensors").read_bytes()


def test_automatic_scales_with_explicit_levels(folder):
    levels = ",".join(f"{1 - i / 7:.4f}" for i in range(7)) + ",0.01"
    els("sample", "--bank", "bank.safetensors", "--scales", "auto", "--alpha-bar", levels, "-s", 3, "-o", "a.npy",
        cwd=folder)
    refused("sample", "--bank", "bank.safetensors", "--max-samples", 1, "--scales", "auto", "-o", "no.npy", status=1,
            says="2 images", cwd=folder)


# ---- mosaic ----

MOSAIC = ["--bank", "bank.safetensors", "--scales", "3,3,5,5"]


def test_mosaic_is_the_same_in_every_form(folder):
    els("mosaic", *MOSAIC, "-s", 4, "-o", "m.json", cwd=folder)
    els("sample", *MOSAIC, "-n", 2, "-s", 3, "--outputs", "image,x0,entropy,mosaic", "-o", "m.safetensors", cwd=folder)
    told = json.loads((folder / "m.json").read_text())
    kept, _ = read_safetensors((folder / "m.safetensors").read_bytes())
    assert (told["height"], told["width"], told["top"], told["step"]) == (8, 8, 4, 2)
    for k, name in enumerate(("image", "row", "column")):
        assert kept["mosaic"][1, 2, ..., k].ravel().tolist() == told["candidates"][name]
    np.testing.assert_array_equal(kept["mosaic_weights"][1, 2].ravel(), np.float32(told["candidates"]["weight"]))
    assert kept["mosaic_regions"][1, 2].ravel().tolist() == told["region"]
    # The engine's own entropy, from another walk over the candidates.
    np.testing.assert_allclose(kept["entropy"][1, 2].ravel(), told["entropy"], atol=1e-3)


def test_mosaic_explains_the_image(folder):
    """What the listed candidates leave open lies within [-1,1]."""
    els("mosaic", *MOSAIC, "-s", 4, "--top", 64, "-o", "m.json", cwd=folder)
    els("sample", *MOSAIC, "-s", 4, "--outputs", "x0", "-o", "m.safetensors", cwd=folder)
    told = json.loads((folder / "m.json").read_text())
    x0 = read_safetensors((folder / "m.safetensors").read_bytes())[0]["x0"][0, -1, 0]
    bank = read_safetensors((folder / "bank.safetensors").read_bytes())[0]["images"][:, 0] / 127.5 - 1
    image, row, column, weight = (np.array(told["candidates"][name]).reshape(8, 8, 64)
                                  for name in ("image", "row", "column", "weight"))
    assert (np.diff(weight, axis=-1) <= 0).all()
    values = np.where(image >= 0, bank[image, row, column], 0)
    open_weight = 1 - weight.sum(-1)
    assert (abs((weight * values).sum(-1) - x0) <= open_weight + 1e-4).all()
    assert open_weight.min() < 0.5


def test_mosaic_picture(folder):
    els("mosaic", *MOSAIC, "-s", 4, "--step", 1, "--zoom", 2, "-o", "m.png", cwd=folder)
    els("sample", *MOSAIC, "-s", 4, "--outputs", "x0", "-o", "m.safetensors", cwd=folder)
    png = read_png((folder / "m.png").read_bytes())
    assert png.pixels.shape == (2 * 8, 2 * (4 * 8 + 3 * 2), 3)
    assert json.loads(png.text["els"])["seed"] == 4
    x0 = read_safetensors((folder / "m.safetensors").read_bytes())[0]["x0"][0, 1, 0]
    np.testing.assert_array_equal(png.pixels[::2, :16:2, 0], to_u8(x0))
    for map_ in range(3):
        tile = png.pixels[::2, 20 * (map_ + 1):20 * (map_ + 1) + 16:2]
        assert len(np.unique(tile.reshape(-1, 3), axis=0)) > 3


def test_copies_are_found_out(folder):
    """A bank of one image: whatever is drawn is that image."""
    for machine, consistent in (("is", 1), ("ls", 1)):
        els("mosaic", "--bank", "bank.safetensors", "--machine", machine, "--scales", 3, "--max-samples", 1, "-s", 1,
            "-o", "m.json", cwd=folder)
        told = json.loads((folder / "m.json").read_text())
        assert told["local_consistency"] == consistent
        assert told["nearest"]["bank_index"] == told["nearest"]["dy"] == told["nearest"]["dx"] == 0
        assert told["nearest"]["distance"] < 1e-6
        assert set(told["region"]) == {0}


def test_mosaic_refuses(folder):
    def refuses(says, *args, out="no.json", status=1):
        refused("mosaic", *MOSAIC, "-s", 1, "-o", out, *args, status=status, says=says, cwd=folder)

    refuses(["--step is 3", "0 to 2"], "--step", "3")
    refuses("--zoom", "--zoom", "3")
    refuses([".png or .json"], out="no.npy")
    refuses(["1 to 64"], "--top", "65", status=2)
    np.save(folder / "two.npy", np.zeros((2, *SHAPE), np.float32))
    refuses(["2 images", "takes 1"], "--noise-file", "two.npy")
