"""Lays one sheet on another: proposals from features and boxes, refined on the ink itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.features import Features, mirrored_codes
from dedup2d.engine.geometry import Matrix, Points, apply, box_poses, inverted, is_mirrored, is_sane
from dedup2d.engine.prepared import Prepared

__all__ = ["Registration", "Support", "register", "support"]

_FARTHEST = 70  # bits of 256
_FEW = 600  # points that a proposal is tried with
_REACH = 1.6  # coarse pixels that count as touching


@frozen(kw_only=True)
class Support:
    """
    How well two sheets agree where they overlap; all 0..1.

    `query`, `other`: share of the sheet's ink on the overlap that touches the other's. `overlap_query`,
    `overlap_other`: share of the sheet's ink that lies on the overlap. `fit`: how closely what touches lies.
    """

    query: float
    other: float
    overlap_query: float
    overlap_other: float
    fit: float

    @property
    def score(self) -> float:
        agree = 2 * self.query * self.other / max(self.query + self.other, 1e-6)
        return float(agree * max(self.overlap_query, self.overlap_other) ** 0.5)


@frozen(kw_only=True, eq=False)
class Registration:
    """The best placement found; `inliers` features agree with it."""

    matrix: Matrix
    support: Support
    inliers: int

    @property
    def worth(self) -> float:
        """
        Its score; of placements that touch as much, the closer one is worth more.

        A symmetric drawing agrees mirrored too, and is then not called so.
        """
        penalty = 0.02 if is_mirrored(self.matrix) else 0.0
        return self.support.score + 0.02 * self.support.fit - penalty


def register(query: Prepared, other: Prepared) -> Registration | None:
    """Best placement of `query` on `other`, or None where one of them has no ink."""
    if not len(query.points) or not len(other.points):
        return None
    proposals = [(_page_to_page(query, other), 0), *_from_features(query, other)]
    proposals += [(matrix, 0) for matrix in box_poses(query.fingerprint.box, other.fingerprint.box)]
    side = max(query.side, other.side)
    proposals = [(matrix, inliers) for matrix, inliers in proposals if is_sane(matrix, side)]
    tried = [(support(query, other, matrix, few=True).score, -i) for i, (matrix, _) in enumerate(proposals)]
    ordered = [proposals[-number] for _, number in sorted(tried, reverse=True)]
    found = _refined(query, other, ordered[:3])
    if found and is_mirrored(max(found, key=lambda one: one.worth).matrix):
        # it may be symmetric: then it lies straight just as well, and is to be called so
        straight = [one for one in ordered[3:] if not is_mirrored(one[0])]
        found += _refined(query, other, straight[:2])
    return _best(query, other, found)


def _refined(query: Prepared, other: Prepared, proposals: list[tuple[Matrix, int]]) -> list[Registration]:
    """The proposals and what they become when the query's ink is moved onto the other's."""
    side = max(query.side, other.side)
    placements = [
        (placed, inliers)
        for matrix, inliers in proposals
        for placed in (matrix, refine(query, other, matrix))
        if is_sane(placed, side)
    ]
    return [
        Registration(matrix=placed, support=support(query, other, placed), inliers=inliers)
        for placed, inliers in placements
    ]


def _best(query: Prepared, other: Prepared, found: list[Registration]) -> Registration | None:
    """The best once the best straight and mirrored ones are polished; of equal ones the first proposed."""
    if not found:
        return None
    least = max(one.worth for one in found) - _POLISH_GAINS
    polished = []
    for mirrored in (False, True):
        some = [one for one in found if is_mirrored(one.matrix) == mirrored and one.worth >= least]
        if some:
            polished.append(_polished(query, other, _first_of_best(some)))
    return _first_of_best(polished)


def _first_of_best(found: list[Registration]) -> Registration:
    least = max(one.worth for one in found) - 1e-3
    return next(one for one in found if one.worth >= least)


def _polished(query: Prepared, other: Prepared, best: Registration) -> Registration:
    """`best`, moved on while that helps: a bent sheet may need more steps than each proposal is given."""
    for _ in range(2):
        if not _PROMISING < best.support.score < _SETTLED:
            return best
        placed = refine(query, other, best.matrix, _POLISH)
        if not is_sane(placed, max(query.side, other.side)):
            return best
        found = Registration(matrix=placed, support=support(query, other, placed), inliers=best.inliers)
        if found.support.score <= best.support.score + 2e-4:
            return best
        best = found
    return best


def _page_to_page(query: Prepared, other: Prepared) -> Matrix:
    """Corner on corner, as two resolutions of one file lie; exactly the identity for equal sizes."""
    scale = other.side / query.side
    matrix = np.diag([scale, scale, 1.0])
    matrix[:2, 2] = (scale - 1) / 2  # from pixel centres
    return matrix


def support(query: Prepared, other: Prepared, matrix: Matrix, *, few: bool = False) -> Support:
    """Agreement of two sheets under a placement, on samples of their ink at coarse size."""
    inverse = inverted(matrix)
    step = max(1, len(query.sample) // _FEW) if few else 1
    ahead, on_other, fit = _touching(query.sample[::step], other, matrix)
    step = max(1, len(other.sample) // _FEW) if few else 1
    back, on_query, fit_back = _touching(other.sample[::step], query, inverse)
    return Support(
        query=ahead,
        other=back,
        overlap_query=on_other,
        overlap_other=on_query,
        fit=min(fit, fit_back),
    )


def _touching(points: Points, target: Prepared, matrix: Matrix) -> tuple[float, float, float]:
    """Share of the points on the target that touch its ink, share that lies on it, and how closely."""
    moved = apply(matrix, points)
    inside = target.inside(moved)
    if not inside.any():
        return 0.0, 0.0, 0.0
    distance = target.distances(moved[inside])[:, 0]
    near = distance < _REACH
    fit = 1 - float(distance[near].mean()) / _REACH if near.any() else 0.0
    return float(near.mean()), float(inside.mean()), fit


def _from_features(query: Prepared, other: Prepared) -> list[tuple[Matrix, int]]:
    """Placements that many features agree on, straight and mirrored, best first."""
    found: list[tuple[Matrix, int]] = []
    for mirrored in (False, True):
        found += _agreed(
            query.fingerprint.features, other.fingerprint.features, other.side, mirrored=mirrored
        )
    return sorted(found, key=lambda one: -one[1])[:6]


def _agreed(query: Features, other: Features, side: int, *, mirrored: bool) -> list[tuple[Matrix, int]]:
    """
    Up to three placements, each the consensus of one pair's turn, scale and place.

    One pair of SIFT features already gives a whole placement, so every pair is tried: no drawing
    of lots, hence the same answer every time.
    """
    pairs = _pairs(query, other, mirrored=mirrored)
    if len(pairs) < 3:
        return []
    source = query.places[pairs[:, 0]].astype(np.float64)
    target = other.places[pairs[:, 1]].astype(np.float64)
    linear = _pair_turns(query, other, pairs, mirrored=mirrored)
    moved = linear * _complex(source, mirrored=mirrored)[:, 0]
    offset = _complex(target, mirrored=False)[:, 0] - moved
    located = _complex(source, mirrored=mirrored)[:, 0]
    # row: the placement of one pair; column: where it puts the source of another
    error = np.abs(
        linear[:, None] * located[None] + offset[:, None] - _complex(target, mirrored=False)[:, 0][None]
    )
    ratio = linear[None] / linear[:, None]
    agree = (error < 0.03 * side) & (np.abs(ratio - 1) < 0.35)
    found = []
    alive = np.ones(len(pairs), np.bool_)
    for _ in range(3):
        counts = _distinct(agree & alive, pairs[:, 0])
        top = int(counts.argmax())
        if counts[top] < 3:
            break
        members = agree[top] & alive
        found.append((_fitted(source[members], target[members], mirrored=mirrored), int(counts[top])))
        alive &= ~members
    return found


def _distinct(agree: npt.NDArray[np.bool_], query: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """How many different features of the query agree, per row; one has up to two columns, side by side."""
    twice = np.flatnonzero(query[1:] == query[:-1])
    both = np.count_nonzero(agree[:, twice] & agree[:, twice + 1], axis=1)
    return np.asarray(np.count_nonzero(agree, axis=1) - both, np.intp)


def _pairs(query: Features, other: Features, *, mirrored: bool) -> npt.NDArray[np.intp]:
    """Pairs (M, 2) of near features: the two nearest of each of the query's, at most 600."""
    if not len(query) or not len(other):
        return np.empty((0, 2), np.intp)
    codes = mirrored_codes(query.codes) if mirrored else query.codes
    ours = np.unpackbits(codes, axis=1).astype(np.float32) - 0.5
    theirs = np.unpackbits(other.codes, axis=1).astype(np.float32) - 0.5
    distance = 128 - 2 * (ours @ theirs.T)
    every = np.arange(len(query))
    nearest = distance.argmin(axis=1)
    least = distance[every, nearest]
    distance[every, nearest] = np.inf
    second = distance.argmin(axis=1)
    columns = np.stack([nearest, second], axis=1).ravel()
    good = np.stack([least, distance[every, second]], axis=1).ravel() <= _FARTHEST
    return np.stack([np.repeat(every, 2)[good], columns[good]], axis=1)


