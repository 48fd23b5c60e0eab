"""When a callback is tried again."""

from __future__ import annotations

__all__ = ["LONGEST_DELAY_SECONDS", "delay_after"]

_DELAYS_SECONDS = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0)
"""After the first attempt, the second and so on, the last one again and again: Standard Webhooks' advice."""
LONGEST_DELAY_SECONDS = _DELAYS_SECONDS[-1]
"""Nor does a receiver put a callback off for longer."""
_SPREAD = 0.2


def delay_after(attempts: int, *, jitter: float, retry_after: float | None = None) -> float:
    """
    Return the seconds between the end of attempt number *attempts* (from 1) and the next.

    Up to a fifth more by *jitter* (0 to 1), so that a receiver that comes back does not get all at once.
    """
    planned = _DELAYS_SECONDS[min(max(attempts, 1), len(_DELAYS_SECONDS)) - 1] * (1 + _SPREAD * jitter)
    return max(planned, min(retry_after or 0.0, LONGEST_DELAY_SECONDS))
