"""Wakes a worker when a job that was given back may be tried again, which the sweep would do later."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from dedup2d.types import Lane

__all__ = ["Alarms"]

_TICKS = 4
"""Per second. Jobs that are due in the same tick need one alarm: who is woken runs every job that waits."""


@define(kw_only=True, eq=False)
class Alarms:
    """
    Rings once for all jobs that are due within a quarter of a second.

    So there are four alarms at most for each second of the longest delay, however many jobs wait. They are
    lost with the process; the next sweep finds what they would have rung for.

    Args:
        ring: wakes a worker of the lane with the job's id; does not raise.
        clock: gives seconds.
        sleep: waits for so many seconds.
    """

    ring: Callable[[str, Lane], Awaitable[object]]
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    _set: set[tuple[int, Lane]] = field(factory=set, init=False)
    _tasks: TaskGroup | None = field(default=None, init=False)

    async def run(self) -> None:
        """Ring, until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            await anyio.sleep_forever()

    def set(self, job_id: str, lane: Lane, *, seconds: float) -> None:
        """Ring for the job after *seconds*, or up to a quarter of a second later."""
        due = (math.floor((self.clock() + seconds) * _TICKS) + 1, lane)
        if self._tasks is None or due in self._set:
            return
        self._set.add(due)
        self._tasks.start_soon(self._wait_and_ring, job_id, due)

    async def _wait_and_ring(self, job_id: str, due: tuple[int, Lane]) -> None:
        tick, lane = due
        await self.sleep(max(0.0, tick / _TICKS - self.clock()))
        self._set.discard(due)
        await self.ring(job_id, lane)
