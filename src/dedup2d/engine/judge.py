"""
From evidence to relation, similarity and verdict: one rule for all drawings.

| relation | when | similarity |
| --- | --- | --- |
| exact | the files have the same bytes | 1.0 |
| identical | they lie on each other, and nothing is left over but noise (see `noise`) | 0.95 to 1.0 |
| mirrored | as identical, revision or partial, but one is seen in a mirror | 0.80 to 0.94 |
| partial | one sheet lies partly off the other, and the other confirms what lies on it | 0.80 to 0.94 |
| revision | both lie on each other and confirm most, but something is left over | 0.80 to 0.94 |
| variant | both lie on each other and confirm about half, as parts of one family do | 0.70 to 0.74 |
| similar | none of these | below 0.80; by fingerprints alone up to 0.86 |

Where both sheets were compared as vectors and lie on each other, that decides between identical and
revision: all lines and words have partners, or not. Beside pictures, which cannot be compared so, a word that
differs still decides.

1.0 without the same bytes needs every line confirmed both ways. What is related but not the same is
strictly ordered: 0.94 needs all that lies on each other confirmed, and all of it to do so, so that of the
many drawings on one template the right one comes before its siblings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from attrs import frozen

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.confidence import by_fingerprints, confidence
from dedup2d.engine.geometry import as_transform, is_mirrored
from dedup2d.engine.noise import Changes, weigh
from dedup2d.engine.reason import changed_area, reason
from dedup2d.engine.verify import Evidence, Side, beyond_chance
from dedup2d.types import LevelScore, Relation, SearchParams, Transform, Verdict

if TYPE_CHECKING:
    from dedup2d.engine.entities import EntityEvidence

__all__ = ["Judgement", "judge"]

_SAME = 0.97  # least share of the overlap that both sides of `identical` confirm
_IDENTICAL_BAND = 0.05  # of similarity
_SAME_FADED = 0.70  # the same for an original whose thinnest lines a copy has lost
_LEAST_CHANGED, _MOST_CHANGED = 0.80, 0.94  # similarity of what is clearly related but not the same
_MOST_BY_FINGERPRINTS = 0.86  # similarity of what nothing but fingerprints speak for
_LEAST_OVERLAP = 0.7  # below it, one is a part of the other
_WHOLE = 0.85  # overlap from which two sheets may lie on each other whatever lies off
_TRIMMED = 0.97  # overlap from which what lies off does not matter
_RIM = 0.04  # of the ink's box: what reaches no deeper is trimmed off, not another part
_REVISION, _VARIANT = 0.47, 0.35  # least strength
_DENSE = 0.55  # chance from which agreement of a part says little by itself
_LEAST_INLIERS, _MANY_INLIERS = 5, 12


@frozen(kw_only=True)
class Judgement:
    """What a candidate amounts to; fields as in `dedup2d.types.Match`."""

    similarity: float
    confidence: float
    verdict: Verdict
    relation: Relation
    match_level: int
    levels: dict[str, LevelScore]
    transform: Transform | None
    reason: str
    thresholds: Mapping[str, float]
    changed_area: float | None


def judge(
    candidate: Candidate,
    evidence: Evidence | None,
    params: SearchParams,
    *,
    same_bytes: bool,
    differs: bool = False,
) -> Judgement:
    """
    Judge one candidate.

    Args:
        candidate: its scores of L1 and L2.
        evidence: what verification found; None where it was not asked for or found no ink.
        params: holds the thresholds.
        same_bytes: both files have the same bytes (and the page is the same).
        differs: the query shows another drawing where the two differ, see `dedup2d.engine.rivals`.
    """
    changes = None if evidence is None else weigh(evidence)
    finding = _found(candidate, evidence, changes, same_bytes=same_bytes, differs=differs)
    levels = {
        "l1": LevelScore(score=candidate.l1),
        "l2": LevelScore(score=candidate.l2, details=_votes(candidate)),
    }
    if candidate.l3 is not None:
        levels["l3"] = LevelScore(score=candidate.l3)
    if evidence is not None:
        levels["l4"] = LevelScore(score=finding.similarity, details=_details(evidence))
    return Judgement(
        similarity=finding.similarity,
        confidence=_confidence(candidate, finding, changes),
        verdict=_verdict(finding.relation, finding.similarity, params),
        relation=finding.relation,
        match_level=4 if evidence is not None else 2,
        levels=levels,
        transform=None if evidence is None else as_transform(evidence.placement),
        reason=reason(finding.relation, evidence, changes, differs=differs),
        thresholds=_thresholds(params, changes),
        changed_area=None if evidence is None or changes is None else changed_area(evidence, changes),
    )


def _votes(candidate: Candidate) -> dict[str, float]:
    """How many features agree, and the rarest: how many drawings have it, and where on the query's ink."""
    found = {"votes": float(candidate.votes)}
    if candidate.rarest is not None:
        drawings, x, y = candidate.rarest
        found |= {"rarest_drawings": float(drawings), "rarest_x": x, "rarest_y": y}
    return found


