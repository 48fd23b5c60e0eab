"""A SQLite database file for an event loop: its steps run in threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from types import TracebackType
from typing import Self, TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread

from dedup2d.database import Database, DatabaseKind

__all__ = ["AsyncDatabase", "InDatabase"]

T = TypeVar("T")

_READERS = 3


class AsyncDatabase:
    """
    A `Database` whose steps are functions of a connection, each in one transaction; an async context manager.

    Steps that write come one after the other, those that read go on meanwhile. Waiting for the turn can be
    cancelled; the step itself runs to its end.

    Args:
        path: the file, made if missing together with its directory.
        kind: what is in it.
        busy_seconds: how long a step waits for writers of other processes.

    Raises (when entered, and by every step):
        Dedup2DError: as `Database`.
    """

    def __init__(self, path: Path, kind: DatabaseKind, *, busy_seconds: float) -> None:
        self._open = partial(Database, path, kind, busy_seconds=busy_seconds, connections=_READERS + 1)

    async def __aenter__(self) -> Self:
        self._writers, self._readers = CapacityLimiter(1), CapacityLimiter(_READERS)
        self._database = await to_thread.run_sync(self._open)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Closing brings the log into the file, which takes its time, also when all is cancelled.
        with CancelScope(shield=True):
            await to_thread.run_sync(self._database.close)

    async def read(self, step: Callable[[Connection], T]) -> T:
        """Return what *step* gives: all its statements see the same state."""

        def run() -> T:
            with self._database.reading() as connection:
                return step(connection)

        return await to_thread.run_sync(run, limiter=self._readers)

    async def write(self, step: Callable[[Connection], T]) -> T:
        """Return what *step* gives: all of it happens or nothing."""

        def run() -> T:
            with self._database.writing() as connection:
                return step(connection)

        return await to_thread.run_sync(run, limiter=self._writers)

    async def maintain(self, step: Callable[[Connection], object]) -> None:
        """Take *step* outside any transaction, while nothing writes here."""

        def run() -> None:
            with self._database.maintaining() as connection:
                step(connection)

        await to_thread.run_sync(run, limiter=self._writers)


class InDatabase:
    """
    A store in one `AsyncDatabase`, which several processes may use at once; opened while it is entered.

    Raises (when entered):
        StoreVersionError: a newer version of dedup2d wrote the file.
        StoreUnavailableError: the file cannot be opened, or stays locked.
    """

    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._database.__aexit__(exc_type, exc, traceback)
