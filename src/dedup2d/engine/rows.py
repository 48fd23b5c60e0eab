"""The tables of a catalogue and the statements on them, each inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from dedup2d.engine.records import FileRecord, SheetRecord, StoredSheet, Vector, drawing_id
from dedup2d.errors import InvalidParameterError
from dedup2d.types import Drawing

SCHEMA_VERSION = 4

KEPT_REMOVALS = 100_000
"""Over how many changes a process may sleep and still catch up without loading all anew."""

MAX_METADATA_BYTES = 65_536
NO_METADATA = "{}"

SCHEMA = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('change', 0), ('salt', lower(hex(randomblob(4))));
CREATE TABLE files(
  file_key INTEGER PRIMARY KEY AUTOINCREMENT,
  file_hash TEXT NOT NULL,
  origin TEXT NOT NULL,
  file_name TEXT NOT NULL,
  source TEXT,
  size INTEGER NOT NULL,
  mtime_ns INTEGER,
  metadata TEXT NOT NULL,
  sheets INTEGER NOT NULL,
  created_at REAL NOT NULL
);
CREATE UNIQUE INDEX files_by_hash ON files(file_hash, origin);
CREATE UNIQUE INDEX files_by_source ON files(source) WHERE source IS NOT NULL;
CREATE TABLE drawings(
  key INTEGER PRIMARY KEY AUTOINCREMENT,
  file_key INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
  drawing_id TEXT NOT NULL UNIQUE,
  page INTEGER NOT NULL,
  sheet TEXT NOT NULL,
  format TEXT NOT NULL,
  width INTEGER NOT NULL,
  height INTEGER NOT NULL,
  warnings TEXT NOT NULL,
  mm_per_pixel REAL,
  fingerprint_version INTEGER NOT NULL,
  change INTEGER NOT NULL UNIQUE
);
CREATE UNIQUE INDEX drawings_by_file ON drawings(file_key, page);
CREATE TABLE fingerprints(
  key INTEGER PRIMARY KEY REFERENCES drawings ON DELETE CASCADE,
  data BLOB NOT NULL
);
CREATE TABLE pictures(
  key INTEGER PRIMARY KEY REFERENCES drawings ON DELETE CASCADE,
  data BLOB NOT NULL
);
CREATE TABLE shapes(
  key INTEGER PRIMARY KEY REFERENCES drawings ON DELETE CASCADE,
  data BLOB NOT NULL
);
CREATE TABLE vectors(
  key INTEGER PRIMARY KEY REFERENCES drawings ON DELETE CASCADE,
  model TEXT NOT NULL,
  data BLOB NOT NULL
);
CREATE TABLE removals(change INTEGER PRIMARY KEY, key INTEGER NOT NULL);
CREATE TABLE counts(fingerprint_version INTEGER PRIMARY KEY, drawings INTEGER NOT NULL);
CREATE TRIGGER count_added AFTER INSERT ON drawings BEGIN
  INSERT INTO counts VALUES (new.fingerprint_version, 1)
    ON CONFLICT DO UPDATE SET drawings = drawings + 1;
END;
CREATE TRIGGER count_removed AFTER DELETE ON drawings BEGIN
  UPDATE counts SET drawings = drawings - 1 WHERE fingerprint_version = old.fingerprint_version;
END;
CREATE TRIGGER count_changed AFTER UPDATE OF fingerprint_version ON drawings BEGIN
  UPDATE counts SET drawings = drawings - 1 WHERE fingerprint_version = old.fingerprint_version;
  INSERT INTO counts VALUES (new.fingerprint_version, 1)
    ON CONFLICT DO UPDATE SET drawings = drawings + 1;
END;
"""

