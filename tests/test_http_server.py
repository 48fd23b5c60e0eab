"""The server itself, over loopback: starting, stopping, and clients that do not keep to the rules."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from attrs import frozen

from dedup2d.errors import ConfigurationError
from dedup2d.settings import Settings
from dedup2d_http.connections import free_address
from dedup2d_http.routing import PREFIX
from dedup2d_http.server import run
from tests.deployment import storage_variables
from tests.drawings import small_pdf, small_png
from tests.http_support import KEY, KEYS, PNG, assert_problem
from tests.s3_server import shared_s3_server
from tests.serving import serving

DOCUMENT = Path(__file__).parent.parent / "docs" / "http-api.md"
MULTIPART = (
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + PNG + b"\r\n--B--\r\n"
)
POST = (
    f"POST {PREFIX}/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
)


@frozen
class Running:
    """A server whose searches never end by themselves."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def connect(self) -> socket.socket:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        return socket.create_connection((parts.hostname, parts.port), timeout=10)

    def stop(self, seconds: float = 15) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)

    def wait_for_log(self, words: str) -> None:
        end = time.monotonic() + 10
        while words not in self.log.read_text():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match
        return int(match[1]) * 1024


@contextmanager
def running(folder: Path, *, grace: float = 10) -> Iterator[Running]:
    log = folder / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "tests.http_process", str(grace)],
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url, log.read_text()
            yield Running(process, url, log)
        finally:
            process.kill()


@pytest.mark.timeout(120)
def test_the_flow_of_the_runbook(tmp_path: Path) -> None:
    """If this fails, the calls that the reference shows do not work on a real service."""
    keys = {"DEDUP2D_API_KEYS": ",".join(f"{tenant}:{key}" for key, tenant in KEYS.items())}
    with serving(tmp_path / "data", keys) as served, served.client(KEY) as client:
        file = {"file": ("flange.png", small_png())}
        assert client.get("/health").json()["status"] == "healthy"
        added = client.post(f"{PREFIX}/index/add", files=file, data={"metadata": '{"order": "17"}'}).json()
        drawings = client.get(f"{PREFIX}/index/drawings").json()
        found = client.post(f"{PREFIX}/search", files=file).json()
        submitted = client.post(f"{PREFIX}/search?async=true", files=file)
        job = client.get(submitted.json()["poll_url"], headers={"Prefer": "wait=30"}).json()
        listed = client.get(f"{PREFIX}/jobs", params={"status": "completed"}).json()
        cancel = client.post(f"{submitted.json()['poll_url']}/cancel").json()
        picture = client.get(f"{PREFIX}/index/drawings/{added['drawing_id']}/image")
        metrics = client.get("/metrics").text
        missing = httpx.get(f"http://127.0.0.1:{served.port}{PREFIX}/jobs", trust_env=False)

        assert served.stop() == 0

    assert added["success"] is True
    assert drawings["drawings"][0]["metadata"] == {"order": "17"}
    assert submitted.status_code == 202
    for result in (found, job["result"]):
        best = result["duplicates"][0]
        assert (best["drawing_id"], best["relation"], best["similarity"]) == (added["drawing_id"], "exact", 1)
    assert [entry["job_id"] for entry in listed["jobs"]] == [job["job_id"]]
    assert cancel["canceled"] is False
    assert picture.content.startswith(b"\x89PNG")
    assert "dedup2d_jobs_submitted_total 1.0" in metrics
    assert missing.status_code == 401


