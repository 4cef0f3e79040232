"""Input that is wrong or hostile: each gets its clear answer, and the daemon goes on serving."""
import json
import os
import struct

import numpy as np
import pytest

from daemon import QUICK, refuses_to_start
from formats import SAFETENSORS, inside, write_npy, write_safetensors

JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def unharmed(elsd):
    """Whatever a test sent: afterwards the same daemon answers, and nothing is left in its queue."""
    yield
    assert elsd.process.poll() is None, elsd.log()
    elsd.get("/readyz", 200)
    assert not elsd.get("/v1/jobs?status=queued", 200).json()["jobs"]


# ---- JSON ----

def nested(depth):
    return b'{"client_ref":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize("body", [
    b"{", b"}", b"{]", b"{'seed': 1}", b'{"seed": 1,}', b'{"seed": 01}', b'{"seed": NaN}', b'{"seed": Infinity}',
    b'{"seed": 1} x', b'{"seed": 1}{"seed": 1}', b"\xff\xfe{}", b'{"client_ref": "\xff"}',
    b'{"client_ref": "\xed\xa0\x80"}', b'{"client_ref": "\\ud800"}', b'{"client_ref": "a\nb"}', b"nul", b"\0",
    b"{\0}", b'{"seed": 1}\0', b'{"seed": 1, "seed": 1}', b'{"exclude": {"images": [], "images": []}}',
    b'{"tolerance": 1e999}', b'{"tolerance": -1e999}', b'{"seed": 9223372036854775808}',
    b'{"seed": -9223372036854775809}', b'{"seed": 1' + b"0" * 400 + b"}", nested(64), nested(5000),
    b"[" * 1000000, b'{"a":' * 100000,
], ids=lambda b: ascii(b[:30]))
def test_what_is_not_json_is_400(elsd, body):
    elsd.problem("POST", "/v1/jobs", 400, data=body, headers=JSON)


@pytest.mark.parametrize("path", ["/v1/samples", "/v1/denoise", "/v1/calibrations", "/v1/comparisons"])
def test_every_post_reads_json_in_this_way(elsd, path):
    elsd.problem("POST", path, 400, "invalid_json", data=b'{"seed": 1, "seed": 1}', headers=JSON)
    elsd.problem("POST", path, 400, "json_too_deep", data=nested(64), headers=JSON)
    error, = elsd.problem("POST", path, 422, data=b"[]", headers=JSON)["errors"]
    assert error["pointer"] == ""
    assert "/sed" in [e["pointer"] for e in elsd.problem("POST", path, 422, json={"sed": 1})["errors"]]


def test_64_levels_are_read(elsd):
    error, = elsd.problem("POST", "/v1/jobs", 422, data=nested(63), headers=JSON)["errors"]
    assert error["pointer"] == "/client_ref"


@pytest.mark.parametrize("body", [b"[]", b'""', b"0", b"null", b"true", b"[{}]"])
def test_json_that_is_no_object_is_422(elsd, body):
    error, = elsd.problem("POST", "/v1/jobs", 422, data=body, headers=JSON)["errors"]
    assert error["pointer"] == "", "the whole body"


