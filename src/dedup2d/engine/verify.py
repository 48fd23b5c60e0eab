"""
L4: lays the query on a candidate and measures, both ways, how much of the ink agrees.

Each sheet's lines are thinned to their middle and looked up in the other's ink widened by a
tolerance, so that line width does not count. What finds no partner is gathered into clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from dedup2d.engine.clean import Picture
from dedup2d.engine.fingerprint import Fingerprint
from dedup2d.engine.geometry import Matrix, Points, apply, inverted, is_mirrored, scale_of
from dedup2d.engine.leftover import Cluster, clusters
from dedup2d.engine.pieces import Layers, moved_pieces, piecewise
from dedup2d.engine.pixels import LEAST_FIT, NOTHING, Redrawn, redrawn
from dedup2d.engine.prepared import Box, Prepared
from dedup2d.engine.register import Registration, placed_apart, register, support

if TYPE_CHECKING:
    from dedup2d.engine.entities import EntityEvidence

__all__ = ["Evidence", "Side", "beyond_chance", "relaid", "verify", "verify_prepared"]

_RIM = 0.05  # of the ink's box
_LEAST_SEEN = 0.05  # of the ink lies in the views
_MOST_CLUSTERS = 200
_MOST_SPREAD = 30000  # points whose agreement by place is looked at
_MOST_BY_PIECE = 15000  # the same, where each is looked up in several places
_WHOLE = 0.85  # overlap from which two sheets lie on each other
_LEAST_BY_PIECE = 0.33  # beyond chance: of strangers in one form some places fit others too
_AS_GOOD = 0.02  # of the score that ink may lose on a placement that lines say
_POOR = 0.6  # share from which nothing has to be explained by pieces that moved

_Kept = npt.NDArray[np.bool_]


@frozen(kw_only=True)
class Side:
    """
    How much of one sheet's ink the other confirms; shares 0..1.

    `covered`: of all its ink. `overlap`: how much lies where the other sheet is. `agreed`: confirmed
    share of that. `chance`: what would agree by chance, laid some way off. `spread`: confirmed share by
    place in the views (cells of a grid) instead of by ink, so that neither text nor the form outweighs them.
    Where views moved by themselves, these four shares take each piece where it lies (see `pieces`).
    `lost`: clusters without a partner, longest first, in pixels of this sheet, `size` pixels long.
    `points`: pixels of line. `half_width`: mean of the lines, in pixels. `off`: how deep within its ink's box
    reaches what lies off the other sheet, as share of the box's shorter side. `sheet`: width and height.
    """

    size: int
    covered: float
    overlap: float
    agreed: float
    chance: float
    spread: float
    lost: tuple[Cluster, ...]
    points: int = 0
    half_width: float = 1.0
    off: float = 0.0
    sheet: tuple[int, int] = (1, 1)


@frozen(kw_only=True)
class Evidence:
    """
    What verification found. `matrix` (9 numbers, row by row) takes the query's ink pixels to the match's.

    `inliers`: features that agree with it. `tolerance`: pixels of the match within which ink agrees.
    `fit`: how closely what agrees lies, 0..1; 1 to the pixel. `rough`: too little agreed for a close look;
    the shares are then of few points, and nothing is `lost`. `redrawn`: where pictures that are the same to
    the pixel elsewhere differ. `entities`: how the sheets agree as vectors, where both have them.
    """

    matrix: tuple[float, ...]
    inliers: int
    tolerance: float
    query: Side
    other: Side
    fit: float = 1.0
    rough: bool = False
    redrawn: Redrawn = NOTHING
    entities: EntityEvidence | None = None

    @property
    def placement(self) -> Matrix:
        return np.array(self.matrix, np.float64).reshape(3, 3)


def beyond_chance(share: float, chance: float) -> float:
    """What a share 0..1 is worth where `chance` would agree anyway, 0..1."""
    return max(0.0, (share - chance) / max(1 - chance, 1e-6))


def verify(query: Fingerprint, query_ink: Picture, other: Fingerprint, other_ink: Picture) -> Evidence | None:
    """
    Evidence of how `query` lies on `other`; None where one of them has no ink.

    For one query against many, make it ready once and use `verify_prepared`.
    """
    return verify_prepared(Prepared(query, query_ink), Prepared(other, other_ink))


def verify_prepared(
    query: Prepared, other: Prepared, placement: Matrix | None = None, *, ignore: tuple[Box, ...] = ()
) -> Evidence | None:
    """
    As `verify`. On one core for 2000 x 1400: 10 ms for a stranger, about 40 ms for what looks alike.

    Args:
        query: what is searched for.
        other: what it may be.
        placement: where the search saw it (query's ink pixels to the other's), if it did.
        ignore: boxes of the query in which ink counts neither for nor against.
    """
    found = register(query, other, placement)
    if found is None:
        return None
    if found.rough:
        return _roughly(query, other, found)
    return _measured(query, other, found, ignore)


def relaid(
    evidence: Evidence, query: Prepared, other: Prepared, matrix: Matrix, *, ignore: tuple[Box, ...] = ()
) -> Evidence:
    """
    The evidence with the placement `matrix`, unless the ink says that it is a worse one.

    Ink is laid as bent as paper may be, and other fonts bend it; where lines run says better how it lies.
    """
    if placed_apart(matrix, evidence.placement, query) <= evidence.tolerance / 4:
        return evidence
    agree = support(query, other, matrix)
    if agree.score < support(query, other, evidence.placement).score - _AS_GOOD:
        return evidence
    found = Registration(matrix=matrix, support=agree, inliers=evidence.inliers)
    return _measured(query, other, found, ignore) or evidence


def _roughly(query: Prepared, other: Prepared, found: Registration) -> Evidence:
    """Evidence of a placement that is not worth a close look."""
    seen, tolerance = found.support, 2.0 * max(1.0, scale_of(found.matrix))
    return Evidence(
        matrix=tuple(float(value) for value in found.matrix.ravel()),
        inliers=found.inliers,
        tolerance=tolerance,
        query=_rough_side(query, seen.query, seen.overlap_query),
        other=_rough_side(other, seen.other, seen.overlap_other),
        fit=seen.fit,
        rough=True,
    )


def _rough_side(own: Prepared, agreed: float, overlap: float) -> Side:
    return Side(
        size=own.side,
        covered=agreed * overlap,
        overlap=overlap,
        agreed=agreed,
        chance=0.0,
        spread=agreed,
        lost=(),
        points=len(own.rough),
        sheet=(own.width, own.height),
    )


def _measured(
    query: Prepared, other: Prepared, found: Registration, ignore: tuple[Box, ...]
) -> Evidence | None:
    matrix = found.matrix
    scale = scale_of(matrix)
    # one pixel of the coarser sheet is the least that can be told apart
    tolerance = 2.0 * max(1.0, scale)
    back = inverted(matrix)
    kept = (
        ~_in_boxes(query.points, ignore),
        ~_in_boxes(apply(back, other.points) if ignore else other.points, ignore),
    )
    if not kept[0].any() or not kept[1].any():
        return None
    evidence = Evidence(
        matrix=tuple(float(value) for value in matrix.ravel()),
        inliers=found.inliers,
        tolerance=tolerance,
        redrawn=redrawn(query, other, matrix, ignore) if found.support.fit >= LEAST_FIT else NOTHING,
        query=_side(query, other, kept[0], matrix, tolerance),
        other=_side(other, query, kept[1], back, tolerance / scale),
        fit=found.support.fit,
    )
    return _with_moved(evidence, query, other, kept) if _may_have_moved(evidence) else evidence


@frozen(kw_only=True)
class _Shares:
    """As in `Side`, each piece taken where it lies."""

    agreed: float
    chance: float
    spread: float


def _may_have_moved(evidence: Evidence) -> bool:
    """Whether little agrees in the views, on sheets that lie on each other: views may have moved."""
    query, other = evidence.query, evidence.other
    if is_mirrored(evidence.placement) or min(query.overlap, other.overlap) < _WHOLE:
        return False
    return min(query.spread, other.spread, query.agreed, other.agreed) < _POOR


def _with_moved(evidence: Evidence, query: Prepared, other: Prepared, kept: tuple[_Kept, _Kept]) -> Evidence:
    """The evidence, with shares by piece where pieces moved and agree better so."""
    layers = moved_pieces(query, other, evidence.placement)
    if len(layers) == 1:
        return evidence
    back = tuple(inverted(layer) for layer in layers)
    scale = scale_of(evidence.placement)
    own = _by_piece(query, other, kept[0], layers, evidence.tolerance)
    its = _by_piece(other, query, kept[1], back, evidence.tolerance / scale)
    before = _least_beyond_chance(evidence.query, evidence.other)
    if _least_beyond_chance(own, its) < max(before, _LEAST_BY_PIECE):
        return evidence
    return evolve(evidence, query=_agreeing(evidence.query, own), other=_agreeing(evidence.other, its))


def _agreeing(side: Side, shares: _Shares) -> Side:
    return evolve(
        side, covered=shares.agreed, agreed=shares.agreed, chance=shares.chance, spread=shares.spread
    )


def _least_beyond_chance(*sides: Side | _Shares) -> float:
    return min(beyond_chance(min(side.agreed, side.spread), side.chance) for side in sides)


def _by_piece(own: Prepared, target: Prepared, kept: _Kept, layers: Layers, reach: float) -> _Shares:
    points = own.points[kept]
    points = points[:: len(points) // _MOST_BY_PIECE + 1]
    matched = piecewise(own, target, points, layers, reach)
    ways = _displaced(target, layers)
    return _Shares(
        agreed=float(matched.mean()),
        chance=float(np.mean([piecewise(own, target, own.sample, way, reach).mean() for way in ways])),
        spread=_spread(own, points, matched),
    )


def _displaced(target: Prepared, layers: Layers) -> list[Layers]:
    """The layers, laid a fortieth of the sheet off, two ways."""
    off = target.side / 40
    shifts = [np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]]) for x, y in ((off, off), (-off, off))]
    return [tuple(shift @ layer for layer in layers) for shift in shifts]


def _in_boxes(points: Points, boxes: tuple[Box, ...]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(points), np.bool_)
    x, y = points.T
    for left, top, width, height in boxes:
        inside |= (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
    return inside


def _side(own: Prepared, target: Prepared, kept: npt.NDArray[np.bool_], matrix: Matrix, reach: float) -> Side:
    points, widths = own.points, own.widths
    if not kept.all():
        points, widths = points[kept], widths[kept]
    moved = apply(matrix, points)
    inside = target.inside(moved, reach)
    matched = target.near_ink(moved, reach)
    on_it, agreed = int(np.count_nonzero(inside)), int(np.count_nonzero(matched))
    lost = np.flatnonzero(inside & ~matched)
    apart = target.fine.nearest(moved[lost]) * np.float32(target.fine.factor * 2000 / target.side)
    least = max(3.0, own.side / 500)
    return Side(
        size=own.side,
        covered=agreed / len(points),
        overlap=on_it / len(points),
        agreed=agreed / max(1, on_it),
        chance=_chance(own, target, matrix, reach),
        spread=_spread(own, points, matched),
        lost=clusters(points, lost, own.side, apart, widths[lost], least=least, most=_MOST_CLUSTERS),
        points=len(points),
        half_width=float(widths.mean()),
        off=_off_depth(own, points[~inside]),
        sheet=(own.width, own.height),
    )


def _off_depth(own: Prepared, off: Points) -> float:
    """How deep within the ink's box what lies off the other sheet reaches, as share of its shorter side."""
    if not len(off):
        return 0.0
    x, y, width, height = own.fingerprint.box
    depth = np.minimum(
        np.minimum(off[:, 0] - x, x + width - off[:, 0]), np.minimum(off[:, 1] - y, y + height - off[:, 1])
    )
    return max(0.0, float(np.quantile(depth, 0.98)) / max(1, min(width, height)))


