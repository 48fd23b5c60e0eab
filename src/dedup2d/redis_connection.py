"""
Connections to a Redis: by host, TLS, Unix socket or Sentinel, with limits on every wait.

A connection that broke while it was idle is made anew once, so a Redis that was restarted is used
by the next call; one that does not answer gives an error within the time that the options allow.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from anyio import CancelScope
from attrs import field, frozen

from dedup2d.errors import (
    ConfigurationError,
    Dedup2DError,
    InternalError,
    MissingExtraError,
    StoreUnavailableError,
    shown,
)
from dedup2d.redis_url import (
    REDIS_URL_RULE,
    RedisTarget,
    check_redis_url,
    read_redis_url,
    safe_redis_url,
)

try:
    import redis
    import redis.asyncio
    import redis.asyncio.sentinel
    import redis.sentinel
    from redis import exceptions
    from redis.backoff import NoBackoff
except ImportError:
    raise MissingExtraError("redis", "a Redis") from None

__all__ = [
    "RedisFacts",
    "RedisOptions",
    "Script",
    "check_redis_url",
    "connect",
    "connect_blocking",
    "mapped",
    "probe",
    "unavailable",
]

_VARIABLE = "DEDUP2D_REDIS_URL"
_IDLE_SECONDS = 15.0
"""A connection that was idle for longer is tried before it is used."""


@frozen
class RedisOptions:
    """
    Where a Redis is, and how long it may take.

    Args:
        url: as `check_redis_url` allows.
        key_prefix: begins the name of every key, before a colon.
        pool_size: most connections of one process.
        connect_seconds: for making a connection.
        command_seconds: for the answer to one command, and for a free connection; None waits for ever.
    """

    url: str = field(repr=safe_redis_url)
    key_prefix: str = field(default="dedup2d", kw_only=True)
    pool_size: int = field(default=64, kw_only=True)
    connect_seconds: float = field(default=2.0, kw_only=True)
    command_seconds: float | None = field(default=5.0, kw_only=True)


def connect(options: RedisOptions) -> redis.asyncio.Redis:
    """
    Return a client for asyncio, which connects at its first command; `aclose` it after use.

    Raises:
        ConfigurationError: the URL is not one of a Redis.
    """
    target = _target(options)
    given = _pool_arguments(options, target, redis.asyncio.retry.Retry)
    if target.service is None:
        kind = _connection_class(redis.asyncio, target)
        waiting = redis.asyncio.BlockingConnectionPool(connection_class=kind, **_place(target), **given)
        return redis.asyncio.Redis.from_pool(waiting)
    sentinel = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]  # its package has no types
        target.hosts, sentinel_kwargs=_sentinel_arguments(options, target, redis.asyncio.retry.Retry)
    )
    pool = _SentinelPool(target.service, sentinel, ssl=target.tls, **given)  # type: ignore[no-untyped-call]  # its package has no types
    return _SentinelRedis(pool, sentinel)


def connect_blocking(options: RedisOptions) -> redis.Redis:
    """
    Return a client for code without asyncio; `close` it after use.

    Raises:
        ConfigurationError: the URL is not one of a Redis.
    """
    target = _target(options)
    given = _pool_arguments(options, target, redis.retry.Retry)
    if target.service is None:
        kind = _connection_class(redis, target)
        waiting = redis.BlockingConnectionPool(connection_class=kind, **_place(target), **given)  # type: ignore[no-untyped-call]  # its package has no types
        return redis.Redis.from_pool(waiting)
    sentinel = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]  # its package has no types
        target.hosts, sentinel_kwargs=_sentinel_arguments(options, target, redis.retry.Retry)
    )
    given.pop("timeout")
    pool = redis.sentinel.SentinelConnectionPool(  # type: ignore[no-untyped-call]  # its package has no types
        target.service, sentinel, ssl=target.tls, **given
    )
    return redis.Redis.from_pool(pool)


def _target(options: RedisOptions) -> RedisTarget:
    try:
        return read_redis_url(options.url)
    except ValueError:
        raise ConfigurationError(_VARIABLE, safe_redis_url(options.url), REDIS_URL_RULE) from None


class _SentinelPool(redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """Connections to the server that the sentinels name; waits for a free one."""


class _SentinelRedis(redis.asyncio.Redis):
    """A client that closes its sentinels' connections with its own."""

    def __init__(self, pool: _SentinelPool, sentinel: redis.asyncio.sentinel.Sentinel) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self._sentinel = sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        for each in self._sentinel.sentinels:
            await each.aclose()


