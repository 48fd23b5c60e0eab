"""Line work as arrays: straight segments and arcs, each with the entity it comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from attrs import frozen
from scipy.spatial import cKDTree

__all__ = [
    "Affine",
    "Floats",
    "Ints",
    "Linework",
    "arc_points",
    "box_of",
    "hashed",
    "joined",
    "transformed",
    "tree_of",
    "without_copies",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

FULL_TURN = 2 * math.pi


@frozen(eq=False)
class Linework:
    """
    Segments and arcs.

    Args:
        segments: float64 (N, 4), x and y of both ends.
        segment_source: int64 (N,), number of the entity each comes from.
        curved: bool (N,), whether a segment stands for a piece of a curve that is no arc.
        arcs: float64 (M, 5), x and y of the centre, radius, start angle and sweep (radians, sweep positive).
        arc_source: int64 (M,), as above.
    """

    segments: Floats
    segment_source: Ints
    curved: Flags
    arcs: Floats
    arc_source: Ints

    def __len__(self) -> int:
        return len(self.segments) + len(self.arcs)

    @property
    def lengths(self) -> Floats:
        """Lengths of all segments, then of all arcs."""
        straight = np.hypot(
            self.segments[:, 2] - self.segments[:, 0], self.segments[:, 3] - self.segments[:, 1]
        )
        return np.concatenate([straight, self.arcs[:, 2] * self.arcs[:, 4]])

    @property
    def sources(self) -> Ints:
        """Sources of all segments, then of all arcs."""
        return np.concatenate([self.segment_source, self.arc_source])

    def same_as(self, other: Linework) -> bool:
        """Return whether both are the very same, in the same order."""
        return (
            len(self) > 0
            and np.array_equal(self.segments, other.segments)
            and np.array_equal(self.arcs, other.arcs)
        )

    def part(self, chosen: Flags) -> Linework:
        """Return those of all segments and arcs that are *chosen*."""
        n = len(self.segments)
        s, a = chosen[:n], chosen[n:]
        return Linework(
            self.segments[s], self.segment_source[s], self.curved[s], self.arcs[a], self.arc_source[a]
        )


@frozen
class Affine:
    """x' = a x + c y + e, y' = b x + d y + f."""

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 1.0
    e: float = 0.0
    f: float = 0.0

    @classmethod
    def similarity(
        cls, scale: float, turn: float, shift: Sequence[float], *, mirrored: bool = False
    ) -> Affine:
        """Return the map that mirrors x, scales, turns by *turn* radians, then shifts."""
        cos, sin = scale * math.cos(turn), scale * math.sin(turn)
        flip = -1.0 if mirrored else 1.0
        return cls(flip * cos, flip * sin, -sin, cos, shift[0], shift[1])

    def after(self, first: Affine) -> Affine:
        """Return the map that does *first*, then this."""
        e, f = self.point(first.e, first.f)
        return Affine(
            self.a * first.a + self.c * first.b,
            self.b * first.a + self.d * first.b,
            self.a * first.c + self.c * first.d,
            self.b * first.c + self.d * first.d,
            e,
            f,
        )

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return where the point x, y goes."""
        return self.a * x + self.c * y + self.e, self.b * x + self.d * y + self.f

    def points(self, xy: Floats) -> Floats:
        """Return where points (N, 2) go."""
        return np.asarray(xy @ np.array([[self.a, self.b], [self.c, self.d]]) + np.array([self.e, self.f]))

    @property
    def determinant(self) -> float:
        """How areas grow; negative if it mirrors."""
        return self.a * self.d - self.b * self.c

    @property
    def scale(self) -> float:
        """How lengths grow, on average."""
        return math.sqrt(abs(self.determinant))

    @property
    def keeps_circles(self) -> bool:
        """Whether both axes scale alike and stay square."""
        one, two = math.hypot(self.a, self.b), math.hypot(self.c, self.d)
        dot = self.a * self.c + self.b * self.d
        return abs(one - two) <= 1e-6 * max(one, two) and abs(dot) <= 1e-6 * max(one * two, 1e-300)

    def inverse(self) -> Affine:
        """Return the map back; the determinant must not be 0."""
        det = self.determinant
        a, b, c, d = self.d / det, -self.b / det, -self.c / det, self.a / det
        return Affine(a, b, c, d, -(a * self.e + c * self.f), -(b * self.e + d * self.f))


