"""
One SQLite database file: connections, transactions, versions and errors.

Synchronous; callers on an event loop use it from threads.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import field, frozen

from dedup2d.errors import Dedup2DError, InternalError

__all__ = ["Database", "DatabaseKind"]

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


@frozen(kw_only=True)
class DatabaseKind:
    """
    What is in a database and how to say what is wrong with it.

    `schema` are the statements that make an empty one of `version`, the newest known, and `upgrades`
    by version those that make one of the next out of it;
    `unavailable` makes the error that may pass from its reason, `newer` the one for a file of
    a newer version from that version and the known one.
    """

    name: str
    application_id: int
    schema: str
    version: int
    unavailable: Callable[[str], Dedup2DError]
    newer: Callable[[int, int], Dedup2DError]
    upgrades: Mapping[int, str] = field(factory=dict)


class Database:
    """
    A database file with a few connections, or a private one in memory.

    The journal is a write-ahead log: readers see the last commit and never wait for the
    writer, and a killed process leaves whole transactions only. `synchronous` is FULL, one
    fsync per commit, so what has been reported as done survives a power cut too. The file must
    lie on a local disk: the log needs shared memory.

    Args:
        path: the file, made if missing, for this user alone; None keeps everything in memory.
        kind: what is in it.
        busy_seconds: how long a writer waits for those of other processes.
        connections: most connections, and so threads, at once.

    Raises:
        Dedup2DError: `kind.newer` or `kind.unavailable`.
        InternalError: the file is damaged, or something else.
    """

    def __init__(
        self, path: Path | None, kind: DatabaseKind, *, busy_seconds: float = 10.0, connections: int = 4
    ) -> None:
        self._path = path
        self._kind = kind
        self._busy_seconds = busy_seconds
        # In memory each connection would be a database of its own.
        self._places = threading.BoundedSemaphore(connections if path else 1)
        # SQLite lets waiting writers poll; those of this process can do better.
        self._turn = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        try:
            with self._mapped():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close idle connections; those in use close when they come back."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection inside one read transaction: all statements see the same state."""
        with self._connection() as connection, self._mapped():
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection inside the one write transaction; all of it happens or nothing."""
        with self._turn, self._connection() as connection, self._mapped():
            # A transaction that starts as a reader cannot wait for its turn to write.
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def maintaining(self) -> Iterator[sqlite3.Connection]:
        """Give a connection outside any transaction, for statements that need that."""
        with self._connection() as connection, self._mapped():
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._places:
            with self._mapped():
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
            raise InternalError(f"the {self._kind.name} is closed")
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
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA journal_size_limit = 67108864")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self) -> None:
        self._make_file()
        with self._connection() as connection:
            if _state(connection) == _NEW:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                _switch_to_wal(connection, self._busy_seconds)
                self._create(connection)
            owner, found = _state(connection)
            if owner == self._kind.application_id and found in self._kind.upgrades:
                found = self._upgrade(connection)
        if owner != self._kind.application_id:
            raise InternalError(f"the {self._kind.name} was not written by dedup2d: move the file away")
        if found > self._kind.version:
            raise self._kind.newer(found, self._kind.version)

    def _make_file(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A file that is there must not be opened and closed here: POSIX takes all locks on it from this
            # process then, also from connections that go on, and the next process to close deletes their log.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise self._kind.unavailable(f"its file: {error.strerror}") from error
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise self._kind.unavailable("its file: Permission denied")

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _state(connection) == _NEW:  # no other process was faster
                _run(connection, self._kind.schema)
                connection.execute(f"PRAGMA application_id = {self._kind.application_id}")
                connection.execute(f"PRAGMA user_version = {self._kind.version}")
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

    def _upgrade(self, connection: sqlite3.Connection) -> int:
        """Bring an older file up to date, all of it or nothing, and return its version."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = _state(connection)[1]  # another process may have been faster
            while found in self._kind.upgrades:
                _run(connection, self._kind.upgrades[found])
                found += 1
                connection.execute(f"PRAGMA user_version = {found}")
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        return found

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn errors of SQLite into ours; neither paths nor statements get out."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
            if code in _PASSING:
                raise self._kind.unavailable(str(error)) from error
            if code in _DAMAGED:
                raise InternalError(
                    f"the {self._kind.name} is damaged: restore it from a backup, or move it away"
                ) from error
            raise InternalError(f"the {self._kind.name} failed: {error}") from error


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
