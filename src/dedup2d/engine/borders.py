"""Borders of sheets: rectangles of long straight lines, found on a reduced ink picture."""

from __future__ import annotations

from itertools import combinations, product
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup2d.engine.clean import Picture

__all__ = ["Border", "find_borders"]

_RUN = 1 / 18  # of the long side: pieces of lines shorter than this are not looked at
_LONG = 0.3  # of the picture's width or height: a line this long may be a side of a border
_NEAR = 1 / 80  # of the long side: how far the ends of two sides may lie apart at a corner
_MOST_LINES = 40


class Border(NamedTuple):
    """A rectangle that may lie slightly askew: its corners, top left first, then clockwise."""

    corners: npt.NDArray[np.float32]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom: the mean of the two corners on each side."""
        (a, b, c, d) = self.corners
        return (
            float(a[0] + d[0]) / 2,
            float(a[1] + b[1]) / 2,
            float(b[0] + c[0]) / 2,
            float(c[1] + d[1]) / 2,
        )

    @property
    def area(self) -> float:
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


class _Line(NamedTuple):
    """A line that lies (nearly) flat, as its two ends."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def length(self) -> float:
        return self.x1 - self.x0

    def at(self, x: float) -> float:
        return self.y0 + (self.y1 - self.y0) * (x - self.x0) / max(self.x1 - self.x0, 1.0)


def find_borders(ink: Picture) -> list[Border]:
    """Rectangles of lines that are at least a third as long as the picture, largest first."""
    near = max(ink.shape) * _NEAR
    flat = _lines(ink)
    upright = _lines(np.ascontiguousarray(ink.T))
    found = [
        border
        for (top, bottom), (left, right) in product(_pairs(flat, near), _pairs(upright, near))
        if (border := _border(top, bottom, left, right, near)) is not None
    ]
    return sorted(found, key=lambda border: -border.area)


def _pairs(lines: list[_Line], near: float) -> list[tuple[_Line, _Line]]:
    """Pairs of lines, the upper first, that could be opposite sides."""
    return [
        (first, second)
        for first, second in combinations(sorted(lines, key=lambda line: line.y0 + line.y1), 2)
        if (second.y0 - first.y0) > 8 * near
        and min(first.x1, second.x1) - max(first.x0, second.x0) > 0.9 * min(first.length, second.length)
    ]


def _border(top: _Line, bottom: _Line, left: _Line, right: _Line, near: float) -> Border | None:
    """The rectangle between four lines (the upright ones with x and y swapped), if they reach each other."""
    corners = np.array(
        [_crossing(top, left), _crossing(top, right), _crossing(bottom, right), _crossing(bottom, left)],
        np.float32,
    )
    reach = (
        (top, corners[0][0], corners[1][0]),
        (bottom, corners[3][0], corners[2][0]),
        (left, corners[0][1], corners[3][1]),
        (right, corners[1][1], corners[2][1]),
    )
    whole = all(side.x0 - near <= start and end <= side.x1 + near for side, start, end in reach)
    # a side of the border ends where the border ends, at one end at least
    ends = all(abs(side.x0 - start) < near or abs(side.x1 - end) < near for side, start, end in reach)
    return Border(corners) if whole and ends else None


def _crossing(flat: _Line, upright: _Line) -> tuple[float, float]:
    y = flat.at(upright.y0)
    x = upright.at(y)
    return x, flat.at(x)


def _lines(ink: Picture) -> list[_Line]:
    """Long lines that lie flat within two degrees, longest first."""
    run = max(9, round(max(ink.shape) * _RUN))
    thick = cv2.dilate(ink, np.ones((3, 1), np.uint8))
    runs = cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones((1, run), np.uint8))
    contours, _ = cv2.findContours(runs, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    pieces = [piece for contour in contours if (piece := _ends(contour[:, 0].astype(np.float32))) is not None]
    joined = _joined(pieces, max(ink.shape))
    long = [line for line in joined if line.length > _LONG * ink.shape[1]]
    return sorted(long, key=lambda line: -line.length)[:_MOST_LINES]


def _ends(outline: npt.NDArray[np.float32]) -> _Line | None:
    """Ends of the line with this outline (N, 2); None where it is no line."""
    x, y = outline[:, 0], outline[:, 1]
    x0, x1 = float(x.min()), float(x.max())
    if y.max() - y.min() > max(8, (x1 - x0) / 16):
        return None
    tip = (x1 - x0) / 8
    return _Line(x0, float(y[x <= x0 + tip].mean()), x1, float(y[x >= x1 - tip].mean()))


def _joined(pieces: list[_Line], side: int) -> list[_Line]:
    """Pieces that continue each other become one line."""
    apart, gap = max(2.0, side / 300), side / 25
    lines: list[_Line] = []
    for piece in sorted(pieces):
        for index, line in enumerate(lines):
            if piece.x0 - line.x1 < gap and abs(line.at(piece.x0) - piece.y0) < apart:
                if piece.x1 > line.x1:
                    lines[index] = _Line(line.x0, line.y0, piece.x1, piece.y1)
                break
        else:
            lines.append(piece)
    return lines
