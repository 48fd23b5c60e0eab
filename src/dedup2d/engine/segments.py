"""
A fixed set of drawings with all that finds candidates among them, in memory or mapped from a file.

A mapped one costs no memory of the process's own: its pages belong to the file, and go when others are
needed more. Per feature it takes 21 bytes for half its code, its place, angle and size, and 3 bytes for its
place in each of the tables that it is looked up in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.features import Features
from dedup2d.engine.fingerprint import Fingerprint

__all__ = [
    "DEAD_BITS",
    "MOST_ENTRIES",
    "TABLES",
    "WORD_BITS",
    "Row",
    "Segment",
    "Sizes",
    "halves",
    "key_words",
    "segment_of",
]

TABLES = 3
"""Tables in which each feature stands, under another 32-bit word of its code."""

WORD_BITS = 32
DEAD_BITS = 12
MOST_ENTRIES = 1 << 24
"""What the numbers of a table, of 3 bytes, can tell apart."""

_LEAST_BITS, _MOST_BITS = 6, 22
_PLACES = np.float32(4095)  # along the long side
_ANGLE = np.float32(128 / np.pi)  # steps per radian, as stored fingerprints have it
_SIZE = np.float32(24)  # steps per doubling, as above

Array = npt.NDArray[Any]
Longs = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.intp]


class Row(NamedTuple):
    """A drawing to be held: `change` and `mark` tell this fingerprint of it from an earlier or other one."""

    key: int
    change: int
    mark: int
    fingerprint: Fingerprint


class Sizes(NamedTuple):
    """
    What the shapes of a segment's arrays follow from.

    Each table says where the entries under each value of a word's first `bits` bits start.
    """

    drawings: int
    parts: int
    entries: int
    bits: int

    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of each array, in the order in which a file has them."""
        drawings, parts, entries, bits = self
        return {
            "key": ("<i8", (drawings,)),
            "change": ("<i8", (drawings,)),
            "mark": ("<u4", (drawings,)),
            "first": ("<u4", (drawings + 1,)),
            "side": ("<f4", (drawings,)),
            "says": ("<f4", (drawings,)),
            "hash": ("<u8", (drawings, 4)),
            "part_of": ("<u4", (parts,)),
            "part": ("<u8", (parts, 4)),
            "code": ("<u8", (entries, 2)),
            "spot": ("u1", (entries, 5)),
            "order": ("u1", (TABLES, 3 * entries + 1)),  # numbers of 3 bytes
            "start": ("<u4", (TABLES, (1 << bits) + 1)),
        }


_OF_DRAWINGS = ("key", "change", "mark", "side", "says", "hash")


@frozen(eq=False)
class Spots:
    """Where some entries lie: `place` (x + iy, ink pixels), `angle` (radians), `size` (pixels)."""

    place: npt.NDArray[np.complex64]
    angle: npt.NDArray[np.float32]
    size: npt.NDArray[np.float32]


