"""The routes of the vision server: the dedupcad-vision contract, and what it lacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TypeVar

import anyio
import structlog
from attrs import asdict, evolve, frozen
from starlette.requests import Request
from starlette.responses import Response

from dedup2d.errors import InvalidParameterError
from dedup2d.metrics import CONTENT_TYPE, VisionServerMetrics
from dedup2d.protocols import FileStore, VisionClient
from dedup2d.runner import in_time, stored_drawing
from dedup2d.service import new_id
from dedup2d.types import DrawingFile
from dedup2d.uploads import checked, clean_file_name
from dedup2d_http.context import ClientGoneError
from dedup2d_http.params import LISTING, SEARCH_FIELDS, no_query, read_query, text_of, yes_no
from dedup2d_http.problems import METRICS_ELSEWHERE, HttpError
from dedup2d_http.routes.index import metadata_of
from dedup2d_http.routing import Resource, tenant_of
from dedup2d_http.stopping import Stopping
from dedup2d_http.uploads import UploadLimits, upload
from dedup2d_http.views import json_response, tagged_response
from dedup2d_http.vision_places import Places
from dedup2d_http.vision_views import ignored_view, search_params, search_view, source_of
from dedup2d_http.waiting import client_gone, unless

__all__ = ["RESOURCES", "VisionApi"]

T = TypeVar("T")

_DRAWINGS = "/api/v2/index/drawings"
_ADD_QUERY = {"user_name": text_of(200), "upload_to_s3": yes_no}
_NO_COPY = "no copy was kept in S3: this server has no file store"

log = structlog.get_logger("dedup2d.http")


@frozen(kw_only=True)
class VisionApi:
    """
    What the handlers work with.

    Args:
        vision: the engine.
        files: where drawings lie while they are worked on.
        limits: what an upload may cost.
        places: how many calls of the engine run and wait.
        seconds: how long one call may run.
        stopping: whether the server is about to stop.
        metrics: hears of all calls.
        shows_metrics: whether they are shown at `/metrics`.
    """

    vision: VisionClient
    files: FileStore
    limits: UploadLimits
    places: Places
    seconds: float
    stopping: Stopping
    metrics: VisionServerMetrics
    shows_metrics: bool

    @asynccontextmanager
    async def drawing(self, pieces: AsyncIterator[bytes], file_name: str) -> AsyncIterator[DrawingFile]:
        """Hold a drawing on disk while it is worked on."""
        key, name = new_id(), clean_file_name(file_name)
        stored = await self.files.put(key, checked(pieces, name, max_bytes=self.limits.max_file_bytes))
        try:
            yield stored_drawing(self.files, key, name=name, sha256=stored.sha256, size=stored.size)
        finally:
            with anyio.CancelScope(shield=True):
                await self.files.delete(key)

    async def run(self, request: Request, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call of the engine when a place is free, and stop it when the client leaves."""

        async def timed() -> list[T]:
            async with self.places.running():
                with in_time(self.seconds), self.metrics.timed_vision(operation):
                    return [await call()]

        found = await unless(timed, partial(client_gone, request.receive))
        if found is None:
            raise ClientGoneError
        return found[0]


async def search(api: VisionApi, request: Request) -> Response:
    no_query(request)
    tenant_id = tenant_of(request)
    with api.places.taken():
        body = await upload(request, api.limits, fields=SEARCH_FIELDS)
        async with api.drawing(body, body.file_name) as drawing:
            params = search_params(body.fields)
            found = await api.run(request, "search", partial(api.vision.search, tenant_id, drawing, params))
    return json_response(search_view(found, params))


async def add(api: VisionApi, request: Request) -> Response:
    query = read_query(request, _ADD_QUERY)
    tenant_id = tenant_of(request)
    with api.places.taken():
        body = await upload(request, api.limits, fields=("metadata", "source", "s3_key"), instead=("s3_key",))
        if "s3_key" in body.fields:
            raise _no_file_store(body.fields["s3_key"])
        async with api.drawing(body, body.file_name) as drawing:
            if "s3_key" in body.fields:
                raise _no_file_store(body.fields["s3_key"])
            # Who sends metadata says all of them; who sends none can name the user at least.
            user = {"user_name": query["user_name"]} if "user_name" in query else {}
            metadata = metadata_of(body.fields["metadata"]) if "metadata" in body.fields else user
            call = partial(
                api.vision.add, tenant_id, drawing, metadata=metadata, source=source_of(body.fields)
            )
            added = await api.run(request, "add", call)
    if query.get("upload_to_s3"):
        added = evolve(added, warnings=(*added.warnings, _NO_COPY))
    return json_response(added)


