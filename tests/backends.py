"""The one table of back ends: a new one added here is checked, tested and measured with the others."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import mkdtemp

from dedup2d.configs import ConfigStore
from dedup2d.configs.memory import MemoryConfigStore
from dedup2d.configs.redis import RedisConfigStore
from dedup2d.configs.sqlite import SQLiteConfigStore
from dedup2d.files.local import LocalFileStore
from dedup2d.files.memory import MemoryFileStore
from dedup2d.files.s3 import S3FileStore, S3Options
from dedup2d.geometry.storing import FileGeometryStore
from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.jobs.redis import RedisJobStore
from dedup2d.jobs.sqlite import SQLiteJobStore
from dedup2d.keys import KeyStore
from dedup2d.keys.memory import MemoryKeyStore
from dedup2d.keys.redis import RedisKeyStore
from dedup2d.keys.sqlite import SQLiteKeyStore
from dedup2d.protocols import FileStore, GeometryStore, JobStore, Queue
from dedup2d.queues.memory import MemoryQueue
from dedup2d.redis_connection import RedisOptions
from dedup2d.types import Lane
from dedup2d_worker.queue import RQQueue
from tests.s3_server import S3Server, shared_s3_server
from tests.servers import redis_url

Clock = Callable[[], float]

JOB_STORES: dict[str, Callable[[Clock, Path], AbstractAsyncContextManager[JobStore]]] = {
    "memory": lambda clock, directory: MemoryJobStore(clock=clock),
    "sqlite": lambda clock, directory: SQLiteJobStore(fresh(directory) / "jobs.db", clock=clock),
    "redis": lambda clock, directory: RedisJobStore(redis_options(), clock=clock),
}

FILE_STORES: dict[str, Callable[[Clock, Path], AbstractAsyncContextManager[FileStore]]] = {
    "memory": lambda clock, directory: MemoryFileStore(clock=clock),
    "local": lambda clock, directory: LocalFileStore(fresh(directory) / "files", clock=clock),
    "s3": lambda clock, directory: S3FileStore(s3_options(), clock=clock),
}

GEOMETRY_STORES: dict[str, Callable[[Path], AbstractAsyncContextManager[GeometryStore]]] = {
    name: lambda directory, make=make: _geometries(make(time.time, directory))  # type: ignore[misc]  # mypy knows no defaults of lambdas
    for name, make in FILE_STORES.items()
}

KEY_STORES: dict[str, Callable[[Path], AbstractAsyncContextManager[KeyStore]]] = {
    "memory": lambda directory: MemoryKeyStore(),
    "sqlite": lambda directory: SQLiteKeyStore(fresh(directory) / "keys.db"),
    "redis": lambda directory: RedisKeyStore(redis_options()),
}

CONFIG_STORES: dict[str, Callable[[Path], AbstractAsyncContextManager[ConfigStore]]] = {
    "memory": lambda directory: MemoryConfigStore(),
    "sqlite": lambda directory: SQLiteConfigStore(fresh(directory) / "configs.db"),
    "redis": lambda directory: RedisConfigStore(redis_options()),
}

QUEUES: dict[str, Callable[[], AbstractAsyncContextManager[Queue]]] = {
    "memory": MemoryQueue,
    "rq": lambda: rq_queue(),  # noqa: PLW0108 - it is defined below
}


OWN_CLOCK = frozenset({"s3"})
"""File stores whose server gives the time."""


def s3_options(server: S3Server | None = None) -> S3Options:
    """Return how to use a new prefix of the bucket."""
    server = server or shared_s3_server()
    return S3Options(
        endpoint=server.endpoint,
        bucket=server.bucket,
        prefix=f"run-{token_hex(8)}",
        access_key=server.access_key,
        secret_key=server.secret_key,
    )


def redis_options() -> RedisOptions:
    """Return options for the Redis that tests share, with a key prefix that nobody else has."""
    return RedisOptions(redis_url(), key_prefix=f"test-{token_hex(8)}")


@asynccontextmanager
async def _geometries(store: AbstractAsyncContextManager[FileStore]) -> AsyncIterator[GeometryStore]:
    """Give a store of geometries on a new store of files."""
    async with store as files, FileGeometryStore(files) as geometries:
        yield geometries


def fresh(directory: Path) -> Path:
    """Return a new directory inside *directory*: every store of the table starts empty."""
    return Path(mkdtemp(dir=directory))


def rq_queue(url: str | None = None) -> RQQueue:
    """Return a queue over RQ whose names are its own, on the shared Redis by default."""
    prefix = f"test-{token_hex(8)}"
    names = {Lane.MAIN: f"{prefix}:queue", Lane.CAD: f"{prefix}:cad"}
    return RQQueue(RedisOptions(url or redis_url(), key_prefix=prefix), names=names)