def _complex(points: npt.NDArray[np.float64], *, mirrored: bool) -> npt.NDArray[np.complex128]:
    """Places as complex numbers (N, 1); a mirror flips x."""
    return ((-points[:, 0] if mirrored else points[:, 0]) + 1j * points[:, 1])[:, None]


def _pair_turns(
    query: Features, other: Features, pairs: npt.NDArray[np.intp], *, mirrored: bool
) -> npt.NDArray[np.complex128]:
    angles = query.angles[pairs[:, 0]].astype(np.float64)
    turn = other.angles[pairs[:, 1]] - (np.pi - angles if mirrored else angles)
    scale = other.sizes[pairs[:, 1]] / query.sizes[pairs[:, 0]]
    return np.asarray(scale * np.exp(1j * turn), np.complex128)


def _fitted(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64], *, mirrored: bool) -> Matrix:
    """Least-squares similarity (Umeyama, 1991, in complex numbers)."""
    ours, theirs = _complex(source, mirrored=mirrored)[:, 0], _complex(target, mirrored=False)[:, 0]
    middle, aim = ours.mean(), theirs.mean()
    spread = float((np.abs(ours - middle) ** 2).sum())
    factor = (np.conj(ours - middle) * (theirs - aim)).sum() / max(spread, 1e-9)
    shift = aim - factor * middle
    flip = -1.0 if mirrored else 1.0
    return np.array(
        [
            [factor.real * flip, -factor.imag, shift.real],
            [factor.imag * flip, factor.real, shift.imag],
            [0.0, 0.0, 1.0],
        ]
    )


