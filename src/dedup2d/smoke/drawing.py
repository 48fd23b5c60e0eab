"""A drawing for smoke tests: a plate with holes, another with each seed; needs no imaging package."""

from __future__ import annotations

import math
import random
import struct
import zlib

from attrs import define, field

__all__ = ["plate"]

_WIDTH, _HEIGHT = 1000, 700
_MARGIN = 30
_LEAST_SCALE, _MOST_SCALE = 0.5, 4.0

Point = tuple[float, float]


def plate(seed: str, *, scale: float = 1.0) -> bytes:
    """
    Return the plate of *seed* as a PNG of 1000 x 700 pixels times *scale* (0.5 to 4).

    The same seed gives the same plate, and the same bytes at the same scale.
    """
    if not _LEAST_SCALE <= scale <= _MOST_SCALE:
        raise ValueError(f"scale is {scale:g}: give {_LEAST_SCALE:g} to {_MOST_SCALE:g}")
    sheet, chance = _Sheet(scale), random.Random(seed)  # noqa: S311 - a drawing, not a secret
    corners = [
        (_MARGIN, _MARGIN),
        (_WIDTH - _MARGIN, _MARGIN),
        (_WIDTH - _MARGIN, _HEIGHT - _MARGIN),
        (_MARGIN, _HEIGHT - _MARGIN),
    ]
    sheet.outline([(float(x), float(y)) for x, y in corners])
    sheet.outline(_contour(chance))
    for centre, radius in _holes(chance):
        sheet.circle(centre, radius)
        if chance.random() < 0.5:
            sheet.circle(centre, radius * 0.55)
    return sheet.png()


def _contour(chance: random.Random) -> list[Point]:
    """Return a closed outline around the middle of the sheet, its corners at uneven angles and distances."""
    number = chance.randint(7, 11)
    shift = chance.random()
    corners = []
    for corner in range(number):
        angle = 2 * math.pi * (corner + shift + chance.uniform(-0.25, 0.25)) / number
        far = chance.uniform(0.72, 1.0)
        corners.append((_WIDTH / 2 + 420 * far * math.cos(angle), _HEIGHT / 2 + 290 * far * math.sin(angle)))
    return corners


def _holes(chance: random.Random) -> list[tuple[Point, float]]:
    """Return six to ten holes that do not touch, well inside the contour."""
    holes: list[tuple[Point, float]] = []
    for _ in range(chance.randint(6, 10) * 10):
        centre = _WIDTH / 2 + chance.uniform(-230, 230), _HEIGHT / 2 + chance.uniform(-150, 150)
        radius = chance.uniform(14, 52)
        if all(math.dist(centre, other) > radius + taken + 8 for other, taken in holes):
            holes.append((centre, radius))
        if len(holes) == 10:
            break
    return holes


@define
class _Sheet:
    """White paper and a black pen, in units of the unscaled drawing."""

    scale: float
    width: int = field(init=False)
    rows: list[bytearray] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.width = round(_WIDTH * self.scale)
        self.rows = [bytearray(b"\xff") * self.width for _ in range(round(_HEIGHT * self.scale))]

    def outline(self, corners: list[Point]) -> None:
        for (x, y), (to_x, to_y) in zip(corners, [*corners[1:], corners[0]], strict=True):
            steps = max(1, math.ceil(math.dist((x, y), (to_x, to_y)) * self.scale))
            for step in range(steps + 1):
                self._dot(x + (to_x - x) * step / steps, y + (to_y - y) * step / steps)

    def circle(self, centre: Point, radius: float) -> None:
        steps = math.ceil(2 * math.pi * radius * self.scale)
        for step in range(steps):
            angle = 2 * math.pi * step / steps
            self._dot(centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle))

    def _dot(self, x: float, y: float) -> None:
        pen = max(1, round(3 * self.scale))
        left, top = round(x * self.scale - pen / 2), round(y * self.scale - pen / 2)
        for row in self.rows[top : top + pen]:
            row[left : left + pen] = bytes(pen)

    def png(self) -> bytes:
        """Return the sheet as a PNG of 8 bits of grey."""
        header = struct.pack(">IIBBBBB", self.width, len(self.rows), 8, 0, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + row for row in self.rows))
        chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
