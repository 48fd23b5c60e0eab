"""
One SQLite database of an index: connections, transactions, versions and errors.

Synchronous; callers on an event loop use it from threads.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dedup2d.errors import Dedup2DError, IndexVersionError, InternalError, VisionUnavailableError

__all__ = ["APPLICATION_ID", "Database"]

APPLICATION_ID = 0x64643264
"""Marks the file as an index of dedup2d ("dd2d"), for `file` and for ourselves."""

_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
    }
)
_NEW = (0, 0)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE = 0xFF


class Database:
    """
    A database file with a few connections, or a private one in memory.

    The journal is a write-ahead log: readers see the last commit and never wait for the
    writer, and a killed process leaves whole transactions only. `synchronous` is FULL, one
    fsync per commit: a commit is one drawing file, which took far longer to read, and so what
    `add` has reported survives a power cut too.

    Args:
        path: the file, made if missing; None keeps everything in memory.
        schema: the statements that make an empty database of *version*.
        version: the newest schema that this program knows.
        busy_seconds: how long a writer waits for another one.
        connections: most connections, and so threads, at once.

    Raises:
        IndexVersionError: a newer version wrote the file.
        VisionUnavailableError: the file cannot be opened, or stayed locked.
        InternalError: the file is damaged, or is no index.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        schema: str,
        version: int,
        busy_seconds: float = 10.0,
        connections: int = 4,
    ) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        # In memory each connection would be a database of its own.
        self._places = threading.BoundedSemaphore(connections if path else 1)
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        with mapped_errors():
            self._prepare(schema, version)

    def close(self) -> None:
        """Close idle connections; those in use close when they come back."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection inside one read transaction: all statements see the same state."""
        with self._connection() as connection, mapped_errors():
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection inside the one write transaction; all of it happens or nothing."""
        with self._connection() as connection, mapped_errors():
            # A transaction that starts as a reader cannot wait for its turn to write.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def maintaining(self) -> Iterator[sqlite3.Connection]:
        """Give a connection outside any transaction, for statements that need that."""
        with self._connection() as connection, mapped_errors():
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._places:
            with mapped_errors():
                connection = self._borrow()
            try:
                yield connection
            finally:
                if self._closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    def _borrow(self) -> sqlite3.Connection:
        if self._closed:
            raise InternalError("the index database is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path or ":memory:",
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        return connection

    def _prepare(self, schema: str, version: int) -> None:
        with self._connection() as connection:
            if _state(connection) == _NEW:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                _switch_to_wal(connection, self._busy_seconds)
                self._create(connection, schema, version)
            owner, found = _state(connection)
        if owner != APPLICATION_ID:
            raise InternalError("the index database was not written by dedup2d: move the file away")
        if found > version:
            raise IndexVersionError(
                f"the index has format {found}, this version of dedup2d knows up to {version}:"
                " upgrade dedup2d, or index the drawings into another data directory"
            )

    def _create(self, connection: sqlite3.Connection, schema: str, version: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _state(connection) == _NEW:  # no other process was faster
                _run(connection, schema)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version}")
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


def _state(connection: sqlite3.Connection) -> tuple[int, int]:
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    return int(owner), int(connection.execute("PRAGMA user_version").fetchone()[0])


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run *script* inside the open transaction, which `executescript` would commit."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _switch_to_wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    # SQLite does not wait for a lock here where waiting could be a deadlock.
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn errors of SQLite into ours; neither paths nor statements get out."""
    try:
        yield
    except Dedup2DError:
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
        if code in _PASSING:
            raise VisionUnavailableError(f"the index database: {error}") from error
        if code in _DAMAGED:
            raise InternalError(
                "the index database is damaged: restore it from a backup, or delete it and index again"
            ) from error
        raise InternalError(f"the index database failed: {error}") from error
