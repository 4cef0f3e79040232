"""The command-line tool as its user meets it: every test runs the real `els`.

Banks are small (8x8) so that an instrumented build is quick; tests against the released research code's
numbers use tests/golden.
"""
import json
import os
import pathlib
import pty
import signal
import struct
import subprocess
import time

import numpy as np
import pytest

from formats import read_png, read_safetensors, write_safetensors

TESTS = pathlib.Path(os.environ["ELS_TESTS_DIR"])
ELS = pathlib.Path(os.environ["ELS_BUILD_DIR"]) / "server" / "cli" / "els"
MNIST_SCALES = "3,3,5,5,5,7,7,7,9,9,11,11,11,11,13,15,15,15,15,15"


# ---- helpers ----

def els(*args, cwd=None, status=0, stdout=subprocess.PIPE):
    done = subprocess.run([ELS, *map(str, args)], cwd=cwd, stdout=stdout, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, text=True)
    assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
    return done


def refused(*args, status, says, cwd=None):
    """One sentence on stderr, nothing on stdout, and nothing written."""
    before = sorted(os.listdir(cwd)) if cwd else None
    done = els(*args, cwd=cwd, status=status)
    assert done.stdout == ""
    assert done.stderr.startswith("els: ") and done.stderr.count("\n") == 1, done.stderr
    for text in [says] if isinstance(says, str) else says:
        assert text in done.stderr
    if status == 2:
        assert "--help" in done.stderr
    if cwd:
        assert sorted(os.listdir(cwd)) == before
    return done.stderr


@pytest.fixture(scope="session")
def bank(tmp_path_factory):
    """Twelve random 8x8 images, classes cat, dog and 7."""
    path = tmp_path_factory.mktemp("bank") / "tiny.safetensors"
    images = np.random.default_rng(1).integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(12, dtype=np.int64) % 3
    path.write_bytes(write_safetensors({"images": images, "labels": labels}, name="tiny",
                                       classes=["cat", "dog", "7"]))
    return path


@pytest.fixture(scope="session")
def colour_bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("colour") / "colour.safetensors"
    images = np.random.default_rng(2).integers(0, 256, (5, 3, 6, 7), dtype=np.uint8)
    path.write_bytes(write_safetensors({"images": images}, name="colour", scales=[3, 3, 5, 5]))
    return path


def sample(bank, out, *args, **keys):
    els("sample", "--bank", bank, "--scales", "3,3,5,5", *args, "-o", out, **keys)
    return np.load(out) if str(out).endswith(".npy") else None


# ---- the tool itself ----

def test_version_and_help():
    version = els("--version").stdout
    assert version.startswith("els ") and version.count("\n") == 1
    top = els("--help")
    assert top.stderr == ""
    for command in ["sample", "denoise", "bank import", "bank info", "bank sheet", "bank list"]:
        assert f"els {command}" in top.stdout
        text = els(*command.split(), "--help").stdout
        assert text.startswith(f"els {command}: ") and "usage: els " + command in text
        assert max(len(line) for line in text.split("examples:")[0].split("\n")) <= 80
        assert els(*command.split(), "-h").stdout == text
    assert "bank sheet" in els("bank", "--help").stdout


def test_help_prints_defaults_whatever_came_before():
    text = els("sample", "--help").stdout
    assert els("sample", "--machine", "is", "--seed", "4", "--help").stdout == text
    assert "els, bbels (default)" in " ".join(text.split())


