"""What the daemon keeps: retention at any time, inputs of jobs that wait, and a database that somebody has edited.

The database is read beside the running daemon, and edited only while it is down.
"""
import base64
import concurrent.futures
import contextlib
import io
import sqlite3
import subprocess

import numpy as np
import pytest

from daemon import ELS, QUICK, wait_until
from formats import SAFETENSORS, write_safetensors

MIB = 1 << 20
LARGE = {"bank": "digits", "num_inference_steps": 2000, "scales": 15, "outputs": ["image"], "num_images": 8}


def ask(elsd, sql, *values):
    """One number out of the database."""
    with contextlib.closing(sqlite3.connect(f"file:{elsd.state_dir}/jobs.sqlite3?mode=ro", uri=True)) as db:
        return db.execute(sql, values).fetchone()[0]


def edit(elsd, sql, *values):
    with contextlib.closing(sqlite3.connect(elsd.state_dir / "jobs.sqlite3")) as db, db:
        assert db.execute(sql, values).rowcount > 0, sql


def calibration(images=2, times=2, **params):
    """A body of images x times x 8 KiB."""
    xt = np.zeros((images, times, 1, 32, 32), np.float32)
    xt += np.random.default_rng(images).standard_normal(xt.shape).astype(np.float32)
    t = np.linspace(1, 0.5, times).astype(np.float32)
    return write_safetensors({"t": t, "xt": xt, "eps": xt}, params={"bank": "two-tone", "p": [3]} | params)


def post(elsd, body, status=202):
    return elsd.post("/v1/calibrations", status, data=body, headers={"Content-Type": SAFETENSORS,
                                                                     "Prefer": "respond-async"}).json()


def started(elsd, **fields):
    job = elsd.job(**fields)
    wait_until("the job to run", lambda: elsd.get(f"/v1/jobs/{job['id']}", 200).json()["status"] == "running")
    return job


# ---- retention ----

@pytest.mark.parametrize("state", [True, False], ids=["disk", "memory"])
def test_retention_holds_at_any_time(start, state):
    elsd = start("--retention-bytes", MIB, state=state)
    fields = {"num_inference_steps": 2, "num_images": 8, "max_samples": 2}

    def client(seed):
        return [elsd.sample(**fields, seed=100 * seed + i)["id"] for i in range(8)]

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client, seed) for seed in range(3)]
        while state and not all(c.done() for c in clients):
            assert ask(elsd, "SELECT coalesce(sum(bytes), 0) FROM jobs WHERE status > 1") <= MIB
        ids = [id for c in clients for id in c.result()]
    kept = [id for id in ids if elsd.get(f"/v1/jobs/{id}").status_code == 200]
    # Each takes some 90 KB and more: 24 of them are twice what may be kept.
    assert 3 <= len(kept) <= 12
    assert {elsd.get(f"/v1/jobs/{id}").status_code for id in set(ids) - set(kept)} == {410}
    if state:
        assert ask(elsd, "SELECT sum(length(data)) FROM tensors") <= MIB


