"""What the search keeps of one sheet: hashes, features and layout, with a compact stored form."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from dedup2d.engine.clean import Picture, clean, encode_ink, ink_box
from dedup2d.engine.features import CODE_BYTES, MAX_FEATURES, Features, extract_features
from dedup2d.engine.layout import Box, Layout, find_layout
from dedup2d.engine.phash import HASH_BYTES, hashed

__all__ = ["FINGERPRINT_VERSION", "MAX_PARTS", "Fingerprint", "fingerprint", "fingerprint_ink"]

FINGERPRINT_VERSION: Final = 3
"""Raised whenever fingerprints of two versions must not be compared."""

MAX_PARTS = 8
"""Parts of a sheet that have a hash of their own."""

_HEADER = struct.Struct("<4sHHHHHHHHfBBBB")
_MAGIC = b"d2fp"
_MOST_NOTES = 16
_TELLING = 0.25  # information below which a part has no hash
_FEATURE = np.dtype([("x", "<u2"), ("y", "<u2"), ("angle", "u1"), ("size", "u1")])
_PLACE_STEP = 1 / 16
_SIZE_STEPS = 24.0  # per doubling


@frozen(eq=False)
class Fingerprint:
    """
    Everything that a search needs of one sheet except its ink picture.

    `width`, `height`: pixels of the ink picture. `box`: (x, y, width, height) of its ink. `hash`: L1
    hash (32 bytes). `information`: 0 (blank or frame only, then L1 has no say) to 1.
    `features`: see `Features`. `layout`: see `Layout`, at most 16 notes. `parts`: L1 hashes, at most
    `MAX_PARTS`, of all views together and of each that says something by itself. At most 16.2 kB stored.
    """

    width: int
    height: int
    box: Box
    hash: bytes
    information: float
    features: Features
    layout: Layout = field(factory=Layout)
    parts: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """Stored form: the same on every machine, without pickle."""
        count, layout = len(self.features), self.layout
        named = (layout.frame, layout.title_block, layout.revision_table)
        notes = layout.notes[:_MOST_NOTES]
        head = _HEADER.pack(
            _MAGIC,
            FINGERPRINT_VERSION,
            count,
            self.width,
            self.height,
            *self.box,
            self.information,
            sum(1 << bit for bit, box in enumerate(named) if box is not None),
            len(notes),
            len(layout.views),
            len(self.parts),
        )
        boxes = np.array([*filter(None, named), *notes, *layout.views], "<u2")
        table = _packed(self.features)
        arrays = (boxes.tobytes(), table.tobytes(), self.features.codes.tobytes())
        return b"".join((head, self.hash, *self.parts, *arrays))

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """
        The fingerprint that `to_bytes` stored.

        Raises:
            ValueError: the bytes are damaged or of another `FINGERPRINT_VERSION`.
        """
        _, _, count, width, height, *box, score, named, notes, views, parts = _checked(data)
        start = _HEADER.size
        hashes = tuple(data[start + HASH_BYTES * i :][:HASH_BYTES] for i in range(1 + parts))
        start += HASH_BYTES * len(hashes)
        boxes = np.frombuffer(data, "<u2", 4 * (named.bit_count() + notes + views), start)
        start += boxes.nbytes
        table = np.frombuffer(data, _FEATURE, count, start)
        codes = np.frombuffer(data, np.uint8, count * CODE_BYTES, start + table.nbytes)
        x, y, box_width, box_height = box
        return cls(
            width=width,
            height=height,
            box=(x, y, box_width, box_height),
            hash=hashes[0],
            information=score,
            features=_unpacked(table, codes.reshape(count, CODE_BYTES)),
            layout=_layout(boxes.reshape(-1, 4), named, notes),
            parts=hashes[1:],
        )


def fingerprint(raster: npt.NDArray[np.generic]) -> tuple[Fingerprint, bytes]:
    """
    Fingerprint of a grey raster, and its ink picture as `encode_ink` gives it.

    About 100 ms for 2000 x 1400 on one core.

    Raises:
        ValueError: the raster is not uint8 (H, W) with pixels in it.
    """
    ink = clean(raster)
    return fingerprint_ink(ink), encode_ink(ink)


def fingerprint_ink(ink: Picture) -> Fingerprint:
    """Fingerprint of an ink picture."""
    layout = find_layout(ink)
    code, information = hashed(ink)
    made = Fingerprint(
        width=ink.shape[1],
        height=ink.shape[0],
        box=ink_box(ink),
        hash=code,
        information=float(np.float32(information)),
        features=extract_features(ink, layout),
        layout=layout,
        parts=_part_hashes(ink, layout),
    )
    # quantised here, so that a fresh fingerprint and a stored one answer alike
    return Fingerprint.from_bytes(made.to_bytes())


def _part_hashes(ink: Picture, layout: Layout) -> tuple[bytes, ...]:
    """Hashes of what all views cover and of the largest views, of each picture once."""
    if not layout.views:
        return ()
    boxes = np.array(layout.views)
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(axis=0).tolist()
    hashes = []
    for x, y, width, height in ((left, top, right - left, bottom - top), *layout.views):
        code, information = hashed(ink[y : y + height, x : x + width], _TELLING)
        if information >= _TELLING:
            hashes.append(code)
    return tuple(dict.fromkeys(hashes))[:MAX_PARTS]


def _checked(data: bytes) -> tuple[int, ...]:
    """The header's fields, after a check that the rest is there."""
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise ValueError("the stored fingerprint is damaged: index the drawing again")
    fields = _HEADER.unpack_from(data)
    version, count = fields[1:3]
    if version != FINGERPRINT_VERSION:
        raise ValueError(
            f"the stored fingerprint has version {version}, this program uses {FINGERPRINT_VERSION}:"
            " rebuild the index"
        )
    named, notes, views, parts = fields[-4:]
    expected = _HEADER.size + HASH_BYTES * (1 + parts) + 8 * (named.bit_count() + notes + views)
    expected += count * (_FEATURE.itemsize + CODE_BYTES)
    if count > MAX_FEATURES or parts > MAX_PARTS or named > 7 or len(data) != expected:
        raise ValueError("the stored fingerprint is damaged: index the drawing again")
    return fields


def _layout(boxes: npt.NDArray[np.uint16], named: int, notes: int) -> Layout:
    rest = iter([(int(x), int(y), int(width), int(height)) for x, y, width, height in boxes])
    frame, title_block, revision_table = (next(rest) if named >> bit & 1 else None for bit in range(3))
    all_others = tuple(rest)
    return Layout(frame, title_block, revision_table, all_others[:notes], all_others[notes:])


def _packed(features: Features) -> npt.NDArray[np.void]:
    table = np.empty(len(features), _FEATURE)
    places = np.clip(np.round(features.places / _PLACE_STEP), 0, 65535)
    table["x"], table["y"] = places[:, 0], places[:, 1]
    table["angle"] = np.round(features.angles * (128 / np.pi)).astype(np.int64) % 256
    table["size"] = np.clip(np.round(np.log2(np.maximum(features.sizes, 1)) * _SIZE_STEPS), 0, 255)
    return table


def _unpacked(table: npt.NDArray[np.void], codes: npt.NDArray[np.uint8]) -> Features:
    places = np.stack([table["x"], table["y"]], axis=1).astype(np.float32) * np.float32(_PLACE_STEP)
    return Features(
        places=places,
        angles=(table["angle"] * np.float32(np.pi / 128)).astype(np.float32),
        sizes=np.exp2(table["size"] / np.float32(_SIZE_STEPS)).astype(np.float32),
        codes=codes,
    )
