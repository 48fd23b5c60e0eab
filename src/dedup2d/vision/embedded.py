"""
The embedded engine: answers searches on this machine, from indexes on its disk.

The event loop only coordinates: SQLite and the candidates run in threads, everything that
touches a drawing's bytes or pixels runs in child processes.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
from attrs import evolve

from dedup2d.children import Children
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.clean import ink_as_png
from dedup2d.engine.embedding import Model
from dedup2d.engine.extract import compare_likenesses, extract, refingerprint
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION
from dedup2d.engine.masks import missing_places
from dedup2d.engine.records import FileRecord, KnownFile, SheetRecord, StoredSheet
from dedup2d.errors import (
    Dedup2DError,
    DrawingNotFoundError,
    IndexFullError,
    InternalError,
    InvalidParameterError,
    UnreadableDrawingError,
)
from dedup2d.observe import Observer
from dedup2d.paging import check_limit
from dedup2d.protocols import Progress
from dedup2d.readers import ReadLimits
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
    Timing,
)
from dedup2d.uploads import on_disk
from dedup2d.vision.answers import (
    BLANK,
    answer,
    bounded,
    comparison,
    counted,
    read_warnings,
    since,
    unsearched_warnings,
)
from dedup2d.vision.hits import QuerySheet
from dedup2d.vision.indexes import Index, Indexes
from dedup2d.vision.learned import Learned
from dedup2d.vision.rebuilding import Rebuilding
from dedup2d.vision.search import MAX_PAGES, Search, missing_place

__all__ = ["EmbeddedVision"]

_HEALTH_SECONDS = 2.0
_MEASURE_SECONDS = 20.0


class EmbeddedVision:
    """
    A `VisionClient` without a server. Several processes may use one directory at once.

    Args:
        directory: where the indexes lie, one directory per tenant, made when first added to;
            None keeps them in memory, as long as the object is in use.
        limits: of reading one file; `max_seconds` bounds each other step in a child too.
        processes: most child processes at once; further work waits.
        clock: gives the Unix time at which drawings are added.
        open_indexes: how many tenants' indexes stay open, with their candidates in
            memory, while nobody uses them.
        held_drawings: how many drawings the open indexes may have ready together, at some 300 bytes
            each; the one used last stays, however large.
        busy_seconds: how long to wait for another process that writes to the same index.
        model: what searches with `enable_ml` ask for further candidates; see `open_model`.
        max_drawings: gives how many drawings the index of a tenant may have; 0 for any number.
        observer: hears how long searches take, and how much is in the indexes.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        limits: ReadLimits | None = None,
        processes: int = 2,
        clock: Callable[[], float] = time.time,
        open_indexes: int = 16,
        held_drawings: int = 1_000_000,
        busy_seconds: float = 10.0,
        model: Model | None = None,
        max_drawings: Callable[[str], int] = lambda _: 0,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or Observer()
        self._directory = directory
        self._max_drawings = max_drawings
        self._limits = limits or ReadLimits()
        self._indexes = Indexes(
            directory,
            open_indexes=open_indexes,
            held_drawings=held_drawings,
            clock=clock,
            busy_seconds=busy_seconds,
        )
        self._children = Children(processes=processes, memory_bytes=self._limits.max_memory_bytes)
        seconds = self._limits.max_seconds
        self._learned = Learned(model, self._children, seconds=seconds) if model else None

    async def __aenter__(self) -> Self:
        await self._children.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._children.__aexit__(exc_type, exc, traceback)
            await self._indexes.close()

    async def search(
        self,
        tenant_id: str,
        file: DrawingFile,
        params: SearchParams,
        *,
        progress: Progress | None = None,
    ) -> SearchResult:
        """
        Search with the sheets of *file*, of which the first 50 are searched for.

        `l2_ms` holds both fingerprint levels, which are one step here. Difference pictures come
        with matches that were verified or have the same bytes, so hardly in mode `fast`.
        """
        started = time.perf_counter()
        check_tenant_id(tenant_id)
        if progress:
            progress("reading")
        records = await self._read(file)
        read_ms = since(started)
        sheets = [QuerySheet.of(one.page, one.likeness) for one in records[:MAX_PAGES]]
        async with self._indexes.use(tenant_id) as index:
            found = None
            if index is not None:
                search = self._search(index, params, file.name, file.sha256, progress=progress)
                found = await search.run(sheets)
        result = answer(
            found,
            Timing(total_ms=since(started), read_ms=read_ms),
            file_hash=file.sha256,
            pages=len(records),
            warnings=[*read_warnings(records), *unsearched_warnings(records)],
        )
        self._observer.engine_searched(result.timing)
        return result

    async def neighbours(self, tenant_id: str, drawing_id: str, params: SearchParams) -> SearchResult:
        """
        Search with a drawing of the index, which is no answer itself.

        Raises:
            DrawingNotFoundError: no such drawing in this tenant's index.
            VisionUnavailableError: may pass; try again later.
        """
        started = time.perf_counter()
        async with self._existing(tenant_id, drawing_id) as index:
            stored = await anyio.to_thread.run_sync(_stored, index.catalogue, drawing_id)
            sheet = await self._query_of(stored)
            own = stored.drawing
            search = self._search(index, params, own.file_name, own.file_hash, leave_out=stored.key)
            found = await search.run([sheet])
        return answer(
            found,
            Timing(total_ms=since(started)),
            file_hash=stored.drawing.file_hash,
            pages=1,
            warnings=[BLANK] if sheet.blank else [],
        )

    async def add(
        self,
        tenant_id: str,
        file: DrawingFile,
        *,
        metadata: Mapping[str, str] | None = None,
        source: str | None = None,
        mtime_ns: int | None = None,
    ) -> AddResult:
        """
        Add every sheet of *file* in one transaction.

        *mtime_ns* is remembered with *source* and the size, for `known`. If the file is there
        already, it and *metadata* (if given) are brought up to date.

        Raises:
            InvalidParameterError: the metadata are larger than 64 KiB.
            IndexFullError: there is no room for all sheets.
        """
        started = time.perf_counter()
        record = FileRecord(
            file_hash=file.sha256,
            file_name=file.name,
            size=file.size,
            source=source,
            mtime_ns=mtime_ns,
            metadata=metadata or {},
        )
        async with self._indexes.use(tenant_id, create=True) as index:
            assert index is not None
            ids = await anyio.to_thread.run_sync(index.catalogue.touch, record)
            added, warnings, most = False, list[str](), self._max_drawings(tenant_id)
            if not ids:
                if most and source is None and await _count(index) >= most:
                    raise IndexFullError(most)  # rather than after reading the file
                sheets = await self._read(file)
                warnings = read_warnings(sheets)
                if self._learned:
                    sheets, unlearned = await self._learned.taught(sheets)
                    warnings += unlearned
                ids, added = await anyio.to_thread.run_sync(index.catalogue.add, record, sheets, most)
        return AddResult(
            drawing_id=ids[0],
            file_hash=file.sha256,
            drawing_ids=ids,
            added=added,
            message=counted(len(ids), "drawing") + (" added" if added else " there already"),
            processing_time_ms=since(started),
            warnings=bounded(warnings),
        )

    async def known(self, tenant_id: str, source: str) -> KnownFile | None:
        """Return size, time and hash of the file that was added from *source*, to see whether it changed."""
        async with self._indexes.use(tenant_id) as index:
            if index is None:
                return None
            return await anyio.to_thread.run_sync(index.catalogue.known, source)

    async def of_source(self, tenant_id: str, source: str) -> tuple[Drawing, ...]:
        """Return the drawings that were added from *source*, by page."""
        async with self._indexes.use(tenant_id) as index:
            if index is None:
                return ()
            return await anyio.to_thread.run_sync(index.catalogue.of_source, source)

    async def indexed_files(self, tenant_id: str, file_hashes: Collection[str]) -> Collection[str]:
        """Return those of *file_hashes* of which the tenant's index has a drawing."""
        async with self._indexes.use(tenant_id) as index:
            if index is None:
                return ()
            return await anyio.to_thread.run_sync(index.catalogue.files_among, file_hashes)

    async def remove(self, tenant_id: str, drawing_id: str) -> None:
        """Remove the drawing's record, fingerprint and picture from the disk too."""
        async with self._existing(tenant_id, drawing_id) as index:
            await anyio.to_thread.run_sync(index.catalogue.remove, drawing_id)

    async def rebuild(self, tenant_id: str) -> RebuildResult:
        """
        Make all fingerprints anew from the stored ink pictures, a few at a time.

        One child does it, so that searches keep the others. What is added meanwhile is new anyway.
        """
        rebuilding = Rebuilding(self._children, seconds=self._limits.max_seconds, learned=self._learned)
        async with self._indexes.use(tenant_id) as index:
            if index is not None:
                await rebuilding.run(index.catalogue)
        return rebuilding.result

    async def drawings(
        self, tenant_id: str, *, limit: int = 50, page_token: str | None = None
    ) -> DrawingPage:
        """List the tenant's drawings, the last added first."""
        async with self._indexes.use(tenant_id) as index:
            if index is None:
                return _no_drawings(limit, page_token)
            return await anyio.to_thread.run_sync(
                lambda: index.catalogue.page(limit=limit, page_token=page_token)
            )

    async def drawing(self, tenant_id: str, drawing_id: str) -> Drawing:
        """Return one drawing."""
        async with self._existing(tenant_id, drawing_id) as index:
            return await anyio.to_thread.run_sync(index.catalogue.drawing, drawing_id)

    async def picture(self, tenant_id: str, drawing_id: str) -> bytes:
        """Return the cleaned picture that verification uses: black ink on white, one bit, as PNG."""
        async with self._existing(tenant_id, drawing_id) as index:
            ink = await anyio.to_thread.run_sync(index.catalogue.picture, drawing_id)
        try:
            return await anyio.to_thread.run_sync(ink_as_png, ink)
        except ValueError as error:
            raise UnreadableDrawingError(
                drawing_id, "its stored picture is damaged: index the file again"
            ) from error

    async def compare(self, a: DrawingFile, b: DrawingFile, params: SearchParams) -> Comparison:
        """Compare the first sheets of two files on every level."""
        (query,) = await self._read(a, first=1)
        (other,) = await self._read(b, first=1)
        found = await self._children.call(
            compare_likenesses,
            query.likeness,
            other.likeness,
            max(other.width, other.height),
            params.ignore,
            seconds=self._limits.max_seconds,
            name=a.name,
        )
        warnings = [
            f"{file.name}: {text}" for file, one in ((a, query), (b, other)) for text in read_warnings([one])
        ]
        layout = QuerySheet.of(1, query.likeness).fingerprint.layout
        warnings += [missing_place(name) for name in missing_places(params.ignore, layout)]
        return comparison(found, params, same_bytes=a.sha256 == b.sha256, warnings=warnings)

    async def health(self) -> Health:
        """Count tenants, drawings and what needs a rebuild, as far as two seconds suffice."""
        try:
            found = await self._indexes.survey(_HEALTH_SECONDS)
        except Dedup2DError as error:
            return Health(status="unhealthy", details={"service": "embedded", "error": str(error)})
        return Health(
            status="degraded" if found.stale or found.failed else "healthy",
            details={
                "service": "embedded",
                "indexes": found.tenants,
                "indexes_counted": found.counted,
                "indexes_failed": found.failed,
                "drawings": found.drawings,
                "drawings_to_rebuild": found.stale,
            },
        )

    async def measure(self) -> None:
        """Tell the observer how many indexes and drawings there are, if they can all be counted in time."""
        found = await self._indexes.survey(_MEASURE_SECONDS)
        if found.counted == found.tenants:
            self._observer.index_counted(found.tenants, found.drawings)

    def _search(
        self,
        index: Index,
        params: SearchParams,
        name: str,
        file_hash: str,
        *,
        progress: Progress | None = None,
        leave_out: int | None = None,
    ) -> Search:
        return Search(
            index,
            self._children,
            params,
            name=name,
            file_hash=file_hash,
            seconds=self._limits.max_seconds,
            progress=progress,
            leave_out=leave_out,
            learned=self._learned,
        )

    async def _query_of(self, stored: StoredSheet) -> QuerySheet:
        """Make a query of a stored drawing, also if another version made its fingerprint."""
        try:
            return QuerySheet.of(stored.drawing.page, stored.likeness)
        except ValueError:
            (data,) = await self._children.call(
                refingerprint,
                (stored.ink,),
                seconds=self._limits.max_seconds,
                name=stored.drawing.file_name,
            )
        if data is None:
            raise UnreadableDrawingError(
                stored.drawing.file_name, "its stored picture is damaged: index the file again"
            )
        return QuerySheet.of(stored.drawing.page, evolve(stored.likeness, fingerprint=data))

    @asynccontextmanager
    async def _existing(self, tenant_id: str, drawing_id: str) -> AsyncIterator[Index]:
        async with self._indexes.use(tenant_id) as index:
            if index is None:
                raise DrawingNotFoundError(drawing_id)
            yield index

    async def _read(self, file: DrawingFile, *, first: int | None = None) -> tuple[SheetRecord, ...]:
        async with on_disk(file) as path:
            sheets = await self._children.call(
                extract,
                str(path),
                file.name,
                self._limits,
                first,
                seconds=self._limits.max_seconds,
                name=file.name,
            )
        if any(sheet.fingerprint_version != FINGERPRINT_VERSION for sheet in sheets):
            # Children that start after an upgrade run the new program: mixed, nothing is found.
            raise InternalError("dedup2d was upgraded while it ran: restart it")
        return sheets


async def _count(index: Index) -> int:
    return (await anyio.to_thread.run_sync(index.catalogue.counts)).drawings


def _stored(catalogue: Catalogue, drawing_id: str) -> StoredSheet:
    for sheet in catalogue.sheets([catalogue.key_of(drawing_id)]):
        return sheet
    raise DrawingNotFoundError(drawing_id)


def _no_drawings(limit: int, page_token: str | None) -> DrawingPage:
    check_limit(limit)
    if page_token is not None:
        raise InvalidParameterError("page_token", page_token, "none: there are no drawings")
    return DrawingPage(drawings=(), total=0)
