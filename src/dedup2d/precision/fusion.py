"""
What the pictures say and what the geometry says, put together: one pure function.

| match | similarity |
| --- | --- |
| geometry compared | visual weight x visual + geometry weight x precision, of weights that add up to 1 |
| looked at, without geometry | visual weight x visual |
| beyond `precision_top_n` | visual weight x visual |
| refused by the version gate | 0 |

A match whose file has the query's bytes needs no geometry: without one it keeps its similarity. If nothing
could be compared because comparing failed, all keep theirs: an outage must not look like a finding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from attrs import define, evolve, field, frozen

from dedup2d.errors import shown
from dedup2d.precision.findings import Finding
from dedup2d.precision.version_gate import Named, refusal
from dedup2d.types import LevelScore, Match, Relation, SearchParams, SearchResult, Verdict

__all__ = ["Fused", "fuse", "looked_at"]

_SAME = (Relation.EXACT, Relation.IDENTICAL)
_LEAST_SAME = 0.98
"""Score from which a geometry without differences is the same: what exporting changes stays above."""

_MOST_NOTES = 10


@frozen(kw_only=True)
class Fused:
    """A result with what the geometry says, and how many matches were `verified`, `missing`, and so on."""

    result: SearchResult
    counts: Mapping[str, int]


def looked_at(result: SearchResult, params: SearchParams) -> list[Match]:
    """Return the matches whose geometry is to be compared, best first."""
    return [*result.duplicates, *result.similar][: params.precision_top_n]


def fuse(result: SearchResult, params: SearchParams, query: Named, findings: Mapping[str, Finding]) -> Fused:
    """
    Return *result* with what the geometry says.

    Args:
        result: what the pictures say.
        params: weights, thresholds and the version gate.
        query: what the query is called.
        findings: of the matches that were looked at and have geometry, by the hash of their file.
    """
    fusion = _Fusion(params, query, findings)
    failures = [each.failure for each in findings.values() if each.failure is not None]
    if failures and len(failures) == len(findings):
        notes = [*result.warnings, *fusion.notes(), *_failed(failures)]
        return Fused(result=evolve(result, warnings=tuple(notes)), counts={"failed": len(failures)})
    top = looked_at(result, params)
    rest = [*result.duplicates, *result.similar][len(top) :]
    matches = [fusion.fused(match, looked_at=True) for match in top]
    matches += [fusion.fused(match, looked_at=False) for match in rest]
    matches = fusion.with_differences(sorted(matches, key=lambda match: -match.similarity))
    duplicates, similar, filtered = (
        tuple(match for match in matches if match.verdict is verdict)
        for verdict in (Verdict.DUPLICATE, Verdict.SIMILAR, Verdict.DIFFERENT)
    )
    fused = evolve(
        result,
        total_matches=len(duplicates) + len(similar),
        duplicates=duplicates,
        similar=similar,
        filtered=filtered,
        final_level=4 if fusion.verified else result.final_level,
        warnings=(*result.warnings, *fusion.warnings(), *fusion.notes(), *_failed(failures)),
    )
    counts = {"verified": fusion.verified, "missing": fusion.missing, "filtered": fusion.refused}
    return Fused(result=fused, counts={**counts, "failed": len(failures)})


def _failed(failures: Sequence[str]) -> list[str]:
    return [f"precision_failed:{len(failures)}", f"precision: {failures[0]}"] if failures else []


@define
class _Fusion:
    params: SearchParams
    query: Named
    findings: Mapping[str, Finding]
    verified: int = 0
    missing: int = 0
    refused: int = 0
    beyond: int = 0
    _told: dict[str, None] = field(factory=dict)

    @property
    def visual_weight(self) -> float:
        return self.params.precision_visual_weight / (
            self.params.precision_visual_weight + self.params.precision_geom_weight
        )

    def fused(self, match: Match, *, looked_at: bool) -> Match:
        finding = self.findings.get(match.file_hash)
        number = None if finding is None else finding.drawing_number
        visual = match.similarity
        match = evolve(match, visual_similarity=visual, thresholds=self._thresholds(match))
        if (reason := refusal(self.params, self.query, Named(match.file_name, number))) is not None:
            self.refused += 1
            return self._labelled(match, 0.0, match.relation, reason)
        if finding is None or finding.score is None:
            return self._unverified(match, finding, looked_at=looked_at)
        self.verified += 1
        self._tell(match, finding.warnings)
        similarity = self.visual_weight * visual + (1 - self.visual_weight) * finding.score
        relation, reason = _relation(match.relation, finding)
        match = evolve(
            match,
            match_level=4,
            levels={**match.levels, "l4": _level(match, finding)},
            precision_score=finding.score,
            precision_breakdown=finding.breakdown,
            precision_diff=finding.diff,
            precision_diff_similarity=finding.kept,
        )
        return self._labelled(match, similarity, relation, reason)

    def _unverified(self, match: Match, finding: Finding | None, *, looked_at: bool) -> Match:
        failed = finding is not None and finding.failure is not None
        self.beyond += not looked_at
        self.missing += looked_at and not failed
        if match.relation is Relation.EXACT:
            return match
        why = (
            "its geometry could not be compared"
            if failed
            else "it has no geometry to compare"
            if looked_at
            else "its geometry was not compared, being beyond precision_top_n"
        )
        return self._labelled(match, self.visual_weight * match.similarity, match.relation, why)

    def _thresholds(self, match: Match) -> dict[str, float]:
        return {
            **match.thresholds,
            "precision_visual_weight": self.visual_weight,
            "precision_geom_weight": 1 - self.visual_weight,
        }

    def _labelled(self, match: Match, similarity: float, relation: Relation, reason: str | None) -> Match:
        similarity = min(1.0, max(0.0, similarity))
        if relation in _SAME and similarity >= self.params.duplicate_threshold:
            verdict = Verdict.DUPLICATE
        else:
            enough = similarity >= self.params.similar_threshold and similarity > 0
            verdict = Verdict.SIMILAR if enough else Verdict.DIFFERENT
        texts = [text for text in (match.reason, reason) if text]
        return evolve(
            match, similarity=similarity, relation=relation, verdict=verdict, reason="; ".join(texts)
        )

    def with_differences(self, matches: list[Match]) -> list[Match]:
        """Leave the differences to the best of those that have them."""
        left = self.params.precision_diff_top_n if self.params.precision_compute_diff else 0
        shown = []
        for match in matches:
            if match.precision_diff is not None and match.verdict is not Verdict.DIFFERENT and left:
                left -= 1
                shown.append(match)
            else:
                shown.append(evolve(match, precision_diff=None))
        return shown

    def _tell(self, match: Match, warnings: Collection[str]) -> None:
        self._told |= dict.fromkeys(f"{shown(match.file_name, 60)}: {text}" for text in warnings)

    def warnings(self) -> list[str]:
        counts = {
            "precision_missing_geom_json": self.missing,
            "precision_version_gate_filtered": self.refused,
            "precision_beyond_top_n": self.beyond,
        }
        return [
            f"precision_verified:{self.verified}",
            *(f"{name}:{count}" for name, count in counts.items() if count),
        ]

    def notes(self) -> list[str]:
        told = list(self._told)
        more = (
            [f"and {len(told) - _MOST_NOTES} more warnings of geometries"] if len(told) > _MOST_NOTES else []
        )
        gate = self.params.version_gate
        unused = gate != "off" and self.params.precision_profile == "strict"
        idle = [f"version_gate={gate} acts in precision_profile=version only"] if unused else []
        return [*told[:_MOST_NOTES], *more, *idle]


def _relation(relation: Relation, finding: Finding) -> tuple[Relation, str | None]:
    """
    Return the relation, as the geometry has it where it is sure, and why.

    What is named the same and differs is a revision; what is the same, whatever the pictures made of it, is
    identical, or mirrored.
    """
    changes = finding.changes
    if changes:
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(changes.items()))
        return (Relation.REVISION if relation in _SAME else relation), f"geometry: {told}"
    if finding.score is None or finding.score < _LEAST_SAME:
        return relation, None
    if finding.mirrored:
        return Relation.MIRRORED, "geometry: the same in a mirror"
    return (relation if relation is Relation.EXACT else Relation.IDENTICAL), "geometry: the same"


def _level(match: Match, finding: Finding) -> LevelScore:
    """Return level 4 with the geometry's score; what the pictures said there stays among the details."""
    assert finding.score is not None
    before = match.levels.get("l4")
    details = {} if before is None else {**before.details, "visual_score": before.score}
    sections = {f"geometry_{name}": section.score for name, section in finding.breakdown.items()}
    return LevelScore(score=finding.score, details={**details, **sections})
