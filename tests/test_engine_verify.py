"""Verification and judgement: how two sheets are related, from the picture alone."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.clean import clean
from dedup2d.engine.fingerprint import fingerprint_ink
from dedup2d.engine.geometry import apply
from dedup2d.engine.judge import Judgement, judge
from dedup2d.engine.prepared import Prepared
from dedup2d.engine.verify import Evidence, verify, verify_prepared
from dedup2d.types import Relation, SearchParams, Verdict
from tests.engine_sheets import part, template

NOBODY = Candidate(key=1, l1=0.5, l2=0.9)
PARAMS = SearchParams()


def prepared(sheet: np.ndarray) -> Prepared:
    ink = clean(np.ascontiguousarray(sheet))
    return Prepared(fingerprint_ink(ink), ink)


SHEETS = {seed: part(seed) for seed in range(4)}
READY = {seed: prepared(sheet) for seed, sheet in SHEETS.items()}


def judged(query: np.ndarray, other: Prepared) -> Judgement:
    return judge(NOBODY, verify_prepared(prepared(query), other), PARAMS, same_bytes=False)


@pytest.mark.parametrize("seed", list(SHEETS))
def test_identical_scores_exactly_one(seed: int) -> None:
    """The same picture in another file would not be a certain duplicate."""
    found = judged(SHEETS[seed], READY[seed])

    assert (found.similarity, found.relation, found.verdict) == (1.0, Relation.IDENTICAL, Verdict.DUPLICATE)
    assert found.transform is not None
    assert (found.transform.rotation_degrees, found.transform.scale) == (0.0, 1.0)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_by_a_right_angle_is_identical(turns: int) -> None:
    """A sheet scanned sideways would be another drawing."""
    found = judged(np.rot90(SHEETS[1], turns), READY[1])

    assert (found.relation, found.verdict) == (Relation.IDENTICAL, Verdict.DUPLICATE)
    assert found.transform is not None
    expected = -90 * turns
    assert np.cos(np.deg2rad(found.transform.rotation_degrees - expected)) == pytest.approx(1, abs=1e-4)


def _smaller(sheet: np.ndarray) -> np.ndarray:
    return cv2.resize(sheet, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)


def _thick(sheet: np.ndarray) -> np.ndarray:
    return cv2.erode(sheet, np.ones((3, 3), np.uint8))


def _tilted(sheet: np.ndarray) -> np.ndarray:
    height, width = sheet.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 11, 0.8)
    return cv2.warpAffine(sheet, matrix, (width, height), borderValue=255)


def _scan(sheet: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(5).normal(0, 4, sheet.shape)
    soft = cv2.GaussianBlur(_tilted(sheet), (0, 0), 0.8).astype(np.float64)
    return np.clip(50 + soft * 0.7 + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [_smaller, _thick, _tilted, _scan, lambda sheet: 255 - sheet])
def test_other_appearance_is_identical(change) -> None:  # noqa: ANN001 - any of the parametrized
    """Resolution, line width, skew, scan noise or polarity would make a new drawing."""
    found = judged(change(SHEETS[2]), READY[2])

    assert (found.relation, found.verdict) == (Relation.IDENTICAL, Verdict.DUPLICATE)


def test_bent_scan_is_identical() -> None:
    """A page that lay unevenly on the scanner would be called a revision for a part that lies askew."""
    height, width = SHEETS[1].shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    away = np.random.default_rng(0).uniform(-0.02, 0.02, (4, 2)) * width
    bent = cv2.getPerspectiveTransform(corners, (corners + away).astype(np.float32))
    turned = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), -2, 0.94), [0, 0, 1]])
    page = cv2.warpPerspective(SHEETS[1], turned @ bent, (width, height), borderValue=255)
    found = judged(page, READY[1])

    assert (found.relation, found.verdict) == (Relation.IDENTICAL, Verdict.DUPLICATE)
    assert found.similarity > 0.99


def test_mirrored_is_named_and_no_duplicate() -> None:
    """A left-hand part would be taken for the right-hand one."""
    found = judged(SHEETS[1][:, ::-1], READY[1])

    assert (found.relation, found.verdict) == (Relation.MIRRORED, Verdict.SIMILAR)
    assert found.transform is not None
    assert found.transform.mirrored


def test_added_hole_is_a_revision() -> None:
    """A changed drawing would be thrown away as a duplicate."""
    changed = SHEETS[3].copy()
    cv2.circle(changed, (650, 300), 22, 0, 2, cv2.LINE_AA)
    found = judged(changed, READY[3])

    assert (found.relation, found.verdict) == (Relation.REVISION, Verdict.SIMILAR)
    assert found.similarity > 0.9


def test_cut_out_view_is_partial() -> None:
    """A detail of a drawing would be a stranger, or a duplicate of the whole."""
    found = judged(SHEETS[1][60:760, 60:740], READY[1])

    assert (found.relation, found.verdict) == (Relation.PARTIAL, Verdict.SIMILAR)


def test_part_on_another_sheet_is_partial() -> None:
    """A part copied onto another company's sheet would be new."""
    page = np.full((1200, 1700), 255, np.uint8)
    cv2.rectangle(page, (40, 40), (1660, 1160), 0, 3)
    view = cv2.resize(SHEETS[2][60:770, 60:1340], None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    page[200 : 200 + view.shape[0], 300 : 300 + view.shape[1]] = view
    cv2.putText(page, "OTHER WORKS LTD", (1200, 1100), cv2.FONT_HERSHEY_SIMPLEX, 1, 0, 2, cv2.LINE_AA)

    assert judged(page, READY[2]).relation is Relation.PARTIAL


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 3)])
def test_siblings_in_one_template_are_no_duplicates(first: int, second: int) -> None:
    """Two parts of one company would be merged into one."""
    found = judged(SHEETS[first], READY[second])

    assert found.verdict is not Verdict.DUPLICATE
    assert found.relation not in (Relation.IDENTICAL, Relation.REVISION)


