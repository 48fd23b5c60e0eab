"""What is looked at again and again, so that metrics are fresh whoever asks for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

import anyio
from attrs import define

from dedup2d.errors import StoreUnavailableError
from dedup2d.observe import Observer
from dedup2d.protocols import JobStore, Queue, VisionClient
from dedup2d.repeated import repeat
from dedup2d.types import JobCounts

__all__ = ["MeasuredVision", "Watch", "watch_vision"]

_LOOK_SECONDS = 5.0
_MEASURE_SECONDS = 60.0


@runtime_checkable
class MeasuredVision(Protocol):
    """What a VisionClient may offer besides: its indexes are here, and can be measured."""

    async def measure(self) -> None:
        """Tell its observer how much is in them."""


@define(kw_only=True)
class Watch:
    """Looks at jobs, queue and index, and tells the observer what it finds."""

    jobs: JobStore
    queue: Queue
    vision: VisionClient
    observer: Observer
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    patience_seconds: float = 10.0

    async def run(self) -> None:
        """Look, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._repeat, self._look_in_time, "looking at the jobs")
            tasks.start_soon(self._repeat, self._measure_queue, "looking at the queue")
            tasks.start_soon(lambda: watch_vision(self.vision, sleep=self.sleep))

    async def look(self) -> JobCounts:
        """
        Count the jobs, and tell the observer.

        Raises:
            StoreUnavailableError: the job store does not answer, which the observer hears too.
        """
        try:
            counts = await self.jobs.counts()
        except Exception:
            self.observer.jobs_uncountable()
            raise
        self.observer.jobs_counted(counts, self.clock())
        return counts

    async def _look_in_time(self) -> None:
        with anyio.move_on_after(self.patience_seconds) as waiting:
            await self.look()
        if waiting.cancelled_caught:
            self.observer.jobs_uncountable()
            raise StoreUnavailableError("job store", f"no answer within {self.patience_seconds:g} s")

    async def _measure_queue(self) -> None:
        self.observer.queue_measured(await self.queue.depth())

    async def _repeat(self, step: Callable[[], Awaitable[object]], what: str) -> None:
        await repeat(step, what, seconds=_LOOK_SECONDS, sleep=self.sleep)


async def watch_vision(
    vision: VisionClient, *, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
) -> None:
    """Let *vision* measure its indexes, if they are here, until cancelled."""
    if isinstance(vision, MeasuredVision):
        await repeat(vision.measure, "measuring the index", seconds=_MEASURE_SECONDS, sleep=sleep)
