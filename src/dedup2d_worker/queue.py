"""
A queue over RQ: wakes workers on any machine that sees the same Redis.

One ring wakes one worker, who runs all jobs that wait and wakes the next before it starts the first. So
a ring is sent only when none is on its way already, and an operator sees the queue and its workers with
RQ's own tools.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from time import monotonic
from types import TracebackType
from typing import Self

import anyio
from anyio import CapacityLimiter, to_thread
from attrs import evolve

from dedup2d.errors import (
    ConfigurationError,
    InvalidParameterError,
    MissingExtraError,
    StoreUnavailableError,
)
from dedup2d.redis_connection import RedisOptions, connect, connect_blocking, mapped, probe
from dedup2d.redis_url import safe_redis_url
from dedup2d.types import Lane
from dedup2d_worker.listener import DEQUEUE_SECONDS, FRESH_WORKER_TTL_SECONDS, Listener
from dedup2d_worker.ring import open_queue, push
from dedup2d_worker.slots import Slots

try:
    import redis.asyncio
    from redis.exceptions import NoPermissionError
    from rq import Queue
    from rq.worker_registration import WORKERS_BY_QUEUE_KEY
except ImportError as error:
    raise MissingExtraError("worker", "the queue for Redis") from error

__all__ = ["RQQueue"]

_FLAG_MILLISECONDS = 3000
_PASS_ON_SECONDS = 0.2
"""A ring that was lost on its way keeps others from ringing for so long."""
_MOST_RINGS = 16
"""So many rings wait in one queue while all workers are busy or gone; more would wake nobody sooner."""
_THREADS = 4
_ANSWER_SECONDS = 5.0
_INTERRUPT_SECONDS = 0.2
_STOP_SECONDS = 1.5 * DEQUEUE_SECONDS
_NAME = re.compile(r"[A-Za-z0-9_.:{}-]{1,200}")
_NAME_RULE = "1 to 200 letters, digits and . _ : { } -"
_SETTINGS = {Lane.MAIN: "DEDUP2D_QUEUE_NAME", Lane.CAD: "DEDUP2D_RENDER_QUEUE_NAME"}


class RQQueue:
    """
    A `Queue`, `SharedQueue` and `HeardQueue` over RQ's queues.

    What waits survives this process, and each restart of a Redis that keeps its data.

    Args:
        options: where the Redis is; its prefix begins the names of the flags.
        names: the name of RQ's queue for each lane; a lane without one uses that of `Lane.MAIN`.
        lanes: the lanes that `consume` serves, None for all.

    Raises:
        ConfigurationError: a name is not one of a queue.
    """

    def __init__(
        self, options: RedisOptions, *, names: Mapping[Lane, str], lanes: Collection[Lane] | None = None
    ) -> None:
        for lane, name in names.items():
            if not _NAME.fullmatch(name):
                raise ConfigurationError(_SETTINGS[lane], name, _NAME_RULE)
        self._options = options
        self._names = {lane: names.get(lane, names[Lane.MAIN]) for lane in Lane}
        self._served = list(dict.fromkeys(self._names[lane] for lane in Lane if lane in (lanes or Lane)))
        # Lanes that share a queue share a flag: that of the first of them.
        self._lanes = {name: lane for lane, name in reversed(self._names.items())}
        self._flags = {name: f"{options.key_prefix}:ring:{lane}" for name, lane in self._lanes.items()}
        self._queues: dict[str, Queue] = {}
        self._consuming: list[Slots] = []
        self._passed_on: dict[Lane, float] = {}
        self._threads = CapacityLimiter(_THREADS)
        self._client: redis.asyncio.Redis
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._client = connect(self._options)
            stack.push_async_callback(self._client.aclose)
            await probe(self._client, self._options)
            blocking = connect_blocking(evolve(self._options, pool_size=_THREADS))
            stack.callback(blocking.close)
            self._queues = {name: open_queue(name, blocking) for name in self._flags}
            with mapped():
                await self._check_rights()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with mapped():
            await self._stack.aclose()

    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        name = self._names[lane]
        with mapped():
            raised = await self._client.set(self._flags[name], job_id, nx=True, px=_FLAG_MILLISECONDS)
            # A flag that was up already: its ring is still to be heard, by someone who will look after this.
            # It is taken down before that look (see `Listener`), so nothing is missed.
            if raised and await self._client.llen(self._queues[name].key) < _MOST_RINGS:
                await self._ring(name, job_id)

    async def pass_on(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:
        if any(slots.wake(job_id) for slots in self._consuming):
            return
        # A worker with a full load passes on with every job: others need to hear that now and then only.
        now = monotonic()
        if now >= self._passed_on.get(lane, 0.0) + _PASS_ON_SECONDS:
            self._passed_on[lane] = now
            await self.put(job_id, lane=lane)

    async def consume(self, handler: Callable[[str], Awaitable[None]], *, concurrency: int) -> None:
        if concurrency < 1:
            raise InvalidParameterError("concurrency", concurrency, "a whole number of at least 1")
        slots = Slots(concurrency)
        listener = self._listener(slots)
        self._consuming.append(slots)
        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(concurrency):
                    tasks.start_soon(slots.serve, self._ringing_on_failure(handler))
                tasks.start_soon(_listen, listener)
        finally:
            self._consuming.remove(slots)
            await self._ring_for_others(slots)

    def _ringing_on_failure(
        self, handler: Callable[[str], Awaitable[None]]
    ) -> Callable[[str], Awaitable[None]]:
        """Ring for what a handler that failed has left behind, which it may not have passed on."""

        async def guarded(job_id: str) -> None:
            try:
                await handler(job_id)
            except Exception:
                with suppress(StoreUnavailableError):
                    for name in self._served:
                        await self.put(job_id, lane=self._lanes[name])
                raise

        return guarded

    async def depth(self) -> int:
        with mapped():
            return await self._depth()

    async def listeners(self) -> Mapping[str, int]:
        with mapped():
            return {name: await self._listeners(name) for name in self._served}

    async def _listeners(self, name: str) -> int:
        """Count the workers of the queue whose last beat is not old, by how long RQ still keeps them."""
        workers = await self._client.smembers(WORKERS_BY_QUEUE_KEY % name)
        async with self._client.pipeline(transaction=False) as pipeline:
            for worker in workers:
                pipeline.ttl(worker)
            return sum(left >= FRESH_WORKER_TTL_SECONDS for left in await pipeline.execute())

    async def _depth(self) -> int:
        async with self._client.pipeline(transaction=False) as pipeline:
            for name in self._served:
                pipeline.llen(self._queues[name].key)
            return sum(await pipeline.execute())

    async def _ring(self, name: str, job_id: str) -> None:
        """Send a ring; once begun it is not given up, or the flag would promise a ring that never comes."""
        with anyio.CancelScope(shield=True):
            try:
                await to_thread.run_sync(push, self._queues[name], job_id, limiter=self._threads)
            except Exception:
                await self._client.delete(self._flags[name])
                raise

    async def _ring_for_others(self, slots: Slots) -> None:
        """Pass on the ring that a slot had been given but did not come to look at."""
        job_id = slots.left()
        if job_id is None:
            return
        with anyio.CancelScope(shield=True), suppress(StoreUnavailableError):
            for name in self._served:
                await self.put(job_id, lane=self._lanes[name])

    async def _check_rights(self) -> None:
        try:
            await self._client.scard(Queue.redis_queues_keys)
            await self._depth()
        except NoPermissionError:
            raise ConfigurationError(
                "DEDUP2D_REDIS_URL",
                safe_redis_url(self._options.url),
                f"the URL of a user that may use the keys rq:* too, beside {self._options.key_prefix}:*",
            ) from None

    def _listener(self, slots: Slots) -> Listener:
        answer_seconds = self._options.command_seconds or _ANSWER_SECONDS
        options = evolve(self._options, pool_size=2, command_seconds=DEQUEUE_SECONDS + answer_seconds)
        return Listener(
            connect_blocking(options), flags={name: self._flags[name] for name in self._served}, slots=slots
        )


async def _listen(listener: Listener) -> None:
    """Run the listener in a thread until cancelled, and wait for its end then."""
    ended = anyio.Event()

    async def run() -> None:
        try:
            await to_thread.run_sync(listener.run, limiter=CapacityLimiter(1))
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await anyio.sleep_forever()
        finally:
            listener.stop()
            with anyio.CancelScope(shield=True):
                await _wait_for(ended, listener)


async def _wait_for(ended: anyio.Event, listener: Listener) -> None:
    with anyio.move_on_after(_STOP_SECONDS):
        await ended.wait()
    while not ended.is_set():
        listener.interrupt()
        with anyio.move_on_after(_INTERRUPT_SECONDS):
            await ended.wait()