def test_empty_form_is_no_duplicate_of_a_part() -> None:
    """The company's empty sheet would match every drawing on it."""
    found = judged(template(), READY[0])

    assert found.relation not in (Relation.IDENTICAL, Relation.EXACT)
    assert found.verdict is not Verdict.DUPLICATE


def test_blank_has_no_evidence() -> None:
    """A blank page would be verified against anything, or fail."""
    blank = prepared(np.full((700, 1000), 255, np.uint8))

    assert verify_prepared(blank, READY[0]) is None
    assert verify_prepared(READY[0], blank) is None
    assert judge(NOBODY, None, PARAMS, same_bytes=False).verdict is not Verdict.DUPLICATE


def test_same_bytes_are_exact() -> None:
    """A file submitted twice would not be recognised for certain."""
    found = judge(NOBODY, None, PARAMS, same_bytes=True)

    assert (found.similarity, found.confidence, found.relation) == (1.0, 1.0, Relation.EXACT)
    assert found.verdict is Verdict.DUPLICATE


def test_fingerprints_alone_are_never_a_duplicate() -> None:
    """In `fast` mode two siblings would be merged unseen."""
    found = judge(Candidate(key=1, l1=1.0, l2=1.0), None, PARAMS, same_bytes=False)

    assert (found.relation, found.verdict, found.match_level) == (Relation.SIMILAR, Verdict.SIMILAR, 2)


def test_thresholds_decide_the_verdict() -> None:
    """A tenant's thresholds would have no effect."""
    evidence = verify_prepared(prepared(_scan(SHEETS[2])), READY[2])
    strict = SearchParams(duplicate_threshold=1.0, similar_threshold=1.0)

    assert judge(NOBODY, evidence, strict, same_bytes=False).verdict is not Verdict.DUPLICATE


def test_evidence_is_the_same_every_time_and_travels() -> None:
    """Results would differ from run to run, or not come back from the child process."""
    query, other = READY[1], READY[2]
    ink_query, ink_other = clean(SHEETS[1]), clean(SHEETS[2])
    first = verify_prepared(query, other)
    again = verify(query.fingerprint, ink_query, other.fingerprint, ink_other)

    assert isinstance(first, Evidence)
    assert first == again
    assert pickle.loads(pickle.dumps(first)) == first


def test_placement_of_the_search_is_enough() -> None:
    """A part found by its votes would be looked for anew, or lost where its features are few."""
    turned = np.rot90(SHEETS[1][60:760, 60:740])
    query = prepared(turned)
    free = verify_prepared(query, READY[1])
    assert free is not None
    nearly = free.placement.copy()
    nearly[:2, 2] += 6
    found = verify_prepared(query, READY[1], nearly)
    assert found is not None

    assert found.query.agreed > 0.99
    corners = np.array([[0, 0], [680, 0], [0, 700], [680, 700]], np.float64)
    apart = apply(found.placement, corners) - apply(free.placement, corners)
    assert np.hypot(*apart.T).max() < 3


def plain_plate() -> np.ndarray:
    """A large polygon and four holes: all that many plates have, and few features."""
    page = np.full((1000, 1000), 255, np.uint8)
    angles = np.arange(24) * 2 * np.pi / 24
    corners = np.stack([500 + 340 * np.cos(angles), 500 + 340 * np.sin(angles)], axis=1)
    cv2.polylines(page, [np.round(corners).astype(np.int32)], isClosed=True, color=0, thickness=3)
    for x, y in ((70, 70), (930, 70), (70, 930), (930, 930)):
        cv2.circle(page, (x, y), 50, 0, 3, cv2.LINE_AA)
    return page


def test_part_of_a_plain_plate_is_known_by_features_that_did_not_propose_where_it_lies() -> None:
    """If this fails, what was laid right by its outline is no part for want of features that say so."""
    plate = prepared(plain_plate())
    crop = prepared(plain_plate()[90:930, 90:930])
    found = verify_prepared(crop, plate, np.array([[1, 0, 90], [0, 1, 90], [0, 0, 1]], np.float64))
    assert found is not None

    assert found.inliers >= 5
    judged = judge(NOBODY, found, PARAMS, same_bytes=False)
    assert judged.relation is Relation.PARTIAL


def test_strangers_are_not_looked_at_closely() -> None:
    """A search would spend most of its time on drawings that are plainly something else."""
    page = np.full((990, 1400), 255, np.uint8)
    for radius in range(60, 460, 80):
        cv2.circle(page, (700, 490), radius, 0, 2, cv2.LINE_AA)
    found = verify_prepared(prepared(page), READY[0])
    assert found is not None

    assert found.rough
    assert judge(NOBODY, found, PARAMS, same_bytes=False).relation is Relation.SIMILAR
