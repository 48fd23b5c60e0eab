"""The header `Retry-After` (RFC 9110, 10.2.3): how long a server asks its clients to wait."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["seconds_to_wait"]

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_LONGEST_HEADER = 64


def seconds_to_wait(header: str | None, *, now: float, longest: float) -> float | None:
    """
    Return for how long *header* asks at the Unix time *now*, *longest* at most; None if it does not.

    Seconds may have a fraction, which the standard does not know but some servers send.
    """
    text = (header or "").strip()
    if not text or len(text) > _LONGEST_HEADER:
        return None
    if _SECONDS.fullmatch(text):
        return min(longest, float(text))
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(longest, max(0.0, aware.timestamp() - now))