def _confidence(candidate: Candidate, finding: _Finding, changes: Changes | None) -> float:
    if finding.relation is Relation.EXACT:
        return 1.0
    if changes is None:
        return by_fingerprints(candidate.l1, candidate.l2)
    return confidence(finding.relation, finding.strength, changes)


def _verdict(relation: Relation, similarity: float, params: SearchParams) -> Verdict:
    same = relation in (Relation.EXACT, Relation.IDENTICAL)
    if same and similarity >= params.duplicate_threshold:
        return Verdict.DUPLICATE
    return Verdict.SIMILAR if similarity >= params.similar_threshold else Verdict.DIFFERENT


def _thresholds(params: SearchParams, changes: Changes | None) -> dict[str, float]:
    """What decided, by name; lengths in pixels of a sheet of 2000."""
    found = {"duplicate": params.duplicate_threshold, "similar": params.similar_threshold}
    if changes is None:
        return found
    return found | {
        "same": _SAME,
        "revision": _REVISION,
        "variant": _VARIANT,
        "overlap": _TRIMMED,
        "change_length": changes.limits.length,
        "change_apart": changes.limits.apart,
    }


class _Finding(NamedTuple):
    relation: Relation
    similarity: float
    strength: float


def _found(
    candidate: Candidate,
    evidence: Evidence | None,
    changes: Changes | None,
    *,
    same_bytes: bool,
    differs: bool,
) -> _Finding:
    if same_bytes:
        return _Finding(Relation.EXACT, 1.0, 1.0)
    if evidence is None or changes is None:
        score = _by_fingerprints(candidate)
        return _Finding(Relation.SIMILAR, score, score)
    mirrored = is_mirrored(evidence.placement)
    whole = min(evidence.query.covered, evidence.other.covered)
    if not differs and _is_same(evidence, changes):
        if mirrored:
            return _Finding(Relation.MIRRORED, _similarity(Relation.MIRRORED, whole), whole)
        least = 1 - _IDENTICAL_BAND
        return _Finding(
            Relation.IDENTICAL, max(least, 1 - _IDENTICAL_BAND * (1 - whole) / (1 - _SAME)), whole
        )
    relation, strength = _changed(evidence)
    if mirrored and relation in (Relation.REVISION, Relation.PARTIAL):
        relation = Relation.MIRRORED
    return _Finding(relation, _similarity(relation, strength), strength)


def _by_fingerprints(candidate: Candidate) -> float:
    """Similarity of what was not verified: never the same, and below what verification confirms."""
    better, worse = max(candidate.l1, candidate.l2), min(candidate.l1, candidate.l2)
    if better < _LEAST_CHANGED:
        return better
    share = (better - _LEAST_CHANGED) / (1 - _LEAST_CHANGED)
    return _LEAST_CHANGED + (_MOST_BY_FINGERPRINTS - _LEAST_CHANGED) * (0.8 * share + 0.2 * worse)


