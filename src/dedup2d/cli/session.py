"""The index that a command works on, and the files it is given."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
from attrs import frozen

from dedup2d.build import build_embedded
from dedup2d.cli.text import visible
from dedup2d.errors import Dedup2DError, UnreadableDrawingError
from dedup2d.settings import Settings
from dedup2d.types import DrawingFile
from dedup2d.uploads import clean_file_name, file_in_place

if TYPE_CHECKING:  # services and workers that ask a vision server have no engine
    from dedup2d.vision.embedded import EmbeddedVision

__all__ = ["EmptyIndexError", "Session", "file_name", "open_session", "run_async"]

T = TypeVar("T")


class EmptyIndexError(Dedup2DError, LookupError):
    """A search in an index without drawings, which is never what was meant."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"the index in {visible(str(directory))} has no drawings yet: run dedup2d index FOLDER first"
        )


@frozen(kw_only=True)
class Session:
    """An open index and whose it is."""

    vision: EmbeddedVision
    tenant_id: str
    settings: Settings

    async def file(self, path: Path) -> DrawingFile:
        """
        Return the file at *path* as the engine takes it.

        Raises:
            EmptyFileError, FileTooLargeError, UnsupportedFormatError, UnreadableDrawingError: it
                is no drawing that can be read.
        """
        return await file_in_place(path, await file_name(path), max_bytes=self.settings.max_upload_bytes)

    async def count(self) -> int:
        """
        Return how many drawings the index has.

        Raises:
            EmptyIndexError: none.
        """
        total = (await self.vision.drawings(self.tenant_id, limit=1)).total
        if not total:
            raise EmptyIndexError(self.settings.data_dir)
        return total

    async def stale(self) -> int:
        """Return how many drawings, of any tenant, another version of the engine made fingerprints of."""
        return int((await self.vision.health()).details.get("drawings_to_rebuild", 0))


async def file_name(path: Path) -> str:
    """
    Return what to call the file at *path*.

    Raises:
        UnreadableDrawingError: it is no file.
    """
    name = clean_file_name(path.name)
    kind = await anyio.to_thread.run_sync(_kind, path)
    if stat.S_ISDIR(kind):
        raise UnreadableDrawingError(name, "it is a folder: give a file, or use dedup2d scan")
    if kind and not stat.S_ISREG(kind):
        raise UnreadableDrawingError(name, "it is not a regular file")
    return name


def _kind(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0  # opening it will say why


@asynccontextmanager
async def open_session(settings: Settings, *, directory: Path | None = None) -> AsyncIterator[Session]:
    """Open the index in *directory*, by default the one that the service uses too."""
    async with build_embedded(settings, directory=directory) as vision:
        yield Session(vision=vision, tenant_id=settings.tenant, settings=settings)


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Run *work* to its end; Ctrl-C cancels it, lets it clean up and raises KeyboardInterrupt."""
    return anyio.run(work, backend="asyncio")
