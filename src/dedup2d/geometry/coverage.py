"""How much of one drawing's line work lies on another's, in the same coordinates."""

from __future__ import annotations

import math

import numpy as np
from attrs import frozen
from scipy.spatial import cKDTree

from dedup2d.geometry.linework import Floats, Ints, Linework, tree_of

__all__ = ["SAMPLE_POINTS", "Ground", "Samples", "covered", "ground", "points_for", "sampled"]

GROUND_POINTS = (4_000, 30, 60_000)
SAMPLE_POINTS = (1_500, 12, 60_000)
"""Points on all line work: at least, for each segment or arc, at most."""
NEIGHBOURS = 6
NEIGHBOURS_IN_CROWDS = 64
"""Asked where the first are all of other lines, as in hatches and along lines that lie close together."""
AT_ONCE = 5_000
"""Neighbours looked at in one go: of few points each call costs time, of many the numbers cost memory."""
STRANGERS_MISS = 0.8
"""Share of points that have no partner in a stranger, however many neighbours are asked."""
MAX_SLACK = 50
"""Tolerances that a chord may lie off the curve it stands for."""
CROSSING = 0.4  # sine of the angle from which a line crosses rather than follows another


@frozen(eq=False)
class Samples:
    """Points (K, 2) on line work, the direction there (K, 2), and the segment or arc each is on (K,)."""

    points: Floats
    directions: Floats
    owner: Ints


@frozen(eq=False)
class Ground:
    """Line work to be covered by, with what finds the nearest of it."""

    lines: Linework
    tree: cKDTree
    owner: Ints
    spacing: float


def points_for(lines: Linework, bounds: tuple[int, int, int]) -> int:
    """Return how many points to take on *lines* within *bounds*."""
    least, each, most = bounds
    return max(least, min(each * len(lines), most))


def sampled(lines: Linework, wanted: int, least: int = 3) -> Samples:
    """
    Return about *wanted* points, evenly along *lines*, ends included.

    There are at least *least* on each, and on an arc one for each eighth of a turn.
    """
    lengths = lines.lengths
    spacing = max(float(lengths.sum()) / max(1, wanted), 1e-300)
    counts = np.clip(np.ceil(lengths / spacing).astype(np.int64) + 1, least, 2_000)
    eighths = np.ceil(lines.arcs[:, 4] / (math.pi / 4) - 1e-9).astype(np.int64)
    counts[len(lines.segments) :] = np.maximum(counts[len(lines.segments) :], eighths + 1)
    owner = np.repeat(np.arange(len(lengths)), counts)
    first = np.cumsum(counts) - counts
    along = (np.arange(len(owner)) - first[owner]) / (counts[owner] - 1)
    straight = len(lines.segments)
    return _at(lines, owner, along, straight)


def _at(lines: Linework, owner: Ints, along: Floats, straight: int) -> Samples:
    points, directions = np.empty((len(owner), 2)), np.empty((len(owner), 2))
    on_line = owner < straight
    segment = lines.segments[owner[on_line]]
    vector = segment[:, 2:] - segment[:, :2]
    points[on_line] = segment[:, :2] + vector * along[on_line, None]
    directions[on_line] = vector / np.maximum(np.hypot(vector[:, 0], vector[:, 1]), 1e-300)[:, None]
    arc = lines.arcs[owner[~on_line] - straight]
    angle = arc[:, 3] + arc[:, 4] * along[~on_line]
    cos, sin = np.cos(angle), np.sin(angle)
    points[~on_line] = arc[:, :2] + arc[:, 2:3] * np.column_stack([cos, sin])
    directions[~on_line] = np.column_stack([-sin, cos])
    return Samples(points, directions, owner)


def ground(lines: Linework) -> Ground:
    """Prepare *lines*, which must not be empty, to be looked up."""
    samples = sampled(lines, points_for(lines, GROUND_POINTS), least=2)
    spacing = float(lines.lengths.sum()) / max(1, len(samples.owner))
    return Ground(lines, tree_of(_keys(samples, spacing)), samples.owner, spacing)


def _keys(samples: Samples, spacing: float) -> Floats:
    """Place and, for a line is hard to find by place alone where many cross, twice the direction's angle."""
    x, y = samples.directions[:, 0], samples.directions[:, 1]
    return np.column_stack([samples.points, spacing * (x * x - y * y), spacing * 2 * x * y])


def covered(
    samples: Samples, lines: Linework, on: Ground, tolerance: float, *, in_crowds: bool = False
) -> np.ndarray:
    """
    Return for each of the *samples* of *lines* whether *on* has a line there that runs alike.

    Chords lie off the arc that they stand for by their height: that is allowed where their ends are on it.
    With *in_crowds* lines that lie closer together than the points of *on* are told apart too; that takes
    longer, and is not tried for strangers.
    """
    found = np.zeros(len(samples.owner), bool)
    everything = np.arange(len(found))
    _look(samples, lines, on, tolerance, todo=everything, neighbours=NEIGHBOURS, found=found)
    left = np.flatnonzero(~found)
    if in_crowds and 0 < len(left) <= STRANGERS_MISS * len(found):
        _look(samples, lines, on, tolerance, todo=left, neighbours=NEIGHBOURS_IN_CROWDS, found=found)
    return found


