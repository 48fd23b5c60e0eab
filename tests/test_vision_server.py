"""`dedup2d vision serve` as processes: the contract, its old clients, keys, tenants, queue, and crashes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from dedup2d.errors import (
    FileTooLargeError,
    InvalidParameterError,
    VisionRefusedError,
    VisionUnavailableError,
)
from dedup2d.protocols import VisionClient
from dedup2d.testing import VISION_CLIENT_CHECKS
from dedup2d.types import (
    AddResult,
    Drawing,
    DrawingFile,
    DrawingPage,
    RebuildResult,
    Relation,
    SearchParams,
    SearchResult,
)
from dedup2d.vision.http import HTTPVisionClient, VisionOptions
from tests.drawings import revised_png, small_dxf, small_png
from tests.http_support import assert_problem, png_of
from tests.serving import Served, free_port, vision_serving

KEY = "a-key-of-sixteen-or-more"
numbers = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A vision server of two processes, with a key."""
    folder = tmp_path_factory.mktemp("vision")
    variables = {"DEDUPCAD_VISION_API_KEY": KEY, "DEDUP2D_ENGINE_PROCESSES": "2"}
    with vision_serving(folder / "data", variables, options=("--processes", "2")) as served:
        yield served


@contextmanager
def alone(folder: Path, **variables: str) -> Iterator[Served]:
    """Run a server of one process without a key."""
    given = {"DEDUP2D_ENGINE_PROCESSES": "1", "DEDUP2D_TENANT": "default", **variables}
    with vision_serving(folder / "data", given) as served:
        yield served


def tenant() -> str:
    return f"tenant-{next(numbers)}-{os.getpid()}"


def file_of(data: bytes, name: str = "plate.png") -> DrawingFile:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 65536):
            yield data[start : start + 65536]

    return DrawingFile(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data), open=pieces)


def options_of(served: Served, **changes: Any) -> VisionOptions:
    return VisionOptions(url=served.url, **{"api_key": KEY, **changes})


class FreshTenants(HTTPVisionClient):
    """A client whose tenants are its own: one server serves all checks."""

    def __init__(self, options: VisionOptions) -> None:
        super().__init__(options)
        self._prefix = tenant()

    def _own(self, tenant_id: str) -> str:
        return f"{self._prefix}-{tenant_id}" if tenant_id else ""

    async def search(self, tenant_id: str, *args: Any, **kwargs: Any) -> SearchResult:
        return await super().search(self._own(tenant_id), *args, **kwargs)

    async def add(self, tenant_id: str, *args: Any, **kwargs: Any) -> AddResult:
        return await super().add(self._own(tenant_id), *args, **kwargs)

    async def remove(self, tenant_id: str, drawing_id: str) -> None:
        await super().remove(self._own(tenant_id), drawing_id)

    async def rebuild(self, tenant_id: str) -> RebuildResult:
        return await super().rebuild(self._own(tenant_id))

    async def drawings(self, tenant_id: str, **kwargs: Any) -> DrawingPage:
        return await super().drawings(self._own(tenant_id), **kwargs)

    async def drawing(self, tenant_id: str, drawing_id: str) -> Drawing:
        return await super().drawing(self._own(tenant_id), drawing_id)

    async def picture(self, tenant_id: str, drawing_id: str) -> bytes:
        return await super().picture(self._own(tenant_id), drawing_id)


@pytest.mark.parametrize("check", VISION_CLIENT_CHECKS, ids=lambda check: check.__name__)
async def test_client_and_server_keep_the_contract(
    check: Callable[[VisionClient], Awaitable[None]], server: Served
) -> None:
    """If this fails, what works with the embedded engine does not over HTTP."""
    async with FreshTenants(options_of(server)) as client:
        await check(client)


# Clients of the old contract


def ask(served: Served, method: str, path: str, *, key: str | None = KEY, **request: Any) -> httpx.Response:
    with served.client(key) as client:
        return client.request(method, path, **request)


