"""A thousand streams with nothing to say cost the daemon next to no processor time: for seconds less than a quarter of what
it cost to open them, however fast the machine is."""
import contextlib
import os
import pathlib
import resource
import time

from daemon import wait_until

STREAMS = 1000
SECONDS = 16 if os.environ.get("ELS_LONG") else 4  # 16: every stream gets a ping
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of_threads(pid):
    """{thread: seconds}."""
    times = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rsplit(") ", 1)[1].split()
        times[task.name] = (int(fields[11]) + int(fields[12])) / TICKS
    return times


def thread_that_computes(elsd):
    """While nothing else is asked of the daemon."""
    before = cpu_of_threads(elsd.pid)

    def found():
        spent = {thread: seconds - before.get(thread, 0) for thread, seconds in cpu_of_threads(elsd.pid).items()}
        most = max(spent, key=spent.get)
        return most if spent[most] >= 0.2 else None
    return wait_until("a thread to compute", found)


def test_idle_streams_cost_nothing(start, tell):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # One thread computes, so that a second job waits and its streams have nothing to say.
    elsd = start("--threads", 1, "--max-connections", STREAMS + 50, "--max-connections-per-address", 0)
    running = elsd.job(num_images=8, num_inference_steps=5000, max_samples=None, outputs=["image"])
    wait_until("it to run", lambda: elsd.get(f"/v1/jobs/{running['id']}", 200).json()["status"] == "running")
    waiting = elsd.job(num_images=8, num_inference_steps=5000, max_samples=None, outputs=["image"])
    request = f"GET /v1/jobs/{waiting['id']}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        streams, computing = [], thread_that_computes(elsd)

        def others():
            return sum(seconds for thread, seconds in cpu_of_threads(elsd.pid).items() if thread != computing)
        closed = others()
        for _ in range(STREAMS):
            stream = stack.enter_context(elsd.raw())
            stream.sendall(request)
            streams.append(stream)
        for stream in streams:
            text = b""
            while b"event: state" not in text:
                more = stream.recv(65536)
                assert more
                text += more
        opened = others() - closed

        def idle():
            before = others()
            time.sleep(SECONDS)
            spent = others() - before
            tell(f"{STREAMS} streams: {opened:.2f} s of processor time beside the computing thread to open them, "
                 f"{spent:.2f} s to keep them idle for {SECONDS} s")
            return spent <= opened / 4
        assert any(idle() for _ in range(5))
        for job in (waiting, running):
            elsd.delete(f"/v1/jobs/{job['id']}")
        for stream in streams:
            text = b""
            while b"event: cancelled" not in text:
                more = stream.recv(65536)
                assert more
                text += more