def _no_file_store(key: str) -> InvalidParameterError:
    return InvalidParameterError(
        "s3_key", key, "the drawing itself as the part file: this server has no file store to read it from"
    )


async def compare(api: VisionApi, request: Request) -> Response:
    no_query(request)
    limits = evolve(api.limits, max_file_bytes=2 * api.limits.max_file_bytes)
    with api.places.taken():
        body = await upload(request, limits, fields=SEARCH_FIELDS, more_files=("other",))
        async with (
            api.drawing(body.of("file"), body.name_of("file")) as first,
            api.drawing(body.of("other"), body.name_of("other")) as second,
        ):
            params = search_params(body.fields)
            found = await api.run(request, "compare", partial(api.vision.compare, first, second, params))
    return json_response({**asdict(found, recurse=False), **ignored_view(params)})


async def rebuild(api: VisionApi, request: Request) -> Response:
    no_query(request)
    with api.places.taken():
        rebuilt = await api.run(request, "rebuild", partial(api.vision.rebuild, tenant_of(request)))
    return json_response(rebuilt)


async def list_drawings(api: VisionApi, request: Request) -> Response:
    return json_response(await api.vision.drawings(tenant_of(request), **read_query(request, LISTING)))


async def show(api: VisionApi, request: Request) -> Response:
    no_query(request)
    return json_response(await api.vision.drawing(tenant_of(request), request.path_params["drawing_id"]))


async def picture(api: VisionApi, request: Request) -> Response:
    no_query(request)
    png = await api.vision.picture(tenant_of(request), request.path_params["drawing_id"])
    return tagged_response(request, png, "image/png")


async def remove(api: VisionApi, request: Request) -> Response:
    no_query(request)
    drawing_id = request.path_params["drawing_id"]
    with api.metrics.timed_vision("remove"):
        await api.vision.remove(tenant_of(request), drawing_id)
    return json_response({"success": True, "drawing_id": drawing_id, "message": "removed from the index"})


async def health(api: VisionApi, _: Request) -> Response:
    """Say whether searches can be answered, and how many indexes and drawings there are: no names."""
    found = await api.vision.health()
    if found.status == "unhealthy":
        log.warning("the engine is not healthy", **found.details)
    counts = {name: value for name, value in found.details.items() if isinstance(value, int)}
    return json_response(
        {
            "status": found.status,
            "service": "dedup2d-vision",
            "version": version("dedup2d"),
            "indexes": None,
            **counts,
        },
        503 if found.status == "unhealthy" else 200,
    )


async def live(_: VisionApi, __: Request) -> Response:
    return json_response({"status": "live"})


async def ready(api: VisionApi, _: Request) -> Response:
    if api.stopping.begun:
        return json_response({"status": "stopping"}, 503)
    return json_response({"status": "ready"})


async def metrics(api: VisionApi, _: Request) -> Response:
    if not api.shows_metrics:
        raise HttpError("NOT_FOUND", METRICS_ELSEWHERE)
    return Response(api.metrics.render(), media_type=CONTENT_TYPE)


RESOURCES: tuple[Resource[VisionApi], ...] = (
    Resource("/api/v2/search", {"POST": search}),
    Resource("/api/v2/compare", {"POST": compare}),
    Resource("/api/index/add", {"POST": add}),
    Resource("/api/v2/index/rebuild", {"POST": rebuild}),
    Resource(_DRAWINGS, {"GET": list_drawings}),
    Resource(f"{_DRAWINGS}/{{drawing_id}}", {"GET": show, "DELETE": remove}),
    Resource(f"{_DRAWINGS}/{{drawing_id}}/image", {"GET": picture}),
    Resource("/health", {"GET": health}),
    Resource("/livez", {"GET": live}),
    Resource("/readyz", {"GET": ready}),
    Resource("/metrics", {"GET": metrics}),
)
