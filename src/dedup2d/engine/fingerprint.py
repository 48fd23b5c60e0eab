"""What the search keeps of one sheet: hashes and features, with a compact stored form."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.clean import Picture, clean, encode_ink, ink_box
from dedup2d.engine.features import CODE_BYTES, MAX_FEATURES, Features, extract_features
from dedup2d.engine.phash import HASH_BYTES, information, perceptual_hash

__all__ = ["FINGERPRINT_VERSION", "Fingerprint", "fingerprint", "fingerprint_ink"]

FINGERPRINT_VERSION: Final = 2
"""Raised whenever fingerprints of two versions must not be compared."""

_HEADER = struct.Struct("<4sHHHHHHHHf")
_MAGIC = b"d2fp"
_FEATURE = np.dtype([("x", "<u2"), ("y", "<u2"), ("angle", "u1"), ("size", "u1")])
_PLACE_STEP = 1 / 16
_SIZE_STEPS = 24.0  # per doubling


@frozen(eq=False)
class Fingerprint:
    """
    Everything that a search needs of one sheet except its ink picture.

    `width`, `height`: pixels of the ink picture. `box`: (x, y, width, height) of its ink. `hash`: L1
    hash (32 bytes). `information`: 0 (blank or frame only, then L1 has no say) to 1.
    `features`: see `Features`. At most 15.3 kB stored.
    """

    width: int
    height: int
    box: tuple[int, int, int, int]
    hash: bytes
    information: float
    features: Features

    def to_bytes(self) -> bytes:
        """Stored form: the same on every machine, without pickle."""
        count = len(self.features)
        head = _HEADER.pack(
            _MAGIC, FINGERPRINT_VERSION, count, self.width, self.height, *self.box, self.information
        )
        return head + self.hash + _packed(self.features).tobytes() + self.features.codes.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """
        The fingerprint that `to_bytes` stored.

        Raises:
            ValueError: the bytes are damaged or of another `FINGERPRINT_VERSION`.
        """
        count = _checked_count(data)
        _, _, _, width, height, *box, score = _HEADER.unpack_from(data)
        start = _HEADER.size + HASH_BYTES
        table = np.frombuffer(data, _FEATURE, count, start)
        codes = np.frombuffer(data, np.uint8, count * CODE_BYTES, start + count * _FEATURE.itemsize)
        x, y, box_width, box_height = box
        return cls(
            width=width,
            height=height,
            box=(x, y, box_width, box_height),
            hash=data[_HEADER.size : start],
            information=score,
            features=_unpacked(table, codes.reshape(count, CODE_BYTES)),
        )


def fingerprint(raster: npt.NDArray[np.generic]) -> tuple[Fingerprint, bytes]:
    """
    Fingerprint of a grey raster, and its ink picture as a one-bit PNG (see `clean`).

    About 250 ms for 2000 x 1400 on one core, most of it for the features.

    Raises:
        ValueError: the raster is not uint8 (H, W) with pixels in it.
    """
    ink = clean(raster)
    return fingerprint_ink(ink), encode_ink(ink)


def fingerprint_ink(ink: Picture) -> Fingerprint:
    """Fingerprint of an ink picture."""
    made = Fingerprint(
        width=ink.shape[1],
        height=ink.shape[0],
        box=ink_box(ink),
        hash=perceptual_hash(ink),
        information=float(np.float32(information(ink))),
        features=extract_features(ink),
    )
    # quantised here, so that a fresh fingerprint and a stored one answer alike
    return Fingerprint.from_bytes(made.to_bytes())


def _checked_count(data: bytes) -> int:
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise ValueError("the stored fingerprint is damaged: index the drawing again")
    _, version, count, *_ = _HEADER.unpack_from(data)
    if version != FINGERPRINT_VERSION:
        raise ValueError(
            f"the stored fingerprint has version {version}, this program uses {FINGERPRINT_VERSION}:"
            " rebuild the index"
        )
    expected = _HEADER.size + HASH_BYTES + count * (_FEATURE.itemsize + CODE_BYTES)
    if count > MAX_FEATURES or len(data) != expected:
        raise ValueError("the stored fingerprint is damaged: index the drawing again")
    return int(count)


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