class Segment:
    """
    Drawings in the order of their keys; only `alive` ever changes.

    `alive` (bool, one per drawing) says which still stand in the catalogue as they are here.
    """

    def __init__(self, arrays: Mapping[str, Array], sizes: Sizes, *, name: str | None = None) -> None:
        self.arrays = arrays
        self.sizes = sizes
        self.name = name
        self.alive = np.ones(sizes.drawings, np.bool_)
        self.keys: Longs = arrays["key"]
        self._dead: tuple[int, list[Longs]] | None = None
        self._order = [_three_bytes(table) for table in arrays["order"]]

    def __len__(self) -> int:
        return self.sizes.drawings

    @property
    def living(self) -> int:
        """How many drawings are alive."""
        return int(np.count_nonzero(self.alive))

    @property
    def living_entries(self) -> int:
        """How many features those have."""
        lengths = np.diff(self.arrays["first"].astype(np.int64))
        return int(lengths[self.alive].sum())

    def number(self, key: int) -> int | None:
        """The number of the drawing under *key*, alive or not."""
        at = int(np.searchsorted(self.keys, key))
        return at if at < len(self) and self.keys[at] == key else None

    def holds(self, key: int) -> bool:
        """Whether the drawing under *key* is here, and alive."""
        at = self.number(key)
        return at is not None and bool(self.alive[at])

    def remove(self, key: int) -> bool:
        """Take the drawing under *key* out; say whether it was there."""
        at = self.number(key)
        if at is None or not self.alive[at]:
            return False
        self.alive[at] = False
        return True

    def revive(self, alive: npt.NDArray[np.bool_]) -> None:
        """Let live these drawings and no others."""
        self.alive[:] = alive
        self._dead = None

    def dead(self, table: int) -> Longs:
        """At most how many of the features under each value of a word's first `DEAD_BITS` are not alive."""
        gone = len(self) - self.living
        if self._dead is None or self._dead[0] != gone:
            drawings = np.flatnonzero(~self.alive)
            first = self.arrays["first"].astype(np.int64)
            entries = _runs(first[drawings], np.diff(first)[drawings])
            codes = self.arrays["code"][entries]
            words = [key_words(codes, number) >> (WORD_BITS - DEAD_BITS) for number in range(TABLES)]
            self._dead = gone, [np.bincount(word, minlength=1 << DEAD_BITS) for word in words]
        return self._dead[1][table]

    def ranges(self, table: int, buckets: Longs) -> tuple[Longs, Longs]:
        """Where the entries under *buckets* of a table start and end."""
        start = self.arrays["start"][table]
        return start[buckets].astype(np.int64), start[buckets + 1].astype(np.int64)

    def entries(self, table: int, at: Longs) -> Longs:
        """The entries that stand at these places of a table."""
        # A damaged file must not bring a search down.
        found = (self._order[table][at] & 0xFFFFFF).astype(np.int64)
        return np.minimum(found, self.sizes.entries - 1)

    def drawing_of(self, entries: Longs) -> Numbers:
        """The numbers of the drawings that these entries belong to."""
        first = self.arrays["first"]
        return np.asarray(np.searchsorted(first, entries.astype(np.uint32), side="right") - 1, np.intp)

    def spots(self, entries: Longs, drawings: Numbers) -> Spots:
        """Where these entries of those drawings lie."""
        spot = self.arrays["spot"][entries].astype(np.uint16)
        step = self.arrays["side"][drawings].astype(np.float32) / _PLACES
        x = (spot[:, 0] | (spot[:, 1] & 15) << 8) * step
        y = (spot[:, 1] >> 4 | spot[:, 2] << 4) * step
        return Spots(
            place=(x + 1j * y).astype(np.complex64),
            angle=(spot[:, 3] / _ANGLE).astype(np.float32),
            size=np.exp2(spot[:, 4] / _SIZE).astype(np.float32),
        )

    def taken(self, numbers: Numbers) -> dict[str, Array]:
        """What is kept of some drawings, in that order, without tables."""
        first = self.arrays["first"].astype(np.int64)
        length = np.diff(first)[numbers]
        entries = _runs(first[numbers], length)
        new = np.full(len(self), -1, np.int64)
        new[numbers] = np.arange(len(numbers))
        part_of = new[self.arrays["part_of"].astype(np.int64)]
        parts = {name: self.arrays[name][numbers] for name in _OF_DRAWINGS}
        parts["part"] = self.arrays["part"][part_of >= 0]
        parts["part_of"] = part_of[part_of >= 0]
        parts["length"] = length
        for name in ("code", "spot"):
            parts[name] = self.arrays[name][entries]
        return parts


def segment_of(rows: Sequence[Row]) -> Segment:
    """A segment in memory."""
    made = [_parts(row) for row in sorted(rows, key=lambda row: row.key)]
    return joined(made)


def joined(parts: Sequence[Mapping[str, Array]]) -> Segment:
    """A segment in memory of what `Segment.taken` gave; no key may come twice."""
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "part_of"}
    before = np.cumsum([0, *(len(part["key"]) for part in parts)])
    whole["part_of"] = np.concatenate(
        [part["part_of"].astype(np.int64) + base for part, base in zip(parts, before[:-1], strict=True)]
    )
    return _tabled(_in_order_of_keys(whole))


