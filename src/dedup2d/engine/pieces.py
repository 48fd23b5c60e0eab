"""
Agreement piece by piece: a revised sheet often shows the same views, each moved by another amount.

Features that agree on turn and scale say by which amounts things moved. Each place of the sheet then takes
the amount by which most of its ink agrees. Chance is to be measured in the same way, as the best of several
agrees more easily than one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.geometry import Matrix, Points, apply, from_complex
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.proposals import feature_pairs
from dedup2d.engine.refine import Stages, refine

__all__ = ["Layers", "moved_pieces", "piecewise"]

_MOST_LAYERS = 4
_LEAST_FEATURES = 8  # that moved by the same amount
_SAME_PLACE = 0.006  # of the sheet
_NEAR = (0.02, 0.15)  # of the sheet: features this far apart tell turn and scale, and lie in one piece
_BIN = 0.01  # of turn and scale
_ALIKE = 0.1  # least of what turn and scale of a pair may be off
_GRID = 12  # pieces along the sheet
_SETTLE: Stages = ((4, 6.0), (4, 4.0), (4, 2.5))

Layers = tuple[Matrix, ...]
"""Placements of the query on the other sheet, of which each holds for some pieces."""

Flags = npt.NDArray[np.bool_]


@frozen(eq=False)
class _Pairs:
    """Features of the query and the other sheet that may be the same, as complex places."""

    own: npt.NDArray[np.intp]
    source: npt.NDArray[np.complex128]
    target: npt.NDArray[np.complex128]

    def only(self, kept: Flags) -> _Pairs:
        return _Pairs(self.own[kept], self.source[kept], self.target[kept])


def moved_pieces(query: Prepared, other: Prepared, matrix: Matrix) -> Layers:
    """`matrix`, and up to four placements of pieces that lie elsewhere; `matrix` alone if there are none."""
    own, source, target, turns = feature_pairs(query.fingerprint.features, other.fingerprint.features)
    middle = complex(matrix[0, 0] + matrix[1, 1], matrix[1, 0] - matrix[0, 1]) / 2
    pairs = _Pairs(own, source, target).only(np.abs(turns / middle - 1) < 0.35)
    linear = _common_turn(pairs, query.side)
    if linear is None or abs(linear / middle - 1) > 2 * _ALIKE:
        return (matrix,)
    layers = [matrix]
    for members in _amounts(pairs, linear, other.side):
        start = from_complex(linear, complex((members.target - linear * members.source).mean()))
        layers.append(refine(_around(query, members), other, other.fine, start, _SETTLE))
    return tuple(layers)


def _common_turn(pairs: _Pairs, side: int) -> complex | None:
    """Turn and scale that most features which lie close together agree on."""
    apart = pairs.source[:, None] - pairs.source
    distance = np.abs(apart)
    near = (distance > _NEAR[0] * side) & (distance < _NEAR[1] * side)
    ratio = (pairs.target[:, None] - pairs.target)[near] / apart[near]
    ratio = ratio[(np.abs(ratio) > 0.15) & (np.abs(ratio) < 7)]
    if len(ratio) < _LEAST_FEATURES:
        return None
    logarithm = np.log(ratio)
    across = np.round(logarithm.real / _BIN).astype(np.int64)
    down = np.round(logarithm.imag / _BIN).astype(np.int64)
    _, place, count = np.unique(across * 10000 + down, return_inverse=True, return_counts=True)
    top = logarithm[place == count.argmax()].mean()
    return complex(np.exp(logarithm[np.abs(logarithm - top) < 1.5 * _BIN].mean()))


def _amounts(pairs: _Pairs, linear: complex, side: int) -> list[_Pairs]:
    """The features that moved by one amount, for the amounts that most moved by."""
    shift = pairs.target - linear * pairs.source
    close = np.abs(shift[:, None] - shift) < _SAME_PLACE * side
    alive = np.ones(len(shift), np.bool_)
    found: list[_Pairs] = []
    while len(found) < _MOST_LAYERS and alive.any():
        row = int(np.count_nonzero(close & alive, axis=1).argmax())
        members = close[row] & alive
        if len(np.unique(pairs.own[members])) < _LEAST_FEATURES:
            break
        found.append(pairs.only(members))
        alive &= ~members
    return found


def _around(query: Prepared, members: _Pairs) -> Points:
    """Places on lines near the features."""
    cells = _cells(query.sample, query.side)
    spots = np.stack([members.source.real, members.source.imag], axis=1).astype(np.float32)
    return query.sample[np.isin(cells, _cells(spots, query.side))]


def _cells(points: Points, side: int) -> npt.NDArray[np.int64]:
    """Number of the piece that each point lies in."""
    spot = (points * np.float32(_GRID / side)).astype(np.int64)
    return np.asarray(spot[:, 1] * (_GRID + 1) + spot[:, 0], np.int64)


def piecewise(own: Prepared, target: Prepared, points: Points, layers: Layers, reach: float) -> Flags:
    """Which `points` of `own` have ink of `target` within `reach` pixels, each piece by its best layer."""
    cells = _cells(points, own.side)
    hits = np.stack([target.near_ink(apply(layer, points), reach) for layer in layers])
    counts = np.stack([np.bincount(cells, weights=row) for row in hits])
    best = counts.argmax(axis=0)
    return np.asarray(hits[best[cells], np.arange(len(points))], np.bool_)
