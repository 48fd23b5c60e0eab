"""The database of one index in a backup: a snapshot of a living one, and a look at one that others made."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from dedup2d.backup.archive import ArchivedIndex, ArchiveError
from dedup2d.database import Database
from dedup2d.engine.database import INDEX
from dedup2d.errors import InternalError

__all__ = ["Facts", "facts_of", "make_ready", "snapshot"]

_OPCODES = 200_000


@frozen
class Facts:
    """What is in the database of an index."""

    drawings: int
    files: int
    by_version: tuple[tuple[int, int], ...]

    def stale(self, fingerprint_version: int) -> int:
        """Return how many drawings have fingerprints of another version."""
        return sum(count for version, count in self.by_version if version != fingerprint_version)


def snapshot(source: Path, to: Path) -> Facts:
    """
    Write what is in the index at *source* now into the new file *to*; others may write to it meanwhile.

    Raises:
        IndexVersionError, VisionUnavailableError, InternalError: as `Database`.
    """
    database = Database(source, INDEX, connections=1)
    try:
        with database.maintaining() as connection, _interruptible(connection):
            connection.execute("VACUUM INTO ?", (str(to),))
    finally:
        database.close()
    with closing(sqlite3.connect(to)) as connection:
        return facts_of(connection)


def facts_of(connection: sqlite3.Connection) -> Facts:
    """Count what is in the database."""
    by_version = connection.execute(
        "SELECT fingerprint_version, count(*) FROM drawings GROUP BY fingerprint_version"
    ).fetchall()
    (files,) = connection.execute("SELECT count(*) FROM files").fetchone()
    return Facts(sum(count for _, count in by_version), files, tuple(by_version))


def make_ready(path: Path, index: ArchivedIndex) -> Facts:
    """
    See whether the database at *path* is that of an index, and make it one that can be used here.

    It gets a new salt: what was made from the index in whose place it comes, or is made from another copy,
    must not be taken for its own.

    Raises:
        ArchiveError: it is not, or it is damaged.
        IndexVersionError: a newer version made it.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            _distrust(connection)
            _check_owner(connection, index)
        Database(path, INDEX, connections=1).close()  # which brings an older one up to date
        with closing(sqlite3.connect(path, isolation_level=None)) as connection, _interruptible(connection):
            _distrust(connection)
            return _made_ready(connection, index)
    except (sqlite3.Error, InternalError):
        raise _damaged(index) from None


def _made_ready(connection: sqlite3.Connection, index: ArchivedIndex) -> Facts:
    _check_structure(connection, index)
    if connection.execute("PRAGMA integrity_check(1)").fetchall() != [("ok",)]:
        raise _damaged(index)
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise _damaged(index)
    facts = facts_of(connection)
    counted = connection.execute("SELECT fingerprint_version, drawings FROM counts WHERE drawings").fetchall()
    if sorted(counted) != sorted(facts.by_version) or (facts.drawings, facts.files) != (
        index.drawings,
        index.files,
    ):
        raise _damaged(index)
    connection.execute("UPDATE meta SET value = lower(hex(randomblob(4))) WHERE name = 'salt'")
    # Only new databases are switched to a log when they are opened.
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    return facts


def _damaged(index: ArchivedIndex) -> ArchiveError:
    return ArchiveError(f"the index of {index.tenant} is damaged, or was not written by dedup2d")


def _check_owner(connection: sqlite3.Connection, index: ArchivedIndex) -> None:
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if owner != INDEX.application_id or version < 1:
        raise _damaged(index)
    if version > INDEX.version:
        raise INDEX.newer(version, INDEX.version)


def _distrust(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")


def _check_structure(connection: sqlite3.Connection, index: ArchivedIndex) -> None:
    """Refuse tables, columns, indexes, triggers and views that are not ours: opening must not run theirs."""
    with closing(sqlite3.connect(":memory:")) as own:
        own.executescript(INDEX.schema)
        if _structure(connection) != _structure(own):
            raise _damaged(index)


def _structure(connection: sqlite3.Connection) -> dict[tuple[str, str], Any]:
    found = {}
    for kind, name, table, sql in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"):
        found[kind, name] = (table, _DESCRIBED[kind](connection, name, sql) if kind in _DESCRIBED else sql)
    return found


def _table(connection: sqlite3.Connection, name: str, sql: str) -> Any:
    # An older index that was brought up to date has the same columns in another order.
    columns = connection.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)).fetchall()
    keys = connection.execute("SELECT * FROM pragma_foreign_key_list(?)", (name,)).fetchall()
    odd = [word for word in ("CHECK", "GENERATED", "COLLATE", "DEFAULT") if word in sql.upper()]
    return sorted(column[1:] for column in columns), sorted(keys), odd, "WITHOUT ROWID" in sql.upper()


def _index(connection: sqlite3.Connection, name: str, sql: str | None) -> Any:
    columns = [row[2:] for row in connection.execute("SELECT * FROM pragma_index_xinfo(?)", (name,))]
    return columns, " ".join((sql or "").split())


def _trigger(_connection: sqlite3.Connection, _name: str, sql: str) -> Any:
    return " ".join(sql.split())


_DESCRIBED: dict[str, Callable[[sqlite3.Connection, str, str], Any]] = {
    "table": _table,
    "index": _index,
    "trigger": _trigger,
}


@contextmanager
def _interruptible(connection: sqlite3.Connection) -> Iterator[None]:
    """Let Ctrl-C end a long statement, of which Python hears only when it is called from within."""
    connection.set_progress_handler(lambda: 0, _OPCODES)
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
