"""The difference of two sheets that lie on each other: a picture and the places that changed."""

from __future__ import annotations

import cv2
import numpy as np

from dedup2d.engine.clean import Picture
from dedup2d.engine.geometry import Matrix, scale_of
from dedup2d.types import DiffRegion

__all__ = ["ADDED", "REMOVED", "UNCHANGED", "diff"]

# Okabe and Ito's palette ("Color Universal Design", 2008), as blue, green, red
ADDED = (178, 114, 0)
"""Blue: ink that only the query has."""
REMOVED = (0, 94, 213)
"""Vermilion: ink that only the match has."""
UNCHANGED = (170, 170, 170)

_MOST_REGIONS = 200


def diff(
    query_ink: Picture, other_ink: Picture, placement: Matrix, *, tolerance: float = 2.0
) -> tuple[bytes, tuple[DiffRegion, ...]]:
    """
    What the query changed against the match, on the match's sheet.

    `placement` (3 x 3) takes the query's pixels to the match's (`Evidence.placement`); ink within
    `tolerance` pixels of ink is the same ink.

    Returns:
        A PNG (unchanged grey, added blue, removed vermilion), and the regions, largest first, at most 200.
    """
    laid = _laid(query_ink, other_ink, placement)
    added = _left(laid, other_ink, tolerance)
    removed = _left(other_ink, laid, tolerance)
    picture = np.full((*other_ink.shape, 3), 255, np.uint8)
    picture[(laid > 0) | (other_ink > 0)] = UNCHANGED
    picture[added > 0] = ADDED
    picture[removed > 0] = REMOVED
    _, png = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    return bytes(png), _regions(added, removed)


def _laid(query_ink: Picture, other_ink: Picture, placement: Matrix) -> Picture:
    size = (other_ink.shape[1], other_ink.shape[0])
    way = cv2.INTER_AREA if scale_of(placement) < 1 else cv2.INTER_LINEAR
    # a soft edge keeps thin lines connected when they shrink
    source = cv2.dilate(query_ink, np.ones((3, 3), np.uint8)) if scale_of(placement) < 0.7 else query_ink
    moved = cv2.warpPerspective(source, placement, size, flags=way)
    return np.where(moved > 100, 255, 0).astype(np.uint8)


def _left(ink: Picture, cover: Picture, tolerance: float) -> Picture:
    """Ink farther than `tolerance` from `cover`, without lone pixels of its rims."""
    size = 2 * round(tolerance) + 1
    wide = cv2.dilate(cover, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    return np.asarray(cv2.bitwise_and(ink, cv2.bitwise_not(wide)), np.uint8)


def _regions(added: Picture, removed: Picture) -> tuple[DiffRegion, ...]:
    both = cv2.bitwise_or(added, removed)
    reach = max(3, max(both.shape) // 150) | 1
    joined = cv2.dilate(both, np.ones((reach, reach), np.uint8))
    count, labels, _, _ = cv2.connectedComponentsWithStats(joined, connectivity=8, ltype=cv2.CV_32S)
    gains = np.bincount(labels[added > 0], minlength=count)
    losses = np.bincount(labels[removed > 0], minlength=count)
    rows, columns = np.nonzero(both)
    owner = labels[rows, columns]
    found: list[DiffRegion] = []
    for label in np.argsort(-(gains + losses), kind="stable").tolist():
        gain, loss = int(gains[label]), int(losses[label])
        if gain + loss < 12 or len(found) == _MOST_REGIONS:
            break
        own = owner == label
        x, y = int(columns[own].min()), int(rows[own].min())
        found.append(
            DiffRegion(
                x=x,
                y=y,
                width=int(columns[own].max()) - x + 1,
                height=int(rows[own].max()) - y + 1,
                area=gain + loss,
                change="added" if loss < 0.1 * gain else "removed" if gain < 0.1 * loss else "changed",
            )
        )
    return tuple(found)
