"""The client: a method for each thing that the API does."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote
from uuid import uuid4

import anyio

from dedup2d.client.answers import (
    canceled,
    config_of,
    deleted,
    exists,
    health_of,
    job_of,
    job_page_of,
    presets_of,
    submitted_id,
    value_of,
)
from dedup2d.client.events import events_of
from dedup2d.client.options import ClientOptions
from dedup2d.client.problems import error_of_code
from dedup2d.client.transport import Answer, Request, Transport
from dedup2d.configs import TenantConfig
from dedup2d.errors import JobTimeoutError
from dedup2d.geometry.result import GeometryScore
from dedup2d.parameters import ParameterValue
from dedup2d.presets import Preset
from dedup2d.search_params import SearchParams
from dedup2d.types import (
    AddResult,
    Drawing,
    DrawingFile,
    DrawingPage,
    Health,
    Job,
    JobPage,
    JobStatus,
    RebuildResult,
    SearchResult,
)
from dedup2d.uploads import Data, as_chunks, clean_file_name, spooled
from dedup2d.vision.http_upload import MultipartBody

__all__ = ["Dedup2DClient"]

_POLL_SECONDS = 30
_MARGIN_SECONDS = 15.0
_COMPARED_BY = ("precision_profile", "precision_compute_diff", "precision_diff_max_paths")


class Dedup2DClient:
    """
    A client of one service; an async context manager, to be used by any number of tasks at once.

    Drawings are given as a path, as bytes, or as an async stream of bytes. Requests are made again after
    errors that may pass, where that does nothing twice: submitted searches carry an `Idempotency-Key`.

    All methods raise:
        ServiceUnreachableError: nothing came back.
        ServiceError: the service refused for a reason that has no class here, as for a wrong key.
        Dedup2DError: as the method of the same name of `dedup2d.Dedup2D` says.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._transport = Transport(options)

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.close()

    # Searches and their jobs

    async def search(
        self,
        drawing: Data,
        *,
        file_name: str | None = None,
        params: SearchParams | None = None,
        preset: str | None = None,
        geometry: bytes | Path | None = None,
        timeout: float = 600.0,  # noqa: ASYNC109 - of a job, which goes on
    ) -> SearchResult:
        """
        Search, and wait for the answer; also where the service makes a job of it.

        *timeout* seconds are waited for such a job. *geometry* is the drawing's v2 geometry JSON.

        Raises:
            JobTimeoutError: the job is not final yet; it goes on.
            Dedup2DError: why the job failed.
        """
        query = _search_query(params, preset)
        answer = await self._post_search(drawing, file_name, geometry, query, uuid4().hex)
        if answer.status == 200:
            return value_of(answer.body, SearchResult)
        job = await self.wait(submitted_id(answer.body), timeout=timeout)
        if job.status is JobStatus.COMPLETED and job.result is not None:
            return job.result
        if not job.status.final:
            raise JobTimeoutError.saying(
                f"job {job.job_id} is not final after {timeout:g} s: it goes on, to be waited for or canceled"
            )
        raise error_of_code(job.error_code or job.status.value.upper(), job.error or "the job was canceled")

    async def submit(
        self,
        drawing: Data,
        *,
        file_name: str | None = None,
        params: SearchParams | None = None,
        preset: str | None = None,
        geometry: bytes | Path | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a search as a job. Without *idempotency_key* one is made for the attempts of this call."""
        query = [*_search_query(params, preset), ("async", "true")]
        if callback_url is not None:
            query.append(("callback_url", callback_url))
        key = idempotency_key or uuid4().hex
        answer = await self._post_search(drawing, file_name, geometry, query, key)
        return await self.job(submitted_id(answer.body))

    async def job(self, job_id: str) -> Job:
        """Return a job, with its result once it is completed."""
        return job_of((await self._get(f"/jobs/{_segment(job_id)}")).body)

    async def wait(self, job_id: str, *, timeout: float = 600.0) -> Job:  # noqa: ASYNC109 - a wait, not a failure
        """Return the job once it is final, or as it is after *timeout* seconds."""
        end = time.monotonic() + timeout
        while True:
            seconds = max(0, round(min(_POLL_SECONDS, end - time.monotonic())))
            request = Request(
                method="GET",
                path=f"/jobs/{_segment(job_id)}",
                headers={"Prefer": f"wait={seconds}"},
                seconds=seconds + _MARGIN_SECONDS,
            )
            job = job_of((await self._transport.ask(request)).body)
            if job.status.final or time.monotonic() >= end:
                return job
            if not seconds:
                await anyio.sleep(max(0.0, end - time.monotonic()))

    async def events(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Give the job, without its result, at each change until it is final; connects again by itself."""
        async with aclosing(events_of(self._transport, f"/jobs/{_segment(job_id)}/events")) as changes:
            async for job in changes:
                yield job

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; say whether it is canceled, or will be within a second."""
        answer = await self._transport.ask(Request(method="POST", path=f"/jobs/{_segment(job_id)}/cancel"))
        return canceled(answer.body)

    async def redeliver(self, job_id: str) -> None:
        """Have the callback of a final job sent again."""
        path = f"/jobs/{_segment(job_id)}/callback/redeliver"
        await self._transport.ask(Request(method="POST", path=path, again=False))

    async def job_page(
        self, *, status: JobStatus | None = None, limit: int = 50, page_token: str | None = None
    ) -> JobPage:
        """Return a page of jobs, newest first, without their results."""
        query = _page_query(limit, page_token)
        if status is not None:
            query["status"] = status.value
        return job_page_of((await self._get("/jobs", query)).body)

    async def jobs(self, *, status: JobStatus | None = None) -> AsyncGenerator[Job, None]:
        """Give all jobs, newest first, without their results."""
        token: str | None = None
        while True:
            page = await self.job_page(status=status, limit=200, page_token=token)
            for job in page.jobs:
                yield job
            if (token := page.next_page_token) is None:
                return

    # The index

    async def add(
        self,
        drawing: Data,
        *,
        file_name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        geometry: bytes | Path | None = None,
    ) -> AddResult:
        """
        Add each sheet of a drawing; the same bytes under the same name are added once.

        *geometry* is its v2 geometry JSON, stored for searches that bring theirs.
        """
        fields = {} if metadata is None else {"metadata": json.dumps(dict(metadata))}
        async with self._upload(drawing, file_name, fields, geometry) as body:
            # Again adds nothing: the service knows the bytes.
            answer = await self._transport.ask(Request(method="POST", path="/index/add", body=body))
        return value_of(answer.body, AddResult)

    async def drawing_page(self, *, limit: int = 50, page_token: str | None = None) -> DrawingPage:
        """Return a page of the drawings of the index, newest first."""
        answer = await self._get("/index/drawings", _page_query(limit, page_token))
        return value_of(answer.body, DrawingPage)

    async def drawings(self) -> AsyncGenerator[Drawing, None]:
        """Give all drawings of the index, newest first."""
        token: str | None = None
        while True:
            page = await self.drawing_page(limit=200, page_token=token)
            for drawing in page.drawings:
                yield drawing
            if (token := page.next_page_token) is None:
                return

    async def drawing(self, drawing_id: str) -> Drawing:
        """Return one drawing of the index."""
        return value_of((await self._get(f"/index/drawings/{_segment(drawing_id)}")).body, Drawing)

    async def picture(self, drawing_id: str) -> bytes:
        """Return one drawing of the index as a PNG picture."""
        return (await self._get(f"/index/drawings/{_segment(drawing_id)}/image")).body

    async def remove(self, drawing_id: str) -> None:
        """Remove one drawing from the index."""
        # Again would say that it is not there, where the first answer was lost.
        path = f"/index/drawings/{_segment(drawing_id)}"
        await self._transport.ask(Request(method="DELETE", path=path, again=False))

    async def rebuild(self) -> RebuildResult:
        """Make all fingerprints of the index anew; takes as long as the upload of a large drawing may."""
        # Again would do all of it once more, beside a first that may go on.
        seconds = self._options.upload_seconds
        request = Request(method="POST", path="/index/rebuild", seconds=seconds, again=False)
        return value_of((await self._transport.ask(request)).body, RebuildResult)

    async def has_geometry(self, file_hash: str) -> bool:
        """Say whether the geometry of the file with this sha256 is stored."""
        return exists((await self._get(f"/geom/{_segment(file_hash)}/exists")).body)

    async def compare_geometry(
        self, query: bytes | Path, other: bytes | Path, *, params: SearchParams | None = None
    ) -> GeometryScore:
        """Compare two geometries by the profile and the limits of differences of *params*."""
        given = [pair for pair in _search_query(params, None) if pair[0] in _COMPARED_BY]
        files = {"query": await _geometry(query), "other": await _geometry(other)}
        request = Request(
            method="POST", path="/precision/compare", query=given, body=lambda: MultipartBody({}, files)
        )
        return value_of((await self._transport.ask(request)).body, GeometryScore)

    # Presets and what the tenant has configured

    async def presets(self) -> dict[str, Preset]:
        """Return the presets by name."""
        return presets_of((await self._get("/presets")).body)

    async def config(self) -> TenantConfig | None:
        """Return what the tenant has configured for its searches, None if that is nothing."""
        return config_of((await self._get("/config")).body)

    async def set_config(
        self, parameters: Mapping[str, ParameterValue], *, preset: str | None = None
    ) -> TenantConfig | None:
        """Configure the tenant's searches, in place of what was configured; needs the scope `admin`."""
        body: dict[str, object] = {**parameters, **({} if preset is None else {"preset": preset})}
        return config_of((await self._transport.ask(Request(method="PUT", path="/config", json=body))).body)

    async def delete_config(self) -> bool:
        """Forget what the tenant has configured; say whether that was anything. Needs the scope `admin`."""
        answer = await self._transport.ask(Request(method="DELETE", path="/config", again=False))
        return deleted(answer.body)

    async def health(self) -> Health:
        """Say whether searches can be answered."""
        return await health_of(self._transport)

    # Inside

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> Answer:
        return await self._transport.ask(Request(method="GET", path=path, query=query))

    async def _post_search(
        self,
        drawing: Data,
        file_name: str | None,
        geometry: bytes | Path | None,
        query: list[tuple[str, str]],
        key: str,
    ) -> Answer:
        async with self._upload(drawing, file_name, {}, geometry) as body:
            return await self._transport.ask(
                Request(
                    method="POST", path="/search", query=query, body=body, headers={"Idempotency-Key": key}
                )
            )

    @asynccontextmanager
    async def _upload(
        self,
        drawing: Data,
        file_name: str | None,
        fields: Mapping[str, str],
        geometry: bytes | Path | None,
    ) -> AsyncIterator[Callable[[], MultipartBody]]:
        """Give what makes the body of a request, each time from the drawing's beginning."""
        beside = {} if geometry is None else {"geom_json": await _geometry(geometry)}
        given = file_name or (drawing.name if isinstance(drawing, Path) else "drawing")
        name = clean_file_name(given)
        async with spooled(drawing, name, max_bytes=self._options.max_upload_bytes) as file:
            yield lambda: MultipartBody(fields, {**beside, "file": file})


async def _geometry(geometry: bytes | Path) -> DrawingFile:
    """Return geometry as a part of a body; what is no geometry is the service's to refuse."""
    data = await anyio.Path(geometry).read_bytes() if isinstance(geometry, Path) else geometry
    return DrawingFile(name="geom.json", sha256="", size=len(data), open=lambda: as_chunks(data))


def _segment(identifier: str) -> str:
    """Return an id as one segment of a path: it cannot lead to another route."""
    return quote(identifier, safe="", errors="replace").replace(".", "%2E") or "%20"


def _page_query(limit: int, page_token: str | None) -> dict[str, str]:
    return {"limit": str(limit), **({} if page_token is None else {"page_token": page_token})}


def _search_query(params: SearchParams | None, preset: str | None) -> list[tuple[str, str]]:
    """Return what differs from the defaults: a preset's values stand where nothing else was asked for."""
    query = [] if preset is None else [("preset", preset)]
    default = SearchParams()
    for name in (each.name for each in SearchParams.__attrs_attrs__):
        value = getattr(params or default, name)
        if value == getattr(default, name):
            continue
        if isinstance(value, tuple):
            query += [(name, str(each)) for each in value]
        else:
            query.append((name, str(value).lower() if isinstance(value, bool) else str(value)))
    return query
