"""Banks loaded and unloaded over HTTP: who may, from where, what is refused, and what survives."""
import concurrent.futures
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from daemon import ELS, refuses_to_start, wait_until
from formats import write_safetensors

LONG = {"num_inference_steps": 2000, "scales": 3, "machine": "ls", "num_images": 4, "seed": 1}
SHORT = LONG | {"num_inference_steps": 3}
MIB = 1 << 20
BASE = ["two-tone", "busy"]
# What runs until it is cancelled.
BUSY = {"bank": "busy", "machine": "els", "num_inference_steps": 2000, "scales": 7, "num_images": 8, "seed": 1,
        "outputs": ["image"]}


def bank_bytes(level, n=64, **metadata):
    """A bank of n flat 16×16 images around one level: every level gives other images."""
    levels = ((level + np.arange(n)) % 256).astype(np.uint8)
    return write_safetensors({"images": levels.repeat(256).reshape(n, 1, 16, 16)}, **metadata)


def put(path, content):
    """Replaced as a whole."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.rename(path)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "banks"
    path.mkdir()
    for level in (10, 20):
        put(path / f"flat{level}.safetensors", bank_bytes(level))
    return path


def go(start, folder, *flags, **keys):
    """A daemon with the banks of BASE, which are there at once."""
    images = np.random.default_rng(0).integers(0, 256, (2000, 1, 32, 32), np.uint8)
    put(folder.parent / "busy.safetensors", write_safetensors({"images": images}))
    return start("--bank-dir", folder, "--bank", "two-tone=two-tone", "--bank",
                 f"busy={folder.parent / 'busy.safetensors'}", *flags, **keys)


def names(elsd):
    return [b["name"] for b in elsd.get("/v1/banks", 200).json()["banks"]]


def metric(elsd, name):
    return float(re.search(rf"^{re.escape(name)} (\S+)$", elsd.get("/metrics", 200).text, re.M)[1])


def charged(elsd):
    """What the accounts hold for banks."""
    return metric(elsd, 'els_memory_bytes{class="banks"}')


def digest(elsd, job):
    """Of its images alone: the bank's name is in its parameters."""
    return hashlib.sha256(elsd.get(f"/v1/jobs/{job['id']}/tensors?name=images", 200).content).hexdigest()


# ---- loading and using ----

def test_a_bank_is_loaded_used_and_unloaded(start, folder):
    elsd = go(start, folder)
    before = charged(elsd)
    answer = elsd.post("/v1/banks/flat10", 201)
    bank = answer.json()
    assert answer.headers["Location"] == bank["url"] == "/v1/banks/flat10"
    assert bank["name"] == "flat10" and bank["num_images"] == 64 and bank["origin"] == "loaded"
    assert elsd.get("/v1/banks/flat10", 200).json() == bank
    assert names(elsd) == [*BASE, "flat10"]
    assert "flat10" in [b["name"] for b in elsd.get("/v1/capabilities", 200).json()["banks"]]
    assert metric(elsd, 'els_banks{origin="loaded"}') == 1 and metric(elsd, 'els_bank_bytes{bank="flat10"}') == 64 * 256
    assert 64 * 256 < charged(elsd) - before < 64 * 256 + 4096
    job = elsd.post("/v1/samples", 200, json=SHORT | {"bank": "flat10"}).json()
    assert job["status"] == "succeeded" and job["params"]["bank"] == "flat10"
    elsd.get("/v1/banks/flat10/images/3", 200)
    load = elsd.get("/v1/banks/flat10/load", 200).json()
    assert load["status"] == "loaded" and load["file"] == "flat10.safetensors" and load["error"] is None
    assert "bank_loaded bank=flat10" in elsd.log()
    assert elsd.delete("/v1/banks/flat10", 200).json() == {"name": "flat10", "unloaded": True, "in_use": False}
    assert names(elsd) == BASE
    elsd.problem("POST", "/v1/samples", 422, json=SHORT | {"bank": "flat10"})
    elsd.problem("DELETE", "/v1/banks/flat10", 404, "bank_not_found")
    wait_until("the memory", lambda: charged(elsd) == before)
    assert "bank_unloaded bank=flat10" in elsd.log() and "bank_freed bank=flat10" in elsd.log()


