"""Configurations in one SQLite file beside the jobs: for one machine, and any number of its processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from sqlite3 import Connection

from dedup2d.codec import from_json, to_json
from dedup2d.configs.records import TenantConfig
from dedup2d.database import DatabaseKind
from dedup2d.database_async import AsyncDatabase, InDatabase
from dedup2d.errors import StoreUnavailableError, StoreVersionError

__all__ = ["SQLiteConfigStore"]

_KIND = DatabaseKind(
    name="configuration store",
    application_id=0x64643263,
    schema="CREATE TABLE configs (tenant_id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;",
    version=1,
    unavailable=partial(StoreUnavailableError, "configuration store"),
    newer=partial(StoreVersionError, "configuration store"),
)


class SQLiteConfigStore(InDatabase):
    """
    A `ConfigStore` in one file of a local disk, which several processes may use at once.

    Args:
        path: the file, made if missing together with its directory.
        busy_seconds: how long a step waits for writers of other processes.

    Raises (when entered):
        StoreVersionError: a newer version of dedup2d wrote the file.
        StoreUnavailableError: the file cannot be opened, or stays locked.
    """

    def __init__(self, path: Path, *, busy_seconds: float = 10.0) -> None:
        super().__init__(AsyncDatabase(path, _KIND, busy_seconds=busy_seconds))

    async def get(self, tenant_id: str) -> TenantConfig | None:
        def step(connection: Connection) -> str | None:
            query = "SELECT record FROM configs WHERE tenant_id = ?"
            row = connection.execute(query, (tenant_id,)).fetchone()
            return None if row is None else str(row[0])

        record = await self._database.read(step)
        return None if record is None else from_json(record, TenantConfig)

    async def put(self, config: TenantConfig) -> None:
        values = (config.tenant_id, to_json(config).decode())

        def step(connection: Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO configs VALUES (?, ?)", values)

        await self._database.write(step)

    async def delete(self, tenant_id: str) -> bool:
        def step(connection: Connection) -> bool:
            return connection.execute("DELETE FROM configs WHERE tenant_id = ?", (tenant_id,)).rowcount > 0

        return await self._database.write(step)
