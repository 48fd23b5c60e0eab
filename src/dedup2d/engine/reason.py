"""Says in one sentence why a match has its relation, and how much of the match's sheet changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup2d.engine.geometry import as_transform, moved_box
from dedup2d.engine.noise import Changes
from dedup2d.engine.verify import Evidence
from dedup2d.types import Relation

__all__ = ["changed_area", "reason"]

_BETTER = "; where it differs from the best match, yours is like that one"
_GRID = 400  # cells along the long side of a sheet on which changed places are counted


def reason(
    relation: Relation, evidence: Evidence | None, changes: Changes | None, *, differs: bool = False
) -> str:
    """One plain sentence; lengths are in pixels of the match's ink picture. `differs` as in `judge`."""
    if relation is Relation.EXACT:
        return "The files have the same bytes."
    if evidence is None or changes is None:
        return (
            "Their fingerprints are alike; line by line they were not compared"
            " (mode precise does so with more drawings)."
        )
    rest = _BETTER if differs else _rest(relation, evidence, changes)
    return f"{_agreement(evidence)}{_posed(evidence)}{rest}."


def _agreement(evidence: Evidence) -> str:
    query, other = evidence.query, evidence.other
    found = f"{_percent(query.agreed)} of your lines and {_percent(other.agreed)} of its lines agree"
    if min(query.overlap, other.overlap) < 0.97:
        found += (
            f" where the sheets lie on each other ({_percent(query.overlap)} of yours,"
            f" {_percent(other.overlap)} of it)"
        )
    return found


def _percent(share: float) -> str:
    return f"{np.floor(share * 1000) / 10:g} %"


def _posed(evidence: Evidence) -> str:
    placed = as_transform(evidence.placement)
    found = ["in a mirror"] if placed.mirrored else []
    if abs(placed.rotation_degrees) >= 0.1:
        found.append(f"turned by {placed.rotation_degrees:.1f} degrees")
    if abs(placed.scale - 1) >= 0.005:
        found.append(f"at scale {placed.scale:.2f}")
    return f", {', '.join(found)}" if found else ""


def _rest(relation: Relation, evidence: Evidence, changes: Changes) -> str:
    # where the ink is the same, so are the vectors, but for those that a file lacks
    if evidence.entities is not None and evidence.entities.changes and relation is not Relation.IDENTICAL:
        return f"; as vectors they differ in {_counted(len(evidence.entities.changes))}"
    if relation in (Relation.VARIANT, Relation.SIMILAR):
        return "; that is too little for the same drawing"
    places = _places(evidence, changes)
    if places and _same_as_vectors(evidence):
        return "; as vectors they are the same, whatever their fonts and dashes"
    if places:
        width, height = max(((w, h) for _, _, w, h in places), key=lambda size: size[0] * size[1])
        differ = f"{_counted(len(places))} {'differs' if len(places) == 1 else 'differ'}"
        return f"; {differ}, the largest {width} x {height} pixels"
    if changes.faded:
        return "; only the thinnest lines are missing on the coarser one"
    return "; nothing is left over but noise" if changes.noise else "; nothing is left over"


def _same_as_vectors(evidence: Evidence) -> bool:
    entities = evidence.entities
    return entities is not None and entities.decides and not entities.changes


def _counted(places: int) -> str:
    return "1 place" if places == 1 else f"{places} places"


def changed_area(evidence: Evidence, changes: Changes) -> float:
    """Share 0..1 of the match's sheet that lies in the boxes of what changed."""
    if _same_as_vectors(evidence):
        return 0.0
    width, height = evidence.other.sheet
    step = max(width, height) / _GRID
    grid = np.zeros((max(1, round(height / step)), max(1, round(width / step))), np.uint8)
    for x, y, w, h in _boxes(evidence, changes):
        rows = slice(max(0, int(y / step)), max(0, int((y + h) / step) + 1))
        grid[rows, max(0, int(x / step)) : max(0, int((x + w) / step) + 1)] = 1
    return float(grid.mean())


def _places(evidence: Evidence, changes: Changes) -> list[tuple[int, int, int, int]]:
    """Boxes of the changed places on the match; what lies on each other is one place."""
    boxes = _boxes(evidence, changes)
    if not boxes:
        return []
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes])
    parent = list(range(len(boxes)))
    for number in range(len(boxes)):
        touching = (
            (corners[:, 0] <= corners[number, 2])
            & (corners[:, 2] >= corners[number, 0])
            & (corners[:, 1] <= corners[number, 3])
            & (corners[:, 3] >= corners[number, 1])
        )
        group = min(_root(parent, one) for one in np.flatnonzero(touching).tolist())
        for one in np.flatnonzero(touching).tolist():
            parent[_root(parent, one)] = group
    groups = [_root(parent, number) for number in range(len(boxes))]
    return [_around(corners[np.array(groups) == group]) for group in sorted(set(groups))]


def _root(parent: list[int], number: int) -> int:
    while parent[number] != number:
        number = parent[number]
    return number


def _around(corners: npt.NDArray[np.int64]) -> tuple[int, int, int, int]:
    left, top = corners[:, :2].min(axis=0).tolist()
    right, bottom = corners[:, 2:].max(axis=0).tolist()
    return left, top, right - left, bottom - top


def _boxes(evidence: Evidence, changes: Changes) -> list[tuple[int, int, int, int]]:
    """Boxes of all changes in pixels of the match."""
    added = [moved_box(evidence.placement, one.box) for one in changes.query]
    return added + [one.box for one in changes.other]