def test_with_the_python_client(start, folder):
    spec = importlib.util.spec_from_file_location("els_banks", pathlib.Path(os.environ["ELS_SOURCE_DIR"]) / "web/els.py")
    els = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = els  # dataclasses look it up
    spec.loader.exec_module(els)
    elsd = go(start, folder)
    client = els.Client(elsd.url)
    assert [f["file"] for f in client.available_banks()] == ["flat10.safetensors", "flat20.safetensors"]
    bank = client.load_bank("flat10")
    assert bank["name"] == "flat10" and bank["num_images"] == 64 and bank["origin"] == "loaded"
    other = client.load_bank("flat10", "flat20.safetensors", replace=True)
    assert other["sha256"] != bank["sha256"] and set(names(elsd)) == {*BASE, "flat10"}
    with pytest.raises(els.Problem) as e:
        client.load_bank("flat30")
    assert e.value.status == 404, "there is no such file"
    assert client.unload_bank("flat10")["name"] == "flat10" and set(names(elsd)) == set(BASE)
    del sys.modules[spec.name]


def test_the_body_names_file_or_builtin(start, folder):
    elsd = start("--bank-dir", folder, "--bank", "two=two-tone")
    assert elsd.post("/v1/banks/mine", 201, json={"file": "flat20.safetensors"}).json()["name"] == "mine"
    digits = elsd.post("/v1/banks/numbers", 201, json={"builtin": "digits"}).json()
    assert digits["num_images"] == 3000
    # The same again is no fault, from the file or by its digest.
    assert elsd.post("/v1/banks/mine", 200, json={"file": "flat20.safetensors"}).json()["name"] == "mine"
    assert elsd.post("/v1/banks/numbers", 200, json={"builtin": "digits"}).json() == digits
    assert elsd.post("/v1/banks/two", 200, json={"builtin": "two-tone"}).json()["origin"] == "configuration"
    put(folder / "copy.safetensors", bank_bytes(20, name="other"))
    elsd.post("/v1/banks/mine", 200, json={"file": "copy.safetensors"})
    # Another is, unless it is to replace.
    problem = elsd.problem("POST", "/v1/banks/mine", 409, "bank_exists", json={"file": "flat10.safetensors"})
    assert "replace" in problem["detail"]
    old = elsd.get("/v1/banks/mine", 200).json()
    new = elsd.post("/v1/banks/mine", 201, json={"file": "flat10.safetensors", "replace": True}).json()
    assert new["sha256"] != old["sha256"] and names(elsd) == ["two", "mine", "numbers"]
    # What stands in the configuration is changed there.
    for replace in (False, True):
        elsd.problem("POST", "/v1/banks/two", 409, "bank_is_configured",
                     json={"file": "flat10.safetensors", "replace": replace})
    elsd.problem("DELETE", "/v1/banks/two", 409, "bank_is_configured")


