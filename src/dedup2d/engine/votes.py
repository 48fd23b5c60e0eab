"""Counts which of the hits of a query agree on one placement, weighed by how rare they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup2d.engine.features import Features
from dedup2d.engine.postings import Hits, taken

__all__ = ["agreement"]

_ANGLE_BINS = 24
_SCALE_BINS = 24
_SCALE_STEP = 0.25  # doublings per bin
_MOST_SLOTS = 400  # whose hits are binned by turn and scale
_MOST_PLACED = 100  # whose hits are then tried as placements
_MOST_HITS = 80  # per slot, the weightiest
_CELLS = 14  # along the long side
_MOST_PER_CELL = 1.5


def agreement(
    hits: Hits, query: Features, sides: npt.NDArray[np.float32], drawings: int, *, mirrored: bool
) -> list[tuple[int, float, int]]:
    """
    (slot, weight, count) of the best-agreeing hits of the slots that have such.

    First by turn and scale alone, for the slots with most weight, then by place too: each hit is a
    whole placement, tried on the others of its slot.
    """
    if not len(hits.slot):
        return []
    weight = _rarity(hits, len(query), drawings) * np.exp(-((hits.distance / 23.0) ** 2))
    hits, weight = _heaviest(hits, weight, _MOST_SLOTS)
    linear = _linear(hits, query, mirrored=mirrored)
    hits, weight, linear = _alike(hits, weight, linear)
    return _placed(hits, weight, linear, _source(hits, query, mirrored=mirrored), sides)


def _rarity(hits: Hits, features: int, drawings: int) -> npt.NDArray[np.float64]:
    """Weight 0..1 of each hit: the fewer drawings have the feature, the more it says."""
    pairs = np.sort(hits.query.astype(np.int64) << 32 | hits.slot)
    first = np.diff(pairs, prepend=-1) != 0
    frequency = np.bincount(pairs[first] >> 32, minlength=features)
    weight = np.log((drawings + 1) / np.maximum(frequency, 1)) / np.log(drawings + 1)
    return np.asarray(np.maximum(weight, 0.02))[hits.query]


def _heaviest(hits: Hits, weight: npt.NDArray[np.float64], most: int) -> tuple[Hits, npt.NDArray[np.float64]]:
    total = np.bincount(hits.slot, weights=weight)
    if np.count_nonzero(total) <= most:
        return hits, weight
    kept = total >= np.partition(total, -most)[-most]
    which = np.flatnonzero(kept[hits.slot])
    return taken(hits, which), weight[which]


def _linear(hits: Hits, query: Features, *, mirrored: bool) -> npt.NDArray[np.complex128]:
    """Turn and scale of each hit as one complex factor (after the mirror)."""
    angle = query.angles[hits.query].astype(np.float64)
    turn = hits.angle - (np.pi - angle if mirrored else angle)
    return np.asarray(hits.size / query.sizes[hits.query] * np.exp(1j * turn), np.complex128)


def _source(hits: Hits, query: Features, *, mirrored: bool) -> npt.NDArray[np.complex128]:
    places = query.places[hits.query].astype(np.float64)
    return np.asarray((-places[:, 0] if mirrored else places[:, 0]) + 1j * places[:, 1], np.complex128)


def _alike(
    hits: Hits, weight: npt.NDArray[np.float64], linear: npt.NDArray[np.complex128]
) -> tuple[Hits, npt.NDArray[np.float64], npt.NDArray[np.complex128]]:
    """The hits whose turn and scale is their slot's commonest, or next to it, of the best slots."""
    named, slot = np.unique(hits.slot, return_inverse=True)
    turn = (np.angle(linear) / (2 * np.pi) * _ANGLE_BINS).round().astype(np.int64) % _ANGLE_BINS
    size = np.log2(np.abs(linear)) / _SCALE_STEP
    step = np.clip(size.round() + _SCALE_BINS // 2, 1, _SCALE_BINS - 2).astype(np.int64)
    shape = (len(named), _ANGLE_BINS, _SCALE_BINS)
    cell = (slot * _ANGLE_BINS + turn) * _SCALE_BINS + step
    table = np.bincount(cell, weights=weight, minlength=len(named) * _ANGLE_BINS * _SCALE_BINS)
    table = table.reshape(shape)
    table = table + np.roll(table, 1, axis=1) + np.roll(table, -1, axis=1)
    table[:, :, 1:-1] += table[:, :, :-2] + table[:, :, 2:]
    flat = table.reshape(len(named), -1)
    best = flat.argmax(axis=1)
    top = flat[np.arange(len(named)), best]
    good = top >= (np.partition(top, -_MOST_PLACED)[-_MOST_PLACED] if len(top) > _MOST_PLACED else 0)
    apart = np.abs(turn - (best // _SCALE_BINS)[slot])
    apart = np.minimum(apart, _ANGLE_BINS - apart)
    near = (apart <= 2) & (np.abs(step - (best % _SCALE_BINS)[slot]) <= 2) & good[slot]
    which = np.flatnonzero(near)
    return taken(hits, which), weight[which], linear[which]


def _placed(
    hits: Hits,
    weight: npt.NDArray[np.float64],
    linear: npt.NDArray[np.complex128],
    source: npt.NDArray[np.complex128],
    sides: npt.NDArray[np.float32],
) -> list[tuple[int, float, int]]:
    """Tries each hit of a slot as the placement of the others."""
    if not len(hits.slot):
        return []
    order = np.lexsort((-weight, hits.slot))
    named, start, count = np.unique(hits.slot[order], return_index=True, return_counts=True)
    found = []
    for slot, begin, length in zip(named.tolist(), start.tolist(), count.tolist(), strict=True):
        own = order[begin : begin + min(length, _MOST_HITS)]
        side = float(sides[slot])
        target = hits.place[own].astype(np.complex128)
        members = _consensus(source[own], target, linear[own], weight[own], side)
        for _ in range(2):
            members = _fitting(source[own], target, members, side)
        found.append((slot, _spread_weight(target[members], weight[own][members], side), int(members.sum())))
    return found


def _consensus(
    source: npt.NDArray[np.complex128],
    target: npt.NDArray[np.complex128],
    linear: npt.NDArray[np.complex128],
    weight: npt.NDArray[np.float64],
    side: float,
) -> npt.NDArray[np.bool_]:
    """The hits that agree with the one that most weight agrees with."""
    # what one hit says about the place of another is the less exact the farther off it is
    offset = linear[:, None] * (source[None] - source[:, None])
    error = np.abs(target[None] - target[:, None] - offset)
    agree = error < 0.02 * side + 0.12 * np.abs(offset)
    return np.asarray(agree[int((agree @ weight).argmax())], np.bool_)


def _fitting(
    source: npt.NDArray[np.complex128],
    target: npt.NDArray[np.complex128],
    members: npt.NDArray[np.bool_],
    side: float,
) -> npt.NDArray[np.bool_]:
    """The hits that lie where the least-squares similarity of `members` puts them."""
    if members.sum() < 3:
        return members
    own, aim = source[members], target[members]
    away = own - own.mean()
    factor = (np.conj(away) * (aim - aim.mean())).sum() / max(float((np.abs(away) ** 2).sum()), 1e-9)
    error = np.abs(aim.mean() + factor * (source - own.mean()) - target)
    return np.asarray(error < 0.02 * side, np.bool_)


def _spread_weight(place: npt.NDArray[np.complex128], weight: npt.NDArray[np.float64], side: float) -> float:
    """Sum of weights, but one place of the sheet counts only so much: a shared word is no match."""
    cell = side / _CELLS
    spot = (place.real // cell).astype(np.int64) * 1000 + (place.imag // cell).astype(np.int64)
    _, member = np.unique(spot, return_inverse=True)
    return float(np.minimum(np.bincount(member, weights=weight), _MOST_PER_CELL).sum())
