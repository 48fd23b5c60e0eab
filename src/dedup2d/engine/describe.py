"""
What a keypoint looks like: its main directions, and 256 bits that tell it from others.

Descriptors are those of SIFT (Lowe, 2004), rooted (Arandjelovic and Zisserman, "Three things everyone should
know to improve object retrieval", 2012) and binarised by random projections (Charikar, "Similarity
estimation techniques from rounding algorithms", 2002). The projections come in mirrored pairs: the code of
the mirrored feature is the same code with its halves exchanged, so that mirrored copies are found without
a second picture.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from dedup2d.engine.keypoints import Floats, Keypoints, Pyramid

__all__ = ["CODE_BYTES", "codes", "directions"]

CODE_BYTES = 32

_STEP = 0.75  # sigmas between samples
_BINS = 36
_CLEAR = 0.8  # of the highest peak: what else counts as a direction
_CELL = 3.0  # sigmas: side of one of the 4 x 4 cells of a descriptor
_MOST = 0.2  # share of a descriptor's length that one number may have


def directions(pyramid: Pyramid, points: Keypoints) -> tuple[npt.NDArray[np.intp], Floats]:
    """
    Which keypoint, and radians from the x axis towards the y axis (down), of each main direction.

    The first direction of each keypoint comes first, then the others of those that have several.
    """
    side = 14
    turn, strength = _gradients(pyramid.patches(points, np.zeros(len(points), np.float32), side, _STEP))
    bins = np.round(turn * (_BINS / (2 * np.pi))).astype(np.int64) % _BINS
    cell = np.arange(len(points))[:, None] * _BINS + bins
    weights = (strength * _round_window(side - 2)).ravel()
    table = np.bincount(cell.ravel(), weights, _BINS * len(points)).reshape(-1, _BINS)
    near, far = (np.roll(table, step, 1) + np.roll(table, -step, 1) for step in (1, 2))
    table = (6 * table + 4 * near + far) / 16
    before, after = np.roll(table, 1, 1), np.roll(table, -1, 1)
    highest = table.max(axis=1, keepdims=True)
    owner, peak = np.nonzero((table > before) & (table >= after) & (table >= _CLEAR * highest))
    left, top, right = before[owner, peak], table[owner, peak], after[owner, peak]
    exact = peak + 0.5 * (left - right) / np.minimum(left - 2 * top + right, -1e-12)
    order = np.lexsort((owner, top < highest[owner, 0]))
    return owner[order], (exact[order] * (2 * np.pi / _BINS)).astype(np.float32)


def codes(pyramid: Pyramid, points: Keypoints, angles: Floats) -> npt.NDArray[np.uint8]:
    """Codes (N, 32) of keypoints seen in the directions `angles`."""
    return _binarised(descriptors(pyramid, points, angles))


def descriptors(pyramid: Pyramid, points: Keypoints, angles: Floats) -> Floats:
    """Rooted descriptors (N, 128): rows, columns and orientations of gradients around each keypoint."""
    side = 22
    turn, strength = _gradients(pyramid.patches(points, angles, side, _STEP))
    turn *= np.float32(8 / (2 * np.pi))
    lower = turn.astype(np.int32)
    upper_part = strength * (turn - lower)
    count = (side - 2) ** 2
    parts = np.zeros(len(points) * count * 8, np.float32)
    start = np.arange(0, len(parts), 8)
    parts[start + (lower & 7).ravel()] = (strength - upper_part).ravel()
    parts[start + (lower + 1 & 7).ravel()] = upper_part.ravel()
    pooled = np.matmul(_pooling(side - 2), parts.reshape(len(points), count, 8))
    rows = pooled.reshape(len(points), 128)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    np.minimum(rows, _MOST, out=rows)
    return np.asarray(np.sqrt(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-6)), np.float32)


def _gradients(patches: Floats) -> tuple[Floats, Floats]:
    """Direction (0..2 pi) and strength (N, samples) of the gradient, off the patches' rims."""
    count = len(patches)
    across = (patches[:, 1:-1, 2:] - patches[:, 1:-1, :-2]).reshape(count, -1)
    down = (patches[:, 2:, 1:-1] - patches[:, :-2, 1:-1]).reshape(count, -1)
    strength, turn = cv2.cartToPolar(across, down)
    return np.asarray(turn, np.float32), np.asarray(strength, np.float32)


@cache
def _round_window(side: int) -> Floats:
    away = (np.arange(side) - (side - 1) / 2) * _STEP
    square = away[:, None] ** 2 + away**2
    return np.where(square > 4.5**2, 0, np.exp(-square / (2 * 1.5**2))).astype(np.float32).reshape(1, -1)


@cache
def _pooling(side: int) -> Floats:
    """Weights (16, samples) of each sample in each cell."""
    away = (np.arange(side) - (side - 1) / 2) * _STEP
    middles = (np.arange(4) - 1.5) * _CELL
    shares = np.maximum(0, 1 - np.abs(away[:, None] - middles) / _CELL)
    shares *= np.exp(-(away**2) / (2 * (2 * _CELL) ** 2))[:, None]
    weights = np.einsum("ya,xb->abyx", shares, shares)
    return np.asarray(weights.reshape(16, side * side), np.float32)


# Mean of rooted descriptors over drawings of many kinds, in thousandths: rows 0 and 1 of the four, by
# column and orientation. Rows 2 and 3 are their mirror images. Without it most bits would hardly vary.
_MEAN_ROWS = (
    (
        (78, 41, 26, 25, 31, 27, 32, 48),
        (129, 95, 63, 47, 48, 30, 32, 62),
        (77, 75, 80, 83, 100, 52, 30, 39),
        (38, 43, 53, 57, 79, 48, 30, 28),
    ),
    (
        (120, 53, 22, 24, 35, 28, 31, 51),
        (193, 137, 74, 56, 55, 37, 37, 87),
        (106, 93, 95, 119, 142, 79, 44, 56),
        (43, 43, 58, 78, 112, 63, 41, 33),
    ),
)


@cache
def _mean() -> Floats:
    upper = np.array(_MEAN_ROWS, np.float32) / 1000
    lower = upper[::-1][:, :, -np.arange(8) % 8]
    return np.concatenate([upper, lower]).reshape(128)


@cache
def _projections() -> Floats:
    """Projections (256, 128) in mirrored pairs."""
    rows, columns, orients = np.unravel_index(np.arange(128), (4, 4, 8))
    mirror = np.ravel_multi_index((3 - rows, columns, -orients % 8), (4, 4, 8))
    half = np.random.default_rng(20240607).standard_normal((128, 128)).astype(np.float32)
    return np.concatenate([half, half[:, mirror]])


def _binarised(rooted: Floats) -> npt.NDArray[np.uint8]:
    return np.packbits((rooted - _mean()) @ _projections().T > 0, axis=1)
