"""
Lets a sheet settle on another: small smooth shifts by place, as bent paper and uneven feeding leave them.

One matrix lays the whole sheet; a scan is a few pixels off it here and there. The shifts are
found on a coarse grid, stiff enough that a moved hole stays moved (free-form registration after
Rueckert et al., "Nonrigid registration using free-form deformations", 1999, on distances to lines
as in Fitzgibbon, "Robust registration of 2D and 3D point sets", 2003).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup2d.engine.clean import Picture
from dedup2d.engine.geometry import Matrix, Points, apply, inverted

__all__ = ["Shifts", "laid", "settled"]

Floats = npt.NDArray[np.float32]

_CELLS = 10  # along the long side of the sheet
_SAMPLE = 5000  # points of line that are fitted
_LEAST_IN_CELL = 20
_FAR = 24.0  # pixels beyond which a line is another line
_MOST = 16.0  # pixels: a larger shift is no bent paper
_OFF = 1.5  # pixels off their line: half of the points of a cell that lies well are nearer
_REACHES = (12.0, 8.0, 6.0, 4.0, 3.0, 2.0)  # pixels, from step to step: farther lines count for little
_STIFF = 6.0  # points of line that outweigh a bend of one pixel in a cell
_LEAST_GAIN = 0.05  # of the points that shifts must bring to lines
_STEP = 8  # pixels between those where the way back is computed


class Shifts(NamedTuple):
    """Shifts (rows, columns, 2) in pixels at grid points that lie `cell` pixels apart, the first at 0, 0."""

    grid: Floats
    cell: float

    def at(self, points: Points) -> Points:
        """Shift (N, 2) at `points`."""
        corners, weights = _corners(self, points)
        flat = self.grid.reshape(-1, 2)
        return np.asarray((flat[corners] * weights[:, :, None]).sum(axis=1), np.float32)


def settled(points: Points, paper: Picture, matrix: Matrix, where: Picture) -> Shifts:
    """
    Shifts that take `points` (N, 2), moved by `matrix`, to the lines of a sheet.

    `paper` (uint8 (H, W)) is 0 on the middle of its lines; what lies where `where` is 0 says nothing. No
    shift where there is nothing to go by, and none anywhere where all but a few places lie well: what is
    off there was moved by somebody.
    """
    height, width = paper.shape
    cell = max(height, width) / _CELLS
    rows, columns = int(height // cell) + 2, int(width // cell) + 2
    shifts = Shifts(np.zeros((rows, columns, 2), np.float32), cell)
    moved = apply(matrix, _sampled(points))
    moved = moved[((moved >= 0) & (moved < [width, height])).all(axis=1)]
    x, y = moved.astype(np.intp).T
    moved = moved[where[y, x] > 0]
    if len(moved) < 50:
        return shifts
    distance = np.minimum(cv2.distanceTransform(paper, cv2.DIST_L2, 3), np.float32(_FAR))
    if not _bent(shifts, moved, distance):
        return shifts
    distances = _with_slopes(distance)
    stiffness = _stiffness(rows, columns)
    bent = shifts
    for reach in _REACHES:
        bent = _improved(bent, moved, distances, stiffness, reach)
    bent = Shifts(np.clip(bent.grid, -_MOST, _MOST), cell)
    gain = _on_lines(moved + bent.at(moved), distance) - _on_lines(moved, distance)
    # where much of a sheet was changed, bending brings little to lines
    return bent if gain >= _LEAST_GAIN else shifts


def laid(ink: Picture, matrix: Matrix, shifts: Shifts, size: tuple[int, int]) -> Picture:
    """`ink` moved by `matrix` and `shifts` onto a sheet of `size` (width, height)."""
    width, height = size
    xs = np.arange(0, width + _STEP, _STEP, dtype=np.float32)
    ys = np.arange(0, height + _STEP, _STEP, dtype=np.float32)
    spots = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    # the shifts are small and smooth: that at the target is that at the source
    back = apply(inverted(matrix), spots - shifts.at(spots)).reshape(len(ys), len(xs), 2)
    # resize puts the middles of its pixels half a step off ours
    whole = np.array([[1 / _STEP, 0, 0], [0, 1 / _STEP, 0]], np.float32)
    maps = [
        cv2.warpAffine(np.ascontiguousarray(part), whole, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        for part in np.moveaxis(back, 2, 0)
    ]
    return np.asarray(cv2.remap(ink, maps[0], maps[1], cv2.INTER_LINEAR), np.uint8)


def _sampled(points: Points) -> Points:
    if len(points) <= _SAMPLE:
        return points
    return points[np.random.default_rng(7).choice(len(points), _SAMPLE, replace=False)]


def _with_slopes(distance: Floats) -> Floats:
    """`distance` and its slopes along x and y (h, w, 3)."""
    across = cv2.Sobel(distance, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(distance, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    return np.asarray(cv2.merge([distance, across, down]), np.float32)


def _bent(shifts: Shifts, points: Points, distance: Floats) -> bool:
    """Whether a tenth of the sheet's cells, and more than one, lie off as a whole."""
    corners, weights = _corners(shifts, points)
    cell = np.take_along_axis(corners, weights.argmax(axis=1)[:, None], axis=1).ravel()
    off_line = _looked_up(distance, points) > _OFF
    count = np.bincount(cell)
    off = np.bincount(cell, weights=off_line) > 0.5 * count
    counted = count >= _LEAST_IN_CELL
    return bool((off & counted).sum() >= max(2, 0.1 * counted.sum()))


