"""
Polylines to primitives: maximal straight runs and circular arcs, whatever pieces they came in.

Curves reach the engine as short chords. Chords that turn evenly are an arc if a circle fits
them; straight pieces that continue each other become one. All in pixels, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup2d.engine.dashes import DASH, DASH_GAP, LEAST_RADIUS, dashed

__all__ = ["Arcs", "Primitives", "Segments", "primitives"]

Segments = npt.NDArray[np.float64]
"""(N, 4): x and y of both ends."""

Arcs = npt.NDArray[np.float64]
"""(N, 5): centre x, y, radius, start and sweep in radians, sweep positive towards y; a circle has 2 pi."""

_Flags = npt.NDArray[np.bool_]
_Numbers = npt.NDArray[np.float64]
_Indices = npt.NDArray[np.int64]

_LEAST = 0.05  # pixels: shorter pieces are none
_LEAST_TURN, _MOST_TURN = np.radians(0.4), np.radians(46)
_EVEN = 1.4  # by how much the curvature may change from chord to chord of an arc
_LIKE = 2.5  # how much longer a chord of an arc may be than the next
_LEAST_CHORDS = 3
_LEAST_TURNS = 8  # of what is an arc though its chords are uneven: dashes and gaps between them
_LEAST_SWEEP = np.radians(12)
_MOST_RADIUS = 4000.0
_MOST_BULGE = 1.0  # pixels
_OFF_CIRCLE = 0.3  # pixels
_STRAIGHT = np.radians(1.0)  # turn between pieces of one straight run
_BENT = np.radians(1.5)  # and over all of it
_TOUCH = 1.0


class Primitives(NamedTuple):
    """Straight segments and arcs."""

    segments: Segments
    arcs: Arcs


def primitives(polylines: Sequence[npt.NDArray[np.float32]]) -> Primitives:
    """Primitives of `polylines`, each (N, 2)."""
    lines = [points for points in polylines if len(points) > 1]
    dashes = dashed(lines)
    lines = [points for points, used in zip(lines, dashes.used, strict=True) if not used]
    segments, arcs = dashes.segments, dashes.arcs
    chords = _chords(lines) if lines else None
    if chords is not None and len(chords.length):
        in_arc, whole = _arcs(chords)
        segments = np.concatenate([segments, _straight(chords, in_arc)])
        arcs = np.concatenate([arcs, whole])
    return Primitives(_joined(segments), _joined_arcs(arcs))


class _Chords(NamedTuple):
    """Consecutive pieces of all polylines; `turn` and `linked` are towards the next piece."""

    start: _Numbers
    end: _Numbers
    length: _Numbers
    turn: _Numbers
    linked: _Flags


def _chords(lines: list[npt.NDArray[np.float32]]) -> _Chords:
    points = np.concatenate(lines).astype(np.float64)
    line = np.repeat(np.arange(len(lines)), [len(one) for one in lines])
    moved = np.hypot(*np.diff(points, axis=0).T) > _LEAST
    new = np.concatenate([[True], moved | (np.diff(line) > 0)])
    points, line = points[new], line[new]
    same = np.diff(line) == 0
    start, end, line = points[:-1][same], points[1:][same], line[:-1][same]
    way = end - start
    turn = np.zeros(len(way))
    cross = way[:-1, 0] * way[1:, 1] - way[:-1, 1] * way[1:, 0]
    turn[:-1] = np.arctan2(cross, (way[:-1] * way[1:]).sum(axis=1))
    linked = np.concatenate([np.diff(line) == 0, [False]])
    return _Chords(start, end, np.hypot(*way.T), turn, linked[: len(way)])


def _arcs(chords: _Chords) -> tuple[_Flags, Arcs]:
    """Which chords are of arcs, and the arcs."""
    none = np.zeros(len(chords.length), bool), np.empty((0, 5))
    if len(chords.length) < _LEAST_CHORDS:
        return none
    size = np.abs(chords.turn)
    bends = chords.linked & (size > _LEAST_TURN) & (size < _MOST_TURN)
    following = np.append(chords.length[1:], np.inf)
    # a side between two fillets turns as evenly as an arc, but is longer than its neighbours
    bends &= np.maximum(chords.length, following) < _LIKE * np.minimum(chords.length, following)
    reach = np.where(bends, chords.length + following, 1.0)
    curvature = np.where(bends, 2 * chords.turn / np.maximum(reach, 1e-9), 0)
    this, following = curvature[:-1], curvature[1:]
    even = (this * following > 0) & (np.abs(this) < _EVEN * np.abs(following))
    even &= np.abs(following) < _EVEN * np.abs(this)
    in_round, rounds = _rounds(chords, even)
    even &= ~in_round[:-1]
    first, last = _runs(even)
    last = last + 2  # the chord that the turn leads to, to which the last link leads
    enough = last - first + 1 >= _LEAST_CHORDS
    in_arc, arcs = _fitting(chords, first[enough], last[enough])
    return in_round | in_arc, np.concatenate([rounds, arcs])


def _rounds(chords: _Chords, even: _Flags) -> tuple[_Flags, Arcs]:
    """Which chords are of lines that are an arc as a whole, of uneven chords (dashes and gaps), and these."""
    last = np.flatnonzero(~chords.linked)
    first = np.concatenate([[0], last[:-1] + 1])
    bends = chords.linked & (np.abs(chords.turn) < _MOST_TURN)
    left, right = (np.add.reduceat(bends & (sign * chords.turn > 0), first) for sign in (-1, 1))
    evenly = np.add.reduceat(np.append(even, [False]), first)
    turns = last - first
    chosen = (turns >= _LEAST_TURNS) & (np.maximum(left, right) == turns) & (evenly < turns - 1)
    chosen[chosen] = _large(chords, first[chosen], last[chosen])
    in_round, arcs = _fitting(chords, first[chosen], last[chosen])
    closed = (2 * np.pi - arcs[:, 4]) * arcs[:, 2] <= DASH_GAP
    arcs[closed, 4] = 2 * np.pi
    return in_round, arcs


def _large(chords: _Chords, first: _Indices, last: _Indices) -> _Flags:
    """Which lines are no letters: their turns make a large circle, and all chords lie close to it."""
    if not len(first):
        return np.empty(0, bool)
    bounds = np.column_stack([first, last + 1]).reshape(-1)
    lengths = np.append(chords.length, 0)
    turns = np.append(np.where(chords.linked, np.abs(chords.turn), 0), 0)
    longest, length = (way.reduceat(lengths, bounds)[::2] for way in (np.maximum, np.add))
    radius = length / np.maximum(np.add.reduceat(turns, bounds)[::2], 1e-9)
    return (radius >= LEAST_RADIUS) & (longest * longest < 8 * radius * _MOST_BULGE)


def _fitting(chords: _Chords, first: _Indices, last: _Indices) -> tuple[_Flags, Arcs]:
    """Which chords are of runs that fit an arc, and the arcs."""
    in_arc = np.zeros(len(chords.length) + 1, np.int64)
    if not len(first):
        return in_arc[:-1] > 0, np.empty((0, 5))
    arcs, good = _fitted(chords, first, last)
    np.add.at(in_arc, first[good], 1)
    np.add.at(in_arc, last[good] + 1, -1)
    return np.cumsum(in_arc)[:-1] > 0, arcs[good]


def _runs(flags: _Flags) -> tuple[_Indices, _Indices]:
    """First and last index of each run of true flags."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1


