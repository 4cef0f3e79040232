#!/usr/bin/python3
"""Writes tests/unit/noise_cases.h: what PyTorch (CPU, AVX2) and NumPy draw for many seeds and call sizes.

    /usr/bin/python3 tests/golden/make_noise_cases.py > tests/unit/noise_cases.h

Torch is compared within a tolerance, so up to four values of every call are kept. NumPy is compared bit
for bit, so a hash (FNV-1a, 64 bits) over all bytes of all calls of a case is enough.
"""
import numpy as np
import torch

SIZES = [[5, 16, 5, 2, 1], [1, 1, 1, 1], [15, 1, 100, 3], [16, 16], [17, 31, 17], [33, 15, 48, 2],
         [784], [1024, 1024, 7, 1024], [3072, 3, 3072], [1000, 9, 1000], [12289]]
SEEDS = [0, 1, 7, 42, 123456789, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**53 - 1, 9007199254740881]


def fnv1a(data):
    h = 0xcbf29ce484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001b3) % 2**64
    return h


def kept(n):
    """Indices that reach every part of a call: the first block, the middle, the tail that is redrawn."""
    return sorted({0, n // 2, max(0, n - 12), n - 1})


cases = [(seed, SIZES[(i + j) % len(SIZES)]) for i, seed in enumerate(SEEDS) for j in (0, 4, 7)]
print("/* Made by tests/golden/make_noise_cases.py with PyTorch %s and NumPy %s. */"
      % (torch.__version__, np.__version__))
print("""#ifndef NOISE_CASES_H
#define NOISE_CASES_H

#include <stdint.h>

/* One generator, called for n[0], n[1], … numbers; ends at n = 0. */
struct noise_case {
    uint64_t seed;
    int n[6];
    float torch[20];      /* for each call: elements 0, n/2, n−12 and n−1, without repetitions, ascending */
    uint64_t numpy_fnv1a; /* of the little-endian bytes of all calls */
};

static const struct noise_case noise_cases[] = {""")
for seed, sizes in cases:
    torch.manual_seed(seed)
    values = []
    for n in sizes:
        x = torch.randn(n).numpy()
        values += [x[k] for k in kept(n)]
    assert len(values) <= 20 and len(sizes) <= 5
    rng = np.random.default_rng(seed)
    data = b"".join(rng.standard_normal(n, dtype="<f4").tobytes() for n in sizes)
    floats = ["%sf" % np.format_float_scientific(v, unique=True) for v in values]
    print("    {%du, {%s}," % (seed, ", ".join(map(str, sizes))))
    for k in range(0, len(floats), 5):
        left, right = "{" if k == 0 else " ", "}," if k + 5 >= len(floats) else ","
        print("     %s%s%s" % (left, ", ".join(floats[k:k + 5]), right))
    print("     0x%016xu}," % fnv1a(data))
print("};\n\n#endif")
