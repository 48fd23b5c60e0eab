"""Sheets of which the views moved, each by another amount."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.clean import clean
from dedup2d.engine.fingerprint import fingerprint_ink
from dedup2d.engine.geometry import apply
from dedup2d.engine.judge import Judgement, judge
from dedup2d.engine.pieces import moved_pieces
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.refine import CLOSE, refine
from dedup2d.engine.verify import verify_prepared
from dedup2d.types import Relation, SearchParams, Verdict
from tests.engine_sheets import part

PLACES = ((90, 120), (760, 130), (120, 620))
MOVED = ((150, 170), (690, 90), (260, 650))


def view(seed: int) -> np.ndarray:
    """One part without its form, small enough for three of them on a sheet."""
    picture = part(seed)
    height, width = picture.shape
    inner = picture[height // 25 : height * 11 // 20, width // 25 : -width // 25]
    return cv2.resize(inner, (600, 330), interpolation=cv2.INTER_AREA)


def sheet(seeds: tuple[int, ...], places: tuple[tuple[int, int], ...]) -> np.ndarray:
    """A framed sheet with views at these places."""
    paper = np.full((1100, 1500), 255, np.uint8)
    cv2.rectangle(paper, (20, 20), (1479, 1079), 0, 3)
    for seed, (x, y) in zip(seeds, places, strict=True):
        small = view(seed)
        height, width = small.shape
        paper[y : y + height, x : x + width] = np.minimum(paper[y : y + height, x : x + width], small)
    return paper


def prepared(picture: np.ndarray) -> Prepared:
    ink = clean(picture)
    return Prepared(fingerprint_ink(ink), ink)


def judged(query: np.ndarray, other: np.ndarray) -> Judgement:
    evidence = verify_prepared(prepared(query), prepared(other))
    return judge(Candidate(key=1, l1=0.5, l2=0.9), evidence, SearchParams(), same_bytes=False)


def test_views_that_moved_make_a_revision() -> None:
    """A revision that only moves its views would be called a stranger."""
    found = judged(sheet((0, 1, 2), MOVED), sheet((0, 1, 2), PLACES))

    assert (found.relation, found.verdict) == (Relation.REVISION, Verdict.SIMILAR)


@pytest.mark.parametrize("seeds", [(3, 4, 5), (6, 7, 8), (9, 10, 11)])
def test_other_views_at_those_places_are_no_revision(seeds: tuple[int, ...]) -> None:
    """Strangers in one frame would be called revisions, as some piece fits some other."""
    found = judged(sheet(seeds, MOVED), sheet((0, 1, 2), PLACES))

    assert found.relation is Relation.SIMILAR


def test_each_view_gets_its_own_placement() -> None:
    """Views would be compared where they do not lie."""
    query, other = prepared(sheet((0, 1, 2), MOVED)), prepared(sheet((0, 1, 2), PLACES))
    layers = moved_pieces(query, other, np.eye(3))

    for here, there in zip(MOVED, PLACES, strict=True):
        middle = np.array([here[0] + 300, here[1] + 165], np.float32)
        expected = middle + np.array(there) - np.array(here)
        assert min(np.abs(apply(layer, middle[None]) - expected).max() for layer in layers) < 2


def test_nothing_changes_where_the_sheet_lies_as_a_whole() -> None:
    """A duplicate would lose its certainty to pieces that fit other pieces of the same sheet."""
    found = judged(sheet((0, 1, 2), PLACES), sheet((0, 1, 2), PLACES))

    assert (found.relation, found.similarity) == (Relation.IDENTICAL, 1.0)


def test_a_piece_without_lines_stays_where_it_is() -> None:
    """If this fails, a drawing with features where hardly a line is drawn is dropped from the answers."""
    other = prepared(part(0))
    nowhere = np.empty((0, 2), np.float32)
    assert np.array_equal(refine(nowhere, other, other.fine, np.eye(3), CLOSE), np.eye(3))