def _is_same(evidence: Evidence, changes: Changes) -> bool:
    """Whether they show the same, seen in a mirror or not."""
    query, other = evidence.query, evidence.other
    if evidence.rough or _lies_off(query) or _lies_off(other):
        return False
    agreed = sorted((_confirmed(query), _confirmed(other)))
    if evidence.entities is not None:
        if _other_words(evidence.entities):
            return False
        if evidence.entities.decides:
            return not evidence.entities.changes and agreed[0] >= _REVISION
    if changes or agreed[1] < _SAME:
        return False
    return agreed[0] >= (_SAME_FADED if changes.faded or changes.limits.quality == "worse" else _SAME)


def _other_words(entities: EntityEvidence) -> bool:
    """Whether a word differs: that is certain, whatever pictures there are beside it."""
    return any(change.what == "text" for change in entities.changes)


def _lies_off(side: Side) -> bool:
    """Whether more than the rim of the sheet lies off the other."""
    return side.overlap < _LEAST_OVERLAP or (side.overlap < _TRIMMED and side.off > _RIM)


def _changed(evidence: Evidence) -> tuple[Relation, float]:
    """Relation of two sheets that are not the same, and how strongly they agree, 0..1."""
    query, other = evidence.query, evidence.other
    both = min(_confirmed(query), _confirmed(other))
    if evidence.rough:
        return Relation.SIMILAR, both * min(query.overlap, other.overlap) ** 0.25
    if _lies_off(query) or _lies_off(other):
        relation, strength = _part(evidence, both)
        if relation is Relation.PARTIAL or min(query.overlap, other.overlap) < _WHOLE:
            return relation, strength
    # the geometric mean: where something was only added or only lost, one side is confirmed as a whole
    strength = math.sqrt(min(_confirmed(query), query.spread) * min(_confirmed(other), other.spread))
    if strength >= _REVISION:
        return Relation.REVISION, strength
    return (Relation.VARIANT if strength >= _VARIANT else Relation.SIMILAR), strength


def _part(evidence: Evidence, both: float) -> tuple[Relation, float]:
    """As `_changed`, for sheets of which one lies partly off the other."""
    # by place and off the rim: frames neither make a part nor speak against one
    part = max(beyond_chance(side.spread, side.chance) for side in (evidence.query, evidence.other))
    # the less of a sheet lies on the other, the less their agreement says
    strength = part * both * min(evidence.query.overlap, evidence.other.overlap) ** 0.25
    dense = max(evidence.query.chance, evidence.other.chance) > _DENSE
    if dense and evidence.inliers < _MANY_INLIERS:
        return Relation.SIMILAR, min(both, part)
    plain = evidence.inliers >= _LEAST_INLIERS and part > 0.4 and both > 0.3
    # a scan may have lost most pale lines; then features that lie right must say it
    faded = evidence.inliers >= _MANY_INLIERS and part > 0.15 and both > 0.15
    if plain or faded:
        return Relation.PARTIAL, strength
    return Relation.SIMILAR, min(both, part)


def _confirmed(side: Side) -> float:
    """Share of the overlapping ink that agrees beyond chance."""
    return beyond_chance(side.agreed, side.chance)


def _similarity(relation: Relation, strength: float) -> float:
    if relation in (Relation.REVISION, Relation.PARTIAL, Relation.MIRRORED):
        return _LEAST_CHANGED + (_MOST_CHANGED - _LEAST_CHANGED) * strength
    if relation is Relation.VARIANT:
        return 0.60 + 0.30 * strength
    return strength if strength < 0.70 else 0.70 + 0.30 * (strength - 0.70)  # below 0.80, in its order


def _details(evidence: Evidence) -> dict[str, float]:
    return {
        "inliers": float(evidence.inliers),
        "covered_query": evidence.query.covered,
        "covered_match": evidence.other.covered,
        "overlap_query": evidence.query.overlap,
        "overlap_match": evidence.other.overlap,
        "agreed_query": evidence.query.agreed,
        "agreed_match": evidence.other.agreed,
        "chance": max(evidence.query.chance, evidence.other.chance),
        "left_over_query": _longest(evidence.query),
        "left_over_match": _longest(evidence.other),
        "tolerance": evidence.tolerance,
    }


def _longest(side: Side) -> float:
    """Length of the longest cluster without a partner, on a sheet of 2000 pixels."""
    return max((cluster.length for cluster in side.lost), default=0) * 2000 / side.size
