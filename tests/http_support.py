"""The API over a service in memory, called in process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
from attrs import evolve, frozen
from starlette.applications import Starlette

from dedup2d.callbacks.attempts import Sender
from dedup2d.files.memory import MemoryFileStore
from dedup2d.files.s3 import S3FileStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.jobs.redis import RedisJobStore
from dedup2d.keys.ring import KeyRing
from dedup2d.metrics import PrometheusMetrics
from dedup2d.protocols import FileStore, JobStore, Queue
from dedup2d.queues.memory import MemoryQueue
from dedup2d.runner import RunnerOptions
from dedup2d.service import Dedup2D, ServiceOptions
from dedup2d.settings import Settings
from dedup2d.testing import FakeVision
from dedup2d_http.app import create_app
from dedup2d_http.counters import Counters
from dedup2d_http.routing import PREFIX
from dedup2d_http.server import free_address, serve_app
from dedup2d_http.stopping import Stopping
from dedup2d_http.uploads import UploadLimits
from tests.backends import redis_options, rq_queue, s3_options

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 56
"""Begins as a PNG does: enough for all that does not open the picture."""

KEY, OTHER_KEY = "key-of-the-first-tenant", "key-of-the-other-tenant"
KEYS = {KEY: "first", OTHER_KEY: "other"}
PROBLEM = "application/problem+json"


def png_of(size: int) -> bytes:
    """Return a file of *size* bytes that begins as a PNG does."""
    return PNG[:8] + b"\0" * (size - 8)


def holding() -> FakeVision:
    """Return a vision whose searches wait until `let_go`."""
    vision = FakeVision()
    vision.hold()
    return vision


def failing(error: Exception, method: str = "search") -> FakeVision:
    """Return a vision that always fails with *error*."""
    vision = FakeVision()
    vision.fail(error, times=1000, method=method)
    return vision


@frozen
class Bench:
    """The API in process, and what stands behind it."""

    client: httpx.AsyncClient
    app: Starlette
    service: Dedup2D
    vision: FakeVision
    stopping: Stopping

    async def search(self, file: tuple[str, bytes] = ("a.png", PNG), /, **query: str) -> httpx.Response:
        return await self.client.post(f"{PREFIX}/search", params=query, files={"file": file})

    async def submit(self, file: tuple[str, bytes] = ("a.png", PNG), /, **query: str) -> str:
        """Submit a job and return its path."""
        answer = await self.search(file, **{"async": "true", **query})
        assert answer.status_code == 202, answer.text
        path: str = answer.json()["poll_url"]
        return path

    @property
    def searched(self) -> list[tuple[str, int]]:
        """The name and size of every file that the vision was asked to search for."""
        calls = [call for call in self.vision.calls if call.method == "search"]
        return [(call.file_name, len(call.data)) for call in calls]

    @property
    def asked(self) -> list[str]:
        """The methods of the vision that were called."""
        return [call.method for call in self.vision.calls]

    @property
    def metrics(self) -> PrometheusMetrics:
        observer = self.service.observer
        assert isinstance(observer, PrometheusMetrics)
        return observer

    async def stored_files(self) -> int:
        return len(await self.service.files.list())


def _in_memory() -> tuple[JobStore, FileStore, Queue]:
    return MemoryJobStore(), MemoryFileStore(), MemoryQueue()


def _on_servers() -> tuple[JobStore, FileStore, Queue]:
    return RedisJobStore(redis_options()), S3FileStore(s3_options()), rq_queue()


STACKS = {"memory": _in_memory, "servers": _on_servers}
"""What the API of the tests stands on; DEDUP2D_TEST_STACK chooses."""


@asynccontextmanager
async def bench(
    settings: Settings | None = None,
    *,
    vision: FakeVision | None = None,
    files: FileStore | None = None,
    concurrency: int = 2,
    limits: UploadLimits | None = None,
    key: str | None = None,
    host: str = "127.0.0.1",
    keys: KeyRing | None = None,
    counters: Counters | None = None,
    callbacks: Sender | None = None,
) -> AsyncIterator[Bench]:
    """Open the API on memory back ends, with a client that sends *key*; only limits that are given count."""
    settings = settings or Settings()
    if settings.max_requests_per_second_per_tenant == Settings().max_requests_per_second_per_tenant:
        settings = evolve(settings, max_requests_per_second_per_tenant=0)
    vision, metrics, stopping = vision or FakeVision(), PrometheusMetrics(), Stopping()
    jobs, kept, queue = STACKS[os.environ.get("DEDUP2D_TEST_STACK", "memory")]()
    service = Dedup2D(
        jobs=jobs,
        files=files or kept,
        queue=queue,
        vision=vision,
        observer=metrics,
        callbacks=callbacks,
        options=ServiceOptions(
            max_jobs=settings.max_jobs,
            max_jobs_per_tenant=settings.max_jobs_per_tenant,
            max_callbacks_per_tenant=settings.callback_max_waiting,
            max_upload_bytes=settings.max_upload_bytes,
            max_drawings_per_tenant=settings.max_drawings_per_tenant,
            tenant_limits=settings.tenant_limits,
            offer_uploads=settings.s3_presigned_uploads,
            run=RunnerOptions(concurrency=concurrency),
        ),
    )
    async with service:
        app = create_app(
            service,
            settings,
            keys=keys,
            counters=counters,
            metrics=metrics,
            limits=limits,
            stopping=stopping,
        )
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url=f"http://{host}",
            headers={"X-API-Key": key} if key else {},
        ) as client:
            yield Bench(client, app, service, vision, stopping)


@asynccontextmanager
async def served(api: Bench) -> AsyncIterator[str]:
    """Serve the app on loopback, for clients that are none of the process, and give its URL."""
    urls: list[str] = []
    ready = anyio.Event()

    def listening(url: str) -> None:
        urls.append(url)
        ready.set()

    async def serve() -> None:
        host, port = free_address("127.0.0.1", 0)
        await serve_app(api.app, host, port, api.stopping, on_ready=listening, grace_seconds=1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        with anyio.fail_after(10):
            await ready.wait()
        try:
            yield urls[0]
        finally:
            tasks.cancel_scope.cancel()


def keyed(**changes: Any) -> Settings:
    """Return settings with two tenants' keys."""
    return evolve(Settings(api_keys=KEYS), **changes)


def assert_problem(answer: httpx.Response, status: int, code: str, *words: str) -> dict[str, Any]:
    """Assert that *answer* is the problem *code* and that its detail has all *words*."""
    assert (answer.status_code, answer.headers.get("content-type")) == (status, PROBLEM), answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["type"].startswith("urn:dedup2d:problem:")
    assert problem["title"]
    assert problem["instance"].startswith("/")
    assert problem["request_id"] == answer.headers["x-request-id"]
    for word in words:
        assert word in problem["detail"], problem["detail"]
    return problem
