"""
Counts which of the hits of a query agree on one placement, weighed by how rare they are.

Hits vote for a turn and a scale first, then for a place (Jegou et al., "Hamming embedding and weak geometric
consistency", 2008); a similarity is fitted to those that agree, and what it explains is counted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.features import Features
from dedup2d.engine.postings import Hits, taken

__all__ = ["Agreement", "agreement"]

_ANGLE_BINS = 24
_SCALE_BINS = 24
_SCALE_STEP = 0.25  # doublings per bin
_MOST_TRIED = 48  # hits per slot, the weightiest
_NEAR = 0.02  # of the sheet's side: how far off a hit that agrees may lie
_TURNED = 0.12  # of the distance: what one hit says about others is the less exact the farther off they are
_CELLS = 14  # along the long side
_MOST_PER_CELL = 1.5
_RANDOM_BITS = 23.0  # at this distance a hit counts for a third

_Complex = npt.NDArray[np.complex128]
_Real = npt.NDArray[np.float64]


@frozen(kw_only=True)
class Agreement:
    """
    What agrees on how the query lies on one slot's drawing.

    `weight`: sum of the hits' weights, each 0..1. `count`: how many. `placement`: similarity (9 numbers,
    row by row) from the query's ink pixels to the drawing's. `rarest`: how many drawings have the rarest
    feature that agrees, and where (x, y) it is on the query's ink.
    """

    slot: int
    weight: float
    count: int
    placement: tuple[float, ...]
    rarest: tuple[int, float, float]


@frozen(eq=False)
class _Votes:
    """Hits with what they say, of slots numbered 0, 1, 2...; all but `named` of one length."""

    hits: Hits
    named: npt.NDArray[np.int32]
    slot: npt.NDArray[np.intp]
    weight: _Real
    source: _Complex
    target: _Complex
    linear: _Complex

    def taken(self, which: npt.NDArray[np.intp]) -> _Votes:
        named, slot = np.unique(self.slot[which], return_inverse=True)
        return _Votes(
            hits=taken(self.hits, which),
            named=self.named[named],
            slot=slot,
            weight=self.weight[which],
            source=self.source[which],
            target=self.target[which],
            linear=self.linear[which],
        )

    def total(self, values: npt.NDArray[np.generic]) -> _Real:
        """Sum of `values` by slot."""
        return np.asarray(np.bincount(self.slot, values, len(self.named)), np.float64)


def agreement(
    hits: Hits,
    query: Features,
    sides: npt.NDArray[np.float32],
    drawings: int,
    *,
    mirrored: bool,
    binned: int,
    placed: int,
) -> list[Agreement]:
    """
    How the best-agreeing hits of each slot lie, by slot.

    `binned`: of how many slots hits are binned by turn and scale; `placed`: of how many then tried.
    """
    if not len(hits.slot):
        return []
    frequency = _frequency(hits, len(query))
    votes = _votes(hits, query, _rarity(frequency, drawings), mirrored=mirrored)
    votes = _alike(_heaviest(votes, binned), placed)
    side = sides[votes.named].astype(np.float64)
    factor, shift = _consensus(votes, side)
    for _ in range(2):
        factor, shift = _fitted(votes, factor, shift, side)
    members = np.flatnonzero(_errors(votes, factor, shift, side) < 1)
    weight = _spread_weight(votes, members, side)
    rarest = _rarest(votes, members, frequency)
    count = np.bincount(votes.slot[members], minlength=len(side))
    return [
        Agreement(
            slot=int(votes.named[one]),
            weight=float(weight[one]),
            count=int(count[one]),
            placement=_placement(complex(factor[one]), complex(shift[one]), mirrored=mirrored),
            rarest=(int(frequency[number]), float(query.places[number, 0]), float(query.places[number, 1])),
        )
        for one, number in enumerate(rarest.tolist())
        if number >= 0
    ]


def _frequency(hits: Hits, features: int) -> npt.NDArray[np.int64]:
    """How many drawings have each feature of the query."""
    pairs = np.sort(hits.query.astype(np.int64) << 32 | hits.slot)
    first = np.diff(pairs, prepend=-1) != 0
    return np.asarray(np.bincount(pairs[first] >> 32, minlength=features), np.int64)


def _rarity(frequency: npt.NDArray[np.int64], drawings: int) -> _Real:
    """Weight 0..1 of each feature: the fewer drawings have it, the more it says."""
    weight = np.log((drawings + 1) / np.maximum(frequency, 1)) / np.log(drawings + 1)
    return np.asarray(np.maximum(weight, 0.02), np.float64)


def _votes(hits: Hits, query: Features, rarity: _Real, *, mirrored: bool) -> _Votes:
    """Of each hit: weight, places as complex numbers, and turn and scale as one factor (after the mirror)."""
    named, slot = np.unique(hits.slot, return_inverse=True)
    angles, places = query.angles.astype(np.float64), query.places.astype(np.float64)
    if mirrored:
        angles, places = np.pi - angles, places * (-1, 1)
    turn = hits.angle - angles[hits.query]
    return _Votes(
        hits=hits,
        named=named,
        slot=slot,
        weight=rarity[hits.query] * np.exp(-((hits.distance / _RANDOM_BITS) ** 2)),
        source=(places[:, 0] + 1j * places[:, 1])[hits.query],
        target=hits.place.astype(np.complex128),
        linear=hits.size / query.sizes[hits.query] * np.exp(1j * turn),
    )


def _heaviest(votes: _Votes, most: int) -> _Votes:
    if len(votes.named) <= most:
        return votes
    total = votes.total(votes.weight)
    return votes.taken(np.flatnonzero((total >= _nth_largest(total, most))[votes.slot]))


def _nth_largest(values: _Real, count: int) -> float:
    return float(np.partition(values, -count)[-count]) if len(values) > count else 0.0


def _alike(votes: _Votes, most: int) -> _Votes:
    """The votes whose turn and scale is their slot's commonest, or next to it, of the `most` best slots."""
    turn = (np.angle(votes.linear) / (2 * np.pi) * _ANGLE_BINS).round().astype(np.int64) % _ANGLE_BINS
    size = np.log2(np.abs(votes.linear)) / _SCALE_STEP
    step = np.clip(size.round() + _SCALE_BINS // 2, 1, _SCALE_BINS - 2).astype(np.int64)
    cell = (votes.slot * _ANGLE_BINS + turn) * _SCALE_BINS + step
    slots = len(votes.named)
    table = np.bincount(cell, votes.weight, slots * _ANGLE_BINS * _SCALE_BINS)
    table = table.reshape(slots, _ANGLE_BINS, _SCALE_BINS)
    table = table + np.roll(table, 1, axis=1) + np.roll(table, -1, axis=1)
    table[:, :, 1:-1] += table[:, :, :-2] + table[:, :, 2:]
    flat = table.reshape(slots, -1)
    best = flat.argmax(axis=1)
    top = flat[np.arange(slots), best]
    good = top >= _nth_largest(top, most)
    apart = np.abs(turn - (best // _SCALE_BINS)[votes.slot])
    apart = np.minimum(apart, _ANGLE_BINS - apart)
    near = (apart <= 2) & (np.abs(step - (best % _SCALE_BINS)[votes.slot]) <= 2) & good[votes.slot]
    return votes.taken(np.flatnonzero(near))


def _consensus(votes: _Votes, side: _Real) -> tuple[_Complex, _Complex]:
    """Factor and shift of each slot: those of the vote that most weight agrees with."""
    order = np.lexsort((votes.hits.query, -votes.weight, votes.slot))
    slot = votes.slot[order]
    rank = np.arange(len(order)) - np.searchsorted(slot, slot)
    tried = order[rank < _MOST_TRIED]
    rank = rank[rank < _MOST_TRIED]
    table = np.full((len(votes.named), int(rank.max(initial=0)) + 1), -1, np.intp)
    table[votes.slot[tried], rank] = tried
    source, target, linear = votes.source[table], votes.target[table], votes.linear[table]
    weight = np.where(table >= 0, votes.weight[table], 0)
    offset = linear[:, :, None] * (source[:, None] - source[:, :, None])
    error = np.abs(target[:, None] - target[:, :, None] - offset)
    agree = error < _NEAR * side[:, None, None] + _TURNED * np.abs(offset)
    support = np.where(table >= 0, np.einsum("sij,sj->si", agree, weight), -1)
    best = table[np.arange(len(table)), support.argmax(axis=1)]
    factor = votes.linear[best]
    members = _near(votes, factor, votes.target[best] - factor * votes.source[best], side, best)
    return _least_squares(votes, members, factor)


def _near(
    votes: _Votes, factor: _Complex, shift: _Complex, side: _Real, best: npt.NDArray[np.intp]
) -> npt.NDArray[np.bool_]:
    """The votes that agree with the vote `best` of their slot."""
    offset = np.abs(factor[votes.slot] * (votes.source - votes.source[best][votes.slot]))
    error = np.abs(factor[votes.slot] * votes.source + shift[votes.slot] - votes.target)
    return np.asarray(error < _NEAR * side[votes.slot] + _TURNED * offset, np.bool_)


def _fitted(votes: _Votes, factor: _Complex, shift: _Complex, side: _Real) -> tuple[_Complex, _Complex]:
    members = _errors(votes, factor, shift, side) < 1
    return _least_squares(votes, np.asarray(members, np.bool_), factor)


def _errors(votes: _Votes, factor: _Complex, shift: _Complex, side: _Real) -> _Real:
    """How far each vote is off, 1 being the most that agrees."""
    error = np.abs(factor[votes.slot] * votes.source + shift[votes.slot] - votes.target)
    return np.asarray(error / (_NEAR * side[votes.slot]), np.float64)


def _least_squares(
    votes: _Votes, members: npt.NDArray[np.bool_], factor: _Complex
) -> tuple[_Complex, _Complex]:
    """Similarity of each slot through its `members`; where they are too few, with `factor` as it is."""
    weight = np.where(members, votes.weight, 0.0)
    total = np.maximum(votes.total(weight), 1e-12)
    source, target = (_mean(votes, values, weight, total) for values in (votes.source, votes.target))
    away = votes.source - source[votes.slot]
    aim = votes.target - target[votes.slot]
    spread = votes.total(weight * np.abs(away) ** 2)
    product = weight * np.conj(away) * aim
    fitted = (votes.total(product.real) + 1j * votes.total(product.imag)) / np.maximum(spread, 1e-9)
    enough = (votes.total(members) >= 3) & (spread > 1e-6) & (np.abs(fitted) > 1e-3)
    factor = np.where(enough, fitted, factor)
    return factor, target - factor * source


def _mean(votes: _Votes, values: _Complex, weight: _Real, total: _Real) -> _Complex:
    product = values * weight
    return np.asarray((votes.total(product.real) + 1j * votes.total(product.imag)) / total, np.complex128)


def _rarest(
    votes: _Votes, members: npt.NDArray[np.intp], frequency: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """Number of the query's rarest feature among the `members` of each slot, -1 where there are none."""
    number = votes.hits.query[members]
    rarest = np.full(len(votes.named), -1, np.intp)
    order = np.lexsort((-number, -frequency[number]))
    rarest[votes.slot[members][order]] = number[order]  # the last one written stands
    return rarest


def _spread_weight(votes: _Votes, members: npt.NDArray[np.intp], side: _Real) -> _Real:
    """
    Sum of weights by slot, but each feature of the query counts once, and one place of the sheet only so
    much: a shared word is no match.
    """
    order = members[np.lexsort((-votes.weight[members], votes.hits.query[members], votes.slot[members]))]
    pair = votes.slot[order] * (1 << 20) + votes.hits.query[order]
    order = order[np.diff(pair, prepend=-1) != 0]
    slot = votes.slot[order]
    cell = votes.target[order] * (_CELLS / side[slot])
    spot = (slot * 4096 + np.clip(cell.real, 0, 63).astype(np.int64) * 64) + np.clip(cell.imag, 0, 63).astype(
        np.int64
    )
    cells = np.bincount(spot, votes.weight[order], len(side) * 4096)
    return np.asarray(np.minimum(cells, _MOST_PER_CELL).reshape(len(side), -1).sum(axis=1), np.float64)


def _placement(factor: complex, shift: complex, *, mirrored: bool) -> tuple[float, ...]:
    flip = -1.0 if mirrored else 1.0
    return (
        *(factor.real * flip, -factor.imag, shift.real),
        *(factor.imag * flip, factor.real, shift.imag),
        *(0.0, 0.0, 1.0),
    )