def test_a_result_that_could_not_be_kept_is_refused_at_once(start):
    elsd = start("--retention-bytes", MIB)
    problem = elsd.problem("POST", "/v1/jobs", 413, "result_too_large",
                           json=QUICK | {"num_images": 16, "num_inference_steps": 10, "outputs": ["x0"]})
    assert str(MIB // 2) in problem["detail"]
    assert elsd.get("/v1/capabilities", 200).json()["limits"]["result_bytes"]["max"] == MIB // 2


# ---- inputs ----

def test_inputs_go_with_the_end_of_their_job(start):
    """Succeeded, failed, cancelled while it waited: nothing stays, and nobody's results went for it."""
    elsd = start("--retention-bytes", MIB, "--queue-bytes", 16 * MIB)
    done = elsd.sample()
    large = started(elsd, **LARGE)
    jobs = [post(elsd, calibration(8, 40)) for _ in range(3)]
    assert ask(elsd, "SELECT sum(length(data)) FROM tensors WHERE name='inputs'") > 3 * 2 * MIB
    assert ask(elsd, "SELECT sum(bytes) FROM jobs WHERE status > 1") <= MIB
    for job in jobs:  # one of them may have begun beside the large one
        elsd.delete(f"/v1/jobs/{job['id']}")
        assert elsd.finished(job)["status"] == "cancelled"
    assert ask(elsd, "SELECT count(*) FROM tensors WHERE name='inputs'") == 0
    elsd.delete(f"/v1/jobs/{large['id']}", 202)
    assert elsd.finished(post(elsd, calibration()))["status"] == "succeeded"
    assert ask(elsd, "SELECT count(*) FROM tensors WHERE name='inputs'") == 0
    assert elsd.get(f"/v1/jobs/{done['id']}", 200).json() == done


@pytest.mark.parametrize("state", [True, False], ids=["disk", "memory"])
def test_what_waits_is_bounded(start, state):
    elsd = start("--queue-bytes", 4 * MIB, state=state)
    large = started(elsd, **LARGE)
    body = calibration(8, 24)  # 1.5 MiB
    accepted = [post(elsd, body) for _ in range(2)]
    answer = elsd.post("/v1/calibrations", 429, data=body, headers={"Content-Type": SAFETENSORS})
    assert answer.json()["code"] == "queue_full" and "queue_bytes" in answer.json()["detail"]
    assert int(answer.headers["Retry-After"]) >= 1
    problem = elsd.problem("POST", "/v1/calibrations", 413, "inputs_too_large", data=calibration(8, 100),
                           headers={"Content-Type": SAFETENSORS})
    assert "queue_bytes" in problem["detail"]
    elsd.delete(f"/v1/jobs/{accepted[0]['id']}", 200)
    post(elsd, body)  # there is room again
    elsd.delete(f"/v1/jobs/{large['id']}", 202)


def test_tensors_that_waited_in_the_store_give_the_same_bytes(start):
    elsd = start()
    noise = np.random.default_rng(1).standard_normal((2, 1, 32, 32)).astype(np.float32)
    body = write_safetensors({"mine": noise}, params=QUICK | {"noise": "mine", "seed": None, "num_images": 2})

    def submit():
        return elsd.post("/v1/jobs", 202, data=body, headers={"Content-Type": SAFETENSORS}).json()

    first = elsd.finished(submit())
    large = started(elsd, **LARGE)
    waited = [submit(), submit()]
    elsd.kill()
    elsd.start()
    elsd.delete(f"/v1/jobs/{large['id']}")
    images = [elsd.get(f"/v1/jobs/{elsd.finished(job)['id']}/tensors?name=images", 200).content for job in [first, *waited]]
    assert images[0] == images[1] == images[2]


def test_a_name_of_two_fields(start):
    """The same tensor as two fields: it is stored once, and the job begins after a wait all the same."""
    elsd = start()
    job = elsd.finished(post(elsd, calibration(2, 2, xt="xt", eps="xt")))
    assert job["status"] == "succeeded", job


# ---- whose job it was ----

def test_only_its_own_key_learns_that_a_job_was_there(start, tmp_path):
    file = tmp_path / "keys"
    keys = {name: {"Authorization": "Bearer " + subprocess.run(
        [ELS, "key", "add", file, name], capture_output=True, text=True, check=True).stdout.strip()}
        for name in ("alice", "bob")}
    elsd = start("--keys-file", file)
    job = elsd.post("/v1/samples", 200, json=QUICK, headers=keys["alice"]).json()
    path = f"/v1/jobs/{job['id']}"
    elsd.delete(path, 200, headers=keys["alice"])
    for rest in ("", "/images/0", "/tensors", "/events"):
        elsd.problem("GET", path + rest, 410, headers=keys["alice"])
        elsd.problem("GET", path + rest, 404, "job_not_found", headers=keys["bob"])
    elsd.problem("DELETE", path, 404, headers=keys["bob"])


# ---- lists ----

def test_a_page_of_jobs_is_bounded(start):
    elsd = start()
    npy = io.BytesIO()
    np.save(npy, np.zeros((64, 1, 32, 32), np.float32))
    noise = {"npy_base64": base64.b64encode(npy.getvalue()).decode()}  # 350 KB in each record
    ids = [elsd.job(num_images=64, noise=noise, seed=None, num_inference_steps=2, max_samples=1)["id"]
           for _ in range(14)]
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = elsd.get(f"/v1/jobs?limit=100{cursor and '&cursor='}{cursor}", 200).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor, pages = page["next_cursor"], pages + 1
        assert len(page["jobs"]) <= 12
    assert seen == ids[::-1] and pages >= 2


def test_a_page_of_scales_is_bounded(start):
    elsd = start()
    def schedule(n):
        return {"t": [(i + 0.12345678901) / n for i in range(n)], "p": [3] * n}
    names = [f"s{i:02}" for i in range(24)]
    for name in names:
        elsd.request("PUT", f"/v1/scales/{name}", 201, json=schedule(2200))
    elsd.problem("PUT", "/v1/scales/large", 413, "scales_too_large", json=schedule(10000))
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        answer = elsd.get(f"/v1/scales?{cursor and 'cursor='}{cursor}", 200)
        page = answer.json()
        assert len(answer.content) < 1.5 * MIB
        seen += [s["name"] for s in page["scales"] if not s["preset"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert seen == names and pages >= 2
    assert [s["name"] for s in elsd.get("/v1/scales?limit=2&cursor=s03", 200).json()["scales"]] == ["s04", "s05"]


# ---- a database that somebody has edited ----

def damage_lines(elsd):
    return [line for line in elsd.log().splitlines() if "store_damaged" in line]


DAMAGE = [
    ("num_images", 1 << 62), ("num_steps", (1 << 31) - 1), ("depth", 0), ("height", -5), ("channels", "many"),
    ("outputs", 1 << 40), ("status", 77), ("params", "{"), ("result", "[1,"), ("kind", "dream"), ("steps_done", 9999),
    ("created", 1 << 61), ("bank_sha256", "zz"), ("engine", b"\0\1"), ("params", "x" * 100000),
]


def test_a_damaged_row_is_one_jobs_error(start):
    elsd = start()
    sound, hurt = elsd.sample(), [elsd.sample(seed=8) for _ in DAMAGE]
    elsd.stop()
    for job, (column, value) in zip(hurt, DAMAGE):
        edit(elsd, f"UPDATE jobs SET {column}=? WHERE id=?", value, job["id"])
    elsd.start()
    for job, damage in zip(hurt, DAMAGE):
        for rest in ("", "/images/0", "/tensors", "/images/0/steps/1", "/images/0?zoom=2"):
            problem = elsd.problem("GET", f"/v1/jobs/{job['id']}{rest}", 500, "damaged")
            assert "damaged" in problem["detail"], damage
    # No list shows the result, and so none stumbles over it.
    left = [sound["id"]] + [job["id"] for job, damage in zip(hurt, DAMAGE) if damage[0] == "result"]
    assert sorted(job["id"] for job in elsd.get("/v1/jobs", 200).json()["jobs"]) == sorted(left)
    assert elsd.get(f"/v1/jobs/{sound['id']}", 200).json() == sound
    for job in hurt:
        assert sum(job["id"] in line for line in damage_lines(elsd)) == 1
        elsd.delete(f"/v1/jobs/{job['id']}", 200)
        elsd.problem("GET", f"/v1/jobs/{job['id']}", 410)
    elsd.sample()


def flipped(blob, at):
    return blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1:]


def test_flipped_bits_are_not_served(start):
    elsd = start()
    job = elsd.sample(num_images=2, outputs=["image", "x0"])
    path = f"/v1/jobs/{job['id']}"
    elsd.stop()
    with contextlib.closing(sqlite3.connect(elsd.state_dir / "jobs.sqlite3")) as db, db:
        for table, column, where in [("pictures", "png", "image=0"), ("tensors", "data", "name='x0' AND image=1"),
                                     ("tensors", "data", "name='images' AND image=0")]:
            (blob,) = db.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
            db.execute(f"UPDATE {table} SET {column}=? WHERE {where}", (flipped(blob, len(blob) // 2),))
    elsd.start()
    for rest in ("/images/0", "/images/1/steps/1", "/images/0?zoom=2", "/tensors", "/tensors?name=x0"):
        elsd.problem("GET", path + rest, 500, "damaged")
    for rest in ("", "/images/1", "/images/0/steps/1", "/images/1?zoom=2"):
        elsd.get(path + rest, 200)
    elsd.stop()
    # An older version stored no digests: its results are served as they are.
    edit(elsd, "UPDATE tensors SET digest=NULL")
    elsd.start()
    elsd.get(path + "/tensors", 200)


def test_a_damaged_job_that_waits_ends(start):
    elsd = start("--threads", 1)
    large = started(elsd, **LARGE)
    waiting = [elsd.job(seed=i) for i in range(3)] + [post(elsd, calibration()) for _ in range(2)]
    elsd.kill()
    edit(elsd, "UPDATE jobs SET num_images=? WHERE id=?", 1 << 62, waiting[0]["id"])
    edit(elsd, "UPDATE jobs SET params='{' WHERE id=?", waiting[1]["id"])
    (blob,) = sqlite3.connect(elsd.state_dir / "jobs.sqlite3").execute(
        "SELECT data FROM tensors WHERE name='inputs' LIMIT 1").fetchone()
    edit(elsd, "UPDATE tensors SET data=? WHERE job=(SELECT sequence FROM jobs WHERE id=?)",
         flipped(blob, len(blob) - 5), waiting[3]["id"])
    elsd.start()
    elsd.delete(f"/v1/jobs/{large['id']}")  # small ones may run beside it by now
    ends = [elsd.finished(job) for job in waiting]
    assert [end["status"] for end in ends] == ["failed", "failed", "succeeded", "failed", "succeeded"]
    assert [ends[i]["error"]["code"] for i in (0, 1, 3)] == ["damaged", "damaged", "not_restored"]
    assert ask(elsd, "SELECT count(*) FROM tensors WHERE name='inputs'") == 0
    elsd.serves()
