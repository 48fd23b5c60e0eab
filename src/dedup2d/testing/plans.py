"""Drawings for the checks of vision clients, made with the standard library alone."""

from __future__ import annotations

import hashlib
import math
import random
import struct
import zlib
from collections.abc import AsyncIterator

from dedup2d.types import DrawingFile

__all__ = ["blank_plan", "drawing_file", "plan"]

_WIDTH, _HEIGHT = 1000, 700
_INK, _PAPER = 0, 255


class _Sheet:
    def __init__(self) -> None:
        self.rows = [bytearray([_PAPER]) * _WIDTH for _ in range(_HEIGHT)]

    def dot(self, x: float, y: float) -> None:
        for row in (int(y), int(y) + 1):
            for column in (int(x), int(x) + 1):
                if 0 <= row < _HEIGHT and 0 <= column < _WIDTH:
                    self.rows[row][column] = _INK

    def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
        steps = max(1, int(max(abs(x1 - x0), abs(y1 - y0))))
        for step in range(steps + 1):
            self.dot(x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        for start, end in (
            ((x0, y0), (x1, y0)),
            ((x1, y0), (x1, y1)),
            ((x1, y1), (x0, y1)),
            ((x0, y1), (x0, y0)),
        ):
            self.line(*start, *end)

    def circle(self, x: float, y: float, radius: float) -> None:
        for step in range(int(7 * radius)):
            angle = step / radius
            self.dot(x + radius * math.cos(angle), y + radius * math.sin(angle))

    def png(self, compression: int) -> bytes:
        raw = b"".join(b"\0" + bytes(row) for row in self.rows)
        header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 0, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, compression)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def plan(seed: int, *, compression: int = 6) -> bytes:
    """
    Return a drawing as PNG, 1000 x 700: a frame and views that only *seed* decides.

    Another *compression* (0 to 9) gives other bytes for the same picture.
    """
    rng, sheet = random.Random(f"plan {seed}"), _Sheet()  # noqa: S311 - a drawing, not a secret
    sheet.box(10, 10, _WIDTH - 12, _HEIGHT - 12)
    sheet.box(650, 600, _WIDTH - 12, _HEIGHT - 12)
    for _ in range(8):
        x, y = rng.uniform(60, 750), rng.uniform(60, 450)
        width, height = rng.uniform(60, 200), rng.uniform(40, 140)
        sheet.box(x, y, x + width, y + height)
        sheet.circle(x + width / 2, y + height / 2, rng.uniform(10, 60))
        for part in range(1, rng.randrange(2, 9)):
            sheet.line(x + width * part / 9, y, x, y + height * part / 9)
    for _ in range(12):
        sheet.line(rng.uniform(40, 960), rng.uniform(40, 560), rng.uniform(40, 960), rng.uniform(40, 560))
    return sheet.png(compression)


def blank_plan() -> bytes:
    """Return an empty sheet as PNG."""
    return _Sheet().png(6)


def drawing_file(data: bytes, name: str = "plan.png") -> DrawingFile:
    """Return *data* as a file that is handed to a vision client."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 65_536):
            yield data[start : start + 65_536]

    return DrawingFile(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data), open=chunks)
