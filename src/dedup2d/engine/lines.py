"""
The lines of a sheet as evenly spaced samples with directions, to look them up on another sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from dedup2d.engine.geometry import Matrix, scale_of
from dedup2d.engine.layout import Box
from dedup2d.engine.shapes import Shapes, Word

__all__ = ["MOST_SOUGHT", "Lines", "Piece", "in_boxes", "pieces"]

Points = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_STEP = 4.0  # pixels between samples, at least
MOST_SOUGHT, MOST_FOUND = 10_000, 40_000
"""Samples of a sheet that are looked up, and of one that they are looked up on."""

_ROUND = 16  # samples of a circle at least, so that neighbours still run the same way
_ASKEW = 0.3  # sine of the most between directions of partners
_CROWD = 64  # samples of one row of three cells that are looked at
_PARTED = 0.3  # of a circle without a partner: then it has none at all
_CIRCLE = 2 * np.pi - 0.02


@frozen(eq=False)
class Piece:
    """
    A line or part of one: `low` and `high` corner of its box, its `length`, the middle, its `way`.

    `whole`: it is all of the line. `radius` is 0 of what is straight.
    """

    what: str
    low: Points
    high: Points
    length: float
    whole: bool
    middle: Points
    way: Points
    radius: float

    def distance(self, other: Piece) -> float:
        """Pixels from middle to middle."""
        return float(np.hypot(*(self.middle - other.middle)))

    def parallel(self, other: Piece) -> bool:
        """Whether they run the same way; anything round does."""
        cross = self.way[0] * other.way[1] - self.way[1] * other.way[0]
        return self.radius > 0 or bool(abs(cross) < 0.05)


@frozen(eq=False)
class Lines:
    """
    Samples `points` (N, 2) with directions `ways` (unit vectors) and the length `weights` each stands for.

    `line`: which line each is on; `lengths` and `radii` by line, radius 0 of what is straight;
    `closed` by line, whether it is a whole circle. `width`: most of a coordinate.
    """

    points: Points
    ways: Points
    weights: Numbers
    line: Indices
    lengths: Numbers
    radii: Numbers
    closed: Flags
    width: float

    @classmethod
    def of(cls, shapes: Shapes, matrix: Matrix | None = None, *, most: int = MOST_FOUND) -> Self:
        """About `most` samples of all lines and arcs at most, moved by `matrix` if one is given."""
        straight, arcs = shapes.segments, shapes.arcs
        way = straight[:, 2:] - straight[:, :2]
        lengths = np.concatenate([np.hypot(*way.T), arcs[:, 2] * arcs[:, 4]])
        least = np.concatenate([np.ones(len(straight)), 1 + _ROUND / (2 * np.pi) * arcs[:, 4]])
        step = max(_STEP, float(lengths.sum()) / most)
        counts = np.maximum(np.ceil(lengths / step), np.floor(least)).astype(np.int64)
        line = np.repeat(np.arange(len(lengths)), counts)
        starts = np.cumsum(counts) - counts
        share = (np.arange(len(line)) - starts[line] + 0.5) / counts[line]
        flat = line < len(straight)
        on, at = line[flat], share[flat][:, None]
        points = np.empty((len(line), 2))
        ways = np.empty((len(line), 2))
        points[flat] = straight[on, :2] + at * way[on]
        ways[flat] = way[on] / np.maximum(lengths[on], 1e-9)[:, None]
        bent = line[~flat] - len(straight)
        angle = arcs[bent, 3] + share[~flat] * arcs[bent, 4]
        spoke = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points[~flat] = arcs[bent, :2] + arcs[bent, 2:3] * spoke
        ways[~flat] = np.stack([-spoke[:, 1], spoke[:, 0]], axis=1)
        made = cls(
            points=points,
            ways=ways,
            weights=(lengths / counts)[line],
            line=line,
            lengths=lengths,
            radii=np.concatenate([np.zeros(len(straight)), arcs[:, 2]]),
            closed=np.concatenate([np.zeros(len(straight), bool), arcs[:, 4] > _CIRCLE]),
            width=max(float(np.abs(points).max(initial=1.0)), 1.0),
        )
        return made if matrix is None else made.moved(matrix)

    def moved(self, matrix: Matrix) -> Self:
        """The same where `matrix`, a similarity, takes them."""
        scale = scale_of(matrix)
        points = self.points @ matrix[:2, :2].T + matrix[:2, 2]
        return evolve(
            self,
            points=points,
            ways=self.ways @ matrix[:2, :2].T / scale,
            weights=self.weights * scale,
            lengths=self.lengths * scale,
            radii=self.radii * scale,
            width=max(float(np.abs(points).max(initial=1.0)), 1.0),
        )

    def thinned(self, most: int) -> Self:
        """At most `most` of the samples, evenly taken; their weights stay."""
        every = slice(None, None, -(-max(len(self.points), 1) // most))
        return evolve(
            self,
            points=self.points[every],
            ways=self.ways[every],
            weights=self.weights[every],
            line=self.line[every],
        )

    def without(self, boxes: Sequence[Box], back: Matrix) -> Self:
        """The samples that `back` takes to none of `boxes`."""
        kept = ~in_boxes(self.points @ back[:2, :2].T + back[:2, 2], boxes)
        if kept.all():
            return self
        return evolve(
            self,
            points=self.points[kept],
            ways=self.ways[kept],
            weights=self.weights[kept],
            line=self.line[kept],
        )

    def nearest(self, other: Lines, reach: float) -> tuple[Indices, Indices]:
        """
        Pairs of a sample and the closest one of `other` whose line runs the same way past it.

        Past it means: within `reach` pixels across, and along it no farther than its line goes.
        """
        own, its = _close(self.points, other.points, reach + float(other.weights.max(initial=0.0)) / 2)
        if not len(own):
            return own, its
        way = other.ways[its]
        cross = np.abs(self.ways[own, 0] * way[:, 1] - self.ways[own, 1] * way[:, 0])
        apart = self.points[own] - other.points[its]
        across = np.abs(apart[:, 0] * way[:, 1] - apart[:, 1] * way[:, 0])
        along = np.abs((apart * way).sum(axis=1))
        fits = (cross < _ASKEW) & (across <= reach) & (along <= other.weights[its] / 2 + reach)
        own, its, off = own[fits], its[fits], (across + 0.2 * along)[fits]
        order = np.lexsort((off, own))
        first = np.diff(own[order], prepend=-1) > 0
        return own[order][first], its[order][first]

    def within(self, words: Sequence[Word]) -> Flags:
        """Which samples are on lines shorter than letters are, in the box of one of `words`."""
        short = np.flatnonzero(self.lengths[self.line] < 4 * max((word.height for word in words), default=0))
        found = np.zeros(len(self.points), bool)
        if not len(short) or not words:
            return found
        table = np.array([(w.x, w.y, w.width, w.height, np.radians(w.rotation)) for w in words])
        middle = np.stack([table[:, 0], table[:, 1]], axis=1)
        wide = float(np.hypot(table[:, 2], table[:, 3]).max())
        own, its = _close(self.points[short], middle, min(wide, 400.0), crowd=8)
        apart = self.points[short[own]] - middle[its]
        cos, sin = np.cos(table[its, 4]), np.sin(table[its, 4])
        along = apart[:, 0] * cos - apart[:, 1] * sin
        up = -apart[:, 0] * sin - apart[:, 1] * cos
        width, height = table[its, 2], table[its, 3]
        inside = (along > -0.4 * height) & (along < width + 0.4 * height)
        inside &= (up > -0.4 * height) & (up < 1.4 * height)
        inside &= self.lengths[self.line[short[own]]] < 4 * height
        found[short[own[inside]]] = True
        return found


def in_boxes(points: Points, boxes: Sequence[Box]) -> Flags:
    """Which of `points` lie in one of `boxes`."""
    found = np.zeros(len(points), bool)
    for x, y, width, height in boxes:
        found |= ((points >= [x, y]) & (points <= [x + width, y + height])).all(axis=1)
    return found


def _close(points: Points, others: Points, reach: float, crowd: int = _CROWD) -> tuple[Indices, Indices]:
    """Pairs of indices whose places are near: in the same or a neighbouring cell of a grid."""
    none = np.empty(0, np.int64), np.empty(0, np.int64)
    if not (len(points) and len(others)):
        return none
    low = np.minimum(points.min(axis=0), others.min(axis=0)) - reach
    own, its = ((part - low) // reach for part in (points, others))
    columns = int(max(own[:, 0].max(), its[:, 0].max())) + 3
    key = (its[:, 1] * columns + its[:, 0]).astype(np.int64)
    order = np.argsort(key, kind="stable")
    key = key[order]
    cell = (own[:, 1] * columns + own[:, 0]).astype(np.int64)
    found_own, found_its = [], []
    for row in (-columns, 0, columns):
        start = np.searchsorted(key, cell + row - 1)
        count = np.minimum(np.searchsorted(key, cell + row + 2) - start, crowd)
        index = np.repeat(np.arange(len(points)), count)
        within = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count)
        found_own.append(index)
        found_its.append(order[start[index] + within])
    return np.concatenate(found_own), np.concatenate(found_its)


def _around(lines: Lines, line: int) -> Points:
    """Corners of the box of a circle of which some samples are known."""
    at = np.flatnonzero(lines.line == line)
    way = lines.ways[at]
    side = np.stack([way[:, 1], -way[:, 0]], axis=1) * lines.radii[line]
    middle = np.median(lines.points[at] - side, axis=0)
    if np.abs(lines.points[at] - middle).max() > 1.5 * lines.radii[line]:  # a mirrored one runs the other way
        middle = np.median(lines.points[at] + side, axis=0)
    return np.array([middle - lines.radii[line], middle + lines.radii[line]])


def pieces(lines: Lines, wanted: Flags, least: float) -> list[Piece]:
    """Runs of `wanted` samples along their lines that are at least `least` long, longest first."""
    chosen = np.flatnonzero(wanted)
    if not len(chosen):
        return []
    lone = np.bincount(lines.line[chosen], lines.weights[chosen], len(lines.lengths))
    whole = lines.closed & (lone > _PARTED * lines.lengths)
    # what is left of a circle that moved are two arcs, but it is the circle that moved
    line = lines.line[chosen]
    breaks = ((np.diff(chosen) > 1) & ~whole[line[1:]]) | (np.diff(line) > 0)
    runs = np.split(chosen, np.flatnonzero(breaks) + 1)
    lengths = np.add.reduceat(lines.weights[chosen], np.concatenate([[0], np.flatnonzero(breaks) + 1]))
    found = [
        _piece(lines, run, float(length))
        for run, length in zip(runs, lengths, strict=True)
        if length >= least
    ]
    return sorted(found, key=lambda piece: -piece.length)


def _piece(lines: Lines, run: Indices, length: float) -> Piece:
    line = int(lines.line[run[0]])
    points = lines.points[run]
    half = lines.ways[run] * (lines.weights[run] / 2)[:, None]
    ends = np.concatenate([points - half, points + half])
    closed = bool(lines.closed[line])
    whole = length > (_PARTED if closed else 0.7) * float(lines.lengths[line])
    radius = float(lines.radii[line])
    what = "line" if not radius else "circle" if closed and whole else "arc"
    if what == "circle":
        ends = _around(lines, line)
    low, high = ends.min(axis=0), ends.max(axis=0)
    return Piece(
        what=what,
        low=low,
        high=high,
        length=float(lines.lengths[line]) if whole else length,
        whole=whole,
        middle=(low + high) / 2,
        way=lines.ways[run[0]],
        radius=radius,
    )
