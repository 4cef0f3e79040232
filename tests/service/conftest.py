"""Fixtures of the service tests. What they start, they stop and check; see daemon.py."""
import contextlib

import pytest

from daemon import Daemon


@pytest.fixture(scope="module")
def elsd(tmp_path_factory):
    """One daemon with the built-in banks for all tests of a file; it must come through all of them unharmed."""
    with Daemon(tmp_path_factory.mktemp("elsd")) as daemon:
        yield daemon


@pytest.fixture
def start(tmp_path):
    """start(*flags, env=…, config=…): a daemon of this test's own, stopped and checked at its end."""
    with contextlib.ExitStack() as stack:
        count = 0

        def go(*flags, **keys):
            nonlocal count
            count += 1
            return stack.enter_context(Daemon(tmp_path / f"elsd{count}", *flags, **keys))
        yield go


@pytest.fixture
def tell(capsys):
    """tell(text): a figure that a reader of the log wants to see although the test passed."""
    def say(text):
        with capsys.disabled():
            print(f"\n{text}")
    return say
