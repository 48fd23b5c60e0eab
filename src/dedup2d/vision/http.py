"""
A vision server as a `VisionClient`: the contract of dedupcad-vision over HTTP.

Searching, adding and rebuilding work with any server that keeps the contract; listing, looking at and
removing drawings, and comparing two files, only with `dedup2d vision serve`. A server that does not know the
header `X-Dedup-Tenant-Id` has one index for all tenants.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import quote

import anyio

from dedup2d.errors import Dedup2DError, DrawingNotFoundError, MissingExtraError
from dedup2d.observe import Observer
from dedup2d.protocols import Progress
from dedup2d.tenants import check_tenant_id
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
from dedup2d.vision.http_answers import (
    read_added,
    read_as,
    read_comparison,
    read_health,
    read_picture,
    read_rebuilt,
    read_result,
)
from dedup2d.vision.http_options import VisionOptions, check_vision_url
from dedup2d.vision.http_transport import Endpoint, Request, Transport
from dedup2d.vision.http_upload import MultipartBody

try:
    import msgspec
except ImportError:
    raise MissingExtraError("http", "calling a vision server (msgspec)") from None

__all__ = ["HTTPVisionClient", "VisionOptions", "check_vision_url"]

_MIB = 1024 * 1024
_DRAWINGS = "/api/v2/index/drawings"
_HEALTH_SECONDS = 3.0

# Reading, because of difference pictures: up to 50 of them stand in a result.
_SEARCH = Endpoint(name="search", most_bytes=64 * _MIB, again=True)
_ADD = Endpoint(name="add")
_REBUILD = Endpoint(name="rebuild")
# Without a circuit, so that it shows at once when the server is back.
_HEALTH = Endpoint(name="health", method="GET", again=True, spared=False, seconds=_HEALTH_SECONDS)
_LIST = Endpoint(name="drawings", method="GET", most_bytes=64 * _MIB, again=True, what="list drawings")
_SHOW = Endpoint(name="drawing", method="GET", again=True, what="show single drawings")
_PICTURE = Endpoint(
    name="picture", method="GET", most_bytes=64 * _MIB, again=True, what="give pictures of drawings"
)
_REMOVE = Endpoint(name="remove", method="DELETE", what="remove drawings")
_COMPARE = Endpoint(name="compare", most_bytes=64 * _MIB, again=True, what="compare two files")
_ENDPOINTS = (_SEARCH, _ADD, _REBUILD, _HEALTH, _LIST, _SHOW, _PICTURE, _REMOVE, _COMPARE)


class HTTPVisionClient:
    """
    A `VisionClient` on a vision server. Needs the asyncio backend of anyio.

    Args:
        options: where the server is, and how patient to be.
        observer: hears of every request, retry and change of a circuit.
        clock: gives seconds that only grow, for the circuits.
    """

    def __init__(
        self,
        options: VisionOptions,
        *,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        observer = observer or Observer()
        for endpoint in _ENDPOINTS:
            observer.vision_server(endpoint.name, spared=endpoint.spared)
        self._transport = Transport(options, observer=observer, clock=clock)

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._transport.close()

    async def search(
        self,
        tenant_id: str,
        file: DrawingFile,
        params: SearchParams,
        *,
        progress: Progress | None = None,
    ) -> SearchResult:
        """
        Search on the server; a server that does not know the thresholds of *params* applies its own.

        Raises:
            VisionUnavailableError, VisionCircuitOpenError: may pass; try again later.
            VisionBadResponseError: the answer cannot be used, twice.
            VisionRefusedError: the server refused for a reason that is not known here.
            UnsupportedFormatError, UnreadableDrawingError, ImageTooLargeError: the file.
        """
        fields = _search_fields(params)
        request = Request(
            path="/api/v2/search",
            tenant_id=check_tenant_id(tenant_id),
            body=lambda: MultipartBody(fields, {"file": file}),
        )
        if progress:
            progress("waiting for the vision server")
        return await self._transport.ask(
            _SEARCH, request, lambda data: read_result(data, file, params.ignore)
        )

    async def add(
        self,
        tenant_id: str,
        file: DrawingFile,
        *,
        metadata: Mapping[str, str] | None = None,
        source: str | None = None,
    ) -> AddResult:
        """
        Add the file on the server, tried once.

        Raises: as `search`.
        """
        fields = {"metadata": msgspec.json.encode(dict(metadata or {})).decode()}
        if source is not None:
            fields["source"] = source
        # Other servers demand a user, and keep a copy in S3 unless they are told not to.
        user = (metadata or {}).get("user_name") or "dedup2d"
        request = Request(
            path="/api/index/add",
            tenant_id=check_tenant_id(tenant_id),
            query={"user_name": user, "upload_to_s3": "false"},
            body=lambda: MultipartBody(fields, {"file": file}),
        )
        return await self._transport.ask(_ADD, request, read_added)

    async def remove(self, tenant_id: str, drawing_id: str) -> None:
        """
        Remove the drawing on the server, tried once.

        Raises:
            DrawingNotFoundError: no such drawing in this tenant's index.
            VisionUnsupportedError: the server is not ours and cannot do this.
            VisionUnavailableError, VisionCircuitOpenError: may pass; try again later.
        """
        request = Request(path=_path_of(drawing_id), tenant_id=check_tenant_id(tenant_id))
        await self._transport.ask(_REMOVE, request, lambda _: None)

    async def rebuild(self, tenant_id: str) -> RebuildResult:
        """
        Rebuild the tenant's index on the server, tried once.

        Raises: as `search`.
        """
        request = Request(path="/api/v2/index/rebuild", tenant_id=check_tenant_id(tenant_id))
        return await self._transport.ask(_REBUILD, request, read_rebuilt)

    async def drawings(
        self, tenant_id: str, *, limit: int = 50, page_token: str | None = None
    ) -> DrawingPage:
        """
        List the tenant's drawings, the last added first.

        Raises:
            InvalidParameterError: a foreign *page_token*, or *limit* is not 1 to 500.
            VisionUnsupportedError: the server is not ours and cannot do this.
            VisionUnavailableError, VisionCircuitOpenError: may pass; try again later.
        """
        query = {"limit": str(limit)} | ({} if page_token is None else {"page_token": page_token})
        request = Request(path=_DRAWINGS, tenant_id=check_tenant_id(tenant_id), query=query)
        return await self._transport.ask(_LIST, request, lambda data: read_as(data, DrawingPage))

    async def drawing(self, tenant_id: str, drawing_id: str) -> Drawing:
        """
        Return one drawing.

        Raises: as `remove`.
        """
        request = Request(path=_path_of(drawing_id), tenant_id=check_tenant_id(tenant_id))
        return await self._transport.ask(_SHOW, request, lambda data: read_as(data, Drawing))

    async def picture(self, tenant_id: str, drawing_id: str) -> bytes:
        """
        Return the drawing as a PNG picture of at most 64 MiB.

        Raises: as `remove`.
        """
        request = Request(path=_path_of(drawing_id) + "/image", tenant_id=check_tenant_id(tenant_id))
        return await self._transport.ask(_PICTURE, request, read_picture)

    async def compare(self, a: DrawingFile, b: DrawingFile, params: SearchParams) -> Comparison:
        """
        Compare the first sheets of two files on the server.

        Raises: as `search`; and
            VisionUnsupportedError: the server is not ours and cannot do this.
        """
        fields = _search_fields(params)
        request = Request(path="/api/v2/compare", body=lambda: MultipartBody(fields, {"file": a, "other": b}))
        return await self._transport.ask(_COMPARE, request, lambda data: read_comparison(data, params.ignore))

    async def health(self) -> Health:
        """Ask the server, for 3 seconds at most with each try."""
        try:
            return await self._transport.ask(_HEALTH, Request(path="/health"), read_health)
        except Dedup2DError as error:
            return Health(status="unhealthy", details={"error": str(error), "code": error.code})


def _search_fields(params: SearchParams) -> dict[str, str]:
    """Return the fields of the contract, and those that only our own server knows."""
    fields = {
        "mode": params.mode,
        "max_results": str(params.max_results),
        "compute_diff": _yes_no(params.compute_diff),
        "enable_ml": _yes_no(params.enable_ml),
        "enable_geometric": _yes_no(params.enable_geometric),
        "exclude_self": _yes_no(params.exclude_self),
        "diff_top_n": f"{params.diff_top_n:.0f}",
        "duplicate_threshold": repr(float(params.duplicate_threshold)),
        "similar_threshold": repr(float(params.similar_threshold)),
    }
    # only where it is asked for: an older server of ours refuses what it does not know
    return {**fields, "ignore": ";".join(map(str, params.ignore))} if params.ignore else fields


def _yes_no(value: bool) -> str:
    return "true" if value else "false"


def _path_of(drawing_id: str) -> str:
    if drawing_id in ("", ".", ".."):  # would name another path
        raise DrawingNotFoundError(drawing_id)
    return f"{_DRAWINGS}/{quote(drawing_id, safe='', errors='replace')}"