def test_an_old_client_understands_the_answers(server: Served) -> None:
    """If this fails, a client written for dedupcad-vision breaks on our server."""
    headers = {"X-Dedup-Tenant-Id": tenant()}
    data = small_png("flange", 3)
    added = ask(
        server,
        "POST",
        "/api/index/add",
        headers=headers,
        params={"user_name": "kim", "upload_to_s3": "true"},
        files={"file": ("flange.png", data, "image/png")},
    )
    # In the order that curl sends: the drawing first.
    found = ask(
        server,
        "POST",
        "/api/v2/search",
        headers=headers,
        files=[
            ("file", ("query.png", revised_png("flange", 3), "image/png")),
            ("mode", (None, "balanced")),
            ("max_results", (None, "5")),
            ("compute_diff", (None, "True")),
            ("enable_ml", (None, "false")),
            ("enable_geometric", (None, "1")),
            ("ignore", (None, "title_block")),
        ],
    )
    rebuilt = ask(server, "POST", "/api/v2/index/rebuild", headers=headers)

    assert added.status_code == 200, added.text
    assert {
        "success",
        "drawing_id",
        "file_hash",
        "message",
        "processing_time_ms",
        "s3_key",
    } <= added.json().keys()
    assert (added.json()["s3_key"], added.json()["file_hash"]) == (None, hashlib.sha256(data).hexdigest())
    assert "S3" in added.json()["warnings"][0]
    answer = found.json()
    assert (answer["success"], answer["total_matches"], answer["error"]) == (True, 1, None)
    assert {"total_ms", "l1_ms", "l2_ms", "l3_ms", "l4_ms"} <= answer["timing"].keys()
    assert answer["level_stats"]["l1"].keys() == {"passed", "filtered", "time_ms"}
    (match,) = answer["duplicates"] + answer["similar"]
    assert (match["drawing_id"], match["relation"]) == (added.json()["drawing_id"], "revision")
    assert {"file_hash", "file_name", "similarity", "confidence", "match_level", "verdict"} <= match.keys()
    assert base64.b64decode(match["diff_image_base64"]).startswith(b"\x89PNG")
    assert match["diff_regions"]
    assert match["reason"]
    assert answer["ignored"] == ["title_block"]
    assert (rebuilt.json()["success"], rebuilt.json()["drawings"]) == (True, 1)


def test_the_queries_own_file_is_left_out_unless_asked_for(server: Served) -> None:
    """If this fails, an old client finds every drawing to be a duplicate of itself."""
    headers, file = {"X-Dedup-Tenant-Id": tenant()}, {"file": ("a.png", small_png("flange", 4))}
    ask(server, "POST", "/api/index/add", headers=headers, files=file)
    left_out = ask(server, "POST", "/api/v2/search", headers=headers, files=file)
    asked_for = ask(
        server, "POST", "/api/v2/search", headers=headers, files=file, data={"exclude_self": "false"}
    )

    assert left_out.json()["total_matches"] == 0
    assert asked_for.json()["duplicates"][0]["relation"] == "exact"


def test_the_user_who_added_is_kept(server: Served) -> None:
    """If this fails, nobody knows who put a drawing into the index."""
    headers, file = {"X-Dedup-Tenant-Id": tenant()}, {"file": ("a.png", small_png("flange", 5))}
    added = ask(server, "POST", "/api/index/add?user_name=kim", headers=headers, files=file).json()
    shown = ask(server, "GET", f"/api/v2/index/drawings/{added['drawing_id']}", headers=headers).json()

    assert shown["metadata"] == {"user_name": "kim"}


