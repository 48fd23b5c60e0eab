"""
Dashed lines and circles, put together from their dashes, which programs begin in different places.

Short open lines are chained where one goes on as another ended; what of a chain lies on one straight line
or one circle is that line or arc. All in pixels, y down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

__all__ = ["DASH", "DASH_GAP", "LEAST_RADIUS", "Dashed", "dashed"]

DASH, DASH_GAP = 80.0, 14.0
"""Pieces at most this long and this far apart, in pixels, are one dashed line."""

LEAST_RADIUS = 16.0
"""Pixels: a smaller circle of dashes may be a letter."""

_LEAST_DASH = 0.5  # shorter ones are dots: they have no direction
_LEAST_DASHES = 3
_OPEN = 0.94  # from end to end, of a dash's length: it turns by 70 degrees at most
_TURN = np.cos(np.radians(65))  # from dash to dash
_TURN_GAP = np.cos(np.radians(35))  # from dash to gap
_TOUCH = 0.5  # shorter gaps are none
_NEAR = 6  # ends that are looked at around each
_LEAST_LENGTH = 24.0  # pixels: what is shorter may be a letter
_MOST_TRIED = 100  # dashes of a chain that is no line or circle as a whole, to look for some in it
_OFF, _OFF_ROUND = 0.3, 0.002  # pixels, and of the radius: how far the ends of chords may lie off
_OFF_CHORD = 1.0  # pixels: and their middles, as far as programs leave a circle
_LEAST_SWEEP = np.radians(12)
_MOST_RADIUS = 4000.0
_LEVEL = 0.5  # pixels: level and upright dashes are joined by their rows, few ones too

_Numbers = npt.NDArray[np.float64]
_Indices = npt.NDArray[np.int64]
_Line = npt.NDArray[np.float64]


class Dashed(NamedTuple):
    """Lines (N, 4) and arcs (M, 5) that dashes make, and which of the polylines were such dashes."""

    segments: _Numbers
    arcs: _Numbers
    used: npt.NDArray[np.bool_]


class _Dash(NamedTuple):
    """A dash, and the polylines it is made of: some programs write each chord of it alone."""

    points: _Line
    made_of: list[int]


def dashed(lines: Sequence[npt.NDArray[np.float32]]) -> Dashed:
    """Find what dashes of `lines`, each (N, 2) with N > 1, make."""
    used = np.zeros(len(lines), bool)
    found: dict[int, list[_Numbers]] = {4: [], 5: []}
    pieces = [_Dash(lines[one].astype(np.float64), [one]) for one in _short(lines, DASH)]
    whole = [_joined(chain) for chain in _chains(pieces, _TOUCH)]
    # where a circle begins and ends two dashes may touch
    dashes = [whole[one] for one in _short([dash.points for dash in whole], 2 * DASH)]
    for chain in _chains(dashes, DASH_GAP):
        for first, last, made in _parts([dash.points for dash in chain]):
            used[[one for dash in chain[first:last] for one in dash.made_of]] = True
            found[len(made)].append(made)
    return Dashed(np.array(found[4]).reshape(-1, 4), np.array(found[5]).reshape(-1, 5), used)


def _short(lines: Sequence[npt.NDArray[np.floating[Any]]], most: float) -> list[int]:
    """Which of `lines` are no longer than `most` and hardly turn."""
    if not lines:
        return []
    points = np.concatenate(lines)
    starts = np.cumsum([0] + [len(line) for line in lines])
    steps = np.append(np.hypot(*np.diff(points, axis=0).T), 0)
    steps[starts[1:] - 1] = 0
    length = np.add.reduceat(steps, starts[:-1])
    across = np.hypot(*(points[starts[1:] - 1] - points[starts[:-1]]).T)
    fits = (length >= _LEAST_DASH) & (length <= most) & (across >= _OPEN * length)
    return np.flatnonzero(fits).tolist()


def _joined(chain: Sequence[_Dash]) -> _Dash:
    """One dash of those that touch."""
    if len(chain) == 1:
        return chain[0]
    return _Dash(
        np.concatenate([dash.points for dash in chain]), [one for dash in chain for one in dash.made_of]
    )


def _chains(dashes: Sequence[_Dash], gap: float) -> Iterator[list[_Dash]]:
    """Chains of dashes, each turned so that it begins near the end of the one before; some are alone."""
    if not dashes:
        return
    # ends 2 n and 2 n + 1 are the first and the last point of dash n
    partner = _partners(np.array([(dash.points[0], dash.points[-1]) for dash in dashes]), gap)
    seen = np.zeros(len(dashes), bool)
    # what has no head is a ring, and may be entered anywhere
    for head in (*np.flatnonzero(partner < 0).tolist(), *range(0, len(partner), 2)):
        chain, end = [], head
        while end >= 0 and not seen[end // 2]:
            seen[end // 2] = True
            dash = dashes[end // 2]
            chain.append(_Dash(dash.points[::-1], dash.made_of) if end % 2 else dash)
            end = int(partner[end ^ 1])
        if chain:
            yield chain


def _partners(ends: _Numbers, reach: float) -> _Indices:
    """The end that each end goes on at, -1 where none does: both must be the best for each other."""
    way = ends[:, 1] - ends[:, 0]
    length = np.hypot(*way.T)
    way /= length[:, None]
    places = ends.reshape(-1, 2)
    out = np.stack([-way, way], axis=1).reshape(-1, 2)
    near, found = cKDTree(places).query(places, k=_NEAR, distance_upper_bound=reach)
    own = np.repeat(np.arange(len(places)), near.shape[1])
    other, gap = found.reshape(-1), near.reshape(-1)
    known = other < len(places)
    known[known] = own[known] // 2 != other[known] // 2
    own, other, gap = own[known], other[known], gap[known]
    across = places[other] - places[own]
    on = -(out[own] * out[other]).sum(axis=1)
    leaves = (out[own] * across).sum(axis=1)
    enters = -(out[other] * across).sum(axis=1)
    longer = np.maximum(length[own // 2], length[other // 2])
    fits = (
        (on >= _TURN)
        & (gap <= np.maximum(longer, _TOUCH))
        & ((gap < _TOUCH) | (np.minimum(leaves, enters) >= _TURN_GAP * gap))
    )
    own, other, cost = own[fits], other[fits], (gap + reach * (1 - on))[fits]
    best = np.full(len(places), -1)
    order = np.lexsort((other, cost))[::-1]  # the cheapest is written last
    best[own[order]] = other[order]
    mutual = best >= 0
    mutual[mutual] = best[best[mutual]] == np.flatnonzero(mutual)
    return np.where(mutual, best, -1)


def _parts(dashes: Sequence[_Line]) -> Iterator[tuple[int, int, _Numbers]]:
    """Runs of dashes, first and one past the last, that make a line or an arc, and this."""
    whole = _made(dashes) if len(dashes) >= _LEAST_DASHES else None
    if whole is not None:
        yield 0, len(dashes), whole
        return
    first = 0
    while first + _LEAST_DASHES <= len(dashes) <= _MOST_TRIED:
        last, made = first + _LEAST_DASHES, _made(dashes[first : first + _LEAST_DASHES])
        if made is None:
            first += 1
            continue
        while last < len(dashes) and (more := _made(dashes[first : last + 1])) is not None:
            last, made = last + 1, more
        yield first, last, made
        first = last


def _made(dashes: Sequence[_Line]) -> _Numbers | None:
    """The straight line (4) or the arc (5) that all of the dashes lie on."""
    points = np.concatenate(dashes)
    if np.abs(points[1:] - points[:-1]).sum() < _LEAST_LENGTH:
        return None
    way = points[-1] - points[0]
    length = float(np.hypot(*way))
    if length > DASH_GAP and np.abs(way).min() > _LEVEL:
        apart = points - points[0]
        off = np.abs(apart[:, 0] * way[1] - apart[:, 1] * way[0]) / length
        if off.max() < _OFF:
            return np.concatenate([points[0], points[-1]])
    return _arc(points, np.concatenate([(dash[1:] + dash[:-1]) / 2 for dash in dashes]))


def _arc(points: _Line, middles: _Line) -> _Numbers | None:
    """The arc through points in their order (Kasa, 1976), if it passes the middles of their chords."""
    middle = points.mean(axis=0)
    apart = points - middle
    square = (apart * apart).sum(axis=1)
    (xx, xy), (_, yy) = apart.T @ apart
    xz, yz = apart.T @ square
    scale = 2 * max(xx * yy - xy * xy, 1e-12)
    centre = np.array([xz * yy - yz * xy, yz * xx - xz * xy]) / scale
    radius = float(np.sqrt(centre @ centre + square.mean()))
    if not LEAST_RADIUS < radius < _MOST_RADIUS:
        return None
    spokes = apart - centre
    if np.abs(np.hypot(*spokes.T) - radius).max() > _OFF + _OFF_ROUND * radius:
        return None
    if np.abs(np.hypot(*(middles - middle - centre).T) - radius).max() > _OFF_CHORD:
        return None
    angles = np.unwrap(np.arctan2(spokes[:, 1], spokes[:, 0]))
    low, sweep = angles.min(), np.ptp(angles)
    if sweep < _LEAST_SWEEP:
        return None
    if (2 * np.pi - sweep) * radius <= DASH_GAP:
        sweep = 2 * np.pi
    return np.array([*(middle + centre), radius, low % (2 * np.pi), sweep])
