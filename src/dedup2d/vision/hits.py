"""What a search holds of each drawing that it found, until it is told."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, frozen

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.confidence import surpassed
from dedup2d.engine.fingerprint import Fingerprint
from dedup2d.engine.judge import Judgement, judge
from dedup2d.engine.pixels import LEAST_FIT
from dedup2d.engine.records import Likeness
from dedup2d.engine.rivals import CLEAR, Outcome
from dedup2d.engine.verify import Evidence
from dedup2d.types import Drawing, Match, Relation, SearchParams, Transform

__all__ = ["Hit", "QuerySheet", "competing", "match_of", "rivals_of", "settled"]

_SAME = (Relation.EXACT, Relation.IDENTICAL)
_CLOSE = 0.02  # of similarity: less than the noise of a fax makes of the wrong sibling
_MOST_RIVALS = 4


@frozen(kw_only=True, eq=False)
class QuerySheet:
    """One sheet that is searched for."""

    page: int
    fingerprint: Fingerprint
    likeness: Likeness

    @classmethod
    def of(cls, page: int, likeness: Likeness) -> QuerySheet:
        """Make one from stored or fresh bytes; ValueError if the fingerprint is of another version."""
        return cls(page=page, fingerprint=Fingerprint.from_bytes(likeness.fingerprint), likeness=likeness)

    @property
    def blank(self) -> bool:
        """Whether there is nothing on it that a search could go by."""
        return not self.fingerprint.information and not len(self.fingerprint.features)


@frozen(kw_only=True, eq=False)
class Hit:
    """A drawing that a query sheet matched."""

    key: int
    drawing: Drawing
    sheet: QuerySheet
    candidate: Candidate
    judgement: Judgement
    evidence: Evidence | None
    exact: bool
    shown: bool = False
    """Whether the query shows it rather than others that agree as well, see `dedup2d.engine.rivals`."""

    @property
    def rank(self) -> tuple[float, bool, bool, float, float, int, int]:
        """
        Order of matches, best first; the very same file comes before what only looks the same.

        What a fax or scan left of two revisions may be the same within noise: then that comes first which it
        shows where the two differ, or else of which more agrees.
        """
        judged, found = self.judgement, self.evidence
        agreed = found.query.agreed + found.other.agreed if found else 0.0
        return (
            -judged.similarity,
            not self.exact,
            not self.shown,
            -agreed,
            -judged.confidence,
            self.sheet.page,
            self.key,
        )


def rivals_of(hits: Sequence[Hit]) -> list[Hit]:
    """Those of one sheet's `hits`, best first, of which it may show only one; none if there is no doubt."""
    if not hits or not _may_be_shown(hits[0]):
        return []
    least = hits[0].judgement.similarity - _CLOSE
    close = [
        hit
        for hit in hits
        if _may_be_shown(hit) and (hit.judgement.relation in _SAME or hit.judgement.similarity >= least)
    ][:_MOST_RIVALS]
    return close if len(close) > 1 and any(map(_is_doubtful, close)) else []


def _is_doubtful(hit: Hit) -> bool:
    """Whether the query may be a little else than it, for all that was found."""
    found = hit.evidence
    return found is not None and bool(found.fit < LEAST_FIT or found.query.lost or found.other.lost)


def _may_be_shown(hit: Hit) -> bool:
    """Whether it lies on the query, and nothing better than pictures has decided how."""
    if hit.exact:
        return True
    found = hit.evidence
    if found is None or found.rough or hit.judgement.relation in (Relation.VARIANT, Relation.SIMILAR):
        return False
    return found.entities is None or not found.entities.decides


def settled(rivals: Sequence[Hit], outcome: Outcome, params: SearchParams) -> list[Hit]:
    """
    Those of the rivals that the outcome changes: the best becomes as similar as what it beats, and what it
    beats is not the same any more if it is changed against the best.
    """
    best = rivals[outcome.best]
    beaten = [
        _differing(hit, params) if changed and hit.judgement.relation is Relation.IDENTICAL else hit
        for hit, lead, changed in zip(rivals, outcome.leads, outcome.changed, strict=True)
        if lead >= CLEAR
    ]
    if not beaten or (rivals[0].exact and not best.exact):
        return []
    highest = max(best.judgement.similarity, *(hit.judgement.similarity for hit in beaten))
    return [*beaten, evolve(best, judgement=evolve(best.judgement, similarity=highest), shown=True)]


def _differing(hit: Hit, params: SearchParams) -> Hit:
    judged = judge(hit.candidate, hit.evidence, params, same_bytes=False, differs=True)
    return evolve(hit, judgement=judged)


def competing(hits: list[Hit]) -> list[Hit]:
    """`hits`, best first, each as sure as it is beside the best of its query sheet."""
    best: dict[int, float] = {}
    found = []
    for hit in hits:
        judged = hit.judgement
        gap = best.setdefault(hit.sheet.page, judged.similarity) - judged.similarity
        sure = surpassed(judged.relation, judged.confidence, gap)
        found.append(evolve(hit, judgement=evolve(judged, confidence=sure)))
    return found


def match_of(hit: Hit) -> Match:
    """Return what the caller is told of a hit."""
    drawing, judgement = hit.drawing, hit.judgement
    return Match(
        drawing_id=drawing.drawing_id,
        file_hash=drawing.file_hash,
        file_name=drawing.file_name,
        similarity=judgement.similarity,
        confidence=judgement.confidence,
        match_level=judgement.match_level,
        verdict=judgement.verdict,
        relation=judgement.relation,
        page=drawing.page,
        query_page=hit.sheet.page,
        source=drawing.source,
        levels=judgement.levels,
        transform=Transform() if hit.exact else judgement.transform,
        reason=judgement.reason,
        thresholds=judgement.thresholds,
        changed_area=judgement.changed_area,
    )