@pytest.mark.parametrize("args, says", [
    ([], "a command is missing"),
    (["smaple"], 'no command "smaple"'),
    (["--verbose"], 'no option "--verbose"'),
    (["bank"], "bank needs a command"),
    (["bank", "sample"], 'no command "bank sample"'),
    (["sample"], "--output FILE is missing"),
    (["sample", "--sed", "1"], ["no option --sed", "els sample --help"]),
    (["sample", "-y"], "no option -y"),
    (["sample", "--quiet=1", "-o", "a.npy"], "--quiet=1"),
    (["sample", "--s", "1"], "could mean several"),
    (["sample", "--seed"], "--seed needs an argument"),
    (["sample", "-o"], "-o needs an argument"),
    (["sample", "extra", "-o", "a.npy"], '"extra" is one argument too many'),
    (["bank", "import", "-o", "a.safetensors"], "SOURCE is missing"),
    (["bank", "import", "x.npy"], "--output BANK.safetensors is missing"),
    (["bank", "import", "x.npy", "-o", "a.safetensors", "--resize", "32"], "HxW, for example 32x32"),
    (["bank", "import", "x.npy", "-o", "a.safetensors", "--resize", "0x4"], "each from 1 to 512"),
    (["bank", "import", "x.npy", "-o", "a.safetensors", "--crop", "4x513"], "each from 1 to 512"),
    (["bank", "import", "x.npy", "-o", "a.safetensors", "--crop", "4x4x4"], "HxW"),
    (["bank", "info"], "FILE|NAME is missing"),
    (["bank", "info", "digits", "shapes"], '"shapes" is one argument too many'),
    (["bank", "list", "x"], '"x" is one argument too many'),
    (["denoise", "-o", "a.npy"], "--x X.npy is missing"),
    (["sample", "-o", "a.npy", "--machine", "cnn"], ["--machine is \"cnn\"", "is, es, ls, els, bbels"]),
    (["sample", "-o", "a.npy", "--candidates", "all"], ["wrapped, valid"]),
    (["sample", "-o", "a.npy", "--sampler", "euler"], "ddim, ddpm"),
    (["sample", "-o", "a.npy", "--start-step", "half"], "paper, full"),
    (["sample", "-o", "a.npy", "--noise", "jax"], "torch, numpy"),
    (["sample", "-o", "a.npy", "--noise-schedule", "cos"], "cosine, cosine_nichol, linear, exponential, ddpm_linear"),
    (["sample", "-o", "a.npy", "--seed", "-1"], "whole number from 0 to 9007199254740991"),
    (["sample", "-o", "a.npy", "--seed", "9007199254740992"], "from 0 to 9007199254740991"),
    (["sample", "-o", "a.npy", "--seed", "99999999999999999999"], "from 0 to"),
    (["sample", "-o", "a.npy", "--seed", "1.5"], '"1.5"'),
    (["sample", "-o", "a.npy", "--seed", " 1"], '" 1"'),
    (["sample", "-o", "a.npy", "--seed", "0x10"], '"0x10"'),
    (["sample", "-o", "a.npy", "--seed", ""], '""'),
    (["sample", "-o", "a.npy", "--steps", "1"], "from 2 to 10000"),
    (["sample", "-o", "a.npy", "--num-images", "0"], "from 1 to 10000"),
    (["sample", "-o", "a.npy", "--threads", "-2"], "from 0 to 1024"),
    (["sample", "-o", "a.npy", "--tolerance", "nan"], "number from 0 to 1"),
    (["sample", "-o", "a.npy", "--tolerance", "-0.1"], "number from 0 to 1"),
    (["sample", "-o", "a.npy", "--zoom", "17"], "from 1 to 16"),
    (["sample", "-o", "a.npy", "--alpha-bar", "1,,0.5"], '--alpha-bar is ""'),
    (["sample", "-o", "a.npy", "--exclude-images", "1,x"], '--exclude-images is "x"'),
    (["denoise", "-x", "x.npy", "-o", "a.npy", "-p", "3,0"], '--p is "0"'),
    (["denoise", "-x", "x.npy", "-o", "a.npy", "--as", "noise"], "x0, score, eps"),
    (["bank", "sheet", "digits", "-o", "a.png", "--limit", "0"], "from 1 to"),
])
def test_wrong_command_lines(args, says, tmp_path):
    refused(*args, status=2, says=says, cwd=tmp_path)