@pytest.mark.parametrize("fields, pointer, says", [
    ({"sed": 1}, "/sed", "seed"),
    ({"": 1}, "/", ""),
    ({"a/b~c": 1}, "/a~1b~0c", "a/b~c"),
    ({"exclude": {"imgs": []}}, "/exclude/imgs", "imgs"),
    ({"noise_schedule": {"alpha_bar": [1, .5, .4, .2, .1], "x": 1}}, "/noise_schedule/x", "x"),
    ({"bank": "mnist"}, "/bank", ["mnist", "digits"]),
    ({"bank": 3}, "/bank", "3"),
    ({"bank": "../../etc/passwd"}, "/bank", "../../etc/passwd"),
    ({"machine": "cnn"}, "/machine", ["cnn", "is, es, ls, els, bbels"]),
    ({"machine": None}, "/machine", "null"),
    ({"candidates": "all"}, "/candidates", ["all", "wrapped, valid"]),
    ({"label": 10}, "/label", ["10", "9"]),
    ({"label": -1}, "/label", "-1"),
    ({"label": "ten"}, "/label", "ten"),
    ({"label": 1.5}, "/label", "1.5"),
    ({"label": [1]}, "/label", "[1]"),
    ({"label": 2, "bank": "two-tone"}, "/label", ["2", "0 to 1"]),
    ({"num_images": 0}, "/num_images", ["0", "1 to 64"]),
    ({"num_images": 65}, "/num_images", ["65", "1 to 64"]),
    ({"num_images": "1"}, "/num_images", ['"1"', "1 to 64"]),
    ({"num_images": True}, "/num_images", ["true", "1 to 64"]),
    ({"num_images": 1e300}, "/num_images", "1 to 64"),
    ({"num_inference_steps": 1}, "/num_inference_steps", ["1", "2 to 5000"]),
    ({"num_inference_steps": 5001}, "/num_inference_steps", ["5001", "2 to 5000"]),
    ({"num_inference_steps": -5}, "/num_inference_steps", ["-5", "2 to 5000"]),
    ({"start_step": "half"}, "/start_step", ["half", "paper, full"]),
    ({"sampler": "euler"}, "/sampler", ["euler", "ddim, ddpm"]),
    ({"noise_schedule": "cosin"}, "/noise_schedule", ["cosin", "cosine"]),
    ({"noise_schedule": {"alpha_bar": [1, .5]}}, "/noise_schedule/alpha_bar", ["num_inference_steps + 1", "has 2"]),
    ({"noise_schedule": {"alpha_bar": [1, .5, .5, .2, .1]}}, "/noise_schedule/alpha_bar/2", "smaller than the one"),
    ({"noise_schedule": {"alpha_bar": [1.5, 1, .5, .2, .1]}}, "/noise_schedule/alpha_bar/0", "1.5"),
    ({"noise_schedule": {"alpha_bar": [1, .9, .5, .2, 0]}}, "/noise_schedule/alpha_bar/4", "0"),
    ({"noise_schedule": {"alpha_bar": [1, .9, .5, .2, "x"]}}, "/noise_schedule/alpha_bar/4", "x"),
    ({"noise_schedule": {"alpha_bar": 3}}, "/noise_schedule/alpha_bar", ""),
    ({"scales": 4}, "/scales", ["4", "odd"]),
    ({"scales": 0}, "/scales", "0"),
    ({"scales": -3}, "/scales", "-3"),
    ({"scales": 10**9 + 1}, "/scales", "1000000001"),
    ({"scales": [3, 3]}, "/scales", ["2", "4"]),
    ({"scales": [3, 3, 4, 3]}, "/scales/2", ["4", "odd"]),
    ({"scales": []}, "/scales", ""),
    ({"scales": "mnist"}, "/scales", "mnist"),
    ({"scales": {"t": [0.1], "p": [3, 5]}}, "/scales/t", "2"),
    ({"scales": {"t": [2], "p": [3]}}, "/scales/t/0", ["2", "0 to 1"]),
    ({"scales": {"p": [3]}}, "/scales", "t"),
    ({"machine": "els", "scales": 33}, "/scales", ["33", "32"]),
    ({"seed": -1}, "/seed", ["-1", "9007199254740991"]),
    ({"seed": 2**53}, "/seed", ["9007199254740992", "9007199254740991"]),
    ({"seed": 1.5}, "/seed", "1.5"),
    ({"seed": 2**53 - 1, "num_images": 2}, "/seed", "9007199254740991"),
    ({"exclude": {"images": [-1]}}, "/exclude/images/0", "-1"),
    ({"exclude": {"images": [0, 10**9]}}, "/exclude/images/1", "1000000000"),
    ({"exclude": {"classes": ["ten"]}}, "/exclude/classes/0", "ten"),
    ({"exclude": []}, "/exclude", ""),
    ({"exclude": {"classes": list(range(10))}}, "/exclude", ""),
    ({"noise": "gauss"}, "/noise", "gauss"),
    ({"noise": 1}, "/noise", "1"),
    ({"noise": {"npy_base64": "%%%"}}, "/noise/npy_base64", "base64"),
    ({"noise": {"npy_base64": ""}}, "/noise/npy_base64", "npy"),
    ({"max_samples": 0}, "/max_samples", "0"),
    ({"max_samples": -3}, "/max_samples", "-3"),
    ({"tolerance": -0.1}, "/tolerance", ["-0.1", "0 to 1"]),
    ({"tolerance": 2}, "/tolerance", ["2", "0 to 1"]),
    ({"tolerance": "0"}, "/tolerance", "0 to 1"),
    ({"outputs": ["picture"]}, "/outputs/0", "picture"),
    ({"outputs": "image"}, "/outputs", ""),
    ({"outputs": [3]}, "/outputs/0", "3"),
    ({"outputs": []}, "/outputs", ""),
    ({"client_ref": 3}, "/client_ref", "3"),
    ({"client_ref": "x" * 100000}, "/client_ref", ['"xxxxxxxx', "x...", "256"]),
    ({"client_ref": "a\0b"}, "/client_ref", ""),
], ids=lambda v: json.dumps(v)[:50] if isinstance(v, dict) else None)
def test_a_wrong_value_is_named_with_what_is_allowed(elsd, fields, pointer, says):
    problem = elsd.problem("POST", "/v1/jobs", 422, data=json.dumps(QUICK | fields), headers=JSON)
    error = problem["errors"][0]
    assert error["pointer"] == pointer, problem
    for text in [says] if isinstance(says, str) else says:
        assert text in error["detail"], error
    assert len(error["detail"]) < 600, "a value is quoted, not repeated"


