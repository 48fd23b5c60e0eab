"""
L2: local features that survive turning, scaling, cropping and other surroundings.

SIFT keypoints (Lowe, "Distinctive image features from scale-invariant keypoints", 2004) on an
ink picture of normalised size, spread over sheet and scales, with descriptors binarised by random
projections (Charikar, "Similarity estimation techniques from rounding algorithms", 2002). The
projections come in mirrored pairs: the code of the mirrored feature is the same code with
its halves exchanged, so that mirrored copies are found without a second picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.clean import Picture

__all__ = ["CODE_BYTES", "MAX_FEATURES", "Features", "extract_features", "mirrored_codes"]

CODE_BYTES = 32
MAX_FEATURES = 400

_SIDE = 720  # long side that features are taken at; OpenCV doubles it for its finest octave
_GRID = 12  # cells along the long side that keypoints are spread over


@frozen(eq=False)
class Features:
    """
    Keypoints of one sheet, strongest first; arrays of one length N <= `MAX_FEATURES`.

    `places` float32 (N, 2): x, y in pixels of the ink picture. `angles` float32: radians, from the x
    axis towards the y axis (down). `sizes` float32: diameter in the same pixels. `codes` uint8 (N, 32).
    """

    places: npt.NDArray[np.float32]
    angles: npt.NDArray[np.float32]
    sizes: npt.NDArray[np.float32]
    codes: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.places)


def extract_features(ink: Picture) -> Features:
    """Features of an ink picture; none where it has no ink. About 150 ms on one core."""
    scale = min(1.0, _SIDE / max(ink.shape))
    picture = _normalised(ink, scale)
    sift = cv2.SIFT.create(nfeatures=0, contrastThreshold=0.02, edgeThreshold=15)
    chosen = _spread(sift.detect(picture, None), picture.shape)
    if not chosen:
        return _empty()
    found, descriptors = sift.compute(picture, chosen)
    raw = np.array([(*point.pt, point.angle, point.size) for point in found], np.float32)
    return Features(
        # OpenCV's doubled octave shifts keypoints by a quarter of a pixel
        places=((raw[:, :2] + 0.25) / scale - 0.5).astype(np.float32),
        angles=np.deg2rad(raw[:, 2]).astype(np.float32),
        sizes=(raw[:, 3] / scale).astype(np.float32),
        codes=_binarised(np.asarray(descriptors, np.float32)),
    )


def mirrored_codes(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Codes of the same features seen in a mirror (angles become pi - angle)."""
    half = CODE_BYTES // 2
    return np.concatenate([codes[:, half:], codes[:, :half]], axis=1)


def _empty() -> Features:
    none = np.empty(0, np.float32)
    return Features(np.empty((0, 2), np.float32), none, none, np.empty((0, CODE_BYTES), np.uint8))


def _normalised(ink: Picture, scale: float) -> Picture:
    """Small grey picture in which thin lines keep their weight whatever they were drawn with."""
    reach = max(1, round(0.5 / scale))
    wide = cv2.dilate(ink, np.ones((2 * reach - 1, 2 * reach - 1), np.uint8)) if reach > 1 else ink
    size = (max(8, round(ink.shape[1] * scale)), max(8, round(ink.shape[0] * scale)))
    small = cv2.resize(wide, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.0), np.uint8)


def _spread(points: Sequence[cv2.KeyPoint], shape: tuple[int, ...]) -> list[cv2.KeyPoint]:
    """The best `MAX_FEATURES`, taken in turn from the cells of a grid and from three size classes."""
    if not points:
        return []
    cell = max(shape) / _GRID
    raw = np.array([(*point.pt, point.response, point.size, point.angle) for point in points], np.float32)
    kind = np.digitize(raw[:, 3], (5.0, 12.0))
    bucket = (raw[:, 0] // cell).astype(int) + 64 * (raw[:, 1] // cell).astype(int) + 4096 * kind
    order = np.lexsort((raw[:, 4], raw[:, 1], raw[:, 0], -raw[:, 2], bucket))
    sorted_bucket = bucket[order]
    first = np.searchsorted(sorted_bucket, sorted_bucket)
    place = np.arange(len(order)) - first  # rank inside its bucket
    # one more rank costs as much as half the response; large shapes say more than text
    worth = raw[order, 2] * np.array([0.7, 1.0, 1.4])[kind[order]] * 0.75**place
    best = order[np.argsort(-worth, kind="stable")[:MAX_FEATURES]]
    return [points[i] for i in best]


# Mean of rooted descriptors over drawings of many kinds, in thousandths: rows 0 and 1 of the four, by
# column and orientation. Rows 2 and 3 are their mirror images. Without it most bits would hardly vary.
_MEAN_ROWS = (
    (
        (73, 40, 32, 27, 40, 27, 30, 41),
        (122, 59, 37, 33, 53, 46, 63, 86),
        (86, 44, 36, 50, 94, 75, 80, 75),
        (46, 29, 32, 42, 79, 59, 60, 45),
    ),
    (
        (109, 45, 33, 31, 48, 29, 26, 52),
        (180, 82, 44, 46, 70, 62, 72, 123),
        (124, 67, 49, 73, 132, 111, 92, 95),
        (60, 38, 42, 58, 110, 77, 64, 51),
    ),
)


@cache
def _mean() -> npt.NDArray[np.float32]:
    upper = np.array(_MEAN_ROWS, np.float32) / 1000
    lower = upper[::-1][:, :, -np.arange(8) % 8]
    return np.concatenate([upper, lower]).reshape(128)


@cache
def _projections() -> npt.NDArray[np.float32]:
    """Projections (256, 128) in mirrored pairs."""
    rows, columns, orients = np.unravel_index(np.arange(128), (4, 4, 8))
    mirror = np.ravel_multi_index((3 - rows, columns, -orients % 8), (4, 4, 8))
    half = np.random.default_rng(20240607).standard_normal((128, 128)).astype(np.float32)
    return np.concatenate([half, half[:, mirror]])


def _binarised(descriptors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    # the root makes Euclidean distance a Hellinger one (Arandjelovic and Zisserman, 2012)
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    return np.packbits((rooted - _mean()) @ _projections().T > 0, axis=1)