_STAGES = (
    (4, 24.0),
    (4, 12.0),
    (4, 8.0),
    (4, 5.0),
    (6, 5.0),
    (6, 3.0),
    (6, 3.0),
    (8, 3.0),
    (8, 2.0),
    (8, 2.0),
)
"""Free parameters (similarity, affine, perspective) and reach in coarse pixels of each step."""


_POLISH = ((8, 8.0), (8, 5.0), (8, 3.0), (8, 3.0), (8, 2.0), (8, 2.0))
_PROMISING, _SETTLED = 0.5, 0.998  # scores between which a placement is polished
_POLISH_GAINS = 0.1  # of the score, at most


def refine(
    query: Prepared, other: Prepared, matrix: Matrix, stages: tuple[tuple[int, float], ...] = _STAGES
) -> Matrix:
    """
    Move `matrix` until the query's ink lies on the other's.

    Gauss-Newton on the distance field with a bounded loss (Fitzgibbon, "Robust registration of 2D and 3D
    point sets", 2003), from a similarity over affine to perspective.
    """
    points = query.sample
    half = other.side / 2
    middle = np.array([other.width / 2, other.height / 2])
    for free, reach in stages:
        if not np.isfinite(matrix).all():
            return matrix
        moved = apply(matrix, points)
        values = other.distances(moved)
        near = values[:, 0] < reach
        if near.sum() < 4 * free:
            return matrix
        spots = (moved[near].astype(np.float64) - middle) / half
        step = _step(values[near].astype(np.float64), spots, reach, free)
        change = np.eye(3)
        change[:2, :] += step[:2, :]
        change[2, :2] += step[2, :2]
        place = np.array([[1 / half, 0, -middle[0] / half], [0, 1 / half, -middle[1] / half], [0, 0, 1]])
        moved_matrix = np.linalg.inv(place) @ _scaled(change, other.coarse, half) @ place @ matrix
        matrix = moved_matrix / moved_matrix[2, 2]
    return matrix


def _scaled(change: Matrix, coarse: float, half: float) -> Matrix:
    """A change found in coarse pixels, as one of places in units of half a side."""
    unit = coarse * half
    return np.eye(3) + (change - np.eye(3)) / unit


def _step(values: npt.NDArray[np.float64], spots: npt.NDArray[np.float64], reach: float, free: int) -> Matrix:
    """Least-squares change (3, 3), in coarse pixels, that lowers the distances."""
    distance, across, down = values.T
    x, y = spots.T
    one = np.ones_like(x)
    # along each parameter: how a spot moves, seen along the slope of the distance
    if free == 4:
        columns = [across * one, down * one, across * x + down * y, -across * y + down * x]
    else:
        columns = [across * one, down * one, across * x, across * y, down * x, down * y]
    if free == 8:
        radial = across * x + down * y
        columns += [-radial * x, -radial * y]
    jacobian = np.stack(columns, axis=1)
    weight = (1 - (distance / reach) ** 2) ** 2
    left = (jacobian * weight[:, None]).T @ jacobian
    left += np.eye(free) * (1e-3 * np.trace(left) / free + 1e-9)
    p = np.linalg.solve(left, -(jacobian * weight[:, None]).T @ distance)
    step = np.zeros((3, 3))
    step[:2, 2] = p[:2]
    if free == 4:
        step[:2, :2] = [[p[2], -p[3]], [p[3], p[2]]]
    else:
        step[:2, :2] = [[p[2], p[3]], [p[4], p[5]]]
    if free == 8:
        step[2, :2] = p[6:8]
    return step
