"""What is noise and what is a change: each row of the rule, on drawn sheets."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.clean import clean
from dedup2d.engine.fingerprint import fingerprint_ink
from dedup2d.engine.judge import Judgement, judge
from dedup2d.engine.noise import weigh
from dedup2d.engine.prepared import Box, Prepared
from dedup2d.engine.verify import Evidence, verify_prepared
from dedup2d.types import Relation, SearchParams, Verdict
from tests.engine_sheets import Grey, part

SHEET = part(5)


def prepared(sheet: Grey) -> Prepared:
    ink = clean(np.ascontiguousarray(sheet))
    return Prepared(fingerprint_ink(ink), ink)


READY = prepared(SHEET)


def seen(query: Grey, ignore: tuple[Box, ...] = ()) -> Evidence:
    evidence = verify_prepared(prepared(query), READY, ignore=ignore)
    assert evidence is not None
    return evidence


def judged(evidence: Evidence) -> Judgement:
    return judge(Candidate(key=1), evidence, SearchParams(), same_bytes=False)


def _fax(sheet: Grey) -> Grey:
    small = cv2.resize(sheet, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    return np.where(small < 200, 0, 255).astype(np.uint8)


def _jpeg(sheet: Grey) -> Grey:
    small = cv2.resize(sheet, None, fx=0.65, fy=0.65, interpolation=cv2.INTER_AREA)
    return cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_GRAYSCALE)


def _scan(sheet: Grey) -> Grey:
    soft = cv2.GaussianBlur(sheet, (0, 0), 1.0).astype(np.float64)
    noise = np.random.default_rng(3).normal(0, 5, sheet.shape)
    return np.clip(40 + 0.75 * soft + noise, 0, 255).astype(np.uint8)


def _without_a_letter(sheet: Grey) -> Grey:
    """The first letter of the title block is rubbed out."""
    page = sheet.copy()
    page[792:822, 940:957] = 255
    return page


def _with_a_hole(sheet: Grey) -> Grey:
    page = sheet.copy()
    cv2.circle(page, (650, 640), 9, 0, 2, cv2.LINE_AA)
    return page


def _without_an_area(sheet: Grey) -> Grey:
    page = sheet.copy()
    page[200:340, 180:330] = 255
    return page


def _with_lines(sheet: Grey) -> Grey:
    page = sheet.copy()
    cv2.line(page, (620, 120), (720, 360), 0, 2, cv2.LINE_AA)
    cv2.line(page, (560, 700), (720, 640), 0, 2, cv2.LINE_AA)
    return page


def _thick(sheet: Grey) -> Grey:
    return cv2.erode(sheet, np.ones((4, 4), np.uint8))


@pytest.mark.parametrize("copy", [_fax, _jpeg, _scan, _thick])
def test_a_copy_is_identical(copy) -> None:  # noqa: ANN001
    """Every fax or scan of a drawing would be filed as its revision."""
    found = judged(seen(copy(SHEET)))

    assert (found.relation, found.verdict) == (Relation.IDENTICAL, Verdict.DUPLICATE)
    assert found.confidence > 0.8


@pytest.mark.parametrize("change", [_without_a_letter, _with_a_hole, _without_an_area, _with_lines])
def test_a_changed_render_is_a_revision(change) -> None:  # noqa: ANN001
    """A drawing with a changed digit or a new hole would be thrown away as a duplicate."""
    found = judged(seen(change(SHEET)))

    assert (found.relation, found.verdict) == (Relation.REVISION, Verdict.SIMILAR)
    assert found.changed_area is not None
    assert 0 < found.changed_area < 0.1


@pytest.mark.parametrize("copy", [_fax, _jpeg, _scan])
@pytest.mark.parametrize("change", [_without_an_area, _with_lines])
def test_a_changed_copy_is_a_revision(change, copy) -> None:  # noqa: ANN001
    """What a scan is forgiven would hide real changes on it."""
    assert judged(seen(copy(change(SHEET)))).relation is Relation.REVISION


def test_thin_lines_lost_by_a_copy_are_noise() -> None:
    """A fax that dropped a pale line would be a revision, whoever sent it."""
    faint = SHEET.copy()
    for x in (640, 690, 730):
        cv2.line(faint, (x, 150), (x, 700), 0, 1)
    original = prepared(faint)
    evidence = verify_prepared(prepared(_fax(SHEET)), original)
    assert evidence is not None
    as_sharp = verify_prepared(READY, original)
    assert as_sharp is not None

    assert weigh(evidence).faded
    assert judged(evidence).relation is Relation.IDENTICAL
    assert not weigh(as_sharp).faded
    assert judged(as_sharp).relation is Relation.REVISION


def test_ink_in_ignored_boxes_does_not_count() -> None:
    """Who asks to leave out a place would be told of changes there."""
    changed = _without_an_area(SHEET)
    box = (160, 180, 190, 180)

    assert judged(seen(changed)).relation is Relation.REVISION
    assert judged(seen(changed, (box,))).relation is Relation.IDENTICAL
    assert judged(seen(_with_lines(changed), (box,))).relation is Relation.REVISION


def test_everything_ignored_is_no_evidence() -> None:
    """A search that leaves out the whole sheet would divide by no lines, or call all the same."""
    assert verify_prepared(READY, READY, ignore=((0, 0, 2000, 2000),)) is None


def test_reason_says_where_it_lies_and_what_differs() -> None:
    """Nobody could tell why two drawings are said to be related."""
    turned = np.rot90(cv2.resize(_with_lines(SHEET), None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))
    text = judged(seen(turned)).reason

    assert "90.0 degrees" in text
    assert "at scale 1.25" in text
    assert "2 places differ" in text
    assert judged(seen(SHEET)).reason.endswith("nothing is left over.")


def test_a_clear_case_is_surer_than_a_close_one() -> None:
    """Confidence would not tell what a person should look at."""
    small, large = judged(seen(_without_a_letter(SHEET))), judged(seen(_without_an_area(SHEET)))

    assert small.confidence < large.confidence < judged(seen(SHEET)).confidence


@pytest.mark.parametrize(
    "pose", [lambda sheet: 255 - sheet, lambda sheet: np.rot90(sheet, 3), lambda sheet: _smaller(sheet, 0.7)]
)
@pytest.mark.parametrize("change", [lambda sheet: sheet, _with_lines])
def test_pose_size_and_polarity_change_no_relation(change, pose) -> None:  # noqa: ANN001
    """A drawing would be a duplicate upright, and a revision when turned."""
    plain, posed = change(SHEET), pose(change(SHEET))

    assert judged(seen(posed)).relation is judged(seen(plain)).relation


@pytest.mark.parametrize("change", [lambda sheet: sheet, _with_lines])
def test_a_mirror_changes_the_relation_alone(change) -> None:  # noqa: ANN001
    """A left-hand part would be taken for the right-hand one, or not be found."""
    found = judged(seen(change(SHEET)[:, ::-1]))

    assert found.relation is Relation.MIRRORED
    assert found.verdict is Verdict.SIMILAR


def test_a_symmetric_sheet_is_not_mirrored() -> None:
    """A washer would be its own mirror image and never a duplicate."""
    page = np.full((900, 1300), 255, np.uint8)
    for radius in (60, 140, 260):
        cv2.circle(page, (650, 450), radius, 0, 3, cv2.LINE_AA)
    for sign in (-1, 1):
        cv2.rectangle(page, (650 + sign * 380 - 40, 200), (650 + sign * 380 + 40, 700), 0, 3)
    evidence = verify_prepared(prepared(page[:, ::-1]), prepared(page))
    assert evidence is not None

    assert judged(evidence).relation is Relation.IDENTICAL


def _smaller(sheet: Grey, factor: float) -> Grey:
    return cv2.resize(sheet, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
