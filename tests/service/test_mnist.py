"""Real input from its file to a picture: all of MNIST is imported by `els`, and served."""
import gzip
import subprocess

import numpy as np
import pytest

from daemon import ELS, SHARED, Daemon, environment
from formats import inside, outside, read_npy, read_png, read_safetensors

MNIST = SHARED / "data" / "mnist"
COUNT = 60000

pytestmark = pytest.mark.skipif(not MNIST.exists(), reason="../shared/data/mnist is absent")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    out = tmp_path_factory.mktemp("bank") / "mnist.safetensors"
    subprocess.run([ELS, "bank", "import", MNIST / "train-images-idx3-ubyte.gz", "--resize", "32x32", "--name", "mnist",
                    "--quiet", "--output", out], env=environment(), check=True)
    return out


@pytest.fixture(scope="module")
def mnist(bank, tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("elsd"), "--bank", f"mnist={bank}") as elsd:
        yield elsd


@pytest.fixture(scope="module")
def labels():
    with gzip.open(MNIST / "train-labels-idx1-ubyte.gz") as f:
        return np.frombuffer(f.read()[8:], np.uint8)


def test_the_bank(mnist, bank, labels):
    about = mnist.get("/v1/banks/mnist", 200).json()
    assert about["num_images"] == COUNT and about["shape"] == [1, 32, 32]
    assert [c["count"] for c in about["classes"]] == np.bincount(labels).tolist()
    images = read_safetensors(bank.read_bytes())[0]["images"]
    for i in (0, COUNT - 1):
        assert np.array_equal(read_png(mnist.get(f"/v1/banks/mnist/images/{i}", 200).content).pixels, images[i, 0])


def sample(elsd, **fields):
    body = {"bank": "mnist", "seed": 7} | fields
    x = read_npy(elsd.post("/v1/samples", 200, json=body, headers={"Accept": "application/x-npy"}).content)
    assert x.shape == (1, 1, 32, 32)
    return x


def test_a_digit_of_two_hundred(mnist):
    """Patches of digits, each as bright as theirs, and most of it ground."""
    x = sample(mnist, max_samples=200, label=3, num_inference_steps=6)
    assert x.min() > -1.01 and x.max() < 1.01
    assert (x < -0.9).mean() > 0.5 and (x > 0.5).mean() > 0.02


def test_all_sixty_thousand(mnist, bank):
    """`is` with little noise is the nearest image: the very last one is found."""
    last = read_safetensors(bank.read_bytes())[0]["images"][-1:].astype(np.float32) / 127.5 - 1
    noise = np.random.default_rng(1).standard_normal(last.shape, dtype=np.float32)
    x = np.sqrt(np.float32(0.9)) * last + np.sqrt(np.float32(0.1)) * noise
    fields = {"bank": "mnist", "machine": "is", "x": inside(x), "alpha_bar": 0.9}
    x0 = outside(mnist.post("/v1/denoise", 200, json=fields).json()["result"]["x0"])
    assert np.abs(x0.reshape(last.shape) - last).max() < 1e-5
    # And the whole bank by patches: other pictures than its first images give.
    some, whole = (sample(mnist, machine="ls", scales=5, num_inference_steps=3, max_samples=m) for m in (200, None))
    assert not np.array_equal(some, whole)