def _fitted(chords: _Chords, first: _Indices, last: _Indices) -> tuple[Arcs, _Flags]:
    """Circles through the corners of runs of chords (Kasa, 1976), and which of them fit."""
    counts = last - first + 2
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    run = np.repeat(np.arange(len(first)), counts)
    step = np.arange(len(run)) - starts[run]
    chord = first[run] + np.minimum(step, counts[run] - 2)
    points = np.where((step == counts[run] - 1)[:, None], chords.end[chord], chords.start[chord])
    middle = np.add.reduceat(points, starts, axis=0) / counts[:, None]
    x, y = (points - middle[run]).T
    square = x * x + y * y
    xx, xy, yy, xz, yz, z = (
        np.add.reduceat(part, starts) for part in (x * x, x * y, y * y, x * square, y * square, square)
    )
    scale = np.maximum(xx * yy - xy * xy, 1e-12)
    cx, cy = (xz * yy - yz * xy) / scale / 2, (yz * xx - xz * xy) / scale / 2
    radius = np.sqrt(cx * cx + cy * cy + z / counts)
    off = np.abs(np.hypot(x - cx[run], y - cy[run]) - radius[run])
    total = np.concatenate([[0.0], np.cumsum(chords.turn)])
    turned = total[last] - total[first]
    # the outer halves of the first and last chord turn too
    sweep = turned * (counts - 1) / np.maximum(counts - 2, 1)
    good = (np.maximum.reduceat(off, starts) < _OFF_CIRCLE + 0.002 * radius) & (radius < _MOST_RADIUS)
    good &= np.abs(sweep) > _LEAST_SWEEP
    centre = middle + np.stack([cx, cy], axis=1)
    from_centre = chords.start[first] - centre
    start = np.arctan2(from_centre[:, 1], from_centre[:, 0])
    to_end = chords.end[last] - centre
    exact = np.arctan2(to_end[:, 1], to_end[:, 0]) - start
    # the angles of the ends are exact but for whole turns, which the sum of the turns knows
    sweep = exact + 2 * np.pi * np.round((sweep - exact) / (2 * np.pi))
    sweep = np.clip(sweep, -2 * np.pi, 2 * np.pi)
    start = np.where(sweep < 0, start + sweep, start) % (2 * np.pi)
    arcs = np.stack([centre[:, 0], centre[:, 1], radius, start, np.abs(sweep)], axis=1)
    return arcs, good & (np.abs(sweep) > _LEAST_SWEEP / 2)


