"""Which entities of two overlaid drawings were added, removed, moved or changed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from attrs import frozen
from scipy.optimize import linear_sum_assignment

from dedup2d.geometry.comparing import Comparison
from dedup2d.geometry.flatten import Flat
from dedup2d.geometry.linework import Affine, Floats, Ints, Linework, arc_points, tree_of
from dedup2d.geometry.overlay import Shares
from dedup2d.geometry.profiles import Leniency
from dedup2d.geometry.result import DiffEntry, DiffKind

__all__ = ["forgiven", "line_changes"]

NEAREST = 6
ASSIGNED = 600
FAR = 0.25
"""Share of the diagonal that an entity may have moved and still be the same one."""


@frozen(eq=False)
class _Odd:
    """
    Entities of one drawing that are not all found in the other.

    Args:
        numbers: of their sources.
        middles: (N, 2), in the other drawing's coordinates.
        lengths: likewise.
        missing: share of the whole drawing's weight that is not found.
        round: whether each is one arc or circle.
        lines: what they draw, in their own drawing's coordinates.
    """

    numbers: Ints
    middles: Floats
    lengths: Floats
    missing: Floats
    round: np.ndarray
    lines: Linework
    flat: Flat


@frozen(eq=False)
class _Odds:
    ours: _Odd
    theirs: _Odd
    pairs: list[tuple[int, int]]
    there: Affine

    @classmethod
    def of(cls, comparison: Comparison) -> _Odds | None:
        laid, pose = comparison.overlay, comparison.pose
        if laid is None or pose is None:
            return None
        there = pose.affine()
        ours = _odd(laid.query, comparison.query_flat, there)
        theirs = _odd(laid.other, comparison.other_flat, Affine())
        return cls(ours, theirs, _paired(ours, theirs, FAR * _size(laid.other.lines)), there)


def forgiven(comparison: Comparison, leniency: Leniency) -> tuple[float, float]:
    """Return the shares of both drawings that moved or changed only, as far as *leniency* counts them."""
    if leniency.line_moved <= 0 and leniency.line_changed <= 0:
        return 0.0, 0.0
    odds = _Odds.of(comparison)
    if odds is None:
        return 0.0, 0.0
    ours, theirs = odds.ours, odds.theirs
    found = np.zeros(2)
    for i, j in odds.pairs:
        counts = leniency.line_moved if _alike(ours, theirs, i, j) else leniency.line_changed
        found += counts * np.array([ours.missing[i], theirs.missing[j]])
    return float(found[0]), float(found[1])


def line_changes(comparison: Comparison, most: int) -> tuple[list[DiffEntry], Counter[DiffKind]]:
    """Return the entities that differ, longest first, *most* of them, and how many there are of each kind."""
    odds = _Odds.of(comparison)
    if odds is None:
        return [], Counter()
    ours, theirs = odds.ours, odds.theirs
    left = set(range(len(ours.numbers))) - {i for i, _ in odds.pairs}
    new = set(range(len(theirs.numbers))) - {j for _, j in odds.pairs}
    found: list[tuple[float, DiffKind, int, int]] = [
        (
            -max(ours.lengths[i], theirs.lengths[j]),
            DiffKind.MOVED if _alike(ours, theirs, i, j) else DiffKind.CHANGED,
            i,
            j,
        )
        for i, j in odds.pairs
    ]
    found += [(-ours.lengths[i], DiffKind.REMOVED, i, -1) for i in left]
    found += [(-theirs.lengths[j], DiffKind.ADDED, -1, j) for j in new]
    found.sort()
    back = odds.there.inverse()
    entries = [_entry(ours, theirs, kind, (i, j), back) for _, kind, i, j in found[:most]]
    return entries, Counter(kind for _, kind, _, _ in found)


def _entry(ours: _Odd, theirs: _Odd, kind: DiffKind, pair: tuple[int, int], back: Affine) -> DiffEntry:
    i, j = pair
    if kind is DiffKind.REMOVED:
        return _single(ours, i, kind, Affine())
    return _single(theirs, j, kind, back) if kind is DiffKind.ADDED else _pair(ours, theirs, kind, i, j)


def _alike(ours: _Odd, theirs: _Odd, i: int, j: int) -> bool:
    one, two = ours.lengths[i], theirs.lengths[j]
    return bool(abs(one - two) <= 1e-3 * max(one, two))


def _size(lines: Linework) -> float:
    ends = lines.segments.reshape(-1, 2)
    points = np.concatenate([ends, lines.arcs[:, :2]])
    return float(np.hypot(*(points.max(axis=0) - points.min(axis=0)))) + float(
        2 * lines.arcs[:, 2].max(initial=0.0)
    )


def _odd(shares: Shares, flat: Flat, there: Affine) -> _Odd:
    sources, _, share = shares.by_source()
    odd = sources[share < 1]
    which = np.isin(shares.lines.sources, odd)
    lines = shares.lines.part(which)
    number = np.searchsorted(odd, lines.sources)
    own = lines.lengths
    middles = np.concatenate(
        [
            (lines.segments[:, :2] + lines.segments[:, 2:]) / 2,
            arc_points(lines.arcs, np.array([0.5]))[:, 0] if len(lines.arcs) else np.empty((0, 2)),
        ]
    )
    # A circle lies where its centre is, not where it starts.
    whole = np.append(np.zeros(len(lines.segments), bool), lines.arcs[:, 4] > 6.28)
    middles[whole] = lines.arcs[whole[len(lines.segments) :], :2]
    total = np.maximum(np.bincount(number, own, len(odd)), 1e-300)
    place = np.column_stack([np.bincount(number, own * middles[:, k], len(odd)) / total for k in (0, 1)])
    arcs = np.bincount(np.searchsorted(odd, lines.arc_source), minlength=len(odd))
    parts = np.bincount(number, minlength=len(odd))
    missing = np.bincount(number, (shares.weight * (1 - shares.share))[which], len(odd))
    return _Odd(
        numbers=odd,
        middles=there.points(place),
        lengths=total * there.scale,
        missing=missing / max(float(shares.weight.sum()), 1e-300),
        round=(arcs == 1) & (parts == 1),
        lines=lines,
        flat=flat,
    )


def _paired(ours: _Odd, theirs: _Odd, reach: float) -> list[tuple[int, int]]:
    """Pair entities of one kind: rather those alike in length, then those near each other."""
    pairs: list[tuple[int, int]] = []
    for kind in (True, False):
        a, b = np.flatnonzero(ours.round == kind), np.flatnonzero(theirs.round == kind)
        if not len(a) or not len(b):
            continue
        row, column, cost = _candidates(ours, theirs, a, b, reach)
        if len(a) <= ASSIGNED and len(b) <= ASSIGNED:
            costs = np.full((len(a), len(b)), 10.0)
            costs[row, column] = cost
            rows, columns = linear_sum_assignment(costs)
            chosen = costs[rows, columns] < 10
            pairs += zip(a[rows[chosen]].tolist(), b[columns[chosen]].tolist(), strict=True)
            continue
        used_a: set[int] = set()
        used_b: set[int] = set()
        for position in np.argsort(cost, kind="stable"):
            i, j = int(row[position]), int(column[position])
            if i not in used_a and j not in used_b:
                used_a.add(i)
                used_b.add(j)
                pairs.append((int(a[i]), int(b[j])))
    return pairs


def _candidates(ours: _Odd, theirs: _Odd, a: Ints, b: Ints, reach: float) -> tuple[Ints, Ints, Floats]:
    k = min(NEAREST, len(b))
    away, near = tree_of(theirs.middles[b]).query(ours.middles[a], k=k, distance_upper_bound=reach)
    away, near = away.reshape(len(a), k), near.reshape(len(a), k)
    row = np.repeat(np.arange(len(a)), k)
    away, column = away.reshape(-1), near.reshape(-1)
    ok = np.isfinite(away)
    row, column, away = row[ok], column[ok], away[ok]
    one, two = ours.lengths[a[row]], theirs.lengths[b[column]]
    unlike = np.abs(one - two) / np.maximum(one, two)
    # Far apart and unlike: these are two entities.
    good = (unlike < 1e-3) | (away < np.maximum(one, two))
    cost = unlike + away / reach
    return row[good], column[good], cost[good]


def _pair(ours: _Odd, theirs: _Odd, kind: DiffKind, i: int, j: int) -> DiffEntry:
    entity, path = ours.flat.sources[ours.numbers[i]]
    _, other_path = theirs.flat.sources[theirs.numbers[j]]
    before, after = _told(ours, i), _told(theirs, j)
    return DiffEntry(
        kind=kind,
        section="entities",
        type=entity.type,
        path=path,
        other_path=other_path,
        before=before,
        after=after,
        place=_place(ours, i, Affine()),
    )


def _single(side: _Odd, position: int, kind: DiffKind, back: Affine) -> DiffEntry:
    entity, path = side.flat.sources[side.numbers[position]]
    told = _told(side, position)
    return DiffEntry(
        kind=kind,
        section="entities",
        type=entity.type,
        path=path,
        before=told if kind is DiffKind.REMOVED else None,
        after=told if kind is DiffKind.ADDED else None,
        place=_place(side, position, back),
    )


def _place(side: _Odd, position: int, by: Affine) -> tuple[float, float]:
    parts = _parts(side, position)
    if len(parts.arcs):
        point = (
            arc_points(parts.arcs[:1], np.array([0.5]))[0, 0]
            if parts.arcs[0, 4] < 6.28
            else parts.arcs[0, :2]
        )
    else:
        point = parts.segments.reshape(-1, 2).mean(axis=0)
    return by.point(float(point[0]), float(point[1]))


def _parts(side: _Odd, position: int) -> Linework:
    return side.lines.part(side.lines.sources == side.numbers[position])


def _told(side: _Odd, position: int) -> dict[str, Any]:
    """Return what tells the entity, in its own drawing's coordinates, blocks taken apart."""
    parts = _parts(side, position)
    if len(parts.arcs) == 1 and not len(parts.segments):
        x, y, radius, start, sweep = (float(v) for v in parts.arcs[0])
        told: dict[str, Any] = {"center": (x, y), "radius": radius}
        if sweep < 6.28:
            told["start_angle"] = float(np.degrees(start) % 360)
            told["end_angle"] = float(np.degrees(start + sweep) % 360)
        return told
    if len(parts.segments) == 1 and not len(parts.arcs):
        x1, y1, x2, y2 = (float(v) for v in parts.segments[0])
        return {"start": (x1, y1), "end": (x2, y2)}
    return {"length": float(parts.lengths.sum())}
