"""
What a sheet is made of: frame, title block, tables, notes, and the views between them.

Everything is found on reductions of the ink picture by long straight lines, rectangular cells and
the distances between what is left, so pictures of any origin will do. Boxes are (x, y, width, height)
in pixels of the ink picture.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.borders import Border, find_borders
from dedup2d.engine.clean import Picture

__all__ = ["MAX_VIEWS", "Box", "Layout", "find_layout"]

Box = tuple[int, int, int, int]
"""x, y, width, height."""

MAX_VIEWS = 8

_Boxes = npt.NDArray[np.int32]
"""(N, 4): left, top, right, bottom."""

_Places = npt.NDArray[np.float64]
"""The same between pixels."""

_LINE_SIDE = 1000  # long side of the picture that borders and cells are looked for on
_VIEW_SIDE = 500  # the same for views
_MARGIN = 0.1  # of the sheet's side: most that may lie between the outer and the inner border
_RIM = 0.012  # of the side: how near to the border a title block lies
_JOINED = 70  # part of the side that ink in one group lies apart at most
_LETTER, _WORD = 0.025, 0.12  # of the side: higher connected ink is no letter, longer no word
_APART, _FAR = 0.012, 0.03  # of the side: gaps within a view
_BESIDE = 0.025  # of the side: how far a view's texts lie off it
_LEAST_VIEW = 0.07  # of the side: what is smaller belongs to the view beside it
_THIN = 0.015  # of the side: what is no higher is a line of some table
_LINE_GAP, _LEAST_NOTE = 0.015, 0.06
_SPECK = 3  # pixels
_COLUMN = 0.12  # of the side: what is shorter along two sides of the border is a text in its corner
_BLOCK = 0.25  # of the frame's area: no title block is larger
_TABLE = 0.4  # of the frame's area: a larger grid of cells is no table


@frozen
class Layout:
    """
    Parts of a sheet. `frame` is the inner border; what lies outside of it belongs to it.

    `views` are what is drawn, largest first, at most `MAX_VIEWS`: each is a group of lines with its
    dimensions and texts. A whole drawing with a border of its own on a larger sheet is one view.
    `notes` are blocks of text outside of tables and views.
    """

    frame: Box | None = None
    title_block: Box | None = None
    revision_table: Box | None = None
    notes: tuple[Box, ...] = ()
    views: tuple[Box, ...] = ()


def find_layout(ink: Picture) -> Layout:
    """
    Layout of an ink picture (uint8 (H, W), 255 is ink), at most some degrees askew.

    About 12 ms for 2000 x 1400 on one core. Without ink everything is empty.
    """
    lines, line_step = _reduced(ink, _LINE_SIDE)
    borders = find_borders(lines)
    frame = _frame(borders, lines)
    inside = _inside(lines, frame)
    tables = _along(_tables(lines, inside, frame), frame, lines)
    rest = np.asarray(cv2.bitwise_and(lines, inside), np.uint8)
    for left, top, right, bottom in tables:
        rest[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2] = 0
    small, step = _reduced(rest, _VIEW_SIDE)
    groups = _groups(small)
    if frame is not None:
        rim = np.array(frame.box) / step
        groups, column = _off_rim(groups, rim, tables / step, max(small.shape))
        tables = tables if len(tables) else (column[:1] * step).astype(np.int32)
    views, notes = _sorted_out(groups, small)
    title, revisions = _named(tables, frame)
    return Layout(
        frame=None if frame is None else _scaled(np.array(frame.box), line_step, ink),
        title_block=None if title is None else _scaled(title, line_step, ink),
        revision_table=None if revisions is None else _scaled(revisions, line_step, ink),
        notes=tuple(_scaled(box, line_step * step, ink) for box in notes),
        views=tuple(_scaled(box, line_step * step, ink) for box in views[:MAX_VIEWS]),
    )


def _reduced(ink: Picture, side: int) -> tuple[Picture, int]:
    """The ink with the long side at most `side`, where no line is lost, and the whole step taken."""
    step = -(-max(ink.shape) // side)
    if step <= 1:
        return ink, 1
    height, width = (-(-length // step) * step for length in ink.shape)
    whole = cv2.copyMakeBorder(
        ink, 0, height - ink.shape[0], 0, width - ink.shape[1], cv2.BORDER_CONSTANT, value=(0,)
    )
    small = cv2.resize(whole, (width // step, height // step), interpolation=cv2.INTER_AREA)
    # of a line one pixel wide, half or a third of a place is ink; what is less is a corner of it
    return np.where(small > 60 // (step - 1), 255, 0).astype(np.uint8), step


def _scaled(box: npt.NDArray[np.generic], step: int, ink: Picture) -> Box:
    left, top, right, bottom = (round(float(value) * step) for value in box)
    right, bottom = min(right, ink.shape[1]), min(bottom, ink.shape[0])
    return left, top, max(right - left, 1), max(bottom - top, 1)


def _frame(borders: list[Border], ink: Picture) -> Border | None:
    """The innermost of the borders that run along the rim of what is drawn."""
    if not borders:
        return None
    outer = borders[0]
    left, top, right, bottom = _span(ink)
    if outer.area < 0.5 * (right - left) * (bottom - top):
        return None
    if not _is_outermost(ink, outer):
        return None
    frame = outer
    for border in borders[1:]:
        if _within(border, outer) and border.area < frame.area:
            frame = border
    return frame


def _is_outermost(ink: Picture, border: Border) -> bool:
    """Whether little lies outside of `border`, or what lies all around it, as a second border does."""
    outside = cv2.bitwise_and(ink, cv2.bitwise_not(_filled(ink, border, -3)))
    left, top, right, bottom = (round(value) for value in border.box)
    total, count = cv2.countNonZero(ink), cv2.countNonZero(outside)
    strips = (outside[:top], outside[bottom:], outside[:, :left], outside[:, right:])
    around = min(int(np.count_nonzero(strip)) for strip in strips)
    return count <= 0.08 * total or (count <= 0.35 * total and around > 0.08 * count)


def _span(ink: Picture) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(ink)
    return x, y, x + width, y + height


def _within(inner: Border, outer: Border) -> bool:
    """Whether `inner` runs along all sides of `outer`, close to it."""
    left, top, right, bottom = outer.box
    least, most = -2.0, _MARGIN * max(right - left, bottom - top)
    inset = (inner.box[0] - left, inner.box[1] - top, right - inner.box[2], bottom - inner.box[3])
    return all(least <= value <= most for value in inset)


def _filled(ink: Picture, border: Border, inset: float) -> Picture:
    """255 inside `border`, `inset` pixels away from it."""
    middle = border.corners.mean(axis=0)
    corners = border.corners - np.sign(border.corners - middle) * inset
    mask = np.zeros_like(ink)
    cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), 255)
    return mask


def _inside(ink: Picture, frame: Border | None) -> Picture:
    return np.full_like(ink, 255) if frame is None else _filled(ink, frame, 5)


def _tables(ink: Picture, inside: Picture, frame: Border | None) -> _Boxes:
    """Boxes of groups of rectangular cells."""
    cells = _cells(ink, inside)
    if len(cells) < 3:
        return np.empty((0, 4), np.int32)
    canvas = np.zeros_like(ink)
    for left, top, right, bottom in cells:
        cv2.rectangle(canvas, (int(left) - 2, int(top) - 2), (int(right) + 1, int(bottom) + 1), 255, -1)
    middles = (cells[:, :2] + cells[:, 2:]) / 2
    sizes = (cells[:, 2:] - cells[:, :2]).prod(axis=1)
    area = ink.size if frame is None else frame.area
    boxes = []
    for box in _outlined(canvas):
        held = ((middles >= box[:2]) & (middles <= box[2:])).all(axis=1)
        whole = int((box[2:] - box[:2]).prod())
        if held.sum() >= 3 and sizes[held].sum() > 0.6 * whole and whole < _TABLE * area:
            boxes.append(box)
    return np.array(boxes, np.int32).reshape(-1, 4)


def _cells(ink: Picture, inside: Picture) -> _Boxes:
    """Boxes of paper areas that lines enclose to rectangles."""
    contours, tree = cv2.findContours(ink, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.empty((0, 4), np.int32)
    longest = max(ink.shape)
    boxes = []
    for contour, (_, _, _, parent) in zip(contours, tree[0], strict=True):
        if parent < 0 or len(contour) < 4:
            continue
        x, y, width, height = cv2.boundingRect(contour)
        if width < 8 or height < 5 or width > longest / 2 or height > longest / 4:
            continue
        (_, _), (one, other), _ = cv2.minAreaRect(contour)
        if cv2.contourArea(contour) > 0.88 * one * other and inside[y + height // 2, x + width // 2]:
            boxes.append((x, y, x + width, y + height))
    return np.array(boxes, np.int32).reshape(-1, 4)


def _along(tables: _Boxes, frame: Border | None, ink: Picture) -> _Boxes:
    """The tables that lie at the border, and what lies at those."""
    if not len(tables) or frame is None:
        return tables[:0]
    near = _RIM * max(ink.shape)
    rim = (np.abs(tables - np.array(frame.box)) <= near).any(axis=1)
    while True:
        beside = np.asarray((_gaps(tables, tables[rim]) <= near).any(axis=1))
        if (beside == rim).all():
            return np.asarray(tables[rim], np.int32)
        rim = beside


def _named(tables: _Boxes, frame: Border | None) -> tuple[_Boxes | None, _Boxes | None]:
    """The title block and the revision table: the largest of `tables` in a corner, and the next."""
    if frame is None or not len(tables):
        return None, None
    sides = np.abs(tables - np.array(frame.box)) <= 0.03 * max(frame.box)
    sizes = (tables[:, 2:] - tables[:, :2]).prod(axis=1)
    order = np.lexsort((-sizes, sides.sum(axis=1) < 2))
    return tables[order[0]], tables[order[1]] if len(order) > 1 else None


def _groups(small: Picture) -> _Boxes:
    """Boxes of ink that lies close together, without specks."""
    reach = max(3, max(small.shape) // _JOINED) | 1
    joined = cv2.morphologyEx(small, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    boxes = _outlined(np.asarray(joined, np.uint8))
    return np.asarray(boxes[(boxes[:, 2:] - boxes[:, :2]).max(axis=1) > _SPECK], np.int32)


def _off_rim(groups: _Boxes, rim: _Places, tables: _Places, side: int) -> tuple[_Boxes, _Boxes]:
    """
    Groups that are no part of what is written along the border, and title blocks among the others.

    What reaches from the border to a table, or along two sides of the border, is no view.
    """
    sides = (np.abs(groups - rim) <= _RIM * side).sum(axis=1)
    whole = float((rim[2] - rim[0]) * (rim[3] - rim[1]))
    small = (groups[:, 2:] - groups[:, :2]).prod(axis=1) < _BLOCK * whole
    long = (groups[:, 2:] - groups[:, :2]).max(axis=1) > _COLUMN * side
    column = small & long & (sides >= 2)
    lone = column.copy()
    if len(tables):
        column |= small & (sides >= 1) & (_gaps(groups, tables) <= _RIM * side).any(axis=1)
    return groups[~column], groups[lone]


def _sorted_out(groups: _Boxes, small: Picture) -> tuple[_Boxes, _Boxes]:
    """Views, largest first, and notes."""
    side = max(small.shape)
    drawn = _is_drawn(_outlined(small), groups, side)
    views = _merged(groups[drawn], groups[~drawn], side)
    notes = _texts(groups[~drawn], views, side)
    thin = (views[:, 2:] - views[:, :2]).min(axis=1) <= side * _THIN
    views = views if thin.all() else views[~thin]
    sizes = (views[:, 2:] - views[:, :2]).prod(axis=1)
    return views[np.argsort(-sizes, kind="stable")], notes


def _is_drawn(parts: _Boxes, groups: _Boxes, side: int) -> npt.NDArray[np.bool_]:
    """Which groups hold something larger than letters are; the others are text or specks."""
    sizes = parts[:, 2:] - parts[:, :2]
    large = parts[(sizes.min(axis=1) > side * _LETTER) | (sizes.max(axis=1) > side * _WORD)]
    middles = (large[:, :2] + large[:, 2:]) / 2
    held = (middles[:, None] >= groups[None, :, :2]) & (middles[:, None] <= groups[None, :, 2:])
    return np.asarray(held.all(axis=2).any(axis=0))


def _merged(boxes: _Boxes, texts: _Boxes, side: int) -> _Boxes:
    """Join groups that overlap or are near for their size, and give each the texts beside it."""
    boxes = _joined(boxes, side * _APART, side * _FAR)
    large = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) > side * _LEAST_VIEW
    views, small = boxes[large], np.concatenate([boxes[~large], texts])
    if not len(views):
        return boxes
    gaps = _gaps(small, views)
    for box, nearest, gap in zip(small, gaps.argmin(axis=1), gaps.min(axis=1), strict=True):
        if gap <= side * _BESIDE and len(views):
            views[nearest, :2] = np.minimum(views[nearest, :2], box[:2])
            views[nearest, 2:] = np.maximum(views[nearest, 2:], box[2:])
    return _joined(views, 0.0, 0.0)


def _joined(boxes: _Boxes, share: float, most: float) -> _Boxes:
    """Join boxes nearer than a share of the smaller one's size (`share` at least, `most` at most)."""
    while len(boxes) > 1:
        sizes = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        smaller = np.minimum(sizes[:, None], sizes[None, :])
        close = _gaps(boxes, boxes) <= np.clip(0.12 * smaller, share, max(most, share))
        group = _connected(close)
        if group.max() + 1 == len(boxes):
            break
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        low = np.minimum.reduceat(boxes[order, :2], starts)
        boxes = np.hstack([low, np.maximum.reduceat(boxes[order, 2:], starts)])
    return boxes


