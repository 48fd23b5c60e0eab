"""Inverted lists from parts of a feature's code to the features that have it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.features import Features

__all__ = ["Hits", "Postings", "taken"]

_TABLES = 6  # each keyed by another part of the code
_LEAST_BITS, _MOST_BITS = 16, 22  # of a key
_ROOMY = 1 << 20  # entries that the least bits do for
_FARTHEST = 30  # bits of the 128 kept here
_MOST_ENTRIES = 1000  # per key: what more features share says nothing
# packed to 26 bytes: half the code (the other half tells mirrored features, which queries bring), place and
# angle as stored fingerprints have them
_ENTRY = np.dtype(
    [("slot", "<i4"), ("x", "<u2"), ("y", "<u2"), ("angle", "u1"), ("size", "u1"), ("code", "<u8", (2,))]
)
_PLACE = np.float32(8)  # steps per pixel
_ANGLE = np.float32(128 / np.pi)  # steps per radian
_SIZE = np.float32(24)  # steps per doubling


@frozen(eq=False)
class Hits:
    """
    Pairs of a query's feature and a near stored one; arrays of one length.

    `query`: number of the query's feature. `slot`, `place` (x + iy), `angle`, `size`: of the stored one.
    `distance`: bits that differ.
    """

    query: npt.NDArray[np.intp]
    slot: npt.NDArray[np.int32]
    place: npt.NDArray[np.complex64]
    angle: npt.NDArray[np.float32]
    size: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32]


class _Segment:
    """A fixed set of entries with its sorted tables."""

    def __init__(self, entries: npt.NDArray[np.void], bits: int) -> None:
        self.entries = entries
        self.bits = bits
        keys = _keys(entries["code"], bits)
        self.orders = np.empty((_TABLES, len(entries)), np.int32)
        self.starts = np.empty((_TABLES, (1 << bits) + 1), np.int32)
        for table in range(_TABLES):
            column = keys[:, table]
            self.orders[table] = np.argsort(column, kind="stable")
            self.starts[table, 0] = 0
            np.cumsum(np.bincount(column, minlength=1 << bits), out=self.starts[table, 1:])

    def near(self, codes: npt.NDArray[np.uint64]) -> Hits:
        """Stored features within `_FARTHEST` bits of the query's, each pair once."""
        keys = _keys(codes, self.bits)
        return _joined([self._near_by(table, keys, codes) for table in range(_TABLES)])

    def _near_by(self, table: int, keys: npt.NDArray[np.uint32], codes: npt.NDArray[np.uint64]) -> Hits:
        query, number = self._under(table, keys[:, table].astype(np.intp))
        apart = codes[query] ^ self.entries["code"][number]
        distance = np.bitwise_count(apart).sum(axis=1)
        good = distance <= _FARTHEST
        # a pair that shares the key of an earlier table was found there
        query, number, distance, apart = query[good], number[good], distance[good], apart[good]
        fresh = (_keys(apart, self.bits)[:, :table] != 0).all(axis=1)
        query, number, distance = query[fresh], number[fresh], distance[fresh]
        entries = self.entries[number]
        return Hits(
            query=query,
            slot=entries["slot"].copy(),
            place=((entries["x"] + 1j * entries["y"].astype(np.float32)) / _PLACE).astype(np.complex64),
            angle=(entries["angle"] / _ANGLE).astype(np.float32),
            size=np.exp2(entries["size"] / _SIZE).astype(np.float32),
            distance=distance.astype(np.float32),
        )

    def _under(
        self, table: int, column: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
        """Numbers of the query's features and of the entries that share their key in one table."""
        start = self.starts[table][column]
        length = self.starts[table][column + 1] - start
        length = np.where(length > _MOST_ENTRIES, 0, length)
        query = np.repeat(np.arange(len(column)), length)
        within = np.arange(len(query)) - np.repeat(np.cumsum(length) - length, length)
        return query, self.orders[table][np.repeat(start, length) + within]


class Postings:
    """
    Entries in a large sorted segment and a small one that is rebuilt after additions.

    Adding is amortised: the large segment is rebuilt when the small one reaches a quarter of it. Keys
    get a bit longer each time the entries double, so that the lists under them stay short; what is
    found depends on the entries alone, not on the order in which they came.
    """

    def __init__(self) -> None:
        self._large = _Segment(np.empty(0, _ENTRY), _LEAST_BITS)
        self._small: _Segment | None = None
        self._fresh: list[npt.NDArray[np.void]] = []
        self._sizes: dict[int, int] = {}
        self._dead: set[int] = set()
        self._live = 0

    def add(self, slot: int, features: Features) -> None:
        self._fresh.append(_entries(slot, features))
        self._small = None
        self._sizes[slot] = len(features)
        self._live += len(features)

    def remove(self, slot: int) -> None:
        self._dead.add(slot)
        self._live -= self._sizes.pop(slot)

    def rename(self, renamed: npt.NDArray[np.int32]) -> None:
        """Give each slot its new number; entries whose number is -1 go."""
        entries = np.concatenate([self._large.entries, *self._fresh])
        entries["slot"] = renamed[entries["slot"]]
        self._large = _Segment(entries[entries["slot"] >= 0], self._bits())
        self._sizes = {int(renamed[slot]): size for slot, size in self._sizes.items()}
        self._fresh, self._small = [], None
        self._dead.clear()

    def near(self, codes: npt.NDArray[np.uint8]) -> Hits:
        """The stored features near each of `codes` (N, 32)."""
        halves = _halves(codes)
        hits = _joined([segment.near(halves) for segment in self._segments()])
        if not self._dead:
            return hits
        return taken(hits, ~np.isin(hits.slot, list(self._dead)))

    def _bits(self) -> int:
        doublings = (self._live // _ROOMY).bit_length()
        return min(_LEAST_BITS + doublings, _MOST_BITS)

    def _segments(self) -> list[_Segment]:
        bits = self._bits()
        if self._large.bits != bits or 4 * sum(map(len, self._fresh)) > len(self._large.entries):
            self._large = _Segment(np.concatenate([self._large.entries, *self._fresh]), bits)
            self._fresh, self._small = [], None
        elif self._fresh and self._small is None:
            self._fresh = [np.concatenate(self._fresh)]
            self._small = _Segment(self._fresh[0], bits)
        return [self._large] if self._small is None else [self._large, self._small]


def _entries(slot: int, features: Features) -> npt.NDArray[np.void]:
    entries = np.empty(len(features), _ENTRY)
    entries["slot"] = slot
    places = np.clip(np.round(features.places * _PLACE), 0, 65535)
    entries["x"], entries["y"] = places[:, 0], places[:, 1]
    entries["angle"] = np.round(features.angles * _ANGLE).astype(np.int64) % 256
    entries["size"] = np.clip(np.round(np.log2(np.maximum(features.sizes, 1)) * _SIZE), 0, 255)
    entries["code"] = _halves(features.codes)
    return entries


def _halves(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """First halves (N, 2) of codes (N, 32)."""
    return np.ascontiguousarray(codes[:, :16]).view(np.uint64)


def _keys(codes: npt.NDArray[np.uint64], bits: int) -> npt.NDArray[np.uint32]:
    """Keys (N, `_TABLES`) of `bits` bits: a 16-bit word of the halves, and what it takes of the next word."""
    words = np.ascontiguousarray(codes).view(np.uint16).reshape(len(codes), 8)
    first, second = words[:, :_TABLES].astype(np.uint32), words[:, 1 : _TABLES + 1]
    return np.asarray((first << 16 | second) >> (32 - bits), np.uint32)


def _joined(parts: list[Hits]) -> Hits:
    names = ("query", "slot", "place", "angle", "size", "distance")
    return Hits(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def taken(hits: Hits, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Hits:
    names = ("query", "slot", "place", "angle", "size", "distance")
    return Hits(**{name: getattr(hits, name)[which] for name in names})
