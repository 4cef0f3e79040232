"""GET /v1/jobs/{id}/events: what a reader of the stream is told, and in which order."""
import base64
import json

import numpy as np
import pytest

from daemon import wait_until
from formats import read_png
from test_jobs import NOBODY, SLOW, cancel, running

TERMINAL = {"succeeded", "failed", "cancelled"}


class Event(dict):
    """id, event and data of one event; the data parsed."""
    @property
    def name(self):
        return self["event"]

    @property
    def data(self):
        return json.loads(self["data"])


def events_of(answer):
    """Every event until the server ends the stream, as the WHATWG's rules read them."""
    event = {}
    for line in answer.iter_lines(chunk_size=1):
        field, _, value = line.decode().partition(":")
        if not line:
            if event:
                yield Event(event)
            event = {}
        elif field:  # else a comment
            assert field in ("id", "event", "data"), line
            assert field not in event, "one line each"
            event[field] = value.removeprefix(" ")
    assert not event, "the last event is whole"


def follow(elsd, job, last=None):
    headers = {"Last-Event-ID": str(last)} if last is not None else {}
    return elsd.get(f"/v1/jobs/{job['id']}/events", 200, headers=headers, stream=True)


def check_order(events, job):
    """Holds for every whole stream that starts with a snapshot."""
    names = [e.name for e in events]
    assert names[0] == "state" and names.count("state") == 1
    assert names[-1] in TERMINAL and sum(n in TERMINAL for n in names) == 1
    assert set(names[1:-1]) <= {"progress", "preview"}
    ids = [int(e["id"]) for e in events]
    assert ids == sorted(ids) and len(set(ids[1:])) == len(ids) - 1, ids
    assert events[0].data["id"] == events[-1].data["id"] == job["id"]


def test_a_job_from_its_start_to_its_end(elsd):
    """The job waits behind another, so that the reader is there before it begins."""
    blocker = running(elsd)
    job = elsd.job(num_images=2)
    stream = follow(elsd, job)
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert stream.headers["Cache-Control"] == "no-store"
    reader = events_of(stream)
    events = [next(reader)]
    assert events[0].data["status"] == "queued"
    cancel(elsd, blocker)
    events += reader
    check_order(events, job)
    assert events[-1].name == "succeeded"
    done = elsd.get(f"/v1/jobs/{job['id']}", 200).json()
    assert events[-1].data == done

    progress = [e.data for e in events if e.name == "progress"]
    assert progress and all(set(p) >= {"image", "step", "steps", "eta_seconds"} for p in progress)
    assert all(p["steps"] == 3 and 0 <= p["step"] <= 3 for p in progress)
    where = [(p["image"], p["step"]) for p in progress]
    assert where == sorted(where), "it only goes forward"

    previews = [e.data for e in events if e.name == "preview"]
    assert previews
    for preview in previews:
        assert set(preview) >= {"image", "step", "t", "png_base64"}
        assert preview["t"] == done["result"]["steps"][preview["step"]]["t"]
        shown = read_png(base64.b64decode(preview["png_base64"], validate=True)).pixels
        stored = elsd.get(f"/v1/jobs/{job['id']}/images/{preview['image']}/steps/{preview['step']}", 200)
        assert np.array_equal(shown, read_png(stored.content).pixels)


def test_a_finished_job_tells_its_end(elsd):
    job = elsd.sample()
    for _ in "12":
        events = list(events_of(follow(elsd, job)))
        check_order(events, job)
        assert events[0].data == events[-1].data == job
        assert [e.name for e in events] == ["state", "succeeded"]


def test_a_cancelled_job_tells_its_end(elsd):
    job = running(elsd)
    with follow(elsd, job) as stream:
        reader = events_of(stream)
        events = [next(reader), next(reader)]
        elsd.delete(f"/v1/jobs/{job['id']}", 202)
        events += reader
    check_order(events, job)
    assert events[0].data["status"] == "running"
    assert events[-1].name == "cancelled" and events[-1].data["status"] == "cancelled"


