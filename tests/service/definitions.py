"""The definitions of ls, els and bbels as loops, in float64, for small cases."""
import numpy as np


def span(i, r, n):
    """Rows (or columns) of candidates of bbels for a query at i."""
    return range(r, n - r) if r <= i < n - r else [i]


def places(machine, candidates, shape, i, j, p):
    """(row, column) of the candidates' centres in every image."""
    h, w = shape
    r = p // 2
    if machine == "ls":
        return [(i, j)]
    if machine == "bbels":
        return [(k, m) for k in span(i, r, h) for m in span(j, r, w)]
    if candidates == "valid":
        return [(k, m) for k in range(r, h - r) for m in range(r, w - r)]
    return [(k, m) for k in range(h) for m in range(w)]


def window(image, i, j, r, wraps):
    """[C,P,P], and which of it lies inside."""
    c, h, w = image.shape
    rows, columns = np.arange(i - r, i + r + 1), np.arange(j - r, j + r + 1)
    if wraps:
        return image[:, rows[:, None] % h, columns[None] % w], np.ones((len(rows), len(columns)), bool)
    inside_it = ((rows >= 0) & (rows < h))[:, None] & ((columns >= 0) & (columns < w))[None]
    return image[:, np.clip(rows, 0, h - 1)[:, None], np.clip(columns, 0, w - 1)[None]], inside_it


def posterior(bank, x, machine, p, alpha_bar, candidates="wrapped"):
    """For each pixel: (places [n,3] as image, row, column; weights [n]) of ls, els or bbels, heaviest first."""
    bank, x = bank.astype(np.float64), x.astype(np.float64)
    h, w = x.shape[1:]
    a, beta, r, wraps = np.sqrt(alpha_bar), 1 - alpha_bar, p // 2, machine == "els"
    out = {}
    for i in range(h):
        for j in range(w):
            query, inside_it = window(x, i, j, r, wraps)
            found = []
            for n, image in enumerate(bank):
                for k, m in places(machine, candidates, (h, w), i, j, p):
                    patch, inside_too = window(image, k, m, r, wraps)
                    both = inside_it & inside_too
                    found.append((((query - a * patch)[:, both] ** 2).sum(), n, k, m))
            found.sort()
            distance = np.array([f[0] for f in found])
            weight = np.exp(-(distance - distance.min()) / (2 * beta))
            out[i, j] = np.array([f[1:] for f in found]), weight / weight.sum()
    return out


def denoised(bank, found, shape):
    """x̂0 [C,H,W] of what posterior() found."""
    out = np.empty(shape)
    for (i, j), (at, weight) in found.items():
        out[:, i, j] = weight @ bank[at[:, 0], :, at[:, 1], at[:, 2]]
    return out
