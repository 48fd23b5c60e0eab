"""
A deployment of many processes on loopback: Redis, uploads in a directory or S3, a vision, services, workers.

Everything a row of the crash tests kills, stops or restarts is a real process of its own.
"""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from attrs import define, field

from tests.leashed import Leashed
from tests.s3_server import S3Server, s3_server
from tests.servers import RedisServer, free_port, redis_server
from tests.vision_stub import StubProcess, stub_process

KEY = "test-key-0123456789"
API = "/api/v1/dedup/2d"
START_SECONDS = 40.0
_PNG = b"\x89PNG\r\n\x1a\n"
_numbers = itertools.count()


def picture(size: int = 2000) -> bytes:
    """Return bytes that are taken for a PNG, no two alike; the stub does not open them."""
    return _PNG + f"{next(_numbers):08}-{time.time_ns()}".encode().ljust(size, b".")


def until(what: Callable[[], Any], *, seconds: float = 30.0, every: float = 0.05) -> float:
    """Wait until *what* is true and return how long that took; errors of HTTP count as not yet."""
    start = time.monotonic()
    while True:
        try:
            if what():
                return time.monotonic() - start
        except httpx.TransportError:
            pass
        if time.monotonic() - start > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every)


@define
class Api:
    """One process of the service."""

    process: Leashed
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"X-API-Key": KEY}, timeout=30, trust_env=False)

    def answers(self) -> bool:
        with self.client() as client:
            return client.get("/livez").status_code == 200

    def submit(self, data: bytes | None = None, *, name: str = "a.png", **query: str) -> str:
        """Submit a search as a job and return its id."""
        answer = self.try_submit(data, name=name, **query)
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["job_id"]
        return job_id

    def try_submit(self, data: bytes | None = None, *, name: str = "a.png", **query: str) -> httpx.Response:
        with self.client() as client:
            return client.post(
                f"{API}/search", params={"async": "true", **query}, files={"file": (name, data or picture())}
            )

    def job(self, job_id: str) -> dict[str, Any]:
        with self.client() as client:
            answer = client.get(f"{API}/jobs/{job_id}")
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def status(self, job_id: str) -> str:
        return str(self.job(job_id)["status"])

    def final(self, job_id: str, *, seconds: float = 30.0) -> dict[str, Any]:
        """Wait until the job is final and return it."""
        until(lambda: self.status(job_id) in ("completed", "failed", "canceled"), seconds=seconds)
        return self.job(job_id)

    def jobs(self, status: str | None = None) -> list[dict[str, Any]]:
        """Return all jobs, page after page."""
        found: list[dict[str, Any]] = []
        query = {"limit": "500", **({} if status is None else {"status": status})}
        with self.client() as client:
            while True:
                page = client.get(f"{API}/jobs", params=query).raise_for_status().json()
                found += page["jobs"]
                if page["next_page_token"] is None:
                    return found
                query["page_token"] = page["next_page_token"]


@define
class Deployment:
    """The servers, and what services and workers are told of them."""

    directory: Path
    redis: RedisServer
    vision: StubProcess | None
    s3: S3Server | None
    variables: dict[str, str]
    apis: list[Api] = field(factory=list, init=False)
    _stack: ExitStack = field(alias="stack")

    def api(self, **variables: str) -> Api:
        """Start a service and wait until it answers."""
        port = free_port()
        api = Api(self.started(["serve", "--port", str(port)], "api", variables), port)
        self.wait_for(api.process, api.answers)
        self.apis.append(api)
        return api

    def worker(self, *options: str, **variables: str) -> Leashed:
        """Start a worker and wait until it says that it is ready."""
        worker = self.started(["worker", *options], "worker", variables)
        self.wait_for(worker, lambda: "worker ready" in worker.log.read_text())
        return worker

    def started(self, command: list[str], name: str, variables: Mapping[str, str] | None = None) -> Leashed:
        """Start `dedup2d` with *command*; it is killed at the end at the latest."""
        arguments = [sys.executable, "-m", "dedup2d", *command]
        return self.running(arguments, name, variables)

    def running(self, arguments: list[str], name: str, variables: Mapping[str, str] | None = None) -> Leashed:
        """Start a process with the variables of the deployment."""
        log = self.directory / f"{name}-{next(_numbers)}.log"
        process = Leashed(arguments, log, {**self.variables, **(variables or {})})
        process.start()
        self._stack.callback(process.stop)
        return process

    def wait_for(self, process: Leashed, ready: Callable[[], Any]) -> None:
        def up() -> bool:
            assert process.running(), process.end_of_log()
            return bool(ready())

        until(up, seconds=START_SECONDS)

    def files(self) -> list[Path]:
        """Return the uploads in the directory."""
        return [path for path in (self.directory / "files").rglob("*") if path.is_file()]


@contextmanager
def deployment(
    directory: Path,
    *,
    s3: bool = False,
    appendonly: bool = False,
    stub: tuple[str, ...] = (),
    **variables: str,
) -> Iterator[Deployment]:
    """
    Start Redis, a vision stub and, if asked for, S3; the caller starts services and workers.

    Leases are short: 3 s, beaten every second, swept every second.
    """
    (directory / "s3").mkdir()
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(directory / "redis", appendonly=appendonly))
        vision = stack.enter_context(stub_process(*stub))
        store = stack.enter_context(s3_server(directory / "s3")) if s3 else None
        given = {
            "DEDUP2D_DATA_DIR": str(directory / "data"),
            "DEDUP2D_API_KEYS": f"acme:{KEY}",
            "DEDUP2D_ASYNC_BACKEND": "redis",
            "DEDUP2D_REDIS_URL": redis.url,
            "DEDUP2D_REDIS_TIMEOUT_SECONDS": "2",
            "DEDUP2D_ASYNC_LEASE_SECONDS": "3",
            "DEDUP2D_ASYNC_HEARTBEAT_SECONDS": "1",
            "DEDUP2D_ASYNC_SWEEP_SECONDS": "1",
            "DEDUPCAD_VISION_URL": vision.url,
            "DEDUP2D_MAX_REQUESTS_PER_SECOND_PER_TENANT": "0",  # tests are faster than any client
            "DEDUP2D_LOG_FORMAT": "json",
            **storage_variables(directory, store),
            **variables,
        }
        yield Deployment(directory, redis, vision, store, given, stack)


def storage_variables(directory: Path, s3: S3Server | None) -> dict[str, str]:
    """Return what services and workers are told of where uploads go."""
    if s3 is None:
        return {"DEDUP2D_FILE_STORAGE_DIR": str(directory / "files")}
    return {
        "DEDUP2D_FILE_STORAGE": "s3",
        "DEDUP2D_S3_ENDPOINT": s3.endpoint,
        "DEDUP2D_S3_BUCKET": s3.bucket,
        "DEDUP2D_S3_ACCESS_KEY": s3.access_key,
        "DEDUP2D_S3_SECRET_KEY": s3.secret_key,
    }


def terminated(process: Leashed, *, seconds: float = 30.0) -> int:
    """Ask a process to end and return its exit code."""
    assert process.process is not None
    process.process.send_signal(signal.SIGTERM)
    return process.process.wait(seconds)
