"""Keys in one SQLite file beside the jobs: for one machine, and any number of its processes."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from attrs import evolve

from dedup2d.codec import from_json, to_json
from dedup2d.database import DatabaseKind
from dedup2d.database_async import AsyncDatabase, InDatabase
from dedup2d.errors import StoreUnavailableError, StoreVersionError, UnreadableRecordError
from dedup2d.keys.records import KeyPage, StoredKey
from dedup2d.paging import check_limit, make_token, read_token

__all__ = ["SQLiteKeyStore"]

_SCHEMA = """
CREATE TABLE keys (
    key_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    created_at REAL NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX keys_by_time ON keys (created_at, key_id);
CREATE INDEX keys_of_tenant ON keys (tenant_id, created_at, key_id);
"""
_KIND = DatabaseKind(
    name="key store",
    application_id=0x6464326B,
    schema=_SCHEMA,
    version=1,
    unavailable=partial(StoreUnavailableError, "key store"),
    newer=partial(StoreVersionError, "key store"),
)

_log = logging.getLogger("dedup2d.keys")


class SQLiteKeyStore(InDatabase):
    """
    A `KeyStore` in one file of a local disk, which several processes may use at once.

    Args:
        path: the file, made if missing together with its directory.
        busy_seconds: how long a step waits for writers of other processes.

    Raises (when entered):
        StoreVersionError: a newer version of dedup2d wrote the file.
        StoreUnavailableError: the file cannot be opened, or stays locked.
    """

    def __init__(self, path: Path, *, busy_seconds: float = 10.0) -> None:
        super().__init__(AsyncDatabase(path, _KIND, busy_seconds=busy_seconds))

    async def add(self, key: StoredKey) -> bool:
        def step(connection: Connection) -> bool:
            values = (key.key_id, key.tenant_id, key.created_at, to_json(key).decode())
            with suppress(sqlite3.IntegrityError):
                connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", values)
                return True
            return False

        return await self._database.write(step)

    async def get(self, key_id: str) -> StoredKey | None:
        return await self._database.read(partial(_find, key_id=key_id))

    async def list(
        self, *, tenant_id: str | None = None, limit: int = 50, page_token: str | None = None
    ) -> KeyPage:
        check_limit(limit)
        before = None if page_token is None else read_token("keys", page_token)
        return await self._database.read(partial(_page, tenant_id=tenant_id, limit=limit, before=before))

    async def revoke(self, key_id: str, *, at: float, by: str) -> StoredKey | None:
        def step(connection: Connection) -> StoredKey | None:
            key = _find(connection, key_id)
            if key is None or key.revoked_at is not None:
                return key
            revoked = evolve(key, revoked_at=at, revoked_by=by)
            connection.execute(
                "UPDATE keys SET record = ? WHERE key_id = ?", (to_json(revoked).decode(), key_id)
            )
            return revoked

        return await self._database.write(step)

    async def used(self) -> bool:
        def step(connection: Connection) -> bool:
            return connection.execute("SELECT 1 FROM keys LIMIT 1").fetchone() is not None

        return await self._database.read(step)


def _find(connection: Connection, key_id: str) -> StoredKey | None:
    row = connection.execute("SELECT record FROM keys WHERE key_id = ?", (key_id,)).fetchone()
    return None if row is None else from_json(row[0], StoredKey)


def _page(
    connection: Connection, *, tenant_id: str | None, limit: int, before: tuple[float, str] | None
) -> KeyPage:
    # Put together, not `:tenant IS NULL OR`, which would keep SQLite from using the index.
    conditions = [] if tenant_id is None else ["tenant_id = :tenant"]
    of_tenant = " AND ".join(["TRUE", *conditions])
    if before is not None:
        conditions.append("(created_at, key_id) < (:created_at, :key_id)")
    fitting = " AND ".join(["TRUE", *conditions])
    created_at, key_id = before or (0.0, "")
    wanted = {"tenant": tenant_id, "created_at": created_at, "key_id": key_id, "limit": limit + 1}
    rows = connection.execute(
        "SELECT created_at, key_id, record FROM keys"  # noqa: S608 - of constants
        f" WHERE {fitting} ORDER BY created_at DESC, key_id DESC LIMIT :limit",
        wanted,
    ).fetchall()
    total = connection.execute(f"SELECT count(*) FROM keys WHERE {of_tenant}", wanted)  # noqa: S608 - as above
    page, more = rows[:limit], len(rows) > limit
    return KeyPage(
        keys=tuple(_readable(page)),
        total=int(total.fetchone()[0]),
        next_page_token=make_token("keys", *page[-1][:2]) if more else None,
    )


def _readable(rows: Iterable[tuple[Any, ...]]) -> Iterator[StoredKey]:
    for _, key_id, record in rows:
        try:
            yield from_json(record, StoredKey)
        except UnreadableRecordError:
            _log.exception("a key's record was left out", extra={"key_id": key_id})
