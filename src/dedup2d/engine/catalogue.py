"""
The catalogue of one tenant's index: files, drawings, fingerprints and ink pictures in SQLite.

Synchronous; callers on an event loop use it from threads. Every write is one transaction,
every list is paged by key, and every statement finds its rows by an index.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dedup2d.database import Database
from dedup2d.engine import rows
from dedup2d.engine.database import INDEX
from dedup2d.engine.records import (
    Counts,
    FileRecord,
    FingerprintRow,
    KnownFile,
    SheetRecord,
    StoredSheet,
    Vector,
    VectorRow,
)
from dedup2d.engine.stamps import Stamps
from dedup2d.errors import DrawingNotFoundError, IndexFullError, VisionUnavailableError
from dedup2d.paging import check_limit, make_token, read_numbered_token
from dedup2d.types import Drawing, DrawingPage

__all__ = ["Catalogue"]

_END = 2**62
_NONE: Mapping[int, Vector] = MappingProxyType({})


class Catalogue:
    """
    Files and drawings of one tenant.

    Args:
        path: the database file, None to keep everything in memory.
        clock: gives the Unix time that `created_at` is taken from.
        fingerprint_version: what counts as current in `counts` and `stale`.

    Raises:
        IndexVersionError, VisionUnavailableError, InternalError: as `Database`; every method
            may raise the latter two.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        fingerprint_version: int,
        clock: Callable[[], float] = time.time,
        busy_seconds: float = 10.0,
    ) -> None:
        self._version = fingerprint_version
        self._clock = clock
        self._database = Database(path, INDEX, busy_seconds=busy_seconds)
        self._list = f"drawings-{self.salt()}"

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def add(
        self, file: FileRecord, sheets: Sequence[SheetRecord], most: int = 0
    ) -> tuple[tuple[str, ...], bool]:
        """
        Add all sheets of *file* in one transaction; give their ids and whether they are new.

        If the file is there with all its sheets, only its `mtime_ns` and, if any are given,
        its metadata change. What came from the same source or origin before is replaced.

        *most* drawings may be there afterwards, any number if it is 0; processes that add at once count
        each other's.

        Raises:
            InvalidParameterError: the metadata are larger than 64 KiB.
            IndexFullError: there would be more than *most*; nothing is changed.
        """
        file, metadata = rows.storable(file)
        with self._database.writing() as connection:
            known = rows.complete(connection, file)
            if known:
                rows.touch(connection, file, metadata)
                return known, False
            rows.remove_replaced(connection, file)
            if most and rows.total(connection) + len(sheets) > most:
                raise IndexFullError(most, len(sheets))
            file_key = rows.insert_file(connection, file, metadata, len(sheets), self._clock())
            ids = tuple(rows.insert_sheet(connection, file, file_key, sheet) for sheet in sheets)
        return ids, True

    def touch(self, file: FileRecord) -> tuple[str, ...]:
        """Do what `add` does if the file is there with all its sheets; give their ids, else none."""
        file, metadata = rows.storable(file)
        with self._database.reading() as connection:
            known = rows.complete(connection, file)
        if known and (file.mtime_ns is not None or metadata != rows.NO_METADATA):
            with self._database.writing() as connection:
                known = rows.complete(connection, file)
                rows.touch(connection, file, metadata)
        return known

    def remove(self, drawing: str) -> None:
        """
        Remove one drawing with its fingerprint and picture, and its file with the last one.

        Raises:
            DrawingNotFoundError: it is not there.
        """
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT key, file_key FROM drawings WHERE drawing_id = ?", (drawing,)
            ).fetchone()
            if row is None:
                raise DrawingNotFoundError(drawing)
            rows.remove_drawing(connection, row[0])
            connection.execute(
                "DELETE FROM files WHERE file_key = :file"
                " AND NOT EXISTS (SELECT 1 FROM drawings WHERE file_key = :file)",
                {"file": row[1]},
            )
        self._give_back_space()

    def replace_fingerprints(self, made: Mapping[int, bytes], vectors: Mapping[int, Vector] = _NONE) -> int:
        """
        Store new fingerprints of the current version by key; say how many drawings still exist.

        *vectors*, of any of those drawings, replace what another model made.
        """
        with self._database.writing() as connection:
            return sum(
                self._replace_fingerprint(connection, key, data, vectors.get(key))
                for key, data in made.items()
            )

    def _replace_fingerprint(
        self, connection: sqlite3.Connection, key: int, data: bytes, vector: Vector | None
    ) -> int:
        changed = connection.execute("UPDATE fingerprints SET data = ? WHERE key = ?", (data, key)).rowcount
        if changed:
            connection.execute(
                "UPDATE drawings SET fingerprint_version = ?, change = ? WHERE key = ?",
                (self._version, rows.next_change(connection), key),
            )
            if vector:
                rows.put_vector(connection, key, vector)
        return changed

    def _give_back_space(self) -> None:
        # The drawing is gone already; whoever holds the lock now leaves the space to the next removal.
        with suppress(VisionUnavailableError), self._database.maintaining() as connection:
            # `execute` would stop after the first page.
            connection.executescript("PRAGMA incremental_vacuum(1000)")

    def salt(self) -> str:
        """Return what tells this index from others, where its page tokens and segments are useless."""
        with self._database.reading() as connection:
            return str(connection.execute("SELECT value FROM meta WHERE name = 'salt'").fetchone()[0])

    # What other processes changed

    def head(self) -> int:
        """Return the number of the last change."""
        with self._database.reading() as connection:
            return rows.head(connection)

    def removed_since(self, change: int) -> tuple[int, tuple[int, ...] | None]:
        """Return the last change and the keys removed after *change*, None if some were forgotten."""
        with self._database.reading() as connection:
            head = rows.head(connection)
            if change < head - rows.KEPT_REMOVALS:
                return head, None
            found = connection.execute("SELECT key FROM removals WHERE change > ? ORDER BY change", (change,))
            return head, tuple(key for (key,) in found)

    def fingerprints_since(self, change: int, *, limit: int) -> list[FingerprintRow]:
        """Return the fingerprints added or remade after *change*, in that order, at most *limit*."""
        with self._database.reading() as connection:
            found = connection.execute(
                rows.FINGERPRINT + "WHERE d.change > ? ORDER BY d.change LIMIT ?", (change, limit)
            )
            return [FingerprintRow(*row) for row in found]

    def fingerprints_of(self, keys: Sequence[int]) -> list[FingerprintRow]:
        """Return the fingerprints of *keys*, those that still exist."""
        with self._database.reading() as connection:
            found = connection.execute(
                rows.FINGERPRINT + "WHERE d.key IN (SELECT value FROM json_each(?))",  # noqa: S608 - constants
                (json.dumps(list(keys)),),
            )
            return [FingerprintRow(*row) for row in found]

    def vectors_since(self, change: int, model: str, *, limit: int) -> list[VectorRow]:
        """
        Return what *model* made of drawings that were added or remade after *change*, in that order.

        All of those drawings are there, at most *limit*; the data are empty where it made none.
        """
        with self._database.reading() as connection:
            found = connection.execute(
                "SELECT d.change, d.key, CASE v.model WHEN ? THEN v.data ELSE x'' END FROM drawings AS d"
                " LEFT JOIN vectors AS v ON v.key = d.key WHERE d.change > ? ORDER BY d.change LIMIT ?",
                (model, change, limit),
            )
            return [VectorRow(*row) for row in found]

    def without_vector(self, keys: Sequence[int], model: str) -> list[int]:
        """Return those of *keys* that *model* has made no vector of."""
        with self._database.reading() as connection:
            found = connection.execute(
                "SELECT key FROM vectors WHERE key IN (SELECT value FROM json_each(?)) AND model = ?",
                (json.dumps(list(keys)), model),
            )
            have = {key for (key,) in found}
        return [key for key in keys if key not in have]

    def stamps(self) -> Stamps:
        """Return which drawings have a fingerprint of the current version, as of one moment."""
        with self._database.reading() as connection:
            head = rows.head(connection)
            found = connection.execute(
                "SELECT key, change, drawing_id FROM drawings WHERE fingerprint_version = ? ORDER BY key",
                (self._version,),
            )
            # A few at a time, as rows take far more memory than what is kept of them.
            return Stamps.of(head, iter(lambda: found.fetchmany(5000), []))

    # Reading

    def known(self, source: str) -> KnownFile | None:
        """Return what was remembered of the file that was added from *source*."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT size, mtime_ns, file_hash FROM files WHERE source = ?", (rows.text(source),)
            ).fetchone()
        return KnownFile(*row) if row else None

    def of_source(self, source: str) -> tuple[Drawing, ...]:
        """Return the drawings that were added from *source*, by page."""
        with self._database.reading() as connection:
            found = connection.execute(
                rows.DRAWING + "WHERE f.source = ? ORDER BY d.page", (rows.text(source),)
            )
            return tuple(rows.drawing(row) for row in found)

    def drawing(self, drawing: str) -> Drawing:
        """
        Return one drawing.

        Raises:
            DrawingNotFoundError: it is not there.
        """
        with self._database.reading() as connection:
            row = connection.execute(rows.DRAWING + "WHERE d.drawing_id = ?", (drawing,)).fetchone()
        if row is None:
            raise DrawingNotFoundError(drawing)
        return rows.drawing(row)

    def picture(self, drawing: str) -> bytes:
        """
        Return the ink picture of a drawing as it is stored; see `encode_ink`.

        Raises:
            DrawingNotFoundError: it is not there.
        """
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT p.data FROM drawings AS d JOIN pictures AS p ON p.key = d.key WHERE d.drawing_id = ?",
                (drawing,),
            ).fetchone()
        if row is None:
            raise DrawingNotFoundError(drawing)
        return bytes(row[0])

    def key_of(self, drawing: str) -> int:
        """
        Return the key under which a drawing's fingerprint is known.

        Raises:
            DrawingNotFoundError: it is not there.
        """
        with self._database.reading() as connection:
            row = connection.execute("SELECT key FROM drawings WHERE drawing_id = ?", (drawing,)).fetchone()
        if row is None:
            raise DrawingNotFoundError(drawing)
        return int(row[0])

    def page(self, *, limit: int = 50, page_token: str | None = None) -> DrawingPage:
        """
        Return drawings, newest first.

        Raises:
            InvalidParameterError: *limit* is not 1 to 500, or this catalogue gave no such token.
        """
        check_limit(limit)
        before = _END if page_token is None else read_numbered_token(self._list, page_token)
        with self._database.reading() as connection:
            found = connection.execute(
                rows.DRAWING + "WHERE d.key < ? ORDER BY d.key DESC LIMIT ?", (before, limit + 1)
            ).fetchall()
            total = rows.total(connection)
        shown = found[:limit]
        return DrawingPage(
            drawings=tuple(rows.drawing(row) for row in shown),
            total=total,
            next_page_token=self._token(shown[-1]) if len(found) > limit else None,
        )

    def _token(self, last: tuple[Any, ...]) -> str:
        return make_token(self._list, rows.drawing(last).created_at, str(last[0]))

    def drawings(self, keys: Sequence[int]) -> dict[int, Drawing]:
        """Return the drawings of *keys* that still exist."""
        with self._database.reading() as connection:
            found = connection.execute(
                rows.DRAWING + "WHERE d.key IN (SELECT value FROM json_each(?))",  # noqa: S608 - constants
                (json.dumps(list(keys)),),
            )
            return {row[0]: rows.drawing(row) for row in found}

    def sheets(self, keys: Sequence[int]) -> list[StoredSheet]:
        """Return what verification needs of *keys*, those that still exist, in the same order."""
        with self._database.reading() as connection:
            found = (rows.stored(connection, key) for key in keys)
            return [sheet for sheet in found if sheet]

    def pictures(self, keys: Sequence[int]) -> dict[int, bytes]:
        """Return the ink pictures of *keys*, those that still exist."""
        with self._database.reading() as connection:
            found = connection.execute(
                "SELECT key, data FROM pictures WHERE key IN (SELECT value FROM json_each(?))",
                (json.dumps(list(keys)),),
            )
            return dict(found.fetchall())

    def same_bytes(self, file_hash: str, *, limit: int) -> list[tuple[int, int]]:
        """Return key and page of the drawings whose file has this hash, oldest first."""
        with self._database.reading() as connection:
            return connection.execute(
                "SELECT d.key, d.page FROM files AS f JOIN drawings AS d ON d.file_key = f.file_key"
                " WHERE f.file_hash = ? ORDER BY d.key LIMIT ?",
                (file_hash, limit),
            ).fetchall()

    def files_among(self, file_hashes: Collection[str]) -> list[str]:
        """Return those of *file_hashes* that a file with drawings has."""
        with self._database.reading() as connection:
            found = connection.execute(
                "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM files AS f"
                " JOIN drawings AS d ON d.file_key = f.file_key WHERE f.file_hash = value)",
                (json.dumps(list(file_hashes)),),
            )
            return [file_hash for (file_hash,) in found]

    def keys_after(self, key: int, *, limit: int) -> list[int]:
        """Return the keys of drawings after *key*, in order."""
        with self._database.reading() as connection:
            found = connection.execute(
                "SELECT key FROM drawings WHERE key > ? ORDER BY key LIMIT ?", (key, limit)
            )
            return [key for (key,) in found]

    def counts(self) -> Counts:
        """Count the drawings, in time that does not grow with their number."""
        with self._database.reading() as connection:
            found = connection.execute("SELECT fingerprint_version, drawings FROM counts").fetchall()
        return Counts(
            drawings=sum(count for _, count in found),
            stale=sum(count for version, count in found if version != self._version),
        )
