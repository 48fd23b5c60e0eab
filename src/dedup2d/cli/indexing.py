"""
Puts files into an index: many at once, in bounded memory, each for itself.

A file is looked at only if its size or time is not what the index remembers. What one file does
wrong is noted and the next one is taken; only what would go wrong for all of them stops the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import define, field, frozen

from dedup2d.cli.terminal import Progress
from dedup2d.cli.text import source_of
from dedup2d.cli.walk import Fate, Found, count_files, looked_into, reason_of, walk, without_name
from dedup2d.errors import (
    Dedup2DError,
    IndexVersionError,
    MissingExtraError,
    UnreadableDrawingError,
    VisionUnavailableError,
)
from dedup2d.uploads import clean_file_name, file_in_place

if TYPE_CHECKING:  # the service shares this, and may have no engine
    from dedup2d.vision.embedded import EmbeddedVision

__all__ = ["Failure", "Indexer", "Tally", "reason_in"]

_BATCH = 64
_KEPT_FAILURES = 10_000
_STOPS = (IndexVersionError, MissingExtraError, VisionUnavailableError)


@frozen
class Failure:
    """A file that could not be put into the index, and why."""

    source: str
    code: str
    reason: str


@define
class Tally:
    """What has been done so far; filled while it is done, so that it is right after Ctrl-C too."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    drawings: int = 0
    failures: list[Failure] = field(factory=list)
    warnings: list[tuple[str, str]] = field(factory=list)

    @property
    def files(self) -> int:
        """How many files were met."""
        return self.added + self.replaced + self.unchanged + self.skipped + self.failed


def reason_in(error: Exception, name: str) -> tuple[str, str]:
    """Return the stable code of an error about the file *name*, and its reason without the name."""
    if isinstance(error, UnreadableDrawingError):
        return error.code, error.reason
    if isinstance(error, Dedup2DError):
        return error.code, without_name(error, name)
    if isinstance(error, OSError):
        return "UNREADABLE_DRAWING", reason_of(error)
    return "INTERNAL", f"this is a bug of dedup2d: {error!r}"


@define(kw_only=True)
class Indexer:
    """
    Puts files below paths into one tenant's index.

    Args:
        vision: the index.
        tenant_id: whose.
        max_bytes: larger files fail.
        workers: files worked on at once.
        own: the directory of the index itself, in which no drawings are looked for.
        failed: told each failure at once.
        warned: told the source and each warning of a file that was added.
    """

    vision: EmbeddedVision
    tenant_id: str
    max_bytes: int
    workers: int
    own: Path
    failed: Callable[[Failure], None]
    warned: Callable[[str, str], None]
    tally: Tally = field(factory=Tally)

    async def run(self, paths: Sequence[Path], progress: Progress, *, counts: bool) -> None:
        """
        Put everything below *paths* in.

        *counts* says whether anyone sees how much there is to do, which takes a walk of its own.

        Raises:
            IndexVersionError, MissingExtraError, VisionUnavailableError: nothing can be added.
        """
        send, receive = anyio.create_memory_object_stream[Found](0)
        async with anyio.create_task_group() as tasks:
            if counts:
                tasks.start_soon(self._count, paths, progress)
            for _ in range(self.workers):
                tasks.start_soon(self._work, receive.clone(), progress)
            receive.close()
            async with send:
                # Without a worker left its error, not ours, says what happened.
                with suppress(anyio.BrokenResourceError):
                    await self._send(send, paths)

    async def _send(self, send: MemoryObjectSendStream[Found], paths: Sequence[Path]) -> None:
        files = walk(paths, leave_out=self.own)
        while batch := await anyio.to_thread.run_sync(_some, files):
            for found in batch:
                await send.send(found)

    async def _count(self, paths: Sequence[Path], progress: Progress) -> None:
        # A slow disk may take long to walk: it must not keep Ctrl-C waiting.
        progress.total(
            await anyio.to_thread.run_sync(
                lambda: count_files(paths, leave_out=self.own), abandon_on_cancel=True
            )
        )

    async def _work(self, files: MemoryObjectReceiveStream[Found], progress: Progress) -> None:
        async with files:
            async for found in files:
                await self._one(found)
                progress.advance(found.path.name)

    async def _one(self, found: Found) -> None:
        try:
            await self._looked_at(found)
        except _STOPS:
            raise
        except Exception as error:  # noqa: BLE001 - one bad file never stops the rest
            self._fail(found.path, *reason_in(error, found.path.name))

    async def _looked_at(self, found: Found) -> None:
        """Do with a file what is to be done, as cheaply as possible."""
        source = source_of(found.path)
        known = await self.vision.known(self.tenant_id, source) if found.fate is Fate.READ else None
        if known and (known.size, known.mtime_ns) == (found.size, found.mtime_ns):
            self.tally.unchanged += 1
            return
        if found.fate is Fate.READ:
            found = await anyio.to_thread.run_sync(looked_into, found)
        if found.fate is Fate.SKIPPED:
            self.tally.skipped += 1
        elif found.fate is Fate.FAILED:
            self._fail(found.path, found.code, found.reason)
        else:
            await self._add(found, source, replaces=known is not None)

    async def _add(self, found: Found, source: str, *, replaces: bool) -> None:
        name = clean_file_name(found.path.name)
        file = await file_in_place(found.path, name, max_bytes=self.max_bytes)
        result = await self.vision.add(self.tenant_id, file, source=source, mtime_ns=found.mtime_ns)
        if not result.added:
            self.tally.unchanged += 1
            return
        self.tally.drawings += len(result.drawing_ids)
        self.tally.replaced += replaces
        self.tally.added += not replaces
        for warning in result.warnings:
            self._warn(source, warning)

    def _fail(self, path: Path, code: str, reason: str) -> None:
        self.tally.failed += 1
        failure = Failure(source_of(path), code, reason)
        if len(self.tally.failures) < _KEPT_FAILURES:
            self.tally.failures.append(failure)
        self.failed(failure)

    def _warn(self, source: str, warning: str) -> None:
        if len(self.tally.warnings) < _KEPT_FAILURES:
            self.tally.warnings.append((source, warning))
        self.warned(source, warning)


def _some(files: Iterator[Found]) -> list[Found]:
    return list(islice(files, _BATCH))
