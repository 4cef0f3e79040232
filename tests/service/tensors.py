"""safetensors and .npy as a client writes and reads them, and the definitions as loops, in float64, for small cases."""
import base64
import io
import json
import struct
import zlib

import numpy as np

SAFETENSORS = "application/vnd.safetensors"
TYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "|u1"}


def pack(tensors, **metadata):
    """A safetensors container; `metadata` values that are no strings become JSON."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    for name, array in tensors.items():
        array = np.asarray(array)
        kind = next(k for k, v in TYPES.items() if np.dtype(v) == array.dtype)
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def unpack(content):
    """{name: array} and the metadata."""
    size, = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + size])
    metadata = header.pop("__metadata__", {})
    data = content[8 + size:]
    return {name: np.frombuffer(data[t["data_offsets"][0]:t["data_offsets"][1]], TYPES[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items()}, metadata


def npy(content):
    return np.load(io.BytesIO(content))


def inside(array):
    """A tensor inside JSON."""
    out = io.BytesIO()
    np.save(out, array)
    return {"npy_base64": base64.b64encode(out.getvalue()).decode()}


def outside(value):
    return npy(base64.b64decode(value["npy_base64"]))


def read_png(content):
    """uint8 [H,W] or [H,W,3] of an 8-bit PNG that is not interlaced."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, data, head = 8, b"", None
    while at < len(content):
        size, kind = struct.unpack(">I4s", content[at:at + 8])
        body = content[at + 8:at + 8 + size]
        head = body if kind == b"IHDR" else head
        data += body if kind == b"IDAT" else b""
        at += 12 + size
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", head)
    channels = {0: 1, 2: 3}[colour]
    assert depth == 8
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * channels)
    out = np.zeros((height + 1, width + 1, channels), np.int64)  # with a border of zeros above and to the left
    for i in range(height):
        kind, line = rows[i, 0], rows[i, 1:].reshape(width, channels)
        for j in range(width):
            left, up, corner = out[i + 1, j], out[i, j + 1], out[i, j]
            guess = left + up - corner
            near = np.abs([guess - left, guess - up, guess - corner])
            paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], up, corner))
            out[i + 1, j + 1] = line[j] + (0, left, up, (left + up) // 2, paeth)[kind] & 255
    pixels = out[1:, 1:].astype(np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def write_bank(path, images, labels=None):
    tensors = {"images": np.asarray(images, np.float32)}
    if labels is not None:
        tensors["labels"] = np.asarray(labels, np.int64)
    path.write_bytes(pack(tensors, name=path.stem))
    return path


# ---- the definitions ----

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
