"""When segments are merged, and into what: a few of very different size, whatever was added and removed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dedup2d.engine.segments import MOST_ENTRIES, Segment, joined

__all__ = ["MOST_DRAWINGS", "due", "merged"]

MOST_DRAWINGS = 16_384
"""In one segment, so that making it takes seconds and bounded memory."""

_WASTED = 1 / 8  # of a segment that may be drawings which are no longer there
_STEP = 3  # a segment is merged with what is not smaller than this part of it


def due(segments: Sequence[Segment]) -> list[Segment]:
    """
    The segments to merge into one now; none if all is well.

    Unnamed ones were not stored yet. With them goes each that is not much larger than all before it. So a
    drawing is written a few times in all, and there are few segments until they reach `MOST_DRAWINGS`.
    """
    chosen = _some([one for one in segments if one.name is None])
    wasteful = [
        one for one in segments if one.name is not None and len(one) - one.living > _WASTED * len(one)
    ]
    if not chosen:
        return wasteful[:1]
    drawings, entries = sum(one.living for one in chosen), sum(one.living_entries for one in chosen)
    named = [one for one in segments if one.name is not None]
    for one in sorted(named, key=lambda one: one.living):
        fits = drawings + one.living <= MOST_DRAWINGS and entries + one.living_entries < MOST_ENTRIES
        if fits and (one in wasteful or one.living <= _STEP * drawings):
            chosen.append(one)
            drawings, entries = drawings + one.living, entries + one.living_entries
    return chosen


def _some(segments: Sequence[Segment]) -> list[Segment]:
    """As many of the first as fit into one."""
    drawings = np.cumsum([one.living for one in segments])
    entries = np.cumsum([one.living_entries for one in segments])
    fit = int(np.count_nonzero((drawings <= MOST_DRAWINGS) & (entries < MOST_ENTRIES)))
    return list(segments[: max(fit, 1)])


def merged(segments: Sequence[Segment]) -> Segment | None:
    """A segment in memory of what is alive in these; None if nothing is."""
    parts = [one.taken(np.flatnonzero(one.alive)) for one in segments if one.living]
    return joined(parts) if parts else None