def transformed(lines: Linework, by: Affine) -> Linework:
    """Return *lines* under a map; arcs become chords where it does not keep circles."""
    ends = by.points(lines.segments.reshape(-1, 2)).reshape(-1, 4)
    if not len(lines.arcs):
        return Linework(ends, lines.segment_source, lines.curved, lines.arcs, lines.arc_source)
    if not by.keeps_circles:
        return _with_flattened_arcs(lines, by, ends)
    turn = math.atan2(by.b, by.a)
    arcs = np.empty_like(lines.arcs)
    arcs[:, :2] = by.points(lines.arcs[:, :2])
    arcs[:, 2] = lines.arcs[:, 2] * by.scale
    arcs[:, 4] = lines.arcs[:, 4]
    if by.determinant >= 0:
        arcs[:, 3] = lines.arcs[:, 3] + turn
    else:  # the arc runs the other way round, so that its end becomes its start
        arcs[:, 3] = turn - (lines.arcs[:, 3] + lines.arcs[:, 4])
    return Linework(ends, lines.segment_source, lines.curved, arcs, lines.arc_source)


def _with_flattened_arcs(lines: Linework, by: Affine, ends: Floats) -> Linework:
    steps = 64
    along = np.linspace(0.0, 1.0, steps + 1)
    points = by.points(arc_points(lines.arcs, along).reshape(-1, 2)).reshape(len(lines.arcs), steps + 1, 2)
    chords = np.concatenate([points[:, :-1], points[:, 1:]], axis=2).reshape(-1, 4)
    return Linework(
        np.concatenate([ends, chords]),
        np.concatenate([lines.segment_source, np.repeat(lines.arc_source, steps)]),
        np.concatenate([lines.curved, np.ones(len(chords), bool)]),
        np.empty((0, 5)),
        np.empty(0, np.int64),
    )


def arc_points(arcs: Floats, along: Floats) -> Floats:
    """Return points (M, K, 2) of *arcs* at *along* (K,) from 0, the start, to 1, the end."""
    angles = arcs[:, 3:4] + arcs[:, 4:5] * along
    return np.stack(
        [arcs[:, :1] + arcs[:, 2:3] * np.cos(angles), arcs[:, 1:2] + arcs[:, 2:3] * np.sin(angles)], axis=2
    )


def joined(parts: Sequence[Linework]) -> Linework:
    """Return all *parts* as one."""
    if not parts:
        return Linework(
            np.empty((0, 4)),
            np.empty(0, np.int64),
            np.empty(0, bool),
            np.empty((0, 5)),
            np.empty(0, np.int64),
        )
    return Linework(
        np.concatenate([p.segments for p in parts]),
        np.concatenate([p.segment_source for p in parts]),
        np.concatenate([p.curved for p in parts]),
        np.concatenate([p.arcs for p in parts]),
        np.concatenate([p.arc_source for p in parts]),
    )


def tree_of(points: Floats) -> cKDTree:
    """
    Return a tree of *points* (N, K) moved by a billionth of their extent.

    Thousands in one place cannot be told apart, so that each look-up would go through all of them.
    """
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    moved = np.random.default_rng(11).uniform(-1, 1, points.shape) * (1e-9 * extent or 1e-12)
    return cKDTree(points + moved)


def without_copies(lines: Linework) -> Linework:
    """Return *lines* without those that are drawn once more in the very same place."""
    ends = lines.segments
    swapped = (ends[:, 0] > ends[:, 2]) | ((ends[:, 0] == ends[:, 2]) & (ends[:, 1] > ends[:, 3]))
    ordered = np.where(swapped[:, None], ends[:, [2, 3, 0, 1]], ends)
    kept = np.zeros(len(lines), bool)
    kept[np.unique(hashed(ordered.view(np.int64)), return_index=True)[1]] = True
    arcs = np.ascontiguousarray(lines.arcs).view(np.int64)
    kept[len(ends) + np.unique(hashed(arcs), return_index=True)[1]] = True
    return lines if kept.all() else lines.part(kept)


def hashed(rows: Ints) -> Ints:
    """Return one number for each row of *rows* (N, K): equal for equal rows, and hardly ever for others."""
    total = np.zeros(len(rows), np.uint64)
    for column in range(rows.shape[1]):
        total = (total ^ rows[:, column].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(29)
    return total.astype(np.int64)


def box_of(lines: Linework) -> tuple[Floats, Floats]:
    """Return the lowest and highest x and y of *lines*, which must not be empty."""
    parts = [lines.segments.reshape(-1, 2)]
    if len(lines.arcs):
        parts.append(arc_points(lines.arcs, np.linspace(0, 1, 9)).reshape(-1, 2))
    points = np.concatenate(parts)
    return points.min(axis=0), points.max(axis=0)
