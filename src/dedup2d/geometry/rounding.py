"""Arcs and circles that were written as chords, found again."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dedup2d.geometry.linework import FULL_TURN, Floats, Ints, Linework, hashed

__all__ = ["groups", "merged", "with_arcs", "with_whole_lines"]

MIN_CHORDS = 5
MAX_STEP = math.radians(46)
MIN_STEP = math.radians(0.05)


def point_numbers(ends: Floats, grid: float) -> Ints:
    """Number *ends* (K, 2) so that those in one place, within *grid*, mostly share a number."""
    cells = np.round(ends / grid).astype(np.int64)
    return np.unique(hashed(cells), return_inverse=True)[1].reshape(-1)


def groups(lines: Linework, tolerance: float) -> Ints:
    """Number the segments of *lines* so that those that hang together at their ends share a number."""
    numbers = point_numbers(lines.segments.reshape(-1, 2), max(tolerance, 1e-12) * 2).reshape(-1, 2)
    count = int(numbers.max(initial=-1)) + 1
    graph = coo_matrix((np.ones(len(numbers), np.int8), (numbers[:, 0], numbers[:, 1])), (count, count))
    label = connected_components(graph, directed=False)[1]
    return np.asarray(label[numbers[:, 0]], np.int64)


def with_whole_lines(lines: Linework, tolerance: float) -> Linework:
    """
    Return *lines* with straight lines put together that were split, where nothing else ends at the split.

    A whole line counts as its longest piece's.
    """
    count = len(lines.segments)
    if count < 2:
        return lines
    one, two, cross, dot, lengths = _corners(lines.segments, tolerance)
    straight = (dot < 0) & (cross <= tolerance * np.maximum(lengths[one], lengths[two]))
    straight &= ~lines.curved[one] & ~lines.curved[two] & (one != two)
    links = coo_matrix(
        (np.ones(int(straight.sum()), np.int8), (one[straight], two[straight])), (count, count)
    )
    total, label = connected_components(links, directed=False)
    if total == count:
        return lines
    vectors = lines.segments[:, 2:] - lines.segments[:, :2]
    whole, lead, bent = _spans(lines.segments, vectors, np.asarray(label, np.int64))
    good = bent <= tolerance
    kept = np.flatnonzero(~good[label])
    return Linework(
        np.concatenate([lines.segments[kept], whole[good]]),
        np.concatenate([lines.segment_source[kept], lines.segment_source[lead[good]]]),
        np.concatenate([lines.curved[kept], lines.curved[lead[good]]]),
        lines.arcs,
        lines.arc_source,
    )


def _corners(segments: Floats, tolerance: float) -> tuple[Ints, Ints, Floats, Floats, Floats]:
    """Return pairs of segments alone at a common end, the cross and dot product there, and all lengths."""
    numbers = point_numbers(segments.reshape(-1, 2), max(tolerance, 1e-12) * 2)
    degree = np.bincount(numbers)
    order = np.argsort(numbers, kind="stable")
    at = order[degree[numbers[order]] == 2].reshape(-1, 2)
    one, two = at[:, 0] // 2, at[:, 1] // 2
    vectors = segments[:, 2:] - segments[:, :2]
    # Both directions away from the common end: a straight run has them opposite.
    away_one = vectors[one] * np.where(at[:, 0] % 2 == 0, 1.0, -1.0)[:, None]
    away_two = vectors[two] * np.where(at[:, 1] % 2 == 0, 1.0, -1.0)[:, None]
    cross = np.abs(away_one[:, 0] * away_two[:, 1] - away_one[:, 1] * away_two[:, 0])
    dot = (away_one * away_two).sum(axis=1)
    return one, two, cross, dot, np.hypot(vectors[:, 0], vectors[:, 1])


def with_arcs(lines: Linework, tolerance: float) -> Linework:
    """Return *lines* with runs of chords that lie on one circle, within *tolerance*, as arcs."""
    count = len(lines.segments)
    if count < MIN_CHORDS:
        return lines
    run = _runs(lines.segments, tolerance)
    sizes = np.bincount(run)
    candidates = np.flatnonzero(sizes >= MIN_CHORDS)
    if not len(candidates):
        return lines
    number = np.full(len(sizes), -1)
    number[candidates] = np.arange(len(candidates))
    mine = np.flatnonzero(number[run] >= 0)
    order = mine[np.argsort(number[run[mine]], kind="stable")]
    group = number[run[order]]
    arcs, good = _fitted(lines.segments[order], group, tolerance)
    replaced = np.zeros(count, bool)
    replaced[order[good[group]]] = True
    first = order[np.searchsorted(group, np.flatnonzero(good))]
    keep = ~replaced
    return Linework(
        lines.segments[keep],
        lines.segment_source[keep],
        lines.curved[keep],
        np.concatenate([lines.arcs, arcs[good]]),
        np.concatenate([lines.arc_source, lines.segment_source[first]]),
    )


def _runs(segments: Floats, tolerance: float) -> Ints:
    """Number the runs: chords alone at their common end, alike in length, slightly turned."""
    count = len(segments)
    one, two, cross, dot, lengths = _corners(segments, tolerance)
    turn = np.arctan2(cross, -dot)
    alike = np.abs(lengths[one] - lengths[two]) <= 0.02 * lengths[one] + 3 * tolerance
    linked = alike & (one != two) & (turn > MIN_STEP) & (turn < MAX_STEP)
    links = coo_matrix((np.ones(int(linked.sum()), np.int8), (one[linked], two[linked])), (count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _fitted(chords: Floats, group: Ints, tolerance: float) -> tuple[Floats, np.ndarray]:
    """Fit a circle to each group of *chords* (sorted by group): arcs (G, 5), and which of them fit."""
    starts = np.flatnonzero(np.append(True, np.diff(group) > 0))
    sizes = np.diff(np.append(starts, len(group)))
    points = chords.reshape(-1, 2, 2)
    mean = np.add.reduceat(points.mean(axis=1), starts) / sizes[:, None]
    local = points - mean[group][:, None, :]
    spread = np.maximum(np.maximum.reduceat(np.abs(local).max(axis=(1, 2)), starts), 1e-300)
    local = local / spread[group][:, None, None]
    centre, radius = _circles(local, starts, sizes)
    away = np.hypot(*(local - centre[group][:, None, :]).transpose(2, 0, 1))
    off = np.maximum.reduceat(np.abs(away - radius[group][:, None]).max(axis=1), starts)
    lengths = np.hypot(*(local[:, 1] - local[:, 0]).T)
    steps = 2 * np.arcsin(np.clip(lengths / 2 / np.maximum(radius[group], 1e-300), 0, 1))
    sweep = np.add.reduceat(steps, starts)
    good = (
        np.isfinite(radius)
        & (off * spread <= np.maximum(2 * tolerance, 2e-5 * radius * spread))
        & (sweep < FULL_TURN * 1.001)
        & (sweep > math.radians(20))
    )
    start = _starts(local, centre, group, starts, sweep)
    whole = sweep > FULL_TURN * 0.999
    arcs = np.column_stack(
        [
            centre * spread[:, None] + mean,
            radius * spread,
            np.where(whole, 0.0, start),
            np.where(whole, FULL_TURN, sweep),
        ]
    )
    return arcs, good


def _circles(local: Floats, starts: Ints, sizes: Ints) -> tuple[Floats, Floats]:
    """Least squares of x^2 + y^2 = 2 a x + 2 b y + c for each group."""
    xy = local.reshape(-1, 2)
    row = np.column_stack([2 * xy, np.ones(len(xy))])
    square = (xy**2).sum(axis=1)
    normal = np.add.reduceat(row[:, :, None] * row[:, None, :], starts * 2)
    right = np.add.reduceat(row * square[:, None], starts * 2)
    normal = normal + np.eye(3) * 1e-13 * sizes[:, None, None]
    found = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    radius = np.sqrt(np.maximum(found[:, 2] + found[:, 0] ** 2 + found[:, 1] ** 2, 0))
    return found[:, :2], radius


def _starts(local: Floats, centre: Floats, group: Ints, starts: Ints, sweep: Floats) -> Floats:
    """Return the angle from which each arc runs counter-clockwise: half its sweep before its middle."""
    chord_middle = local.mean(axis=1) - centre[group]
    unit = chord_middle / np.maximum(np.hypot(*chord_middle.T), 1e-300)[:, None]
    total = np.add.reduceat(unit, starts)
    middle = np.arctan2(total[:, 1], total[:, 0])
    # Past a half turn and more the sum still points to the middle, as long as a gap is left.
    return np.asarray(middle - sweep / 2)


def merged(segments: Floats, tolerance: float) -> Floats:
    """Return *segments* with pieces that go on straight at a common end put together."""
    count = len(segments)
    if count < 2:
        return segments
    numbers = point_numbers(segments.reshape(-1, 2), max(tolerance, 1e-12) * 2)
    vectors = segments[:, 2:] - segments[:, :2]
    angle = np.arctan2(vectors[:, 1], vectors[:, 0]) % math.pi
    links = []
    for shift in (0.0, 0.5):
        cell = np.floor(angle / 2e-3 + shift).astype(np.int64) % math.floor(math.pi / 2e-3)
        key = np.stack([numbers, np.repeat(cell, 2)], axis=1)
        order = np.lexsort((key[:, 1], key[:, 0]))
        same = np.all(key[order[1:]] == key[order[:-1]], axis=1)
        links.append(np.stack([order[:-1][same] // 2, order[1:][same] // 2]))
    one, two = np.concatenate(links, axis=1)
    graph = coo_matrix((np.ones(len(one), np.int8), (one, two)), (count, count))
    total, label = connected_components(graph, directed=False)
    if total == count:
        return segments
    return _spans(segments, vectors, np.asarray(label, np.int64))[0]


def _spans(segments: Floats, vectors: Floats, label: Ints) -> tuple[Floats, Ints, Floats]:
    """
    Return for each group the segment from its first to its last point along its longest member.

    Also that member's position, and how far off the segment its points are.
    """
    order = np.lexsort((-np.hypot(vectors[:, 0], vectors[:, 1]), label))
    group = label[order]
    starts = np.flatnonzero(np.append(True, np.diff(group) > 0))
    lead = order[starts]
    along = vectors[lead] / np.hypot(*vectors[lead].T)[:, None]
    base = segments[lead, :2]
    offset = segments[order].reshape(-1, 2, 2) - base[group][:, None, :]
    reach = (offset * along[group][:, None, :]).sum(axis=2)
    side = np.abs(offset[:, :, 0] * along[group][:, None, 1] - offset[:, :, 1] * along[group][:, None, 0])
    low = np.minimum.reduceat(reach.min(axis=1), starts)
    high = np.maximum.reduceat(reach.max(axis=1), starts)
    whole = np.concatenate([base + along * low[:, None], base + along * high[:, None]], axis=1)
    return whole, lead, np.maximum.reduceat(side.max(axis=1), starts)
