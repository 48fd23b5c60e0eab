"""The indexes of all tenants: opened when needed, the least recently used closed again."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.embedding import Model
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION, Fingerprint
from dedup2d.engine.live import LiveCandidates
from dedup2d.engine.records import Counts
from dedup2d.engine.vectors import LiveVectors
from dedup2d.errors import Dedup2DError, VisionUnavailableError
from dedup2d.tenants import check_tenant_id, is_tenant_id

__all__ = ["Index", "Indexes", "Surveyed"]

T = TypeVar("T")
_FILE = "catalogue.sqlite3"
_SEGMENTS = "segments"
_TENDED = 256  # files added


class Index:
    """One tenant's catalogue with its candidates, whose segments lie in *segments* if that is given."""

    def __init__(
        self, catalogue: Catalogue, identity: tuple[int, int] | None, segments: Path | None = None
    ) -> None:
        self.catalogue = catalogue
        self.live = LiveCandidates(catalogue, segments)
        self.identity = identity
        self.users = 0
        self._additions = 0
        self._vectors: LiveVectors | None = None
        # Waiting tasks wait here and not in threads, of which there are few.
        self._turn = anyio.Lock()

    async def catch_up(self) -> None:
        """Take over what any process has changed; in steps, so that a first load can be cancelled."""
        async with self._turn:
            while await anyio.to_thread.run_sync(self.live.catch_up, abandon_on_cancel=True):
                pass

    async def candidates(
        self, fingerprint: Fingerprint, limit: int, *, thorough: bool = False
    ) -> list[Candidate]:
        """Return the best candidates, best first; see `Candidates.query`."""
        async with self._turn:
            # A cancelled search leaves the thread to itself: it harms nothing and ends soon.
            return await anyio.to_thread.run_sync(
                lambda: self.live.query(fingerprint, limit=limit, thorough=thorough), abandon_on_cancel=True
            )

    async def alike(
        self, model: Model, vector: bytes, named: Collection[int], most: int
    ) -> tuple[dict[int, float], int]:
        """
        Return what `LiveVectors.nearest` finds among the vectors of *model*, and how many those are.
        """
        async with self._turn:
            if self._vectors is None:
                self._vectors = LiveVectors(self.catalogue, model)
            vectors = self._vectors
            while await anyio.to_thread.run_sync(vectors.catch_up, abandon_on_cancel=True):
                pass
            found = await anyio.to_thread.run_sync(
                vectors.nearest, vector, named, most, abandon_on_cancel=True
            )
            return found, len(vectors)

    async def tend(self) -> None:
        """Note an addition; after many, store them for the searches to come, without waiting for it."""
        self._additions += 1
        if self._additions % _TENDED == 0:
            await anyio.to_thread.run_sync(self.live.tend)

    def close(self) -> None:
        """Close the catalogue, once nothing is written any more."""
        self.live.close()
        self.catalogue.close()


class Surveyed:
    """What a look at all indexes found."""

    def __init__(self) -> None:
        self.tenants = 0
        self.counted = 0
        self.drawings = 0
        self.stale = 0
        self.failed = 0

    def add(self, counts: Counts) -> None:
        self.counted += 1
        self.drawings += counts.drawings
        self.stale += counts.stale


