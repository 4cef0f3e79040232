"""SIGHUP: banks, keys and log settings are read again; a broken one changes nothing; running jobs keep their bank."""
import hashlib
import json
import signal
import subprocess
import threading

import numpy as np

from daemon import ELS, wait_until
from formats import write_safetensors

LONG = {"bank": "mine", "num_inference_steps": 300, "scales": 3, "machine": "ls", "num_images": 4, "seed": 1}


def write_bank(path, level, n=64):
    """A bank of n flat 16×16 images around one level: every level gives other images. Replaced as a whole."""
    levels = ((level + np.arange(n)) % 256).astype(np.uint8)
    part = path.with_suffix(".part")
    part.write_bytes(write_safetensors({"images": levels.repeat(256).reshape(n, 1, 16, 16)}))
    part.rename(path)


def reload(elsd, outcome="done"):
    def count():
        line = next(l for l in elsd.get("/metrics", headers=elsd.auth).text.splitlines()
                    if l.startswith(f'els_reloads_total{{outcome="{outcome}"}}'))
        return int(line.split()[-1])
    before = count()
    elsd.process.send_signal(signal.SIGHUP)
    wait_until("the reload", lambda: count() == before + 1)


def start_with(start, folder, bank, extra="", auth=None):
    elsd = start(config=f'{extra}\n[banks]\nmine = "{bank}"\n')
    elsd.auth = auth
    return elsd


def digest(elsd, job):
    return hashlib.sha256(elsd.get(f"/v1/jobs/{job['id']}/tensors", 200).content).hexdigest()


def test_jobs_keep_the_bank_they_were_accepted_for(start, tmp_path):
    bank = tmp_path / "bank.safetensors"
    write_bank(bank, 10)
    elsd = start_with(start, tmp_path, bank)
    old = elsd.get("/v1/banks/mine", 200).json()["sha256"]
    expected = digest(elsd, elsd.post("/v1/samples", 200, json=LONG).json())
    jobs = [elsd.accepted("/v1/jobs", json=LONG) for _ in range(3)]  # one runs, two wait
    write_bank(bank, 200)
    reload(elsd)
    new = elsd.get("/v1/banks/mine", 200).json()["sha256"]
    assert new != old
    after = elsd.post("/v1/samples", json=LONG).json()
    assert digest(elsd, elsd.finished(after)) != expected
    for job in jobs:
        assert elsd.finished(job)["status"] == "succeeded"
        assert digest(elsd, job) == expected


def test_a_broken_bank_changes_nothing(start, tmp_path):
    bank = tmp_path / "bank.safetensors"
    write_bank(bank, 10)
    elsd = start_with(start, tmp_path, bank)
    before = elsd.get("/v1/banks", 200).json()
    config = elsd.folder / "config.toml"
    for text in ('[banks]\nmine = "/nowhere.safetensors"\n', f'[banks]\nother = "digits"\nmine = "{config}"\n',
                 "this is no TOML\n", "a." * 50000 + "a = 1\n", 'log_level = "loud"\n', 'log_format = "json"\n[banks]\na = "nothing"\n'):
        config.write_text(text)
        reload(elsd, "failed")
        assert elsd.get("/v1/banks", 200).json() == before
        elsd.get("/readyz", 200)
        elsd.post("/v1/samples", 200, json=LONG | {"num_inference_steps": 3})
    elsd.logged("reload_failed", 6)
    elsd.logged("reload_failed", 6)
    assert elsd.log().count("reload_failed") == 6 and '{"time"' not in elsd.log()


def test_banks_come_and_go(start, tmp_path):
    bank = tmp_path / "bank.safetensors"
    write_bank(bank, 10)
    elsd = start_with(start, tmp_path, bank)
    job = elsd.accepted("/v1/jobs", json=LONG)
    (elsd.folder / "config.toml").write_text('[banks]\nhalves = "two-tone"\n')
    reload(elsd)
    assert [b["name"] for b in elsd.get("/v1/banks", 200).json()["banks"]] == ["halves"]
    elsd.problem("GET", "/v1/banks/mine", 404)
    elsd.problem("POST", "/v1/samples", 422, json=LONG)
    assert elsd.finished(job)["status"] == "succeeded"
    elsd.get(f"/v1/jobs/{job['id']}/images/0", 200)
    assert elsd.get("/v1/capabilities", 200).json()["defaults"]["bank"] == "halves"


def test_log_settings_and_those_that_wait(start, tmp_path):
    bank = tmp_path / "bank.safetensors"
    write_bank(bank, 10)
    elsd = start_with(start, tmp_path, bank, "queue_length = 5")
    (elsd.folder / "config.toml").write_text(
        f'queue_length = 9\nlog_format = "json"\nlog_level = "debug"\n[banks]\nmine = "{bank}"\n')
    reload(elsd)
    wait_until("the last line", lambda: '"event":"reloaded"' in elsd.log())
    lines = [json.loads(line) for line in elsd.log().splitlines() if line.startswith("{")]
    named = [line["setting"] for line in lines if line["event"] == "setting_needs_restart"]
    assert named == ["queue_length"]
    assert elsd.get("/v1/capabilities", 200).json()["limits"]["queue_length"]["max"] == 5


def test_keys(start, tmp_path):
    bank, keys = tmp_path / "bank.safetensors", tmp_path / "keys"
    write_bank(bank, 10)

    def key(*arguments):
        return subprocess.run([ELS, "key", *map(str, arguments)], check=True, capture_output=True,
                              text=True).stdout.strip()
    alice = {"Authorization": "Bearer " + key("add", keys, "alice")}
    elsd = start_with(start, tmp_path, bank, f'keys_file = "{keys}"', alice)
    bob = {"Authorization": "Bearer " + key("add", keys, "bob")}
    elsd.problem("GET", "/v1/jobs", 401, headers=bob)
    reload(elsd)
    elsd.get("/v1/jobs", 200, headers=bob)
    keys.chmod(0o644)
    reload(elsd, "failed")
    elsd.get("/v1/jobs", 200, headers=bob)
    keys.chmod(0o600)
    # Keys cannot be switched off under a running daemon.
    (elsd.folder / "config.toml").write_text(f'[banks]\nmine = "{bank}"\n')
    key("remove", keys, "bob")
    reload(elsd)
    elsd.problem("GET", "/v1/jobs", 401, headers=bob)
    elsd.problem("GET", "/v1/jobs", 401)
    elsd.get("/v1/jobs", 200, headers=alice)


def test_requests_go_on_during_reloads(start, tmp_path):
    bank = tmp_path / "bank.safetensors"
    write_bank(bank, 0)
    elsd = start_with(start, tmp_path, bank)
    stop, failures = threading.Event(), []

    def ask(path):
        while not stop.is_set():
            if elsd.get(path).status_code != 200:
                failures.append(path)

    threads = [threading.Thread(target=ask, args=(path,)) for path in
               ("/v1/banks", "/v1/banks/mine/images/3", "/metrics", "/v1/capabilities", "/healthz")]
    for thread in threads:
        thread.start()
    for level in range(30):
        write_bank(bank, level)
        reload(elsd)
        elsd.post("/v1/samples", 200, json=LONG | {"num_inference_steps": 3})
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