def test_every_fault_is_told(elsd):
    problem = elsd.problem("POST", "/v1/jobs", 422, json={"seed": -1, "machine": "x", "num_images": 0, "sed": 1})
    assert {e["pointer"] for e in problem["errors"]} == {"/seed", "/machine", "/num_images", "/sed"}


def test_a_thousand_faults_do_not_make_a_huge_answer(elsd):
    answer = elsd.post("/v1/jobs", 422, json={f"x{i}": i for i in range(1000)})
    assert len(answer.content) < 100000


def test_a_job_that_would_be_too_large_is_refused_at_once(elsd):
    problem = elsd.problem("POST", "/v1/jobs", 413, "result_too_large", json={
        "num_images": 64, "num_inference_steps": 5000, "scales": 3, "outputs": ["x0", "xt"]})
    most = elsd.get("/v1/capabilities", 200).json()["limits"]["result_bytes"]["max"]
    assert f"at most {most} are allowed" in problem["detail"]


# ---- bodies ----

@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "image/png",
                                  "application/xml", "json", "application/x-npy", "x" * 5000])
def test_other_content_types_are_415(elsd, kind):
    elsd.problem("POST", "/v1/samples", 415, data=b"{}", headers={"Content-Type": kind})


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/json;x=y"])
def test_json_may_have_parameters(elsd, kind):
    elsd.post("/v1/samples", 200, data=json.dumps(QUICK), headers={"Content-Type": kind})


def test_a_huge_body_is_413(start):
    elsd = start("--max-body-bytes", 2048)
    elsd.post("/v1/samples", 200, data=json.dumps(QUICK).encode().ljust(2048), headers=JSON)
    elsd.problem("POST", "/v1/samples", 413, data=b" " * 2049, headers=JSON)
    # Without a declared length.
    elsd.problem("POST", "/v1/samples", 413, data=iter([b" " * 1024] * 3), headers=JSON)
    # And before it has come.
    with elsd.raw() as s:
        s.sendall(b"POST /v1/samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 413 ")
    elsd.serves()


NOISE = np.random.default_rng(0).standard_normal((1, 1, 32, 32), dtype=np.float32)


