"""
What a vector file says of a sheet, in a compact stored form: straight runs, arcs and words.

Coordinates are pixels of the ink picture, in steps of an eighth of a pixel. At most `MAX_BYTES` are
kept: of a sheet with more lines the longest, down to `Shapes.least`, and of one with very many words
no texts at all.
"""

from __future__ import annotations

import struct
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.clean import INK_SIDE
from dedup2d.engine.primitives import Arcs, Segments, primitives
from dedup2d.readers import Entity, Sheet, Text

__all__ = ["MAX_BYTES", "TEXTS_LOST", "Shapes", "Word", "shapes_of"]

MAX_BYTES: Final = 16_384

TEXTS_LOST: Final = 0.9
"""What is left of `explained` where there are texts that are not known."""

_VERSION = 1
_HEAD = struct.Struct("<2sBBfIIIII")  # magic, version, explained, least, segments, arcs, words, sizes of both
_MAGIC = b"d2"
_STEP = 8.0  # per pixel
_MOST_TEXT = 9_000  # bytes
_MOST_EXPANDED = 2**21
_LETTERS = {"TEXT", "MTEXT", "ATTRIB", "ATTDEF"}
_SAME = str.maketrans("∅⌀øΦφ\u2013\u2014\u2212\u00d7\u2715\u00b5", "ØØØØØ---xxμ")
_SAMPLE = 20_000
_Line = npt.NDArray[np.float32]
_WORD = np.dtype([("x", "<i2"), ("y", "<i2"), ("width", "<u2"), ("height", "<u2"), ("rotation", "<i2")])
_TURN = 64.0  # per degree


class Word(NamedTuple):
    """A word: left end of its baseline, size along and across it, turn in degrees counter-clockwise."""

    text: str
    x: float
    y: float
    width: float
    height: float
    rotation: float


@frozen(eq=False)
class Shapes:
    """
    Primitives of one sheet, see `dedup2d.engine.primitives`.

    `least`: shorter lines and arcs were left out to save space, pixels; 0 where none was. `explained`:
    share of the sheet's ink that is one of these or a filled area, 0..1, less what was left out; the rest
    may be a picture.
    """

    segments: Segments
    arcs: Arcs
    words: tuple[Word, ...]
    least: float = 0.0
    explained: float = 1.0

    def to_bytes(self) -> bytes:
        """Stored form, at most `MAX_BYTES`; empty where there is nothing or too much to keep."""
        words = self.words
        texts = _packed_words(words)
        if len(texts) > _MOST_TEXT:
            texts, words = b"", ()
        segments, arcs, least, lines = self._fitting(MAX_BYTES - _HEAD.size - len(texts))
        counts = len(segments), len(arcs), len(words)
        if not any(counts):
            return b""
        kept = _length(segments, arcs) / max(_length(self.segments, self.arcs), 1e-9) if least else 1.0
        texts_kept = 1.0 if len(words) == len(self.words) else TEXTS_LOST
        share = round(255 * self.explained * min(kept, 1.0) * texts_kept)
        return _HEAD.pack(_MAGIC, _VERSION, share, least, *counts, len(lines), len(texts)) + lines + texts

    def _fitting(self, room: int) -> tuple[Segments, Arcs, float, bytes]:
        """The lines of which at most `room` bytes are needed, the least length of them, and these bytes."""
        segments, arcs, least = self.segments, self.arcs, self.least
        lines = _packed_lines(segments, arcs)
        while len(lines) > room:
            segments, arcs, least = _longest(segments, arcs, 0.95 * room / len(lines))
            lines = _packed_lines(segments, arcs)
        return segments, arcs, least, lines

    @classmethod
    def from_bytes(cls, data: bytes) -> Shapes:
        """
        The shapes that `to_bytes` stored.

        Raises:
            ValueError: the bytes are damaged or of another version.
        """
        try:
            share, least, segments, arcs, words, line_bytes = _read_head(data)
            start = _HEAD.size
            drawn = _unpacked_lines(data[start : start + line_bytes], segments, arcs)
            read = _unpacked_words(data[start + line_bytes :], words)
        except (struct.error, zlib.error, ValueError, UnicodeDecodeError) as error:
            raise ValueError("the stored lines are damaged: index the drawing again") from error
        return cls(*drawn, words=read, least=least, explained=share / 255)


def _read_head(data: bytes) -> tuple[int, float, int, int, int, int]:
    magic, version, share, least, *counts = _HEAD.unpack_from(data)
    segments, arcs, words, line_bytes, text_bytes = counts
    if magic != _MAGIC or version != _VERSION or len(data) != _HEAD.size + line_bytes + text_bytes:
        raise ValueError("damaged")
    return share, least, segments, arcs, words, line_bytes


