"""
Line work to raster: where the drawing lies, and its ink in black on white.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from attrs import field, frozen, mutable
from numpy.typing import NDArray

from dedup2d.readers.grey import Grey

__all__ = ["Fill", "Frame", "Layer", "Mask", "Stroke", "frame_of", "paint"]

Points = NDArray[np.float64]

_SHIFT = 4  # OpenCV takes fixed point coordinates: sixteenths of a pixel
_MARGIN = 20
_LINE_WIDTH = 2  # what 0.35 mm come to on an A3 sheet of 2000 pixels
_FAR = 5.0  # a gap of so many times the width of nearly all of the drawing leads to a stray
_STRAYS = 0.1  # at most this part of the strokes are strays; more is a drawing of its own
_SANE = 1e15
_ENDLESS = {"XLINE", "RAY"}
_LARGE_FILL = 2e-3  # of the sheet: below it is an arrow or a letter, above it a tinted area
_TINT = 208
_LETTERS = {"TEXT", "MTEXT", "ATTRIB", "ATTDEF"}


@frozen(eq=False)
class Stroke:
    """A polyline (N, 2), or separate pieces (M, 2, 2): dashes, hatch lines."""

    points: Points
    kind: str
    layer: str


@frozen(eq=False)
class Fill:
    """An area with holes: outlines (N, 2), filled by the even-odd rule."""

    outlines: tuple[Points, ...]
    kind: str
    layer: str


@frozen(eq=False)
class Mask:
    """An area that hides what was drawn before it."""

    outline: Points


@mutable(eq=False)
class Layer:
    """What is drawn between two masks; fills lie below strokes."""

    mask: Mask | None = None
    strokes: list[Stroke] = field(factory=list)
    fills: list[Fill] = field(factory=list)


@frozen(kw_only=True)
class Frame:
    """
    Where the drawing lies and how it comes to pixels.

    Args:
        left, top: drawing coordinates of the raster's corner; *top* is the largest y.
        scale: pixels per drawing unit.
        width, height: of the raster, pixels.
        strays: how many strokes and fills lie too far away to be shown.
    """

    left: float
    top: float
    scale: float
    width: int
    height: int
    strays: int = 0

    def pixels(self, points: Points) -> Points:
        """Drawing coordinates to pixels, x to the right and y down."""
        return np.column_stack(
            ((points[:, 0] - self.left) * self.scale, (self.top - points[:, 1]) * self.scale)
        )


def frame_of(layers: Sequence[Layer], side: int) -> Frame | None:
    """
    Find the box of all that is drawn, less far strays, and fit it to *side* pixels.

    Not finite and absurd coordinates count as strays. None if nothing is left.
    """
    boxes = _boxes(layers, endless=False)
    if not len(boxes):
        boxes = _boxes(layers, endless=True)
    sane = boxes[np.isfinite(boxes).all(axis=1) & (np.abs(boxes) < _SANE).all(axis=1)]
    kept = _without_strays(sane)
    if not len(kept):
        return None
    left, bottom = (float(low) for low in kept[:, :2].min(axis=0))
    right, top = (float(high) for high in kept[:, 2:].max(axis=0))
    width, height = right - left, top - bottom
    scale = (side - 2 * _MARGIN) / max(width, height, 1e-9)
    return Frame(
        left=left - _MARGIN / scale,
        top=top + _MARGIN / scale,
        scale=scale,
        width=min(side, max(1, math.ceil(width * scale)) + 2 * _MARGIN),
        height=min(side, max(1, math.ceil(height * scale)) + 2 * _MARGIN),
        strays=len(boxes) - len(kept),
    )


def _boxes(layers: Sequence[Layer], *, endless: bool) -> NDArray[np.float64]:
    """Boxes of all strokes and outlines; construction lines without end only where asked for."""
    strokes = [stroke for layer in layers for stroke in layer.strokes]
    shapes = [stroke.points.reshape(-1, 2) for stroke in strokes if endless or stroke.kind not in _ENDLESS]
    shapes += [outline for layer in layers for fill in layer.fills for outline in fill.outlines]
    shapes = [points for points in shapes if len(points)]
    if not shapes:
        return np.empty((0, 4))
    starts = np.cumsum([0] + [len(points) for points in shapes[:-1]])
    points = np.concatenate(shapes)
    return np.hstack((np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)))


def _without_strays(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(boxes) < 10:
        return boxes
    near = np.ones(len(boxes), bool)
    for low, high in ((0, 2), (1, 3)):
        near &= _near(boxes[:, low], boxes[:, high])
    return boxes[near] if np.count_nonzero(~near) <= _STRAYS * len(boxes) else boxes


def _near(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the intervals that no wide empty gap parts from the middle of the drawing."""
    edges = np.concatenate((low, high))
    first, last = np.percentile(edges, (12, 88))
    reach = _FAR * max(last - first, float(np.median(high - low)))
    if reach <= 0:
        return np.ones(len(low), bool)
    order = np.argsort(low)
    reached = np.maximum.accumulate(high[order])
    cuts = np.flatnonzero(low[order][1:] - reached[:-1] > reach)
    group = np.zeros(len(low), int)
    group[order] = np.searchsorted(cuts, np.arange(len(low)), side="left")
    return np.asarray(group == np.bincount(group).argmax())


