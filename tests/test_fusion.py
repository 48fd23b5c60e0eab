"""What pictures and geometry say together: similarity, order, verdict, relation and warnings."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from dedup2d.geometry.result import GeometryDiff, Section
from dedup2d.precision.findings import Finding
from dedup2d.precision.fusion import fuse
from dedup2d.precision.version_gate import Named
from dedup2d.types import LevelScore, Match, Relation, SearchParams, SearchResult, Verdict

QUERY = Named("bracket_v1.dxf", "A-1")
SAME = Finding(score=1.0, drawing_number="A-1")
SHARE = Section(score=0.9, weight=1.0, query=10, other=10, matched=9)


def match(name: str, similarity: float, relation: Relation = Relation.SIMILAR, **fields: Any) -> Match:
    return Match(
        drawing_id=name,
        file_hash=name,
        file_name=f"{name}.dxf",
        similarity=similarity,
        confidence=0.5,
        match_level=2,
        verdict=Verdict.SIMILAR,
        relation=relation,
        **fields,
    )


def found(*matches: Match) -> SearchResult:
    return SearchResult(total_matches=len(matches), similar=matches, final_level=2, warnings=("before",))


def differing(score: float, **counts: int) -> Finding:
    diff = GeometryDiff(counts={f"entities.{kind}": count for kind, count in counts.items()})
    return Finding(score=score, diff=diff, breakdown={"entities": SHARE})


def only(result: SearchResult) -> Match:
    (one,) = (*result.duplicates, *result.similar, *result.filtered)
    return one


@pytest.mark.parametrize(
    ("visual", "geometry", "weights", "similarity"),
    [
        (0.8, 1.0, (0.3, 0.7), 0.94),
        (0.8, 0.5, (0.3, 0.7), 0.59),
        (1.0, 0.0, (0.5, 0.5), 0.5),
        (0.8, 0.4, (1.0, 0.0), 0.8),
        (0.8, 0.4, (0.0, 1.0), 0.4),
        (0.8, 0.4, (1.0, 1.0), 0.6),
        (0.8, 0.4, (0.1, 0.3), 0.5),
    ],
)
def test_similarity(visual: float, geometry: float, weights: tuple[float, float], similarity: float) -> None:
    """If this fails, the fused similarity is not the weighted mean that was asked for."""
    params = SearchParams(
        precision_visual_weight=weights[0], precision_geom_weight=weights[1], similar_threshold=0
    )
    one = only(fuse(found(match("a", visual)), params, QUERY, {"a": differing(geometry)}).result)

    assert one.similarity == pytest.approx(similarity)
    assert (one.visual_similarity, one.precision_score) == (visual, geometry)
    assert one.thresholds["precision_visual_weight"] == pytest.approx(weights[0] / sum(weights))
    assert one.thresholds["precision_geom_weight"] == pytest.approx(weights[1] / sum(weights))


def test_the_best_come_first_under_their_new_label() -> None:
    """If this fails, the order or the lists are still those of the pictures."""
    before = found(match("a", 0.94), match("b", 0.9), match("c", 0.82), match("d", 0.81))
    findings = {"a": differing(0.5, moved=3), "b": differing(0.9, moved=1), "c": SAME, "d": SAME}
    fused = fuse(before, SearchParams(duplicate_threshold=0.945), QUERY, findings).result

    assert [each.drawing_id for each in fused.duplicates] == ["c"]
    assert [each.drawing_id for each in fused.similar] == ["d", "b"]
    assert [each.drawing_id for each in fused.filtered] == ["a"]
    assert (fused.total_matches, fused.final_level) == (3, 4)
    assert fused.warnings == ("before", "precision_verified:4")


RELATIONS = [
    # what the pictures say, the finding, what is said in the end
    (Relation.IDENTICAL, differing(0.999, moved=1), Relation.REVISION),
    (Relation.EXACT, differing(0.99, changed=1), Relation.REVISION),
    (Relation.IDENTICAL, SAME, Relation.IDENTICAL),
    (Relation.EXACT, SAME, Relation.EXACT),
    (Relation.REVISION, SAME, Relation.IDENTICAL),
    (Relation.SIMILAR, SAME, Relation.IDENTICAL),
    (Relation.VARIANT, differing(0.7, moved=9), Relation.VARIANT),
    (Relation.REVISION, differing(0.99, added=1), Relation.REVISION),
    (Relation.SIMILAR, evolve(SAME, mirrored=True), Relation.MIRRORED),
    (Relation.IDENTICAL, evolve(SAME, mirrored=True), Relation.MIRRORED),
    (Relation.SIMILAR, Finding(score=0.9), Relation.SIMILAR),
    (
        Relation.IDENTICAL,
        Finding(score=1.0, diff=GeometryDiff(counts={"layers.changed": 2})),
        Relation.IDENTICAL,
    ),
    (
        Relation.IDENTICAL,
        Finding(score=0.999, diff=GeometryDiff(counts={"dimensions.changed": 1, "entities.added": 0})),
        Relation.REVISION,
    ),
]


@pytest.mark.parametrize(("before", "finding", "after"), RELATIONS)
def test_relations(before: Relation, finding: Finding, after: Relation) -> None:
    """If this fails, a moved hole is the same drawing, or the same drawing is not."""
    fused = fuse(found(match("a", 1.0, before)), SearchParams(), QUERY, {"a": finding})

    assert only(fused.result).relation is after


@pytest.mark.parametrize("relation", Relation)
@pytest.mark.parametrize("score", [1.0, 0.99])
def test_only_what_is_the_same_is_a_duplicate(relation: Relation, score: float) -> None:
    """If this fails, under the strict preset a revision that scores high is a duplicate."""
    finding = SAME if score == 1.0 else differing(score, moved=1)
    one = only(fuse(found(match("a", 1.0, relation)), SearchParams(), QUERY, {"a": finding}).result)

    same = one.relation in (Relation.EXACT, Relation.IDENTICAL)
    assert (one.verdict is Verdict.DUPLICATE) is same
    assert score == 1.0 or not same


def test_reasons_name_what_differs() -> None:
    """If this fails, nobody can tell why an identical picture is a revision."""
    finding = differing(0.98, moved=1, added=2)
    before = match("a", 1.0, Relation.IDENTICAL, reason="nothing is left over")
    one = only(fuse(found(before), SearchParams(), QUERY, {"a": finding}).result)

    assert one.reason == "nothing is left over; geometry: 2 added, 1 moved"


def test_without_geometry_only_the_visual_share_is_left() -> None:
    """If this fails, what nobody verified comes before what was verified."""
    before = found(match("a", 0.9, Relation.IDENTICAL), match("b", 0.8), match("c", 0.7))
    params = SearchParams(similar_threshold=0.2, precision_top_n=2)
    fused = fuse(before, params, QUERY, {"b": SAME}).result
    b, a, c = fused.similar

    assert (b.drawing_id, a.drawing_id, c.drawing_id) == ("b", "a", "c")
    assert a.similarity == pytest.approx(0.27)
    assert c.similarity == pytest.approx(0.21)
    assert (a.visual_similarity, a.precision_score, a.match_level) == (0.9, None, 2)
    assert "no geometry" in a.reason
    assert "precision_top_n" in c.reason
    assert set(fused.warnings) == {
        "before",
        "precision_verified:1",
        "precision_missing_geom_json:1",
        "precision_beyond_top_n:1",
    }


def test_what_geometry_takes_out_is_shown_with_its_reason() -> None:
    """If this fails, matches of an index without geometry vanish, and nobody can tell why."""
    fused = fuse(found(match("a", 0.9)), SearchParams(), QUERY, {}).result

    assert (fused.total_matches, fused.duplicates, fused.similar) == (0, (), ())
    assert fused.filtered[0].verdict is Verdict.DIFFERENT
    assert "no geometry" in fused.filtered[0].reason
    assert fused.final_level == 2


def test_the_same_bytes_need_no_geometry() -> None:
    """If this fails, the very same file is no match any more, as its geometry was never stored."""
    exact = match("a", 1.0, Relation.EXACT)
    before = SearchResult(total_matches=1, duplicates=(evolve(exact, verdict=Verdict.DUPLICATE),))
    fused = fuse(before, SearchParams(), QUERY, {}).result

    assert (fused.duplicates[0].similarity, fused.duplicates[0].visual_similarity) == (1.0, 1.0)
    assert "precision_missing_geom_json:1" in fused.warnings


def test_empty_geometry_is_none() -> None:
    """If this fails, two empty geometries decide about two drawings."""
    fused = fuse(found(match("a", 0.9)), SearchParams(), QUERY, {"a": Finding(score=None)}).result

    assert "precision_missing_geom_json:1" in fused.warnings
    assert only(fused).precision_score is None


def test_the_version_gate_leaves_nothing_of_others() -> None:
    """If this fails, a sibling under another number is a version, or the gate does not say what it did."""
    params = SearchParams(precision_profile="version", version_gate="auto", similar_threshold=0)
    before = found(match("bracket_v2", 0.9), match("flange", 0.95), match("bracket_v3", 0.9))
    findings = {"bracket_v2": SAME, "flange": SAME, "bracket_v3": evolve(SAME, drawing_number="B-2")}
    fused = fuse(before, params, QUERY, findings).result

    assert [each.drawing_id for each in (*fused.duplicates, *fused.similar)] == ["flange", "bracket_v2"]
    (refused,) = fused.filtered
    assert (refused.drawing_id, refused.similarity, refused.verdict) == ("bracket_v3", 0.0, Verdict.DIFFERENT)
    assert "drawing number B-2 is not A-1" in refused.reason
    assert "precision_version_gate_filtered:1" in fused.warnings
    assert "precision_verified:2" in fused.warnings


def test_the_version_gate_by_name_needs_no_geometry_of_the_match() -> None:
    """If this fails, matches without geometry slip through the gate."""
    params = SearchParams(precision_profile="version", version_gate="file_name")
    fused = fuse(found(match("flange", 0.95)), params, QUERY, {}).result

    assert only(fused).similarity == 0
    assert set(fused.warnings) >= {"precision_version_gate_filtered:1", "precision_verified:0"}
    assert not any("missing" in each for each in fused.warnings)


def test_a_gate_without_effect_is_said() -> None:
    """If this fails, somebody relies on a gate that is not there."""
    fused = fuse(found(), SearchParams(version_gate="meta"), QUERY, {}).result

    assert any("precision_profile=version only" in each for each in fused.warnings)


def test_level_4_keeps_what_the_pictures_said_there() -> None:
    """If this fails, the evidence of the pictures is lost, or that of the geometry has no place."""
    pictures = {"l1": LevelScore(score=0.5), "l4": LevelScore(score=0.8, details={"inliers": 9.0})}
    finding = Finding(score=0.9, breakdown={"entities": SHARE})
    one = only(fuse(found(match("a", 0.9, levels=pictures)), SearchParams(), QUERY, {"a": finding}).result)

    assert one.levels["l1"] == pictures["l1"]
    assert one.levels["l4"] == LevelScore(
        score=0.9, details={"inliers": 9.0, "visual_score": 0.8, "geometry_entities": 0.9}
    )
    assert (one.match_level, one.precision_breakdown) == (4, {"entities": SHARE})


@pytest.mark.parametrize(
    ("compute", "most", "shown"), [(True, 1, 1), (True, 5, 3), (True, 0, 0), (False, 5, 0)]
)
def test_differences_of_the_best_alone(compute: bool, most: int, shown: int) -> None:
    """If this fails, an answer has more differences than were asked for, or those of the wrong matches."""
    before = found(*(match(name, 0.9) for name in "abc"))
    findings = {name: differing(score, moved=2) for name, score in zip("abc", (0.8, 0.9, 0.95), strict=True)}
    params = SearchParams(precision_compute_diff=compute, precision_diff_top_n=most, similar_threshold=0)
    fused = fuse(before, params, QUERY, findings).result

    assert [each.precision_diff is not None for each in fused.similar] == [n < shown for n in range(3)]
    assert all(each.precision_diff_similarity == pytest.approx(0.8) for each in fused.similar)


def test_an_outage_of_comparing_changes_nothing() -> None:
    """If this fails, searches find nothing while geometries cannot be compared."""
    before = found(match("a", 0.9), match("b", 0.8))
    failed = Finding(failure="it took longer than 60 s in all")
    fused = fuse(before, SearchParams(), QUERY, {"a": failed, "b": failed})

    assert evolve(fused.result, warnings=()) == evolve(before, warnings=())
    assert fused.result.warnings == (
        "before",
        "precision_failed:2",
        "precision: it took longer than 60 s in all",
    )


def test_one_that_cannot_be_compared_is_said() -> None:
    """If this fails, a geometry that breaks the scorer looks like one that is not there."""
    before = found(match("a", 0.9), match("b", 0.8))
    fused = fuse(before, SearchParams(), QUERY, {"a": Finding(failure="boom"), "b": SAME})

    assert {"precision_verified:1", "precision_failed:1", "precision: boom"} <= set(fused.result.warnings)
    assert not any("missing" in each for each in fused.result.warnings)
    assert "could not be compared" in only(evolve(fused.result, similar=())).reason
    assert fused.counts == {"verified": 1, "missing": 0, "filtered": 0, "failed": 1}


def test_warnings_of_many_geometries_are_bounded() -> None:
    """If this fails, an answer is full of warnings."""
    names = [f"m{number}" for number in range(20)]
    findings = {name: evolve(SAME, warnings=("only every third entity was compared",)) for name in names}
    fused = fuse(found(*(match(name, 0.9) for name in names)), SearchParams(), QUERY, findings).result

    assert len([each for each in fused.warnings if "every third" in each]) == 10
    assert "and 10 more warnings of geometries" in fused.warnings


@given(
    st.lists(st.tuples(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1))), max_size=12),
    st.floats(0, 1),
    st.floats(0.01, 1),
    st.integers(1, 12),
)
def test_whatever_comes_stays_in_order_and_in_range(
    scores: list[tuple[float, float | None]], visual: float, geometry: float, top: int
) -> None:
    """If this fails, a match is lost or twice there, out of order, or has a similarity that is none."""
    names = [f"m{number}" for number in range(len(scores))]
    before = found(*(match(name, score) for name, (score, _) in zip(names, scores, strict=True)))
    findings = {
        name: Finding(score=score)
        for name, (_, score) in zip(names, scores, strict=True)
        if score is not None
    }
    params = SearchParams(
        precision_visual_weight=visual,
        precision_geom_weight=geometry,
        precision_top_n=top,
        similar_threshold=0.5,
    )
    fused = fuse(before, params, QUERY, findings).result

    everything = [*fused.duplicates, *fused.similar, *fused.filtered]
    assert sorted(each.drawing_id for each in everything) == sorted(names)
    for part in (fused.duplicates, fused.similar, fused.filtered):
        assert [each.similarity for each in part] == sorted((each.similarity for each in part), reverse=True)
    assert all(0 <= each.similarity <= 1 for each in everything)
    assert all(each.similarity < 0.5 for each in fused.filtered)
