"""Standard error that nobody reads holds nobody up: lines wait, then are dropped and counted, and the count is told."""
import os
import re
import threading

from daemon import Daemon, wait_until
from test_metrics import metrics

DROPPED = re.compile(r"^\S+ warning log_lines_dropped count=(\d+)$", re.M)
REQUESTS = 500


def flood(elsd, requests=REQUESTS):
    """Requests whose lines are long, each answered."""
    for i in range(requests):
        assert elsd.get(f"/nowhere/{i}/" + "x" * 1800).status_code == 404


class Reader:
    """The other end of a pipe, which reads once it is told to."""

    def __init__(self):
        self.fd, self.theirs = os.pipe()
        self.bytes = b""
        self.thread = threading.Thread(target=self.read, daemon=True)

    def read(self):
        while part := os.read(self.fd, 65536):
            self.bytes += part

    def text(self):
        return self.bytes.decode()

    def close(self):
        os.close(self.theirs)
        if self.thread.ident:
            self.thread.join()
        os.close(self.fd)


def test_nobody_reads(tmp_path):
    pipe = Reader()
    with Daemon(tmp_path, stderr=pipe.theirs) as elsd:
        flood(elsd)
        elsd.serves()
        dropped = metrics(elsd)["els_log_dropped_total"][()]
        assert dropped > 0

        pipe.thread.start()
        wait_until("what was dropped", lambda: DROPPED.search(pipe.text()))
        elsd.get("/nowhere/after", 404)
        wait_until("a new line", lambda: "/nowhere/after" in pipe.text())
        numbers = [int(n) for n in re.findall(r"http_request method=GET path=/nowhere/(\d+)/", pipe.text())]
        assert numbers == sorted(set(numbers)) and 0 < len(numbers) < REQUESTS
        assert sum(map(int, DROPPED.findall(pipe.text()))) == metrics(elsd)["els_log_dropped_total"][()]
        assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z (info|warning) \w+", line) for line in pipe.text().splitlines())
    pipe.close()
    assert pipe.text().endswith(" info stopped\n")


def test_nobody_reads_to_the_end(tmp_path):
    """Leaving the block checks that it ends, and with status 0."""
    pipe = Reader()
    with Daemon(tmp_path, stderr=pipe.theirs) as elsd:
        flood(elsd, 200)
        elsd.serves()
    pipe.close()


def test_the_reader_is_gone(tmp_path):
    pipe = Reader()
    with Daemon(tmp_path, stderr=pipe.theirs) as elsd:
        os.close(pipe.fd)
        flood(elsd, 20)
        elsd.serves()
        assert metrics(elsd)["els_log_dropped_total"][()] >= 20
    os.close(pipe.theirs)
