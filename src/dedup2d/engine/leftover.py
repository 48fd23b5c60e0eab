"""Finds what one sheet has and another, laid on it, lacks: clusters of unmatched line."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.geometry import Points

__all__ = ["Cluster", "clusters"]

_CELL = 4.0  # pixels of a sheet of 2000 that fall together


@frozen(kw_only=True)
class Cluster:
    """
    Unmatched ink in one place, in pixels of the sheet that has it.

    `length`: unmatched line, in pixels. `share`: how much of the line in its box is unmatched.
    """

    x: int
    y: int
    width: int
    height: int
    length: int
    share: float


def clusters(
    points: Points, matched: npt.NDArray[np.bool_], side: int, *, least: int, most: int = 50
) -> tuple[Cluster, ...]:
    """
    Clusters of `points` (N, 2) that are not `matched`, longest first.

    `side` is the long side of the sheet in pixels; unmatched line within about 1/100 of it falls together.
    Clusters shorter than `least` pixels are left out, and all but the `most` longest.
    """
    lost = points[~matched]
    if len(lost) < least:
        return ()
    cell = max(1.0, _CELL * side / 2000)
    x0, y0 = points.min(axis=0)
    spots = ((points - [x0, y0]) / cell).astype(np.int32)
    width, height = spots.max(axis=0) + 1
    all_counts = np.bincount(spots[:, 1] * width + spots[:, 0], minlength=width * height)
    lost_spots = spots[~matched]
    counts = np.bincount(lost_spots[:, 1] * width + lost_spots[:, 0], minlength=width * height)
    grid = np.where(counts.reshape(height, width) > 0, 255, 0).astype(np.uint8)
    joined = cv2.dilate(grid, np.ones((5, 5), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8, ltype=cv2.CV_32S)
    flat = labels.ravel()
    length = np.bincount(flat, weights=counts, minlength=count)
    whole = np.bincount(flat, weights=all_counts, minlength=count)
    length[0] = 0
    found = []
    for label in np.argsort(-length, kind="stable")[:most].tolist():
        if length[label] < least:
            break
        x, y, w, h = (stats[label, :4] * cell).tolist()
        found.append(
            Cluster(
                x=round(x + x0),
                y=round(y + y0),
                width=round(w),
                height=round(h),
                length=int(length[label]),
                share=float(length[label] / max(whole[label], 1)),
            )
        )
    return tuple(found)