def _gaps(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Distance (N, M) from each box to each other one, 0 where they overlap."""
    apart = np.maximum(one[:, None, :2] - two[None, :, 2:], two[None, :, :2] - one[:, None, 2:])
    return np.asarray(np.maximum(apart, 0).max(axis=2), np.float64)


def _connected(close: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number of the group of each node, groups being connected by `close` (N, N)."""
    group = np.arange(len(close))
    while True:
        least = np.where(close, group[None, :], len(close)).min(axis=1)
        if (least == group).all():
            return np.asarray(np.unique(group, return_inverse=True)[1], np.int64)
        group = least


def _texts(groups: _Boxes, views: _Boxes, side: int) -> _Boxes:
    """Blocks of text away from views: several lines of some length."""
    if len(views):
        inside = (groups[:, None, :2] >= views[None, :, :2]) & (groups[:, None, 2:] <= views[None, :, 2:])
        groups = groups[~np.asarray(inside.all(axis=2)).any(axis=1)]
    blocks = _joined(groups, side * _LINE_GAP, side * _LINE_GAP)
    size = blocks[:, 2:] - blocks[:, :2]
    notes = (size.max(axis=1) > side * _LEAST_NOTE) & (size.min(axis=1) > side * _LETTER / 2)
    return np.asarray(blocks[notes], np.int32)


def _outlined(ink: Picture) -> _Boxes:
    """Boxes around each connected group of ink."""
    contours, _ = cv2.findContours(ink, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes = np.array([cv2.boundingRect(contour) for contour in contours], np.int32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
