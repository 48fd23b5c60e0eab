"""
Geometry beside searches: read what comes with a query, compare it with what is stored of the matches.

Whatever goes wrong with comparing is a warning of the result: the pictures have found something without it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import anyio
import anyio.to_thread
from attrs import define, evolve, field, frozen

from dedup2d.children import Children
from dedup2d.errors import (
    Dedup2DError,
    InvalidGeometryError,
    InvalidParameterError,
    MissingExtraError,
    StoreUnavailableError,
    UnreadableDrawingError,
)
from dedup2d.files.keys import is_file_hash
from dedup2d.geometry.result import GeometryScore
from dedup2d.observe import Observer
from dedup2d.precision.findings import Facts, Finding
from dedup2d.precision.fusion import fuse, looked_at
from dedup2d.precision.version_gate import Named
from dedup2d.precision.work import Wanted, compared, examined, extracted, scored
from dedup2d.protocols import MAX_GEOMETRY_BYTES, GeometryStore, KnowsFiles, VisionClient
from dedup2d.readers.sniff import HEAD_BYTES, sniff
from dedup2d.types import AddResult, DrawingFile, Match, SearchParams, SearchResult
from dedup2d.uploads import on_disk

if TYPE_CHECKING:
    from dedup2d.readers import ReadLimits

__all__ = ["Geometry", "Precision", "PrecisionOptions", "QueryGeometry"]

T = TypeVar("T")

Geometry = bytes | Path | Callable[[], bytes | None]
"""Geometry JSON: as a whole, where it lies on disk, or what gives it once the drawing has come."""

_NAME = "geom_json"
_PAGE, _MOST_PAGES = 500, 100
_CAD_FORMATS = frozenset({"dxf", "dwg"})

log = logging.getLogger("dedup2d.precision")


@frozen(kw_only=True)
class PrecisionOptions:
    """
    What geometry may cost.

    Args:
        read_seconds: how long reading one may take.
        compare_seconds: how long comparing two may take.
        search_seconds: how long all comparing of one search may take; what is not done by then is not done.
        extract_seconds: how long taking the geometry out of a file that is added may take.
        at_once: how many are held in memory to be read.
    """

    read_seconds: float = 10.0
    compare_seconds: float = 30.0
    search_seconds: float = 60.0
    extract_seconds: float = 60.0
    at_once: int = 8


@frozen(kw_only=True)
class QueryGeometry:
    """Geometry that was read: its JSON, and what it is."""

    data: bytes = field(repr=False)
    facts: Facts


@define(kw_only=True, eq=False)
class Precision:
    """
    Compares geometries in child processes, as an async context manager.

    Args:
        store: where the geometries of drawings are; opened and closed by whoever made it.
        children: the processes, which it opens and closes.
        options: limits.
        limits: of reading files to take geometry from; None for those of `ReadLimits`.
        observer: hears what was compared.
    """

    store: GeometryStore
    children: Children = field(factory=partial(Children, processes=1))
    options: PrecisionOptions = field(factory=PrecisionOptions)
    limits: ReadLimits | None = None
    observer: Observer = field(factory=Observer)
    _reading: anyio.CapacityLimiter = field(init=False)

    async def __aenter__(self) -> Self:
        self._reading = anyio.CapacityLimiter(self.options.at_once)
        await self.children.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.children.__aexit__(exc_type, exc, traceback)

    async def read(self, geometry: Geometry | None) -> QueryGeometry | None:
        """
        Read geometry that comes from outside; None where there is none.

        Raises:
            InvalidGeometryError: it is not JSON, not of the v2 format, or exceeds a limit; or the packages
                for it are not installed.
        """
        if geometry is None:
            return None
        async with self._reading:
            data = await anyio.to_thread.run_sync(_bytes_of, geometry)
            if data is None:
                return None
            facts = await self._call(examined, data, seconds=self.options.read_seconds)
        return QueryGeometry(data=data, facts=facts)

    async def compare(self, query: Geometry, other: Geometry, params: SearchParams) -> GeometryScore:
        """
        Compare two geometries from outside, as *params* have it.

        Raises:
            InvalidGeometryError: as `read`; or comparing takes too long, or too much memory.
        """
        wanted = Wanted(
            profile=params.precision_profile,
            max_paths=params.precision_diff_max_paths,
            with_diff=params.precision_compute_diff,
        )
        async with self._reading:
            left = await anyio.to_thread.run_sync(_bytes_of, query)
            right = await anyio.to_thread.run_sync(_bytes_of, other)
            seconds = self.options.compare_seconds
            return await self._call(compared, left or b"", right or b"", wanted, seconds=seconds)

    async def extracted(self, file: DrawingFile) -> tuple[bytes | None, tuple[str, ...]]:
        """
        Return the geometry of a DXF or DWG file, and what is to be said of it.

        Whatever goes wrong is said, and no error: the drawing is as good without.
        """
        try:
            async with self._reading, on_disk(file) as path:
                found = await self.children.call(
                    extracted,
                    str(path),
                    file.name,
                    self.limits,
                    seconds=self.options.extract_seconds,
                    name=file.name,
                )
        except UnreadableDrawingError as error:
            return None, (f"its geometry was not taken: {error.reason}",)
        except MissingExtraError as error:
            return None, (f"its geometry was not taken: {error}",)
        except Exception:
            log.exception("the geometry of a drawing could not be taken")
            return None, ("its geometry was not taken: that failed unexpectedly, see the service's log",)
        return found.data, found.warnings

    async def stored(
        self, tenant_id: str, file: DrawingFile, added: AddResult, geometry: QueryGeometry | None
    ) -> AddResult:
        """
        Store the geometry of a drawing that was added, or what can be taken from its file.

        Raises:
            StoreUnavailableError: it cannot be stored now. Add the drawing again.
        """
        if not is_file_hash(added.file_hash):
            told = "its geometry was not stored: the vision server names files otherwise than by their sha256"
            return added if geometry is None else evolve(added, warnings=(*added.warnings, told))
        data, notes = (geometry.data, geometry.facts.warnings) if geometry is not None else (None, ())
        if data is None and await _is_cad(file) and not await self.store.exists(tenant_id, added.file_hash):
            data, notes = await self.extracted(file)
        if data is not None:
            await self.store.put(tenant_id, added.file_hash, data)
        return evolve(added, warnings=(*added.warnings, *notes))

    async def forget(self, tenant_id: str, file_hash: str, vision: VisionClient) -> None:
        """
        Delete the geometry of a file if none of its sheets is in the index any more.

        What cannot be deleted now is collected later.
        """
        try:
            if not is_file_hash(file_hash) or not await self.store.exists(tenant_id, file_hash):
                return
            if not await _is_indexed(vision, tenant_id, file_hash):
                await self.store.delete(tenant_id, file_hash)
        except Dedup2DError as error:
            log.warning("the geometry of a removed drawing is left over", extra={"error": str(error)})

    async def overlay(
        self,
        tenant_id: str,
        drawing_name: str,
        result: SearchResult,
        params: SearchParams,
        geometry: QueryGeometry,
    ) -> SearchResult:
        """
        Return *result* with what the *geometry* of the query says.

        Raises:
            StoreUnavailableError: the geometries of the matches cannot be got now.
        """
        begin = time.perf_counter()
        if not params.precise:
            why = "enable_precision" if not params.enable_precision else "enable_geometric"
            return evolve(
                result, warnings=(*result.warnings, f"geom_json was not compared, as {why} is false")
            )
        findings = await self._findings(tenant_id, looked_at(result, params), params, geometry)
        query = Named(drawing_name, geometry.facts.drawing_number)
        fused = fuse(result, params, query, findings)
        seconds = time.perf_counter() - begin
        self.observer.precision_ran(fused.counts, seconds)
        warnings = (*fused.result.warnings, *(f"geom_json: {text}" for text in geometry.facts.warnings))
        return evolve(_timed(fused.result, seconds * 1000), warnings=warnings)

    async def _findings(
        self, tenant_id: str, matches: Sequence[Match], params: SearchParams, query: QueryGeometry
    ) -> dict[str, Finding]:
        """Return what is found of each file that has geometry: of several sheets once."""
        names = {match.file_hash: match.file_name for match in matches}
        late = Finding(failure=f"it took longer than {self.options.search_seconds:g} s in all")
        findings: dict[str, Finding] = dict.fromkeys(names, late)
        wanted = Wanted(profile=params.precision_profile, max_paths=params.precision_diff_max_paths)
        failure: Exception | None = None

        async def find(file_hash: str) -> None:
            nonlocal failure
            try:
                found = await self._finding(tenant_id, file_hash, query, wanted, names[file_hash])
            except Dedup2DError as error:
                failure = error
                tasks.cancel_scope.cancel()
                return
            if found is None:
                del findings[file_hash]
            else:
                findings[file_hash] = found

        with anyio.move_on_after(self.options.search_seconds):
            async with anyio.create_task_group() as tasks:
                for file_hash in names:
                    tasks.start_soon(find, file_hash)
        if failure is not None:
            raise failure
        return findings

    async def _finding(
        self, tenant_id: str, file_hash: str, query: QueryGeometry, wanted: Wanted, name: str
    ) -> Finding | None:
        async with self._reading:
            try:
                data = await self.store.get(tenant_id, file_hash)
                if data is None:
                    return None
                return await self.children.call(
                    scored, query.data, data, wanted, seconds=self.options.compare_seconds, name=name
                )
            except InvalidParameterError:
                return None  # a vision server that hashes otherwise: nothing is stored under such a hash
            except StoreUnavailableError:
                raise
            except UnreadableDrawingError as error:
                return Finding(failure=error.reason)
            except Dedup2DError as error:
                return Finding(failure=str(error))
            except Exception:
                log.exception("two geometries could not be compared", extra={"file_hash": file_hash})
                return Finding(failure="comparing failed unexpectedly: see the service's log")

    async def _call(self, func: Callable[..., T], *args: object, seconds: float) -> T:
        try:
            return await self.children.call(func, *args, seconds=seconds, name=_NAME)
        except UnreadableDrawingError as error:
            raise InvalidGeometryError("the document", error.reason, "send fewer entities") from None
        except InvalidGeometryError:
            raise
        except MissingExtraError as error:
            raise InvalidGeometryError("the document", f"is not read here ({error})", "send none") from error
        except Exception as error:
            log.exception("geometry could not be read")
            raise InvalidGeometryError("the document", "breaks what reads it") from error


async def _is_indexed(vision: VisionClient, tenant_id: str, file_hash: str) -> bool:
    """Say whether a drawing of the file is in the index; of a large one that cannot tell, say yes."""
    if isinstance(vision, KnowsFiles):
        return file_hash in await vision.indexed_files(tenant_id, [file_hash])
    token: str | None = None
    for _ in range(_MOST_PAGES):
        page = await vision.drawings(tenant_id, limit=_PAGE, page_token=token)
        if any(drawing.file_hash == file_hash for drawing in page.drawings):
            return True
        if (token := page.next_page_token) is None:
            return False
    return True


async def _is_cad(file: DrawingFile) -> bool:
    head = b""
    async with aclosing(file.open()) as chunks:  # type: ignore[type-var]  # generators have aclose
        async for chunk in chunks:
            head += chunk
            if len(head) >= HEAD_BYTES:
                break
    return sniff(head, file.name) in _CAD_FORMATS


def _bytes_of(geometry: Geometry) -> bytes | None:
    """
    Return the bytes, None if there are none after all.

    Raises:
        InvalidGeometryError: they are too many, or the file cannot be read.
    """
    if isinstance(geometry, bytes):
        return _bounded(geometry)
    if isinstance(geometry, Path):
        try:
            with geometry.open("rb") as file:
                return _bounded(file.read(MAX_GEOMETRY_BYTES + 1))
        except OSError as error:
            raise InvalidGeometryError("the file", f"cannot be opened ({error.strerror})") from error
    data = geometry()
    return None if data is None else _bounded(data)


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_GEOMETRY_BYTES:
        raise InvalidGeometryError(
            "the document", f"is larger than the limit of {MAX_GEOMETRY_BYTES:,} bytes", "send less detail"
        )
    return data


def _timed(result: SearchResult, milliseconds: float) -> SearchResult:
    timing = result.timing
    return evolve(
        result,
        timing=evolve(
            timing,
            total_ms=timing.total_ms + milliseconds,
            l4_ms=timing.l4_ms + milliseconds,
            precision_ms=milliseconds,
        ),
    )
