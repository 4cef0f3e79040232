#!/usr/bin/python3
"""How much faster is the engine than a plain PyTorch formulation of the same step?

    baseline_torch.py ELS BANK --images 64 --p 3,7,15
        one evaluation of bbels at one noise level, both by PyTorch and by `els denoise`, one thread each, in one run

The formulation is what one would write down from eq. 41: unfold the windows of the noisy image and of a few training
images, squared distances as one matrix product, a running softmax over the training set. Both results are compared; a
difference above 1e-3 ends the run. Times are medians of `--repeats` runs, in milliseconds per training image and step;
els is timed over more images (`--els-images`), and its start over one image is taken off.

Needs numpy and torch (Debian: python3-torch).
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch


def read_bank(path, count):
    """The first `count` images of a bank of bytes, [N,C,H,W] in [-1,1]."""
    raw = np.memmap(path, np.uint8, "r")
    size = int.from_bytes(raw[:8].tobytes(), "little")
    header = json.loads(raw[8:8 + size].tobytes())
    entry = next(v for k, v in header.items() if k != "__metadata__" and len(v["shape"]) == 4)
    first, last = (8 + size + offset for offset in entry["data_offsets"])
    return raw[first:last].reshape(entry["shape"])[:count].astype(np.float32) / 127.5 - 1


def classes(n, r):
    """Positions of one axis that share their candidates: each edge position by itself, and the interior."""
    inside = list(range(r, n - r))
    edge = [[i] for i in range(n) if not r <= i < n - r]
    return edge + ([inside] if inside else [])


def windows(images, p):
    """[N,C,H,W] -> [N,H,W,C·p·p], zeros beyond the border."""
    n, _, h, w = images.shape
    return torch.nn.functional.unfold(images, p, padding=p // 2).transpose(1, 2).reshape(n, h, w, -1)


def torch_x0(x, bank, p, alpha_bar, per_batch):
    a, beta, r = alpha_bar ** 0.5, 1 - alpha_bar, p // 2
    _, c, h, w = x.shape
    queries = windows(x, p)[0]
    m = torch.full((h, w), -torch.inf)
    s, v = torch.zeros(h, w), torch.zeros(h, w, c)
    for first in range(0, len(bank), per_batch):
        images = bank[first:first + per_batch]
        patches, centres = windows(images, p), images.permute(0, 2, 3, 1)
        for rows in classes(h, r):
            band = patches[:, rows]
            for cols in classes(w, r):
                at = np.ix_(rows, cols)
                q = queries[at].reshape(len(rows) * len(cols), -1)
                y = band[:, :, cols].reshape(-1, q.shape[1])
                centre = centres[:, rows][:, :, cols].reshape(-1, c)
                distance = (q * q).sum(1, keepdim=True) - 2 * a * (q @ y.T) + a * a * (y * y).sum(1)
                logit = -distance / (2 * beta)
                top = torch.maximum(m[at].reshape(-1), logit.max(1).values)
                weight, keep = torch.exp(logit - top[:, None]), torch.exp(m[at].reshape(-1) - top)
                m[at] = top.reshape(len(rows), len(cols))
                s[at] = (s[at].reshape(-1) * keep + weight.sum(1)).reshape(len(rows), len(cols))
                v[at] = (v[at].reshape(-1, c) * keep[:, None] + weight @ centre).reshape(len(rows), len(cols), c)
    return (v / s[..., None]).permute(2, 0, 1).numpy()


def timed(f, repeats):
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = f()
        took.append(time.perf_counter() - start)
    return result, statistics.median(took)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("els")
    parser.add_argument("bank", help="a .safetensors bank")
    parser.add_argument("--images", type=int, default=64, help="training images for PyTorch")
    parser.add_argument("--els-images", type=int, default=4096, help="training images for els")
    parser.add_argument("--p", default="3,7,15")
    parser.add_argument("--t", default="0.1,0.35,0.9", help="one time per P, cosine schedule")
    parser.add_argument("--batch", type=int, default=4, help="training images that PyTorch takes at once")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        bank = read_bank(options.bank, options.els_images)
        print("| P | t | PyTorch, ms per image and step | els | times as fast | largest difference |\n|---|---|---|---|---|---|")
        for p, t in zip(map(int, options.p.split(",")), map(float, options.t.split(","))):
            alpha_bar = float(np.cos(t * np.pi / 2) ** 2)
            eta = np.random.default_rng(0).standard_normal(bank[0].shape)
            x = (alpha_bar ** 0.5 * bank[17] + (1 - alpha_bar) ** 0.5 * eta).astype(np.float32)
            np.save(folder / "x.npy", x)

            def els(count):
                subprocess.run([options.els, "denoise", "-q", "-x", folder / "x.npy", "-b", options.bank, "-p", str(p),
                                "--alpha-bar", repr(alpha_bar), "--max-samples", str(count), "-j", "1", "-o",
                                folder / "x0.npy"], check=True, stdout=subprocess.DEVNULL)
                return np.load(folder / "x0.npy")

            count = min(options.images, len(bank))
            plain, slow = timed(lambda: torch_x0(torch.from_numpy(x)[None], torch.from_numpy(bank[:count]), p, alpha_bar,
                                                 options.batch), options.repeats)
            gap = float(np.abs(els(count) - plain).max())
            _, start = timed(lambda: els(1), options.repeats)
            _, fast = timed(lambda: els(len(bank)), options.repeats)
            slow, fast = slow / count * 1e3, (fast - start) / len(bank) * 1e3
            print(f"| {p} | {t:g} | {slow:.2f} | {fast:.4f} | {slow / fast:.0f} | {gap:.1e} |", flush=True)
            if not gap <= 1e-3:
                sys.exit("PyTorch and els differ by more than 1e-3")


if __name__ == "__main__":
    main()
