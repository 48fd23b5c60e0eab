"""What is noise and what is a change: each row of the rule, on drawn sheets."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dedup2d.engine.candidates import Candidate
from dedup2d.engine.clean import clean
from dedup2d.engine.diff import diff
from dedup2d.engine.fingerprint import fingerprint_ink
from dedup2d.engine.judge import Judgement, judge
from dedup2d.engine.noise import weigh
from dedup2d.engine.pixels import NOTHING
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
def test_a_copy_is_identical(copy) -> None:  # noqa: ANN001 - any of the parametrized
    """Every fax or scan of a drawing would be filed as its revision."""
    found = judged(seen(copy(SHEET)))

    assert (found.relation, found.verdict) == (Relation.IDENTICAL, Verdict.DUPLICATE)
    assert found.confidence > 0.8


@pytest.mark.parametrize("change", [_without_a_letter, _with_a_hole, _without_an_area, _with_lines])
def test_a_changed_render_is_a_revision(change) -> None:  # noqa: ANN001 - any of the parametrized
    """A drawing with a changed digit or a new hole would be thrown away as a duplicate."""
    found = judged(seen(change(SHEET)))

    assert (found.relation, found.verdict) == (Relation.REVISION, Verdict.SIMILAR)
    assert found.changed_area is not None
    assert 0 < found.changed_area < 0.1


@pytest.mark.parametrize("copy", [_fax, _jpeg, _scan])
@pytest.mark.parametrize("change", [_without_an_area, _with_lines])
def test_a_changed_copy_is_a_revision(change, copy) -> None:  # noqa: ANN001 - any of the parametrized
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
def test_pose_size_and_polarity_change_no_relation(change, pose) -> None:  # noqa: ANN001 - any of the parametrized
    """A drawing would be a duplicate upright, and a revision when turned."""
    plain, posed = change(SHEET), pose(change(SHEET))

    assert judged(seen(posed)).relation is judged(seen(plain)).relation


@pytest.mark.parametrize("change", [lambda sheet: sheet, _with_lines])
def test_a_mirror_changes_the_relation_alone(change) -> None:  # noqa: ANN001 - any of the parametrized
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


def _says(length: str, size: float) -> Grey:
    """The sheet with a text of capital letters that are `size` pixels high."""
    page = SHEET.copy()
    page[375:410, 425:500] = 255
    cv2.putText(page, length, (430, 400), cv2.FONT_HERSHEY_SIMPLEX, size / 21, (0,), 1, cv2.LINE_AA)
    return page


@pytest.mark.parametrize("size", [10, 14, 20])
@pytest.mark.parametrize(("old", "new"), [("1024", "1004"), ("M6", "M8"), ("12", "1.2"), ("4K7", "NA")])
def test_another_digit_is_a_change_where_all_else_is_the_same(old: str, new: str, size: float) -> None:
    """If this fails, two exports of a part with another dimension are called the same."""
    query, other = prepared(_says(new, size)), prepared(_says(old, size))
    evidence = verify_prepared(query, other)
    assert evidence is not None
    assert judged(evidence).relation is Relation.REVISION
    places = evidence.redrawn.on_other(evidence.placement) or [one.box for one in weigh(evidence).other]
    assert all(420 <= x <= 500 and 370 <= y <= 410 for x, y, _, _ in places)
    _, regions = diff(query.ink, other.ink, evidence.placement, redrawn=places)
    assert regions
    assert all(420 <= one.x <= 500 and 370 <= one.y <= 410 for one in regions)


def test_an_ignored_digit_is_no_change() -> None:
    """If this fails, a masked text still makes a revision."""
    query, other = prepared(_says("1004", 12)), prepared(_says("1024", 12))
    evidence = verify_prepared(query, other, ignore=((420, 370, 90, 45),))
    assert evidence is not None
    assert judged(evidence).relation is Relation.IDENTICAL


@pytest.mark.parametrize("quality", [60, 80, 95])
def test_compression_draws_nothing_anew(quality: int) -> None:
    """If this fails, a sheet that was saved as JPEG is a revision of itself."""
    packed = cv2.imencode(".jpg", SHEET, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    evidence = seen(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE))
    assert evidence.redrawn == NOTHING
    assert judged(evidence).relation is Relation.IDENTICAL


def test_another_digit_in_the_same_place_did_not_move() -> None:
    """If this fails, the difference says that a text moved where it was changed."""
    query, other = prepared(_says("52", 17)), prepared(_says("50", 17))
    evidence = verify_prepared(query, other)
    assert evidence is not None
    redrawn = evidence.redrawn.on_other(evidence.placement)
    _, regions = diff(query.ink, other.ink, evidence.placement, redrawn=redrawn)
    assert [one.change for one in regions] == ["changed"]


@pytest.mark.parametrize("quality", [50, 60, 70])
def test_ringing_along_one_line_is_no_ink(quality: int) -> None:
    """If this fails, a plain drawing that was saved as JPEG is a revision: most of its paper is plain."""
    page = np.full((1000, 1400), 255, np.uint8)
    cv2.rectangle(page, (100, 100), (1300, 900), (0,), 3)
    cv2.line(page, (100, 300), (900, 900), (0,), 3)
    cv2.circle(page, (700, 400), 120, (0,), 2)
    packed = cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    evidence = verify_prepared(prepared(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)), prepared(page))
    assert evidence is not None
    assert judged(evidence).relation is Relation.IDENTICAL
