"""A clock that stands still until it is moved."""

from __future__ import annotations

__all__ = ["ManualClock"]


class ManualClock:
    """
    A clock for everything that takes `clock=`: call it for the Unix time.

    Args:
        now: the time at which it stands.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = float(now)

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move by *seconds* and return the new time."""
        self._now += seconds
        return self._now

    def set(self, now: float) -> None:
        """Move to the Unix time *now*."""
        self._now = float(now)
