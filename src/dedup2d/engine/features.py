"""
L2: local features that survive turning, scaling, cropping and other surroundings.

Keypoints at all sizes of an ink picture (see `keypoints`), described by bits (see `describe`). Most of them
are chosen for the sheet as a whole, the others for each view by itself: a view is found however small it
stands on another sheet, because there the same of its keypoints are chosen.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.clean import Picture, halved, ink_box
from dedup2d.engine.describe import CODE_BYTES, codes, directions
from dedup2d.engine.keypoints import Floats, Keypoints, Pyramid
from dedup2d.engine.layout import Box, Layout

__all__ = ["CODE_BYTES", "MAX_FEATURES", "Features", "bits_apart", "extract_features", "mirrored_codes"]

MAX_FEATURES = 400

_POINTS = 340  # keypoints at most; some have several directions, and each is a feature
_OF_VIEWS = 120  # of these, chosen for the views by themselves
_SIDE = 720  # long side that the inked part of the sheet is brought to
_CROWD = 10.0  # sigmas: side of a cell in which each further keypoint counts for less
_NEXT = 0.7  # than the one before
_COARSER = 1.15  # an octave coarser counts for more: there are fewer, and they are no letters
_TEXT = 0.35  # what a keypoint in tables, notes or the frame's margin counts for
_ALIKE, _MOST_ALIKE = 24, 12  # bits of 256; features of one sheet within that of each other
_FINEST_OF_VIEW, _COARSEST_OF_VIEW = 1 / 80, 1 / 8  # sigma over the view's side


@frozen(eq=False)
class Features:
    """
    Features of one sheet; arrays of one length N <= `MAX_FEATURES`.

    `places` float32 (N, 2): x, y in pixels of the ink picture. `angles` float32: radians, from the x
    axis towards the y axis (down). `sizes` float32: diameter in the same pixels. `codes` uint8 (N, 32).
    """

    places: npt.NDArray[np.float32]
    angles: npt.NDArray[np.float32]
    sizes: npt.NDArray[np.float32]
    codes: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.places)


def extract_features(ink: Picture, layout: Layout) -> Features:
    """Features of an ink picture with its layout; none where it has no ink. About 40 ms on one core."""
    picture, scale, corner = _normalised(ink)
    pyramid = Pyramid(picture)
    points = _chosen(pyramid.keypoints(), layout, scale, corner)
    if not len(points):
        return _empty()
    owner, angles = directions(pyramid, points)
    owner, angles = owner[:MAX_FEATURES], angles[:MAX_FEATURES]
    seen = points.taken(owner)
    described = codes(pyramid, seen, angles)
    kept = _telling(described)
    return Features(
        places=_on_ink(seen.places[kept], scale, corner),
        angles=angles[kept],
        sizes=(2 * seen.sigmas[kept] / scale).astype(np.float32),
        codes=described[kept],
    )


def mirrored_codes(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Codes of the same features seen in a mirror (angles become pi - angle)."""
    half = CODE_BYTES // 2
    return np.concatenate([codes[:, half:], codes[:, :half]], axis=1)