UPGRADES = {
    1: """
ALTER TABLE drawings ADD COLUMN mm_per_pixel REAL;
CREATE TABLE shapes(
  key INTEGER PRIMARY KEY REFERENCES drawings ON DELETE CASCADE,
  data BLOB NOT NULL
);
""",
    2: """
CREATE TABLE vectors(
  key INTEGER PRIMARY KEY REFERENCES drawings ON DELETE CASCADE,
  model TEXT NOT NULL,
  data BLOB NOT NULL
);
""",
    3: "",  # ink pictures in another coding, which earlier versions cannot read; those there stay as they are
}
"""What makes an index of each version one of the next."""

DRAWING = """
SELECT d.key, d.drawing_id, f.file_hash, f.file_name, d.page, d.format, d.width, d.height,
       f.created_at, d.sheet, f.source, f.metadata, d.warnings, d.mm_per_pixel
FROM drawings AS d JOIN files AS f ON f.file_key = d.file_key
"""

FINGERPRINT = """
SELECT d.change, d.key, d.fingerprint_version, p.data, d.drawing_id
FROM drawings AS d JOIN fingerprints AS p ON p.key = d.key
"""


def text(value: str) -> str:
    """Make a file name storable: one with undecodable bytes has code points that UTF-8 has not."""
    return value.encode("utf-8", "backslashreplace").decode()


def storable(file: FileRecord) -> tuple[FileRecord, str]:
    """Return the file as it is stored, and its metadata as JSON."""
    metadata = json.dumps(dict(file.metadata))
    if len(metadata) > MAX_METADATA_BYTES:
        raise InvalidParameterError("metadata", f"{len(metadata):,} bytes of JSON", "at most 65,536 bytes")
    source = None if file.source is None else text(file.source)
    clean = FileRecord(
        file_hash=file.file_hash,
        file_name=text(file.file_name),
        size=file.size,
        source=source,
        mtime_ns=file.mtime_ns,
    )
    return clean, metadata


def complete(connection: sqlite3.Connection, file: FileRecord) -> tuple[str, ...]:
    """Return the ids of the file's sheets if it is there, under this name, with all of them."""
    rows = connection.execute(
        "SELECT d.drawing_id, f.sheets, f.file_name FROM files AS f"
        " JOIN drawings AS d ON d.file_key = f.file_key"
        " WHERE f.file_hash = ? AND f.origin = ? ORDER BY d.page",
        (file.file_hash, file.origin),
    ).fetchall()
    whole = rows and len(rows) == rows[0][1] and rows[0][2] == file.file_name
    return tuple(row[0] for row in rows) if whole else ()


def touch(connection: sqlite3.Connection, file: FileRecord, metadata: str) -> None:
    """Note the file's new time and metadata, where there are any."""
    connection.execute(
        "UPDATE files SET mtime_ns = coalesce(?, mtime_ns),"
        " metadata = coalesce(?, metadata) WHERE file_hash = ? AND origin = ?",
        (file.mtime_ns, None if metadata == NO_METADATA else metadata, file.file_hash, file.origin),
    )


def remove_replaced(connection: sqlite3.Connection, file: FileRecord) -> None:
    """Remove what came from the same source, and what is left of the same file."""
    files = connection.execute(
        "SELECT file_key FROM files WHERE source = ?"
        " UNION SELECT file_key FROM files WHERE file_hash = ? AND origin = ?",
        (file.source, file.file_hash, file.origin),
    ).fetchall()
    for (file_key,) in files:
        for (key,) in connection.execute(
            "SELECT key FROM drawings WHERE file_key = ?", (file_key,)
        ).fetchall():
            remove_drawing(connection, key)
        connection.execute("DELETE FROM files WHERE file_key = ?", (file_key,))


def remove_drawing(connection: sqlite3.Connection, key: int) -> None:
    """Remove one drawing with its blobs, and tell the other processes."""
    connection.execute("DELETE FROM drawings WHERE key = ?", (key,))
    change = next_change(connection)
    connection.execute("INSERT INTO removals VALUES (?, ?)", (change, key))
    connection.execute("DELETE FROM removals WHERE change <= ?", (change - KEPT_REMOVALS,))


