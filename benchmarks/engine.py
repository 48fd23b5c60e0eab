"""The product under measurement, through its public interface."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import anyio

from benchmarks.corpus import Entry
from dedup2d.types import DrawingFile
from dedup2d.vision.embedded import EmbeddedVision

__all__ = ["TENANT", "each", "index", "of_bytes", "of_file"]

TENANT = "benchmark"
T = TypeVar("T")


def of_file(path: Path, name: str) -> DrawingFile:
    """Return the file at *path* under another *name*."""
    return of_bytes(path.read_bytes(), name, path)


def of_bytes(data: bytes, name: str, path: Path | None = None) -> DrawingFile:
    """Return *data* as a file."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return DrawingFile(
        name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data), open=chunks, path=path
    )


async def index(
    vision: EmbeddedVision,
    entries: Iterable[Entry],
    *,
    workers: int,
    seconds: dict[str, float] | None = None,
) -> dict[str, str]:
    """
    Add the entries that are not there yet, under their ids as names; note how many *seconds* each took.

    Returns:
        the message of each that could not be added.
    """
    failed: dict[str, str] = {}

    async def add(entry: Entry) -> None:
        started = time.perf_counter()
        try:
            await vision.add(TENANT, of_file(entry.path, f"{entry.id}{entry.path.suffix}"), source=entry.id)
        except Exception as error:  # noqa: BLE001 - a benchmark reports what fails and goes on
            failed[entry.id] = str(error)
        if seconds is not None:
            seconds[entry.id] = time.perf_counter() - started

    await each(add, entries, workers=workers)
    return failed


async def each(work: Callable[[T], Awaitable[None]], items: Iterable[T], *, workers: int) -> None:
    """Do *work* on all *items*, *workers* at a time."""
    waiting = iter(list(items))

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with anyio.create_task_group() as tasks:
        for _ in range(workers):
            tasks.start_soon(worker)