def _chance(own: Prepared, target: Prepared, matrix: Matrix, reach: float) -> float:
    """Share of the sample that agrees when laid a fortieth of the sheet off, four ways."""
    off = target.side / 40
    moved = apply(matrix, own.sample)
    moved = moved[target.inside(moved)]
    if not len(moved):
        return 0.0
    ways = np.array([[off, off], [off, -off], [-off, off], [-off, -off]], np.float32)
    return float(np.mean([target.near_ink(moved + way, reach).mean() for way in ways]))


def _spread(own: Prepared, points: Points, matched: npt.NDArray[np.bool_]) -> float:
    """Mean share that is confirmed of a cell, over the cells of the views."""
    step = len(points) // _MOST_SPREAD + 1
    points, matched = points[::step], matched[::step]
    seen = _in_views(own, points)
    if not seen.any():
        return float(matched.mean())
    spot = (points[seen] * np.float32(64 / own.side)).astype(np.int32)
    bucket = spot[:, 1] * 65 + spot[:, 0]
    total = np.bincount(bucket)
    hit = np.bincount(bucket, weights=matched[seen])
    used = total > 0
    return float((hit[used] / total[used]).mean())


def _in_views(own: Prepared, points: Points) -> npt.NDArray[np.bool_]:
    """Which points belong to the views; where no form is known, which lie off the rim, where frames run."""
    layout = own.fingerprint.layout
    if layout.title_block is not None:
        seen = _in_boxes(points, layout.views)
        if np.count_nonzero(seen) >= _LEAST_SEEN * len(points):
            return seen
    left, top, width, height = own.fingerprint.box
    x, y = np.abs(points - np.array([left + width / 2, top + height / 2], np.float32)).T
    return np.asarray((x < max(width, 1) * (0.5 - _RIM)) & (y < max(height, 1) * (0.5 - _RIM)), np.bool_)