def _telling(described: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """
    Which features to keep: of those that look alike, as all along one circle do, only the first.

    After Jegou, Douze and Schmid, "On the burstiness of visual elements", 2009.
    """
    apart = bits_apart(described, described)
    return np.asarray(np.tril(apart <= _ALIKE, -1).sum(axis=1) < _MOST_ALIKE, np.bool_)


def bits_apart(ours: npt.NDArray[np.uint8], theirs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Hamming distances (N, M) of codes."""
    own = np.ascontiguousarray(ours).view(np.uint64)
    its = np.ascontiguousarray(theirs).view(np.uint64)
    apart = np.zeros((len(own), len(its)), np.uint16)
    for word in range(own.shape[1]):
        apart += np.bitwise_count(own[:, word, None] ^ its[:, word])
    return apart


def _empty() -> Features:
    none = np.empty(0, np.float32)
    return Features(np.empty((0, 2), np.float32), none, none, np.empty((0, CODE_BYTES), np.uint8))


def _normalised(ink: Picture) -> tuple[Floats, float, tuple[int, int]]:
    """Small picture of the inked part, its scale, and its corner on the ink picture."""
    left, top, width, height = ink_box(ink)
    rim = max(8, max(width, height) // 32)
    left, right = max(0, left - rim), left + width + rim
    top, bottom = max(0, top - rim), top + height + rim
    part = ink[top:bottom, left:right]
    scale = min(1.0, _SIDE / max(part.shape))
    size = (max(8, round(part.shape[1] * scale)), max(8, round(part.shape[0] * scale)))
    small = cv2.resize(halved(part, _SIDE)[0], size, interpolation=cv2.INTER_AREA).astype(np.float32)
    # a line three pixels wide stays as dark as it was
    small *= np.float32(1 / (255 * min(1.0, 3 * scale)))
    return np.asarray(np.minimum(small, 1), np.float32), scale, (left, top)


def _on_ink(places: Floats, scale: float, corner: tuple[int, int]) -> Floats:
    return ((places + 0.5) / scale - 0.5 + corner).astype(np.float32)


def _chosen(points: Keypoints, layout: Layout, scale: float, corner: tuple[int, int]) -> Keypoints:
    """At most `_POINTS` of the keypoints, spread over sheet, views and sizes."""
    worth = points.responses * np.float32(_COARSER) ** (points.levels // 3)
    places = _on_ink(points.places, scale, corner)
    worth = worth * np.where(_beside_views(places, layout), np.float32(_TEXT), 1)
    cell = points.sigmas * np.float32(_CROWD)
    order = _by_worth(points, points.places / cell[:, None], worth)
    of_views = _of_views(points, layout, places, worth, scale)
    first = np.concatenate([of_views, order])
    _, unique = np.unique(first, return_index=True)
    return points.taken(first[np.sort(unique)][:_POINTS])


def _of_views(
    points: Keypoints, layout: Layout, places: Floats, worth: Floats, scale: float
) -> npt.NDArray[np.intp]:
    """The best keypoints of each view, whose sizes are measured by the view's."""
    picks = [np.empty(0, np.intp)]
    for view in layout.views:
        side = max(view[2:]) * scale
        fitting = (points.sigmas >= _FINEST_OF_VIEW * side) & (points.sigmas <= _COARSEST_OF_VIEW * side)
        own = np.flatnonzero(_in_box(places, view) & fitting)
        cells = (places[own] - view[:2]) * np.float32(scale / _CROWD) / points.sigmas[own, None]
        order = _by_worth(points.taken(own), cells, worth[own])
        picks.append(own[order[: _OF_VIEWS // len(layout.views)]])
    return np.concatenate(picks)


def _by_worth(points: Keypoints, cells: Floats, worth: Floats) -> npt.NDArray[np.intp]:
    """Numbers of the keypoints, best first; in one cell of one level each further one counts for less."""
    column, row = np.floor(cells).astype(np.int64).T
    bucket = (points.levels * 4096 + column) * 4096 + row
    order = np.lexsort((points.places[:, 1], points.places[:, 0], -worth, bucket))
    sorted_bucket = bucket[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_bucket, sorted_bucket)
    return order[np.argsort(-(worth[order] * _NEXT**rank), kind="stable")]


def _beside_views(places: Floats, layout: Layout) -> npt.NDArray[np.bool_]:
    """Which places lie in a table, in notes, or on or outside of the frame."""
    beside = np.zeros(len(places), np.bool_)
    if layout.frame is not None:
        beside |= ~_in_box(places, layout.frame)
    for box in (layout.title_block, layout.revision_table, *layout.notes):
        if box is not None:
            beside |= _in_box(places, box)
    return beside


def _in_box(places: Floats, box: Box) -> npt.NDArray[np.bool_]:
    x, y, width, height = box
    inside = (places >= (x, y)) & (places <= (x + width, y + height))
    return np.asarray(inside.all(axis=1), np.bool_)