@pytest.mark.parametrize("args, says", [
    (["-o", "a.jpg"], ".png, .npy or .safetensors"),
    (["-o", "npy"], ".png, .npy or .safetensors"),
    (["-o", "no/such/folder/a.npy"], "No such file or directory"),
    (["-o", "folder.npy"], "not a regular file"),
    (["-o", "a.npy", "--bank", "missing.safetensors"], "missing.safetensors"),
    (["-o", "a.npy", "--bank", "mnist"], "digits"),
    (["-o", "a.npy", "--bank", "broken.safetensors"], "broken.safetensors"),
    (["-o", "a.npy", "--cpu", "abacus"], "abacus"),
    (["-o", "a.npy", "--label", "3"], "3"),
    (["-o", "a.npy", "--label", "bird"], "cat"),
    (["-o", "a.npy", "--exclude-classes", "cat,bird"], "bird"),
    (["-o", "a.npy", "--exclude-classes", "cat,dog,7"], ""),
    (["-o", "a.npy", "--exclude-images", "12"], "12"),
    (["-o", "a.npy", "--scales", "mnist"], "mnist-resnet-zeros"),
    (["-o", "a.npy", "--scales", "4"], "odd"),
    (["-o", "a.npy", "--scales", "3,5", "--steps", "4"], "--scales has 2 entries for 4 steps"),
    (["-o", "a.npy", "--scales", "9", "--machine", "els"], "8"),
    (["-o", "a.npy", "--alpha-bar", "1,0.5,0.2", "--steps", "4"], "--alpha-bar has 3 entries for 4 steps"),
    (["-o", "a.npy", "--alpha-bar", "1,0.5"], "asks for 1 steps"),
    (["-o", "a.npy", "--alpha-bar", "0.5,0.6,0.2"], "below alpha_bar[0]"),
    (["-o", "a.npy", "--seed", "9007199254740991", "--num-images", "2"], "seed"),
    (["-o", "a.npy", "--zoom", "2"], "--zoom is for .png"),
    (["-o", "a.png", "--outputs", "image,x0"], "need a .safetensors"),
    (["-o", "a.npy", "--outputs", "x0"], "need a .safetensors"),
    (["-o", "a.safetensors", "--outputs", "image,mosaics"], '"mosaics"'),
    (["-o", "a.safetensors", "--outputs", "image,"], '""'),
    (["-o", "a.npy", "--noise-file", "missing.npy"], "missing.npy"),
    (["-o", "a.npy", "--noise-file", "broken.safetensors"], ""),
    (["-o", "a.npy", "--noise-file", "wide.npy"], ["[1, 1, 8, 9]", "[N, 1, 8, 8]"]),
    (["-o", "a.npy", "--noise-file", "two.npy", "--num-images", "3"], "2 images"),
    (["-o", "a.npy", "--noise-file", "infinite.npy"], "finite"),
    (["-o", "a.png", "--num-images", "10000", "--zoom", "16"], ["10000 images", "zoom 16"]),
])
def test_samples_that_cannot_be(args, says, bank, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"not a bank at all")
    (tmp_path / "folder.npy").mkdir()
    np.save(tmp_path / "wide.npy", np.zeros((1, 1, 8, 9), np.float32))
    np.save(tmp_path / "two.npy", np.zeros((2, 1, 8, 8), np.float32))
    np.save(tmp_path / "infinite.npy", np.full((1, 8, 8), np.inf, np.float32))
    chosen = [] if "--bank" in args else ["--bank", bank]
    refused("sample", *chosen, *args, status=1, says=says, cwd=tmp_path)


def test_a_failure_leaves_the_old_result(bank, tmp_path):
    (tmp_path / "a.npy").write_bytes(b"precious")
    refused("sample", "--bank", bank, "--label", "bird", "-o", "a.npy", status=1, says="bird", cwd=tmp_path)
    assert (tmp_path / "a.npy").read_bytes() == b"precious"
    sample(bank, tmp_path / "a.npy")


def test_a_full_standard_output_is_a_failure():
    with open("/dev/full", "w") as full:
        done = els("bank", "list", status=1, stdout=full)
    assert "standard output" in done.stderr


# ---- sample ----

def test_npy(bank, tmp_path):
    x = sample(bank, tmp_path / "a.npy", "--num-images", 3, "--seed", 5)
    assert x.dtype.str == "<f4" and x.shape == (3, 1, 8, 8)
    assert np.isfinite(x).all() and x.std() > 0.1
    assert os.listdir(tmp_path) == ["a.npy"]


def test_safetensors_holds_what_was_asked_for(bank, tmp_path):
    out = tmp_path / "a.safetensors"
    args = ["--num-images", 2, "--seed", 5]
    images = sample(bank, tmp_path / "a.npy", *args)
    sample(bank, out, *args)
    t, metadata = read_safetensors(out.read_bytes())
    assert list(t) == ["images", "x0"]
    sample(bank, out, *args, "--outputs", "entropy,xt,x0,image")
    t, metadata = read_safetensors(out.read_bytes())
    assert {k: v.shape for k, v in t.items()} == {
        "images": (2, 1, 8, 8), "x0": (2, 3, 1, 8, 8), "xt": (2, 4, 1, 8, 8), "entropy": (2, 3, 8, 8)}
    assert t["images"].tobytes() == images.tobytes()
    assert t["xt"][:, -1].tobytes() == images.tobytes()
    assert (t["entropy"] >= -1e-6).all() and (t["entropy"] <= np.log(12 * 64) + 1e-6).all()
    assert metadata["params"] and json.loads(metadata["engine"])["kernel"]
    sample(bank, out, *args, "--outputs", "xt")
    assert list(read_safetensors(out.read_bytes())[0]) == ["xt"]


def test_full_start_and_last_estimate(bank, tmp_path):
    """Cosine's beta(0) is 0, so the image is the last step's estimate."""
    out = tmp_path / "a.safetensors"
    sample(bank, out, "--start-step", "full", "--outputs", "image,x0,xt", "--seed", 1)
    t, _ = read_safetensors(out.read_bytes())
    assert t["x0"].shape == (1, 4, 1, 8, 8) and t["xt"].shape == (1, 5, 1, 8, 8)
    np.testing.assert_allclose(t["x0"][:, -1], t["images"], atol=1e-6)


