"""The picture of a difference: told apart by colour, and by pattern for who sees or prints none."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from dedup2d.engine.changesets import Gathered
from dedup2d.engine.clean import Picture

__all__ = ["ADDED", "CHANGED", "LEFT_OUT", "MOST_NUMBERS", "REMOVED", "UNCHANGED", "drawn"]

# Okabe and Ito's palette ("Color Universal Design", 2008), as red, green, blue
ADDED = (0, 114, 178)
"""Blue, solid: ink that only the query has."""
REMOVED = (213, 94, 0)
"""Vermilion, hatched: ink that only the match has."""
CHANGED = (70, 30, 90)
"""Dark purple: the box around a change with both, or around what moved."""
UNCHANGED = (170, 170, 170)
LEFT_OUT = (222, 222, 222)
"""Ink that was not compared: masked, of the frame, or where the other sheet ends."""

MOST_NUMBERS = 99

_PAPER, _SAME, _OUT, _MORE, _LESS, _LESS_GAP, _BOTH = range(7)
_COLOURS = ((255, 255, 255), UNCHANGED, LEFT_OUT, ADDED, REMOVED, (250, 205, 165), CHANGED)
_PEN = {"added": _MORE, "removed": _LESS, "changed": _BOTH, "moved": _BOTH}
_SOLID = frozenset({"added", "moved"})


def drawn(query: Picture, other: Picture, compared: Picture, found: Gathered) -> bytes:
    """
    A PNG of `query` laid on `other` (uint8 (H, W) both) with what was `found`.

    `compared` is 0 where ink was left out. Each of the first 99 changes has a box with its number: solid
    where something was added or moved, dashed where something was removed, with long dashes where both.
    """
    page = np.zeros(other.shape, np.uint8)
    both = cv2.bitwise_or(query, other)
    page[both > 0] = _OUT
    page[cv2.bitwise_and(both, compared) > 0] = _SAME
    wide = np.ones((3, 3), np.uint8)
    less = cv2.dilate(found.removed, wide) > 0
    page[less] = _hatched(other.shape)[less]
    page[cv2.dilate(found.added, wide) > 0] = _MORE
    for number, one in enumerate(found.changes[:MOST_NUMBERS], 1):
        _box(page, number, one.box, one.change, one.shift)
    return _png(page)


def _hatched(shape: tuple[int, ...]) -> Picture:
    """Stripes at an angle that lines of drawings seldom have, so that none falls into a gap."""
    unit = max(1.0, max(shape) / 2000)
    tile = np.zeros((round(156 * unit), round(94 * unit)), np.float32)
    y, x = np.indices(tile.shape)
    # 16 stripes down and 4 across: the tile repeats without a seam
    phase = (16 * y / tile.shape[0] + 4 * x / tile.shape[1]) % 1
    stripes = np.where(phase < 0.55, _LESS, _LESS_GAP).astype(np.uint8)
    times = -(-shape[0] // tile.shape[0]), -(-shape[1] // tile.shape[1])
    return np.tile(stripes, times)[: shape[0], : shape[1]]


def _box(
    page: Picture, number: int, box: tuple[int, int, int, int], change: str, shift: tuple[int, int] | None
) -> None:
    unit = max(1.0, max(page.shape) / 2000)
    gap, width = round(7 * unit), max(1, round(2 * unit))
    x, y, w, h = box
    start, end = (x - gap, y - gap), (x + w - 1 + gap, y + h - 1 + gap)
    _rectangle(page, start, end, _PEN[change], width, dashed=change not in _SOLID, long=change == "changed")
    if shift is not None:
        old = (start[0] - shift[0], start[1] - shift[1]), (end[0] - shift[0], end[1] - shift[1])
        _rectangle(page, *old, _LESS, width, dashed=True, long=False)
    place = (max(start[0], 0), start[1] - 2 * width if start[1] > 22 * unit else end[1] + round(17 * unit))
    cv2.putText(page, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, 0.55 * unit, _PEN[change], width)


def _rectangle(
    page: Picture,
    start: tuple[int, int],
    end: tuple[int, int],
    pen: int,
    width: int,
    *,
    dashed: bool,
    long: bool,
) -> None:
    (left, top), (right, bottom) = start, end
    if not dashed:
        cv2.rectangle(page, start, end, pen, width)
        return
    dash = width * (9 if long else 4)
    for x in range(left, right, 2 * dash):
        for y in (top, bottom):
            cv2.line(page, (x, y), (min(x + dash, right), y), pen, width)
    for y in range(top, bottom, 2 * dash):
        for x in (left, right):
            cv2.line(page, (x, y), (x, min(y + dash, bottom)), pen, width)


def _png(page: Picture) -> bytes:
    picture = Image.fromarray(page)
    picture.putpalette([value for colour in _COLOURS for value in colour])
    out = BytesIO()
    picture.save(out, "PNG", compress_level=3)
    return out.getvalue()
