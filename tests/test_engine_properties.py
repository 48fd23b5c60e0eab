"""What must hold for every drawing, however it is turned, scaled, inverted or mirrored, and in any order."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup2d.engine.candidates import Candidates
from dedup2d.engine.clean import decode_ink
from dedup2d.engine.fingerprint import fingerprint
from dedup2d.engine.judge import judge
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.verify import verify_prepared
from dedup2d.types import Relation, SearchParams, Verdict
from tests.engine_sheets import Grey, part

pytestmark = [pytest.mark.timeout(240), pytest.mark.once]

_SEEDS = range(6)


@frozen
class Answer:
    seed: int
    relation: Relation
    similarity: float
    verdict: Verdict


@cache
def _prepared(seed: int) -> Prepared:
    made, ink = fingerprint(part(seed))
    return Prepared(made, decode_ink(ink))


def _index(seeds: list[int]) -> Candidates:
    finder = Candidates()
    for seed in seeds:
        finder.add(seed, _prepared(seed).fingerprint)
    return finder


def _search(finder: Candidates, picture: Grey) -> list[Answer]:
    """Every candidate verified and judged, best first."""
    made, ink = fingerprint(picture)
    query = Prepared(made, decode_ink(ink))
    found = []
    for candidate in finder.query(made, limit=10):
        evidence = verify_prepared(query, _prepared(candidate.key))
        judged = judge(candidate, evidence, SearchParams(), same_bytes=False)
        found.append(Answer(candidate.key, judged.relation, judged.similarity, judged.verdict))
    return sorted(found, key=lambda one: (-one.similarity, one.seed))


def _changed(picture: Grey, *, turn: float, scale: float, inverted: bool, mirrored: bool) -> Grey:
    """`picture` on paper that is large enough, turned by `turn` degrees and `scale` times as large."""
    if mirrored:
        picture = np.ascontiguousarray(picture[:, ::-1])
    height, width = picture.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale)
    reach = np.abs(matrix[:, :2]) @ (width, height)
    matrix[:, 2] += reach / 2 - (width / 2, height / 2)
    size = (int(np.ceil(reach[0])), int(np.ceil(reach[1])))
    way = cv2.INTER_AREA if scale < 1 and turn % 90 == 0 else cv2.INTER_LINEAR
    if scale < 1:  # as a scanner does, which sees whole areas
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / scale)
    page = cv2.warpAffine(picture, matrix, size, flags=way, borderValue=255)
    return np.asarray(255 - page if inverted else page, np.uint8)


@pytest.mark.parametrize("seed", _SEEDS)
def test_identical_input_scores_one(seed: int) -> None:
    """If this fails, the very same picture is not recognised as such."""
    best = _search(_index(list(_SEEDS)), part(seed))[0]
    assert best == Answer(seed, Relation.IDENTICAL, 1.0, Verdict.DUPLICATE)


@settings(max_examples=16, deadline=None, derandomize=True)
@given(
    seed=st.sampled_from(_SEEDS),
    turn=st.one_of(st.sampled_from([0.0, 90.0, 180.0, 270.0]), st.floats(-180, 180)),
    scale=st.floats(0.6, 1.4),
    inverted=st.booleans(),
)
def test_pose_size_and_polarity_change_nothing(
    seed: int, turn: float, scale: float, *, inverted: bool
) -> None:
    """If this fails, the same drawing at another angle, size or polarity is another drawing."""
    query = _changed(part(seed), turn=turn, scale=scale, inverted=inverted, mirrored=False)
    best = _search(_index(list(_SEEDS)), query)[0]
    assert (best.seed, best.relation, best.verdict) == (seed, Relation.IDENTICAL, Verdict.DUPLICATE)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.sampled_from(_SEEDS), turn=st.floats(-180, 180), inverted=st.booleans())
def test_a_mirror_changes_the_relation_only(seed: int, turn: float, *, inverted: bool) -> None:
    """If this fails, opposite-hand parts are missed, or taken for the part itself."""
    query = _changed(part(seed), turn=turn, scale=1.0, inverted=inverted, mirrored=True)
    best = _search(_index(list(_SEEDS)), query)[0]
    assert (best.seed, best.relation, best.verdict) == (seed, Relation.MIRRORED, Verdict.SIMILAR)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(order=st.permutations(list(_SEEDS)), seed=st.sampled_from(_SEEDS))
def test_the_order_of_adding_changes_nothing(order: list[int], seed: int) -> None:
    """If this fails, a rebuilt index answers otherwise than the old one."""
    query = _changed(part(seed), turn=3, scale=0.9, inverted=False, mirrored=False)
    assert _search(_index(order), query) == _search(_index(list(_SEEDS)), query)


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_removed_drawing_is_in_no_result(seed: int) -> None:
    """If this fails, a drawing that was removed is still shown to people."""
    finder = _index(list(_SEEDS))
    finder.remove(seed)
    assert seed not in {one.seed for one in _search(finder, part(seed))}
