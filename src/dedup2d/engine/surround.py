"""Finds the sheet in a photo or scan that shows what lies around it too, and makes that paper."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["without_surround"]

Grey = npt.NDArray[np.uint8]
_Mask = npt.NDArray[np.uint8]

_SIDE = 500  # pixels of the picture that it is looked for on
_RIM_DARK = 0.6  # of one side of the rim, from which something may lie around the sheet
_DARKER = 50  # grey levels that it is darker than the sheet
_BLACK = 24  # grey levels that are the ground of a negative
_LINE = 0.012  # of the side: what is thinner is a frame
_STRIP = 0.06  # of the side: how far the lid of a copier reaches in
_LEAST_SHEET = 0.2  # of the picture
_CONVEX = 0.94  # of its convex hull that a sheet fills
_MOSTLY = 0.85  # of what is around the hull that belongs to the surround
_INK = 0.94  # of the paper's shade, below which something is on it
_EDGE = 0.006  # of the side: how far in the sheet's own edge may lie
_HALO = 7  # pixels that blur spreads the edge over


def without_surround(grey: Grey) -> Grey:
    """
    `grey` (H, W), with the shade of the paper around the sheet where a darker desk or lid shows.

    A sheet is light and convex, and what is around it has all corners of the picture, or is a strip along
    its edges. Anything else stays as it is: a drawing may be dark itself.
    """
    step = -(-max(grey.shape) // _SIDE)
    small = np.ascontiguousarray(grey[::step, ::step])
    level, dark = cv2.threshold(small, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    if max(float(side.mean()) for side in _rim(np.asarray(dark, np.uint8))) < _RIM_DARK * 255:
        return grey
    hull = _sheet(small, np.asarray(dark, np.uint8), level)
    if hull is None:
        return grey
    inside = _filled(small.shape, hull)
    shape = grey.shape[::-1]
    paper = cv2.resize(_paper(small, inside, level), shape, interpolation=cv2.INTER_LINEAR)
    gone = _outside(grey, np.asarray(cv2.resize(inside, shape, interpolation=cv2.INTER_NEAREST)), level)
    return np.where(gone > 0, paper, grey).astype(np.uint8)


def _outside(grey: Grey, inside: _Mask, level: float) -> _Mask:
    """What is off the sheet, its own dark edge with it: lines near the edge stay."""
    reach = 2 * round(_EDGE * max(grey.shape)) + 1
    kernel = np.ones((reach, reach), np.uint8)
    surely = cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    off = np.where(inside > 0, 0, 255).astype(np.uint8)
    edge = np.where((grey <= level) & (surely == 0), np.uint8(255), off)
    _, marks = cv2.connectedComponents(edge, connectivity=8)
    labels = np.asarray(marks, np.int32)
    found = np.where(np.isin(labels, np.unique(labels[off > 0])) & (labels > 0), 255, 0).astype(np.uint8)
    return np.asarray(cv2.dilate(found, np.ones((_HALO, _HALO), np.uint8)), np.uint8)


def _rim(picture: _Mask) -> tuple[_Mask, ...]:
    """The four sides of a picture, two pixels wide."""
    return picture[:2], picture[-2:], picture[:, :2], picture[:, -2:]


def _sheet(small: Grey, dark: _Mask, level: float) -> npt.NDArray[np.int32] | None:
    """The convex hull of the sheet, or None if there is none to be told from what is around it."""
    around = _around(dark)
    contours, _ = cv2.findContours(255 - dark, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours or not _is_surround(around):
        return None
    outline = max(contours, key=cv2.contourArea)
    hull = np.asarray(cv2.convexHull(outline), np.int32)
    area = cv2.contourArea(hull)
    if area < _LEAST_SHEET * small.size or cv2.contourArea(outline) < _CONVEX * area:
        return None
    outside = _filled(small.shape, hull) == 0
    if np.count_nonzero(around[outside]) < _MOSTLY * np.count_nonzero(outside):
        return None
    on_sheet, on_desk = float(np.median(small[~outside])), float(np.median(small[around > 0]))
    if on_sheet <= level or on_sheet - on_desk <= _DARKER:
        return None
    # The negative of a filled outline looks so too, but its ground is black all around, without any grain.
    is_ground = on_desk < _BLACK and float(np.mean(small[around > 0] == on_desk)) > _MOSTLY
    return None if is_ground and not _touches_rim(hull, small.shape) else hull


def _touches_rim(hull: npt.NDArray[np.int32], shape: tuple[int, ...]) -> bool:
    x, y, width, height = cv2.boundingRect(hull)
    return x == 0 or y == 0 or x + width == shape[1] or y + height == shape[0]


def _around(dark: _Mask) -> _Mask:
    """What is dark, thicker than a line, and connected with the rim."""
    reach = 2 * round(_LINE * max(dark.shape) / 2) + 1
    # What goes on beyond the rim does not count: a frame may run there.
    thick = cv2.morphologyEx(
        dark,
        cv2.MORPH_OPEN,
        np.ones((reach, reach), np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    _, marks = cv2.connectedComponents(thick, connectivity=4)
    labels = np.asarray(marks, np.int32)
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.where(np.isin(labels, touching[touching > 0]), 255, 0).astype(np.uint8)


def _is_surround(around: _Mask) -> bool:
    """Whether it has all corners, or lies along the edges only: else it may be a part that was cut off."""
    if all(around[y, x] for y in (0, -1) for x in (0, -1)):
        return True
    strip = max(1, round(_STRIP * max(around.shape)))
    return bool(around.any()) and not around[strip:-strip, strip:-strip].any()


def _filled(shape: tuple[int, ...], hull: npt.NDArray[np.int32]) -> _Mask:
    mask = np.zeros(shape, np.uint8)
    return np.asarray(cv2.fillConvexPoly(mask, hull, 255), np.uint8)


def _paper(small: Grey, inside: _Mask, level: float) -> Grey:
    """The shade of the paper in the sheet, and around it that of the nearest paper."""
    paper = ((inside > 0) & (small > level)).astype(np.float32)
    shade = np.full(small.shape, np.float32(np.median(small[paper > 0])), np.float32)
    for reach in (8, 16, 16):  # of the side: from far to near
        window = (max(3, max(small.shape) // reach),) * 2
        weight = cv2.blur(paper, window)
        near = cv2.blur(small * paper, window) / np.maximum(weight, np.float32(1e-3))
        shade = np.where(weight > 0.02, near, shade)
        paper *= small > _INK * shade
    _, marks = cv2.distanceTransformWithLabels(
        np.asarray(paper == 0, np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = np.asarray(marks, np.int32)
    nearest = np.empty(int(labels.max()) + 1, np.float32)
    nearest[labels[paper > 0]] = shade[paper > 0]
    return np.clip(np.rint(nearest[labels]), 0, 255).astype(np.uint8)
