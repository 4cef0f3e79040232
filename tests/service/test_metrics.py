"""GET /metrics: Prometheus' text format, the right numbers, and an answer while every worker computes."""
import re
import subprocess
import threading

from daemon import wait_until
from tools import tool

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"')
TYPES = {"counter", "gauge", "histogram"}


def parse(text):
    """{name: {labels: value}} of a page that keeps every rule of the format, or an assertion that says which not."""
    assert text.endswith("\n")
    found, types, helped, family = {}, {}, set(), None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family, words = line[7:].split(" ", 1)
            assert family not in helped and words, line
            helped.add(family)
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name == family and kind in TYPES and name not in types, line
            types[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match[1], tuple(LABEL.findall(match[2] or "")), float(match[3])
            if types[family] == "histogram":
                assert name in (family + "_bucket", family + "_sum", family + "_count"), line
            else:
                assert name == family, line
            assert types[family] != "counter" or (name.endswith("_total") and value >= 0), line
            samples = found.setdefault(name, {})
            assert labels not in samples, f"twice: {line}"
            samples[labels] = value
    for name, kind in types.items():
        if kind == "histogram":
            check_histogram(found, name)
    return found


def check_histogram(found, name):
    ends = [float(dict(labels)["le"]) for labels in found[name + "_bucket"]]
    counts = list(found[name + "_bucket"].values())
    assert ends == sorted(ends) and ends[-1] == float("inf")
    assert counts == sorted(counts) and counts[-1] == found[name + "_count"][()]
    assert found[name + "_sum"][()] >= 0


def metrics(elsd):
    answer = elsd.get("/metrics", 200)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse(answer.text)


def requests_of(page, route, code):
    return page["els_http_requests_total"].get((("route", route), ("code", str(code))), 0)


def test_is_well_formed_for_promtool(elsd):
    elsd.sample()
    elsd.get("/nothing", 404)
    page = elsd.get("/metrics", 200).text
    parse(page)
    done = subprocess.run([tool("promtool"), "check", "metrics"], input=page, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr and not done.stdout, done.stderr + done.stdout


def test_counts_requests_by_route_and_code(elsd):
    before = metrics(elsd)
    job = elsd.sample()
    elsd.get(f"/v1/jobs/{job['id']}", 200)
    elsd.get("/v1/jobs/" + "0" * 32, 404)
    elsd.get("/nothing/here", 404)
    elsd.post("/v1/samples", 422, json={"num_images": 0})

    def told():  # a request is counted when its last byte has gone, which the client may see first
        now = metrics(elsd)
        rises = [requests_of(now, *key) - requests_of(before, *key) for key in (
            ("/v1/samples", 200), ("/v1/samples", 422), ("/v1/jobs/{id}", 200), ("/v1/jobs/{id}", 404), ("none", 404))]
        return rises == [1, 1, 1, 1, 1]
    wait_until("the counts", told)


def test_tells_jobs_steps_and_the_queue(start):
    elsd = start("--queue-length", 3, "--bank", "halves=two-tone")
    elsd.sample(bank="halves", max_samples=2, num_inference_steps=5)
    page = metrics(elsd)
    assert page["els_jobs_accepted_total"][()] == 1
    assert page["els_jobs_finished_total"] == {(("status", s),): n for s, n in
                                               (("succeeded", 1), ("failed", 0), ("cancelled", 0))}
    assert page["els_step_seconds_count"][()] == 4
    assert page["els_job_run_seconds_count"][()] == page["els_job_queue_seconds_count"][()] == 1
    assert page["els_queue_capacity"][()] == 3 and page["els_queue_depth"][()] == 0
    assert page["els_bank_bytes"] == {(("bank", "halves"),): elsd.get("/v1/banks/halves", 200).json()["bytes"]}
    assert page["els_ready"][()] == page["els_store_up"][()] == 1
    build = dict(next(iter(page["els_build_info"])))
    capabilities = elsd.get("/v1/capabilities", 200).json()
    assert build == {"version": capabilities["version"], "kernel": capabilities["kernel"]}


def test_answers_while_all_workers_compute(start):
    elsd = start("--queue-length", 1, "--threads", 2)
    large = {"bank": "digits", "num_inference_steps": 2000, "scales": 3, "outputs": ["image"], "num_images": 8}
    running = elsd.post("/v1/jobs", 202, json=large).json()
    wait_until("both workers", lambda: metrics(elsd)["els_workers_busy"][()] == 2)
    waiting = elsd.post("/v1/jobs", 202, json=large).json()
    elsd.problem("POST", "/v1/jobs", 429, "queue_full", json=large)
    page = metrics(elsd)
    assert page["els_jobs"] == {(("status", "queued"),): 1, (("status", "running"),): 1}
    assert page["els_queue_depth"][()] == 1
    assert page["els_jobs_refused_total"][(("limit", "queue"),)] == 1
    for job in (waiting, running):
        elsd.delete(f"/v1/jobs/{job['id']}")
        elsd.finished(job)
    wait_until("the workers to rest", lambda: metrics(elsd)["els_workers_busy"][()] == 0)
    assert metrics(elsd)["els_jobs_finished_total"][(("status", "cancelled"),)] == 2


def test_counts_across_threads_are_exact(elsd):
    before = requests_of(metrics(elsd), "/healthz", 200)

    def ask():
        for _ in range(50):
            elsd.get("/healthz", 200)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until("the count", lambda: requests_of(metrics(elsd), "/healthz", 200) - before == 200)
