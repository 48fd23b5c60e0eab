"""Counts what is limited in a time: in this process, or in the Redis that all services share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog
from attrs import frozen

from dedup2d.build import redis_options
from dedup2d.errors import MissingExtraError
from dedup2d.settings import Settings

try:
    from limits import RateLimitItem
    from limits.aio.storage import MemoryStorage, Storage
    from limits.aio.strategies import SlidingWindowCounterRateLimiter
    from limits.errors import StorageError
except ImportError as error:
    raise MissingExtraError("http", "limits of requests") from error

if TYPE_CHECKING:
    from dedup2d.redis_connection import RedisOptions

__all__ = ["Allowance", "Counters", "build_counters"]

_RETRY_REDIS_SECONDS = 5.0

log = structlog.get_logger("dedup2d.http")


@frozen
class Allowance:
    """
    Args:
        granted: whether this one was within the limit.
        limit: how many there may be in a window.
        window_seconds: how long a window is.
        left: how many more there may be now.
        reset_seconds: when there may be more again, at least 1.
    """

    granted: bool
    limit: int
    window_seconds: int
    left: int
    reset_seconds: int


class Counters:
    """
    Counters by name, in windows that slide.

    An async context manager. While the Redis cannot be used each process counts for itself: a limit that is
    kept less strictly is better than a service that is down.

    Args:
        redis: where all services count together; None counts in this process.
        monotonic: gives seconds that only grow.
    """

    def __init__(
        self, redis: RedisOptions | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = redis
        self._monotonic = monotonic
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared: SlidingWindowCounterRateLimiter | None = None
        self._down_until = 0.0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._options is not None:
            self._shared = SlidingWindowCounterRateLimiter(self._redis_storage(self._options))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shared = None
        await self._stack.aclose()

    async def take(self, item: RateLimitItem, name: str) -> Allowance:
        """Count one under *name* if *item* still allows it, and say how it stands."""
        return await self._count(item, name, take=True)

    async def look(self, item: RateLimitItem, name: str) -> Allowance:
        """Say how it stands without counting."""
        return await self._count(item, name, take=False)

    async def _count(self, item: RateLimitItem, name: str, *, take: bool) -> Allowance:
        if self._shared is not None and self._monotonic() >= self._down_until:
            try:
                return await _counted(self._shared, item, name, take=take)
            except StorageError:
                self._down_until = self._monotonic() + _RETRY_REDIS_SECONDS
                log.warning("limits are counted by each process alone: the Redis cannot be used")
        return await _counted(self._own, item, name, take=take)

    def _redis_storage(self, options: RedisOptions) -> Storage:
        from limits.aio.storage import RedisStorage  # noqa: PLC0415 - needs the extra of Redis

        from dedup2d.redis_connection import connect  # noqa: PLC0415 - as above

        client = connect(options)
        self._stack.push_async_callback(client.aclose)
        return RedisStorage(
            "async+redis://",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=f"{options.key_prefix}:limits",
            connection_pool=client.connection_pool,  # type: ignore[arg-type]  # as its documentation has it
        )


def build_counters(settings: Settings) -> Counters:
    """Return counters where the services of *settings* count together."""
    return Counters(redis_options(settings) if settings.async_backend == "redis" else None)


async def _counted(
    limiter: SlidingWindowCounterRateLimiter, item: RateLimitItem, name: str, *, take: bool
) -> Allowance:
    granted = await (limiter.hit(item, name) if take else limiter.test(item, name))
    stats = await limiter.get_window_stats(item, name)
    wait = math.ceil(stats.reset_time - time.time())
    window = item.get_expiry()
    return Allowance(granted, item.amount, window, stats.remaining, max(1, min(window, wait)))