def test_a_queued_job_that_is_cancelled_tells_its_end(elsd):
    blocker, job = running(elsd), elsd.job(**SLOW)
    with follow(elsd, job) as stream:
        reader = events_of(stream)
        events = [next(reader)]
        elsd.delete(f"/v1/jobs/{job['id']}", 200)
        events += reader
    check_order(events, job)
    assert [e.name for e in events] == ["state", "cancelled"]
    cancel(elsd, blocker)


def test_a_dropped_stream_goes_on(elsd):
    """After the id seen last: no snapshot, nothing twice, nothing of what was not a preview left out."""
    job = running(elsd)
    with follow(elsd, job) as stream:
        reader = events_of(stream)
        seen = [next(reader) for _ in range(4)]
    last = int(seen[-1]["id"])
    with follow(elsd, job, last) as stream:
        reader = events_of(stream)
        later = [next(reader) for _ in range(3)]
        cancel(elsd, job)
        later += reader
    ids = [int(e["id"]) for e in later]
    assert ids[0] > last and ids == sorted(set(ids))
    assert later[-1].name == "cancelled"
    assert sum(e.name in TERMINAL for e in later) == 1
    if later[0].name == "state":
        # The events in between had already left the ring: then a snapshot bridges the gap.
        later = later[1:]
    assert "state" not in [e.name for e in later]
    # Whoever was at the end hears the end, or nothing more.
    rest = list(events_of(follow(elsd, job, ids[-1])))
    assert [e.name for e in rest if e.name in TERMINAL] in ([], ["cancelled"])


@pytest.mark.parametrize("last", ["", "x", "-1", "999999999999999999999999", "18446744073709551615"])
def test_an_id_that_was_never_told_gets_a_snapshot(elsd, last):
    job = elsd.sample()
    events = list(events_of(follow(elsd, job, last)))
    check_order(events, job)


def test_every_reader_hears_the_same_end(elsd):
    job = running(elsd)
    streams = [follow(elsd, job) for _ in range(8)]
    try:
        readers = [events_of(s) for s in streams]
        heard = [[next(r)] for r in readers]
        elsd.delete(f"/v1/jobs/{job['id']}", 202)
        for events, reader in zip(heard, readers):
            events += reader
            check_order(events, job)
        assert len({events[-1]["data"] for events in heard}) == 1
    finally:
        for s in streams:
            s.close()


def test_a_reader_that_leaves_or_does_not_read_holds_nothing_up(elsd):
    job = running(elsd)
    request = f"GET /v1/jobs/{job['id']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with elsd.raw() as idle:
        idle.sendall(request)
        for _ in range(20):
            with elsd.raw() as leaving:
                leaving.sendall(request)
                begun = b""
                while b"event: state" not in begun:
                    more = leaving.recv(4096)
                    assert more, begun
                    begun += more
        before = elsd.get(f"/v1/jobs/{job['id']}", 200).json()["progress"]["step"]
        wait_until("the job to go on", lambda: elsd.get(f"/v1/jobs/{job['id']}", 200).json()["progress"]["step"]
                   > before + 10)
        assert elsd.get("/healthz").status_code == 200
        cancel(elsd, job)
        # The end is never dropped: the idle reader finds it when it reads at last. And the others' sockets are
        # closed by now, which the fixture checks.
        heard = b""
        while b"\r\n0\r\n" not in heard:
            part = idle.recv(65536)
            assert part, heard[-500:]
            heard += part
        assert heard.count(b"event: cancelled") == 1


def test_events_of_nobody(elsd):
    elsd.problem("GET", f"/v1/jobs/{NOBODY}/events", 404)


def test_the_stream_ends_when_the_daemon_does(start):
    elsd = start()
    job = running(elsd)
    with follow(elsd, job) as stream:
        reader = events_of(stream)
        assert next(reader).name == "state"
        elsd.process.terminate()
        assert not [e for e in reader if e.name in TERMINAL], "the job is not over: it will be resumed"
    elsd.stop()
