"""The places of one process in which jobs run, and who is woken for the next."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable

import anyio

__all__ = ["Slots"]

log = logging.getLogger("dedup2d.queue")


class Slots:
    """
    So many handlers at once, each woken with a job id.

    Belongs to one event loop; another thread may only wait for `idle`.

    Args:
        count: most handlers at once.
    """

    def __init__(self, count: int) -> None:
        self._idle = count
        self._woken: deque[str] = deque()
        self._changed = anyio.Event()
        self.idle = threading.Event()
        """Set while a slot is idle."""
        self.idle.set()

    def reserve(self) -> bool:
        """Take an idle slot, to `give` it a job id later; say whether there was one."""
        if not self._idle:
            return False
        self._idle -= 1
        if not self._idle:
            self.idle.clear()
        return True

    def give(self, job_id: str) -> None:
        """Let a reserved slot look at the job."""
        self._woken.append(job_id)
        self._changed.set()
        self._changed = anyio.Event()

    def wake(self, job_id: str) -> bool:
        """Let an idle slot look at the job; say whether there was one."""
        reserved = self.reserve()
        if reserved:
            self.give(job_id)
        return reserved

    def left(self) -> str | None:
        """Return a job id that a slot was woken with but did not look at, after all were cancelled."""
        return self._woken.popleft() if self._woken else None

    async def serve(self, handler: Callable[[str], Awaitable[None]]) -> None:
        """Be one slot until cancelled."""
        while True:
            while not self._woken:
                await self._changed.wait()
            job_id = self._woken.popleft()
            try:
                await handler(job_id)
            except Exception:
                log.exception("the handler of a wake-up failed", extra={"job_id": job_id})
            self._idle += 1
            self.idle.set()
