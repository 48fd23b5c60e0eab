"""Lays one sheet on another: many proposals tried roughly, the best moved until the lines meet."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from attrs import evolve, frozen

from dedup2d.engine.geometry import Matrix, Points, apply, box_poses, flips, inverted, is_mirrored, is_sane
from dedup2d.engine.prepared import Level, Prepared
from dedup2d.engine.proposals import Proposal, agreeing_features, by_features, page_to_page
from dedup2d.engine.refine import CLOSE, FIRST, POLISH, Stages, refine, refine_each

__all__ = ["Registration", "Support", "placed_apart", "register", "support"]

_TRIED_CLOSELY = 2
_ELSEWHERE = 0.005  # of the sheet
_FEW = 500  # points that a proposal is tried with
_REACH = 4.0  # pixels of the ink that count as touching, at least one and a half of the level's
_GLANCED = 250  # points of the first look
_MOVED = 3  # proposals that are moved roughly
_AGREED = 2  # of those that features propose, by how many agree
_EXACT = 0.999  # closeness from which nothing is moved
_CLOSE_ENOUGH = 0.93  # closeness from which a sheet lies well, however much of it agrees
_MANY_INLIERS = 12
_SURELY_STRAIGHT = 0.99
_NEARLY_ALL = 0.9
_CERTAIN = 0.97  # worth of a straight placement from which no other is tried
_CLEAR = 0.85  # score from which features need not be asked
_HOPELESS = 0.33  # score below which nothing is looked at closely
_PROMISING, _SETTLED = 0.5, 0.998  # scores between which a placement is polished
_POLISH_GAINS = 0.1  # of the score, at most

_Touching = tuple[float, float, float]


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
    """The best placement found; `inliers` features agree with it. `rough`: not worth moving closely."""

    matrix: Matrix
    support: Support
    inliers: int
    rough: bool = False

    @property
    def worth(self) -> float:
        """
        Its score; of placements that touch as much, the closer one is worth more.

        A symmetric drawing agrees mirrored too, and is then not called so.
        """
        penalty = 0.02 if is_mirrored(self.matrix) else 0.0
        return self.support.score + 0.02 * self.support.fit - penalty


def register(query: Prepared, other: Prepared, placement: Matrix | None = None) -> Registration | None:
    """
    Best placement of `query` on `other`, or None where one of them has no ink.

    `placement` is what the search found already; then features are not asked again.
    """
    if not len(query.rough) or not len(other.rough):
        return None
    found = _roughly(query, other, _cheap(query, other, placement))
    best = max((one.worth for one in found), default=0.0)
    proposed: list[Proposal] | None = None
    if best < _CLEAR and placement is None:
        proposed = by_features(query, other)
        found += _roughly(query, other, proposed)
        best = max((one.worth for one in found), default=0.0)
    if not found:
        return None
    if is_mirrored(max(found, key=lambda one: one.worth).matrix):
        found += _roughly(query, other, _unmirrored(query, other, max(found, key=lambda one: one.worth)))
    if best < _HOPELESS:
        return max(found, key=lambda one: one.worth)
    return _supported(query, other, _or_by_features(query, other, _closely(query, other, found), proposed))


def _supported(query: Prepared, other: Prepared, found: Registration) -> Registration:
    """`found`, with the features that agree with it, where it was not these that proposed it."""
    if found.inliers >= _MANY_INLIERS:
        return found
    return evolve(found, inliers=max(found.inliers, agreeing_features(query, other, found.matrix)))


def _unmirrored(query: Prepared, other: Prepared, found: Registration) -> list[Proposal]:
    """What a mirrored placement is if a sheet is symmetric: then it lies straight just as well."""
    if found.worth < _PROMISING:
        return []
    own, its = flips(query.fingerprint.box), flips(other.fingerprint.box)
    return [
        *(Proposal(found.matrix @ flip, found.inliers) for flip in own),
        *(Proposal(flip @ found.matrix, found.inliers) for flip in its),
    ]


def _cheap(query: Prepared, other: Prepared, placement: Matrix | None) -> list[Proposal]:
    poses = [Proposal(matrix) for matrix in box_poses(query.fingerprint.box, other.fingerprint.box)]
    known = [] if placement is None else [Proposal(placement)]
    return [page_to_page(query, other), *known, *poses]


def _roughly(query: Prepared, other: Prepared, proposals: Iterable[Proposal]) -> list[Registration]:
    """The best proposals, as they are and moved on the coarse pictures."""
    side = max(query.side, other.side)
    likely = _likeliest(query, other, [one for one in proposals if is_sane(one.matrix, side)])
    found = []
    for some in (likely[:1], likely[1:]):  # often the first is right
        as_they_are = [_tried(query, other, one) for one in some]
        moved = _moved_roughly(query, other, as_they_are, side)
        found += [one for pair in zip(as_they_are, moved, strict=True) for one in pair if one is not None]
        if any(not is_mirrored(one.matrix) and one.worth > _CERTAIN for one in found):
            break
    return found


def _moved_roughly(
    query: Prepared, other: Prepared, found: list[Registration], side: int
) -> list[Registration | None]:
    """Each, moved on the coarse pictures; None where it lies well, or would lie as no sheet does."""
    off = [number for number, one in enumerate(found) if one.support.fit < _EXACT]
    moved: list[Registration | None] = [None] * len(found)
    if off:
        points = _every(query.rough, _FEW)
        starts = np.stack([found[number].matrix for number in off])
        for number, matrix in zip(off, refine_each(points, other, other.coarse, starts, FIRST), strict=True):
            if is_sane(matrix, side):
                moved[number] = _tried(query, other, Proposal(matrix, found[number].inliers))
    return moved


def _likeliest(query: Prepared, other: Prepared, proposals: list[Proposal]) -> list[Proposal]:
    """The best few by a first look, and a straight one among them: a symmetric drawing is to be called so."""
    if not proposals:
        return []
    scores = _glanced(query, other, np.stack([one.matrix for one in proposals]))
    ordered = [proposals[place] for place in np.argsort(-scores, kind="stable").tolist()]
    # Where lines are few, even a good proposal hardly touches before it is moved: its inliers speak for it.
    agreed = sorted(proposals, key=lambda one: -one.inliers)[:_AGREED]
    chosen = ordered[:_MOVED]
    chosen += [one for one in agreed if one.inliers and one not in chosen]
    if all(is_mirrored(one.matrix) for one in chosen):
        chosen += [one for one in ordered if not is_mirrored(one.matrix)][:1]
    return chosen


def _glanced(query: Prepared, other: Prepared, matrices: Matrix) -> npt.NDArray[np.float64]:
    """Rough score of each of the placements (N, 3, 3), on few points of the coarse pictures."""
    ahead, on_other = _glance(_every(query.rough, _GLANCED), other, matrices)
    back, on_query = _glance(_every(other.rough, _GLANCED), query, inverted(matrices))
    agree = 2 * ahead * back / np.maximum(ahead + back, 1e-6)
    return np.asarray(agree * np.sqrt(np.maximum(on_other, on_query)), np.float64)


def _glance(
    points: Points, target: Prepared, matrices: Matrix
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Share of the points on the target that touch its ink, and share that lies on it, by placement."""
    linear, shift = matrices[:, :2, :2].astype(np.float32), matrices[:, :2, 2].astype(np.float32)
    moved = points @ linear.transpose(0, 2, 1) + shift[:, None]
    flat = moved.reshape(-1, 2)
    inside = target.inside(flat)
    touch = inside & (target.coarse.nearest(flat) < _reach(target.coarse))
    shape = moved.shape[:2]
    on_it = np.count_nonzero(inside.reshape(shape), axis=1)
    touching = np.count_nonzero(touch.reshape(shape), axis=1)
    return touching / np.maximum(on_it, 1), on_it / shape[1]