def paint(layers: Sequence[Layer], frame: Frame) -> Grey:
    """Draw everything in black with anti-aliased lines of two pixels; large areas as a light tint."""
    raster = np.full((frame.height, frame.width), 255, np.uint8)
    for layer in layers:
        if layer.mask is not None:
            cv2.fillPoly(raster, [_fixed(layer.mask.outline, frame)], 255, cv2.LINE_8, _SHIFT)
        small = [fill for fill in layer.fills if not _paint_large(raster, fill, frame)]
        _paint_strokes(raster, layer.strokes, frame)
        for fill in small:
            outlines = [_fixed(outline, frame) for outline in fill.outlines]
            cv2.fillPoly(raster, outlines, 0, cv2.LINE_AA, _SHIFT)
    return raster


def _paint_large(raster: Grey, fill: Fill, frame: Frame) -> bool:
    """
    Paint a large area and say so; leave a small one for later.

    In black, a filled wall or a coloured field would hide the lines and texts upon it.
    """
    if fill.kind in _LETTERS:
        return False
    outlines = [_fixed(outline, frame) for outline in fill.outlines]
    if (
        not outlines
        or sum(cv2.contourArea(o.astype(np.float32)) for o in outlines) / 256 < _LARGE_FILL * raster.size
    ):
        return False
    tinted = raster.copy()
    cv2.fillPoly(tinted, outlines, _TINT, cv2.LINE_AA, _SHIFT)
    np.minimum(raster, tinted, out=raster)
    return True


def _paint_strokes(raster: Grey, strokes: Sequence[Stroke], frame: Frame) -> None:
    lines: list[NDArray[np.int32]] = []
    for stroke in strokes:
        fixed = _fixed(stroke.points.reshape(-1, 2), frame)
        if stroke.points.ndim == 3:
            lines.extend(fixed.reshape(-1, 2, 2))
        elif len(fixed) == 1:
            lines.append(np.repeat(fixed, 2, axis=0))  # a point is a dot
        else:
            lines.append(fixed)
    if lines:
        cv2.polylines(raster, lines, False, 0, _LINE_WIDTH, cv2.LINE_AA, _SHIFT)


def _fixed(points: Points, frame: Frame) -> NDArray[np.int32]:
    """Fixed point pixels; far ones are brought near, where OpenCV cannot overflow."""
    pixels = np.nan_to_num(frame.pixels(points), nan=-1e5, posinf=1e5, neginf=-1e5)
    return np.rint(np.clip(pixels, -1e5, 1e5) * (1 << _SHIFT)).astype(np.int32)
