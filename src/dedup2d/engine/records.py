"""What the catalogue of an index takes and gives."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

from attrs import field, frozen

from dedup2d.types import Drawing

__all__ = [
    "Counts",
    "FileRecord",
    "FingerprintRow",
    "KnownFile",
    "Likeness",
    "SheetRecord",
    "StoredSheet",
    "Vector",
    "VectorRow",
    "drawing_id",
]


@frozen
class Likeness:
    """
    One sheet as it travels to a child, all as stored: its fingerprint, its ink picture, its vector
    primitives if there are any, and the millimetres that a pixel of its raster covers, if known.
    """

    fingerprint: bytes = field(repr=False)
    ink: bytes = field(repr=False)
    shapes: bytes = field(default=b"", repr=False)
    mm_per_pixel: float | None = None


class Vector(NamedTuple):
    """What the model of this digest made of a sheet; see `dedup2d.engine.embedding`."""

    model: str
    data: bytes


@frozen(kw_only=True)
class SheetRecord:
    """
    What the index keeps of one sheet.

    `width` and `height` are those of the read raster in pixels, `ink` is the cleaned
    picture as PNG, `fingerprint` the bytes that its version of the engine made.
    `mm_per_pixel` is what a pixel of the raster covers, None where the file does not say.
    `shapes` are its vector primitives (see `dedup2d.engine.shapes`), empty where it has none.
    `vector` is there if a model is set.
    """

    page: int
    sheet: str
    format: str
    width: int
    height: int
    fingerprint_version: int
    fingerprint: bytes = field(repr=False)
    ink: bytes = field(repr=False)
    warnings: tuple[str, ...] = ()
    mm_per_pixel: float | None = None
    shapes: bytes = field(default=b"", repr=False)
    vector: Vector | None = field(default=None, repr=False)

    @property
    def likeness(self) -> Likeness:
        """What verification needs of it."""
        return Likeness(self.fingerprint, self.ink, self.shapes, self.mm_per_pixel)


@frozen(kw_only=True)
class FileRecord:
    """The file whose sheets are added; `source` says where it lies, `mtime_ns` since when so."""

    file_hash: str
    file_name: str
    size: int
    source: str | None = None
    mtime_ns: int | None = None
    metadata: Mapping[str, str] = field(factory=dict)

    @property
    def origin(self) -> str:
        """What tells this file from others of the same bytes."""
        return f"name:{self.file_name}" if self.source is None else f"source:{self.source}"


class KnownFile(NamedTuple):
    """By what the command sees that a file has not changed since it was added."""

    size: int
    mtime_ns: int | None
    file_hash: str


class FingerprintRow(NamedTuple):
    """One changed fingerprint; `change` orders them."""

    change: int
    key: int
    version: int
    data: bytes
    drawing_id: str


class VectorRow(NamedTuple):
    """One vector; `change` orders them."""

    change: int
    key: int
    data: bytes


class StoredSheet(NamedTuple):
    """A drawing of the index with what verification needs."""

    key: int
    drawing: Drawing
    version: int
    fingerprint: bytes
    ink: bytes
    shapes: bytes

    @property
    def likeness(self) -> Likeness:
        """What verification needs of it."""
        return Likeness(self.fingerprint, self.ink, self.shapes, self.drawing.mm_per_pixel)


class Counts(NamedTuple):
    """How many drawings there are, and how many of them have fingerprints of another version."""

    drawings: int
    stale: int


def drawing_id(file: FileRecord, page: int) -> str:
    """Return the id of a sheet: 24 characters of a-z and 2-7, the same for the same hash, origin and page."""
    digest = hashlib.sha256(json.dumps([file.file_hash, file.origin, page]).encode()).digest()
    return base64.b32encode(digest[:15]).decode().lower()