def shapes_of(sheet: Sheet) -> Shapes:
    """Shapes of what a reader gave; about 25 ms for 4,000 entities."""
    scale = min(1.0, INK_SIDE / max(sheet.raster.shape))
    entities = [one for one in sheet.entities if one.kind not in _LETTERS and len(one.points) > 1]
    entities = [one for one, lies in zip(entities, _on_sheet(entities, sheet), strict=True) if lies]
    shown = [entity.points for entity in entities if not entity.filled]
    shown += _outer_edges([entity.points for entity in entities if entity.filled])
    found = primitives([points * np.float32(scale) for points in shown])
    return Shapes(
        segments=found.segments,
        arcs=found.arcs,
        words=tuple(word for text in sheet.texts for word in _words(text, scale)),
        explained=_explained(sheet, entities),
    )


def _on_sheet(entities: Sequence[Entity], sheet: Sheet) -> npt.NDArray[np.bool_]:
    """Which lie on the sheet with all of them; what does not may be clipped, or far away."""
    if not entities:
        return np.empty(0, bool)
    points = np.concatenate([entity.points for entity in entities])
    starts = np.cumsum([0] + [len(entity.points) for entity in entities[:-1]])
    height, width = sheet.raster.shape
    inside = (points >= -1).all(axis=1) & (points[:, 0] <= width + 1) & (points[:, 1] <= height + 1)
    return np.asarray(np.logical_and.reduceat(inside, starts))


def _outer_edges(areas: list[_Line]) -> list[_Line]:
    """Closed outlines of `areas`; an edge that two of them share is inside a larger one and not seen."""
    closed = [np.concatenate([points, points[:1]]) for points in areas]
    if len(closed) < 2:
        return closed
    edges = np.concatenate([np.hstack([points[:-1], points[1:]]) for points in closed])
    ends = np.rint(edges * 4).astype(np.int64)
    turned = (ends[:, 0] > ends[:, 2]) | ((ends[:, 0] == ends[:, 2]) & (ends[:, 1] > ends[:, 3]))
    ends = np.where(turned[:, None], ends[:, [2, 3, 0, 1]], ends)
    _, kind, counts = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    shared = (counts > 1)[kind.reshape(-1)] & (ends[:, :2] != ends[:, 2:]).any(axis=1)
    starts = np.cumsum([0] + [len(points) - 1 for points in closed])
    found: list[_Line] = []
    for points, start, end in zip(closed, starts[:-1], starts[1:], strict=True):
        inner = shared[start:end]
        found += [points] if not inner.any() else list(edges[start:end][~inner].reshape(-1, 2, 2))
    return found


def _words(text: Text, scale: float) -> Iterator[Word]:
    """The words of a text, each at its share of the width."""
    plain = unicodedata.normalize("NFKC", text.text.translate(_SAME)).translate(_SAME)
    if not plain or not np.isfinite((text.x, text.y, text.width, text.height, text.rotation)).all():
        return
    width = text.width or 0.6 * text.height * len(plain)
    turn = np.radians(text.rotation)
    start = 0
    for part in plain.split():
        start = plain.index(part, start)
        along = width * start / len(plain)
        yield Word(
            part,
            float(text.x + along * np.cos(turn)) * scale,
            float(text.y - along * np.sin(turn)) * scale,
            width * len(part) / len(plain) * scale,
            text.height * scale,
            text.rotation,
        )
        start += len(part)


