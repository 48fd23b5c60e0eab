"""
Finding how one drawing's line work lies on another's: candidates by votes, then refined.

A pair of lines, one of each drawing, says how the one drawing would have to be scaled, turned and shifted to
put the one onto the other. Pairs that belong together all say the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from attrs import evolve, frozen
from scipy.spatial import cKDTree

from dedup2d.geometry.linework import Affine, Floats, Ints, Linework, arc_points

__all__ = ["Features", "Pose", "features", "proposals", "refined", "with_texts"]

LONGEST = 140
ALIKE = 12
SHAPES = 60
ROUND = 20
ANCHORS = 12
MAX_SCALE = 1e4
DIRECTED = 3
"""Kind of bars from which on their ends are told apart."""


@frozen
class Pose:
    """The map of the query's coordinates, as complex numbers z, onto the other's: factor * z + shift."""

    factor: complex
    shift: complex
    mirrored: bool = False

    @property
    def scale(self) -> float:
        """How lengths grow."""
        return abs(self.factor)

    def affine(self) -> Affine:
        """Return the same map for arrays."""
        turn = math.atan2(self.factor.imag, self.factor.real)
        return Affine.similarity(self.scale, turn, (self.shift.real, self.shift.imag), mirrored=self.mirrored)


@frozen(eq=False)
class Features:
    """
    What votes.

    Args:
        bars: complex (N, 2), both ends of the longest lines and of lines between marks.
        kind: int64 (N,), bars of different kinds do not vote together.
        marks: complex (M,), ends of lines and centres, for refining.
        rounds: complex centres (K,).
        radii: (K,).
        middle: of the box.
        size: diagonal of the box.
    """

    bars: np.ndarray
    kind: Ints
    marks: np.ndarray
    rounds: np.ndarray
    radii: Floats
    middle: complex
    size: float


def features(
    lines: Linework,
    long: Floats,
    shapes: tuple[np.ndarray, np.ndarray],
    box: tuple[Floats, Floats],
) -> Features:
    """
    Return what votes of *lines*, whose maximal straight lines are *long*.

    *shapes* are the middles of what hangs together, and its points farthest from there.
    """
    marks = _marks(lines)
    centre = complex(marks.mean()) if len(marks) else complex(*((box[0] + box[1]) / 2))
    ends = np.stack([long[:, 0] + 1j * long[:, 1], long[:, 2] + 1j * long[:, 3]], axis=1)
    straight = ends[_few_alike(np.abs(ends[:, 1] - ends[:, 0]), ends.mean(axis=1) - centre, LONGEST, ALIKE)]
    middles, tips = shapes
    spans = np.abs(tips - middles)
    chosen = _few_alike(spans, middles - centre, SHAPES, 4)
    shape_bars = np.stack([middles[chosen], tips[chosen]], axis=1)
    rounds, radii = lines.arcs[:, 0] + 1j * lines.arcs[:, 1], lines.arcs[:, 2]
    picked = _few_alike(radii, rounds - centre, ROUND, 3)
    standing = _few_alike(spans, middles - centre, ROUND // 2, 3)
    between = [_between(rounds[picked]), _between(middles[standing])]
    low, high = box
    kinds = [np.full(len(bars), k) for k, bars in enumerate((straight, *between, shape_bars))]
    return Features(
        bars=np.concatenate([straight, *between, shape_bars]),
        kind=np.concatenate(kinds).astype(np.int64),
        marks=marks,
        rounds=rounds[picked],
        radii=radii[picked],
        middle=complex(*((low + high) / 2)),
        size=float(np.hypot(*(high - low))),
    )


def with_texts(found: Features, anchors: Sequence[tuple[int, complex]]) -> Features:
    """Let *anchors*, places of texts with a number that stands for the content of each, vote too."""
    bars, kinds = _text_bars(anchors)
    return evolve(
        found,
        bars=np.concatenate([found.bars, bars]),
        kind=np.concatenate([found.kind, kinds.astype(np.int64)]),
    )


def _marks(lines: Linework) -> np.ndarray:
    ends = lines.segments.reshape(-1, 2)
    marks = [ends[:, 0] + 1j * ends[:, 1], lines.arcs[:, 0] + 1j * lines.arcs[:, 1]]
    open_arcs = lines.arcs[lines.arcs[:, 4] < 6.28]
    if len(open_arcs):
        tips = arc_points(open_arcs, np.array([0.0, 1.0])).reshape(-1, 2)
        marks.append(tips[:, 0] + 1j * tips[:, 1])
    return np.concatenate(marks)


def _few_alike(sizes: Floats, offsets: np.ndarray, most: int, alike: int) -> Ints:
    """
    Return the positions of the largest *most*, few of one size, unless there are few in all.

    Of one size those farthest from the middle: the same ones, however the drawing was turned or written.
    """
    if not len(sizes):
        return np.empty(0, np.int64)
    cell = np.round(np.log(np.maximum(sizes, 1e-300)) / 1e-3)
    order = np.lexsort((-np.abs(offsets), -cell))
    if len(sizes) <= most:
        return np.asarray(order, np.int64)
    starts = np.flatnonzero(np.append(True, np.diff(cell[order]) != 0))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    alike = max(alike, most // len(starts))
    return np.asarray(order[rank < alike][:most], np.int64)


def _between(marks: np.ndarray) -> np.ndarray:
    one, two = np.triu_indices(len(marks), 1)
    bars = np.stack([marks[one], marks[two]], axis=1)
    return np.asarray(bars[np.abs(bars[:, 0] - bars[:, 1]) > 0])


def _text_bars(anchors: Sequence[tuple[int, complex]]) -> tuple[np.ndarray, Floats]:
    """Return bars between texts, with a kind that tells both contents."""
    few = sorted(anchors, key=lambda anchor: anchor[0])[:ANCHORS]
    numbers = np.array([number for number, _ in few], float)
    places = np.array([place for _, place in few], complex)
    one, two = np.triu_indices(len(few), 1)
    return (
        np.stack([places[one], places[two]], axis=1).reshape(-1, 2),
        4 + numbers[one] * 1_000_003 + numbers[two],
    )


def proposals(query: Features, other: Features, scales: Iterable[float], *, mirrored: bool) -> list[Pose]:
    """Return poses to try, likeliest first; *scales* are those that need no evidence."""
    scales = list(scales)
    flip = np.conj if mirrored else np.asarray
    middle = complex(flip(np.array(query.middle)) * (-1 if mirrored else 1))
    found = [Pose(complex(s), other.middle - s * middle, mirrored) for s in scales]
    if not mirrored:
        found.append(Pose(1 + 0j, 0j))
    found += _voted(query, other, mirrored=mirrored)
    found += _on_rounds(query, other, scales, mirrored=mirrored)
    return found


def _mirror(values: np.ndarray, *, mirrored: bool) -> np.ndarray:
    return -np.conj(values) if mirrored else values


def _voted(query: Features, other: Features, *, mirrored: bool, best: int = 16) -> list[Pose]:
    bars, kinds = _mirror(query.bars, mirrored=mirrored), query.kind
    one, two = _pairs(kinds, other.kind)
    if not len(one):
        return []
    a, b = bars[one], other.bars[two]
    undirected = query.kind[one] < DIRECTED
    a = np.concatenate([a, a[undirected][:, ::-1]])
    b = np.concatenate([b, b[undirected]])
    span = a[:, 1] - a[:, 0]
    factor = (b[:, 1] - b[:, 0]) / np.where(span == 0, 1, span)
    scale = np.abs(factor)
    sane = (span != 0) & (scale > 1 / MAX_SCALE) & (scale < MAX_SCALE)
    factor, a, b, span = factor[sane], a[sane], b[sane], np.abs(span[sane])
    middle = complex(_mirror(np.array([query.middle]), mirrored=mirrored)[0])
    landing = b[:, 0] + factor * (middle - a[:, 0])
    near = np.abs(landing - other.middle) < 1.5 * other.size
    factor, landing, span = factor[near], landing[near], span[near]
    if not len(factor):
        return []
    cells = np.column_stack(
        [
            np.log(np.abs(factor)) / 2e-3,
            np.angle(factor) / 2e-3,
            landing.real / (4e-3 * other.size),
            landing.imag / (4e-3 * other.size),
        ]
    )
    poses = []
    for offset in (0.0, 0.5):
        poses += _fullest(np.floor(cells + offset), factor, landing, span, best)
    poses.sort(key=lambda pose: -pose[0])
    return [Pose(f, place - f * middle, mirrored) for _, f, place in poses]


def _fullest(
    cells: Floats, factor: np.ndarray, landing: np.ndarray, span: Floats, best: int
) -> list[tuple[float, complex, complex]]:
    """Return votes, factor and landing of the middle for the cells with the most votes."""
    whole = cells.astype(np.int64)
    key = ((whole[:, 0] * 73_856_093) ^ (whole[:, 1] * 19_349_663)) ^ (
        (whole[:, 2] * 83_492_791) ^ (whole[:, 3] * 49_979_687)
    )
    _, number, counts = np.unique(key, return_inverse=True, return_counts=True)
    number = number.reshape(-1)
    top = np.argsort(-counts, kind="stable")[:best]
    found = []
    for cell in top:
        members = np.flatnonzero(number == cell)
        lead = members[np.argmax(span[members])]
        found.append((float(counts[cell]), complex(factor[lead]), complex(landing[lead])))
    return found


def _pairs(one: Ints, two: Ints) -> tuple[Ints, Ints]:
    """Return all pairs of positions whose kinds are equal."""
    found = [
        (np.repeat(a, len(b)), np.tile(b, len(a)))
        for kind in np.intersect1d(one, two)
        for a, b in [(np.flatnonzero(one == kind), np.flatnonzero(two == kind))]
    ]
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def _on_rounds(query: Features, other: Features, scales: Sequence[float], *, mirrored: bool) -> list[Pose]:
    """Put a circle onto one of the same size without turning: all there is where nothing else is drawn."""
    centres = _mirror(query.rounds, mirrored=mirrored)
    found = []
    for scale in scales:
        gap = np.abs(np.log(np.maximum(query.radii, 1e-300) * scale)[:, None] - np.log(other.radii)[None, :])
        one, two = np.nonzero(gap < 1e-3)
        found += [
            Pose(complex(scale), complex(other.rounds[j] - scale * centres[i]), mirrored)
            for i, j in list(zip(one, two, strict=True))[:6]
        ]
    if len(query.radii) and len(other.radii):
        scale = float(other.radii[0] / query.radii[0])
        found.append(Pose(complex(scale), complex(other.rounds[0] - scale * centres[0]), mirrored))
    return found


def refined(
    pose: Pose, marks: np.ndarray, tree: cKDTree, others: np.ndarray, *, reach: float, least: float
) -> Pose:
    """
    Fit *pose* to the *marks* that have one of *others* (indexed by *tree*) nearby.

    *reach* is how far to look at first, *least* at last, in the other's coordinates.
    """
    marks = _mirror(marks, mirrored=pose.mirrored)
    for _ in range(5):
        placed = pose.factor * marks + pose.shift
        away, nearest = tree.query(np.column_stack([placed.real, placed.imag]), distance_upper_bound=reach)
        hit = np.isfinite(away)
        if hit.sum() < 2:
            return pose
        fitted = _least_squares(marks[hit], others[nearest[hit]], pose)
        if fitted is None:
            return pose
        pose = fitted
        typical = float(np.median(away[hit]))
        reach = max(least, min(reach / 2, 4 * typical))
    return pose


def _least_squares(a: np.ndarray, b: np.ndarray, pose: Pose) -> Pose | None:
    middle_a, middle_b = a.mean(), b.mean()
    spread = float((np.abs(a - middle_a) ** 2).sum())
    if spread <= 0:
        return None
    factor = complex(((b - middle_b) * np.conj(a - middle_a)).sum() / spread)
    if not 0.9 < abs(factor) / pose.scale < 1.1:
        return None
    return Pose(factor, complex(middle_b - factor * middle_a), pose.mirrored)
