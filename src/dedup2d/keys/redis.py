"""Keys in the Redis of the jobs: for any number of machines."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from attrs import evolve, frozen

from dedup2d.codec import from_json, to_json
from dedup2d.errors import UnreadableRecordError
from dedup2d.keys.records import KeyPage, StoredKey
from dedup2d.paging import check_limit, make_token, read_token
from dedup2d.redis_connection import OnRedis, RedisOptions, Script

__all__ = ["RedisKeyStore"]

# Below `<prefix>:keys:` there are the hash `records`, the hash `revoked`, and the sorted sets `order` and
# `order:<tenant>` by time. One script a step, so that a crash leaves all of it or nothing.
_VALUE = """
local function value(hash, id) return redis.call('HMGET', KEYS[1] .. hash, id)[1] end
"""
_ADD = Script(
    _VALUE
    + """
local id, tenant, created, record = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = value('records', id)
if known then return value('revoked', id) and '' or known end
redis.call('HSET', KEYS[1] .. 'records', id, record)
redis.call('ZADD', KEYS[1] .. 'order', created, id)
redis.call('ZADD', KEYS[1] .. 'order:' .. tenant, created, id)
return record
"""
)
_GET = Script(
    _VALUE
    + """
local record = value('records', ARGV[1])
return {record, value('revoked', ARGV[1])}
"""
)
_REVOKE = Script(
    _VALUE
    + """
local record = value('records', ARGV[1])
if record and not value('revoked', ARGV[1]) then
    redis.call('HSET', KEYS[1] .. 'revoked', ARGV[1], ARGV[2])
end
return {record, value('revoked', ARGV[1])}
"""
)
# Of one score, members are in the order of their bytes: those after the last one are looked for in steps.
_LIST = Script(
    _VALUE
    + """
local order, limit = KEYS[1] .. ARGV[1], tonumber(ARGV[2])
local found, from, offset = {}, tonumber(ARGV[3]), 0
while #found < limit do
    local batch = redis.call('ZREVRANGEBYSCORE', order, ARGV[3], '-inf', 'WITHSCORES', 'LIMIT', offset, limit)
    for i = 1, #batch, 2 do
        if #found < limit and (tonumber(batch[i + 1]) ~= from or ARGV[4] == '' or batch[i] < ARGV[4]) then
            local id = batch[i]
            found[#found + 1] = {id, batch[i + 1], value('records', id),
                                 value('revoked', id)}
        end
    end
    if #batch < 2 * limit then break end
    offset = offset + limit
end
return {redis.call('ZCARD', order), found}
"""
)
_USED = Script("return redis.call('ZCARD', KEYS[1] .. 'order')")

_log = logging.getLogger("dedup2d.keys")


@frozen
class _Revocation:
    at: float
    by: str


class RedisKeyStore(OnRedis):
    """
    A `KeyStore` in one Redis, under the key prefix of the jobs.

    What survives a restart is what the Redis keeps on disk.

    Raises (when entered):
        ConfigurationError: the Redis cannot be used.
    """

    def __init__(self, options: RedisOptions) -> None:
        super().__init__(options)
        self._root = f"{options.key_prefix}:keys:".encode()

    async def add(self, key: StoredKey) -> bool:
        record = to_json(key)
        stored = await self._run(_ADD, key.key_id, key.tenant_id, repr(key.created_at), record)
        # The driver may repeat a call whose answer was lost: then it is this very key that is there.
        return bool(stored == record)

    async def get(self, key_id: str) -> StoredKey | None:
        return _read(*await self._run(_GET, key_id))

    async def list(
        self, *, tenant_id: str | None = None, limit: int = 50, page_token: str | None = None
    ) -> KeyPage:
        check_limit(limit)
        order = "order" if tenant_id is None else f"order:{tenant_id}"
        created_at, last_id = "+inf", ""
        if page_token is not None:
            place, last_id = read_token("keys", page_token)
            created_at = repr(place)
        total, found = await self._run(_LIST, order, limit + 1, created_at, last_id)
        page, more = found[:limit], len(found) > limit
        return KeyPage(
            keys=tuple(_readable(page)),
            total=total,
            next_page_token=make_token("keys", float(page[-1][1]), page[-1][0].decode()) if more else None,
        )

    async def revoke(self, key_id: str, *, at: float, by: str) -> StoredKey | None:
        return _read(*await self._run(_REVOKE, key_id, to_json(_Revocation(at, by))))

    async def used(self) -> bool:
        return bool(await self._run(_USED))

    async def _run(self, script: Script, *arguments: str | bytes | float) -> Any:
        return await script.run(self._redis, self._root, *arguments)


def _read(record: bytes | None, revoked: bytes | None) -> StoredKey | None:
    if record is None:
        return None
    key = from_json(record, StoredKey)
    if revoked is None:
        return key
    revocation = from_json(revoked, _Revocation)
    return evolve(key, revoked_at=revocation.at, revoked_by=revocation.by)


def _readable(found: Iterable[Any]) -> Iterator[StoredKey]:
    for key_id, _, record, revoked in found:
        try:
            key = _read(record, revoked)
        except UnreadableRecordError:
            _log.exception("a key's record was left out", extra={"key_id": key_id.decode(errors="replace")})
        else:
            if key is not None:
                yield key
