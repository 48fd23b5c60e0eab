"""
Finds and deletes what nobody needs: files without a live job, and what is left of uploads.

Workers do it beside their jobs (`dedup2d.upkeep`), `dedup2d gc` when it is called; any number may at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum, auto
from functools import partial

import anyio
from attrs import define, field, frozen

from dedup2d.errors import Dedup2DError, UnreadableRecordError
from dedup2d.files.keys import GEOMETRY_PREFIX, geometry_owner, upload_id
from dedup2d.protocols import Clocked, FileStore, HalfUploads, JobStore
from dedup2d.types import HalfUpload, StoredFile

__all__ = [
    "Collected",
    "Collector",
    "Deleter",
    "Waste",
    "is_upload_key",
    "last_submit_seconds",
    "leftover_seconds",
]

_DAY_SECONDS = 86_400.0
_LEFTOVER_SECONDS = 3600.0
_LOOK_AGAIN_SECONDS = 10.0
_MOST_DOUBTFUL = 10_000
_FAILURES_IN_A_ROW = 20


def is_upload_key(key: str) -> bool:
    """Say whether *key* is one under which the service keeps uploads: others are not ours to delete."""
    return upload_id(key) is not None


def last_submit_seconds(retention_seconds: float) -> float:
    """
    Return how old a file may be when a job is made of it.

    The rest of the retention lies between the last job that may come for a file and the first look of a
    collector at it: no job is admitted while its file is being deleted.
    """
    return retention_seconds / 2


def leftover_seconds(call_seconds: float) -> float:
    """Return the age from which what a vision server works on belongs to no call any more."""
    return max(_LEFTOVER_SECONDS, 2 * call_seconds)


def _past_geometries(key: str) -> str:
    """Return after which key to go on: there may be many geometries, which have a collector of their own."""
    return f"{GEOMETRY_PREFIX}~" if key.startswith(GEOMETRY_PREFIX) else key


@frozen
class Waste:
    """Something that nobody needs: `file`, `half_upload`, `geometry`, or `leftover` of the vision server."""

    kind: str
    name: str
    size: int
    created_at: float


@define
class Collected:
    """What was deleted, or would be."""

    files: int = 0
    bytes: int = 0
    half_uploads: int = 0
    failed: int = 0
    error: Dedup2DError | None = None
    """The last reason why something could not be deleted."""


class _Need(Enum):
    LIVE = auto()
    FINAL = auto()
    UNKNOWN = auto()


def _ignore(_: Waste) -> None: ...


def _ignore_failure(_: Waste, __: Dedup2DError) -> None: ...


@define(kw_only=True, eq=False)
class Deleter:
    """
    Deletes waste from a file store, or says what it would delete.

    What cannot be deleted is told, and stops nothing else; a store that deletes nothing at all ends it. Ages
    count by the clock of the store and by our own, whichever makes files younger.

    Args:
        retention_seconds: age from which a file may go.
        dry_run: delete nothing.
        told: hears of all that goes, or would.
        failed: hears of what could not be deleted.
    """

    files: FileStore
    retention_seconds: float
    clock: Callable[[], float]
    dry_run: bool = False
    told: Callable[[Waste], None] = _ignore
    failed: Callable[[Waste, Dedup2DError], None] = _ignore_failure
    collected: Collected = field(factory=Collected, init=False)
    _in_a_row: int = field(default=0, init=False)

    async def now(self) -> float:
        own = self.clock()
        return min(own, await self.files.now()) if isinstance(self.files, Clocked) else own

    async def delete(self, waste: Waste, delete: Callable[[], Awaitable[bool]]) -> bool:
        """
        Call *delete*, which says whether there was something to delete, and say whether it is gone.

        Raises:
            Dedup2DError: nothing could be deleted many times in a row.
        """
        try:
            deleted = self.dry_run or await delete()
        except Dedup2DError as error:
            self.collected.failed += 1
            self.collected.error = error
            self.failed(waste, error)
            self._in_a_row += 1
            if self._in_a_row == _FAILURES_IN_A_ROW:
                raise
            return False
        self._in_a_row = 0
        if deleted:
            self.told(waste)
        return deleted

    async def delete_file(self, waste: Waste, delete: Callable[[], Awaitable[bool]]) -> None:
        """Do what `delete` does for a file, and count it."""
        if await self.delete(waste, delete):
            self.collected.files += 1
            self.collected.bytes += waste.size


@define(kw_only=True, eq=False)
class Collector(Deleter):
    """
    Goes once through a file store.

    The file of a live job stays, however old. A file whose job is final goes once it is old enough. One
    without a job may be of an upload that took long and is just being submitted (S3 dates a large file by
    the begin of its upload): it is looked at again before it goes. A job store that does not answer ends it.

    Args:
        jobs: says which files are needed; None if none is (leftovers of the vision server).
    """

    jobs: JobStore | None
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep

    async def run(self) -> Collected:
        """
        Delete what nobody needs, and say what that was; `collected` has it also if this raises.

        Raises:
            StoreUnavailableError: a store does not work.
        """
        now = await self.now()
        await self._collect_files(now)
        await self._collect_half_uploads(now)
        return self.collected

    async def _collect_files(self, now: float) -> None:
        doubtful: list[StoredFile] = []
        async for stored in self._old_files(now - self.retention_seconds):
            need = await self._need(stored)
            if need is _Need.UNKNOWN and self._may_be_new(stored, now):
                doubtful.append(stored)
            elif need is not _Need.LIVE:
                await self._delete(stored)
            if len(doubtful) == _MOST_DOUBTFUL:
                await self._look_again(doubtful)
                doubtful.clear()
        await self._look_again(doubtful)

    async def _old_files(self, before: float) -> AsyncIterator[StoredFile]:
        """Give our files page by page: a store that holds many is not kept busy."""
        after = ""
        while page := await self.files.list(older_than=before, after=after):
            for stored in page:
                if is_upload_key(stored.key) or self.jobs is None:
                    yield stored
            after = _past_geometries(page[-1].key)

    async def _need(self, stored: StoredFile) -> _Need:
        upload = upload_id(stored.key)
        if self.jobs is None or upload is None:
            return _Need.FINAL
        try:
            job = await self.jobs.get(upload[1])
        except LookupError:
            return _Need.UNKNOWN
        except UnreadableRecordError:
            return _Need.LIVE  # a newer version may be running it
        return _Need.FINAL if job.status.final else _Need.LIVE

    def _may_be_new(self, stored: StoredFile, now: float) -> bool:
        return not self.dry_run and stored.created_at > now - self.retention_seconds - _DAY_SECONDS

    async def _look_again(self, doubtful: list[StoredFile]) -> None:
        if doubtful:
            await self.sleep(_LOOK_AGAIN_SECONDS)
        for stored in doubtful:
            if await self._need(stored) is not _Need.LIVE:
                await self._delete(stored)

    async def _delete(self, stored: StoredFile) -> None:
        kind = "leftover" if self.jobs is None else "file"
        waste = Waste(kind, stored.key, stored.size, stored.created_at)
        await self.delete_file(waste, partial(self.files.delete, stored.key))

    async def _collect_half_uploads(self, now: float) -> None:
        if not isinstance(self.files, HalfUploads):
            return
        begun = now - max(self.files.longest_upload_seconds, self.retention_seconds)
        async for upload in self.files.half_uploads(older_than=begun):
            if not upload.key or is_upload_key(upload.key) or geometry_owner(upload.key):
                await self._abandon(self.files, upload)

    async def _abandon(self, files: HalfUploads, upload: HalfUpload) -> None:
        waste = Waste("half_upload", upload.name, upload.size, upload.begun_at)
        if await self.delete(waste, partial(files.abandon, upload)):
            self.collected.half_uploads += 1
