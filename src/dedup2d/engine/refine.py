"""Moves a placement until the query's ink lies on the other's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup2d.engine.geometry import Matrix, Points, apply
from dedup2d.engine.prepared import Floats, Level, Prepared

__all__ = ["CLOSE", "FIRST", "POLISH", "Stages", "refine", "refine_each"]

Stages = tuple[tuple[int, float], ...]
"""Free parameters (4 similarity, 6 affine, 8 perspective) and reach, in a level's pixels, of each step."""

FIRST: Stages = ((4, 15.0), (4, 8.0), (4, 5.0), (6, 5.0), (8, 5.0), (8, 4.0))
"""From a rough proposal, on the coarse level."""

CLOSE: Stages = ((8, 10.0), (8, 8.0), (8, 6.0), (8, 4.0), (8, 2.5), (8, 2.5))
"""From there, on the fine level."""

POLISH: Stages = ((8, 24.0), (8, 16.0), (8, 10.0), (8, 6.0), (8, 4.0), (8, 2.5), (8, 2.5))
"""Once more, farther off: a bent sheet may need it."""

_ENOUGH = ((5.0, 750), (3.0, 1500))
"""Reach, in a level's pixels, above which so many points show the way: the last steps take all."""


def refine(points: Points, other: Prepared, level: Level, matrix: Matrix, stages: Stages) -> Matrix:
    """
    Move `matrix` until `points` of the query lie on the ink of `other`, of which `level` is a picture.

    Gauss-Newton on the distance field with a bounded loss (Fitzgibbon, "Robust registration of 2D and 3D
    point sets", 2003).
    """
    return np.asarray(refine_each(points, other, level, matrix[None], stages)[0], np.float64)


def refine_each(points: Points, other: Prepared, level: Level, matrices: Matrix, stages: Stages) -> Matrix:
    """
    As `refine`, for several matrices (N, 3, 3), each by itself: far faster than one after the other.

    N times the number of points is at most 32,766, see `Level.slopes`.
    """
    # Reckoned on the level's picture: in its pixels from the middle of the sheet, in halves of its side.
    half = other.side / 2 / level.factor
    middle = np.array([other.width / 2 / level.factor, other.height / 2 / level.factor])
    place = np.array([[1 / half, 0, -middle[0] / half], [0, 1 / half, -middle[1] / half], [0, 0, 1]])
    place = place @ level.shrinking
    back = np.linalg.inv(place)
    matrices = matrices.astype(np.float64)
    moving = np.arange(len(matrices) if len(points) else 0)
    for free, reach in stages:
        moving = moving[np.isfinite(matrices[moving]).all(axis=(1, 2))]
        if not len(moving):
            break
        some = _some(points, reach)
        spots = np.stack([apply(one, some) for one in place @ matrices[moving]])
        distance, across, down = (
            each.reshape(spots.shape[:2])
            for each in level.slopes(spots.reshape(-1, 2) * np.float32(half) + middle.astype(np.float32))
        )
        near = np.count_nonzero(distance < reach, axis=1) >= 4 * free
        moving = moving[near]
        if not near.all():
            distance, across, down, spots = (each[near] for each in (distance, across, down, spots))
        change = np.eye(3) + _steps(distance, (across, down), spots, reach, free) / half
        moved = back @ change @ place @ matrices[moving]
        matrices[moving] = moved / moved[:, 2:, 2:]
    return matrices


def _some(points: Points, reach: float) -> Points:
    most = next((count for least, count in _ENOUGH if reach > least), len(points))
    return points[:: -(-len(points) // most)]


def _steps(distance: Floats, slope: tuple[Floats, Floats], spots: Points, reach: float, free: int) -> Matrix:
    """Least-squares changes (N, 3, 3), in the level's pixels, that lower the distances within reach."""
    (across, down), x, y = slope, *np.ascontiguousarray(spots.transpose(2, 0, 1))
    # along each parameter: how a spot moves, seen along the slope of the distance
    if free == 4:
        columns = [across, down, across * x + down * y, down * x - across * y]
    else:
        columns = [across, down, across * x, across * y, down * x, down * y]
    if free == 8:
        radial = columns[2] + columns[5]
        columns += [-radial * x, -radial * y]
    jacobian = np.stack(columns).transpose(1, 0, 2)
    weights = np.maximum(1 - (distance * np.float32(1 / reach)) ** 2, np.float32(0)) ** 2
    weighted = jacobian * weights[:, None]
    left = (weighted @ jacobian.transpose(0, 2, 1)).astype(np.float64)
    left += np.eye(free) * (1e-3 * np.trace(left, axis1=1, axis2=2)[:, None, None] / free + 1e-9)
    right = (weighted @ distance[:, :, None]).astype(np.float64)
    return _as_steps(np.linalg.solve(left, -right)[:, :, 0])


def _as_steps(p: npt.NDArray[np.float64]) -> Matrix:
    steps = np.zeros((len(p), 3, 3))
    steps[:, :2, 2] = p[:, :2]
    if p.shape[1] == 4:
        steps[:, 0, 0] = steps[:, 1, 1] = p[:, 2]
        steps[:, 0, 1], steps[:, 1, 0] = -p[:, 3], p[:, 3]
    else:
        steps[:, :2, :2] = p[:, 2:6].reshape(-1, 2, 2)
    if p.shape[1] == 8:
        steps[:, 2, :2] = p[:, 6:8]
    return steps
