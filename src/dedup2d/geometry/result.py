"""What comparing two geometries gives."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import Factory, frozen

__all__ = ["DiffEntry", "DiffKind", "GeometryDiff", "GeometryScore", "Profile", "Section", "Similarity"]


class Profile(StrEnum):
    """How much difference a score forgives."""

    STRICT = "strict"
    """Only the same drawing scores high, however it was written, turned, scaled or taken apart."""
    VERSION = "version"
    """Versions of one drawing score high: what they share counts, and what only moved or changed size."""


@frozen(kw_only=True)
class Similarity:
    """
    The map of the query onto the other drawing: scale, turn, shift.

    Args:
        scale: length in the other per length in the query, in their drawing units.
        rotation: degrees counter-clockwise, -180 to 180.
        shift: where the query's origin comes to lie.
        mirrored: x is negated first.
        unit_factor: the part of `scale` that units explain (25.4 from inch to mm), 1 if none.
    """

    scale: float = 1.0
    rotation: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False
    unit_factor: float = 1.0


@frozen(kw_only=True)
class Section:
    """
    One section's part in a score.

    Args:
        score: 0 to 1.
        weight: share in the whole score, 0 to 1; the weights of all sections add up to 1.
        query: how many entries the query has.
        other: how many the other has.
        matched: how many of the query's are found in the other.
    """

    score: float
    weight: float
    query: int
    other: int
    matched: int


class DiffKind(StrEnum):
    """What happened to an entity from the query to the other drawing."""

    ADDED = "added"
    REMOVED = "removed"
    MOVED = "moved"
    CHANGED = "changed"


@frozen(kw_only=True)
class DiffEntry:
    """
    One difference.

    Args:
        section: `entities`, `dimensions`, `texts`, `hatches`, `layers` or `blocks`.
        type: of the entity; `LAYER` for layers.
        path: where it stands in the query's JSON (`entities[3]`); in the other's if it was added.
        other_path: where it stands in the other's JSON if it was moved or changed.
        before: its fields in the query that differ, or what tells it; None if it was added.
        after: the same of the other; None if it was removed.
        place: x and y in the query's coordinates, None where it has none.
    """

    kind: DiffKind
    section: str
    type: str
    path: str
    other_path: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    place: tuple[float, float] | None = None


@frozen(kw_only=True)
class GeometryDiff:
    """
    The differences, those of dimensions and texts first.

    Args:
        entries: at most `max_paths`.
        counts: how many there are in all, by section and kind (`entities.moved`).
        truncated: whether there are more than `entries` shows.
    """

    entries: tuple[DiffEntry, ...] = ()
    counts: Mapping[str, int] = Factory(dict)
    truncated: bool = False


@frozen(kw_only=True)
class GeometryScore:
    """
    How alike two geometries are.

    Args:
        score: 0 to 1, 1 if they are the same within the tolerance; None if they have nothing to compare.
        breakdown: by section that both have.
        diff: None if it was not asked for.
        transform: None if no line work or place of one was found in the other.
        warnings: what limits the result, each a sentence for the user.
    """

    score: float | None
    breakdown: Mapping[str, Section] = Factory(dict)
    diff: GeometryDiff | None = None
    transform: Similarity | None = None
    warnings: tuple[str, ...] = ()