def _look(
    samples: Samples,
    lines: Linework,
    on: Ground,
    tolerance: float,
    *,
    todo: Ints,
    neighbours: int,
    found: np.ndarray,
) -> None:
    """Mark in *found* those of *todo* that lie on the line of one of their nearest neighbours."""
    k = min(neighbours, len(on.owner))
    # What is further away than the points of the ground are apart, turned by a crossing, is not followed.
    reach = 1.2 * on.spacing + (MAX_SLACK + 2) * tolerance
    _, near = on.tree.query(_keys(samples, on.spacing)[todo], k=k, distance_upper_bound=reach)
    near = near.reshape(len(todo), k)
    # The ends of lines, where the nearest may belong to another, make the further neighbours worth asking.
    column = 0
    while column < k and len(unsure := np.flatnonzero(~found[todo])):
        several = max(1, AT_ONCE // len(unsure)) if column else 1
        asked = near[unsure, column : column + several]
        row, place = np.nonzero(asked < len(on.owner))
        which, owner = todo[unsure[row]], on.owner[asked[row, place]]
        hit = _lies_on(samples, lines, on.lines, which=which, owner=owner, tolerance=tolerance)
        found[which[hit]] = True
        column += several


def _lies_on(
    samples: Samples, lines: Linework, others: Linework, *, which: Ints, owner: Ints, tolerance: float
) -> np.ndarray:
    points, directions = samples.points[which], samples.directions[which]
    mine = samples.owner[which]
    straight, own_straight = len(others.segments), len(lines.segments)
    on_line = owner < straight
    distance = np.empty(len(which))
    sine = np.empty(len(which))
    allowed = np.full(len(which), tolerance)
    segment = others.segments[owner[on_line]]
    distance[on_line], sine[on_line] = _to_segments(points[on_line], directions[on_line], segment)
    arc = others.arcs[owner[~on_line] - straight]
    distance[~on_line], sine[~on_line] = _to_arcs(points[~on_line], directions[~on_line], arc, tolerance)
    own_on_line = mine < own_straight
    chord = ~on_line & own_on_line
    allowed[chord] += _height(lines.segments[mine[chord]], others.arcs[owner[chord] - straight], tolerance)
    arched = on_line & ~own_on_line
    allowed[arched] += _height(
        others.segments[owner[arched]], lines.arcs[mine[arched] - own_straight], tolerance
    )
    allowed += _curve_slack(lines, others, mine, owner, tolerance)
    return np.asarray((distance <= allowed) & (sine <= CROSSING))


def _curve_slack(lines: Linework, others: Linework, mine: Ints, owner: Ints, tolerance: float) -> Floats:
    """Pieces of free curves are chords of unknown height: allow what a chord of ten degrees has."""
    own_straight, straight = len(lines.segments), len(others.segments)
    slack = np.zeros(len(mine))
    both = (mine < own_straight) & (owner < straight)
    a, b = mine[both], owner[both]
    curved = lines.curved[a] | others.curved[b]
    one, two = lines.segments[a], others.segments[b]
    longest = np.maximum(
        np.hypot(one[:, 2] - one[:, 0], one[:, 3] - one[:, 1]),
        np.hypot(two[:, 2] - two[:, 0], two[:, 3] - two[:, 1]),
    )
    slack[both] = np.where(curved, np.minimum(longest / 40, MAX_SLACK * tolerance), 0.0)
    mixed = ~both & (
        ((mine < own_straight) & lines.curved[np.minimum(mine, own_straight - 1)] if own_straight else False)
        | ((owner < straight) & others.curved[np.minimum(owner, straight - 1)] if straight else False)
    )
    slack[mixed] = 10 * tolerance
    return slack


def _to_segments(points: Floats, directions: Floats, segments: Floats) -> tuple[Floats, Floats]:
    vector = segments[:, 2:] - segments[:, :2]
    square = np.maximum((vector**2).sum(axis=1), 1e-300)
    offset = points - segments[:, :2]
    along = np.clip((offset * vector).sum(axis=1) / square, 0, 1)
    gap = offset - vector * along[:, None]
    cross = directions[:, 0] * vector[:, 1] - directions[:, 1] * vector[:, 0]
    return np.hypot(gap[:, 0], gap[:, 1]), np.abs(cross) / np.sqrt(square)


def _to_arcs(points: Floats, directions: Floats, arcs: Floats, tolerance: float) -> tuple[Floats, Floats]:
    offset = points - arcs[:, :2]
    away = np.maximum(np.hypot(offset[:, 0], offset[:, 1]), 1e-300)
    turn = 2 * math.pi
    slack = tolerance / np.maximum(arcs[:, 2], 1e-300)
    past = (np.arctan2(offset[:, 1], offset[:, 0]) - arcs[:, 3] + slack) % turn
    inside = past <= arcs[:, 4] + 2 * slack
    distance = np.where(inside, np.abs(away - arcs[:, 2]), np.inf)
    dot = (directions * offset).sum(axis=1) / away
    return distance, np.abs(dot)


def _height(chords: Floats, arcs: Floats, tolerance: float) -> Floats:
    """Return the height of *chords* over their *arcs*, 0 where their ends are not on it."""
    centre, radius = arcs[:, :2], arcs[:, 2]
    start = np.abs(np.hypot(*(chords[:, :2] - centre).T) - radius)
    end = np.abs(np.hypot(*(chords[:, 2:] - centre).T) - radius)
    length = np.hypot(chords[:, 2] - chords[:, 0], chords[:, 3] - chords[:, 1])
    height = radius - np.sqrt(np.maximum(radius**2 - length**2 / 4, 0))
    fits = (start <= 2 * tolerance) & (end <= 2 * tolerance) & (length <= 0.8 * radius)
    return np.where(fits, height, 0.0)