class Indexes:
    """
    Opens `<directory>/<tenant>/catalogue.sqlite3`, or keeps all in memory if there is no directory.

    Args:
        open_indexes: how many indexes stay open, with their candidates in memory, while unused.
        held_drawings: how many drawings they may hold in memory together.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        open_indexes: int,
        held_drawings: int,
        clock: Callable[[], float],
        busy_seconds: float,
    ) -> None:
        self._directory = directory
        self._open_indexes = open_indexes
        self._held_drawings = held_drawings
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._open: OrderedDict[str, Index] = OrderedDict()
        self._opening = anyio.Lock()

    @asynccontextmanager
    async def use(self, tenant_id: str, *, create: bool = False) -> AsyncIterator[Index | None]:
        """
        Give the tenant's index, None if it has none and *create* is false.

        Raises:
            InvalidParameterError: *tenant_id* cannot be one.
            IndexVersionError, VisionUnavailableError, InternalError: it cannot be opened.
        """
        check_tenant_id(tenant_id)
        async with self._opening:
            index = await self._get(tenant_id, create=create)
        if index is None:
            yield None
            return
        async with self._kept(index, tenant_id):
            yield index
            if create:
                await index.tend()

    @asynccontextmanager
    async def _kept(self, index: Index, tenant_id: str) -> AsyncIterator[None]:
        """Keep *index* open for the block."""
        index.users += 1
        try:
            yield
        finally:
            index.users -= 1
            with anyio.CancelScope(shield=True):
                await self._close_unused(index, tenant_id)

    async def close(self) -> None:
        """Close all indexes."""
        while self._open:
            await anyio.to_thread.run_sync(self._open.popitem()[1].close)

    async def survey(self, seconds: float) -> Surveyed:
        """Count over all indexes, as many as *seconds* suffice for."""
        found, deadline = Surveyed(), anyio.current_time() + seconds
        for tenant_id in await anyio.to_thread.run_sync(self._tenants):
            found.tenants += 1
            if anyio.current_time() < deadline:
                try:
                    found.add(await self._counts(tenant_id))
                except Dedup2DError:
                    found.failed += 1
        return found

    async def _counts(self, tenant_id: str) -> Counts:
        index = self._open.get(tenant_id)
        if index is not None:
            async with self._kept(index, tenant_id):
                return await anyio.to_thread.run_sync(index.catalogue.counts)
        return await anyio.to_thread.run_sync(self._count_closed, tenant_id)

    def _count_closed(self, tenant_id: str) -> Counts:
        path = self._path(tenant_id)
        if path is None or not path.exists():
            return Counts(0, 0)
        catalogue = self._catalogue(path)
        try:
            return catalogue.counts()
        finally:
            catalogue.close()

    def _tenants(self) -> list[str]:
        if self._directory is None:
            return list(self._open)
        try:
            with os.scandir(self._directory) as entries:
                return [entry.name for entry in entries if is_tenant_id(entry.name) and entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise VisionUnavailableError(f"the index directory: {error.strerror}") from error

    async def _get(self, tenant_id: str, *, create: bool) -> Index | None:
        path = self._path(tenant_id)
        identity = await anyio.to_thread.run_sync(_identity, path)
        index = self._open.get(tenant_id)  # not before: meanwhile it may be closed
        if index is not None and index.identity == identity:
            self._open.move_to_end(tenant_id)
            return index
        if index is not None:
            # Its file was deleted or replaced: what we would read and write is no longer there;
            # whoever still uses the old one closes it.
            self._open.pop(tenant_id)
            if not index.users:
                await anyio.to_thread.run_sync(index.close)
        if identity is None and not create:
            return None
        index = await anyio.to_thread.run_sync(self._make, path)
        self._open[tenant_id] = index
        return index

    def _make(self, path: Path | None) -> Index:
        if path is not None:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise VisionUnavailableError(f"the index directory: {error.strerror}") from error
        catalogue = self._catalogue(path)
        return Index(catalogue, _identity(path), path.parent / _SEGMENTS if path else None)

    def _catalogue(self, path: Path | None) -> Catalogue:
        return Catalogue(
            path,
            fingerprint_version=FINGERPRINT_VERSION,
            clock=self._clock,
            busy_seconds=self._busy_seconds,
        )

    def _path(self, tenant_id: str) -> Path | None:
        return self._directory / tenant_id / _FILE if self._directory else None

    def _taken_out(self) -> list[Index]:
        """Take out the least recently used of what nobody uses until both limits hold; one always stays."""
        out = []
        for name in [name for name, one in self._open.items() if not one.users][: len(self._open) - 1]:
            held = sum(len(one.live) for one in self._open.values())
            if len(self._open) <= self._open_indexes and held <= self._held_drawings:
                break
            out.append(self._open.pop(name))
        return out

    async def _close_unused(self, index: Index, tenant_id: str) -> None:
        if self._directory is None:
            return
        closing = [index] if self._open.get(tenant_id) is not index and not index.users else []
        closing += self._taken_out()
        for one in closing:
            # The last connection moves the journal into the database, which takes a while.
            await anyio.to_thread.run_sync(one.close)


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Return what tells the file from another one of the same name, None if it is not there."""
    if path is None:
        return None
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VisionUnavailableError(f"the index directory: {error.strerror}") from error
    return found.st_dev, found.st_ino
