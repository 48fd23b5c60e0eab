"""
Lines of one sheet that another, laid on it, does not have, told from what scanning does to lines.

Lines are compared by their middles, so that line width does not count, and within a tolerance.
Where the two sheets agree to the pixel, as prints of one program do, all ink is compared, and finer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup2d.engine.clean import Picture
from dedup2d.engine.geometry import covered
from dedup2d.engine.prepared import Box

__all__ = ["Ink", "Lost", "apart", "ink_of", "lost_ink", "spots_of"]

Spots = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

_FINE = 1.5  # pixels off: another line, where sheets agree to the pixel
_CELLS = 10  # along the long side: places that are counted
_LEAST_IN_CELL = 30  # middles of lines, to count
_LOST_CELL = 0.03  # of its line: a cell that lost more lost something
_FADED = 0.4  # of the cells with such lines that lost some: then the copying did it,
_SPREAD = 0.2  # if it is this share of all cells with lines
_FADING = (1, 2, 3)  # depths of lines that copying may lose
_NEAR = 8.0  # pixels within which lines that are off still are the same line
_BESIDE = 1.6  # tolerances off the middle of a thick line, beside which a thin one is another
_AROUND = 31  # pixels of a sheet of 2000 in which ink crowds
_CROWDED = 55  # of 255
_MOST_BLOT = 4  # pixels: how much deeper than its lines the gaps are that thick ink closes


class Ink(NamedTuple):
    """
    An ink picture and its lines.

    `depth`: how deep in the ink each pixel lies (1 is the rim). `middle`: pixels in the middle of the lines,
    as numbers row by row.
    """

    picture: Picture
    depth: Picture
    middle: Spots

    @property
    def deep(self) -> Picture:
        """Depth of each of the middles: half the width of its line."""
        return np.asarray(self.depth.ravel()[self.middle], np.uint8)

    @property
    def usual(self) -> float:
        """Median of `deep`."""
        return float(np.median(self.deep)) if len(self.middle) else 0.0


class Lost(NamedTuple):
    """
    Ink without a partner.

    `spots`: its pixels (or those in the middle of its lines), as numbers row by row; `clear`: which of them
    are clearly off; `fine`: whether the sheets agree to the pixel elsewhere, so that little means something.
    """

    spots: Spots
    clear: Flags
    fine: bool


def ink_of(picture: Picture) -> Ink:
    """The lines of an ink picture (uint8 (H, W), 255 is ink)."""
    depth = cv2.distanceTransform(picture, cv2.DIST_L1, 3, dstType=cv2.CV_8U)
    ridge = cv2.compare(depth, cv2.dilate(depth, np.ones((3, 3), np.uint8)), cv2.CMP_GE)
    middle = spots_of(np.asarray(cv2.bitwise_and(ridge, picture), np.uint8))
    return Ink(picture, np.asarray(depth, np.uint8), middle)


def spots_of(picture: Picture) -> Spots:
    """Numbers, row by row, of the pixels that are not 0."""
    return np.flatnonzero(picture.view(np.bool_))


def apart(
    query: Ink,
    other: Ink,
    compared: tuple[Picture, Picture],
    tolerance: float,
    redrawn: Sequence[Box] = (),
) -> tuple[Lost, Lost]:
    """
    What each of two sheets that lie on each other has and the other lacks.

    Args:
        query: the one sheet, laid on the other.
        other: the other.
        compared: not 0 where the ink of each is looked at.
        tolerance: pixels within which lines agree.
        redrawn: boxes in which nothing agrees that is not the same, if the sheets agree to the pixel.
    """
    distances = _distance_to(other), _distance_to(query)
    inks = [spots_of(ink.picture) for ink in (query, other)]
    off = [distance.ravel()[spots] for distance, spots in zip(distances, inks, strict=True)]
    if all(_fine(one) for one in off):
        least = _least(other.picture.shape, redrawn).ravel()
        one, two = (
            _far(spots, far, least[spots], least[spots]) for spots, far in zip(inks, off, strict=True)
        )
        return _within(one, compared[0], fine=True), _within(two, compared[1], fine=True)
    lost = [
        _within(_far_middles(ink, cover, distance, tolerance), where, fine=False)
        for ink, cover, distance, where in zip(
            (query, other), (other, query), distances, compared, strict=True
        )
    ]
    return _unfaded(lost[0], query, lost[1], other), _unfaded(lost[1], other, lost[0], query)


def _distance_to(ink: Ink) -> Floats:
    return np.asarray(cv2.distanceTransform(cv2.bitwise_not(ink.picture), cv2.DIST_L2, 3), np.float32)


def _fine(off: Floats) -> bool:
    """Whether hardly any ink that has a partner is as much as a pixel off it."""
    near = off < _NEAR
    return bool(np.count_nonzero(near & (off > 0.5)) <= 0.1 * np.count_nonzero(near))


def _least(shape: tuple[int, ...], redrawn: Sequence[Box]) -> Floats:
    """How far off ink is another, by place."""
    least = np.full(shape, _FINE, np.float32)
    for box in redrawn:
        least[covered(box)] = 0.5
    return least


def _far(spots: Spots, off: Floats, least: Floats | float, clear: Floats | float) -> tuple[Spots, Flags]:
    far = off > least
    return spots[far], (off > clear)[far]


def _far_middles(ink: Ink, cover: Ink, distance: Floats, tolerance: float) -> tuple[Spots, Flags]:
    deep, off = ink.deep, distance.ravel()[ink.middle]
    # thick ink closes the gaps of letters, and the middle of a blot is off every line
    blot = np.clip(deep - np.float32(ink.usual), 0, _MOST_BLOT)
    # thick lines hide what lies beside their middle: on their rim at most, it is another line
    beside = (off <= tolerance) & (cover.depth.ravel()[ink.middle] <= 1) & (blot == 0)
    # not among letters, where middles say little
    beside &= _crowding(cover).ravel()[ink.middle] < _CROWDED
    away = _distance_to_middle(cover).ravel()[ink.middle[beside]]
    off[beside] = np.where(away > _BESIDE * tolerance, away, off[beside])
    return _far(ink.middle, off, tolerance + blot, 1.5 * tolerance + blot)


def _crowding(ink: Ink) -> Picture:
    """How much of the paper around each pixel is ink, 0..255."""
    around = max(3, max(ink.picture.shape) * _AROUND // 2000) | 1
    return np.asarray(cv2.blur(ink.picture, (around, around)), np.uint8)


def _distance_to_middle(ink: Ink) -> Floats:
    paper = np.full_like(ink.picture, 255)
    paper.ravel()[ink.middle] = 0
    return np.asarray(cv2.distanceTransform(paper, cv2.DIST_L2, 3), np.float32)


def _within(found: tuple[Spots, Flags], where: Picture, *, fine: bool) -> Lost:
    spots, clear = found
    own = where.ravel()[spots] > 0
    return Lost(spots[own], clear[own], fine)


def _unfaded(lost: Lost, ink: Ink, gained: Lost, others: Ink) -> Lost:
    """
    `lost` without the thin lines if copying lost them: all over the sheet, with hardly anything gained.

    A fax or a weak scan drops thin lines everywhere; who revises a sheet changes some places of it.
    """
    gone = _cells_off(gained.spots, others.middle, others)
    deep, lost_deep = ink.deep, ink.depth.ravel()[lost.spots]
    limit = 0
    for depth in _FADING:
        own = lost.spots[lost_deep == depth]
        share = _cells_off(own, ink.middle[deep == depth], ink)
        spread = _cells_off(own, ink.middle, ink)
        if share < _FADED or spread < _SPREAD or gone > 0.5 * spread:
            break
        limit = depth
    strong = lost_deep > limit
    return Lost(lost.spots[strong], lost.clear[strong], lost.fine)


def _cells_off(off: Spots, lines: Spots, ink: Ink) -> float:
    """Share of the cells with `lines` in which a noticeable share of them is `off`."""
    height, width = ink.picture.shape
    cell = max(1, max(height, width) // _CELLS)
    columns = -(-width // cell)
    cells = columns * -(-height // cell)
    total, part = (
        np.bincount(spots // width // cell * columns + spots % width // cell, minlength=cells)
        for spots in (lines, off)
    )
    used = total >= _LEAST_IN_CELL
    return float((part[used] > _LOST_CELL * total[used]).mean()) if used.any() else 0.0


def lost_ink(ink: Ink, lost: Lost) -> Picture:
    """The ink around what is lost, as far as its lines are wide."""
    deep = ink.depth.ravel()[lost.spots]
    deepest = int(deep.max(initial=0))
    found = np.zeros_like(ink.picture)
    least, most = 0, 2
    while least < deepest:
        own = np.zeros_like(ink.picture)
        own.ravel()[lost.spots[(deep > least) & (deep <= most)]] = 255
        size = 2 * min(most, deepest) + 1
        found = np.maximum(found, cv2.dilate(own, np.ones((size, size), np.uint8)))
        least, most = most, 2 * most
    return np.asarray(cv2.bitwise_and(ink.picture, found), np.uint8)
