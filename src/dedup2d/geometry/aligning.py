"""Two drawings' line work made comparable, and the best pose of the one on the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from attrs import frozen
from scipy.spatial import cKDTree

from dedup2d.geometry.coverage import Ground, covered, ground, sampled
from dedup2d.geometry.flatten import Item
from dedup2d.geometry.linework import Floats, Linework, joined, transformed, tree_of, without_copies
from dedup2d.geometry.poses import Features, Pose, features, proposals, refined, with_texts
from dedup2d.geometry.rounding import groups, merged, with_arcs, with_whole_lines

__all__ = ["TELLING", "Aligned", "Outline", "Side", "align", "outline", "side"]

ROUNDED = 1.5e-3
"""Drawing units that rounding both drawings to three decimals may put between two points."""
RELATIVE = 1e-5
"""Share of the drawing's diagonal below which places count as equal."""
COARSE = 2e-3
TRIED = 400
CHECKED = 250
KEPT = 5
FITTED = 2
POLISHED = 2
FITS = 0.9999
TELLING = 0.3
"""Share from which poses that cover the same are told apart by texts."""
MARKS = 2_000
EXACT = 0.01
"""Share of the tolerance within which ends of a line that was split lie."""
LARGE = 25_000
"""Segments and arcs above which a sample of them is looked up, in the whole of the other drawing."""


@frozen(eq=False)
class Outline:
    """One drawing's line work, ready to be compared with any other's; `features` are without texts."""

    lines: Linework
    box: tuple[Floats, Floats]
    tolerance: float
    features: Features

    @cached_property
    def ground(self) -> Ground:
        """The line work to be covered by."""
        return ground(self.lines)

    @cached_property
    def checked(self) -> Linework:
        """The lines that poses are tried with."""
        return some_lines(self.lines, CHECKED)

    @cached_property
    def tried(self) -> Floats:
        """The points that are laid onto another drawing."""
        return _some(sampled(self.lines, TRIED * 4, least=2).points, TRIED)

    @cached_property
    def points(self) -> Floats:
        """The points that stand for the whole drawing when another is laid onto it."""
        return sampled(self.lines, min(20_000, 2_000 + 10 * len(self.lines)), least=2).points

    @cached_property
    def some_points(self) -> Floats:
        """Few of them."""
        return _some(self.points, TRIED)

    @cached_property
    def tree(self) -> cKDTree:
        """What finds the nearest of the points."""
        return tree_of(self.points)

    @cached_property
    def mark_tree(self) -> cKDTree:
        """What finds the nearest of the marks."""
        marks = self.features.marks
        return tree_of(np.column_stack([marks.real, marks.imag]))


@frozen(eq=False)
class Side:
    """One drawing, ready to be aligned with a certain other; `features` are with the texts that both have."""

    outline: Outline
    features: Features

    @property
    def lines(self) -> Linework:
        """The line work, put together where it was split."""
        return self.outline.lines

    @property
    def tolerance(self) -> float:
        """Distance below which places count as equal."""
        return self.outline.tolerance

    @property
    def ground(self) -> Ground:
        """The line work to be covered by."""
        return self.outline.ground


@frozen(eq=False)
class Aligned:
    """A pose, and how much of each drawing it covers: shares 0 to 1 of a sample."""

    pose: Pose
    share: float


def outline(ink: Linework, box: tuple[Floats, Floats]) -> Outline:
    """Return the line work *ink*, which lies within *box*, ready to be compared."""
    size = float(np.hypot(*(box[1] - box[0])))
    tolerance = min(max(RELATIVE * size, ROUNDED), max(1e-3 * size, 1e-9))
    # Far from the origin doubles are coarser than the drawing may be.
    tolerance = max(tolerance, 16 * np.finfo(float).eps * float(np.abs(box).max()))
    # Pieces shorter than the tolerance are put together first: their ends would all be in one place.
    whole = with_whole_lines(with_whole_lines(without_copies(ink), EXACT * tolerance), tolerance)
    lines = with_arcs(whole, tolerance)
    long = merged(lines.segments[~lines.curved], tolerance)
    return Outline(lines, box, tolerance, features(lines, long, _shapes(whole, tolerance), box))