@pytest.mark.parametrize("machine", ["is", "es", "ls", "els", "bbels"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_same_seed_same_bytes(machine, sampler, bank, tmp_path):
    args = ["--machine", machine, "--sampler", sampler, "--outputs", "image,x0,xt,entropy", "--num-images", 3,
            "--seed", 40]
    runs = []
    for threads in [1, 2, 5]:
        out = tmp_path / f"{threads}.safetensors"
        sample(bank, out, *args, "--threads", threads)
        runs.append(out.read_bytes())
    assert runs[0] == runs[1] == runs[2]
    together, _ = read_safetensors((tmp_path / "1.safetensors").read_bytes())
    for k in range(3):
        out = tmp_path / "alone.safetensors"
        sample(bank, out, *args, "--num-images", 1, "--seed", 40 + k)
        alone, _ = read_safetensors(out.read_bytes())
        for name in together:
            assert alone[name][0].tobytes() == together[name][k].tobytes(), name
    assert together["images"][0].tobytes() != together["images"][1].tobytes()


def test_png(bank, colour_bank, tmp_path):
    out = tmp_path / "a.png"
    sample(bank, out, "--seed", 3)
    assert read_png(out.read_bytes())[:3] == (8, 8, 0)
    sample(bank, out, "--seed", 3, "--zoom", 4)
    assert read_png(out.read_bytes())[:3] == (32, 32, 0)
    sample(colour_bank, out, "--seed", 3, "--num-images", 5)
    # Three columns, two rows, gaps of two pixels.
    assert read_png(out.read_bytes())[:3] == (3 * 7 + 2 * 2, 2 * 6 + 2, 2)
    first = out.read_bytes()
    sample(colour_bank, out, "--seed", 3, "--num-images", 5, "--threads", 2)
    assert out.read_bytes() == first


def test_parameters(bank, tmp_path):
    out = tmp_path / "a.png"
    els("sample", "--bank", bank, "--scales", "3,3,5,5", "--seed", 3, "--label", "7", "--num-images", 2,
        "--exclude-images", "2,5", "--exclude-classes", "cat,1", "--max-samples", 1, "-o", out, status=0)
    params = json.loads(read_png(out.read_bytes())[3]["els"])
    assert params == {
        "bank": "tiny", "machine": "bbels", "candidates": "wrapped", "label": 2, "num_images": 2,
        "num_inference_steps": 4, "start_step": "paper", "sampler": "ddim", "noise_schedule": "cosine",
        "scales": {"t": [0, 0.25, 0.5, 0.75], "p": [3, 3, 5, 5]}, "seed": 3,
        "exclude": {"images": [2, 5], "classes": [0, 1]}, "noise": "torch", "max_samples": 1, "tolerance": 0,
        "outputs": ["image"]}
    out = tmp_path / "a.safetensors"
    els("sample", "--bank", bank, "--scales", "3", "--alpha-bar", "1,0.9,0.5,0.1", "--seed", 3, "--machine", "els",
        "--candidates", "valid", "--sampler", "ddpm", "--start-step", "full", "--noise", "numpy", "--tolerance",
        "0.001", "--outputs", "xt,image", "-o", out)
    params = json.loads(read_safetensors(out.read_bytes())[1]["params"])
    assert params == {
        "bank": "tiny", "machine": "els", "candidates": "valid", "label": None, "num_images": 1,
        "num_inference_steps": 3, "start_step": "full", "sampler": "ddpm",
        "noise_schedule": {"alpha_bar": [1, 0.9, 0.5, 0.1]}, "scales": {"t": [0], "p": [3]}, "seed": 3,
        "exclude": None, "noise": "numpy", "max_samples": None, "tolerance": 0.001, "outputs": ["image", "xt"]}


@pytest.mark.parametrize("args, steps, scales", [
    (["--machine", "is"], 20, None),
    (["--machine", "is", "--scales", "3,3,3"], 3, {"t": [0, 1 / 3, 2 / 3], "p": [3, 3, 3]}),
    (["--machine", "ls", "--steps", "2"], 2, "mnist-resnet-zeros"),
    (["--machine", "ls", "--steps", "2", "--scales", "mnist-unet-zeros"], 2, "mnist-unet-zeros"),
    (["--machine", "ls", "--scales", "3,5"], 2, {"t": [0, 0.5], "p": [3, 5]}),
    (["--machine", "ls", "--scales", "5", "--steps", "3"], 3, {"t": [0], "p": [5]}),
    (["--machine", "ls", "--scales", '{"t": [1, 0], "p": [5, 3]}', "--steps", "3"], 3, {"t": [0, 1], "p": [3, 5]}),
    (["--machine", "ls", "--alpha-bar", "1,0.5,0.1"], 2, "mnist-resnet-zeros"),
])
def test_steps_and_scales(args, steps, scales, bank, tmp_path):
    out = tmp_path / "a.png"
    els("sample", "--bank", bank, *args, "-o", out)
    params = json.loads(read_png(out.read_bytes())[3]["els"])
    assert (params["num_inference_steps"], params["scales"]) == (steps, scales)


def test_a_banks_own_scales(colour_bank, tmp_path):
    out = tmp_path / "a.png"
    own = {"t": [0, 0.25, 0.5, 0.75], "p": [3, 3, 5, 5]}
    for args, steps in [([], 4), (["--steps", 8], 8)]:
        els("sample", "--bank", colour_bank, *args, "-o", out)
        params = json.loads(read_png(out.read_bytes())[3]["els"])
        assert (params["num_inference_steps"], params["scales"]) == (steps, own)


def test_a_random_seed_is_told(bank, tmp_path):
    seeds = set()
    for _ in range(3):
        done = els("sample", "--bank", bank, "--scales", "3,3", "-o", "a.png", cwd=tmp_path)
        seed = json.loads(read_png((tmp_path / "a.png").read_bytes())[3]["els"])["seed"]
        assert f"seed {seed}," in done.stderr
        seeds.add(seed)
    assert len(seeds) > 1


def test_noise_file_repeats_a_run(bank, tmp_path):
    out = tmp_path / "a.safetensors"
    sample(bank, out, "--num-images", 2, "--seed", 9, "--outputs", "image,xt")
    t, _ = read_safetensors(out.read_bytes())
    np.save(tmp_path / "x.npy", t["xt"][:, 0])
    assert sample(bank, tmp_path / "b.npy", "--noise-file", tmp_path / "x.npy").tobytes() == t["images"].tobytes()
    # Other seeds change nothing, float64 and a missing batch axis are taken too.
    np.save(tmp_path / "x.npy", t["xt"][1, 0].astype(np.float64))
    sample(bank, out, "--noise-file", tmp_path / "x.npy", "--seed", 77)
    again, metadata = read_safetensors(out.read_bytes())
    assert again["images"][0].tobytes() == t["images"][1].tobytes()
    assert again["x_T"].tobytes() == t["xt"][1, :1].tobytes()
    assert json.loads(metadata["params"])["noise"] == "x_T"


def test_numpy_noise_is_numpys(bank, tmp_path):
    out = tmp_path / "a.safetensors"
    sample(bank, out, "--seed", 9, "--noise", "numpy", "--outputs", "xt")
    x = np.random.default_rng(9).standard_normal((1, 8, 8), dtype=np.float32)
    assert read_safetensors(out.read_bytes())[0]["xt"][0, 0].tobytes() == x.tobytes()


def test_label_and_exclusions_choose_the_images(bank, tmp_path):
    """`is` with one image left can only give that image back."""
    raw = bank.read_bytes()
    size, = struct.unpack("<Q", raw[:8])
    images = np.frombuffer(raw[8 + size:8 + size + 12 * 64], np.uint8).reshape(12, 1, 8, 8)
    for args, index in [
        (["--label", "dog", "--max-samples", 1], 1),
        (["--label", "2", "--exclude-images", "2,5,8"], 11),
        (["--exclude-classes", "cat,7", "--exclude-images", "1,4,7"], 10),
    ]:
        x = sample(bank, tmp_path / "a.npy", "--machine", "is", "--start-step", "full", *args)
        np.testing.assert_allclose(x[0], (images[index] / 255 - 0.5) / 0.5, atol=1e-5)


def test_summary_and_quiet(bank, tmp_path):
    done = els("sample", "--bank", bank, "--scales", "3,3", "--seed", 8, "-o", "a.npy", cwd=tmp_path)
    assert "\r" not in done.stderr and "\033" not in done.stderr and done.stderr.count("\n") == 1
    assert "seed 8" in done.stderr and "bbels" in done.stderr and "tiny" in done.stderr
    done = els("sample", "--bank", bank, "--scales", "3,3", "--seed", 8, "-o", "a.npy", "-q", cwd=tmp_path)
    assert done.stderr == "" and done.stdout == ""


def run_on_terminal(args, cwd):
    master, slave = pty.openpty()
    process = subprocess.Popen([ELS, *map(str, args)], cwd=cwd, stderr=slave, stdin=subprocess.DEVNULL,
                               env=dict(os.environ, TERM="xterm"))
    os.close(slave)
    seen = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(master)
    assert process.wait() == 0, seen
    return seen.decode()


def test_progress_on_a_terminal(bank, tmp_path):
    args = ["sample", "--bank", bank, "--scales", "3,3,3", "--seed", 8, "-o", "a.npy"]
    seen = run_on_terminal(args, tmp_path)
    assert "\rstep 1/2 [" in seen and "%" in seen
    # The bar is wiped before the summary.
    assert "\r\033[Ka.npy: 1 image" in seen
    assert "step" not in run_on_terminal(args + ["--quiet"], tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(number, bank, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"precious")
    process = subprocess.Popen(
        [ELS, "sample", "--bank", bank, "--steps", "1000", "--num-images", "1000", "-o", "a.safetensors"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    try:
        while len(os.listdir(tmp_path)) < 2:  # the temporary file: work has begun
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate()
    finally:
        process.kill()
    assert process.returncode == -number
    assert stderr == "els: cancelled; nothing was written\n"
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert (tmp_path / "a.safetensors").read_bytes() == b"precious"


# ---- against the released research code ----

@pytest.fixture(scope="session")
def golden_bank(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden") / "mnist24.safetensors"
    images = np.load(TESTS / "golden/mnist24_images_u8.npy")
    labels = np.load(TESTS / "golden/mnist24_labels.npy").astype(np.int64)
    path.write_bytes(write_safetensors({"images": images, "labels": labels}, name="mnist24"))
    return path


def test_golden_trajectory(golden_bank, tmp_path):
    """The whole way from seed 0; 20 float32 steps stay within 7e-4 of float64."""
    out = tmp_path / "a.safetensors"
    els("sample", "--bank", golden_bank, "--scales", MNIST_SCALES, "--seed", 0, "--outputs", "image,x0,xt", "-o", out)
    t, _ = read_safetensors(out.read_bytes())
    xt = np.load(TESTS / "golden/mnist24_traj_bbels_xt.npy")
    x0 = np.load(TESTS / "golden/mnist24_traj_bbels_x0.npy")
    np.testing.assert_allclose(t["xt"].reshape(xt.shape), xt, atol=1e-3)
    np.testing.assert_allclose(t["x0"].reshape(x0.shape), x0, atol=1e-3)


def test_golden_evaluations(golden_bank, tmp_path):
    """One entry of each machine and candidate rule; float32 stays within 2e-4 of float64."""
    seen = set()
    for entry in json.loads((TESTS / "golden/mnist24.json").read_text())["x0"]:
        key = entry["machine"], entry.get("candidates"), entry.get("label") is None
        if key in seen:
            continue
        seen.add(key)
        args = ["--machine", entry["machine"], "--t", entry["t"]]
        args += ["--p", entry["p"]] if entry.get("p") else []
        args += ["--candidates", entry["candidates"]] if entry.get("candidates") else []
        args += ["--label", entry["label"]] if entry.get("label") is not None else []
        els("denoise", "--bank", golden_bank, *args, "-x", TESTS / "golden" / entry["x"], "-o", tmp_path / "a.npy")
        want = np.load(TESTS / "golden" / entry["file"])
        got = np.load(tmp_path / "a.npy")
        np.testing.assert_allclose(got.reshape(want.shape), want, atol=2e-4, err_msg=str(entry))
    assert {m for m, _, _ in seen} >= {"is", "ls", "els", "bbels"}


# ---- denoise ----

@pytest.fixture
def noisy(tmp_path):
    x = np.random.default_rng(3).standard_normal((2, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    return x


def denoise(bank, cwd, *args):
    els("denoise", "--bank", bank, "-x", "x.npy", *args, "-o", "out.npy", "-q", cwd=cwd)
    out = np.load(cwd / "out.npy")
    assert out.dtype.str == "<f4"
    return out


def test_denoise_shapes(bank, noisy, tmp_path):
    three = denoise(bank, tmp_path, "-t", "0.5", "-p", "3,5,3")
    assert three.shape == (3, 2, 1, 8, 8)
    assert three[0].tobytes() == three[2].tobytes() != three[1].tobytes()
    one = denoise(bank, tmp_path, "-t", "0.5", "-p", "5")
    assert one.shape == (2, 1, 8, 8)
    np.testing.assert_allclose(one, three[1], atol=1e-6)
    np.save(tmp_path / "x.npy", noisy[1])
    single = denoise(bank, tmp_path, "-t", "0.5", "-p", "5")
    assert single.shape == (1, 8, 8) and single.tobytes() == one[1].tobytes()
    assert denoise(bank, tmp_path, "-t", "0.5", "-p", "5,7").shape == (2, 1, 8, 8)
    assert denoise(bank, tmp_path, "-t", "0.5", "--machine", "is").shape == (1, 8, 8)


def test_denoise_quantities(bank, noisy, tmp_path):
    """Tweedie, eq. 3: score and epsilon follow from the estimate."""
    alpha_bar, x0 = 0.36, denoise(bank, tmp_path, "--alpha-bar", "0.36", "-p", "3").astype(np.float64)
    score = denoise(bank, tmp_path, "--alpha-bar", "0.36", "-p", "3", "--as", "score")
    eps = denoise(bank, tmp_path, "--alpha-bar", "0.36", "-p", "3", "--as", "eps")
    np.testing.assert_allclose(score, (0.6 * x0 - noisy) / (1 - alpha_bar), atol=1e-5)
    np.testing.assert_allclose(eps, (noisy - 0.6 * x0) / 0.8, atol=1e-5)


def test_denoise_time_is_a_noise_level(bank, noisy, tmp_path):
    by_level = denoise(bank, tmp_path, "--alpha-bar", "0.505", "-p", "3")
    by_time = denoise(bank, tmp_path, "-t", "0.5", "--noise-schedule", "linear", "-p", "3")
    np.testing.assert_allclose(by_time, by_level, atol=1e-6)


@pytest.mark.parametrize("args, says", [
    (["-p", "3"], "--t or --alpha-bar"),
    (["-p", "3", "-t", "0.5", "--alpha-bar", "0.5"], "--t or --alpha-bar"),
    (["-t", "0.5"], "--p has 0 scales"),
    (["-t", "0", "-p", "3"], "beta"),
    (["--alpha-bar", "0", "-p", "3"], "alpha_bar"),
    (["--alpha-bar", "1", "-p", "3"], "beta"),
    (["-t", "0.5", "-p", "4"], "odd"),
    (["-t", "0.5", "-p", "9", "--machine", "els"], "8"),
    (["-t", "0.5", "-p", ",".join(["3"] * 65)], "--p has 65 scales"),
    (["-t", "0.5", "-p", "3", "-x", "missing.npy"], "missing.npy"),
    (["-t", "0.5", "-p", "3", "-x", "flat.npy"], ["[64]", "[B, 1, 8, 8]"]),
    (["-t", "0.5", "-p", "3", "-x", "nan.npy"], "finite"),
    (["-t", "0.5", "-p", "3", "-x", "empty.npy"], "[0, 1, 8, 8]"),
    (["-t", "0.5", "-p", "3", "-o", "a.png"], ".npy"),
    (["-t", "0.5", "-p", "3", "--label", "bird"], "cat"),
    (["-t", "0.5", "-p", "3", "--bank", "missing.safetensors"], "missing"),
])
def test_denoising_that_cannot_be(args, says, bank, noisy, tmp_path):
    np.save(tmp_path / "flat.npy", np.zeros(64, np.float32))
    np.save(tmp_path / "nan.npy", np.full((1, 8, 8), np.nan, np.float32))
    np.save(tmp_path / "empty.npy", np.zeros((0, 1, 8, 8), np.float32))
    refused("denoise", "--bank", bank, "-x", "x.npy", "-o", "out.npy", *args, status=1, says=says, cwd=tmp_path)


# ---- bench ----

def test_bench_measures_every_kernel():
    figures = json.loads(els("bench", "--quick", "--json").stdout)
    rows = figures["kernels"]
    assert figures["cpu"] and rows[0]["kernel"] == "c"
    for name in {row["kernel"] for row in rows}:
        mine = [row for row in rows if row["kernel"] == name]
        assert [(row["channels"], row["p"]) for row in mine] == [
            (c, p) for c, last in ((1, 15), (3, 17)) for p in (3, 5, 7, 11, last)]
        assert all(row["ns_per_pair"] > 0 and row["us_per_image"] > 0 for row in mine)
        assert all(row["of_peak"] is None if row["kernel"] == "c" else 0 < row["of_peak"] < 1 for row in mine)
        whole = [row for row in figures["whole"] if row["kernel"] == name]
        assert [(row["channels"], row["machine"], row["t"]) for row in whole] == [
            (c, machine, t) for c in (1, 3) for machine in ("is", "es") for t in (0.05, 0.5, 0.9)]
        assert all(row["us_per_image"] > 0 for row in whole)


# ---- bank ----

def test_bank_list_and_builtin_info():
    listed = [line.split()[0] for line in els("bank", "list").stdout.splitlines()]
    assert listed == ["digits", "shapes", "two-tone"]
    for name in listed:
        info = json.loads(els("bank", "info", name, "--json").stdout)
        assert info["name"] == name and info["count"] == sum(c["count"] for c in info["classes"])


def test_bank_info(bank, colour_bank):
    info = json.loads(els("bank", "info", bank, "--json").stdout)
    assert {k: info[k] for k in ["name", "shape", "count", "dtype", "scales"]} == {
        "name": "tiny", "shape": [1, 8, 8], "count": 12, "dtype": "U8", "scales": ""}
    assert info["classes"] == [{"index": i, "name": n, "count": 4} for i, n in enumerate(["cat", "dog", "7"])]
    assert info["bytes"] == 12 * 64 and len(info["sha256"]) == 64
    text = els("bank", "info", bank).stdout
    assert "tiny" in text and "12 of 1×8×8" in text and "1 dog: 4 images" in text and info["sha256"] in text
    assert "scales   [3, 3, 5, 5]" in els("bank", "info", colour_bank).stdout
    refused("bank", "info", "missing.safetensors", status=1, says="missing.safetensors")


def test_bank_sheet(bank, tmp_path):
    out = tmp_path / "sheet.png"
    els("bank", "sheet", bank, "-o", out)
    assert read_png(out.read_bytes())[:2] == (4 * 8 + 3 * 2, 3 * 8 + 2 * 2)
    els("bank", "sheet", bank, "--label", "dog", "--limit", 3, "--offset", 1, "--zoom", 2, "-o", out)
    assert read_png(out.read_bytes())[:2] == (2 * (2 * 8 + 2), 2 * (2 * 8 + 2))
    first = out.read_bytes()
    els("bank", "sheet", bank, "--label", "1", "--offset", 1, "--zoom", 2, "-o", out)
    assert out.read_bytes() == first
    for args, says in [(["--offset", 12], "12 images"), (["--label", "bird"], "cat"), (["-o", "no/a.png"], "No such")]:
        refused("bank", "sheet", bank, "-o", "new.png", *args, status=1, says=says, cwd=tmp_path)


def test_bank_import_npy(tmp_path):
    images = np.random.default_rng(4).integers(0, 256, (6, 5, 7), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", np.array([1, 0, 2, 1, 0, 2]))
    done = els("bank", "import", "images.npy", "--labels", "labels.npy", "-o", "a.safetensors", cwd=tmp_path)
    assert "6 images of 1×5×7, 3 classes" in done.stderr and "\r" not in done.stderr
    info = json.loads(els("bank", "info", tmp_path / "a.safetensors", "--json").stdout)
    assert (info["name"], info["shape"], info["count"]) == ("images", [1, 5, 7], 6)
    assert [c["count"] for c in info["classes"]] == [2, 2, 2]
    els("bank", "import", "images.npy", "-o", "b.safetensors", "--name", "cut", "--crop", "3x5", "--resize", "4x4",
        "--limit", 2, "-q", cwd=tmp_path)
    info = json.loads(els("bank", "info", tmp_path / "b.safetensors", "--json").stdout)
    assert (info["name"], info["shape"], info["count"], info["classes"]) == ("cut", [1, 4, 4], 2, [])
    # What was imported can be sampled from.
    x = sample(tmp_path / "a.safetensors", tmp_path / "x.npy", "--machine", "is", "--start-step", "full", "--label", 1,
               "--max-samples", 1)
    np.testing.assert_allclose(x[0, 0], (images[0] / 255 - 0.5) / 0.5, atol=1e-5)


def test_bank_import_idx(tmp_path):
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "few-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 2, 3, 4) + images.tobytes())
    (tmp_path / "few-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 2) + b"\1\0")
    els("bank", "import", "few-images-idx3-ubyte", "-o", "a.safetensors", cwd=tmp_path)
    info = json.loads(els("bank", "info", tmp_path / "a.safetensors", "--json").stdout)
    assert (info["shape"], info["count"], len(info["classes"])) == ([1, 3, 4], 2, 2)


def test_bank_import_pictures(bank, tmp_path):
    for name in ["one", "two"]:
        (tmp_path / "photos" / name).mkdir(parents=True)
        els("bank", "sheet", bank, "--limit", 1, "-o", tmp_path / "photos" / name / "a.png")
    els("bank", "import", "photos", "--grey", "-o", "a.safetensors", cwd=tmp_path)
    info = json.loads(els("bank", "info", tmp_path / "a.safetensors", "--json").stdout)
    assert (info["shape"], info["count"]) == ([1, 8, 8], 2)
    assert [c["name"] for c in info["classes"]] == ["one", "two"]


@pytest.mark.parametrize("args, says", [
    (["missing.npy"], "missing.npy"),
    (["broken.npy"], ""),
    (["images.npy", "--crop", "9x9"], "crop"),
    (["images.npy", "--labels", "missing.npy"], "missing.npy"),
    (["images.npy", "-o", "no/a.safetensors"], "no/a.safetensors"),
])
def test_imports_that_cannot_be(args, says, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((2, 5, 5), np.uint8))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    refused("bank", "import", "-o", "a.safetensors", *args, status=1, says=says, cwd=tmp_path)
