"""Connections are places: so many in all, so many of one address, and a few that are kept for those who ask how the daemon
is. With the settings as they come, nobody makes health, readiness and metrics unreachable by holding connections.
"""
import contextlib
import http.client
import json
import socket
import time

import pytest

from daemon import PATIENCE, wait_until
from test_http import HEALTH, RESERVED, Wire, crowd, dial, quick, request

BANKS = request("GET", "/v1/banks")


@contextlib.contextmanager
def dial_from(elsd, address):
    """127.0.0.x is loopback, too."""
    with socket.create_connection(("127.0.0.1", elsd.port), PATIENCE, (address, 0)) as connection:
        yield Wire(connection)


def sockets(elsd):
    return (elsd.descriptors() - elsd.descriptors_at_start)["socket"]


def status(elsd, address, path):
    """Of one request on a connection of its own."""
    def ask():
        with dial_from(elsd, address) as wire:
            wire.send(request("GET", path))
            answer = wire.answer()
            return answer.status, answer
    return unless_we_are_late(ask)


def unless_we_are_late(ask):
    """On a reserved place a request has two seconds to come: where this program needed longer, it asks again."""
    for _ in range(20):
        began = time.monotonic()
        try:
            return ask()
        except (ConnectionError, http.client.HTTPException):
            if time.monotonic() - began < 1:
                raise
    raise AssertionError("late twenty times")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_2048_idle_connections_of_one_address(start, path):
    """By default: others notice nothing, and even that address can ask how the daemon is."""
    elsd = start()
    elsd.http.close()
    with contextlib.ExitStack() as stack:
        crowd(elsd, stack, 2048)
        wait_until("its share to be taken", lambda: sockets(elsd) >= 256)
        for _ in range(20):
            assert status(elsd, "127.0.0.2", path)[0] == 200
            assert status(elsd, "127.0.0.2", "/v1/banks")[0] == 200
            assert status(elsd, "127.0.0.1", path)[0] == 200
        wait_until("those beyond the places to be closed", lambda: sockets(elsd) <= 256 + RESERVED)
        answer = status(elsd, "127.0.0.1", "/v1/banks")[1]
        assert answer.status == 429 and int(answer.headers["Retry-After"]) >= 1
        assert "max_connections_per_address" in json.loads(answer.content)["detail"]
    wait_until("a place", lambda: status(elsd, "127.0.0.1", "/v1/banks")[0] == 200)


def test_all_places_taken_by_many_addresses(start):
    """Nobody has a share to exceed: then only the reserved places are left, for everybody."""
    places = 64
    elsd = start("--max-connections", places, "--max-connections-per-address", 4)
    elsd.http.close()
    with contextlib.ExitStack() as stack:
        wires = []
        for number in range(places):
            wires.append(stack.enter_context(dial_from(elsd, f"127.0.1.{number // 4 + 1}")))
            wires[-1].send(BANKS)
            assert wires[-1].answer().status == 200
        for number in range(50):
            address = f"127.0.2.{number + 1}"
            assert status(elsd, address, "/healthz")[0] == 200
            answer = status(elsd, address, "/v1/banks")[1]
            assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1
            assert json.loads(answer.content)["code"] == "too_many_connections"
        wires.pop().connection.close()
        wait_until("a place", lambda: status(elsd, "127.0.3.1", "/v1/banks")[0] == 200)
        # Those who were there first keep theirs.
        for wire in wires:
            wire.send(BANKS)
            assert wire.answer().status == 200


def test_a_reserved_place_becomes_an_ordinary_one(start):
    elsd = start("--max-connections-per-address", 1)
    elsd.http.close()

    def stays():
        with dial(elsd) as first:
            first.send(BANKS)
            assert first.answer().status == 200
            with dial(elsd) as second:
                for _ in range(3):
                    second.send(HEALTH)
                    assert second.answer().status == 200
                first.connection.close()
                wait_until("the first to go", lambda: sockets(elsd) <= 1)
                second.send(request("POST", "/v1/samples", quick(bank="two-tone", max_samples=2)))
                assert second.answer().status == 200
    unless_we_are_late(stays)


def test_who_says_nothing_on_a_reserved_place_makes_room(start):
    """The newest may stay; so whoever comes and asks at once is answered, however many come and say nothing."""
    elsd = start("--max-connections-per-address", 1)
    elsd.http.close()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(dial(elsd))
        first.send(BANKS)
        assert first.answer().status == 200
        silent = []
        for _ in range(3 * RESERVED):
            silent.append(stack.enter_context(dial(elsd)))
            assert status(elsd, "127.0.0.1", "/healthz")[0] == 200
        wait_until("others to make room", lambda: sockets(elsd) <= 1 + RESERVED + 1)
        for wire in silent:
            assert wire.ended()


def test_no_share_at_all(start):
    elsd = start("--max-connections-per-address", 0)
    elsd.http.close()
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            wire = stack.enter_context(dial(elsd))
            wire.send(BANKS)
            assert wire.answer().status == 200