def container(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


PARAMS = {"params": json.dumps(QUICK | {"noise": "x"})}
WHOLE = write_safetensors({"x": NOISE}, **PARAMS)


def entry(**change):
    return {"x": {"dtype": "F32", "shape": [1, 1, 32, 32], "data_offsets": [0, 4096]} | change, "__metadata__": PARAMS}


@pytest.mark.parametrize("body", [
    b"", b"1234567", bytes(8), struct.pack("<Q", 2**64 - 1), struct.pack("<Q", 2**63) + b"{}", container(b"{"),
    container(b"[]"), container({}, b"left over"), WHOLE[:-1], WHOLE[:-4000], WHOLE[:60], WHOLE + b"x",
    container(entry(dtype="F7"), NOISE.tobytes()), container(entry(dtype=3), NOISE.tobytes()),
    container(entry(shape=[1, 1, 32]), NOISE.tobytes()), container(entry(shape=[2**40, 2**40, 1, 1]), NOISE.tobytes()),
    container(entry(shape=[-1, -1, 32, 32]), NOISE.tobytes()), container(entry(shape="x"), NOISE.tobytes()),
    container(entry(shape=[1] * 100000), NOISE.tobytes()), container(entry(data_offsets=[0, 5000]), NOISE.tobytes()),
    container(entry(data_offsets=[4096, 0]), NOISE.tobytes()), container(entry(data_offsets=[-4096, 0]), NOISE.tobytes()),
    container(entry(data_offsets=[0, 2**64]), NOISE.tobytes()), container(entry(data_offsets=[0]), NOISE.tobytes()),
    container(b'{"x":' + b"[" * 100000), container({"__metadata__": {"params": 3}}), container({"__metadata__": []}),
    container(b'{"x":1,"x":1}'),
], ids=lambda b: f"{len(b)}-{ascii(b[8:40])}")
def test_hostile_safetensors(elsd, body):
    problem = elsd.problem("POST", "/v1/jobs", 422, "bad_safetensors", data=body, headers={"Content-Type": SAFETENSORS})
    assert len(problem["errors"]) == 1 and len(problem["detail"]) < 600


@pytest.mark.parametrize("params, status", [("{", 400), ('{"a":1,"a":1}', 400), ("[]", 422), ('{"sed":1}', 422)])
def test_params_of_a_container_are_read_as_a_body_is(elsd, params, status):
    body = write_safetensors({"x": NOISE}, params=params)
    elsd.problem("POST", "/v1/jobs", status, data=body, headers={"Content-Type": SAFETENSORS})


@pytest.mark.parametrize("noise, says", [
    (NOISE[:, :, :31], "31"), (NOISE[0, 0], "32"), (NOISE.astype(np.uint8), "U8"),
    (np.full_like(NOISE, np.nan), "finite"), (np.full_like(NOISE, np.inf), "finite"), (np.concatenate([NOISE, NOISE]), "2"), (NOISE[:0], "0"),
], ids=["31", "two dimensions", "bytes", "nan", "inf", "two images", "no image"])
def test_noise_of_a_wrong_shape_or_kind(elsd, noise, says):
    params = QUICK | {"num_images": 1}
    body = write_safetensors({"x": noise}, params=params | {"noise": "x"})
    for sent in ({"json": params | {"noise": inside(noise)}}, {"data": body, "headers": {"Content-Type": SAFETENSORS}}):
        error = elsd.problem("POST", "/v1/jobs", 422, **sent)["errors"][0]
        assert error["pointer"].startswith("/noise") and says in error["detail"], error


NPY = write_npy(NOISE)


@pytest.mark.parametrize("body", [
    NPY[:5], NPY[:20], NPY[:-1], NPY + b"x", b"\x93NUMPY\x01\x00\xff\xff" + NPY[10:], b"\x93NUMPY\x09\x00" + NPY[8:],
    NPY.replace(b"'<f4'", b"'|O'  "[:5]), NPY.replace(b"'<f4'", b"'>f4'"), NPY.replace(b"False", b"True "),
    NPY.replace(b"(1, 1, 32, 32)", b"(9, 9, 99, 99)"), NPY.replace(b"(1, 1, 32, 32)", b"(-1, 1, 32, 1)"),
    NPY.replace(b"{'descr'", b"{'descq'"), b"PK\x03\x04" + bytes(100),
], ids=lambda b: f"{len(b)}-{ascii(b[6:40])}")
def test_hostile_npy(elsd, body):
    error, = elsd.problem("POST", "/v1/jobs", 422, json=QUICK | {"noise": inside(body)})["errors"]
    assert error["pointer"].startswith("/noise")


# ---- banks at the start ----

IMAGES = np.random.default_rng(3).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
BANK = write_safetensors({"images": IMAGES, "labels": np.arange(4)}, name="tiny")


@pytest.mark.parametrize("content", [
    b"", b"x", BANK[:7], BANK[:50], BANK[:-1], BANK[:-100], BANK + b"x", b"\x89PNG\r\n\x1a\n" + bytes(100),
    struct.pack("<Q", 2**60) + BANK[8:], write_safetensors({"pictures": IMAGES}), write_safetensors({"images": IMAGES[0]}),
    write_safetensors({"images": IMAGES[:0]}), write_safetensors({"images": IMAGES, "labels": np.arange(3)}),
    write_safetensors({"images": IMAGES, "labels": np.array([0, 1, 2, -1])}),
    write_safetensors({"images": IMAGES, "labels": np.array([0, 1, 2, 2**62])}),
    write_safetensors({"images": IMAGES.repeat(5, 1)}),
    write_safetensors({"images": np.full((2, 1, 4, 4), np.nan, np.float32)}),
    write_safetensors({"images": np.full((2, 1, 4, 4), 1.5, np.float32)}),
    write_safetensors({"images": IMAGES, "labels": np.arange(4)}, classes='["a"]'),
    write_safetensors({"images": IMAGES, "labels": np.arange(4)}, classes="{"),
    container({"images": {"dtype": "U8", "shape": [2**31, 2**31, 8, 8], "data_offsets": [0, 256]}}, bytes(256)),
], ids=lambda b: f"{len(b)}-{ascii(b[8:40])}")
def test_a_hostile_bank_is_named_at_the_start(tmp_path, content):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)
    refuses_to_start(tmp_path, "--bank", f"mine={path}", says="hostile.safetensors")