def _explained(sheet: Sheet, entities: Sequence[Entity]) -> float:
    """Share of the raster's ink near a line, in an area or in the box of a text."""
    rows, columns = np.nonzero(sheet.raster[::2, ::2] < 128)
    if not len(rows):
        return 1.0
    every = max(1, len(rows) // _SAMPLE)
    canvas = np.zeros((sheet.raster.shape[0] // 2 + 1, sheet.raster.shape[1] // 2 + 1), np.uint8)
    fixed = [(entity.points / 2).astype(np.int32) for entity in entities]
    cv2.polylines(canvas, fixed, False, 255, 3)
    for entity, points in zip(entities, fixed, strict=True):
        if entity.filled:
            cv2.fillPoly(canvas, [points], 255)
    for outline in _outlines(sheet.texts):
        cv2.fillConvexPoly(canvas, outline, 255)
    return float(np.count_nonzero(canvas[rows[::every], columns[::every]]) / len(rows[::every]))


def _outlines(texts: Sequence[Text]) -> npt.NDArray[np.int32]:
    """Corners (N, 4, 2) around texts, in half pixels."""
    if not texts:
        return np.empty((0, 4, 2), np.int32)
    table = np.array(
        [(t.x, t.y, t.width or 0.8 * t.height * len(t.text), t.height, t.rotation) for t in texts]
    )
    turn = np.radians(table[:, 4])
    along = np.stack([np.cos(turn), -np.sin(turn)], axis=1) * table[:, 2:3]
    up = np.stack([-np.sin(turn), -np.cos(turn)], axis=1) * table[:, 3:4]
    low, high = table[:, :2] - 0.3 * up, table[:, :2] + 1.3 * up
    corners = np.stack([low, low + along, high + along, high], axis=1)
    return np.asarray(np.rint(np.clip(np.nan_to_num(corners), -1e4, 1e4) / 2), np.int32)


def _length(segments: Segments, arcs: Arcs) -> float:
    straight = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    return float(straight.sum() + (arcs[:, 2] * arcs[:, 4]).sum())


def _longest(segments: Segments, arcs: Arcs, share: float) -> tuple[Segments, Arcs, float]:
    """The longest of the lines, about `share` of their number, and the least length kept."""
    long = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    round_ = arcs[:, 2] * arcs[:, 4]
    least = float(np.quantile(np.concatenate([long, round_]), 1 - min(share, 0.95)))
    return segments[long > least], arcs[round_ > least], least


def _packed_lines(segments: Segments, arcs: Arcs) -> bytes:
    ends = np.clip(np.rint(segments * _STEP), -32768, 32767).astype(np.int32)
    turned = (ends[:, 0] > ends[:, 2]) | ((ends[:, 0] == ends[:, 2]) & (ends[:, 1] > ends[:, 3]))
    ends = np.where(turned[:, None], ends[:, [2, 3, 0, 1]], ends)
    ends = ends[np.lexsort((ends[:, 0], ends[:, 1]))]
    ends[:, 2:] -= ends[:, :2]
    ends[1:, 1] = np.diff(ends[:, 1])
    circles = np.empty((len(arcs), 5), np.int32)
    circles[:, :3] = np.clip(np.rint(arcs[:, :3] * _STEP), -32768, 32767)
    circles[:, 3:] = np.rint(np.degrees(arcs[:, 3:]) * 32)
    circles = circles[np.lexsort((circles[:, 0], circles[:, 1]))]
    return zlib.compress(_planes(ends) + _planes(circles), 6)


def _planes(numbers: npt.NDArray[np.int32]) -> bytes:
    """Columns one after the other, low bytes before high bytes, as compresses well."""
    columns = np.ascontiguousarray(numbers.T.astype("<i2"))
    return columns.view(np.uint8).reshape(columns.shape[0], -1, 2).transpose(0, 2, 1).tobytes()


def _from_planes(data: bytes, rows: int, columns: int) -> npt.NDArray[np.int32]:
    planes = np.frombuffer(data, np.uint8, rows * columns * 2).reshape(columns, 2, rows)
    numbers = np.ascontiguousarray(planes.transpose(0, 2, 1)).view("<i2")[..., 0]
    return np.asarray(numbers.T, np.int32)


def _unpacked_lines(data: bytes, segments: int, arcs: int) -> tuple[Segments, Arcs]:
    size = segments * 8 + arcs * 10
    if size > _MOST_EXPANDED:
        raise ValueError("damaged")
    plain = _expanded(data, size)
    ends = _from_planes(plain[: segments * 8], segments, 4)
    ends[:, 1] = np.cumsum(ends[:, 1])
    ends[:, 2:] += ends[:, :2]
    circles = _from_planes(plain[segments * 8 :], arcs, 5).astype(np.float64)
    circles[:, :3] /= _STEP
    circles[:, 3:] = np.radians(circles[:, 3:] / 32)
    return ends / _STEP, circles


def _expanded(data: bytes, size: int | None = None) -> bytes:
    """The compressed bytes as they were; *size* of them where that is known."""
    inflater = zlib.decompressobj()
    plain = inflater.decompress(data, _MOST_EXPANDED)
    if not inflater.eof or (size is not None and len(plain) != size):
        raise ValueError("damaged")
    return plain


def _packed_words(words: Sequence[Word]) -> bytes:
    if not words:
        return b""
    ordered = sorted(words, key=lambda word: (round(word.y), word.x))
    table = np.empty(len(ordered), _WORD)
    for name, factor in (("x", _STEP), ("y", _STEP), ("rotation", _TURN)):
        values = np.array([getattr(word, name) for word in ordered])
        if name == "rotation":
            values = (values + 180) % 360 - 180
        table[name] = np.clip(np.rint(values * factor), -32768, 32767)
    for name in ("width", "height"):
        values = np.array([getattr(word, name) for word in ordered])
        table[name] = np.clip(np.rint(values * _STEP), 0, 65535)
    columns = b"".join(table[name].tobytes() for name in _WORD.names or ())
    letters = "\n".join(word.text.replace("\n", "") for word in ordered)
    return zlib.compress(columns + letters.encode("utf-8", "replace"), 6)


def _unpacked_words(data: bytes, count: int) -> tuple[Word, ...]:
    if not count:
        return ()
    plain = _expanded(data)
    places = [
        np.frombuffer(plain, _WORD[name], count, 2 * count * index).tolist()
        for index, name in enumerate(_WORD.names or ())
    ]
    texts = plain[_WORD.itemsize * count :].decode().split("\n")
    if len(texts) != count:
        raise ValueError("damaged")
    return tuple(
        Word(text, x / _STEP, y / _STEP, width / _STEP, height / _STEP, rotation / _TURN)
        for text, x, y, width, height, rotation in zip(texts, *places, strict=True)
    )
