"""
Looks up the features of a query in the tables of segments.

A table is sorted by a word of the code, so that features that share the first bits of it lie together.
Each word is looked up as it is and with each of its first bits turned (Lv et al., "Multi-probe LSH", 2007),
which finds in three tables what needs a dozen otherwise. What is found depends on the living drawings
alone: not on how they are spread over segments, nor on those that were removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.segments import DEAD_BITS, TABLES, WORD_BITS, Longs, Numbers, Segment, key_words

__all__ = ["Hits", "look_up", "taken"]

_COARSE = 16  # first bits of a word, by which it is told how common a feature is
_MOST_BITS = 26  # of a word that count
_ROOMY = 1 << 20  # features that the coarse bits do for
_AT_ONCE = 1 << 18  # entries that are compared in one go, about 20 MB
_FARTHEST = 26  # bits of the 128 kept
# Under one coarse key, in an index of up to `_ROOMY` features: what more features share says little. More may
# share a word as it is, as a drawing has the copies that it has.
_MOST_AS_IS, _MOST_TURNED = 64, 20

Codes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


@frozen(eq=False)
class Hits:
    """
    Pairs of a query's feature and a near stored one; arrays of one length, by query, then by drawing.

    `query`: number of the query's feature. `slot`: number of the drawing; `place` (x + iy), `angle`,
    `size`: of the stored feature. `distance`: bits that differ.
    """

    query: npt.NDArray[np.intp]
    slot: npt.NDArray[np.int32]
    place: npt.NDArray[np.complex64]
    angle: npt.NDArray[np.float32]
    size: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32]


def look_up(segments: Sequence[Segment], codes: Codes, crowd: int = 1) -> Hits:
    """
    The living features within `_FARTHEST` bits of each of `codes` (N, 2) that share a key with it.

    Keys that too many share are passed over; `crowd` times as many are not too many.
    """
    entries = sum(one.living_entries for one in segments)
    bits = min(_COARSE + 1 + (entries // _ROOMY).bit_length(), _MOST_BITS)
    found = [_Found(codes, one, bits) for one in segments if len(one)]
    for table in range(TABLES):
        words = key_words(codes, table)
        wanted = _uncrowded(found, table, words, crowd * max(1.0, entries / _ROOMY))
        for one in found:
            one.look(table, words, wanted)
    bases = np.cumsum([0, *(len(one) for one in segments if len(one))])
    parts = [one.hits(int(base)) for one, base in zip(found, bases[:-1], strict=True)]
    return _by_query(_joined(parts)) if parts else _joined([])


class _Found:
    """What is found in one segment so far."""

    def __init__(self, codes: Codes, segment: Segment, bits: int) -> None:
        self.codes = codes
        self.segment = segment
        self.bits = bits
        self.whole = bool(segment.alive.all())
        self._pairs: list[npt.NDArray[np.uint64]] = []

    def lengths(self, table: int, keys: Longs) -> tuple[Longs, Longs]:
        """At most and at least how many living features are under coarse *keys*."""
        start, end = self._ranges(table, keys, _COARSE)
        most = end - start
        if self.segment.sizes.bits < _COARSE:
            return most, np.zeros_like(most)
        if self.whole:
            return most, most
        return most, most - self.segment.dead(table)[keys >> (_COARSE - DEAD_BITS)]

    def count(self, table: int, keys: Longs) -> Longs:
        """Exactly how many living features are under coarse *keys*."""
        start, end = self._ranges(table, keys, _COARSE)
        which, entries = self._entries(table, start, end - start)
        words = key_words(_rows(self.segment.arrays["code"], entries), table)
        good = (words >> (WORD_BITS - _COARSE)) == keys[which]
        good &= self.segment.alive[self.segment.drawing_of(entries)]
        return np.bincount(which[good], minlength=len(keys))

    def look(self, table: int, words: npt.NDArray[np.uint32], wanted: Flags) -> None:
        """Take the near features under the *wanted* coarse keys (N, 1 + `_COARSE`) of *words*."""
        coarse = min(self.segment.sizes.bits, self.bits)
        query, flip = np.nonzero(_spread(wanted, coarse))
        start, end = self._ranges(table, _keys(words, coarse)[query, flip], coarse)
        for some in _portions(end - start):
            which, entries = self._entries(table, start[some], (end - start)[some])
            self._take_near(table, wanted, query[some][which], entries)

    def _take_near(self, table: int, wanted: Flags, query: Longs, entries: Longs) -> None:
        apart = _rows(self.segment.arrays["code"], entries) ^ _rows(self.codes, query)
        ones = np.bitwise_count(apart)
        distance = ones[:, 0] + ones[:, 1]
        near = np.flatnonzero(distance <= _FARTHEST)
        near = near[self._under(key_words(_rows(apart, near), table), wanted, query[near])]
        self._pairs.append(
            query[near].astype(np.uint64) << 40 | entries[near].astype(np.uint64) << 8 | distance[near]
        )

    def hits(self, base: int) -> Hits:
        """Everything found, each pair once; *base* is added to the numbers of drawings."""
        pairs = np.sort(np.concatenate([np.empty(0, np.uint64), *self._pairs]))
        pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=pairs[:1] + 1))]
        entries = (pairs >> 8 & 0xFFFFFFFF).astype(np.int64)
        drawings = self.segment.drawing_of(entries)
        if not self.whole:
            alive = self.segment.alive[drawings]
            pairs, entries, drawings = pairs[alive], entries[alive], drawings[alive]
        spots = self.segment.spots(entries, drawings)
        return Hits(
            query=(pairs >> 40).astype(np.intp),
            slot=(drawings + base).astype(np.int32),
            place=spots.place,
            angle=spots.angle,
            size=spots.size,
            distance=(pairs & 0xFF).astype(np.float32),
        )

    def _ranges(self, table: int, keys: Longs, bits: int) -> tuple[Longs, Longs]:
        """Where the list of each key starts and ends; of a coarse table, the list that it is in."""
        deeper = self.segment.sizes.bits - bits
        if deeper <= 0:
            return self.segment.ranges(table, keys >> -deeper)
        start, _ = self.segment.ranges(table, keys << deeper)
        _, end = self.segment.ranges(table, ((keys + 1) << deeper) - 1)
        return start, end

    def _entries(self, table: int, start: Longs, length: Longs) -> tuple[Longs, Longs]:
        which = np.repeat(np.arange(len(start)), length)
        before = np.cumsum(length) - length
        at = np.arange(len(which)) + np.repeat(start - before, length)
        return which, self.segment.entries(table, at)

    def _under(self, apart: npt.NDArray[np.uint32], wanted: Flags, query: Longs) -> Numbers:
        """Which of some pairs differ in one of the first bits at most, and share a wanted key."""
        first = (apart >> (WORD_BITS - self.bits)).astype(np.int64)
        ones = np.bitwise_count(first)
        flip = np.where(ones == 0, 0, self.bits - np.log2(np.maximum(first, 1)).astype(np.int64))
        known = np.where(flip <= _COARSE, flip, 0)
        return np.flatnonzero((ones <= 1) & wanted[query, known])


def _portions(lengths: Longs) -> list[slice]:
    """Runs of lists that have about `_AT_ONCE` entries together, so that memory is bounded."""
    before = (np.cumsum(lengths) - lengths) // _AT_ONCE
    starts = np.flatnonzero(np.diff(before, prepend=-1))
    return [slice(int(a), int(b)) for a, b in pairwise([*starts, len(lengths)])]


def _spread(wanted: Flags, bits: int) -> Flags:
    """Wanted coarse keys as wanted keys (N, 1 + bits) of another length, which hold them all."""
    if bits > _COARSE:
        finer = np.repeat(wanted[:, :1], bits - _COARSE, axis=1)
        return np.concatenate([wanted, finer], axis=1)
    first = wanted[:, : bits + 1].copy()
    # turning a bit that the table does not see leads to the same list
    first[:, 0] |= wanted[:, bits + 1 :].any(axis=1)
    return first


def _rows(codes: Codes, numbers: Numbers) -> Codes:
    """Some rows of codes (N, 2), taken as one number each, which is several times as fast."""
    found = np.take(codes.view(np.complex128)[:, 0], numbers)
    return found.view(np.uint64).reshape(len(numbers), 2)


def _keys(words: npt.NDArray[np.uint32], bits: int) -> Longs:
    """Keys (N, 1 + bits): the first bits of each word as they are, and with one turned, from the top."""
    keys = (words >> (WORD_BITS - bits)).astype(np.int64)
    flips = np.concatenate([[0], 1 << np.arange(bits)[::-1]])
    return np.asarray(keys[:, None] ^ flips, np.int64)


def _uncrowded(found: Sequence[_Found], table: int, words: npt.NDArray[np.uint32], growth: float) -> Flags:
    """Which coarse keys (N, 1 + `_COARSE`) have few enough living features in all segments together."""
    keys = _keys(words, _COARSE)
    allowed = np.full(keys.shape, int(_MOST_TURNED * growth))
    allowed[:, 0] = int(_MOST_AS_IS * growth)
    most, least = np.zeros(keys.shape, np.int64), np.zeros(keys.shape, np.int64)
    for one in found:
        upper, lower = one.lengths(table, keys)
        most += upper
        least += lower
    doubtful = np.nonzero((most > allowed) & (least <= allowed))
    if len(doubtful[0]):
        several = keys[doubtful]
        most[doubtful] = sum(one.count(table, several) for one in found)
    return np.asarray((most > 0) & (most <= allowed), np.bool_)


def _by_query(hits: Hits) -> Hits:
    """In an order that does not depend on which segment a drawing is in, but for that of drawings."""
    return taken(hits, np.argsort(hits.query, kind="stable"))


def _joined(parts: list[Hits]) -> Hits:
    empty = Hits(*(np.empty(0, kind) for kind in (np.intp, np.int32, np.complex64, *[np.float32] * 3)))
    names = ("query", "slot", "place", "angle", "size", "distance")
    return Hits(**{name: np.concatenate([getattr(part, name) for part in [empty, *parts]]) for name in names})


def taken(hits: Hits, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Hits:
    """Some of the hits."""
    names = ("query", "slot", "place", "angle", "size", "distance")
    return Hits(**{name: getattr(hits, name)[which] for name in names})
