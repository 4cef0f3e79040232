"""els: score machines from a notebook. One file; needs Python 3.9 and numpy, and shows progress where tqdm is installed.

    from els import Client

    client = Client("http://127.0.0.1:8080")             # Client(url, key) where the daemon wants an API key
    job = client.sample(bank="digits", label=3, seed=7, outputs=["image", "x0", "final_mosaic"])
    job                                                  # in a notebook: the images
    job.images                                           # float32 [N,C,H,W] in [-1,1]
    job.x0                                               # [N,S,C,H,W], the denoised estimate of every step

    for event in client.stream(bank="digits", seed=8):   # Progress and Preview as they come, the Sample last
        ...

    client.denoise(x, t=0.4, p=[3, 7, 15]).x0            # [3,B,C,H,W]: three scales in one pass over the bank
    client.calibrate(xt, eps, t, save_as="mine").scales  # a network's locality scales, {"t": [...], "p": [...]}
    client.compare(images, seeds, scales="mine")         # in a notebook: network | theory | ideal
    client.mosaic(job, 0).image[9, 12, 0]                # the training image that pixel (9,12) comes from, mostly

Keyword arguments are the fields of the HTTP contract (GET /openapi.json of the daemon, or client.capabilities()). What
the daemon refuses is raised as a Problem that says which field, and what it may be. Tensors travel as safetensors.
"""
from __future__ import annotations

import dataclasses
import json
import math
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zlib
from http.client import HTTPException, HTTPResponse
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

__all__ = ["Calibration", "Client", "Comparison", "Denoised", "Mosaic", "Preview", "Problem", "Progress", "Sample",
           "grid", "png", "read_safetensors", "write_safetensors"]

Array = npt.NDArray[Any]
Json = Dict[str, Any]

SAFETENSORS = "application/vnd.safetensors"
TYPES = {"U8": "|u1", "I32": "<i4", "I64": "<i8", "F32": "<f4", "F64": "<f8"}


# ---- safetensors ----

def write_safetensors(tensors: Mapping[str, npt.ArrayLike], metadata: Optional[Mapping[str, str]] = None) -> bytes:
    """A safetensors container of U8, I32, I64, F32 or F64 arrays."""
    header: Json = {"__metadata__": dict(metadata)} if metadata else {}
    parts, end = [], 0
    for name, value in tensors.items():
        array = np.asarray(value)
        kind = next((k for k, v in TYPES.items() if np.dtype(v) == array.dtype), None)
        if kind is None:
            raise TypeError(f"{name} is {array.dtype}; it must be one of uint8, int32, int64, float32, float64")
        raw = array.tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [end, end + len(raw)]}
        parts.append(raw)
        end += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def read_safetensors(content: bytes) -> Tuple[Dict[str, Array], Dict[str, str]]:
    """The arrays by name, and the metadata."""
    size, = struct.unpack_from("<Q", content)
    header: Json = json.loads(content[8:8 + size])
    metadata = header.pop("__metadata__", {})
    data = memoryview(content)[8 + size:]
    arrays = {}
    for name, t in header.items():
        first, last = t["data_offsets"]
        arrays[name] = np.frombuffer(data[first:last], TYPES[t["dtype"]]).reshape(t["shape"])
    return arrays, metadata


# ---- pictures ----

def png(pixels: Array) -> bytes:
    """uint8 [H,W] or [H,W,3] as a PNG."""
    height, width = pixels.shape[:2]
    colour = 2 if pixels.ndim == 3 else 0
    rows = np.ascontiguousarray(pixels, np.uint8).reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def grid(images: Array, columns: Optional[int] = None, gap: int = 2) -> Array:
    """Images [N,C,H,W] in [-1,1] side by side, as pixels: grey, or RGB for three channels."""
    n, c, h, w = images.shape
    if c not in (1, 3):
        return grid(images.reshape(n * c, 1, h, w), c if columns is None else columns * c, gap)
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    out = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), 128, np.uint8)
    values = np.clip(np.floor((images.astype(np.float64) + 1) * 127.5 + 0.5), 0, 255).astype(np.uint8)
    for k in range(n):
        top, left = k // columns * (h + gap), k % columns * (w + gap)
        out[top:top + h, left:left + w] = values[k].transpose(1, 2, 0)
    return out[..., 0] if c == 1 else out