def side(drawn: Outline | None, anchors: Sequence[tuple[int, complex]]) -> Side | None:
    """
    Return one drawing ready to be aligned; None if it has neither line work nor places.

    Args:
        drawn: its line work, None if it has none.
        anchors: places of the texts that both drawings have.
    """
    if drawn is None:
        if not anchors:
            return None
        places = np.array([[place.real, place.imag] for _, place in anchors])
        drawn = outline(joined([]), (places.min(axis=0), places.max(axis=0)))
    return Side(drawn, with_texts(drawn.features, anchors))


def _shapes(lines: Linework, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the middles of what hangs together of more than three segments, and its farthest points."""
    group = groups(lines, tolerance)
    sizes = np.bincount(group) if len(group) else np.empty(0, np.int64)
    kept = sizes[group] > 3
    number = np.unique(group[kept], return_inverse=True)[1].reshape(-1)
    if not len(number):
        return np.empty(0, complex), np.empty(0, complex)
    segments = lines.segments[kept]
    start, end = segments[:, 0] + 1j * segments[:, 1], segments[:, 2] + 1j * segments[:, 3]
    lengths, halves = np.abs(end - start), (start + end) / 2
    total = np.maximum(np.bincount(number, lengths), 1e-300)
    middle = (
        np.bincount(number, lengths * halves.real) + 1j * np.bincount(number, lengths * halves.imag)
    ) / total
    points, owner = np.concatenate([start, end]), np.concatenate([number, number])
    order = np.lexsort((-np.abs(points - middle[owner]), owner))
    first = order[np.searchsorted(owner[order], np.arange(len(middle)))]
    return middle, points[first]


def unique_places(one: Sequence[Item], two: Sequence[Item]) -> tuple[list[tuple[int, complex]], ...]:
    """Return the places of contents that both have exactly once, numbered alike."""
    singles = []
    for items in (one, two):
        found: dict[str, list[complex]] = {}
        for item in items:
            if item.place is not None and item.content:
                found.setdefault(item.content, []).append(complex(*item.place))
        singles.append({content: places[0] for content, places in found.items() if len(places) == 1})
    # Long texts first: a single letter may stand anywhere.
    shared = sorted(singles[0].keys() & singles[1].keys(), key=lambda content: (-len(content), content))
    return tuple([(n, single[content]) for n, content in enumerate(shared[:40])] for single in singles)


def align(
    query: Side, other: Side, scales: Sequence[float], *, mirrored: bool = False, anchored: bool = True
) -> list[Aligned]:
    """
    Return the poses of *query* on *other* that cover most, best first, few; none if nothing tells.

    *scales* need no evidence, such as 1 and that of the units: another scale must cover more than they do.
    """
    poses = _distinct(proposals(query.features, other.features, scales, mirrored=mirrored), query, other)
    if not len(query.lines) or not len(other.lines):
        return [Aligned(pose, 0.0) for pose in poses]
    trial = _Trial.of(query.outline, other.outline)
    rated = sorted(((-trial.coarse(pose), n) for n, pose in enumerate(poses)))[:KEPT]
    first = sorted(((-trial.fine(poses[n]), n) for _, n in rated))
    found = [Aligned(poses[n], -share) for share, n in first]
    for place in range(len(found) if anchored and found[0].share > TELLING else FITTED):
        if place < len(found) and found[place].share < FITS:
            found[place] = trial.fitted(found[place])
    found = [Aligned(one.pose, one.share - _doubt(one.pose, scales)) for one in found]
    # all points decide between poses of which a sample of lines fits as well: one line may tell them apart
    return sorted(
        found,
        key=lambda one: (
            -round(one.share, 6),
            -round(trial.coarse(one.pose), 3),
            abs(np.angle(one.pose.factor)),
        ),
    )


def _doubt(pose: Pose, scales: Sequence[float]) -> float:
    """Prefer a scale that needs no evidence where two cover the same."""
    return 0.0 if is_known(pose.scale, scales) else 0.02


def is_known(scale: float, scales: Sequence[float]) -> bool:
    """Return whether *scale* is one of *scales*."""
    return any(abs(scale / known - 1) < 1e-3 for known in scales)


def _distinct(poses: Sequence[Pose], query: Side, other: Side) -> list[Pose]:
    """Leave out poses that put the corners of the query where an earlier one puts them."""
    low, high = query.outline.box
    corners = np.array([complex(*low), complex(high[0], low[1]), complex(*high)])
    cell = max(1e-4 * other.features.size, 1e-300)
    seen: dict[tuple[int, ...], Pose] = {}
    for pose in poses:
        at = pose.factor * (-np.conj(corners) if pose.mirrored else corners) + pose.shift
        if np.all(np.isfinite(at)) and pose.scale > 0:
            key = np.round(np.concatenate([at.real, at.imag]) / cell)
            seen.setdefault(tuple(int(k) for k in np.clip(key, -(2**62), 2**62)), pose)
    return list(seen.values())


@frozen(eq=False)
class _Trial:
    """What all poses are tried with."""

    query: Outline
    other: Outline
    marks: np.ndarray

    @classmethod
    def of(cls, query: Outline, other: Outline) -> _Trial:
        return cls(query, other, _some(query.features.marks, MARKS))

    def coarse(self, pose: Pose) -> float:
        """Return the share of points that have something near in the other."""
        reach = max(COARSE * self.other.features.size, self.spacing)
        there = pose.affine().points(self.query.tried)
        away = self.other.tree.query(there, distance_upper_bound=reach)[0]
        hits = (np.isfinite(away).mean() + (away < max(reach / 8, self.spacing)).mean()) / 2
        low, high = there.min(axis=0), there.max(axis=0)
        size = float(np.hypot(*(high - low)))
        # What is put into a corner of the other is covered there, but covers little of it.
        fill = min(1.0, size / max(self.other.features.size, 1e-300))
        others = self.other.some_points
        inside = np.all((others >= low - reach) & (others <= high + reach), axis=1).mean()
        covers = 0.5 + 0.25 * fill + 0.25 * float(inside)
        return float(hits) * covers

    @property
    def spacing(self) -> float:
        """How far apart the points are that stand for the other."""
        return float(self.other.lines.lengths.sum()) / max(1, len(self.other.points))

    def fitted(self, one: Aligned) -> Aligned:
        """Return *one* or what covers more when fitted."""
        for pose in self.refinements(one.pose):
            one = self.better(one, pose)
        # Once it lies well, neighbours at the edge of reach only pull it off again.
        for _ in range(POLISHED if TELLING < one.share < FITS else 0):
            least = self.tolerance(one.pose)
            one = self.better(one, self.refit(one.pose, reach=least, least=least / 10))
        return one

    def better(self, one: Aligned, pose: Pose) -> Aligned:
        """Return *one*, or *pose* if it covers more."""
        share = self.fine(pose, least=one.share)
        return Aligned(pose, share) if share > one.share else one

    def refit(self, pose: Pose, *, reach: float, least: float) -> Pose:
        """Return *pose* fitted to ends and centres within *reach*, at last within *least*."""
        marks = self.other.features.marks
        return refined(pose, self.marks, self.other.mark_tree, marks, reach=reach, least=least)

    def refinements(self, pose: Pose) -> Iterator[Pose]:
        """
        Yield *pose* fitted to ends and centres that are near, less near, and far.

        From afar dense places pull the wrong way; from near a pose that is slightly off is not put right.
        """
        size, least = self.other.features.size, 3 * self.tolerance(pose)
        for reach in (3 * least, 5e-4 * size, 3e-3 * size):
            if reach >= least:
                yield self.refit(pose, reach=reach, least=least)

    def tolerance(self, pose: Pose) -> float:
        """Distance in the other's coordinates below which places count as equal."""
        return max(self.other.tolerance, self.query.tolerance * pose.scale)

    def fine(self, pose: Pose, least: float = 0.0) -> float:
        """
        Return the share of a sample of both that lies on the other, harmonic mean.

        It may be 0 where it is not above *least*.
        """
        tolerance = self.tolerance(pose)
        moved = transformed(self.query.checked, pose.affine())
        there = float(covered(sampled(moved, CHECKED), moved, self.other.ground, tolerance).mean())
        if 2 * there <= least * (there + 1):  # however much of the other lies on the query
            return 0.0
        back = transformed(self.other.checked, pose.affine().inverse())
        here = covered(sampled(back, CHECKED), back, self.query.ground, tolerance / pose.scale).mean()
        return float(2 * there * here / max(there + here, 1e-9))


def some_lines(lines: Linework, most: int) -> Linework:
    """Return at most *most* of *lines*, the same ones each time."""
    if len(lines) <= most:
        return lines
    chosen = np.zeros(len(lines), bool)
    chosen[np.random.default_rng(7).choice(len(lines), most, replace=False)] = True
    return lines.part(chosen)


def _some(values: np.ndarray, most: int) -> np.ndarray:
    if len(values) <= most:
        return values
    return np.asarray(values[np.random.default_rng(7).choice(len(values), most, replace=False)])