def insert_file(
    connection: sqlite3.Connection, file: FileRecord, metadata: str, sheets: int, now: float
) -> int:
    """Insert the file and return its key."""
    return _insert(
        connection,
        "files",
        file_hash=file.file_hash,
        origin=file.origin,
        file_name=file.file_name,
        source=file.source,
        size=file.size,
        mtime_ns=file.mtime_ns,
        metadata=metadata,
        sheets=sheets,
        created_at=now,
    )


def insert_sheet(connection: sqlite3.Connection, file: FileRecord, file_key: int, sheet: SheetRecord) -> str:
    """Insert one sheet of the file and return its id."""
    name = drawing_id(file, sheet.page)
    key = _insert(
        connection,
        "drawings",
        file_key=file_key,
        drawing_id=name,
        page=sheet.page,
        sheet=text(sheet.sheet),
        format=sheet.format,
        width=sheet.width,
        height=sheet.height,
        warnings=json.dumps(sheet.warnings),
        mm_per_pixel=sheet.mm_per_pixel,
        fingerprint_version=sheet.fingerprint_version,
        change=next_change(connection),
    )
    _insert(connection, "fingerprints", key=key, data=sheet.fingerprint)
    _insert(connection, "pictures", key=key, data=sheet.ink)
    if sheet.shapes:
        _insert(connection, "shapes", key=key, data=sheet.shapes)
    if sheet.vector:
        put_vector(connection, key, sheet.vector)
    return name


def put_vector(connection: sqlite3.Connection, key: int, vector: Vector) -> None:
    """Store the vector of a drawing in the place of what another model made of it."""
    connection.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", (key, vector.model, vector.data))


def _insert(connection: sqlite3.Connection, table: str, **values: Any) -> int:
    names, places = ", ".join(values), ", ".join("?" * len(values))
    sql = f"INSERT INTO {table}({names}) VALUES ({places})"  # noqa: S608 - names of this module
    cursor = connection.execute(sql, tuple(values.values()))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def next_change(connection: sqlite3.Connection) -> int:
    """Count one change; as writers take turns, changes become visible in this order."""
    row = connection.execute(
        "UPDATE meta SET value = value + 1 WHERE name = 'change' RETURNING value"
    ).fetchone()
    return int(row[0])


def head(connection: sqlite3.Connection) -> int:
    """Return the number of the last change."""
    return int(connection.execute("SELECT value FROM meta WHERE name = 'change'").fetchone()[0])


def total(connection: sqlite3.Connection) -> int:
    """Return how many drawings there are."""
    return int(connection.execute("SELECT coalesce(sum(drawings), 0) FROM counts").fetchone()[0])


def stored(connection: sqlite3.Connection, key: int) -> StoredSheet | None:
    """Return one drawing with its blobs, if it is there."""
    row = connection.execute(DRAWING + "WHERE d.key = ?", (key,)).fetchone()
    if row is None:
        return None
    blobs = connection.execute(
        "SELECT d.fingerprint_version, p.data, i.data, coalesce(s.data, x'') FROM drawings AS d"
        " JOIN fingerprints AS p ON p.key = d.key JOIN pictures AS i ON i.key = d.key"
        " LEFT JOIN shapes AS s ON s.key = d.key WHERE d.key = ?",
        (key,),
    ).fetchone()
    return StoredSheet(key, drawing(row), *blobs)


def drawing(row: tuple[Any, ...]) -> Drawing:
    """Return what a row of `DRAWING` says."""
    return Drawing(
        drawing_id=row[1],
        file_hash=row[2],
        file_name=row[3],
        page=row[4],
        format=row[5],
        width=row[6],
        height=row[7],
        created_at=row[8],
        sheet=row[9],
        source=row[10],
        metadata=json.loads(row[11]),
        warnings=tuple(json.loads(row[12])),
        mm_per_pixel=row[13],
    )
