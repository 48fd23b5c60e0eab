"""From evidence to similarity, verdict and relation: one rule for all drawings."""

from __future__ import annotations

from attrs import frozen

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.geometry import as_transform, is_mirrored
from dedup2d.engine.verify import Evidence
from dedup2d.types import LevelScore, Relation, SearchParams, Transform, Verdict

__all__ = ["Judgement", "judge"]


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


def judge(
    candidate: Candidate,
    evidence: Evidence | None,
    params: SearchParams,
    *,
    same_bytes: bool,
) -> Judgement:
    """
    Judge one candidate.

    Args:
        candidate: its scores of L1 and L2.
        evidence: what verification found; None where it was not asked for or found no ink.
        params: holds the thresholds.
        same_bytes: both files have the same bytes (and the page is the same).
    """
    relation, similarity, confidence = _related(candidate, evidence, same_bytes=same_bytes)
    levels = {
        "l1": LevelScore(score=candidate.l1),
        "l2": LevelScore(score=candidate.l2, details={"votes": float(candidate.votes)}),
    }
    if evidence is not None:
        levels["l4"] = LevelScore(score=similarity, details=_details(evidence))
    return Judgement(
        similarity=similarity,
        confidence=confidence,
        verdict=_verdict(relation, similarity, params),
        relation=relation,
        match_level=4 if evidence is not None else 2,
        levels=levels,
        transform=None if evidence is None else as_transform(evidence.placement),
    )


def _verdict(relation: Relation, similarity: float, params: SearchParams) -> Verdict:
    same = relation in (Relation.EXACT, Relation.IDENTICAL)
    if same and similarity >= params.duplicate_threshold:
        return Verdict.DUPLICATE
    return Verdict.SIMILAR if similarity >= params.similar_threshold else Verdict.DIFFERENT


def _related(
    candidate: Candidate, evidence: Evidence | None, *, same_bytes: bool
) -> tuple[Relation, float, float]:
    if same_bytes:
        return Relation.EXACT, 1.0, 1.0
    if evidence is None:
        # hashes alone never say that two drawings are the same
        score = min(0.94, max(candidate.l1, candidate.l2))
        return Relation.SIMILAR, score, 0.5 * score
    covered = min(evidence.query.covered, evidence.other.covered)
    if is_mirrored(evidence.placement) and covered > 0.8:
        return Relation.MIRRORED, min(0.94, covered), covered
    if covered >= 0.98 and not evidence.query.lost and not evidence.other.lost:
        return Relation.IDENTICAL, covered, covered
    return Relation.SIMILAR, min(0.94, covered), covered


def _details(evidence: Evidence) -> dict[str, float]:
    return {
        "inliers": float(evidence.inliers),
        "covered_query": evidence.query.covered,
        "covered_match": evidence.other.covered,
        "overlap_query": evidence.query.overlap,
        "overlap_match": evidence.other.overlap,
        "tolerance": evidence.tolerance,
    }