@pytest.mark.timeout(120)
def test_the_curl_calls_of_the_reference(tmp_path: Path) -> None:
    """If this fails, a reader who copies the calls of the reference gets an error."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "bracket.pdf").write_bytes(small_pdf())
    (tmp_path / "scan.png").write_bytes(small_png())
    (tmp_path / "plant.dxf").write_bytes(small_pdf(seed=1))
    keys = {"DEDUP2D_API_KEYS": ",".join(f"{tenant}:{key}" for key, tenant in KEYS.items())}
    bucket = {**storage_variables(tmp_path, shared_s3_server()), "DEDUP2D_S3_PRESIGNED_UPLOADS": "1"}
    with serving(tmp_path / "data", {**keys, **bucket}) as served:
        script = "".join(blocks).replace("127.0.0.1:8000", f"127.0.0.1:{served.port}")
        script = script.replace("the-key-that-serve-printed", KEY).replace(
            "curl -sS", "curl -sS --fail --noproxy '*'"
        )
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":"healthy"' in done.stdout
    assert '"metadata":{"order":"17"}' in done.stdout
    assert '"status":"completed"' in done.stdout
    assert '"canceled":false' in done.stdout
    assert done.stdout.count('"relation":"identical"') == 2


@pytest.mark.timeout(120)
def test_fifty_parallel_submits_at_ten_places(tmp_path: Path) -> None:
    """If this fails, the capacity does not hold on the real stores and the real server."""
    places = {"DEDUP2D_ASYNC_MAX_JOBS": "10", "DEDUP2D_ASYNC_MAX_CONCURRENCY": "0"}

    drawing = small_png()

    def submit(_: int) -> httpx.Response:
        return client.post(f"{PREFIX}/search?async=true", files={"file": ("a.png", drawing)})

    with serving(tmp_path / "data", places) as served, served.client() as client:
        with ThreadPoolExecutor(50) as threads:
            answers = list(threads.map(submit, range(50)))
        total = client.get(f"{PREFIX}/jobs", params={"status": "pending"}).json()["total"]

    refused = [answer for answer in answers if answer.status_code != 202]
    assert (len(refused), total) == (40, 10)
    for answer in refused:
        assert_problem(answer, 429, "JOB_QUEUE_FULL")
        assert int(answer.headers["retry-after"]) >= 1


def test_sigterm_lets_a_request_under_way_finish(tmp_path: Path) -> None:
    """If this fails, a deploy cuts the answers that are being made."""
    with running(tmp_path) as server, server.connect() as late:
        half = len(MULTIPART) // 2
        head = f"{POST.replace('/search', '/index/add')}Content-Length: {len(MULTIPART)}\r\n\r\n".encode()
        late.sendall(head.replace(b"/index/add", b"/search?async=true") + MULTIPART[:half])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("stopping")
        late.sendall(MULTIPART[half:])
        answer = late.recv(65536)

        assert answer.startswith(b"HTTP/1.1 202 ")
        assert server.process.wait(timeout=8) == 0


def test_sigterm_does_not_wait_for_ever(tmp_path: Path) -> None:
    """If this fails, a search that hangs or a silent client keeps the process until it is killed."""
    with running(tmp_path, grace=0.5) as server, server.connect() as search, server.connect() as silent:
        search.sendall(f"{POST}Content-Length: {len(MULTIPART)}\r\n\r\n".encode() + MULTIPART)
        silent.sendall(f"{POST}Content-Length: 1000\r\n\r\n".encode() + MULTIPART[:50])
        with server.connect() as idle:
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(65536).startswith(b"HTTP/1.1 200 ")

            assert server.stop() == 0
        answer = search.recv(65536)

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"SHUTTING_DOWN" in answer
        assert "Traceback" not in server.log.read_text()


def test_sigterm_ends_long_polls_and_idle_connections_at_once(tmp_path: Path) -> None:
    """If this fails, every deploy takes as long as the longest poll."""
    with running(tmp_path, grace=30) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        job = client.post(f"{PREFIX}/search?async=true", files={"file": ("a.png", PNG)}).json()
        with server.connect() as poll:
            poll.sendall(
                f"GET {job['poll_url']} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n\r\n".encode()
            )
            time.sleep(0.2)
            begin = time.monotonic()
            code = server.stop()

            assert (code, poll.recv(65536)[:13]) == (0, b"HTTP/1.1 200 ")
            assert time.monotonic() - begin < 8


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """If this fails, Ctrl-C twice does not get the terminal back."""
    with running(tmp_path, grace=60) as server, server.connect() as search:
        search.sendall(f"{POST}Content-Length: {len(MULTIPART)}\r\n\r\n".encode() + MULTIPART)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        server.wait_for_log("stopping")

        assert server.stop() == 0


def test_a_client_that_leaves_cancels_its_search(tmp_path: Path) -> None:
    """If this fails, searches of clients that gave up go on and slow down those that wait."""
    with running(tmp_path) as server:
        with server.connect() as search:
            search.sendall(f"{POST}Content-Length: {len(MULTIPART)}\r\n\r\n".encode() + MULTIPART)
            time.sleep(0.2)
        server.wait_for_log('"client gone"')
        with server.connect() as upload:
            upload.sendall(f"{POST}Content-Length: 1000\r\n\r\n".encode() + MULTIPART[:50])
        server.wait_for_log('"client gone"')

        assert "Traceback" not in server.log.read_text()


def test_large_uploads_are_refused_while_memory_stays_flat(tmp_path: Path) -> None:
    """If this fails, 200 MB sent to a service that takes 8 MB fill its memory, or break the connection."""

    def pieces(size: int) -> Iterator[bytes]:
        yield MULTIPART.partition(b"\r\n--B--")[0]
        for _ in range(size // 65536):
            yield b"\0" * 65536

    kind = {"Content-Type": "multipart/form-data; boundary=B"}
    with running(tmp_path) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        client.get("/livez")
        before = server.resident_bytes()
        unannounced = client.post(f"{PREFIX}/search", content=pieces(200_000_000), headers=kind)
        announced = client.post(f"{PREFIX}/search", content=b"\0" * 200_000_000, headers=kind)
        after = server.resident_bytes()

        assert_problem(unannounced, 413, "FILE_TOO_LARGE")
        assert_problem(announced, 413, "FILE_TOO_LARGE")
        assert client.get("/livez").status_code == 200
    assert after - before < 40_000_000


def test_many_silent_clients_do_not_lock_out_others(tmp_path: Path) -> None:
    """If this fails, whoever opens a few hundred connections and falls silent stops the service for all."""
    with running(tmp_path) as server, ExitStack() as stack:
        for number in range(300):
            client = stack.enter_context(server.connect())
            begun = f"{POST}Content-Length: 1000\r\n\r\n".encode() + MULTIPART[:50]
            client.sendall(begun if number % 2 else begun[:40])
        begin = time.monotonic()

        assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200
        assert time.monotonic() - begin < 1


def test_expect_continue_is_answered_before_the_body(tmp_path: Path) -> None:
    """If this fails, curl sends a whole file that is refused anyway."""
    with running(tmp_path) as server, server.connect() as client:
        client.sendall(f"{POST}Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n".encode())
        answer = client.recv(65536)

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer.lower()


def test_a_small_refusal_keeps_the_connection(tmp_path: Path) -> None:
    """If this fails, every wrong request costs a new connection."""
    with running(tmp_path) as server, server.connect() as client:
        for _ in range(3):
            client.sendall(f"{POST.replace('/search', '/search?mode=x')}Content-Length: 0\r\n\r\n".encode())
            answer = client.recv(65536)

            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"connection: close" not in answer.lower()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 500 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_requests_that_are_none(tmp_path: Path, request_bytes: bytes) -> None:
    """If this fails, broken HTTP is taken for a request or brings the server down."""
    with running(tmp_path) as server:
        with server.connect() as client:
            try:
                client.sendall(request_bytes)
                answer = client.recv(65536)
            except ConnectionError:  # it closed before all was sent
                answer = b"HTTP/1.1 4"
            assert answer.startswith(b"HTTP/1.1 4"), answer
        assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200


def test_an_address_that_is_taken() -> None:
    """If this fails, a second service on the same port silently takes half of the requests."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}.*in use"):
            run(Settings(host="127.0.0.1", port=port))


def test_addresses() -> None:
    """If this fails, a name or port 0 gives no address that can be told to users."""
    host, port = free_address("localhost", 0)

    assert host in ("127.0.0.1", "::1")
    assert port > 0
    with pytest.raises(ConfigurationError, match="DEDUP2D_HOST"):
        free_address("no.such.host.invalid", 0)


def test_without_keys_the_server_does_not_start_on_all_addresses() -> None:
    """If this fails, a service without keys is open to the network."""
    with pytest.raises(ConfigurationError, match="DEDUP2D_API_KEYS"):
        run(Settings(host="0.0.0.0", port=0))
