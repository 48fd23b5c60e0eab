"""How many calls of the engine run and wait: the rest is turned away at once, before its body is read."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from anyio import CapacityLimiter

from dedup2d_http.problems import HttpError

__all__ = ["Places"]

_FIRST_GUESS_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 30
_NEW_SHARE = 0.2


class Places:
    """
    Places for calls that need the engine.

    Args:
        running: how many run at once, at least 1.
        waiting: how many more may wait, their drawings being received meanwhile.
        clock: gives seconds that only grow.
    """

    def __init__(self, *, running: int, waiting: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._running = running
        self._waiting = waiting
        self._clock = clock
        self._taken = 0
        self._limiter = CapacityLimiter(running)
        self._usual_seconds = _FIRST_GUESS_SECONDS

    @contextmanager
    def taken(self) -> Iterator[None]:
        """
        Hold a place, to wait in and to run in.

        Raises:
            HttpError: all are taken.
        """
        if self._taken >= self._running + self._waiting:
            wait = self._seconds_until_free()
            raise HttpError(
                "VISION_UNAVAILABLE",
                f"{self._running} searches run here and {self._waiting} wait, which is all that may:"
                f" try again in {wait} s or raise DEDUP2D_VISION_MAX_WAITING",
                {"Retry-After": str(wait)},
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Wait for a place to run in, first come, first served."""
        async with self._limiter:
            begun = self._clock()
            yield
            seconds = self._clock() - begun
            self._usual_seconds += _NEW_SHARE * (seconds - self._usual_seconds)

    def _seconds_until_free(self) -> int:
        """Guess when half of those that wait will be through."""
        seconds = self._usual_seconds * max(1.0, self._waiting / self._running / 2)
        return max(1, min(_LONGEST_WAIT_SECONDS, math.ceil(seconds)))
