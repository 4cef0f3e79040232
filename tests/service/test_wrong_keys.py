"""API keys that are wrong, and keys that are taken away. The order of answers is looked at, not time: a key is refused after
a burst of wrong ones however fast they came, because far fewer are forgiven in a minute than are sent here."""
import json
import signal
import subprocess

import pytest

from daemon import ELS, wait_until
from test_connections import dial_from
from test_http import request
from test_jobs import SLOW

MOST = 60  # the burst is of 20


def els(*arguments):
    return subprocess.run([ELS, *map(str, arguments)], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def guarded(start, tmp_path):
    """A daemon with the keys of alice and bob."""
    file = tmp_path / "keys"
    texts = {name: els("key", "add", file, name).strip() for name in ("alice", "bob")}
    elsd = start("--keys-file", file)
    elsd.keys_file, elsd.keys = file, texts
    return elsd


def ask(elsd, address, key):
    with dial_from(elsd, address) as wire:
        wire.send(request("GET", "/v1/banks", b"", f"Authorization: Bearer {key}"))
        return wire.answer()


def test_wrong_keys_are_refused_after_a_burst(guarded):
    answers = [ask(guarded, "127.0.0.2", f"els_{number:064x}") for number in range(MOST)]
    statuses = [answer.status for answer in answers]
    first = statuses.index(429)
    assert set(statuses[:first]) == {401} and first >= 10
    assert statuses[first:].count(429) > (MOST - first) // 2
    refused = answers[first]
    assert json.loads(refused.content)["code"] == "too_many_wrong_keys" and "127.0.0.2" in refused.content.decode()
    assert 1 <= int(refused.headers["Retry-After"]) <= 600 and refused.headers["Connection"] == "close"


def test_nobody_else_is_held_up(guarded):
    """Not even who shares the address, with the right key; and other addresses have strikes of their own."""
    for number in range(MOST):
        ask(guarded, "127.0.0.2", f"wrong-{number}")
    assert ask(guarded, "127.0.0.2", "wrong").status == 429
    for key in guarded.keys.values():
        assert ask(guarded, "127.0.0.2", key).status == 200
        assert ask(guarded, "127.0.0.3", key).status == 200
    assert ask(guarded, "127.0.0.3", "wrong").status == 401
    with dial_from(guarded, "127.0.0.2") as wire:
        wire.send(request("GET", "/healthz"), request("GET", "/v1/banks"))
        assert wire.answer().status == 200 and wire.answer().status == 401, "no key is not a wrong key"


def test_who_comes_from_many_addresses_makes_nobody_wait(guarded):
    for number in range(MOST):
        assert ask(guarded, f"127.0.{1 + number // 200}.{1 + number % 200}", "wrong").status == 401


def reload(elsd):
    before = elsd.log().count(" reloaded")
    elsd.process.send_signal(signal.SIGHUP)
    wait_until("the reload", lambda: elsd.log().count(" reloaded") > before)


def test_what_a_key_waits_for_ends_with_it(guarded):
    """Its streams end, and its waiting requests are answered 401; those of others go on."""
    def bearer(name):
        return f"Authorization: Bearer {guarded.keys[name]}"

    def job(name):
        headers = {"Authorization": f"Bearer {guarded.keys[name]}"}
        return guarded.post("/v1/jobs", 202, json=SLOW, headers=headers).json()["id"]

    jobs = {name: job(name) for name in ("alice", "bob")}
    with dial_from(guarded, "127.0.0.2") as stream, dial_from(guarded, "127.0.0.2") as waiting, \
            dial_from(guarded, "127.0.0.3") as other:
        stream.send(request("GET", f"/v1/jobs/{jobs['alice']}/events", b"", bearer("alice")))
        waiting.send(request("POST", "/v1/samples", json.dumps(SLOW).encode(), bearer("alice")))
        other.send(request("GET", f"/v1/jobs/{jobs['bob']}/events", b"", bearer("bob")))
        assert stream.peek(1) and other.peek(1)
        headers = {"Authorization": f"Bearer {guarded.keys['alice']}"}
        wait_until("the second job", lambda: len(guarded.get("/v1/jobs", 200, headers=headers).json()["jobs"]) == 2)
        reload(guarded)  # which takes nothing away
        els("key", "remove", guarded.keys_file, "alice")
        reload(guarded)
        assert b"event: cancelled" not in stream.answer().content
        answer = waiting.answer()
        assert answer.status == 401 and json.loads(answer.content)["code"] == "invalid_api_key"
        headers = {"Authorization": f"Bearer {guarded.keys['bob']}"}
        guarded.delete(f"/v1/jobs/{jobs['bob']}", headers=headers)
        assert b"event: cancelled" in other.answer().content


def test_a_key_of_the_same_name_is_another_key(guarded):
    job = guarded.post("/v1/jobs", 202, json=SLOW, headers={"Authorization": f"Bearer {guarded.keys['alice']}"}).json()
    with dial_from(guarded, "127.0.0.2") as stream:
        stream.send(request("GET", f"/v1/jobs/{job['id']}/events", b"", f"Authorization: Bearer {guarded.keys['alice']}"))
        assert stream.peek(1)
        els("key", "remove", guarded.keys_file, "alice")
        els("key", "add", guarded.keys_file, "alice")
        reload(guarded)
        assert stream.answer().status == 200  # whole, although the job goes on
