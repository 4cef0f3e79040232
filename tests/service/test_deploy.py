"""What deploy/ ships, read by the programs that it is for: systemd, nginx, Prometheus; and the container's recipe."""
import os
import pathlib
import re
import socket
import ssl
import subprocess

import pytest

from daemon import ELSD, PATIENCE, environment, wait_until
from tools import tool

DEPLOY = pathlib.Path(os.environ["ELS_SOURCE_DIR"]) / "deploy"


def run(*arguments, **keys):
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, **keys)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# ---- systemd ----

@pytest.fixture
def unit(tmp_path):
    """The unit, with this build's daemon where the installed one would be."""
    text = (DEPLOY / "systemd" / "elsd.service").read_text()
    assert "/usr/local/bin/elsd" in text
    copy = tmp_path / "elsd.service"
    copy.write_text(text.replace("ExecStart=/usr/local/bin/elsd", f"ExecStart={ELSD}"))
    return copy


def test_systemd_reads_the_unit(unit):
    output = run(tool("systemd-analyze"), "verify", unit)
    assert "elsd.service" not in output, output


def test_systemd_finds_little_exposed(unit):
    output = run(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", unit)
    exposure = float(re.search(r"Overall exposure level for elsd.service: ([\d.]+)", output)[1])
    assert exposure <= 1.5, output


def test_the_units_flags_are_the_daemons(unit, tmp_path):
    flags = re.search(r"^ExecStart=\S+ (.*)$", unit.read_text(), re.M)[1].split()
    flags[flags.index("--config") + 1] = str(DEPLOY.parent / "config.example.toml")
    assert "in order" in run(ELSD, *flags, "--check-config", env=environment())


# ---- Prometheus ----

def test_promtool_accepts_rules_and_configuration():
    promtool, folder = tool("promtool"), DEPLOY / "prometheus"
    run(promtool, "check", "rules", "elsd.rules.yml", cwd=folder)
    run(promtool, "check", "config", "--syntax-only", "prometheus.yml", cwd=folder)


def test_alerts_fire_when_they_should():
    run(tool("promtool"), "test", "rules", "elsd.test.yml", cwd=DEPLOY / "prometheus")


def test_alerts_ask_for_metrics_that_exist(elsd):
    elsd.sample()
    page = elsd.get("/metrics", 200).text
    declared = set(re.findall(r"^# TYPE (\S+)", page, re.M))
    rules = (DEPLOY / "prometheus" / "elsd.rules.yml").read_text()
    asked = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bels_\w+", " ".join(
        re.findall(r"expr: (?:>\n)?((?:.+\n)(?:          .+\n)*)", rules)))}
    assert len(asked) >= 6 and asked <= declared, asked - declared


# ---- nginx ----

@pytest.fixture(scope="module")
def proxy(elsd, tmp_path_factory):
    """nginx with our file, before the module's daemon, on a free port: (port, context)."""
    nginx, folder = tool("nginx"), tmp_path_factory.mktemp("nginx")
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=els.example",
        "-addext", "subjectAltName=DNS:els.example", "-keyout", folder / "privkey.pem", "-out",
        folder / "fullchain.pem")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ours = (DEPLOY / "nginx" / "elsd.conf").read_text()
    for old, new in (("/etc/ssl/elsd", str(folder)), ("127.0.0.1:8080", f"127.0.0.1:{elsd.port}"),
                     ("listen 443", f"listen 127.0.0.1:{port}"), ("listen 80;", f"listen unix:{folder}/plain;")):
        assert old in ours
        ours = ours.replace(old, new)
    ours = re.sub(r"^ *listen \[::\].*\n", "", ours, flags=re.M)
    (folder / "elsd.conf").write_text(ours)
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in
                    ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off;\n{paths}include {folder}/elsd.conf;\n}}\n")
    command = [nginx, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"]
    run(*command, "-t")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until("nginx", lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield port, ssl.create_default_context(cafile=folder / "fullchain.pem")
    finally:
        process.terminate()
        process.wait()


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Client:
    """A TLS connection through the proxy."""

    def __init__(self, proxy):
        port, context = proxy
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), PATIENCE),
                                          server_hostname="els.example")
        self.bytes = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def until(self, mark):
        while mark not in self.bytes:
            more = self.socket.recv(65536)
            assert more, self.bytes
            self.bytes += more
        head, self.bytes = self.bytes.split(mark, 1)
        return head + mark

    def all(self):
        while more := self.socket.recv(65536):
            self.bytes += more
        return self.bytes


def ask(proxy, text):
    with Client(proxy) as client:
        client.socket.sendall(text)
        return client.all()


def request(path, method="GET", headers="", body=b""):
    return (f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def test_the_proxy_serves_the_daemon(elsd, proxy):
    answer = ask(proxy, request("/v1/capabilities"))
    assert answer.startswith(b"HTTP/1.1 200") and b"Strict-Transport-Security" in answer
    assert ask(proxy, request("/metrics")).startswith(b"HTTP/1.1 404")
    assert ask(proxy, request("/")).startswith(b"HTTP/1.1 200")


def test_events_come_through_while_the_job_runs(elsd, proxy):
    job = elsd.job(max_samples=None, num_images=8, num_inference_steps=3000, outputs=["image"])
    with Client(proxy) as client:
        client.socket.sendall(request(f"/v1/jobs/{job['id']}/events"))
        assert b"text/event-stream" in client.until(b"\r\n\r\n")
        client.until(b"event: state")
        client.until(b"event: progress")
        # It has come although the job is far from its end: nothing was held back.
        assert elsd.get(f"/v1/jobs/{job['id']}", 200).json()["status"] == "running"
        elsd.delete(f"/v1/jobs/{job['id']}", 202)
        client.until(b"event: cancelled")


@pytest.mark.parametrize("text", [
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n folded\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    b"POST /v1/samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
])
def test_the_proxy_refuses_what_smuggles(elsd, proxy, text):
    assert ask(proxy, text).startswith(b"HTTP/1.1 400")


def test_a_large_body_through_the_proxy(elsd, proxy):
    answer = ask(proxy, request("/v1/jobs", "POST", "Content-Type: application/json\r\n", b" " * 10_000_000 + b"5"))
    assert answer.startswith(b"HTTP/1.1 422"), answer[:300]


# ---- the container ----

def test_the_container_holds_what_the_daemon_needs_and_is_not_root():
    text = (DEPLOY / "container" / "Containerfile").read_text()
    final = text[text.rindex("FROM "):]
    assert re.search(r"^USER (?!0\b|root)\d+:\d+$", final, re.M)
    installed = set(re.search(r"--no-install-recommends(.*?)&&", final, re.S)[1].replace("\\", "").split())
    settings = re.findall(r"ELSD_(\w+)=", final)
    known = run(ELSD, "--print-example-config", env=environment())
    assert settings and all(re.search(f"^{name.lower()} = ", known, re.M) for name in settings)
    needed = set()
    for line in run("readelf", "-d", ELSD).splitlines():
        if match := re.search(r"NEEDED.*\[(.+)\]", line):
            needed.add(match[1])
    paths = dict(re.findall(r"(\S+) => (/\S+)", run("ldd", ELSD)))
    owners = set()
    for library in needed - {"libc.so.6", "libm.so.6", "libgcc_s.so.1"}:
        if "san.so" in library:
            continue
        path = paths[library].removeprefix("/usr")
        found = subprocess.run(["dpkg", "-S", f"*{path}"], capture_output=True, text=True).stdout
        owners.add(found.split(":")[0])
    owners.discard("")
    assert owners and owners <= installed, owners - installed
