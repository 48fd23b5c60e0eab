"""A queue in memory: wakes tasks of the same process."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio
from anyio.lowlevel import checkpoint

from dedup2d.errors import InvalidParameterError
from dedup2d.types import Lane

__all__ = ["MemoryQueue"]

_log = logging.getLogger("dedup2d.queue")


class MemoryQueue:
    """
    A `Queue` within one event loop. What waits is lost with the process.

    An id that waits already is not queued again, so repeated wake-ups take no room.

    Args:
        max_waiting: most ids that wait; further ones are dropped, and found by the sweep.
    """

    def __init__(self, *, max_waiting: int = 100_000) -> None:
        self._max_waiting = max_waiting
        self._waiting: dict[str, None] = {}
        self._changed = anyio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waiting.clear()

    async def put(self, job_id: str, *, lane: Lane = Lane.MAIN) -> None:  # noqa: ARG002 - one process serves all
        await checkpoint()
        if len(self._waiting) >= self._max_waiting:
            _log.warning(
                "%d wake-ups wait, one more was dropped: the sweep will find its job", len(self._waiting)
            )
            return
        self._waiting[job_id] = None
        self._changed.set()
        self._changed = anyio.Event()

    async def consume(self, handler: Callable[[str], Awaitable[None]], *, concurrency: int) -> None:
        if concurrency < 1:
            raise InvalidParameterError("concurrency", concurrency, "a whole number of at least 1")
        async with anyio.create_task_group() as tasks:
            for _ in range(concurrency):
                tasks.start_soon(self._serve, handler)

    async def depth(self) -> int:
        await checkpoint()
        return len(self._waiting)

    async def _serve(self, handler: Callable[[str], Awaitable[None]]) -> None:
        while True:
            job_id = await self._next()
            try:
                await handler(job_id)
            except Exception:  # noqa: BLE001 - whatever it is, the other jobs go on
                _log.exception("the handler of a wake-up failed", extra={"job_id": job_id})

    async def _next(self) -> str:
        while not self._waiting:
            await self._changed.wait()
        job_id = next(iter(self._waiting))
        del self._waiting[job_id]
        return job_id
