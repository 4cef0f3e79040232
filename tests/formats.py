"""The formats that tensors and pictures travel in, read and written independently of the code under test."""
import base64
import io
import json
import struct
import zlib
from typing import NamedTuple

import numpy as np

SAFETENSORS = "application/vnd.safetensors"
KINDS = {"U8": "|u1", "I32": "<i4", "I64": "<i8", "F32": "<f4", "F64": "<f8"}


def write_safetensors(tensors, **metadata):
    """Metadata that is no string becomes JSON."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    for name, x in tensors.items():
        x = np.asarray(x)
        kind = {dtype: kind for kind, dtype in KINDS.items()}[x.dtype.str]
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [len(data), len(data) + x.nbytes]}
        data += x.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def read_safetensors(raw):
    """The tensors by name, and the metadata."""
    size, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + size])
    data = raw[8 + size:]
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, t in header.items():
        first, last = t["data_offsets"]
        tensors[name] = np.frombuffer(data[first:last], KINDS[t["dtype"]]).reshape(t["shape"])
    assert max(t["data_offsets"][1] for t in header.values()) == len(data)
    return tensors, metadata


def read_npy(raw):
    return np.load(io.BytesIO(raw), allow_pickle=False)


def write_npy(x):
    out = io.BytesIO()
    np.save(out, x, allow_pickle=False)
    return out.getvalue()


def write_bank(path, images, labels=None):
    tensors = {"images": np.asarray(images, np.float32)}
    if labels is not None:
        tensors["labels"] = np.asarray(labels, np.int64)
    path.write_bytes(write_safetensors(tensors, name=path.stem))
    return path


def inside(npy):
    """An array, or the bytes of a .npy, inside JSON."""
    return {"npy_base64": base64.b64encode(npy if isinstance(npy, bytes) else write_npy(npy)).decode()}


def outside(value):
    return read_npy(base64.b64decode(value["npy_base64"]))


class Png(NamedTuple):
    width: int
    height: int
    colour: int  # 0: grey, 2: RGB
    text: dict
    pixels: np.ndarray  # u8, [H,W] or [H,W,3]


def unfilter(kind, line, above, bpp):
    """One row of a PNG as it was before its filter; see section 9.2 of the PNG specification."""
    row = bytearray(line)
    for i in range(len(row)):
        a = row[i - bpp] if i >= bpp else 0
        b, c = above[i], above[i - bpp] if i >= bpp else 0
        p = a + b - c
        nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        row[i] = (row[i] + (0, a, b, (a + b) // 2, nearest)[kind]) & 255
    return row


def read_png(raw):
    """An 8-bit grey or RGB PNG without interlace; chunks are checked."""
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    at, text, packed = 8, {}, b""
    while at < len(raw):
        size, kind = struct.unpack(">I4s", raw[at:at + 8])
        body = raw[at + 8:at + 8 + size]
        assert zlib.crc32(kind + body) == struct.unpack(">I", raw[at + 8 + size:at + 12 + size])[0]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            assert depth == 8 and colour in (0, 2) and not interlace
        if kind == b"IDAT":
            packed += body
        if kind == b"tEXt":
            key, _, value = body.partition(b"\0")
            text[key.decode("latin-1")] = value.decode("latin-1")
        at += 12 + size
    assert kind == b"IEND" and at == len(raw)
    bpp = 3 if colour == 2 else 1
    plain, stride = zlib.decompress(packed), width * bpp + 1
    assert len(plain) == height * stride
    rows, above = [], bytes(width * bpp)
    for y in range(height):
        line = plain[y * stride:(y + 1) * stride]
        above = unfilter(line[0], line[1:], above, bpp)
        rows.append(bytes(above))
    pixels = np.frombuffer(b"".join(rows), np.uint8).reshape((height, width, 3) if bpp == 3 else (height, width))
    return Png(width, height, colour, text, pixels)


def to_u8(x):
    """What a value of [-1,1] is in a PNG."""
    return np.clip(np.floor((np.asarray(x, np.float32) + 1) * np.float32(127.5) + np.float32(0.5)), 0, 255) \
        .astype(np.uint8)
