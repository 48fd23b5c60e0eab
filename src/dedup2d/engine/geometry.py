"""Plane transforms as 3 x 3 matrices that take the query's pixels (x, y) to the match's."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from dedup2d.types import Transform

__all__ = [
    "Matrix",
    "Points",
    "apply",
    "as_transform",
    "box_poses",
    "covered",
    "flips",
    "from_complex",
    "inverted",
    "is_mirrored",
    "is_sane",
    "moved_box",
    "scale_of",
]

_STRETCH = 1.12  # of one direction against the other
_PERSPECTIVE = 0.25  # over a sheet: how much nearer one side may be

Matrix = npt.NDArray[np.float64]
Points = npt.NDArray[np.float32]


def apply(matrix: Matrix, points: Points) -> Points:
    """`points` (N, 2) moved by `matrix`."""
    if not len(points):
        return np.empty((0, 2), np.float32)
    return np.asarray(cv2.perspectiveTransform(points[None], matrix)[0], np.float32)


def covered(box: tuple[int, int, int, int]) -> tuple[slice, slice]:
    """The rows and columns of a picture that the box (left, top, width, height) covers, wherever it lies."""
    x, y, width, height = box
    return slice(max(y, 0), max(y + height, 0)), slice(max(x, 0), max(x + width, 0))


def moved_box(matrix: Matrix, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """The upright box (left, top, width, height) around where `matrix` takes the corners of `box`."""
    x, y, width, height = box
    right, bottom = x + width, y + height
    corners: Points = np.array([[x, y], [right, y], [right, bottom], [x, bottom]], np.float32)
    left, top, across, down = cv2.boundingRect(apply(matrix, corners))
    return int(left), int(top), int(across), int(down)


def inverted(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.inv(matrix), np.float64)


def scale_of(matrix: Matrix) -> float:
    """Match size over query size (root of the area factor)."""
    return math.sqrt(abs(_area_factor(matrix))) / abs(float(matrix[2, 2]))


def is_mirrored(matrix: Matrix) -> bool:
    return _area_factor(matrix) < 0


def _area_factor(matrix: Matrix) -> float:
    (a, b), (c, d) = matrix[:2, :2].tolist()
    return float(a * d - b * c)


def is_sane(matrix: Matrix, side: float) -> bool:
    """
    Whether this is how a sheet may lie on another: scale 0.15 to 7, sides within 8 % of each other and
    corners within 6 degrees of square in its middle, and no more perspective over `side` pixels than a
    camera gives that is held by hand.
    """
    if not np.isfinite(matrix).all() or abs(matrix[2, 2]) < 1e-6 or not 0.15 <= scale_of(matrix) <= 7:
        return False
    if np.abs(matrix[2, :2]).max() * side >= _PERSPECTIVE * abs(matrix[2, 2]):
        return False
    least, most = _stretch(matrix, side / 2)
    return most <= _STRETCH * least


def _stretch(matrix: Matrix, x: float) -> tuple[float, float]:
    """Least and most that a length grows at the point (x, x): the singular values of the Jacobian there."""
    across, down, weight = (matrix @ (x, x, 1.0)).tolist()
    (a, b, _), (c, d, _), (g, h, _) = matrix.tolist()
    a, b = a - g * across / weight, b - h * across / weight
    c, d = c - g * down / weight, d - h * down / weight
    turning, mirroring = math.hypot(a + d, c - b) / 2, math.hypot(a - d, c + b) / 2
    return abs(turning - mirroring), turning + mirroring


def from_complex(linear: complex, shift: complex, *, mirrored: bool = False) -> Matrix:
    """What takes z = x + iy to `linear` z + `shift`; a mirror flips x before."""
    flip = -1.0 if mirrored else 1.0
    return np.array(
        [
            [linear.real * flip, -linear.imag, shift.real],
            [linear.imag * flip, linear.real, shift.imag],
            [0.0, 0.0, 1.0],
        ]
    )


def as_transform(matrix: Matrix) -> Transform:
    """The nearest mirror, turn, scale and shift."""
    flip = np.diag([-1.0, 1.0]) if is_mirrored(matrix) else np.eye(2)
    linear = matrix[:2, :2] @ flip / matrix[2, 2]
    # y points down: a positive angle of the matrix turns clockwise on the screen
    angle = np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])
    return Transform(
        mirrored=is_mirrored(matrix),
        rotation_degrees=round(float(-np.rad2deg(angle)), 3) + 0.0,
        scale=round(scale_of(matrix), 5),
        shift_x=round(float(matrix[0, 2] / matrix[2, 2]), 2),
        shift_y=round(float(matrix[1, 2] / matrix[2, 2]), 2),
    )


def box_poses(query: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> list[Matrix]:
    """The 8 ways to lay box `query` on box `other` (x, y, width, height): centred, same area."""
    found = []
    for flip in (1.0, -1.0):
        for turns in range(4):
            angle = -turns * np.pi / 2
            cosine, sine = round(np.cos(angle)), round(np.sin(angle))
            linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([flip, 1.0])
            width, height = query[2:] if turns % 2 == 0 else query[3:1:-1]
            scale = np.sqrt(max(other[2], 1) * max(other[3], 1) / (max(width, 1) * max(height, 1)))
            matrix = np.eye(3)
            matrix[:2, :2] = linear * scale
            matrix[:2, 2] = _middle(other) - matrix[:2, :2] @ _middle(query)
            found.append(matrix)
    return found


def flips(box: tuple[int, int, int, int]) -> list[Matrix]:
    """The two mirrors that take box (x, y, width, height) onto itself."""
    x, y = _middle(box)
    across = np.array([[-1.0, 0, 2 * x], [0, 1, 0], [0, 0, 1]])
    down = np.array([[1.0, 0, 0], [0, -1, 2 * y], [0, 0, 1]])
    return [across, down]


def _middle(box: tuple[int, int, int, int]) -> npt.NDArray[np.float64]:
    return np.array([box[0] + (box[2] - 1) / 2, box[1] + (box[3] - 1) / 2])