def _on_lines(points: Points, distance: Floats) -> float:
    """Share of `points` that lie on a line."""
    return float((_looked_up(distance, points) <= _OFF).mean())


def _looked_up(distance: Floats, points: Points) -> Floats:
    height, width = distance.shape
    x, y = np.round(points).astype(np.intp).T
    return np.asarray(distance[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)], np.float32)


def _improved(
    shifts: Shifts, points: Points, distances: Floats, stiffness: npt.NDArray[np.float64], reach: float
) -> Shifts:
    """One Gauss-Newton step; lines farther than about `reach` count for little."""
    corners, weights = _corners(shifts, points)
    flat = shifts.grid.reshape(-1, 2)
    now = points + (flat[corners] * weights[:, :, None]).sum(axis=1)
    x, y = (np.ascontiguousarray(part[:, None], np.float32) for part in now.T)
    found = cv2.remap(distances, x, y, cv2.INTER_LINEAR).reshape(-1, 3)
    trust = (reach**2 / (reach**2 + found[:, 0] ** 2)) ** 2 * (found[:, 0] < _FAR - 1)
    nodes = len(flat)
    # each point hangs on its four corners along its slope: 8 unknowns, 64 products
    slopes = (weights[:, :, None] * found[:, None, 1:]).reshape(len(points), 8)
    unknowns = (corners[:, :, None] * 2 + np.arange(2)).reshape(len(points), 8)
    products = slopes[:, :, None] * slopes[:, None, :] * trust[:, None, None]
    spots = unknowns[:, :, None] * (2 * nodes) + unknowns[:, None, :]
    normal = np.bincount(spots.ravel(), products.ravel(), minlength=(2 * nodes) ** 2)
    pull = np.bincount(
        unknowns.ravel(), (slopes * (trust * found[:, 0])[:, None]).ravel(), minlength=2 * nodes
    )
    held = np.kron(stiffness, np.eye(2))
    left = normal.reshape(2 * nodes, 2 * nodes) + held
    step = np.linalg.solve(left, -pull - held @ flat.ravel().astype(np.float64))
    return Shifts((flat.ravel() + step).reshape(shifts.grid.shape).astype(np.float32), shifts.cell)


def _corners(shifts: Shifts, points: Points) -> tuple[npt.NDArray[np.int64], Floats]:
    """Numbers of the four grid points around each of `points` (N, 4), and their weights."""
    rows, columns = shifts.grid.shape[:2]
    spots = np.clip(points / np.float32(shifts.cell), 0, [columns - 1.001, rows - 1.001])
    base = spots.astype(np.int64)
    x, y = (spots - base).T.astype(np.float32)
    first = base[:, 1] * columns + base[:, 0]
    numbers = np.stack([first, first + 1, first + columns, first + columns + 1], axis=1)
    weights = np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], axis=1)
    return numbers, np.asarray(weights, np.float32)


def _stiffness(rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Cost of bends (second differences) along both ways, and a little of any shift at all."""
    total = 0.5 * np.eye(rows * columns)
    numbers = np.arange(rows * columns).reshape(rows, columns)
    for lines in (numbers, numbers.T):
        for line in lines:
            for left, middle, right in zip(line, line[1:], line[2:], strict=False):
                bend = np.zeros(rows * columns)
                bend[[left, middle, right]] = 1, -2, 1
                total += _STIFF * np.outer(bend, bend)
    return total
