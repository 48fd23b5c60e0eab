"""Judgement: which of several related drawings comes first."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from attrs import evolve

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.clean import clean
from dedup2d.engine.confidence import surpassed
from dedup2d.engine.entities import EntityChange, EntityEvidence
from dedup2d.engine.fingerprint import fingerprint_ink
from dedup2d.engine.judge import Judgement, judge
from dedup2d.engine.leftover import Cluster
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.verify import Evidence, Side, verify_prepared
from dedup2d.types import Relation, SearchParams
from tests.engine_sheets import part

STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
MIRRORED = (-1.0, 0.0, 999.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def side(agreed: float, overlap: float = 1.0, spread: float | None = None) -> Side:
    return Side(
        size=2000,
        covered=agreed * overlap,
        overlap=overlap,
        agreed=agreed,
        chance=0.1,
        spread=agreed if spread is None else spread,
        lost=(),
    )


def found(query: Side, other: Side, matrix: tuple[float, ...] = STRAIGHT) -> Judgement:
    evidence = Evidence(matrix=matrix, inliers=40, tolerance=2.0, query=query, other=other)
    return judge(Candidate(key=1, l2=0.9), evidence, SearchParams(), same_bytes=False)


def prepared(sheet: np.ndarray) -> Prepared:
    ink = clean(np.ascontiguousarray(sheet))
    return Prepared(fingerprint_ink(ink), ink)


def by_pictures(query: np.ndarray, other: np.ndarray) -> Judgement:
    evidence = verify_prepared(prepared(query), prepared(other))
    return judge(Candidate(key=1), evidence, SearchParams(), same_bytes=False)


@pytest.mark.parametrize(
    ("relation", "overlap", "matrix"),
    [
        (Relation.REVISION, 1.0, STRAIGHT),
        (Relation.PARTIAL, 0.5, STRAIGHT),
        (Relation.MIRRORED, 1.0, MIRRORED),
        (Relation.MIRRORED, 0.5, MIRRORED),
    ],
)
def test_every_share_of_agreement_counts(
    relation: Relation, overlap: float, matrix: tuple[float, ...]
) -> None:
    """Siblings on one template would tie with the drawing that was asked for, and chance would order them."""
    judged = [
        found(side(agreed, overlap), side(agreed), matrix) for agreed in (0.8, 0.85, 0.9, 0.93, 0.95, 0.96)
    ]
    scores = [one.similarity for one in judged]

    assert {one.relation for one in judged} == {relation}
    assert all(low + 0.001 < high for low, high in pairwise(scores))
    assert min(scores) >= 0.80
    assert max(scores) < 0.94


def test_whole_sheet_comes_before_an_equal_part() -> None:
    """A detail drawing on the same template would be listed before the drawing itself."""
    whole = found(side(0.96), side(0.96))
    part_of_it = found(side(0.99, overlap=0.3), side(0.99))

    assert (whole.relation, part_of_it.relation) == (Relation.REVISION, Relation.PARTIAL)
    assert whole.similarity > part_of_it.similarity


def test_crop_finds_its_own_drawing_before_the_sibling() -> None:
    """A photo of a part of a drawing would lead to another part of the family."""
    own = part(1)
    sibling = own.copy()
    cv2.circle(sibling, (500, 350), 60, 0, 2, cv2.LINE_AA)
    cv2.line(sibling, (200, 200), (420, 260), 0, 2, cv2.LINE_AA)
    crop = own[100:700, 100:900]
    right, wrong = by_pictures(crop, own), by_pictures(crop, sibling)

    assert (right.relation, wrong.relation) == (Relation.PARTIAL, Relation.PARTIAL)
    assert right.similarity > wrong.similarity + 0.002


def test_what_was_not_verified_comes_after_a_clear_revision() -> None:
    """The thirteenth candidate, which nobody looked at closely, would be listed before a real match."""
    unseen = judge(Candidate(key=1, l1=1.0, l2=1.0), None, SearchParams(), same_bytes=False)

    assert 0.80 <= unseen.similarity < found(side(0.8), side(0.8)).similarity


def test_fingerprints_order_what_was_not_verified() -> None:
    """In `fast` mode all drawings of a template would tie."""
    levels = [(0.5, 0.0), (0.85, 0.0), (0.9, 0.0), (0.9, 0.5), (0.98, 0.5), (0.98, 0.98)]
    scores = [
        judge(Candidate(key=1, l1=low, l2=high), None, SearchParams(), same_bytes=False).similarity
        for high, low in levels
    ]

    assert scores == sorted(set(scores))


def _as_vectors(explained: float, *changes: EntityChange) -> EntityEvidence:
    return EntityEvidence(
        lines_query=1.0,
        lines_other=1.0,
        texts_query=9,
        texts_other=9,
        texts_same=9 - len(changes),
        changes=changes,
        tolerance=1.0,
        explained=explained,
    )


_WORD = EntityChange(what="text", change="changed", x=1, y=2, width=9, height=5, before="10", after="12")
_LINE = EntityChange(what="line", change="removed", x=1, y=2, width=40, height=0)


@pytest.mark.parametrize(
    ("entities", "relation"),
    [
        (None, Relation.IDENTICAL),
        (_as_vectors(1.0), Relation.IDENTICAL),
        (_as_vectors(1.0, _WORD), Relation.REVISION),
        (_as_vectors(1.0, _LINE), Relation.REVISION),
        (_as_vectors(0.6, _WORD), Relation.REVISION),
        (_as_vectors(0.6, _LINE), Relation.IDENTICAL),
    ],
)
def test_vectors_decide_what_ink_cannot(entities: EntityEvidence | None, relation: Relation) -> None:
    """If this fails, 10 and 12 are the same, or a line that only a picture lacks is a change."""
    evidence = Evidence(
        matrix=STRAIGHT, inliers=40, tolerance=2.0, query=side(1.0), other=side(1.0), entities=entities
    )
    assert judge(Candidate(key=1), evidence, SearchParams(), same_bytes=False).relation is relation


def test_other_fonts_are_no_change_where_the_words_are_the_same() -> None:
    """If this fails, a DXF and the PDF made from it are revisions of each other."""
    lost = Cluster(x=10, y=10, width=60, height=30, length=150, share=0.9, apart=20.0, half_width=2.0)
    ink = Evidence(
        matrix=STRAIGHT,
        inliers=40,
        tolerance=2.0,
        query=evolve(side(0.9), lost=(lost,)),
        other=evolve(side(0.9), lost=(lost,)),
    )
    both = evolve(ink, entities=_as_vectors(0.99))
    judged = [judge(Candidate(key=1), one, SearchParams(), same_bytes=False).relation for one in (ink, both)]
    assert judged == [Relation.REVISION, Relation.IDENTICAL]


def test_a_match_names_the_rarest_evidence() -> None:
    """If this fails, nobody learns what speaks for a match that looks unlikely."""
    candidate = Candidate(key=1, l2=0.4, votes=7, rarest=(2, 310.0, 95.5))
    judged = judge(candidate, None, SearchParams(), same_bytes=False)
    assert judged.levels["l2"].details == {
        "votes": 7.0,
        "rarest_drawings": 2.0,
        "rarest_x": 310.0,
        "rarest_y": 95.5,
    }


def test_what_another_match_surpasses_is_less_sure() -> None:
    """If this fails, ten siblings on one template each claim to be the revision that was looked for."""
    best, near, far = (surpassed(Relation.REVISION, 0.7, gap) for gap in (0.0, 0.002, 0.05))
    assert (best, 0.1 < near < 0.2, far < 0.02) == (0.7, True, True)
    assert surpassed(Relation.IDENTICAL, 0.9, 0.04) == 0.9
