"""The daemon's life: how it starts, what it refuses to start with, how it ends; and that the harness would notice."""
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys

import pytest

from daemon import ELSD, Daemon, refuses_to_start, wait_until


def test_starts_and_stops(start):
    elsd = start()
    assert elsd.port_file.read_text() == f"{elsd.port}\n"
    elsd.logged(f"http://127.0.0.1:{elsd.port}")
    assert stat.S_IMODE(os.stat(elsd.state_dir).st_mode) == 0o700
    elsd.sample()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_signals_end_it_with_status_0(start, number):
    elsd = start("--bank", "two-tone=two-tone")
    elsd.sample(bank="two-tone", max_samples=2)
    elsd.stop(number)
    assert "stopped" in elsd.log()


@pytest.mark.parametrize("flags, says", [
    (["--bank", "a"], "a"),
    (["--bank", "a=/nowhere/b.safetensors"], "/nowhere/b.safetensors"),
    (["--bank", "a/b=digits"], "a/b"),
    (["--bank", "a=digits", "--bank", "a=shapes"], "second time"),
    (["--no-such-flag"], "no-such-flag"),
    (["--threads", "-1"], ["threads", "-1", "0 to 1024"]),
    (["--threads", "many"], ["threads", "many", "0 to 1024"]),
    (["--queue-length", "0"], ["queue", "0", "1 to 100000"]),
    (["--port", "65536"], ["port", "65536", "0 to 65535"]),
    (["--bind", "localhost.invalid"], "localhost.invalid"),
    (["--config", "/nowhere/elsd.toml"], "/nowhere/elsd.toml"),
    (["--log-format", "xml"], ["xml", "text", "json"]),
])
def test_refuses_what_it_cannot_do(tmp_path, flags, says):
    refuses_to_start(tmp_path, *flags, says=says)


def test_computes_with_the_kernel_that_is_asked_for(start, tmp_path):
    """Who asks for one that is not here is told which are; each of those is what the work is then done with."""
    message = refuses_to_start(tmp_path, "--cpu", "abacus", says="abacus")
    offered = re.search(r"cpu is one of ([\w, ]+) here", message)[1].split(", ")
    assert offered[:2] == ["auto", "c"] and len(set(offered)) == len(offered)
    used = {}
    for name in offered:
        elsd = start("--cpu", name, "--bank", "two-tone=two-tone")
        used[name] = elsd.get("/v1/capabilities", 200).json()["kernel"]
        assert elsd.sample(bank="two-tone", max_samples=2)["engine"]["kernel"] == used[name]
    assert used == {name: name for name in offered} | {"auto": offered[-1]}


def test_needs_keys_beyond_this_machine(tmp_path):
    refuses_to_start(tmp_path, "--bind", "0.0.0.0", says="0.0.0.0")


def test_a_taken_port_is_named(start, tmp_path):
    elsd = start("--bank", "two-tone=two-tone")
    refuses_to_start(tmp_path, "--port", elsd.port, says=str(elsd.port))


def test_one_daemon_per_state_directory(start, tmp_path):
    elsd = start("--bank", "two-tone=two-tone")
    refuses_to_start(tmp_path, "--state-dir", elsd.state_dir, says=str(elsd.state_dir))
    elsd.serves()


def test_flags_override_the_environment_and_that_the_file(start):
    limits = 'max_num_images = 3\nmax_num_inference_steps = 30\nqueue_length = 5\n[banks]\nhalves = "two-tone"\n'
    elsd = start("--max-num-images", 9, config=limits,
                 env={"ELSD_MAX_NUM_IMAGES": 7, "ELSD_MAX_NUM_INFERENCE_STEPS": 70})
    found = elsd.get("/v1/capabilities", 200).json()["limits"]
    assert found["num_images"]["max"] == 9
    assert found["num_inference_steps"]["max"] == 70
    assert [b["name"] for b in elsd.get("/v1/banks", 200).json()["banks"]] == ["halves"]


# ---- the harness itself: a check that cannot fail is none ----

def test_the_harness_notices_a_crash(tmp_path):
    with pytest.raises(AssertionError, match="-6"):
        with Daemon(tmp_path) as elsd:
            process = elsd.process
            process.send_signal(signal.SIGABRT)
            process.wait()


def test_the_harness_notices_a_leaked_descriptor(tmp_path):
    with Daemon(tmp_path) as elsd, elsd.raw():
        # The system connects a client before the daemon has accepted it.
        wait_until("the daemon to accept", lambda: elsd.descriptors() - elsd.descriptors_at_start)
        with pytest.raises(AssertionError, match="descriptors leaked: {'socket': 1}"):
            elsd.check_descriptors(patience=1)


def test_the_harness_notices_sanitizer_output(tmp_path):
    elsd = Daemon(tmp_path).start()
    with elsd.log_file.open("a") as log:
        log.write("server/x.c:1:2: runtime error: signed integer overflow\n")
    with pytest.raises(AssertionError, match="signed integer overflow"):
        elsd.stop()


def test_no_daemon_outlives_its_test_program(tmp_path):
    program = ("import os, sys; from daemon import Daemon; "
               "print(Daemon(sys.argv[1]).start().pid, flush=True); os._exit(0)")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=pathlib.Path(__file__).parent,
                          stdout=subprocess.PIPE, text=True, check=True)
    pid = int(done.stdout)

    def gone():
        try:
            return os.readlink(f"/proc/{pid}/exe") != str(ELSD)
        except FileNotFoundError:
            return True
    wait_until("the daemon to end", gone)