def _pool_arguments(options: RedisOptions, target: RedisTarget, retry: Any) -> dict[str, Any]:
    return {
        "max_connections": options.pool_size,
        "timeout": options.command_seconds,
        "db": target.database,
        "username": target.username,
        "password": target.password,
        **_connection_arguments(options, target, retry),
    }


def _sentinel_arguments(options: RedisOptions, target: RedisTarget, retry: Any) -> dict[str, Any]:
    return {
        "ssl": target.tls,
        "username": target.options.get("sentinel_username"),
        "password": target.options.get("sentinel_password"),
        **_connection_arguments(options, target, retry),
    }


def _connection_arguments(options: RedisOptions, target: RedisTarget, retry: Any) -> dict[str, Any]:
    tls = {name: value for name, value in target.options.items() if name.startswith("ssl_")}
    return {
        "socket_connect_timeout": options.connect_seconds,
        "socket_timeout": options.command_seconds,
        "health_check_interval": _IDLE_SECONDS,
        # A time-out is not tried again: the command may have been done, and the caller has waited enough.
        "retry": retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
        "protocol": 2,
        **tls,
    }


def _connection_class(module: Any, target: RedisTarget) -> Any:
    if target.path is not None:
        return module.UnixDomainSocketConnection
    return module.SSLConnection if target.tls else module.Connection


def _place(target: RedisTarget) -> dict[str, Any]:
    if target.path is not None:
        return {"path": target.path}
    host, port = target.hosts[0]
    return {"host": host, "port": port}


@contextmanager
def mapped() -> Iterator[None]:
    """
    Turn the errors of redis-py in the block into those of dedup2d.

    Raises:
        StoreUnavailableError: the Redis cannot be used now.
        InternalError: it refused a command for what the command says.
    """
    try:
        yield
    except Dedup2DError:
        raise
    except (exceptions.RedisError, OSError) as error:
        reason = unavailable(error)
        if reason is None:
            raise InternalError(f"the Redis refused a command ({shown(str(error), 200)})") from error
        raise StoreUnavailableError("Redis", reason) from error


def unavailable(error: Exception) -> str | None:
    """Return why the Redis cannot be used now, in words; None if the *error* is about one command."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, exceptions.ResponseError):
        if any(words in str(error) for words in _FORBIDDEN):
            return f"its user may not do what is needed: {shown(str(error), 200)}"
        word = str(error).partition(" ")[0]
        return shown(str(error), 200) if word in _PASSING else None
    return _network_reason(error)


_NO_SERVER = "no sentinel that can be reached knows a server of this service"
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "it refuses the user or the password"),
    (exceptions.BusyLoadingError, "it is loading its data"),
    (exceptions.ReadOnlyError, "it is a read-only replica"),
    (exceptions.OutOfMemoryError, "its memory is full"),
    (exceptions.TimeoutError, "it does not answer in time"),
    (redis.sentinel.MasterNotFoundError, _NO_SERVER),
    (redis.asyncio.sentinel.MasterNotFoundError, _NO_SERVER),
)
_FORBIDDEN = ("o permission", "NOPERM", "can't run this command")
"""What a script that is forbidden a command gives, by version of the server."""
_PASSING = frozenset(
    {
        *("BUSY", "CLUSTERDOWN", "DENIED", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH"),
        *("NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "UNKILLABLE"),
    }
)


def _network_reason(error: Exception) -> str:
    cause = next((each for each in _causes(error) if isinstance(each, OSError)), None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, socket.gaierror | ssl.SSLError):
        return cause.strerror or "it does not speak TLS"
    if cause is not None and cause.errno:
        return os.strerror(cause.errno).lower()
    return shown(str(error), 200) or "the connection was lost"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Script:
    """A Lua script, which takes one key; the Redis is sent all of it only when it does not know it yet."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: redis.asyncio.Redis, key: bytes, *arguments: str | bytes | float) -> Any:
        """
        Run it and return what it gives.

        Raises:
            StoreUnavailableError, InternalError: as `mapped`.
        """
        with mapped():
            try:
                return await client.evalsha(self._digest, 1, key, *arguments)
            except exceptions.NoScriptError:
                # The Redis was restarted. This makes the script known again.
                return await client.eval(self._text, 1, key, *arguments)