def _tried(query: Prepared, other: Prepared, proposal: Proposal) -> Registration:
    matrix = proposal.matrix
    agree = _support(
        _touching(_every(query.rough, _FEW), other, other.coarse, matrix),
        _touching(_every(other.rough, _FEW), query, query.coarse, inverted(matrix)),
    )
    return Registration(matrix=matrix, support=agree, inliers=proposal.inliers, rough=True)


def _every(points: Points, most: int) -> Points:
    return points[:: -(-len(points) // most)]


def _or_by_features(
    query: Prepared, other: Prepared, found: Registration, proposed: list[Proposal] | None
) -> Registration:
    """`found`, or what most features say where that lies better: a frame may hold a bent sheet a line off."""
    if _lies_well(found) or found.support.score < _PROMISING:
        return found
    best = next(iter(by_features(query, other) if proposed is None else proposed), None)
    if best is None or best.inliers < _MANY_INLIERS or not is_sane(best.matrix, max(query.side, other.side)):
        return found
    return max(found, _moved_closely(query, other, best), key=lambda one: one.worth)


def _closely(query: Prepared, other: Prepared, rough: list[Registration]) -> Registration:
    """The best straight and mirrored ones, moved on the fine pictures; of equal ones the first proposed."""
    least = max(one.worth for one in rough) - _POLISH_GAINS
    found: list[Registration] = []
    for mirrored in (False, True):
        if found and max(one.worth for one in found) > _SURELY_STRAIGHT:
            break
        some = [one for one in rough if is_mirrored(one.matrix) == mirrored and one.worth >= least]
        found += _laid(query, other, some)
    return _first_of_best(found)


def _laid(query: Prepared, other: Prepared, some: list[Registration]) -> list[Registration]:
    """The best of them moved closely, and others as long as it does not lie well."""
    found: list[Registration] = []
    while some and len(found) < _TRIED_CLOSELY and not (found and _lies_well(found[-1])):
        start = _first_of_best(some)
        found.append(_moved_closely(query, other, start))
        some = [
            one for one in some if placed_apart(one.matrix, start.matrix, query) > _ELSEWHERE * other.side
        ]
    return found


def _lies_well(found: Registration) -> bool:
    """Whether starting elsewhere would gain nothing."""
    return found.worth > _CERTAIN or _is_another(found)


def _is_another(found: Registration) -> bool:
    """Whether what agrees lies close, and the rest is something else: then moving it on gains nothing."""
    return found.support.fit > _CLOSE_ENOUGH and _PROMISING < found.support.score < _NEARLY_ALL


def placed_apart(one: Matrix, another: Matrix, query: Prepared) -> float:
    """How far two placements put the query's corners apart, in pixels of the other sheet, at most."""
    x, y = query.width, query.height
    corners = np.array([[0, 0], [x, 0], [0, y], [x, y]], np.float32)
    return float(np.abs(apply(one, corners) - apply(another, corners)).max())


def _first_of_best(found: list[Registration]) -> Registration:
    least = max(one.worth for one in found) - 1e-3
    return next(one for one in found if one.worth >= least)


def _moved_closely(query: Prepared, other: Prepared, start: Proposal | Registration) -> Registration:
    """Where `start` ends on the fine pictures."""
    agree = support(query, other, start.matrix)
    measured = Registration(matrix=start.matrix, support=agree, inliers=start.inliers)
    return _polished(query, other, _moved(query, other, measured, CLOSE) or measured)


def _moved(query: Prepared, other: Prepared, start: Registration, stages: Stages) -> Registration | None:
    """`start` moved by `stages`; None where that does not help."""
    if start.support.fit > _EXACT and start.support.score > _SETTLED:
        return None
    placed = refine(query.sample, other, other.fine, start.matrix, stages)
    if not is_sane(placed, max(query.side, other.side)):
        return None
    found = Registration(matrix=placed, support=support(query, other, placed), inliers=start.inliers)
    return found if found.worth > start.worth + 2e-4 else None


def _polished(query: Prepared, other: Prepared, best: Registration) -> Registration:
    """`best`, moved on while that helps: a bent sheet may need more steps than each proposal is given."""
    for _ in range(2):
        if not _PROMISING < best.support.score < _SETTLED or _is_another(best):
            return best
        found = _moved(query, other, best, POLISH)
        if found is None:
            return best
        best = found
    return best


def support(query: Prepared, other: Prepared, matrix: Matrix) -> Support:
    """Agreement of two sheets under a placement, on samples of their ink, on the fine pictures."""
    return _support(
        _touching(query.sample, other, other.fine, matrix),
        _touching(other.sample, query, query.fine, inverted(matrix)),
    )


def _support(ahead: _Touching, back: _Touching) -> Support:
    (touch, on_other, fit), (touch_back, on_query, fit_back) = ahead, back
    return Support(
        query=touch,
        other=touch_back,
        overlap_query=on_other,
        overlap_other=on_query,
        fit=min(fit, fit_back),
    )


def _touching(points: Points, target: Prepared, level: Level, matrix: Matrix) -> _Touching:
    """Share of the points on the target that touch its ink, share that lies on it, and how closely."""
    moved = apply(matrix, points)
    inside = target.inside(moved)
    on_it = np.count_nonzero(inside)
    if not on_it:
        return 0.0, 0.0, 0.0
    distance = level.nearest(moved if on_it == len(moved) else moved[inside])
    reach = _reach(level)
    close = distance[distance < reach]
    fit = 1 - float(close.mean()) / reach if len(close) else 0.0
    return len(close) / on_it, on_it / len(moved), fit


def _reach(level: Level) -> float:
    return max(_REACH / level.factor, 1.5)
