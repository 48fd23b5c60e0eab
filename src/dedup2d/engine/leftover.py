"""Finds what one sheet has and another, laid on it, lacks: clusters of unmatched line."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.geometry import Points

__all__ = ["Cluster", "clusters"]

_CELL = 4.0  # pixels of a sheet of 2000 that fall together

Numbers = npt.NDArray[np.float64]


@frozen(kw_only=True)
class Cluster:
    """
    Unmatched ink in one place, in pixels of the sheet that has it.

    `length`: unmatched line, in pixels. `share`: how much of the line in its cells is unmatched.
    `apart`: how far the other's ink is, in pixels of a sheet of 2000 (mean, at most about 60).
    `half_width`: mean of the line's, in pixels of the sheet that has it.
    """

    x: int
    y: int
    width: int
    height: int
    length: int
    share: float
    apart: float = 0.0
    half_width: float = 1.0

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self.x, self.y, self.width, self.height


def clusters(
    points: Points,
    lost: npt.NDArray[np.intp],
    side: int,
    apart: npt.NDArray[np.float32],
    half_width: npt.NDArray[np.uint8],
    *,
    least: float,
    most: int = 50,
) -> tuple[Cluster, ...]:
    """
    Clusters of those of `points` (N, 2) that are `lost` (their numbers), longest first.

    `side`: long side of the sheet in pixels; unmatched line within about 1/100 of it falls together.
    `apart` and `half_width` are told of the lost points, as in `Cluster`. Clusters shorter than `least`
    pixels are left out, and all but the `most` longest.
    """
    if len(lost) < least:
        return ()
    cell = max(1.0, _CELL * side / 2000)
    spots = (points[lost] * np.float32(1 / cell)).astype(np.int32)
    left, top = spots.min(axis=0)
    width, height = spots.max(axis=0) - (left, top) + 1
    grid = np.zeros((height, width), np.uint8)
    grid[spots[:, 1] - top, spots[:, 0] - left] = 255
    joined = cv2.dilate(grid, np.ones((5, 5), np.uint8))
    count, marks, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8, ltype=cv2.CV_32S)
    labels = np.asarray(marks, np.int32)
    owner = labels[spots[:, 1] - top, spots[:, 0] - left]
    length = np.bincount(owner, minlength=count)
    chosen = [label for label in np.argsort(-length, kind="stable")[:most].tolist() if length[label] >= least]
    if not chosen:
        return ()
    whole = _all_in(labels, points, cell, (int(left), int(top)), count)
    means = [
        np.bincount(owner, weights=values, minlength=count) / np.maximum(length, 1)
        for values in (apart, half_width)
    ]
    found = []
    for label in chosen:
        x, y, w, h = stats[label, :4].tolist()
        found.append(
            Cluster(
                x=round((x + left) * cell),
                y=round((y + top) * cell),
                width=round(w * cell),
                height=round(h * cell),
                length=int(length[label]),
                share=float(length[label] / max(whole[label], 1)),
                apart=round(float(means[0][label]), 2),
                half_width=round(float(means[1][label]), 2),
            )
        )
    return tuple(found)


def _all_in(
    labels: npt.NDArray[np.int32], points: Points, cell: float, corner: tuple[int, int], count: int
) -> npt.NDArray[np.intp]:
    """How many of the points, matched or not, lie in each cluster's cells."""
    height, width = labels.shape
    spots = (points * np.float32(1 / cell)).astype(np.int32)
    x, y = spots[:, 0] - corner[0], spots[:, 1] - corner[1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.bincount(labels[y[inside], x[inside]], minlength=count)
