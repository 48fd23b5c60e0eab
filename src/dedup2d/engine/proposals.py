"""Ways in which one sheet may lie on another: page on page, box on box, and what features agree on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.features import Features, bits_apart, mirrored_codes
from dedup2d.engine.geometry import Matrix, apply, from_complex, is_mirrored
from dedup2d.engine.prepared import Prepared

__all__ = ["Proposal", "agreeing_features", "by_features", "feature_pairs", "page_to_page"]

_FARTHEST = 70  # bits of 256
_MOST_PAIRS = 500
_LEAST_AGREED = 3
_LEAST_SCALE = 0.15
_OFF = 0.03  # of the other sheet's side: how far a pair may be off a placement that it agrees with
_OFF_FOUND = 0.01  # the same where lines have found the placement
_OFF_TURN = 0.35  # the same for its turn and scale

Numbers = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]
Indices = npt.NDArray[np.intp]


@frozen(eq=False)
class Proposal:
    """A placement of the query on the other sheet, which `inliers` features agree with."""

    matrix: Matrix
    inliers: int = 0


def page_to_page(query: Prepared, other: Prepared) -> Proposal:
    """Corner on corner, as two resolutions of one file lie; exactly the identity for equal sizes."""
    scale = other.side / query.side
    matrix = np.diag([scale, scale, 1.0])
    matrix[:2, 2] = (scale - 1) / 2  # from pixel centres
    return Proposal(matrix)


def by_features(query: Prepared, other: Prepared) -> list[Proposal]:
    """Placements that at least three features agree on, straight and mirrored, best first; at most six."""
    found: list[Proposal] = []
    for mirrored in (False, True):
        found += _agreed(
            query.fingerprint.features, other.fingerprint.features, other.side, mirrored=mirrored
        )
    return sorted(found, key=lambda one: -one.inliers)


def feature_pairs(query: Features, other: Features) -> tuple[Indices, Complex, Complex, Complex]:
    """
    Pairs of near features, not mirrored: number of the query's, its place, the other's, and turn and scale.

    All but the number are complex: x + iy in ink pixels, and scale times e to the i times the turn.
    """
    own, its = _pairs(query, other, mirrored=False)
    turns = _pair_turns(query, other, own, its, mirrored=False)
    source = _as_complex(query.places[own], mirrored=False)
    return own, source, _as_complex(other.places[its], mirrored=False), turns


def agreeing_features(query: Prepared, other: Prepared, matrix: Matrix) -> int:
    """How many features of the query agree with different ones of the other on `matrix`."""
    mirrored = is_mirrored(matrix)
    features = query.fingerprint.features, other.fingerprint.features
    own, its = _pairs(*features, mirrored=mirrored)
    if not len(own):
        return 0
    places = apply(matrix, features[0].places[own].astype(np.float64))
    off = np.hypot(*(places - features[1].places[its]).T)
    flip = -1.0 if mirrored else 1.0
    linear = complex(matrix[0, 0] * flip, matrix[1, 0] * flip)
    turned = np.abs(_pair_turns(*features, own, its, mirrored=mirrored) / linear - 1)
    agree = (off < _OFF_FOUND * other.side) & (turned < _OFF_TURN)
    return min(len(np.unique(own[agree])), len(np.unique(its[agree])))


def _agreed(query: Features, other: Features, side: int, *, mirrored: bool) -> list[Proposal]:
    """
    Up to three placements, each the consensus of one pair's turn, scale and place.

    One pair of SIFT features already gives a whole placement, so every pair is tried: no drawing
    of lots, hence the same answer every time.
    """
    own, its = _pairs(query, other, mirrored=mirrored)
    if len(own) < _LEAST_AGREED:
        return []
    source = _as_complex(query.places[own], mirrored=mirrored)
    target = _as_complex(other.places[its], mirrored=False)
    linear = _pair_turns(query, other, own, its, mirrored=mirrored)
    sane = (np.abs(linear) > _LEAST_SCALE) & (np.abs(linear) < 1 / _LEAST_SCALE)
    own, its = own[sane], its[sane]
    source, target, linear = source[sane], target[sane], linear[sane]
    if len(own) < _LEAST_AGREED:
        return []
    agree = _agreeing(source, target, linear, side)
    found = []
    alive = np.ones(len(own), np.bool_)
    for _ in range(3):
        counts = _distinct(agree & alive, own)
        top = int(counts.argmax())
        if counts[top] < _LEAST_AGREED:
            break
        members = agree[top] & alive
        found.append(Proposal(_fitted(source[members], target[members], mirrored=mirrored), int(counts[top])))
        alive &= ~members
    return found


def _agreeing(source: Complex, target: Complex, linear: Complex, side: int) -> npt.NDArray[np.bool_]:
    """Row: the placement of one pair; column: whether it puts the source of another on its target."""
    # Squared lengths of complex differences, as products of matrices: far faster than complex numbers.
    shift, size, one = target - linear * source, np.abs(linear) ** 2, np.ones(len(linear))
    spots = (source.real, source.imag, one)
    across = _products((linear.real, -linear.imag, shift.real, -one), (*spots, target.real))
    down = _products((linear.imag, linear.real, shift.imag, -one), (*spots, target.imag))
    turned = _products(
        (-2 * linear.real, -2 * linear.imag, size * (1 - _OFF_TURN**2), one),
        (linear.real, linear.imag, one, size),
    )
    return np.asarray((across**2 + down**2 < (_OFF * side) ** 2) & (turned < 0), np.bool_)


def _products(rows: Sequence[Numbers], columns: Sequence[Numbers]) -> npt.NDArray[np.float32]:
    return np.asarray(np.stack(rows, axis=1, dtype=np.float32) @ np.stack(columns, dtype=np.float32))


def _distinct(agree: npt.NDArray[np.bool_], own: Indices) -> Indices:
    """How many different features of the query agree, per row; one has up to two columns, side by side."""
    twice = np.flatnonzero(own[1:] == own[:-1])
    both = np.count_nonzero(agree[:, twice] & agree[:, twice + 1], axis=1)
    return np.asarray(np.count_nonzero(agree, axis=1) - both, np.intp)


def _pairs(query: Features, other: Features, *, mirrored: bool) -> tuple[Indices, Indices]:
    """Pairs of near features: the two nearest of each of the query's, the 500 nearest of all."""
    if not len(query) or len(other) < 2:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    distance = bits_apart(mirrored_codes(query.codes) if mirrored else query.codes, other.codes)
    every = np.arange(len(query))
    nearest = np.empty((len(query), 2), np.intp)
    least = np.empty((len(query), 2), np.uint16)
    for rank in range(2):
        nearest[:, rank] = distance.argmin(axis=1)
        least[:, rank] = distance[every, nearest[:, rank]]
        distance[every, nearest[:, rank]] = 999
    flat = least.ravel()
    good = np.flatnonzero(flat <= _FARTHEST)
    if len(good) > _MOST_PAIRS:
        good = np.sort(good[np.argsort(flat[good], kind="stable")[:_MOST_PAIRS]])
    return good // 2, nearest.ravel()[good]


def _as_complex(places: npt.NDArray[np.float32], *, mirrored: bool) -> Complex:
    """Places as complex numbers (N,); a mirror flips x."""
    x, y = places.astype(np.float64).T
    return np.asarray((-x if mirrored else x) + 1j * y, np.complex128)


def _pair_turns(query: Features, other: Features, own: Indices, its: Indices, *, mirrored: bool) -> Complex:
    angles = query.angles[own].astype(np.float64)
    turn = other.angles[its] - (np.pi - angles if mirrored else angles)
    return np.asarray(other.sizes[its] / query.sizes[own] * np.exp(1j * turn), np.complex128)


def _fitted(ours: Complex, theirs: Complex, *, mirrored: bool) -> Matrix:
    """Least-squares similarity (Umeyama, 1991, in complex numbers)."""
    middle, aim = ours.mean(), theirs.mean()
    spread = float((np.abs(ours - middle) ** 2).sum())
    factor = (np.conj(ours - middle) * (theirs - aim)).sum() / max(spread, 1e-9)
    return from_complex(factor, aim - factor * middle, mirrored=mirrored)
