"""Searches: answered at once, or taken in as a job."""

from __future__ import annotations

from collections.abc import AsyncIterable
from functools import partial

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from dedup2d.keys import Scope
from dedup2d.parameters import Effective
from dedup2d.types import Job, Mode, SearchResult
from dedup2d_http.context import ClientGoneError
from dedup2d_http.contract import (
    DRAWING,
    DRAWING_PROBLEMS,
    GEOM_JSON,
    UPLOAD_PROBLEMS,
    VISION_PROBLEMS,
    Answer,
    Header,
    operation,
)
from dedup2d_http.headers import idempotency_key, preferences
from dedup2d_http.params import SEARCH_QUERY, SearchQuery, search_query
from dedup2d_http.routing import PREFIX, Api, Resource, job_path, tenant_of
from dedup2d_http.uploads import Spool, Upload, upload
from dedup2d_http.views import SubmittedView, json_response
from dedup2d_http.waiting import client_gone, unless

__all__ = ["RESOURCES"]


@frozen
class _Search:
    """One request to search."""

    api: Api
    request: Request
    chosen: Effective
    idempotency_key: str | None
    callback_url: str | None
    body: Upload

    async def now(self, data: AsyncIterable[bytes]) -> Response:
        """Search while the client waits; stop if it does not."""

        async def gone() -> None:
            await self.body.done.wait()
            await client_gone(self.request.receive)

        found = await unless(
            partial(
                self.api.service.search,
                tenant_of(self.request),
                data,
                file_name=self.body.file_name,
                params=self.chosen,
                geometry=self.geometry,
            ),
            gone,
        )
        if found is None:
            raise ClientGoneError
        return json_response(found)

    async def as_job(self, data: AsyncIterable[bytes], forced: str | None = None) -> Response:
        """Take the search in as a job; *forced* says why, where the client did not ask for one."""
        job = await self.api.service.submit(
            tenant_of(self.request),
            data,
            file_name=self.body.file_name,
            params=self.chosen,
            idempotency_key=self.idempotency_key,
            callback_url=self.callback_url,
            geometry=self.geometry,
        )
        return _taken_in(self.request, job, forced)

    async def as_needed(self) -> Response:
        """Look at what comes, and make a job of it if that is large or has geometry."""
        if self.forced_by_geometry:
            return await self.as_job(self.body, "precision")
        async with Spool.of(self.body) as spool:
            if not await spool.holds_all(self.api.settings.forced_async_file_size_bytes):
                return await self.as_job(spool, "file_size")
            if self.forced_by_geometry:
                return await self.as_job(spool, "precision")
            return await self.now(spool)

    @property
    def forced_by_geometry(self) -> bool:
        return (
            self.api.settings.forced_async_on_precision
            and self.chosen.params.precise
            and self.body.has_geometry(GEOM_JSON.name)
        )

    def geometry(self) -> bytes | None:
        """Return the geometry, once the drawing is through: it may stand behind it."""
        return self.body.geometry(GEOM_JSON.name)


def _taken_in(request: Request, job: Job, forced: str | None) -> Response:
    poll_url = job_path(request, job.job_id)
    headers = {"Location": poll_url, "Retry-After": "1"}
    if preferences(request.headers).respond_async:
        headers["Preference-Applied"] = "respond-async"
    return json_response(
        SubmittedView(job_id=job.job_id, status=job.status, poll_url=poll_url, forced_async_reason=forced),
        202,
        headers,
    )


async def _search_by_key(api: Api, request: Request, query: SearchQuery, file_key: str) -> Response:
    """Take in a search by a file that the client has put into the file store itself."""
    job = await api.service.submit_stored(
        tenant_of(request),
        file_key,
        file_name=query.file_name or "drawing",
        params=await _chosen(api, request, query),
        idempotency_key=idempotency_key(request.headers),
        callback_url=query.callback_url,
    )
    return _taken_in(request, job, None if query.run_async else "file_key")


@operation(
    "Search the index for drawings that are related to one, at once or as a job",
    text=(
        "Be ready for both answers: a large drawing, one with geometry, or mode=precise, is made a job"
        " without being asked. "
        "The drawing comes as the part `file`, or was put before, under the `file_key` of an offer."
    ),
    query=SEARCH_QUERY,
    headers=[
        Header("Prefer", "respond-async: answer with a job"),
        Header(
            "Idempotency-Key",
            "makes a job repeatable: the same key, file and parameters give the same job",
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
        ),
    ],
    body=[DRAWING, GEOM_JSON],
    body_required=False,
    answers=[
        Answer(200, SearchResult, "the matches"),
        Answer(
            202,
            SubmittedView,
            "it was taken in as a job",
            headers={
                "Location": "where to poll the job",
                "Retry-After": "seconds until it is worth to ask",
                "Preference-Applied": "respond-async, if that was asked for",
            },
        ),
    ],
    problems=[
        *UPLOAD_PROBLEMS,
        *DRAWING_PROBLEMS,
        *VISION_PROBLEMS,
        "CALLBACK_QUEUE_FULL",
        "CALLBACK_URL_INVALID",
        "FILE_NOT_FOUND",
        "INVALID_GEOM_JSON",
        "IDEMPOTENCY_CONFLICT",
        "JOB_QUEUE_FULL",
    ],
)
async def search(api: Api, request: Request) -> Response:
    query = search_query(request)
    if query.file_key is not None:
        return await _search_by_key(api, request, query, query.file_key)
    asked = query.run_async or preferences(request.headers).respond_async
    key = idempotency_key(request.headers)
    chosen = await _chosen(api, request, query)
    with await upload(request, api.limits_of(request), geometry=[GEOM_JSON.name]) as body:
        this = _Search(api, request, chosen, key, query.callback_url, body)
        if asked:
            return await this.as_job(body)
        if query.callback_url is not None:
            return await this.as_job(body, "callback_url")
        if chosen.params.mode is Mode.PRECISE and api.settings.forced_async_on_mode_precise:
            return await this.as_job(body, "mode_precise")
        return await this.as_needed()


async def _chosen(api: Api, request: Request, query: SearchQuery) -> Effective:
    return await api.service.effective(tenant_of(request), query.given, preset=query.preset)


RESOURCES = (Resource(f"{PREFIX}/search", {"POST": search}, Scope.SEARCH),)
