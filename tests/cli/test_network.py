"""The theory against a trained network: ../shared/cnn, a small zero-padded ResNet, and the images it was trained on.

The ordinary run takes the first 200 of them, which agree with the network nearly as well. With ELS_LONG=1 the scales
are calibrated anew, on half of the network's trajectories and all 2,000 images, and then predict all its images.
"""
import json
import os
import pathlib

import numpy as np
import pytest

from test_cli import els

SHARED = pathlib.Path(os.environ["ELS_SHARED_DIR"])
MNIST = SHARED / "data" / "mnist" / "train-images-idx3-ubyte.gz"
CNN = SHARED / "cnn"

# What els calibrate found.
SCALES = {"t": [round(0.05 * (i + 1), 2) for i in range(20)],
          "p": [3, 3, 3, 3, 5, 5, 5, 5, 5, 5, 7, 7, 7, 7, 7, 9, 9, 11, 13, 15]}

pytestmark = pytest.mark.skipif(not (MNIST.exists() and (CNN / "xt.npy").exists()),
                                reason="../shared/cnn or ../shared/data/mnist is absent")
long = pytest.mark.skipif(not os.environ.get("ELS_LONG"), reason="takes minutes: tests/run.sh --long")


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "mnist.safetensors"
    els("bank", "import", MNIST, "--resize", "32x32", "--limit", 2000, "-o", path)
    return path


def agreement(bank, count):
    """Of the theory's images and the network's, from the same noise."""
    out = bank.with_name("agreement.json")
    els("compare", CNN / "images_150.npy", "--seeds", CNN / "seeds.npy", "--bank", bank, "--max-samples", count,
        "--scales", json.dumps(SCALES), "-o", out)
    found = json.loads(out.read_text())
    assert [image["seed"] for image in found["images"]] == list(np.load(CNN / "seeds.npy"))
    return found["summary"]


def test_the_theory_predicts_the_network(bank):
    found = agreement(bank, 200)
    print(found["pearson_r"], found["is"]["pearson_r"], found["beats_is"])
    assert found["pearson_r"]["median"] >= 0.90  # measured 0.934
    assert found["beats_is"] >= 0.95             # measured 24 of 24 images


@long
def test_all_training_images_predict_it_too(bank):
    found = agreement(bank, 2000)
    assert found["pearson_r"]["median"] >= 0.93  # measured 0.934
    assert found["beats_is"] >= 0.95


@long
def test_the_scales_are_what_calibration_finds(bank):
    done = els("calibrate", CNN / "xt.npy", CNN / "eps.npy", "-t", CNN / "t.npy", "--bank", bank, "--trajectories", 12,
               "-p", "3,5,7,9,11,13,15,17", "-o", bank.with_name("calibration.json"))
    found = json.loads(done.stdout)
    assert found == SCALES
