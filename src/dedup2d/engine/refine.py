"""Moves a placement until the query's ink lies on the other's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dedup2d.engine.geometry import Matrix, Points, apply
from dedup2d.engine.prepared import Level, Prepared

__all__ = ["CLOSE", "FIRST", "POLISH", "Stages", "refine"]

Stages = tuple[tuple[int, float], ...]
"""Free parameters (4 similarity, 6 affine, 8 perspective) and reach, in a level's pixels, of each step."""

FIRST: Stages = ((4, 15.0), (4, 8.0), (4, 5.0), (6, 5.0), (8, 5.0), (8, 4.0))
"""From a rough proposal, on the coarse level."""

CLOSE: Stages = ((8, 10.0), (8, 8.0), (8, 6.0), (8, 4.0), (8, 2.5), (8, 2.5))
"""From there, on the fine level."""

POLISH: Stages = ((8, 24.0), (8, 16.0), (8, 10.0), (8, 6.0), (8, 4.0), (8, 2.5), (8, 2.5))
"""Once more, farther off: a bent sheet may need it."""

_FAR = 5.0


def refine(points: Points, other: Prepared, level: Level, matrix: Matrix, stages: Stages) -> Matrix:
    """
    Move `matrix` until `points` of the query lie on the ink of `other`, of which `level` is a picture.

    Gauss-Newton on the distance field with a bounded loss (Fitzgibbon, "Robust registration of 2D and 3D
    point sets", 2003).
    """
    half = other.side / 2
    middle = np.array([other.width / 2, other.height / 2], np.float32)
    place = np.array([[1 / half, 0, -middle[0] / half], [0, 1 / half, -middle[1] / half], [0, 0, 1]])
    back = np.linalg.inv(place)
    unit = half / level.factor  # a change is found in the level's pixels, and made in halves of a side
    for free, reach in stages:
        if not np.isfinite(matrix).all():
            return matrix
        # Far from the goal, half of the points show the way.
        moved = apply(matrix, points[::2] if reach > _FAR else points)
        values = level.distances(moved)
        near = values[:, 0] < reach
        if near.sum() < 4 * free:
            return matrix
        spots = (moved[near] - middle) / np.float32(half)
        change = np.eye(3) + _step(values[near], spots, reach, free) / unit
        matrix = back @ change @ place @ matrix
        matrix = matrix / matrix[2, 2]
    return matrix


def _step(values: npt.NDArray[np.float32], spots: npt.NDArray[np.float32], reach: float, free: int) -> Matrix:
    """Least-squares change (3, 3), in the level's pixels, that lowers the distances."""
    distance, across, down = values.T
    x, y = spots.T
    # along each parameter: how a spot moves, seen along the slope of the distance
    if free == 4:
        columns = [across, down, across * x + down * y, down * x - across * y]
    else:
        columns = [across, down, across * x, across * y, down * x, down * y]
    if free == 8:
        radial = across * x + down * y
        columns += [-radial * x, -radial * y]
    jacobian = np.stack(columns)
    weighted = jacobian * (1 - (distance / np.float32(reach)) ** 2) ** 2
    left = (weighted @ jacobian.T).astype(np.float64)
    left += np.eye(free) * (1e-3 * np.trace(left) / free + 1e-9)
    return _as_step(np.linalg.solve(left, -(weighted @ distance).astype(np.float64)))


def _as_step(p: npt.NDArray[np.float64]) -> Matrix:
    step = np.zeros((3, 3))
    step[:2, 2] = p[:2]
    if len(p) == 4:
        step[:2, :2] = [[p[2], -p[3]], [p[3], p[2]]]
    else:
        step[:2, :2] = [[p[2], p[3]], [p[4], p[5]]]
    if len(p) == 8:
        step[2, :2] = p[6:8]
    return step
