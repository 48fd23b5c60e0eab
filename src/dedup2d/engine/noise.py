"""
Tells what changed from what only looks so: how good the two pictures are decides how much must be left over.

- Two renders that lie on each other to the pixel: a piece of line of 8 pixels (on a sheet of 2000) without
  a partner is a change, as one stroke of a letter. Where all else is the same, so is a digit (`pixels`).
- As sharp as each other: one of 12 pixels that does not merely lie beside its partner.
- One coarser, or with wider lines, as a fax or a scan: one of 24 pixels (more the coarser it is) clearly
  apart from other ink, which stands out among the other pieces.

In a coarser or blurred picture the thinnest lines may be missing, each for itself, while all that it shows is
on the other sheet: they were too thin or too pale for it.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen

from dedup2d.engine.geometry import scale_of
from dedup2d.engine.leftover import Cluster
from dedup2d.engine.verify import Evidence, Side

__all__ = ["Changes", "Limits", "weigh"]

_TO_THE_PIXEL = 0.985  # closeness of two renders of one drawing
_AS_SHARP = 1.15  # how much coarser one may be
_AS_WIDE = 1.25  # how much wider its lines may be
_MANY = 20  # pieces, from which on they are compared with each other
_STANDS_OUT = 3.0  # times the middle one
_THINNEST = 1.4  # half the width of a line, in pixels
_LINE = 1.7  # length of a line over its box's width and height together: a larger cluster is more than a line
_IN_PART = 0.6
_ONE_SIDED = 0.1
_FADED = 0.70  # least share of a sheet that a fading copy keeps


@frozen(kw_only=True)
class Limits:
    """
    From where on what is left over counts, in pixels of a sheet of 2000.

    `length`: of line that is left over. `weight`: that times its share of the line there. `apart`: beyond
    the tolerance, how far off other ink is.
    """

    quality: str
    length: float
    weight: float
    apart: float


_EXACT = Limits(quality="exact", length=8, weight=6.5, apart=0.5)
_EQUAL = Limits(quality="equal", length=12, weight=12, apart=1.5)
_WORSE = Limits(quality="worse", length=24, weight=24, apart=4)


@frozen(kw_only=True)
class Changes:
    """
    What only the query has and what only the other has, longest first, and by which limits.

    `faded`: thin lines that are missing were taken for lost by a copy. `noise`: something was left out.
    `heaviest`: weight of the heaviest piece over what makes a change.
    """

    query: tuple[Cluster, ...]
    other: tuple[Cluster, ...]
    limits: Limits
    faded: bool = False
    noise: bool = False
    heaviest: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.query or self.other)


def weigh(evidence: Evidence) -> Changes:
    """What changed, of all that is left over."""
    limits = _limits(evidence)
    scale = scale_of(evidence.placement)
    query, other = evidence.query, evidence.other
    tolerance = evidence.tolerance * 2000 / other.size
    added, heaviest_added = _counting(query, limits, tolerance)
    removed, heaviest_removed = _counting(other, limits, evidence.tolerance / scale * 2000 / query.size)
    faded = False
    if limits is _EXACT and not added and not removed:
        added, removed = evidence.redrawn.query, evidence.redrawn.other
    if limits is _WORSE:
        wider = _wider(evidence)
        if not added and max(scale / _AS_SHARP, wider / _AS_WIDE) > 1 and _fading(query, other):
            kept = _without_lines(other, removed)
            faded, removed = len(kept) < len(removed), kept
        elif not removed and min(scale * _AS_SHARP, wider * _AS_WIDE) < 1 and _fading(other, query):
            kept = _without_lines(query, added)
            faded, added = len(kept) < len(added), kept
    noise = len(query.lost) + len(other.lost) > len(added) + len(removed)
    return Changes(
        query=added,
        other=removed,
        limits=limits,
        faded=faded,
        noise=noise,
        heaviest=max(heaviest_added, heaviest_removed),
    )


def _limits(evidence: Evidence) -> Limits:
    scale = scale_of(evidence.placement)
    wider = _wider(evidence)
    if max(scale, 1 / scale) > _AS_SHARP or max(wider, 1 / wider) > _AS_WIDE:
        return _WORSE
    return _EXACT if evidence.fit >= _TO_THE_PIXEL else _EQUAL


def _wider(evidence: Evidence) -> float:
    """How much wider the query's lines are than the other's."""
    return evidence.query.half_width * scale_of(evidence.placement) / evidence.other.half_width


def _counting(side: Side, limits: Limits, tolerance: float) -> tuple[tuple[Cluster, ...], float]:
    """
    The clusters that noise does not explain; the coarser a picture is, the more it does.

    And the weight of the heaviest piece, over what makes a change.
    """
    unit = side.size / 2000
    coarse = max(1.0, tolerance / 2) ** 0.5
    apart = [one for one in side.lost if one.apart >= tolerance + limits.apart]
    weights = [one.length / unit * one.share for one in apart]
    least = limits.weight * coarse
    if limits is not _EXACT and len(weights) >= _MANY:
        least = max(least, _STANDS_OUT * float(np.median(weights)))
    counting = tuple(
        one
        for one, weight in zip(apart, weights, strict=True)
        if weight >= least and one.length >= limits.length * coarse * unit
    )
    return counting, max(weights, default=0.0) / least


def _fading(copy: Side, original: Side) -> bool:
    """Whether `copy` may be the other without its thinnest lines: it has nothing else, and most of it."""
    extra = sum(one.length for one in copy.lost) / max(copy.points, 1)
    missing = sum(one.length for one in original.lost) / max(original.points, 1)
    return extra <= _ONE_SIDED * missing and min(original.agreed, original.spread) >= _FADED


def _without_lines(side: Side, clusters: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
    """
    Without single thin lines, and thin ones of which some are there; what was erased is gone as a whole.

    Where very many pieces are missing, without anything thin.
    """
    many = len(side.lost) >= _MANY
    return tuple(
        one
        for one in clusters
        if one.half_width > _THINNEST
        or not (many or one.share < _IN_PART or one.length <= _LINE * (one.width + one.height))
    )