REFUSED: dict[str, tuple[str, dict[str, Any], int, str, str]] = {
    "a foreign part": (
        "/api/v2/search",
        {"data": {"mode": "fast"}, "files": {"x": b""}},
        400,
        "INVALID_PARAMETER",
        "part x",
    ),
    "text": ("/api/v2/search", {"files": {"file": b"text " * 99}}, 415, "UNSUPPORTED_FORMAT", "PNG"),
    "a torn picture": (
        "/api/v2/search",
        {"files": {"file": png_of(999)}},
        422,
        "UNREADABLE_DRAWING",
        "cannot be read",
    ),
    "no bytes": ("/api/v2/search", {"files": {"file": b""}}, 400, "EMPTY_FILE", "empty"),
    "a field in the query": (
        "/api/v2/search?mode=fast",
        {"files": {"file": png_of(9)}},
        400,
        "INVALID_PARAMETER",
        "mode",
    ),
    "a number out of range": (
        "/api/v2/search",
        {"files": {"file": png_of(99)}, "data": {"max_results": "0"}},
        400,
        "INVALID_PARAMETER",
        "max_results=0",
    ),
    "a key of S3": (
        "/api/index/add",
        {"data": {"s3_key": "a/b"}, "files": {"metadata": (None, "{}")}},
        400,
        "INVALID_PARAMETER",
        "no file store",
    ),
    "a key of S3 behind the drawing": (
        "/api/index/add",
        {"files": [("file", png_of(99)), ("s3_key", (None, "a/b"))]},
        400,
        "INVALID_PARAMETER",
        "no file store",
    ),
    "a source without end": (
        "/api/index/add",
        {"data": {"source": "x" * 5000}, "files": {"file": png_of(99)}},
        400,
        "INVALID_PARAMETER",
        "source",
    ),
    "one drawing to compare": (
        "/api/v2/compare",
        {"files": {"file": png_of(99)}},
        400,
        "INVALID_MULTIPART",
        "other",
    ),
    "drawings in another order": (
        "/api/v2/compare",
        {"files": [("other", png_of(99)), ("file", png_of(99))]},
        400,
        "INVALID_MULTIPART",
        "in the order file, other",
    ),
    "no route": ("/api/v2/nothing", {}, 404, "NOT_FOUND", "no route"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_requests_that_are_refused(server: Served, name: str) -> None:
    """If this fails, a wrong request is answered with a stack, a guess, or without a next step."""
    path, request, status, code, words = REFUSED[name]
    answer = ask(server, "POST", path, headers={"X-Dedup-Tenant-Id": tenant()}, **request)

    assert_problem(answer, status, code, words)


def test_nothing_of_a_drawing_stays_on_the_server(server: Served) -> None:
    """If this fails, the disk fills with drawings that were searched for."""
    headers = {"X-Dedup-Tenant-Id": tenant()}
    for data in (small_png("flange", 6), b"no drawing", png_of(99)):
        ask(server, "POST", "/api/v2/search", headers=headers, files={"file": data})
    incoming = server.log.parent / "data" / "incoming"

    assert incoming.is_dir()
    assert [path for path in incoming.rglob("*") if path.is_file()] == []


# Who may ask, and for whom


def test_the_key_is_demanded_before_the_body(server: Served) -> None:
    """If this fails, anybody on the network searches and changes the indexes of all tenants."""
    for key in (None, "wrong", KEY[:-1]):
        answer = ask(server, "POST", "/api/v2/search", key=key, files={"file": b"x"})
        assert_problem(answer, 401, "UNAUTHORIZED", "API key")
    health = ask(server, "GET", "/health", key=None).json()

    assert (health["status"], health["service"]) == ("healthy", "dedup2d-vision")
    assert isinstance(health["indexes"], int)
    assert health["version"]


async def test_a_wrong_key_is_told_to_the_client_even_when_the_body_is_large(server: Served) -> None:
    """If this fails, a wrong key reads as an outage, and jobs wait an hour for it."""
    async with HTTPVisionClient(
        options_of(server, api_key="wrong-key-wrong-key", retry_attempts=1)
    ) as client:
        for _ in range(5):
            with pytest.raises(VisionRefusedError, match="DEDUPCAD_VISION_API_KEY"):
                await client.search("acme", file_of(png_of(30_000_000)), SearchParams())


async def test_a_file_that_is_too_large_is_told_to_the_client(tmp_path: Path) -> None:
    """If this fails, a file over the server's limit reads as an outage, and its job waits an hour."""
    with alone(tmp_path, DEDUP2D_MAX_UPLOAD_BYTES="1000000") as served:
        async with HTTPVisionClient(options_of(served, retry_attempts=1)) as client:
            for _ in range(5):
                with pytest.raises(FileTooLargeError, match="1,000,000 bytes"):
                    await client.search("acme", file_of(png_of(30_000_000)), SearchParams())


@pytest.mark.parametrize("name", ["Acme", "../acme", "a b", "", "x" * 65])
def test_a_tenant_that_is_none_is_refused(server: Served, name: str) -> None:
    """If this fails, a header names a directory."""
    answer = ask(server, "GET", "/api/v2/index/drawings", headers={"X-Dedup-Tenant-Id": name})

    assert_problem(answer, 400, "INVALID_PARAMETER", "X-Dedup-Tenant-Id")


def test_two_tenants_in_one_request_are_refused(server: Served) -> None:
    """If this fails, a proxy that adds a header and a server that reads the first disagree on the tenant."""
    with server.client(KEY) as client:
        headers = [("X-Dedup-Tenant-Id", "one"), ("X-Dedup-Tenant-Id", "two")]
        answer = client.get("/api/v2/index/drawings", headers=headers)

    assert_problem(answer, 400, "INVALID_PARAMETER", "one, two")


def test_without_a_key_it_serves_loopback_only(tmp_path: Path) -> None:
    """If this fails, an index without a key is open to the network, or to web pages of any site."""
    started = subprocess.run(
        [
            sys.executable,
            "-m",
            "dedup2d",
            "vision",
            "serve",
            "--host",
            "0.0.0.0",
            "--data-dir",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "DEDUPCAD_VISION_API_KEY"},
        timeout=30,
    )
    assert started.returncode == 2
    for words in ("DEDUP2D_VISION_HOST=0.0.0.0", "DEDUPCAD_VISION_API_KEY"):
        assert words in started.stderr
    with alone(tmp_path) as served:
        page = ask(
            served, "GET", "/api/v2/index/drawings", key=None, headers={"Origin": "https://evil.example"}
        )
        rebound = ask(served, "GET", "/health", key=None, headers={"Host": "evil.example"})
        fine = ask(served, "GET", "/api/v2/index/drawings", key=None)

    assert_problem(page, 403, "CROSS_ORIGIN")
    assert_problem(rebound, 421, "HOST_NOT_ALLOWED", "DEDUPCAD_VISION_API_KEY")
    assert (fine.status_code, fine.json()["total"]) == (200, 0)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """If this fails, two servers share a port, and half of the searches go to the wrong index."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        for processes in ("1", "2"):
            command = [sys.executable, "-m", "dedup2d", "vision", "serve", "--port", str(port)]
            command += ["--processes", processes, "--data-dir", str(tmp_path)]
            started = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
            assert started.returncode == 2
            assert f"DEDUP2D_VISION_HOST:DEDUP2D_VISION_PORT=127.0.0.1:{port}" in started.stderr


# Several processes, one index


def members(served: Served) -> list[int]:
    """Return the processes that serve, but not the engine's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text().split("\0")
        except OSError:
            continue
        if "--member" in words and str(served.port) in words:
            found.append(int(path.parent.name))
    return found


async def test_what_one_process_adds_the_others_find(server: Served) -> None:
    """If this fails, a search does not find what was added a moment ago, depending on who answers."""
    owner = tenant()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(HTTPVisionClient(options_of(server))) for _ in range(6)]
        for seed in range(4):
            await clients[seed].add(owner, file_of(small_png("plate", seed), f"{seed}.png"))
            query = file_of(small_png("plate", seed))
            found = await asyncio.gather(*(one.search(owner, query, SearchParams()) for one in clients))
            assert [one.duplicates[0].relation for one in found] == [Relation.EXACT] * 6

    assert len(members(server)) == 2


async def test_a_process_that_is_killed_is_replaced(tmp_path: Path) -> None:
    """If this fails, a crash takes a share of the server away until somebody restarts it."""
    variables = {"DEDUPCAD_VISION_API_KEY": KEY, "DEDUP2D_ENGINE_PROCESSES": "2"}
    with vision_serving(tmp_path / "data", variables, options=("--processes", "2")) as served:
        async with HTTPVisionClient(options_of(served)) as client:
            await client.add("acme", file_of(small_png()))
            first = set(members(served))
            os.kill(min(first), signal.SIGKILL)
            for _ in range(10):
                found = await client.search("acme", file_of(small_png()), SearchParams())
                assert found.total_matches == 1
            await until(lambda: len(set(members(served)) - {min(first)}) == 2, seconds=20)
        code = served.stop()

    assert code == 0
    assert members(served) == []


# Crashes, cancels and too many


def children(pid: int) -> list[int]:
    """Return the child processes of *pid*."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text() if Path(f"/proc/{pid}").exists() else ""
    return [int(one) for one in found.split()]


async def until(reached: Callable[[], bool], *, seconds: float) -> None:
    with anyio.fail_after(seconds):
        while not reached():  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.02)


@contextmanager
def busy(folder: Path, **variables: str) -> Iterator[Served]:
    """Run a server whose engine is stopped while it works: the one child it has does not go on by itself."""
    with alone(folder, **variables) as served, ExitStack() as stack:
        with served.client() as client:
            client.post("/api/v2/search", files={"file": small_png()}).raise_for_status()
        for child in children(served.process.pid):
            os.kill(child, signal.SIGSTOP)
            stack.callback(resume, child)
        yield served


def resume(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


async def test_a_client_that_leaves_stops_the_engine(tmp_path: Path) -> None:
    """If this fails, searches nobody waits for keep the cores busy."""
    with busy(tmp_path) as served:
        (child,) = children(served.process.pid)
        async with HTTPVisionClient(options_of(served)) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.search, "acme", file_of(small_png()), SearchParams())
            await anyio.sleep(0.5)
            assert children(served.process.pid) == [child]
            tasks.cancel_scope.cancel()
        await until(lambda: child not in children(served.process.pid), seconds=2)


async def test_more_searches_than_may_wait_are_turned_away_at_once(tmp_path: Path) -> None:
    """If this fails, a server with too much to do collects searches until clients give up on all."""
    outcomes: list[str] = []

    async def search(client: HTTPVisionClient) -> None:
        try:
            await client.search("acme", file_of(small_png()), SearchParams())
        except VisionUnavailableError as error:
            outcomes.append(str(error))
        else:
            outcomes.append("found")

    with busy(tmp_path, DEDUP2D_VISION_MAX_WAITING="2") as served:
        async with HTTPVisionClient(options_of(served, retry_attempts=1)) as client:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(search, client)
                await anyio.sleep(0.5)
                assert outcomes == []
                began = time.monotonic()
                large = file_of(png_of(50_000_000))
                with pytest.raises(VisionUnavailableError, match="1 searches run here and 2 wait") as refused:
                    await client.search("acme", large, SearchParams())
                assert time.monotonic() - began < 1
                for child in children(served.process.pid):
                    resume(child)
            assert 1 <= refused.value.retry_after <= 30
            assert outcomes == ["found"] * 3
            await search(client)
            assert outcomes[-1] == "found"


async def test_a_server_that_is_killed_while_it_searches_is_used_again(tmp_path: Path) -> None:
    """If this fails, an index is damaged by a kill, or what a dead server left is not forgotten."""
    with busy(tmp_path) as served:
        once = options_of(served, retry_attempts=1)
        async with HTTPVisionClient(once) as client, anyio.create_task_group() as tasks:

            async def search() -> None:
                with pytest.raises(VisionUnavailableError):
                    await client.search("acme", file_of(small_png()), SearchParams())

            tasks.start_soon(search)
            await anyio.sleep(0.5)
            served.kill()
    left = [path for path in (tmp_path / "data" / "incoming").rglob("*") if path.is_file()]
    assert len(left) == 1
    long_ago = time.time() - 7200
    os.utime(left[0], (long_ago, long_ago))
    with alone(tmp_path) as served:
        async with HTTPVisionClient(options_of(served)) as client:
            added = await client.add("acme", file_of(small_dxf(), "a.dxf"))
            found = await client.search("acme", file_of(small_dxf(), "b.dxf"), SearchParams())
        await until(lambda: not left[0].exists(), seconds=5)

    assert found.duplicates[0].drawing_id == added.drawing_id


async def test_a_deploy_lets_searches_end(tmp_path: Path) -> None:
    """If this fails, a restart of the server fails the searches under way."""
    with busy(tmp_path) as served:
        async with HTTPVisionClient(options_of(served)) as client, anyio.create_task_group() as tasks:

            async def search() -> None:
                found = await client.search("acme", file_of(small_png()), SearchParams())
                assert found.success

            tasks.start_soon(search)
            await anyio.sleep(0.5)
            served.process.send_signal(signal.SIGTERM)
            await anyio.sleep(0.2)
            for child in children(served.process.pid):
                resume(child)
        assert served.process.wait(timeout=15) == 0


def test_metrics_name_the_calls(tmp_path: Path) -> None:
    """If this fails, nobody sees how busy the vision server is."""
    with alone(tmp_path) as served:
        ask(served, "POST", "/api/v2/search", key=None, files={"file": small_png()})
        metrics = ask(served, "GET", "/metrics", key=None).text

    assert 'dedup2d_vision_operations_total{operation="search",outcome="ok"} 1.0' in metrics


async def test_a_port_that_nobody_listens_on_is_an_outage(tmp_path: Path) -> None:
    """If this fails, a server that is not there yet fails jobs for good."""
    async with HTTPVisionClient(
        VisionOptions(url=f"http://127.0.0.1:{free_port()}", retry_attempts=1)
    ) as client:
        with pytest.raises(VisionUnavailableError):
            await client.drawings("acme")
        with pytest.raises(InvalidParameterError):
            await client.drawings("No Tenant")
