"""API keys: els key, who gets in, what each key sees, and how much each may ask for."""
import os
import re
import stat
import subprocess

import pytest

from daemon import ELS, QUICK, refuses_to_start, wait_until

LONG = {"bank": "digits", "num_inference_steps": 2000, "scales": 3, "outputs": ["image"], "num_images": 8}


def els(*arguments, status=0):
    done = subprocess.run([ELS, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout if status == 0 else done.stderr


@pytest.fixture
def keys(tmp_path):
    """A file with two keys, and their texts."""
    file = tmp_path / "keys"
    return file, {name: els("key", "add", file, name).strip() for name in ("alice", "bob")}


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


# ---- els key ----

def test_the_file_holds_no_key_and_is_its_owners_alone(keys):
    file, texts = keys
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert all(re.fullmatch("els_[0-9a-f]{64}", text) for text in texts.values())
    assert texts["alice"] != texts["bob"]
    assert not any(text in file.read_text() or text[4:] in file.read_text() for text in texts.values())
    assert els("key", "list", file) == "alice\nbob\n"


def test_the_mode_does_not_depend_on_the_umask(tmp_path):
    subprocess.run(["sh", "-c", 'umask 0; "$0" key add keys alice', ELS], cwd=tmp_path, check=True,
                   stdout=subprocess.DEVNULL)
    assert stat.S_IMODE(os.stat(tmp_path / "keys").st_mode) == 0o600


def test_names_are_checked_and_unique(keys):
    file, _ = keys
    assert "already" in els("key", "add", file, "alice", status=1)
    for name in ("", "a b", "a/b", "é", "x" * 64):
        assert "no name" in els("key", "add", file, name, status=1)
    assert "has no key" in els("key", "remove", file, "carol", status=1)
    els("key", "remove", file, "alice")
    assert els("key", "list", file) == "bob\n"


# ---- the daemon and the file ----

@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_refuses_a_file_that_others_can_open(keys, tmp_path, mode):
    file, _ = keys
    file.chmod(mode)
    refuses_to_start(tmp_path, "--keys-file", file, says=[f"{mode:03o}", "chmod 600"])


@pytest.mark.parametrize("text, says", [
    ("", "no key"),
    ("# nothing but words\n", "no key"),
    ("alice\n", "line 1"),
    ("alice 1234\n", "line 1"),
    (f"alice {'A' * 64}\n", "line 1"),
    (f"alice {'a' * 64} more\n", "line 1"),
    (f"a/b {'a' * 64}\n", "line 1"),
    (f"bob {'a' * 64}\nbob {'b' * 64}\n", "twice"),
    (f"bob {'a' * 64}\n\0\n", "NUL"),
    ("".join(f"n{i} {i:064x}\n" for i in range(1001)), "more than 1000"),
])
def test_refuses_a_file_that_is_none(tmp_path, text, says):
    file = tmp_path / "keys"
    file.write_text(text)
    file.chmod(0o600)
    refuses_to_start(tmp_path, "--keys-file", file, says=says)


def test_refuses_what_is_no_file(tmp_path):
    refuses_to_start(tmp_path, "--keys-file", tmp_path, says=str(tmp_path))
    refuses_to_start(tmp_path, "--keys-file", "/nowhere/keys", says="/nowhere/keys")


def test_keys_allow_a_bind_beyond_this_machine(start, keys):
    file, texts = keys
    elsd = start("--bind", "0.0.0.0", "--keys-file", file)
    elsd.problem("GET", "/v1/jobs", 401)
    elsd.get("/v1/jobs", 200, headers=bearer(texts["bob"]))


# ---- who gets in ----

def test_who_gets_in(start, keys):
    file, texts = keys
    elsd = start("--keys-file", file)
    for path in ("/healthz", "/readyz", "/", "/openapi.json"):
        elsd.get(path, 200)
    for method, path in (("GET", "/v1/jobs"), ("GET", "/v1/capabilities"), ("GET", "/v1/banks"), ("GET", "/metrics"),
                         ("POST", "/v1/samples"), ("POST", "/v1/jobs"), ("DELETE", "/v1/jobs/" + "0" * 32)):
        elsd.problem(method, path, 401, "api_key_required")
        assert elsd.request(method, path).headers["WWW-Authenticate"].startswith("Bearer")
    wrong = [texts["alice"][:-1], texts["alice"] + "0", texts["alice"].upper(), "alice", "els_" + "0" * 64, "x" * 5000]
    for key in wrong:
        elsd.problem("GET", "/v1/jobs", 401, "invalid_api_key", headers=bearer(key))
    for header in ("", "Bearer", "Bearer ", "Basic " + texts["alice"], texts["alice"], "Bearer\t" + texts["alice"]):
        elsd.request("GET", "/v1/jobs", 401, headers={"Authorization": header})
    for header in ("Bearer " + texts["alice"], "bearer  " + texts["alice"]):
        elsd.get("/v1/jobs", 200, headers={"Authorization": header})
    # A browser asks for leave before it sends a key.
    elsd.request("OPTIONS", "/v1/jobs", 204)
    assert texts["alice"] not in elsd.log()


def test_a_refused_body_is_not_the_next_request(start, keys):
    file, texts = keys
    elsd = start("--keys-file", file)
    for _ in range(3):
        elsd.problem("POST", "/v1/samples", 401, data=b"GET / HTTP/1.1\r\n\r\n" * 1000,
                     headers={"Content-Type": "application/json"})
        elsd.get("/v1/jobs", 200, headers=bearer(texts["alice"]))


def test_a_key_sees_its_own_jobs_alone(start, keys):
    file, texts = keys
    alice, bob = bearer(texts["alice"]), bearer(texts["bob"])
    elsd = start("--keys-file", file)
    done = elsd.post("/v1/samples", 200, headers=alice, json=QUICK).json()
    running = elsd.post("/v1/jobs", 202, headers=alice, json=LONG).json()
    elsd.post("/v1/samples", 200, headers=bob, json=QUICK)
    assert [j["id"] for j in elsd.get("/v1/jobs", 200, headers=alice).json()["jobs"]] == [running["id"], done["id"]]
    assert done["id"] not in elsd.get("/v1/jobs", 200, headers=bob).text
    assert not elsd.get("/v1/jobs?status=running", 200, headers=bob).json()["jobs"]
    for job in (done["id"], running["id"]):
        for path in ("", "/images/0", "/images/0/steps/0", "/tensors", "/events"):
            elsd.problem("GET", f"/v1/jobs/{job}{path}", 404, "job_not_found", headers=bob)
        elsd.problem("DELETE", f"/v1/jobs/{job}", 404, "job_not_found", headers=bob)
    assert elsd.get(f"/v1/jobs/{running['id']}", 200, headers=alice).json()["status"] in ("queued", "running")
    elsd.get(f"/v1/jobs/{done['id']}/images/0", 200, headers=alice)
    elsd.delete(f"/v1/jobs/{running['id']}", headers=alice)
    # Without keys everybody sees all, also what keys had made.
    elsd.stop()
    elsd.flags.remove("--keys-file")
    elsd.flags.remove(file)
    elsd.start()
    assert len(elsd.get("/v1/jobs", 200).json()["jobs"]) == 3


def test_idempotency_is_each_keys_own(start, keys):
    file, texts = keys
    elsd = start("--keys-file", file)
    ids = {name: elsd.post("/v1/jobs", headers=bearer(key) | {"Idempotency-Key": "one"}, json=QUICK).json()["id"]
           for name, key in texts.items()}
    assert ids["alice"] != ids["bob"]


# ---- how much ----

def test_jobs_per_key(start, keys):
    file, texts = keys
    alice, bob = bearer(texts["alice"]), bearer(texts["bob"])
    elsd = start("--keys-file", file, "--max-jobs-per-key", 2)
    mine = [elsd.post("/v1/jobs", 202, headers=alice, json=LONG).json() for _ in range(2)]
    problem = elsd.problem("POST", "/v1/jobs", 429, "key_limit", headers=alice, json=QUICK)
    assert "alice" in problem["detail"] and " 2 " in problem["detail"]
    assert 1 <= int(elsd.post("/v1/jobs", 429, headers=alice, json=QUICK).headers["Retry-After"]) <= 600
    assert "els_jobs_refused_total{limit=\"key\"} 2\n" in elsd.get("/metrics", 200, headers=alice).text
    other = elsd.post("/v1/jobs", 202, headers=bob, json=LONG).json()
    # A place is free again once a job has ended, also after a crash and a restart.
    elsd.kill()
    elsd.start()
    elsd.problem("POST", "/v1/jobs", 429, "key_limit", headers=alice, json=QUICK)
    elsd.delete(f"/v1/jobs/{mine[1]['id']}", headers=alice)
    wait_until("a place", lambda: elsd.post("/v1/jobs", headers=alice, json=QUICK).status_code == 202)
    for job, who in ((mine[0], alice), (other, bob)):
        elsd.delete(f"/v1/jobs/{job['id']}", headers=who)


def test_jobs_per_address(start):
    elsd = start("--max-jobs-per-address", 1)
    job = elsd.job(**LONG)
    elsd.problem("POST", "/v1/jobs", 429, "address_limit", json=QUICK)
    elsd.delete(f"/v1/jobs/{job['id']}")
    elsd.finished(job)
    elsd.sample()
