"""
Keypoints of line drawings: places that stand out, at each of a row of sizes.

As in SIFT (Lowe, "Distinctive image features from scale-invariant keypoints", 2004) they are extremes of
differences of Gaussians, but of each size by itself: a corner of thin lines has no size of its own. Each
octave is drawn anew with lines as strong as in the one before, so that the plan of a bare outline stands
out as much as its smallest corner.
"""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt
from attrs import frozen

__all__ = ["LEVELS", "Floats", "Keypoints", "Pyramid"]

Floats = npt.NDArray[np.float32]

LEVELS = 3
"""Sizes per octave."""

_FINEST = 1.6  # blur of the finest level, in pixels of its octave
_UNBLURRED = 0.6  # blur that is in a picture just made smaller
_GAIN = np.float32(1.8)  # a line that halves its width keeps about its darkness
_LEAST_SIDE = 20  # of an octave
_AROUND = np.ones((5, 5), np.uint8)
_FAINTEST = 0.02  # difference of two blurs, where ink is 1 and paper 0
_EDGE = 10.0  # most that the two curvatures may differ: along a line a place is not fixed
_RIM = 4  # pixels of the octave


@frozen(eq=False)
class Keypoints:
    """
    Arrays of one length N. `places` (N, 2): x, y in pixels of the picture. `sigmas`: blur, in the same.

    `responses`: how clearly they stand out, 0..1. `levels`: octave * `LEVELS` + size within it.
    """

    places: Floats
    sigmas: Floats
    responses: Floats
    levels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def taken(self, which: npt.NDArray[np.intp]) -> Keypoints:
        return Keypoints(self.places[which], self.sigmas[which], self.responses[which], self.levels[which])


