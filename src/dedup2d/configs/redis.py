"""Configurations in the Redis of the jobs: for any number of machines."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from anyio import CancelScope

from dedup2d.codec import from_json, to_json
from dedup2d.configs.records import TenantConfig
from dedup2d.redis_connection import RedisOptions, Script, connect, probe

__all__ = ["RedisConfigStore"]

# The hash `<prefix>:configs` has a record for each tenant.
_GET = Script("return redis.call('HMGET', KEYS[1], ARGV[1])[1]")
_PUT = Script("redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])")
_DELETE = Script("return redis.call('HDEL', KEYS[1], ARGV[1])")


class RedisConfigStore:
    """
    A `ConfigStore` in one Redis, under the key prefix of the jobs.

    What survives a restart is what the Redis keeps on disk.

    Raises (when entered):
        ConfigurationError: the Redis cannot be used.
    """

    def __init__(self, options: RedisOptions) -> None:
        self._options = options
        self._key = f"{options.key_prefix}:configs".encode()

    async def __aenter__(self) -> Self:
        self._redis = connect(self._options)
        try:
            await probe(self._redis, self._options)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def get(self, tenant_id: str) -> TenantConfig | None:
        record = await _GET.run(self._redis, self._key, tenant_id)
        return None if record is None else from_json(record, TenantConfig)

    async def put(self, config: TenantConfig) -> None:
        await _PUT.run(self._redis, self._key, config.tenant_id, to_json(config))

    async def delete(self, tenant_id: str) -> bool:
        return bool(await _DELETE.run(self._redis, self._key, tenant_id))

    async def _close(self) -> None:
        with CancelScope(shield=True):
            await self._redis.aclose()
