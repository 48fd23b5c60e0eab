"""The API over a service in memory, called in process; and a vision that does as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import anyio
import httpx
from attrs import define, evolve, field, frozen
from starlette.applications import Starlette

from dedup2d.errors import DrawingNotFoundError
from dedup2d.files.memory import MemoryFileStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.metrics import PrometheusMetrics
from dedup2d.paging import make_token, read_token
from dedup2d.protocols import Progress
from dedup2d.queues.memory import MemoryQueue
from dedup2d.runner import RunnerOptions
from dedup2d.service import Dedup2D, ServiceOptions
from dedup2d.settings import Settings
from dedup2d.types import (
    AddResult,
    Comparison,
    Drawing,
    DrawingFile,
    DrawingPage,
    Health,
    RebuildResult,
    SearchParams,
    SearchResult,
)
from dedup2d_http.app import create_app
from dedup2d_http.routing import PREFIX
from dedup2d_http.stopping import Stopping
from dedup2d_http.uploads import UploadLimits

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 56
"""Begins as a PNG does: enough for all that does not open the picture."""

KEY, OTHER_KEY = "key-of-the-first-tenant", "key-of-the-other-tenant"
KEYS = {KEY: "first", OTHER_KEY: "other"}
PROBLEM = "application/problem+json"


def png_of(size: int) -> bytes:
    """Return a file of *size* bytes that begins as a PNG does."""
    return PNG[:8] + b"\0" * (size - 8)


@define
class ObedientVision:
    """Keeps drawings by tenant; waits and fails as told. Records what it was asked."""

    gate: anyio.Event | None = None
    begun: anyio.Event = field(factory=anyio.Event)
    failure: Exception | None = None
    status: str = "healthy"
    asked: list[tuple[str, DrawingFile, SearchParams]] = field(factory=list)
    canceled: int = 0
    stored: dict[str, dict[str, Drawing]] = field(factory=dict)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def search(
        self, tenant_id: str, file: DrawingFile, params: SearchParams, *, progress: Progress | None = None
    ) -> SearchResult:
        self.asked.append((tenant_id, file, params))
        self.begun.set()
        await self._obey()
        return SearchResult(file_hash=file.sha256, warnings=(f"{file.name} has {file.size} bytes",))

    async def _obey(self) -> None:
        if self.gate:
            try:
                await self.gate.wait()
            except anyio.get_cancelled_exc_class():
                self.canceled += 1
                raise
        if self.failure:
            raise self.failure

    async def add(
        self,
        tenant_id: str,
        file: DrawingFile,
        *,
        metadata: Mapping[str, str] | None = None,
        source: str | None = None,
    ) -> AddResult:
        await self._obey()
        drawings = self.stored.setdefault(tenant_id, {})
        drawing_id = f"d{len(drawings)}"
        drawings[drawing_id] = Drawing(
            drawing_id=drawing_id,
            file_hash=file.sha256,
            file_name=file.name,
            page=1,
            format="png",
            width=1,
            height=1,
            created_at=float(len(drawings)),
            metadata=dict(metadata or {}),
        )
        return AddResult(
            drawing_id=drawing_id,
            file_hash=file.sha256,
            drawing_ids=(drawing_id,),
            added=True,
            message="added",
            processing_time_ms=0.0,
        )

    async def remove(self, tenant_id: str, drawing_id: str) -> None:
        await self.drawing(tenant_id, drawing_id)
        del self.stored[tenant_id][drawing_id]

    async def rebuild(self, tenant_id: str) -> RebuildResult:
        await self._obey()
        return RebuildResult(message="rebuilt", drawings=len(self.stored.get(tenant_id, {})))

    async def drawings(
        self, tenant_id: str, *, limit: int = 50, page_token: str | None = None
    ) -> DrawingPage:
        everything = sorted(self.stored.get(tenant_id, {}).values(), key=lambda d: -d.created_at)
        below = read_token("drawings", page_token)[0] if page_token else float("inf")
        left = [drawing for drawing in everything if drawing.created_at < below]
        last = left[limit - 1] if len(left) > limit else None
        token = make_token("drawings", last.created_at, last.drawing_id) if last else None
        return DrawingPage(drawings=tuple(left[:limit]), total=len(everything), next_page_token=token)

    async def drawing(self, tenant_id: str, drawing_id: str) -> Drawing:
        try:
            return self.stored.get(tenant_id, {})[drawing_id]
        except KeyError:
            raise DrawingNotFoundError(drawing_id) from None

    async def picture(self, tenant_id: str, drawing_id: str) -> bytes:
        await self.drawing(tenant_id, drawing_id)
        return PNG

    async def compare(self, a: DrawingFile, b: DrawingFile, params: SearchParams) -> Comparison:
        raise NotImplementedError

    async def health(self) -> Health:
        return Health(status=self.status, details={"secret": "of another tenant"})


@frozen
class Bench:
    """The API in process, and what stands behind it."""

    client: httpx.AsyncClient
    app: Starlette
    service: Dedup2D
    vision: ObedientVision
    stopping: Stopping

    async def search(self, file: tuple[str, bytes] = ("a.png", PNG), /, **query: str) -> httpx.Response:
        return await self.client.post(f"{PREFIX}/search", params=query, files={"file": file})

    async def submit(self, file: tuple[str, bytes] = ("a.png", PNG), /, **query: str) -> str:
        """Submit a job and return its path."""
        answer = await self.search(file, **{"async": "true", **query})
        assert answer.status_code == 202, answer.text
        path: str = answer.json()["poll_url"]
        return path

    async def stored_files(self) -> int:
        return len(await self.service.files.list())


@asynccontextmanager
async def bench(
    settings: Settings | None = None,
    *,
    vision: ObedientVision | None = None,
    concurrency: int = 2,
    limits: UploadLimits | None = None,
    key: str | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[Bench]:
    """Open the API on memory back ends, with a client that sends *key*."""
    settings = settings or Settings()
    vision, metrics, stopping = vision or ObedientVision(), PrometheusMetrics(), Stopping()
    service = Dedup2D(
        jobs=MemoryJobStore(),
        files=MemoryFileStore(),
        queue=MemoryQueue(),
        vision=vision,
        observer=metrics,
        options=ServiceOptions(
            max_jobs=settings.max_jobs,
            max_upload_bytes=settings.max_upload_bytes,
            run=RunnerOptions(concurrency=concurrency),
        ),
    )
    async with service:
        app = create_app(service, settings, metrics=metrics, limits=limits, stopping=stopping)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url=f"http://{host}",
            headers={"X-API-Key": key} if key else {},
        ) as client:
            yield Bench(client, app, service, vision, stopping)


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