def _in_order_of_keys(parts: dict[str, Array]) -> dict[str, Array]:
    order = np.argsort(parts["key"], kind="stable")
    if (order[1:] > order[:-1]).all():
        return parts
    length = parts["length"].astype(np.int64)
    entries = _runs((np.cumsum(length) - length)[order], length[order])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    part_of = place[parts["part_of"].astype(np.int64)]
    by = dict.fromkeys((*_OF_DRAWINGS, "length"), order) | {"code": entries, "spot": entries}
    by["part"] = np.argsort(part_of, kind="stable")
    sorted_parts = {name: parts[name][numbers] for name, numbers in by.items()}
    return {**sorted_parts, "part_of": part_of[by["part"]]}


def _tabled(parts: dict[str, Array]) -> Segment:
    entries = len(parts["code"])
    bits = min(max(entries.bit_length() - 3, _LEAST_BITS), _MOST_BITS)
    sizes = Sizes(len(parts["key"]), len(parts["part"]), entries, bits)
    parts["first"] = np.concatenate([[0], np.cumsum(parts.pop("length"), dtype=np.int64)])
    parts["order"] = np.zeros((TABLES, 3 * entries + 1), np.uint8)
    parts["start"] = np.empty((TABLES, (1 << bits) + 1), np.uint32)
    for table in range(TABLES):
        words = key_words(parts["code"], table)
        # Sorted as one number, as that is several times as fast as sorting by one for the other.
        both = np.sort(words.astype(np.uint64) << 32 | np.arange(entries, dtype=np.uint64))
        parts["order"][table, :-1] = both.view(np.uint8).reshape(entries, 8)[:, :3].ravel()
        keys = (both >> (2 * WORD_BITS - bits)).astype(np.int64)
        counted = np.bincount(keys, minlength=1 << bits)
        parts["start"][table, 0] = 0
        np.cumsum(counted, out=parts["start"][table, 1:])
    shapes = sizes.shapes()
    arrays = {name: np.ascontiguousarray(parts[name], shapes[name][0]) for name in shapes}
    return Segment(arrays, sizes)


def _parts(row: Row) -> dict[str, Array]:
    made, features = row.fingerprint, row.fingerprint.features
    side = max(made.width, made.height)
    return {
        "key": np.array([row.key], np.int64),
        "change": np.array([row.change], np.int64),
        "mark": np.array([row.mark], np.uint32),
        "side": np.array([side], np.float32),
        "says": np.array([made.information], np.float32),
        "hash": np.frombuffer(made.hash, "<u8").reshape(1, 4),
        "part_of": np.zeros(len(made.parts), np.int64),
        "part": np.frombuffer(b"".join(made.parts), "<u8").reshape(-1, 4),
        "length": np.array([len(features)], np.int64),
        "code": halves(features.codes),
        "spot": _spots(features, side),
    }


def _spots(features: Features, side: int) -> npt.NDArray[np.uint8]:
    places = np.clip(np.round(features.places * (_PLACES / np.float32(side))), 0, _PLACES).astype(np.uint32)
    packed = (places[:, 0] | places[:, 1] << 12).astype("<u4")
    spots = np.empty((len(features), 5), np.uint8)
    spots[:, :3] = packed.view(np.uint8).reshape(-1, 4)[:, :3]
    spots[:, 3] = np.round(features.angles * _ANGLE).astype(np.int64) % 256
    spots[:, 4] = np.clip(np.round(np.log2(np.maximum(features.sizes, 1)) * _SIZE), 0, 255)
    return spots


def halves(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """First halves (N, 2) of codes (N, 32): the other halves tell mirrored features, which queries bring."""
    return np.ascontiguousarray(codes[:, :16]).view("<u8")


def key_words(half_codes: Array, table: int) -> npt.NDArray[np.uint32]:
    """The words (N,) of half codes (N, 2) that a table is sorted by."""
    return np.asarray(np.ascontiguousarray(half_codes, "<u8").view("<u4")[:, table], np.uint32)


def _runs(starts: Longs, lengths: Longs) -> Longs:
    """Each start and what follows it, as many numbers as its length says."""
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.repeat(starts - before, lengths) + np.arange(int(lengths.sum())), np.int64)


def _three_bytes(table: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """A view of 3-byte numbers as 4-byte ones, whose highest byte is the next one's lowest."""
    return np.ndarray((len(table) // 3,), "<u4", table, strides=(3,))