def enlarged(pixels: Array, width: int = 480) -> Array:
    """Whole times larger, so that it is about so wide."""
    k = max(1, min(12, width // pixels.shape[1]))
    return pixels.repeat(k, 0).repeat(k, 1)


# ---- what can go wrong ----

class Problem(Exception):
    """What the daemon refused (RFC 9457), or a job that did not succeed."""

    def __init__(self, status: int, body: Json):
        self.status = status
        self.code: str = body.get("code", "")
        self.detail: str = body.get("detail") or body.get("title") or f"HTTP {status}"
        self.errors: List[Json] = body.get("errors", [])
        others = "".join(f"\n  {e['pointer'] or '(body)'}: {e['detail']}" for e in self.errors
                         if e["detail"] != self.detail)
        super().__init__(self.detail + others)


# ---- results ----

@dataclasses.dataclass(frozen=True)
class Progress:
    """So many of a job's steps are done."""
    step: int
    steps: int
    eta_seconds: Optional[float]


@dataclasses.dataclass(frozen=True)
class Preview:
    """The denoised estimate of one image at one step."""
    image: int
    step: int
    t: float
    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


class Job:
    """A finished job: `json` is what the daemon says of it, tensors are fetched when they are looked at."""

    def __init__(self, client: Client, body: Json):
        self.client = client
        self.json = body
        self._tensors: Optional[Dict[str, Array]] = None

    @property
    def id(self) -> str:
        return str(self.json["id"])

    @property
    def params(self) -> Json:
        """Resolved and complete: sent again, they repeat the job."""
        return dict(self.json["params"])

    @property
    def result(self) -> Json:
        return dict(self.json["result"])

    @property
    def tensors(self) -> Dict[str, Array]:
        """Everything that the job kept, by name."""
        if self._tensors is None:
            self._tensors = read_safetensors(self.client.get(f"/v1/jobs/{self.id}/tensors"))[0]
        return self._tensors

    def tensor(self, name: str) -> Array:
        """One of them, without the others."""
        if self._tensors is not None and name in self._tensors:
            return self._tensors[name]
        return _npy(self.client.get(f"/v1/jobs/{self.id}/tensors?name={urllib.parse.quote(name)}"))

    def delete(self) -> None:
        """Removes it from the daemon."""
        self.client.call("DELETE", f"/v1/jobs/{self.id}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id[:8]} {self.json['status']}>"


class Sample(Job):
    """Images from noise. In a notebook it shows them."""

    @property
    def seeds(self) -> List[int]:
        return list(self.json["seeds"])

    @property
    def images(self) -> Array:
        """[N,C,H,W] in [-1,1]."""
        return self.tensor("images")

    @property
    def x0(self) -> Array:
        """The denoised estimates [N,S,C,H,W], where kept."""
        return self.tensor("x0")

    @property
    def xt(self) -> Array:
        """The noisy images [N,S+1,C,H,W], the initial noise first, where kept."""
        return self.tensor("xt")

    @property
    def entropy(self) -> Array:
        """Of the posterior, in nats, [N,S,H,W], where kept."""
        return self.tensor("entropy")

    @property
    def steps(self) -> List[Json]:
        """{step, t, p, alpha_bar} of each step, noisiest first."""
        return list(self.result["steps"])

    def film(self, image: int = 0, columns: int = 10) -> Picture:
        """The denoised estimates of one image, in the order in which they came."""
        return Picture(grid(self.x0[image], columns))

    def difference(self, other: Sample) -> Picture:
        """What the other images have that these do not, from the same seeds: grey where both agree."""
        if other.images.shape != self.images.shape:
            raise ValueError(f"The samples have images of shapes {self.images.shape} and {other.images.shape}; "
                             "a difference needs equal ones.")
        return Picture(grid((other.images - self.images) / 2))

    def _repr_png_(self) -> bytes:
        return png(enlarged(grid(self.images)))


class Denoised(Job):
    """One evaluation: `x0`, `eps`, `score`, `entropy` as far as they were asked for, [K,B,…] for K scales."""

    def __getattr__(self, name: str) -> Array:
        if name in ("x0", "eps", "score", "entropy"):
            return self.tensors[name]
        raise AttributeError(name)

    @property
    def p(self) -> Optional[List[int]]:
        return self.result["p"]  # type: ignore[no-any-return]

    def _repr_png_(self) -> Optional[bytes]:
        if "x0" not in self.tensors:
            return None
        k, b = self.x0.shape[:2]
        return png(enlarged(grid(self.x0.reshape(k * b, *self.x0.shape[2:]), b)))


class Calibration(Job):
    """A network's locality scales. In a notebook: mean cosine over t and P, the schedule in white."""

    @property
    def t(self) -> Array:
        return np.array(self.result["t"])

    @property
    def p(self) -> Array:
        """The scales that were tried."""
        return np.array(self.result["p"])

    @property
    def cosine(self) -> Array:
        """[S,T,P] between the machine's noise estimate and the network's."""
        return np.array(self.result["cosine"])

    @property
    def l2(self) -> Array:
        """[S,T,P] distance between them."""
        return np.array(self.result["l2"])

    @property
    def scales(self) -> Json:
        """{"t": [...], "p": [...]}, for use as `scales`."""
        return dict(self.result["scales"])

    @property
    def mode(self) -> Json:
        return dict(self.result["mode"])

    def _repr_png_(self) -> bytes:
        mean = self.cosine.mean(0)[np.argsort(self.t)]
        chosen = np.array(self.scales["p"])
        shade = (mean - mean.min(1, keepdims=True)) / np.maximum(np.ptp(mean, axis=1)[:, None], 1e-12)
        pixels = np.stack([30 + 60 * shade, 30 + 120 * shade, 90 + 90 * shade], -1).astype(np.uint8)
        pixels[self.p == chosen[:, None]] = 255
        return png(enlarged(pixels.transpose(1, 0, 2)[::-1]))


class Comparison(Job):
    """A machine's images against a network's, from the same noise. In a notebook: network | theory | ideal."""

    @property
    def images(self) -> List[Json]:
        """The metrics of each image."""
        return list(self.result["images"])

    @property
    def summary(self) -> Json:
        """Median, mean and 95 % interval of each metric; the share of images that beat `is`."""
        return dict(self.result["summary"])

    @property
    def theory(self) -> Array:
        """The machine's images [S,C,H,W]."""
        return self.tensor("images")

    @property
    def ideal(self) -> Array:
        """Those of the ideal machine, `is`."""
        return self.tensor("ideal")

    def sheet(self, zoom: int = 1) -> bytes:
        """The sheet as a PNG."""
        return self.client.get(f"/v1/jobs/{self.id}/sheet?zoom={zoom}")

    def _repr_png_(self) -> bytes:
        return self.sheet(2)


class Picture:
    """Pixels that show themselves."""

    def __init__(self, pixels: Array):
        self.pixels = pixels

    def _repr_png_(self) -> bytes:
        return png(enlarged(self.pixels, 960))


class Mosaic:
    """Where every pixel of an image comes from: K candidates, heaviest first. In a notebook: its regions."""

    def __init__(self, client: Client, path: str, body: Json):
        shape = (body["height"], body["width"], body["top"])
        candidates = body["candidates"]
        self.client, self._path = client, path
        self.step: int = body["step"]
        self.image: Array = np.array(candidates["image"]).reshape(shape)    #: [H,W,K] bank index
        self.row: Array = np.array(candidates["row"]).reshape(shape)        #: [H,W,K] place in that image
        self.column: Array = np.array(candidates["column"]).reshape(shape)  #: [H,W,K]
        self.weight: Array = np.array(candidates["weight"]).reshape(shape)  #: [H,W,K] posterior weight
        self.entropy: Array = np.array(body["entropy"]).reshape(shape[:2])  #: [H,W] in nats
        self.region: Array = np.array(body["region"]).reshape(shape[:2])    #: [H,W] pixels of one origin

    @property
    def effective(self) -> Array:
        """[H,W] how many candidates share a pixel."""
        return np.exp(self.entropy)

    def map(self, name: str = "region", zoom: int = 8) -> bytes:
        """`region`, `source` or `entropy` as a PNG."""
        return self.client.get(f"{self._path}/{name}?step={self.step}&zoom={zoom}")

    def _repr_png_(self) -> bytes:
        return self.map()


# ---- the client ----

class Client:
    """One daemon. `key`: an API key. `patience`: how many seconds to try again while the daemon is full or starting."""

    def __init__(self, url: str = "http://127.0.0.1:8080", key: Optional[str] = None, *, patience: float = 60,
                 progress: bool = True):
        self.url = url.rstrip("/")
        self.key = key
        self.patience = patience
        self.progress = progress
        host = urllib.parse.urlsplit(self.url).hostname or ""
        near = host in ("localhost", "::1") or host.startswith("127.")
        # A proxy of the environment knows nothing of this machine's own loopback.
        self._opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if near else []))

    # ---- making things ----

    def sample(self, *, noise: Union[str, Array, None] = None, **params: Any) -> Sample:
        """Images from noise. `noise`: a generator's name, or x_T itself as an array [N,C,H,W]."""
        params, tensors = _with_noise(params, noise)
        return Sample(self, self._run("/v1/jobs", params, tensors))

    def stream(self, *, noise: Union[str, Array, None] = None,
               **params: Any) -> Iterator[Union[Progress, Preview, Sample]]:
        """The same, as it happens: Progress and Preview, and the Sample last. Closing it early cancels the job."""
        params, tensors = _with_noise(params, noise)
        job = self._post("/v1/jobs", params, tensors)
        ended = False
        try:
            for kind, data in self.events(job["id"]):
                if kind in ("progress", "state"):
                    at = data["progress"] if kind == "state" else data
                    yield Progress(at["step"], at["steps"], at["eta_seconds"])
                elif kind == "preview":
                    yield Preview(data["image"], data["step"], data["t"], _base64(data["png_base64"]))
            ended = True
        finally:
            if not ended:
                self.call("DELETE", f"/v1/jobs/{job['id']}")
        yield Sample(self, self._ended(job["id"]))

    def denoise(self, x: npt.ArrayLike, *, t: Optional[float] = None, alpha_bar: Optional[float] = None,
                p: Union[int, Sequence[int], None] = None, outputs: Sequence[str] = ("x0",), **params: Any) -> Denoised:
        """x̂0 (and eps, score, entropy) of noisy images [B,C,H,W] at one noise level, for one or several scales."""
        params = {**params, "t": t, "alpha_bar": alpha_bar, "p": _plain(p), "outputs": list(outputs)}
        return Denoised(self, self._run("/v1/denoise", params, {"x": _floats(x)}))

    def calibrate(self, xt: npt.ArrayLike, eps: Optional[npt.ArrayLike] = None, t: Optional[npt.ArrayLike] = None, *,
                  x0: Optional[npt.ArrayLike] = None, **params: Any) -> Calibration:
        """The scales of a network that saw xt [S,T,C,H,W] at the times t [T] and answered eps (or x0)."""
        tensors = {"xt": _floats(xt)}
        if eps is not None:
            tensors["eps"] = _floats(eps)
        if x0 is not None:
            tensors["x0"] = _floats(x0)
        if t is not None:
            tensors["t"] = _floats(t)
        return Calibration(self, self._run("/v1/calibrations", params, tensors))

    def compare(self, images: npt.ArrayLike, seeds: Optional[npt.ArrayLike] = None, *,
                noise: Union[str, Array, None] = None, **params: Any) -> Comparison:
        """A network's images [S,C,H,W] against what a machine draws from the same seeds [S], or the same noise."""
        params, tensors = _with_noise(params, noise)
        tensors["images"] = _floats(images)
        if seeds is not None:
            tensors["seeds"] = np.asarray(seeds, np.int64)
        return Comparison(self, self._run("/v1/comparisons", params, tensors))

    def mosaic(self, job: Union[Sample, str], image: int = 0, step: Optional[int] = None) -> Mosaic:
        """Where the pixels of an image come from. The job must have kept `mosaic`, or `final_mosaic` for the last step."""
        path = f"/v1/jobs/{job if isinstance(job, str) else job.id}/images/{image}/mosaic"
        return Mosaic(self, path, self.call("GET", path + ("" if step is None else f"?step={step}")))

    # ---- looking ----

    def capabilities(self) -> Json:
        """What the daemon can do: machines, presets, limits, and the fields of every kind of job."""
        return self.call("GET", "/v1/capabilities")

    def banks(self) -> List[Json]:
        return list(self.call("GET", "/v1/banks")["banks"])

    def load_bank(self, name: str, file: Optional[str] = None, *, builtin: Optional[str] = None,
                  replace: bool = False) -> Json:
        """Loads a bank from a file in the daemon's bank_dir (by default {name}.safetensors), or a built-in one, and
        waits for it. Needs an API key with the right `banks`, where there are keys."""
        path = f"/v1/banks/{urllib.parse.quote(name, safe='')}"
        body: Json = {k: v for k, v in (("file", file), ("builtin", builtin)) if v is not None}
        answer = self.call("POST", path, {**body, "replace": replace})
        while answer.get("status") in ("waiting", "loading"):
            time.sleep(0.5)
            answer = self.call("GET", path + "/load")
        if answer.get("status") == "failed":
            raise Problem(answer["error"]["status"], answer["error"])
        return self.call("GET", path) if answer.get("status") == "loaded" else answer

    def unload_bank(self, name: str) -> Json:
        """No longer offers a loaded bank; jobs that use it go on."""
        return self.call("DELETE", f"/v1/banks/{urllib.parse.quote(name, safe='')}")

    def available_banks(self) -> List[Json]:
        """The files that load_bank() may name: {"file", "bytes", "modified"}."""
        return list(self.call("GET", "/v1/banks?available=true")["available"])

    def bank_image(self, bank: str, index: int, zoom: int = 1) -> bytes:
        """A training image as a PNG."""
        return self.get(f"/v1/banks/{urllib.parse.quote(bank, safe='')}/images/{index}?zoom={zoom}")

    def scales(self) -> Dict[str, Json]:
        """Presets and saved schedules, {"t": [...], "p": [...]} by name."""
        found: Dict[str, Json] = {}
        cursor: Optional[str] = ""
        while cursor is not None:
            page = self.call("GET", "/v1/scales" + (f"?cursor={urllib.parse.quote(cursor, safe='')}" if cursor else ""))
            found.update({s["name"]: {"t": s["t"], "p": s["p"]} for s in page["scales"]})
            cursor = page.get("next_cursor")
        return found

    def save_scales(self, name: str, t: Sequence[float], p: Sequence[int]) -> None:
        self.call("PUT", f"/v1/scales/{urllib.parse.quote(name, safe='')}", {"t": list(t), "p": list(p)})

    def delete_scales(self, name: str) -> None:
        self.call("DELETE", f"/v1/scales/{urllib.parse.quote(name, safe='')}")

    def job(self, id: str) -> Json:
        return self.call("GET", f"/v1/jobs/{id}")

    def cancel(self, id: str) -> None:
        self.call("DELETE", f"/v1/jobs/{id}")

    def events(self, id: str) -> Iterator[Tuple[str, Json]]:
        """(event, data) of a job until it has ended; a stream that breaks is taken up where it was."""
        last: Optional[str] = None
        tries = 0
        while True:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
            try:
                with self._open("GET", f"/v1/jobs/{id}/events", None, headers) as answer:
                    for number, kind, data in _server_sent(answer):
                        last, tries = number or last, 0
                        yield kind, data
                        if kind in ("succeeded", "failed", "cancelled"):
                            return
            except (OSError, HTTPException):
                pass
            if self.job(id)["status"] in ("succeeded", "failed", "cancelled"):
                return
            tries += 1
            time.sleep(min(tries, 10) / 2)

    # ---- how it is done ----

    def get(self, path: str, accept: str = "*/*") -> bytes:
        with self._open("GET", path, None, {"Accept": accept}) as answer:
            return answer.read()

    def call(self, method: str, path: str, body: Optional[Json] = None) -> Json:
        """One request with JSON in and out."""
        content = None if body is None else json.dumps(body).encode()
        with self._open(method, path, content, {"Content-Type": "application/json"} if content else {}) as answer:
            return json.loads(answer.read())  # type: ignore[no-any-return]

    def _post(self, path: str, params: Json, tensors: Mapping[str, Array]) -> Json:
        params = {k: v for k, v in params.items() if v is not None}
        content, kind = json.dumps(params, default=_from_numpy).encode(), "application/json"
        if tensors:
            content, kind = write_safetensors(tensors, {"params": content.decode()}), SAFETENSORS
        headers = {"Content-Type": kind, "Prefer": "wait=0", "Idempotency-Key": uuid.uuid4().hex}
        with self._open("POST", path, content, headers) as answer:
            return json.loads(answer.read())  # type: ignore[no-any-return]

    def _run(self, path: str, params: Json, tensors: Mapping[str, Array]) -> Json:
        """Makes a job, shows how far it is, and returns it once it has succeeded."""
        job = self._post(path, params, tensors)
        bar = _bar(job["kind"]) if self.progress else None
        try:
            for kind, data in self.events(job["id"]):
                if bar is not None and kind == "progress":
                    bar.total = data["steps"]
                    bar.update(data["step"] - bar.n)
        except BaseException:
            self.call("DELETE", f"/v1/jobs/{job['id']}")
            raise
        finally:
            if bar is not None:
                bar.close()
        return self._ended(job["id"])

    def _ended(self, id: str) -> Json:
        job = self.job(id)
        if job["status"] != "succeeded":
            raise Problem(0, job.get("error") or {"code": f"job_{job['status']}", "detail": f"The job was {job['status']}."})
        return job

    def _open(self, method: str, path: str, content: Optional[bytes], headers: Mapping[str, str]) -> HTTPResponse:
        """An answer with a good status. Waits and tries again while the daemon says "later"."""
        until = time.monotonic() + self.patience
        if self.key:
            headers = {**headers, "Authorization": f"Bearer {self.key}"}
        while True:
            request = urllib.request.Request(self.url + path, content, dict(headers), method=method)
            try:
                return self._opener.open(request)  # type: ignore[no-any-return]
            except urllib.error.HTTPError as error:
                with error:
                    problem = Problem(error.code, _json(error.read()))
                    wait = float(error.headers.get("Retry-After") or 0)
            if problem.status not in (429, 503) or not wait or time.monotonic() + wait > until:
                raise problem
            time.sleep(wait)


# ---- small things ----

def _with_noise(params: Json, noise: Union[str, Array, None]) -> Tuple[Json, Dict[str, Array]]:
    if noise is None or isinstance(noise, str):
        return {**params, "noise": noise}, {}
    return {**params, "noise": "x_T"}, {"x_T": _floats(noise)}


def _floats(value: npt.ArrayLike) -> Array:
    return np.ascontiguousarray(value, np.float32)


def _from_numpy(value: Any) -> Any:
    """Numbers and lists that numpy made, as JSON has them."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"{value!r} has no place in JSON")


def _plain(p: Union[int, Sequence[int], None]) -> Union[int, List[int], None]:
    return p if p is None or isinstance(p, (int, np.integer)) else [int(k) for k in p]


def _json(content: bytes) -> Json:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _base64(text: str) -> bytes:
    import base64
    return base64.b64decode(text)


def _npy(content: bytes) -> Array:
    import io
    return np.load(io.BytesIO(content), allow_pickle=False)  # type: ignore[no-any-return]


def _server_sent(answer: HTTPResponse) -> Iterator[Tuple[str, str, Json]]:
    """(id, event, data) of a text/event-stream."""
    number = kind = data = ""
    for line in answer:
        name, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "id":
            number = value
        elif name == "event":
            kind = value
        elif name == "data":
            data += value
        elif not name and not value and kind:
            yield number, kind, json.loads(data)
            kind = data = ""


def _bar(title: str) -> Any:
    try:
        from tqdm.auto import tqdm  # type: ignore[import]
    except ImportError:
        return None
    return tqdm(desc=title, unit="step")