class Pyramid:
    """Octaves of a picture (float32 (H, W), 0 paper to 1 ink), each blurred to `LEVELS` + 1 sizes."""

    def __init__(self, picture: Floats) -> None:
        self.octaves: list[list[Floats]] = []
        while min(picture.shape) >= _LEAST_SIDE:
            self.octaves.append(_blurred(picture))
            picture = _halved(picture)

    def keypoints(self) -> Keypoints:
        """All that stands out, in a fixed order."""
        found = [
            _extremes(octave[step], octave[step + 1], number, step)
            for number, octave in enumerate(self.octaves)
            for step in range(LEVELS)
        ]
        return _joined([one for one in found if one is not None])

    @cached_property
    def _stack(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """The levels under each other in one picture, and top, height and width of each."""
        levels = [level for octave in self.octaves for level in octave[1:]]
        sizes = np.array([level.shape for level in levels], np.int64).reshape(-1, 2)
        tops = np.cumsum(sizes[:, 0]) - sizes[:, 0]
        stack = np.zeros((int(sizes[:, 0].sum()), int(sizes[:, 1].max(initial=0))), np.float32)
        for level, top in zip(levels, tops.tolist(), strict=True):
            stack[top : top + level.shape[0], : level.shape[1]] = level
        return stack, np.column_stack([tops, sizes])

    def patches(self, points: Keypoints, angles: Floats, side: int, step: float) -> Floats:
        """
        Samples (N, side, side) around each of `points`, turned by its angle (radians).

        `step`: between samples, in sigmas of the keypoint.
        """
        stack, table = self._stack
        top, height, width = table[points.levels].T.astype(np.float32)[:, :, None]
        shrunk = (2.0 ** -(points.levels // LEVELS)).astype(np.float32)[:, None]
        reach = (np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)) * np.float32(step)
        along, down = (part.reshape(1, -1) for part in np.meshgrid(reach, reach))
        middle = (points.places + np.float32(0.5)) * shrunk - np.float32(0.5)
        size = points.sigmas[:, None] * shrunk
        cosine, sine = np.cos(angles)[:, None] * size, np.sin(angles)[:, None] * size
        x = middle[:, :1] + cosine * along - sine * down
        y = middle[:, 1:] + sine * along + cosine * down
        x = np.clip(x, 0, width - 1)
        y = np.clip(y, 0, height - 1) + top
        samples = cv2.remap(stack, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
        return np.asarray(samples, np.float32).reshape(len(points), side, side)


def _blurred(picture: Floats) -> list[Floats]:
    ratio = 2 ** (1 / LEVELS)
    blurs = [_gaussian(picture, np.sqrt(_FINEST**2 - _UNBLURRED**2))]
    for step in range(LEVELS):
        blurs.append(_gaussian(blurs[-1], _FINEST * ratio**step * np.sqrt(ratio**2 - 1)))
    return blurs


def _gaussian(picture: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), float(sigma)), np.float32)


def _halved(picture: Floats) -> Floats:
    height, width = (side // 2 for side in picture.shape)
    even = picture[: 2 * height, : 2 * width]
    small = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(np.minimum(small * _GAIN, 1), np.float32)


def _extremes(fine: Floats, coarse: Floats, octave: int, step: int) -> Keypoints | None:
    """Keypoints of one level: extremes in their neighbourhood that do not lie along a line."""
    difference = np.asarray(cv2.subtract(fine, coarse), np.float32)
    x, y = _peaks(difference)
    if not len(x):
        return None
    shift, fixed = _refined(difference, x, y)
    factor = np.float32(2**octave)
    places = (np.stack([x, y], axis=1)[fixed] + shift[fixed]) * factor
    count = len(places)
    sigma = _FINEST * 2 ** (step / LEVELS) * factor
    return Keypoints(
        # the middle of a pixel of an octave is the middle of the pixels that it stands for
        places=(places + (factor - 1) / 2).astype(np.float32),
        sigmas=np.full(count, sigma, np.float32),
        responses=np.abs(difference[y[fixed], x[fixed]]),
        levels=np.full(count, octave * LEVELS + step, np.int64),
    )


def _peaks(difference: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Columns and rows of the extremes."""
    highest = cv2.max(cv2.dilate(difference, _AROUND), _FAINTEST)  # type: ignore[call-overload]  # OpenCV takes numbers
    lowest = cv2.min(cv2.erode(difference, _AROUND), -_FAINTEST)  # type: ignore[call-overload]  # OpenCV takes numbers
    tops, pits = cv2.compare(difference, highest, cv2.CMP_GE), cv2.compare(difference, lowest, cv2.CMP_LE)
    inner = cv2.bitwise_or(tops, pits)[_RIM:-_RIM, _RIM:-_RIM]
    spots = cv2.findNonZero(np.ascontiguousarray(inner)) if inner.size else None
    if spots is None:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    x, y = spots.reshape(-1, 2).T.astype(np.intp) + _RIM
    return x, y


def _refined(
    difference: Floats, x: npt.NDArray[np.intp], y: npt.NDArray[np.intp]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Shift (N, 2) to the top of a parabola, and which places are fixed both ways."""
    here = difference[y, x]
    left, right = difference[y, x - 1], difference[y, x + 1]
    above, below = difference[y - 1, x], difference[y + 1, x]
    across, down = left + right - 2 * here, above + below - 2 * here
    rising = difference[y + 1, x + 1] + difference[y - 1, x - 1]
    falling = difference[y + 1, x - 1] + difference[y - 1, x + 1]
    mixed = (rising - falling) / 4
    determinant = across * down - mixed**2
    fixed = (determinant > 0) & ((across + down) ** 2 * _EDGE < (_EDGE + 1) ** 2 * determinant)
    safe = np.where(fixed, determinant, 1)
    slope_x, slope_y = (right - left) / 2, (below - above) / 2
    shift_x = (mixed * slope_y - down * slope_x) / safe
    shift_y = (mixed * slope_x - across * slope_y) / safe
    return np.clip(np.stack([shift_x, shift_y], axis=1), -0.6, 0.6).astype(np.float32), fixed


def _joined(parts: list[Keypoints]) -> Keypoints:
    if not parts:
        none = np.empty(0, np.float32)
        return Keypoints(np.empty((0, 2), np.float32), none, none, np.empty(0, np.int64))
    return Keypoints(
        places=np.concatenate([one.places for one in parts]),
        sigmas=np.concatenate([one.sigmas for one in parts]),
        responses=np.concatenate([one.responses for one in parts]),
        levels=np.concatenate([one.levels for one in parts]),
    )
