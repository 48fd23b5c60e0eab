"""
A dedupcad-vision that answers at once, or misbehaves as it is told.

In a test: `async with vision_stub() as stub`, then set `stub.mode` and look at `stub.searches`. As a process
(crash tests, benchmarks): `python -m tests.vision_stub --port P`, which prints its URL once it listens, takes
`POST /__control` with the same attributes as a JSON object, and shows what it has seen at `GET /__state`;
`stub_process()` starts one. It parses by hand and without a router, because it is there to measure others.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gzip
import hashlib
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from aiohttp import web
from attrs import define, field

__all__ = ["MODES", "Received", "StubProcess", "VisionStub", "stub_process", "vision_stub"]

MODES = frozenset(
    {"ok", "500", "503", "429", "422", "hang", "cut", "not-json", "incomplete", "slow", "drop", "endless"}
    | {"redirect", "gzip"}
)
"""What a stub can do: see `VisionStub.mode`."""

_CONTROLS = frozenset(
    {"mode", "times", "only", "retry_after", "slow_seconds", "fail_rate", "problem_code", "answer"}
)
_ROOT = Path(__file__).parent.parent
_PDEATHSIG = 1


@define
class Received:
    """One request that carried a file, as it came."""

    path: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    fields: Mapping[str, str]
    file_name: str
    size: int
    sha256: str


@define
class VisionStub:
    """
    What the stub does and what it has seen.

    Args:
        mode: `ok`; a status (`500`, `503`, `429`, `422`); `hang` (reads all, never answers); `drop` (closes
            the connection without a word); `cut` (closes it in the middle of the answer); `not-json`;
            `incomplete` (JSON without the required fields); `slow` (right, after `slow_seconds`);
            `endless` (an answer that does not end); `redirect`; `gzip` (compresses the answer).
        times: how many requests the mode holds for, None for all; then it is `ok` again.
        only: the one path that the mode is for, None for all.
        retry_after: seconds in the header of a `503` or `429`, None for no header.
        fail_rate: share of distinct files whose first search is answered with 500, whatever the mode.
        problem_code: `code` in the body of a status; None for a body as FastAPI has it.
        answer: the JSON of a right answer to a search, None for one match.
    """

    mode: str = "ok"
    times: int | None = None
    only: str | None = None
    retry_after: float | None = 1.0
    slow_seconds: float = 1.0
    fail_rate: float = 0.0
    problem_code: str | None = None
    answer: Any = None
    url: str = ""
    calls: Counter[str] = field(factory=Counter, init=False)
    """How often each path was called."""
    searches: Counter[str] = field(factory=Counter, init=False)
    """How often each file was searched for, by its SHA-256, whatever came of it."""
    answered: Counter[str] = field(factory=Counter, init=False)
    """How often the search for each file was answered rightly."""
    last: Received | None = field(default=None, init=False)
    gone: int = field(default=0, init=False)
    """How many clients left before they were answered."""

    def control(self, changes: Mapping[str, Any]) -> None:
        """Set several attributes at once."""
        if unknown := changes.keys() - _CONTROLS:
            raise ValueError(f"no such control: {', '.join(sorted(unknown))}")
        if changes.get("mode", "ok") not in MODES:
            raise ValueError(f"no such mode: {changes['mode']}")
        for name, value in changes.items():
            setattr(self, name, value)

    def state(self) -> dict[str, Any]:
        """Return what was seen."""
        return {
            "calls": self.calls,
            "searches": self.searches,
            "answered": self.answered,
            "gone": self.gone,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.path
        if path.startswith("/__"):
            return await self._own(request)
        self.calls[path] += 1
        body = await request.content.read()  # `request.read` takes no more than a megabyte
        kind = self._mode(path)
        if path == "/api/v2/search" and request.method == "POST":
            received = self.last = _received(request, body)
            self.searches[received.sha256] += 1
            if self._fails_once(received.sha256):
                kind = "500"
            return await self._answer(request, kind, self._found(received, kind))
        if path == "/api/index/add" and request.method == "POST":
            received = self.last = _received(request, body)
            return await self._answer(request, kind, _added(received))
        if path == "/api/v2/index/rebuild" and request.method == "POST":
            return await self._answer(request, kind, b'{"success":true,"message":"rebuilt"}')
        if path == "/health":
            return await self._answer(request, kind, b'{"status":"ok","indexes":{"l1":"ready"}}')
        return web.json_response({"detail": "Not Found"}, status=404)

    async def _own(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/__state":
            return web.json_response(self.state())
        try:
            self.control(json.loads(await request.read()))
        except (ValueError, AttributeError) as error:
            return web.json_response({"detail": str(error)}, status=400)
        return web.json_response({"ok": True})

    def _mode(self, path: str) -> str:
        if self.mode == "ok" or (self.only is not None and path != self.only):
            return "ok"
        mode = self.mode
        if self.times is not None:
            self.times -= 1
            if self.times <= 0:
                self.mode, self.times = "ok", None
        return mode

    def _fails_once(self, sha256: str) -> bool:
        return self.searches[sha256] == 1 and int(sha256[:8], 16) < self.fail_rate * 2**32

    def _found(self, received: Received, kind: str) -> bytes:
        if kind in ("ok", "slow"):
            self.answered[received.sha256] += 1
        if self.answer is not None:
            return json.dumps(self.answer).encode()
        return _FOUND % (received.sha256.encode(), json.dumps(received.file_name).encode())

    async def _answer(self, request: web.BaseRequest, kind: str, right: bytes) -> web.StreamResponse:
        if kind in ("slow", "hang"):
            await self._wait(self.slow_seconds if kind == "slow" else 3600)
        elif kind in ("drop", "cut", "endless"):
            return await self._break_off(request, kind, right)
        elif kind != "ok":
            return self._wrong(kind, right)
        return web.Response(body=right, content_type="application/json")

    def _wrong(self, kind: str, right: bytes) -> web.Response:
        if kind == "not-json":
            return web.Response(body=b"<html>It works!</html>", content_type="text/html")
        if kind == "incomplete":
            return web.Response(body=b'{"success":true}', content_type="application/json")
        if kind == "redirect":
            return web.Response(status=307, headers={"Location": "/health"})
        if kind == "gzip":
            return web.Response(body=gzip.compress(right), headers={"Content-Encoding": "gzip"})
        return self._failure(int(kind))

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.gone += 1
            raise

    def _failure(self, status: int) -> web.Response:
        headers = {}
        if status in (429, 503) and self.retry_after is not None:
            headers["Retry-After"] = f"{self.retry_after:g}"
        if self.problem_code is None:
            return web.json_response({"detail": "stub"}, status=status, headers=headers)
        return web.json_response(
            {"code": self.problem_code, "detail": "the stub says no", "status": status},
            status=status,
            headers=headers,
            content_type="application/problem+json",
        )

    async def _break_off(self, request: web.BaseRequest, kind: str, right: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if kind == "cut":
            response.content_length = len(right)
            await response.prepare(request)
            await response.write(right[: len(right) // 2])
        elif kind == "endless":
            response.enable_chunked_encoding()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(b" " * 65536)
        if request.transport is not None:
            request.transport.close()
        return response


def _received(request: web.BaseRequest, body: bytes) -> Received:
    """Take a multipart body apart: its fields, and name, size and hash of the part `file`."""
    boundary = request.headers.get("Content-Type", "").partition("boundary=")[2].strip('"').encode()
    fields: dict[str, str] = {}
    name, size, sha256, delimiter = "", 0, "", b"\r\n--" + boundary
    start = len(delimiter)  # behind the first delimiter and its line end, which has none before it
    while boundary and (begin := body.find(b"\r\n\r\n", start)) >= 0:
        head, begin = body[start:begin].decode(), begin + 4
        end = body.index(delimiter, begin)
        part = _quoted(head, 'name="')
        if part == "file":
            name, size = _quoted(head, 'filename="'), end - begin
            sha256 = hashlib.sha256(memoryview(body)[begin:end]).hexdigest()
        else:
            fields[part] = body[begin:end].decode()
        start = end + len(delimiter) + 2
    return Received(request.path, request.headers, request.query, fields, name, size, sha256)


def _quoted(head: str, before: str) -> str:
    return head.partition(before)[2].partition('"')[0]


def _added(received: Received) -> bytes:
    return json.dumps(
        {
            "success": True,
            "drawing_id": f"stub-{received.sha256[:12]}",
            "file_hash": received.sha256,
            "message": "added",
            "processing_time_ms": 0.1,
            "s3_key": None,
        }
    ).encode()


_FOUND = (
    b'{"success":true,"total_matches":1,"duplicates":[{"drawing_id":"stub-0","file_hash":"%s","file_name":%s,'
    b'"similarity":0.99,"confidence":0.98,"match_level":2,"verdict":"duplicate","levels":{"l1":{"score":0.97},'
    b'"l2":{"score":0.99}}}],"similar":[],"final_level":2,'
    b'"timing":{"total_ms":3,"l1_ms":1,"l2_ms":2,"l3_ms":0,"l4_ms":0},'
    b'"level_stats":{"l1":{"passed":9,"filtered":91,"time_ms":1},"l2":{"passed":1,"filtered":8,"time_ms":2}},'
    b'"warnings":[],"error":null}'
)


@asynccontextmanager
async def vision_stub(*, port: int = 0, **behaviour: Any) -> AsyncIterator[VisionStub]:
    """Serve a stub on loopback in this event loop; *behaviour* are attributes of `VisionStub`."""
    stub = VisionStub()
    stub.control(behaviour)
    runner = web.ServerRunner(
        web.Server(stub.handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
        await site.start()
        host, found = runner.addresses[0][:2]
        stub.url = f"http://{host}:{found}"
        yield stub
    finally:
        await runner.cleanup()


@define
class StubProcess:
    """A stub in a process of its own."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def control(self, **changes: Any) -> None:
        """Set attributes of the `VisionStub` in the process."""
        self._ask("/__control", json.dumps(changes).encode())

    def state(self) -> dict[str, Any]:
        """Return what it has seen: `calls`, `searches`, `answered`, `gone`."""
        found: dict[str, Any] = self._ask("/__state")
        return found

    def kill(self) -> None:
        """End it as a power cut would; `restart` brings one back on the same port, with empty counts."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def restart(self, *options: str) -> None:
        self.process = _start(self.port, options)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _ask(self, path: str, data: bytes | None = None) -> Any:
        opener = build_opener(ProxyHandler({}))
        with opener.open(Request(self.url + path, data), timeout=10) as answer:
            return json.loads(answer.read())


@contextmanager
def stub_process(*options: str, port: int = 0) -> Iterator[StubProcess]:
    """Run a stub as a process on a free port of loopback; *options* as on its command line."""
    if not port:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
    stub = StubProcess(_start(port, options), port)
    try:
        yield stub
    finally:
        stub.kill()


def _start(port: int, options: tuple[str, ...]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.vision_stub", "--port", str(port), *options],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    if not process.stdout.readline():
        process.stdout.close()
        raise AssertionError(f"the vision stub ended at its start with status {process.wait()}")
    return process


def _die_with_parent() -> None:
    """Leave no server behind when the test run is killed (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)


async def _serve(options: argparse.Namespace) -> None:
    behaviour = {name: value for name, value in vars(options).items() if name != "port"}
    async with vision_stub(port=options.port, **behaviour) as stub:
        print(stub.url, flush=True)  # noqa: T201 - whoever started it waits for this line
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A dedupcad-vision stub.")
    parser.add_argument("--port", type=int, default=58001)
    parser.add_argument("--mode", choices=sorted(MODES), default="ok")
    parser.add_argument("--fail-rate", type=float, default=0.0)
    parser.add_argument("--slow-seconds", type=float, default=1.0)
    parser.add_argument("--retry-after", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    _die_with_parent()
    asyncio.run(_serve(_options()))
