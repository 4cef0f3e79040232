#!/usr/bin/python3
"""What the theory says, measured with `els` alone.

    science.py ELS samples BANK --seeds 4 --reference 60000 -o docs/pictures/max-samples.png
        how fast the image settles as the bank grows: Pearson's r between the image that the first M training images
        give and the image that `--reference` of them give, from the same noise
    science.py ELS consistency BANK --steps 20,100,1000 --max-samples 500
        the share of locally consistent pixels (Theorem 4.1) for several numbers of steps
    science.py ELS scales BANK IMAGES.npy SEEDS.npy auto mnist-resnet-zeros calibrated.json --seeds 24
        a network's images against the theory's, for several locality scales; a file holds what --scales takes

Numbers go to standard output as a Markdown table. Needs numpy, and for the plot matplotlib (python3-matplotlib).
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np


def run(els, *args):
    subprocess.run([els, *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def draw(els, folder, bank, scales, seeds, count):
    out = folder / "images.npy"
    run(els, "sample", "-q", "--bank", bank, "--scales", scales, "-s", 0, "-n", seeds, "--max-samples", count, "-o", out)
    return np.load(out).reshape(seeds, -1)


def samples(options, folder):
    counts, m = [], options.first
    while m < options.reference:
        counts.append(m)
        m *= 2
    reference = draw(options.els, folder, options.bank, options.scales, options.seeds, options.reference)
    curve = []
    print(f"| first M images | median r with all {options.reference} | least | most |\n|---|---|---|---|")
    for m in counts:
        images = draw(options.els, folder, options.bank, options.scales, options.seeds, m)
        r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(images, reference)])
        curve.append((np.median(r), r.min(), r.max()))
        print(f"| {m} | {np.median(r):.4f} | {r.min():.4f} | {r.max():.4f} |", flush=True)
    if options.output:
        plot(options, counts, np.array(curve))


def plot(options, counts, curve):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 3.2), dpi=100)
    axes.fill_between(counts, curve[:, 1], curve[:, 2], alpha=0.2, linewidth=0)
    axes.plot(counts, curve[:, 0], marker="o", markersize=4)
    axes.set_xscale("log")
    axes.set_xlabel("training images used (max_samples)")
    axes.set_ylabel("Pearson r")
    axes.set_title(f"agreement with the image of {options.reference} training images\n"
                   f"(median and range of {options.seeds} seeds)", fontsize=9)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    # No date, no version: the same numbers give the same file.
    figure.savefig(options.output, metadata={"Software": None})


def consistency(options, folder):
    print("| steps | locally consistent pixels: median | least | most |\n|---|---|---|---|")
    for steps in map(int, options.steps.split(",")):
        shares = []
        for seed in range(options.seeds):
            run(options.els, "mosaic", "-q", "--bank", options.bank, "--scales", options.scales, "-s", seed, "--top", 1,
                "--steps", steps, "--max-samples", options.max_samples, "-o", folder / "m.json")
            shares.append(json.loads((folder / "m.json").read_text())["local_consistency"])
        print(f"| {steps} | {np.median(shares):.4f} | {min(shares):.4f} | {max(shares):.4f} |", flush=True)


def scales(options, folder):
    images, seeds = np.load(options.images)[:options.seeds], np.load(options.seeds_file)[:options.seeds]
    np.save(folder / "images.npy", images)
    np.save(folder / "seeds.npy", seeds)
    print("| scales | median r | 95 % interval | median r² score | closer than is |\n|---|---|---|---|---|")
    for choice in options.choices:
        file = pathlib.Path(choice)
        run(options.els, "compare", "-q", folder / "images.npy", "--seeds", folder / "seeds.npy", "--bank", options.bank,
            "--scales", file.read_text().strip() if file.exists() else choice, "-o", folder / "c.json")
        found = json.loads((folder / "c.json").read_text())["summary"]
        r = found["pearson_r"]
        print(f"| {file.stem} | {r['median']:.3f} | {r['ci95'][0]:.3f} – {r['ci95'][1]:.3f} | "
              f"{found['r2_score']['median']:.3f} | {found['beats_is'] * len(images):.0f} of {len(images)} |", flush=True)
    ideal = found["is"]
    print(f"| (is) | {ideal['pearson_r']['median']:.3f} | | {ideal['r2_score']['median']:.3f} | |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("els", help="the executable")
    commands = parser.add_subparsers(required=True)
    for function in (samples, consistency, scales):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("bank")
        command.add_argument("--seeds", type=int, default=4, help="how many, from 0 on; of a file, the first ones")
        if function is scales:
            command.add_argument("images")
            command.add_argument("seeds_file")
            command.add_argument("choices", nargs="+", help="what --scales takes")
            continue
        command.add_argument("--scales", default="mnist-resnet-zeros")
        if function is samples:
            command.add_argument("--first", type=int, default=25, help="the smallest M; each next one is its double")
            command.add_argument("--reference", type=int, default=60000)
            command.add_argument("-o", "--output", type=pathlib.Path, help="the plot, .png")
        else:
            command.add_argument("--steps", default="20,100,1000")
            command.add_argument("--max-samples", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.function(options, pathlib.Path(folder))


if __name__ == "__main__":
    main()
