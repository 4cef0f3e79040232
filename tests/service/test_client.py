"""els.py as people use it: the file that the daemon serves, against that daemon."""
from concurrent.futures import ThreadPoolExecutor
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from daemon import ELS, PATIENCE, Daemon, wait_until
from formats import read_safetensors, write_safetensors
from test_jobs import SLOW, cancel, running
from test_metrics import metrics

SOURCE = pathlib.Path(os.environ["ELS_SOURCE_DIR"]) / "web" / "els.py"
QUICK = {"bank": "digits", "max_samples": 20, "num_inference_steps": 4, "scales": 3, "seed": 7}


@pytest.fixture(scope="module")
def els(elsd, tmp_path_factory):
    """The module as it comes over the wire."""
    answer = elsd.get("/els.py", 200)
    assert answer.headers["Content-Type"].startswith("text/x-python")
    path = tmp_path_factory.mktemp("client") / "els.py"
    path.write_bytes(answer.content)
    spec = importlib.util.spec_from_file_location("els", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["els"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["els"]


@pytest.fixture(scope="module")
def client(elsd, els):
    return els.Client(elsd.url)


def size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_sample(client, elsd):
    job = client.sample(**QUICK, num_images=2, outputs=["x0", "xt", "entropy"])
    assert job.images.shape == (2, 1, 32, 32) and job.x0.shape == (2, 3, 1, 32, 32)
    assert job.xt.shape == (2, 4, 1, 32, 32) and job.entropy.shape == (2, 3, 32, 32)
    assert job.seeds == [7, 8] and [s["p"] for s in job.steps] == [3, 3, 3]
    assert (job.xt[:, -1] == job.images).all()
    other = read_safetensors(elsd.get(job.result["tensors_url"], 200).content)[0]
    assert {k: v.shape for k, v in job.tensors.items()} == {k: v.shape for k, v in other.items()}
    assert size(job._repr_png_()) == (66 * 7, 32 * 7)
    assert size(job.film()._repr_png_())[0] > 3 * 32
    again = client.sample(**job.params)
    assert (again.images == job.images).all()
    assert (job.difference(again).pixels[:32, :32] == 128).all()
    without = client.sample(**{**job.params, "exclude": {"classes": [0]}})
    assert job.difference(without).pixels[:32, :32].std() > 0
    with pytest.raises(ValueError, match="equal"):
        job.difference(client.sample(**QUICK, num_images=1))
    job.delete()
    elsd.get(f"/v1/jobs/{job.id}", 410)


def test_noise_of_ones_own(client):
    job = client.sample(**QUICK, outputs=["xt"])
    own = client.sample(**{**QUICK, "seed": None}, noise=job.xt[:, 0])
    assert (own.images == job.images).all()
    named = client.sample(**QUICK, noise="numpy")
    assert (named.images != job.images).any()


def test_numpy_numbers_are_numbers(client):
    job = client.sample(**{**QUICK, "seed": np.int64(7), "scales": np.array([3, 3, 5, 5])})
    assert job.params["seed"] == 7 and job.params["scales"] == [3, 3, 5, 5]


def test_stream(client, els):
    for steps in (6, 60, 600):  # more where a stream was opened when its job was nearly over
        events = list(client.stream(**{**QUICK, "num_inference_steps": steps, "max_samples": 200}))
        kinds = {type(e).__name__ for e in events}
        if kinds == {"Progress", "Preview", "Sample"}:
            break
    assert isinstance(events[-1], els.Sample) and kinds == {"Progress", "Preview", "Sample"}
    assert [e.step for e in events if isinstance(e, els.Progress)] == sorted(
        e.step for e in events if isinstance(e, els.Progress))
    preview = [e for e in events if isinstance(e, els.Preview)][-1]
    assert size(preview.png) == (32, 32) and preview._repr_png_() == preview.png
    assert (events[-1].images == client.sample(**events[-1].params).images).all()


def test_a_stream_that_is_left_cancels_its_job(client, elsd):
    stream = client.stream(**{**QUICK, "max_samples": 3000, "num_inference_steps": 2000, "scales": 9})
    next(stream)
    job = elsd.get("/v1/jobs?limit=1", 200).json()["jobs"][0]
    stream.close()
    assert elsd.finished(job)["status"] == "cancelled"


def test_denoise(client):
    x = np.random.default_rng(0).standard_normal((2, 1, 32, 32))
    got = client.denoise(x, t=0.5, p=[3, 7], outputs=["x0", "eps", "entropy"], bank="digits", max_samples=20)
    assert got.x0.shape == got.eps.shape == (2, 2, 1, 32, 32) and got.entropy.shape == (2, 2, 32, 32)
    assert got.p == [3, 7] and size(got._repr_png_())
    one = client.denoise(x[0], alpha_bar=got.result["alpha_bar"], p=7, bank="digits", max_samples=20)
    assert one.x0[0, 0] == pytest.approx(got.x0[1, 0], abs=1e-5)
    with pytest.raises(AttributeError):
        got.nothing


def test_calibrate_and_compare(client, els):
    x = np.random.default_rng(1).standard_normal((2, 2, 1, 32, 32)).astype(np.float32)
    eps = np.stack([client.denoise(x[:, k], t=t, p=p, outputs=["eps"], bank="digits", max_samples=20).eps[0]
                    for k, (t, p) in enumerate([(0.6, 9), (0.3, 5)])], 1)
    found = client.calibrate(x, eps, np.float32([0.6, 0.3]), p=[3, 5, 9], save_as="client-test", bank="digits",
                             max_samples=20)
    assert found.scales == {"t": [0.3, 0.6], "p": [5, 9]} == client.scales()["client-test"]
    assert found.cosine.shape == found.l2.shape == (2, 2, 3) and found.mode == found.scales
    assert found.t.tolist() == [0.6, 0.3] and found.p.tolist() == [3, 5, 9]
    assert size(found._repr_png_())
    made = client.sample(**{**QUICK, "scales": "client-test"}, num_images=2)
    same = client.compare(made.images, made.seeds, **{k: QUICK[k] for k in ("bank", "max_samples", "num_inference_steps")},
                          scales="client-test")
    assert same.summary["pearson_r"]["median"] == pytest.approx(1) and same.images[0]["mse"] == 0
    assert (same.theory == made.images).all() and same.ideal.shape == made.images.shape
    assert size(same._repr_png_())[0] > 2 * 3 * 32
    by_noise = client.compare(made.images, noise=np.zeros_like(made.images), bank="digits", max_samples=20,
                              num_inference_steps=4, scales=3)
    assert by_noise.images[0]["seed"] is None
    client.delete_scales("client-test")
    assert "client-test" not in client.scales()


def test_mosaic(client):
    job = client.sample(**QUICK, outputs=["mosaic"], mosaic_top=2)
    mosaic = client.mosaic(job)
    assert mosaic.step == 2 and mosaic.image.shape == mosaic.weight.shape == (32, 32, 2)
    assert (mosaic.image == job.tensors["mosaic"][0, -1, ..., 0]).all()
    assert (mosaic.row == job.tensors["mosaic"][0, -1, ..., 1]).all()
    assert (mosaic.column == job.tensors["mosaic"][0, -1, ..., 2]).all()
    assert mosaic.weight == pytest.approx(job.tensors["mosaic_weights"][0, -1])
    assert (mosaic.region == job.tensors["mosaic_regions"][0, -1]).all()
    assert mosaic.effective == pytest.approx(np.exp(mosaic.entropy)) and (mosaic.effective >= 0.999).all()
    assert size(mosaic._repr_png_()) == (256, 256) and size(mosaic.map("entropy", zoom=1)) == (32, 32)
    assert client.mosaic(job.id, 0, 0).step == 0


def test_looking_around(client):
    assert client.capabilities()["kinds"] and client.banks()[0]["name"] == "digits"
    assert size(client.bank_image("digits", 3, zoom=2)) == (64, 64)


def test_problems_are_raised_with_their_field(client, els):
    with pytest.raises(els.Problem, match="odd") as caught:
        client.sample(scales=4)
    assert caught.value.status == 422 and caught.value.errors[0]["pointer"] == "/scales"
    with pytest.raises(els.Problem) as caught:
        client.sample(seed=-1, mashine="els")
    assert "did you mean" in str(caught.value) and "/seed" in str(caught.value)
    with pytest.raises(TypeError, match="complex"):
        els.write_safetensors({"x": np.zeros(2, complex)})


def test_a_key(els, tmp_path):
    text = subprocess.run([ELS, "key", "add", tmp_path / "keys", "ann"], capture_output=True, text=True, check=True).stdout
    with Daemon(tmp_path / "elsd", "--bank", "digits=digits", "--keys-file", tmp_path / "keys") as elsd:
        assert els.Client(elsd.url, text.strip()).sample(**QUICK).images.shape == (1, 1, 32, 32)
        with pytest.raises(els.Problem) as caught:
            els.Client(elsd.url).banks()
        assert caught.value.status == 401


def test_a_full_queue(els, tmp_path):
    with Daemon(tmp_path, "--queue-length", 1, "--threads", 1) as elsd, ThreadPoolExecutor() as pool:
        elsd.sample(bank="two-tone", max_samples=2)  # from which the daemon learns that jobs take no time
        jobs = [running(elsd), elsd.job(**SLOW)]
        with pytest.raises(els.Problem) as caught:
            els.Client(elsd.url, patience=0, progress=False).sample(**QUICK)
        assert caught.value.status == 429
        # One that waits gets through.
        waits = pool.submit(els.Client(elsd.url, patience=PATIENCE, progress=False).sample, **QUICK)
        wait_until("it to be refused at first",
                   lambda: metrics(elsd)["els_jobs_refused_total"][(("limit", "queue"),)] >= 2)
        for job in jobs[::-1]:
            cancel(elsd, job)
        assert waits.result().images.shape == (1, 1, 32, 32)


def test_containers_are_those_of_others(els):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, -2]), "c": np.uint8([[7]]),
              "d": np.float64(0.5), "e": np.int32([3])}
    ours = els.write_safetensors(arrays, {"params": "{}"})
    for reader, content in ((read_safetensors, ours), (els.read_safetensors, write_safetensors(arrays, params="{}"))):
        back, metadata = reader(content)
        assert metadata == {"params": "{}"}
        for name, array in arrays.items():
            assert back[name].dtype == array.dtype and (back[name] == array).all()


def test_types():
    """As a type checker sees it, where there is one."""
    pytest.importorskip("mypy")
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, SOURCE],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