@frozen(kw_only=True)
class RedisFacts:
    """
    What a Redis is.

    `persistence` is `aof`, `rdb`, `none` or `unknown`; `version` and `maxmemory_policy` are empty
    where the user may not ask for them. `warnings` say what an operator should change.
    """

    version: str
    persistence: str
    maxmemory_policy: str
    warnings: tuple[str, ...]


# One call of each command that the scripts make, on a key of its own.
_TRIAL = """
local key = KEYS[1]
redis.call('HSET', key, 'a', '1')
redis.call('HGETALL', key)
redis.call('HMGET', key, 'a')
redis.call('HDEL', key, 'b')
redis.call('DEL', key)
redis.call('ZADD', key, '1', 'a')
redis.call('ZRANGE', key, '0', '0')
redis.call('ZRANGEBYSCORE', key, '0', '1')
redis.call('ZREVRANGEBYSCORE', key, '1', '0')
redis.call('ZCARD', key)
redis.call('ZREM', key, 'a')
redis.call('SET', key, '1', 'PX', '1000')
redis.call('GET', key)
redis.call('PEXPIRE', key, '1000')
redis.call('DEL', key)
return redis.call('TIME')
"""
_LEAST_VERSION = (6, 2)


async def probe(client: redis.asyncio.Redis, options: RedisOptions) -> RedisFacts:
    """
    Return what the Redis is, once it is sure that it can be used.

    Raises:
        ConfigurationError: it cannot: it is not there, refuses the user, or does not let the user do what
            is needed, is a read-only replica, or older than 6.2.
    """
    try:
        await client.eval(_TRIAL, 1, f"{options.key_prefix}:probe:{os.urandom(8).hex()}")
    except (exceptions.RedisError, OSError, ValueError) as error:
        raise _unusable(options, unavailable(error) or shown(str(error), 200)) from None
    server, memory, persistence = [await _info(client, name) for name in ("server", "memory", "persistence")]
    version = str(server.get("redis_version", ""))
    if version and tuple(int(part) for part in version.split(".")[:2]) < _LEAST_VERSION:
        raise _unusable(options, f"it is Redis {version}, too old: 6.2 or later is needed")
    kept = "aof" if persistence.get("aof_enabled") else await _snapshots(client)
    policy = str(memory.get("maxmemory_policy", ""))
    return RedisFacts(
        version=version, persistence=kept, maxmemory_policy=policy, warnings=_warnings(kept, policy)
    )


class OnRedis:
    """
    A store in one Redis: an async context manager, connected while it is entered.

    Raises (when entered):
        ConfigurationError: the Redis cannot be used.
    """

    def __init__(self, options: RedisOptions) -> None:
        self._options = options

    async def __aenter__(self) -> Self:
        self._redis = connect(self._options)
        try:
            self._facts = await probe(self._redis, self._options)
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

    async def _close(self) -> None:
        with CancelScope(shield=True):
            await self._redis.aclose()


def _unusable(options: RedisOptions, reason: str) -> ConfigurationError:
    allowed = f"the URL of a Redis 6.2 or later that can be used; this one cannot: {reason}"
    return ConfigurationError(_VARIABLE, safe_redis_url(options.url), allowed)


async def _info(client: redis.asyncio.Redis, section: str) -> dict[str, Any]:
    try:
        return dict(await client.info(section))
    except exceptions.RedisError:
        return {}


async def _snapshots(client: redis.asyncio.Redis) -> str:
    try:
        found = await client.config_get("save")
    except exceptions.RedisError:
        return "unknown"
    return "rdb" if found.get("save") else "none"


def _warnings(kept: str, policy: str) -> tuple[str, ...]:
    found = []
    if kept == "none":
        found.append("it keeps nothing on disk: a restart of it loses all jobs (set appendonly yes)")
    if policy not in ("noeviction", ""):
        found.append(f"it may drop jobs when its memory is full (maxmemory-policy {policy}: set noeviction)")
    return tuple(found)