def test_what_is_no_file_is_no_bank(tmp_path):
    refuses_to_start(tmp_path, "--bank", f"mine={tmp_path}", says=str(tmp_path))
    os.mkfifo(tmp_path / "fifo.safetensors")
    refuses_to_start(tmp_path, "--bank", f"mine={tmp_path}/fifo.safetensors", says="fifo.safetensors")


@pytest.mark.parametrize("scales", ["[2]", "{", "no-such-preset", "[" * 5000, '{"t":[0],"p":[0]}'])
def test_impossible_scales_of_a_bank(start, tmp_path, scales):
    """They are only read when they are needed: whoever gives their own is served."""
    path = tmp_path / "odd.safetensors"
    path.write_bytes(write_safetensors({"images": IMAGES}, scales=scales))
    elsd = start("--bank", f"odd={path}")
    error, = elsd.problem("POST", "/v1/jobs", 422, json={"bank": "odd", "num_inference_steps": 4})["errors"]
    assert error["pointer"].startswith("/scales"), error
    elsd.post("/v1/samples", 200, json={"bank": "odd", "num_inference_steps": 4, "scales": 3})


def test_a_bank_file_that_shrinks_under_the_daemon(start, tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(BANK)
    elsd = start("--bank", f"tiny={path}")
    before = elsd.sample(bank="tiny", max_samples=None)
    os.truncate(path, 10)
    after = elsd.sample(bank="tiny", max_samples=None)
    assert after["result"]["images"][0]["sha256"] == before["result"]["images"][0]["sha256"]


# ---- methods, hosts and origins ----

@pytest.mark.parametrize("method, path, allow", [
    ("GET", "/v1/samples", {"POST"}), ("PUT", "/v1/jobs", {"GET", "POST"}), ("DELETE", "/v1/jobs", {"GET", "POST"}),
    ("POST", "/healthz", {"GET"}), ("PATCH", "/v1/banks", {"GET"}), ("POST", "/", {"GET"}),
    ("BREW", "/v1/capabilities", {"GET"}),
])
def test_other_methods_are_405(elsd, method, path, allow):
    answer = elsd.request(method, path, 405, data=b"{}")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {m.strip() for m in answer.headers["Allow"].split(",")} - {"HEAD", "OPTIONS"} == allow


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/", "/v1/jobs/", "//v1/jobs", "/v1/samples/x", "/%2e%2e/x",
                                  "/index.htm", "/js/", "/js/../../server/daemon/main.c", "/../core/include/els/els.h"])
def test_other_paths_are_404(elsd, path):
    answer = elsd.get(path)
    assert answer.status_code == 404 and answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
                                  "localhost@evil.example", ""])
def test_a_foreign_host_is_403(elsd, host):
    elsd.problem("GET", "/v1/jobs", 403 if host else 400, headers={"Host": host})
    elsd.problem("POST", "/v1/jobs", 403 if host else 400, json=QUICK, headers={"Host": host})


@pytest.mark.parametrize("origin", ["http://evil.example", "https://localhost.evil.example", "null", "http://localhost:1",
                                    "file://"])
def test_a_foreign_origin_is_403(elsd, origin):
    problem = elsd.problem("POST", "/v1/jobs", 403, json=QUICK, headers={"Origin": origin})
    assert problem["code"]
    assert "Access-Control-Allow-Origin" not in elsd.get("/v1/jobs", headers={"Origin": origin}).headers


def test_the_pages_own_origin_is_served(elsd):
    for origin in (elsd.url, f"http://localhost:{elsd.port}"):
        host = origin.removeprefix("http://")
        elsd.post("/v1/samples", 200, json=QUICK, headers={"Origin": origin, "Host": host})


def test_listed_origins_and_hosts_are_served(start):
    elsd = start("--cors-origins", "https://notebook.example", "--allowed-hosts", "els.example")
    origin = {"Origin": "https://notebook.example"}
    assert elsd.get("/v1/banks", 200, headers=origin).headers["Access-Control-Allow-Origin"] == origin["Origin"]
    elsd.get("/v1/banks", 200, headers={"Host": "els.example"})
    elsd.problem("GET", "/v1/banks", 403, headers={"Host": "other.example"})


def test_it_still_makes_images_after_all_of_this(elsd):
    elsd.serves()