def _straight(chords: _Chords, in_arc: _Flags) -> Segments:
    """Chords off arcs, those that hardly turn against each other joined."""
    goes_on = chords.linked & (np.abs(chords.turn) < _STRAIGHT) & ~in_arc
    goes_on[:-1] &= ~in_arc[1:]
    bend = np.concatenate([[0.0], np.cumsum(np.abs(chords.turn))[:-1]])
    breaks = np.concatenate([[True], ~goes_on[:-1]])
    group = np.cumsum(breaks) - 1
    since = bend - bend[np.flatnonzero(breaks)][group]
    part = np.floor(since / _BENT)
    breaks[1:] |= np.diff(part) > 0
    first = np.flatnonzero(breaks)
    last = np.append(first[1:], len(breaks)) - 1
    kept = ~in_arc[first]
    return np.hstack([chords.start[first[kept]], chords.end[last[kept]]])


def _joined(segments: Segments) -> Segments:
    """Level and upright segments that touch or overlap on one line, or are its dashes, become one."""
    across = np.abs(segments[:, 3] - segments[:, 1]) < 0.2
    down = ~across & (np.abs(segments[:, 2] - segments[:, 0]) < 0.2)
    level = _joined_level(segments[across])
    upright = _joined_level(segments[down][:, [1, 0, 3, 2]])[:, [1, 0, 3, 2]]
    return np.concatenate([level, upright, segments[~across & ~down]])


def _joined_level(segments: Segments) -> Segments:
    if not len(segments):
        return segments
    row = (segments[:, 1] + segments[:, 3]) / 2
    low, high = np.minimum(segments[:, 0], segments[:, 2]), np.maximum(segments[:, 0], segments[:, 2])
    line = _grouped(row, 0.3)
    order = np.lexsort((low, line))
    line, row, low, high = line[order], row[order], low[order], high[order]
    # ends seen so far, kept apart by line
    far = 1e6 * line
    reached = np.maximum.accumulate(high + far) - far
    gap = low[1:] - reached[:-1]
    longer = np.maximum(high[1:] - low[1:], high[:-1] - low[:-1])
    # a gap longer than both beside it is an opening, at whatever scale
    most = np.where(longer < DASH, np.clip(longer, _TOUCH, DASH_GAP), _TOUCH)
    apart = (np.diff(line) > 0) | (gap > most)
    first = np.concatenate([[0], np.flatnonzero(apart) + 1])
    ends = np.maximum.reduceat(high, first)
    rows = np.add.reduceat(row, first) / np.diff(np.append(first, len(row)))
    return np.stack([low[first], rows, ends, rows], axis=1)


def _grouped(values: _Numbers, apart: float) -> _Indices:
    """Number of the group of each value: sorted, a group ends before a step larger than `apart`."""
    order = np.argsort(values, kind="stable")
    group = np.empty(len(values), np.int64)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(values[order]) > apart)])
    return group


def _joined_arcs(arcs: Arcs) -> Arcs:
    """Arcs on one circle that touch, overlap or are dashes of it become one."""
    if len(arcs) < 2:
        return arcs
    key = np.stack([_grouped(arcs[:, column], 0.4) for column in range(3)], axis=1)
    _, circle = np.unique(key, axis=0, return_inverse=True)
    circle = circle.reshape(-1)
    order = np.lexsort((arcs[:, 3], circle))
    starts = np.flatnonzero(np.diff(circle[order], prepend=-1))
    found = [
        arcs[part] if len(part) == 1 else _one_circle(arcs[part]) for part in np.split(order, starts[1:])
    ]
    return np.concatenate(found)


def _one_circle(arcs: Arcs) -> Arcs:
    """Arcs of one circle, by start, joined where gaps between them are small."""
    cx, cy, radius = np.average(arcs[:, :3], axis=0, weights=arcs[:, 4])
    gap = (DASH_GAP if (arcs[:, 4] * radius < DASH).all() else _TOUCH) / max(radius, 1.0)
    begin = arcs[0, 3]
    spans: list[list[float]] = []
    for start, sweep in arcs[:, 3:]:
        if spans and start - spans[-1][1] <= gap:
            spans[-1][1] = max(spans[-1][1], start + sweep)
        else:
            spans.append([start, start + sweep])
    if len(spans) > 1 and begin + 2 * np.pi - spans[-1][1] <= gap:
        last = spans.pop()
        spans[0] = [last[0], max(spans[0][1] + 2 * np.pi, last[1])]
    elif len(spans) == 1 and begin + 2 * np.pi - spans[0][1] <= gap:
        spans[0][1] = begin + 2 * np.pi
    return np.array(
        [[cx, cy, radius, start % (2 * np.pi), min(end - start, 2 * np.pi)] for start, end in spans]
    )