def test_prefer_wait_answers_202_and_an_address_to_poll(start, folder):
    elsd = go(start, folder)
    answer = elsd.post("/v1/banks/numbers", json={"builtin": "digits"}, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202 and answer.headers["Location"] == "/v1/banks/numbers/load"
    assert answer.json()["status"] in ("waiting", "loading") and answer.json()["error"] is None
    load = wait_until("the load", lambda: (lambda b: b if b["status"] == "loaded" else None)(
        elsd.get("/v1/banks/numbers/load", 200).json()))
    assert load["bank_url"] == "/v1/banks/numbers" and load["builtin"] == "digits"
    elsd.get(load["bank_url"], 200)
    (folder / "bad.safetensors").write_bytes(b"nothing")
    elsd.post("/v1/banks/bad", 202, headers={"Prefer": "wait=0"})
    load = wait_until("the load", lambda: (lambda b: b if b["status"] == "failed" else None)(
        elsd.get("/v1/banks/bad/load", 200).json()))
    assert load["error"]["status"] == 422 and load["error"]["code"] == "bad_bank_file"
    elsd.problem("GET", "/v1/banks/never/load", 404, "load_not_found")


def test_what_there_is_to_load(start, folder):
    elsd = go(start, folder)
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.safetensors").write_text("x")
    (folder / "folder.safetensors").mkdir()
    (folder / "link.safetensors").symlink_to(folder / "flat10.safetensors")
    answer = elsd.get("/v1/banks?available=true", 200).json()
    assert [f["file"] for f in answer["available"]] == ["flat10.safetensors", "flat20.safetensors"]
    assert answer["available"][0]["bytes"] == (folder / "flat10.safetensors").stat().st_size
    assert not answer["available_truncated"] and len(answer["banks"]) == len(BASE)
    assert "available" not in elsd.get("/v1/banks?available=false", 200).json()
    elsd.problem("GET", "/v1/banks?available=maybe", 422)
    loading = elsd.get("/v1/capabilities", 200).json()["bank_loading"]
    assert loading == {"allowed": True, "reason": None, "bank_dir": str(folder), "banks": {"max": 64},
                       "builtins": ["two-tone", "digits", "shapes"]} | {"builtins": loading["builtins"]}
    assert set(loading["builtins"]) == {"digits", "shapes", "two-tone"}


# ---- who may ----

def test_without_bank_dir_it_is_off(start):
    elsd = start("--bank", "two-tone=two-tone")
    for method, path in (("POST", "/v1/banks/a"), ("DELETE", "/v1/banks/a"), ("GET", "/v1/banks/a/load"),
                         ("GET", "/v1/banks?available=true")):
        assert "bank_dir" in elsd.problem(method, path, 403, "bank_loading_off")["detail"]
    loading = elsd.get("/v1/capabilities", 200).json()["bank_loading"]
    assert not loading["allowed"] and "bank_dir" in loading["reason"] and loading["bank_dir"] is None


def test_only_keys_with_the_right(start, folder, tmp_path):
    def key(*arguments):
        return subprocess.run([ELS, "key", *map(str, arguments)], check=True, capture_output=True, text=True).stdout
    keys = tmp_path / "keys"
    admin = {"Authorization": "Bearer " + key("add", "--right", "banks", keys, "admin").strip()}
    bob = {"Authorization": "Bearer " + key("add", keys, "bob").strip()}
    assert key("list", keys) == "admin banks\nbob\n"
    elsd = go(start, folder, "--keys-file", keys, "--bind", "0.0.0.0")
    for method, path in (("POST", "/v1/banks/flat10"), ("DELETE", "/v1/banks/flat10"),
                         ("GET", "/v1/banks/flat10/load"), ("GET", "/v1/banks?available=true")):
        problem = elsd.problem(method, path, 403, "right_required", headers=bob)
        assert "bob" in problem["detail"] and "--right banks" in problem["detail"]
        elsd.problem(method, path, 401, "api_key_required")
    loading = elsd.get("/v1/capabilities", 200, headers=bob).json()["bank_loading"]
    assert not loading["allowed"] and loading["bank_dir"] is None and str(folder) not in json.dumps(loading)
    assert elsd.get("/v1/capabilities", 200, headers=admin).json()["bank_loading"]["allowed"]
    elsd.post("/v1/banks/flat10", 201, headers=admin)
    # Everybody uses what is loaded.
    elsd.post("/v1/samples", 200, headers=bob, json=SHORT | {"bank": "flat10"})
    # The right is the file's at this moment, not that of the start.
    text = keys.read_text()
    keys.write_text(text.replace(" banks\n", "\n"))
    elsd.process.send_signal(signal.SIGHUP)
    # Asked in a way that changes nothing: before the reload the key has its right still.
    wait_until("the reload", lambda: elsd.get("/v1/banks?available=true", headers=admin).status_code == 403)
    elsd.problem("DELETE", "/v1/banks/flat10", 403, "right_required", headers=admin)
    keys.write_text(text)
    elsd.process.send_signal(signal.SIGHUP)
    wait_until("the reload", lambda: elsd.get("/v1/banks?available=true", headers=admin).status_code == 200)
    elsd.delete("/v1/banks/flat10", 200, headers=admin)


def test_without_keys_only_on_this_machine(start, folder):
    elsd = go(start, folder, "--bind", "0.0.0.0", "--allow-unauthenticated")
    assert "0.0.0.0" in elsd.problem("POST", "/v1/banks/flat10", 403, "right_required")["detail"]


def test_a_bank_dir_that_is_not_there(tmp_path):
    (tmp_path / "file").write_text("x")
    refuses_to_start(tmp_path, "--bank-dir", tmp_path / "nowhere", says=["bank_dir", "nowhere"])
    refuses_to_start(tmp_path, "--bank-dir", tmp_path / "file", says="bank_dir")


# ---- what is refused ----

def test_names_and_bodies_that_are_none(start, folder):
    elsd = go(start, folder)
    for name in (".x", "a b", "é", "x" * 64, "a%2Fb", "..", "%2e%2e"):
        assert elsd.request("POST", f"/v1/banks/{name}", data=b"{}").status_code in (404, 405, 422)
    elsd.problem("POST", "/v1/banks/.x", 422, "invalid_name")
    for body, pointer in (({"file": 3}, "/file"), ({"builtin": []}, "/builtin"), ({"replace": "yes"}, "/replace"),
                          ({"file": "flat10.safetensors", "builtin": "digits"}, "/builtin"), ({"path": "x"}, "/path"),
                          ({"builtin": "nothing"}, "/builtin"), ({"file": "a\0b"}, "/file")):
        problem = elsd.problem("POST", "/v1/banks/a", 422, json=body)
        assert problem["errors"][0]["pointer"] == pointer, problem
    elsd.problem("POST", "/v1/banks/a", 400, data=b"{", headers={"Content-Type": "application/json"})
    elsd.problem("POST", "/v1/banks/a", 415, data=b"x", headers={"Content-Type": "text/plain"})
    elsd.problem("POST", "/v1/banks/nowhere", 404, "bank_file_not_found")
    assert names(elsd) == BASE


def test_no_path_leads_out(start, folder, tmp_path):
    elsd = go(start, folder)
    outside = tmp_path / "outside.safetensors"
    put(outside, bank_bytes(30))
    inner = folder / "inner"
    inner.mkdir()
    put(inner / "in.safetensors", bank_bytes(30))
    (folder / "link.safetensors").symlink_to(outside)
    (folder / "near.safetensors").symlink_to("flat10.safetensors")
    (folder / "up").symlink_to("..")
    (folder / "dangling.safetensors").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.safetensors")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(folder / "socket.safetensors"))
        for file in ("../outside.safetensors", str(outside), "inner/in.safetensors", "up/outside.safetensors", "..",
                     ".", "", "./flat10.safetensors", "/dev/zero", "flat10.safetensors/", "x" * 256, ".flat",
                     "link.safetensors", "near.safetensors", "dangling.safetensors", "up", "inner", "pipe.safetensors",
                     "socket.safetensors"):
            problem = elsd.problem("POST", "/v1/banks/a", 422, "bad_bank_file", json={"file": file})
            assert problem["errors"][0]["pointer"] == "/file" and "bank_dir" in problem["detail"], problem
    if os.geteuid() == 0:
        try:
            os.mknod(folder / "null.safetensors", 0o600 | 0o020000, os.makedev(1, 3))
        except PermissionError:
            pass
        else:
            elsd.problem("POST", "/v1/banks/null", 422, "bad_bank_file")
    assert names(elsd) == BASE


def test_files_that_are_no_banks_get_the_loaders_sentence(start, folder):
    elsd = go(start, folder)
    whole = bank_bytes(10)
    for content, says in ((b"", "at least 8 bytes"), (b"PK\3\4" + b"x" * 100, "header claims"), (whole[:-1], "data_offsets"),
                          (whole + b"x", "bytes of data follow"),
                          (write_safetensors({"pixels": np.zeros(3, np.uint8)}), "no tensor named images"),
                          (write_safetensors({"images": np.full((2, 1, 4, 4), np.nan, np.float32)}), "finite"),
                          (write_safetensors({"images": np.zeros((2, 1, 4, 4), np.uint8),
                                              "labels": np.array([0, -1])}), "label of image 1")):
        put(folder / "bad.safetensors", content)
        problem = elsd.problem("POST", "/v1/banks/bad", 422, "bad_bank_file")
        assert says in problem["detail"] and "bad.safetensors" in problem["detail"], problem
        assert str(folder) not in problem["detail"]
    assert metric(elsd, 'els_bank_loads_total{outcome="failed"}') == 7
    assert names(elsd) == BASE


def test_memory_is_charged_before_it_is_taken(start, folder):
    elsd = go(start, folder, "--memory-limit", 128 * MIB)
    before = charged(elsd)
    with (folder / "huge.safetensors").open("wb") as f:
        f.truncate(1 << 40)
    problem = elsd.problem("POST", "/v1/banks/huge", 413)
    assert "memory_limit" in problem["detail"] or "banks" in problem["detail"]
    # Its labels and their copies are charged as well: the file alone would fit.
    n = 6 * MIB
    put(folder / "labels.safetensors", write_safetensors({"images": np.zeros((n, 1, 1, 1), np.uint8),
                                                          "labels": np.zeros(n, np.int64)}))
    assert (folder / "labels.safetensors").stat().st_size < 64 * MIB
    assert elsd.post("/v1/banks/labels").status_code in (413, 503)
    assert charged(elsd) == before
    put(folder / "much.safetensors", write_safetensors({"images": np.zeros((80 * MIB // 4096, 1, 64, 64), np.uint8)}))
    elsd.post("/v1/banks/much", 201)
    answer = elsd.post("/v1/banks/more", 503, json={"file": "much.safetensors"})
    assert int(answer.headers["Retry-After"]) > 0
    elsd.delete("/v1/banks/much", 200)
    wait_until("the memory", lambda: charged(elsd) == before)
    elsd.post("/v1/banks/more", 201, json={"file": "much.safetensors"})


def test_a_file_that_changes_while_it_is_read(start, folder):
    """Whatever the moment: a whole bank, or a sentence; never a crash, and nothing stays charged."""
    elsd = go(start, folder)
    before, stop = charged(elsd), threading.Event()
    path = folder / "moving.safetensors"
    contents = [bank_bytes(level, 40_000) for level in (1, 2)]
    good = set()
    for n, content in enumerate(contents):
        put(path, content)
        good.add(elsd.post(f"/v1/banks/good{n}", 201, json={"file": path.name}).json()["sha256"])
        elsd.delete(f"/v1/banks/good{n}", 200)

    def disturb():
        for k in range(10_000):
            if stop.is_set():
                return
            if k % 3 == 0:
                put(path, contents[k % 2])
            elif k % 3 == 1:
                path.write_bytes(contents[k % 2])
            else:
                os.truncate(path, len(contents[0]) // 2)
    thread = threading.Thread(target=disturb)
    thread.start()
    seen = set()
    for _ in range(30):
        answer = elsd.post("/v1/banks/moving", json={"replace": True})
        seen.add(answer.status_code)
        assert answer.status_code in (200, 201, 404, 422), answer.text
        if answer.status_code in (200, 201):
            assert answer.json()["sha256"] in good
    stop.set()
    thread.join()
    elsd.delete("/v1/banks/moving")
    wait_until("the memory", lambda: charged(elsd) == before)


# ---- jobs ----

def test_jobs_keep_a_bank_that_is_unloaded_or_replaced(start, folder):
    elsd = go(start, folder)
    before = charged(elsd)
    body = LONG | {"bank": "mine", "num_inference_steps": 50}
    elsd.post("/v1/banks/mine", 201, json={"file": "flat10.safetensors"})
    expected = digest(elsd, elsd.post("/v1/samples", 200, json=body).json())
    blocker = elsd.job(**BUSY)
    jobs = [elsd.post("/v1/jobs", 202, json=body).json() for _ in range(2)]
    elsd.post("/v1/banks/mine", 201, json={"file": "flat20.safetensors", "replace": True})
    other = elsd.post("/v1/jobs", 202, json=body).json()
    assert metric(elsd, 'els_banks{origin="unloaded"}') == 1
    assert elsd.delete("/v1/banks/mine", 200).json()["in_use"] is True
    assert metric(elsd, 'els_banks{origin="unloaded"}') == 2 and charged(elsd) > before + 2 * 64 * 256
    elsd.problem("POST", "/v1/jobs", 422, json=body)
    elsd.delete(f"/v1/jobs/{blocker['id']}")
    for job in jobs:
        assert elsd.finished(job)["status"] == "succeeded" and digest(elsd, job) == expected
    assert elsd.finished(other)["status"] == "succeeded" and digest(elsd, other) != expected
    wait_until("the memory", lambda: charged(elsd) == before)
    assert metric(elsd, 'els_banks{origin="unloaded"}') == 0


def test_a_reload_keeps_loaded_banks(start, folder):
    elsd = start("--bank-dir", folder, config='[banks]\na = "two-tone"\n')

    def reload(text):
        before = metric(elsd, 'els_reloads_total{outcome="done"}')
        (elsd.folder / "config.toml").write_text(text)
        elsd.process.send_signal(signal.SIGHUP)
        wait_until("the reload", lambda: metric(elsd, 'els_reloads_total{outcome="done"}') == before + 1)
    elsd.post("/v1/banks/flat10", 201)
    elsd.post("/v1/banks/flat20", 201)
    reload('[banks]\nb = "two-tone"\na = "two-tone"\n')
    assert names(elsd) == ["b", "a", "flat10", "flat20"]
    job = elsd.post("/v1/jobs", 202, json=LONG | {"bank": "flat10", "num_inference_steps": 50}).json()
    # The configuration takes a name.
    reload(f'[banks]\nflat10 = "{folder}/flat20.safetensors"\n')
    assert names(elsd) == ["flat10", "flat20"]
    assert elsd.get("/v1/banks/flat10", 200).json()["origin"] == "configuration"
    assert elsd.finished(job)["status"] == "succeeded"
    elsd.problem("DELETE", "/v1/banks/flat10", 409, "bank_is_configured")
    assert [b["name"] for b in saved(elsd) if b["offered"]] == ["flat20"]


# ---- restarts ----

def saved(elsd):
    return json.loads((elsd.state_dir / "banks.json").read_text())["banks"]


def test_loaded_banks_and_their_jobs_survive_a_crash(start, folder):
    elsd = go(start, folder)
    body = LONG | {"num_inference_steps": 50}
    for name in ("kept", "replaced", "unloaded"):
        elsd.post(f"/v1/banks/{name}", 201, json={"file": "flat10.safetensors"})
    elsd.post("/v1/banks/numbers", 201, json={"builtin": "two-tone"})
    expected = digest(elsd, elsd.post("/v1/samples", 200, json=body | {"bank": "kept"}).json())
    elsd.job(**BUSY)
    jobs = [elsd.post("/v1/jobs", 202, json=body | {"bank": name}).json() for name in ("kept", "replaced", "unloaded")]
    elsd.post("/v1/banks/replaced", 201, json={"file": "flat20.safetensors", "replace": True})
    elsd.delete("/v1/banks/unloaded", 200)
    assert sorted((b["name"], b["offered"]) for b in saved(elsd)) == [
        ("kept", True), ("numbers", True), ("replaced", False), ("replaced", True), ("unloaded", False)]
    elsd.kill()
    elsd.start()
    assert sorted(names(elsd)) == sorted([*BASE, "kept", "numbers", "replaced"])
    blocker, = (j for j in elsd.get("/v1/jobs", 200).json()["jobs"] if j["params"]["bank"] == "busy")
    elsd.delete(f"/v1/jobs/{blocker['id']}")
    for job in jobs:
        ended = elsd.finished(job)
        assert ended["status"] == "succeeded", ended
        assert digest(elsd, job) == expected
    wait_until("what nobody uses any more to be forgotten", lambda: sorted(b["name"] for b in saved(elsd)) ==
               ["kept", "numbers", "replaced"])
    elsd.stop()
    elsd.start()
    assert "kept" in names(elsd) and elsd.get("/v1/banks/kept", 200).json()["origin"] == "loaded"


def test_a_bank_that_is_gone_at_the_restart(start, folder):
    elsd = go(start, folder)
    elsd.post("/v1/banks/flat10", 201)
    elsd.post("/v1/banks/flat20", 201)
    elsd.job(**BUSY)
    jobs = {name: elsd.post("/v1/jobs", 202, json=SHORT | {"bank": name}).json() for name in ("flat10", "flat20")}
    elsd.kill()
    (folder / "flat10.safetensors").unlink()
    put(folder / "flat20.safetensors", bank_bytes(99))
    elsd.start()
    assert names(elsd) == BASE
    assert elsd.log().count("bank_not_restored") == 2
    for job in jobs.values():
        ended = elsd.get(f"/v1/jobs/{job['id']}", 200).json()
        assert ended["status"] == "failed" and ended["error"]["code"] == "not_restored"
    elsd.post("/v1/banks/flat20", 201)


def test_a_damaged_list_is_put_aside(start, folder):
    elsd = go(start, folder)
    for text in ("", "[]", '{"version": 1', '{"version": 2, "banks": []}', '{"version": 1, "banks": [{"name": "../x"}]}',
                 "[" * 100_000):
        elsd.post("/v1/banks/flat10", 201)
        elsd.stop()
        (elsd.state_dir / "banks.json").write_text(text)
        elsd.start()
        assert "banks_not_restored" in elsd.log() and "flat10" not in names(elsd)
        assert (elsd.state_dir / "banks.json.damaged").read_text() == text
    elsd.post("/v1/banks/flat10", 201)
    assert [b["name"] for b in saved(elsd)] == ["flat10"]


def test_what_cannot_be_written_down_is_not_loaded(start, folder):
    elsd = go(start, folder)
    (elsd.state_dir / "banks.json.tmp").mkdir()
    answer = elsd.post("/v1/banks/flat10", 503)
    assert answer.json()["code"] == "store_failed" and answer.headers["Retry-After"]
    assert names(elsd) == BASE
    (elsd.state_dir / "banks.json.tmp").rmdir()
    elsd.post("/v1/banks/flat10", 201)


def test_without_a_state_dir(start, folder):
    elsd = go(start, folder, state=False)
    elsd.post("/v1/banks/flat10", 201)
    elsd.stop()
    elsd.start()
    assert names(elsd) == BASE


# ---- many ----

def slow_bank(path, mib):
    """Large enough that its load is still under way when the next requests come."""
    part = path.with_suffix(".part")
    size = mib * MIB
    header = json.dumps({"images": {"dtype": "U8", "shape": [size // 65536, 1, 256, 256],
                                    "data_offsets": [0, size]}}).encode()
    with part.open("wb") as f:
        f.write(len(header).to_bytes(8, "little") + header)
        f.truncate(8 + len(header) + size)
    part.rename(path)


def test_a_load_waits_its_turn_and_holds_nobody_up(start, folder):
    elsd = go(start, folder, "--memory-limit", 4 << 30)
    before = charged(elsd)
    slow_bank(folder / "slow.safetensors", 400)
    later = {"Prefer": "wait=0"}
    elsd.post("/v1/banks/slow", 202, headers=later)
    # The same again joins it, another of that name does not; the line has an end.
    elsd.post("/v1/banks/slow", 202, headers=later)
    elsd.problem("POST", "/v1/banks/slow", 409, "bank_loading", json={"file": "flat10.safetensors"})
    for n in range(8):
        elsd.post(f"/v1/banks/b{n}", 202, headers=later, json={"file": "flat10.safetensors"})
    busy = elsd.post("/v1/banks/b8", 503, headers=later, json={"file": "flat10.safetensors"})
    assert busy.json()["code"] == "loader_busy" and int(busy.headers["Retry-After"]) > 0
    # Everything else goes on.
    elsd.get("/healthz", 200)
    elsd.get("/v1/capabilities", 200)
    elsd.sample(bank="two-tone", max_samples=2)
    assert elsd.get("/v1/banks/b7/load", 200).json()["status"] == "waiting"
    # DELETE ends one that waits, and the one that loads.
    elsd.delete("/v1/banks/b7", 200)
    load = elsd.get("/v1/banks/b7/load", 200).json()
    assert load["status"] == "failed" and load["error"]["code"] == "load_cancelled"
    elsd.delete("/v1/banks/slow", 200)
    wait_until("the others", lambda: set(names(elsd)) >= {f"b{n}" for n in range(7)})
    assert elsd.get("/v1/banks/slow/load", 200).json()["error"]["code"] == "load_cancelled"
    assert "slow" not in names(elsd) and "b7" not in names(elsd)
    for n in range(7):
        elsd.delete(f"/v1/banks/b{n}", 200)
    wait_until("the memory", lambda: charged(elsd) == before)


def test_a_client_that_hangs_up_stops_nothing(start, folder):
    elsd = go(start, folder)
    for n in range(5):
        with elsd.raw() as connection:
            connection.sendall(f"POST /v1/banks/hung{n} HTTP/1.1\r\nHost: localhost\r\n"
                               "Content-Type: application/json\r\nContent-Length: 22\r\n\r\n"
                               '{"builtin":"two-tone"}'.encode())
            wait_until("the load to begin", lambda: elsd.get(f"/v1/banks/hung{n}/load").status_code == 200)
    wait_until("the loads", lambda: set(names(elsd)) >= {f"hung{n}" for n in range(5)})


def test_sigterm_does_not_wait_for_a_load(start, folder):
    elsd = go(start, folder, "--memory-limit", 8 << 30)
    slow_bank(folder / "slow.safetensors", 2000)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(lambda: elsd.post("/v1/banks/slow"))
        wait_until("the load to begin", lambda: elsd.get("/v1/banks/slow/load").status_code == 200)
        elsd.process.send_signal(signal.SIGTERM)
        answer = waiting.result()
        assert answer.status_code == 503 and answer.json()["code"] == "draining"
    assert elsd.process.wait(60) == 0


def test_many_clients_at_once(start, folder):
    elsd = go(start, folder)
    before = charged(elsd)

    def client(seed):
        seen = set()
        for k in range(12):
            name = f"n{(seed + k) % 5}"
            body = {"file": f"flat{10 + 10 * ((seed + k) % 2)}.safetensors", "replace": k % 3 == 0}
            seen.add(elsd.post(f"/v1/banks/{name}", json=body).status_code)
            seen.add(elsd.post("/v1/samples", json=SHORT | {"bank": name}).status_code)
            seen.add(elsd.delete(f"/v1/banks/{name}").status_code)
        return seen
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        seen = set().union(*pool.map(client, range(12)))
    assert seen <= {200, 201, 202, 404, 409, 422, 429, 503}, seen
    for name in names(elsd):
        elsd.delete(f"/v1/banks/{name}")
    assert names(elsd) == BASE
    wait_until("the memory", lambda: charged(elsd) == before)
    assert not saved(elsd)


def test_no_more_than_64(start, folder):
    elsd = go(start, folder)
    for n in range(64):
        elsd.post(f"/v1/banks/n{n}", 201, json={"file": "flat10.safetensors"})
    assert "64" in elsd.problem("POST", "/v1/banks/more", 409, "too_many_banks", json={"file": "flat10.safetensors"})["detail"]
    elsd.delete("/v1/banks/n3", 200)
    wait_until("a place", lambda: elsd.post("/v1/banks/more", json={"file": "flat10.safetensors"}).status_code == 201)


def rss(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def test_rounds_leave_nothing_behind(start, folder):
    # A sanitizer keeps freed memory for a while, which would look like growth.
    elsd = go(start, folder, "--log-level", "warning",
                 env={"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=1:thread_local_quarantine_size_kb=16"})
    put(folder / "large.safetensors", bank_bytes(7, 40_000))

    def rounds(n):
        for k in range(n):
            elsd.post("/v1/banks/large", 201, json={"replace": k % 2 == 0})
            elsd.post("/v1/banks/digits2", 201, json={"builtin": "two-tone"})
            elsd.delete("/v1/banks/large", 200)
            elsd.delete("/v1/banks/digits2", 200)
        wait_until("the memory", lambda: charged(elsd) == before)
        return rss(elsd.pid), sum(elsd.descriptors().values())
    before = charged(elsd)
    warm, end = rounds(3), rounds(50)
    assert end[0] < warm[0] + 8 * MIB  # one bank is 10 MB
    assert end[1] < warm[1] + 25  # a few that come and go, such as connections; a leak in each round would be fifty
