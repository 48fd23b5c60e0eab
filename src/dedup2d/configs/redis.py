"""Configurations in the Redis of the jobs: for any number of machines."""

from __future__ import annotations

from dedup2d.codec import from_json, to_json
from dedup2d.configs.records import TenantConfig
from dedup2d.redis_connection import OnRedis, RedisOptions, Script

__all__ = ["RedisConfigStore"]

# The hash `<prefix>:configs` has a record for each tenant.
_GET = Script("return redis.call('HMGET', KEYS[1], ARGV[1])[1]")
_PUT = Script("redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])")
_DELETE = Script("return redis.call('HDEL', KEYS[1], ARGV[1])")


class RedisConfigStore(OnRedis):
    """
    A `ConfigStore` in one Redis, under the key prefix of the jobs.

    What survives a restart is what the Redis keeps on disk.

    Raises (when entered):
        ConfigurationError: the Redis cannot be used.
    """

    def __init__(self, options: RedisOptions) -> None:
        super().__init__(options)
        self._key = f"{options.key_prefix}:configs".encode()

    async def get(self, tenant_id: str) -> TenantConfig | None:
        record = await _GET.run(self._redis, self._key, tenant_id)
        return None if record is None else from_json(record, TenantConfig)

    async def put(self, config: TenantConfig) -> None:
        await _PUT.run(self._redis, self._key, config.tenant_id, to_json(config))

    async def delete(self, tenant_id: str) -> bool:
        return bool(await _DELETE.run(self._redis, self._key, tenant_id))
