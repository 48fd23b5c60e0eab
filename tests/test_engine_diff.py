"""The difference: planted changes are found where they are, and nothing else is."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dedup2d.engine.clean import Picture, clean
from dedup2d.engine.diff import diff
from dedup2d.engine.geometry import Matrix
from dedup2d.engine.overlay import ADDED, LEFT_OUT, REMOVED, UNCHANGED
from dedup2d.types import DiffRegion
from tests.engine_sheets import Grey, part

SHEET = part(1)
INK = clean(SHEET)
HOLE = (640, 300, 30)  # x, y, radius: between the views
UNMOVED: Matrix = np.eye(3)


def ink(picture: npt.NDArray[np.generic]) -> Picture:
    return np.where(np.asarray(picture) > 100, 255, 0).astype(np.uint8)


def shown(png: bytes) -> npt.NDArray[np.uint8]:
    """The picture's pixels as red, green, blue."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture[..., ::-1], np.uint8)


def with_hole(x: float = HOLE[0], y: float = HOLE[1]) -> Picture:
    changed = SHEET.copy()
    cv2.circle(changed, (round(16 * x), round(16 * y)), 16 * HOLE[2], 0, 2, cv2.LINE_AA, 4)
    return clean(changed)


def with_text(text: str) -> Picture:
    changed = SHEET.copy()
    cv2.putText(changed, text, (1180, 90), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 0, 2, cv2.LINE_AA)
    return clean(changed)


def holds(region: DiffRegion, x: float, y: float) -> bool:
    return region.x <= x <= region.x + region.width and region.y <= y <= region.y + region.height


def bent(sheet: Grey, most: float) -> Grey:
    """The sheet on paper that is up to `most` pixels off, smoothly."""
    y, x = np.mgrid[: sheet.shape[0], : sheet.shape[1]].astype(np.float32)
    off = most * np.sin(2 * np.pi * y / 1500).astype(np.float32)
    down = most * np.sin(2 * np.pi * x / 1800 + 1).astype(np.float32)
    moved = cv2.remap(sheet, x + off, y + down, cv2.INTER_LINEAR, borderValue=255)
    return np.asarray(moved, np.uint8)


def test_no_difference_to_itself() -> None:
    """Every comparison would show changes that are none."""
    png, regions = diff(INK, INK, UNMOVED)
    picture = shown(png)
    unchanged = (picture[INK > 0] == UNCHANGED).all(axis=-1)
    frame = (picture[INK > 0] == LEFT_OUT).all(axis=-1)

    assert regions == ()
    assert picture.shape == (*INK.shape, 3)
    assert (unchanged | frame).all()
    assert unchanged.mean() > 0.5


@pytest.mark.parametrize(("added", "change", "colour"), [(True, "added", ADDED), (False, "removed", REMOVED)])
def test_planted_hole_is_found(*, added: bool, change: str, colour: tuple[int, int, int]) -> None:
    """A changed hole would not be shown, or in the wrong place or colour."""
    pair = (with_hole(), INK) if added else (INK, with_hole())
    png, regions = diff(*pair, UNMOVED)
    x, y, radius = HOLE

    assert len(regions) == 1
    assert regions[0].change == change
    assert (regions[0].x, regions[0].y) == pytest.approx((x - radius, y - radius), abs=4)
    assert (regions[0].width, regions[0].height) == pytest.approx((2 * radius, 2 * radius), abs=6)
    assert (shown(png)[y - 9 : y + 10, x + radius] == colour).all(axis=-1).any()


def test_added_and_removed_are_told_apart_without_colour() -> None:
    """On a grey print nobody would know what is new and what is gone: hatched is gone, solid is new."""
    x, y, radius = HOLE
    band = np.zeros(INK.shape, np.uint8)
    cv2.circle(band, (x, y), radius, 255, 1)
    levels = []
    for pair in ((with_hole(), INK), (INK, with_hole())):
        grey = cv2.cvtColor(shown(diff(*pair, UNMOVED)[0]), cv2.COLOR_RGB2GRAY)[band > 0]
        levels.append(np.percentile(grey, [10, 90]).tolist())
    new, gone = levels

    assert new[1] - new[0] < 10
    assert gone[1] - gone[0] > 60
    assert new[1] < 120
    assert gone[1] > 170


def test_replaced_digit_is_one_change() -> None:
    """A changed dimension would be shown as unrelated changes, or not at all."""
    _, regions = diff(with_text("138"), with_text("133"), UNMOVED)

    assert len(regions) == 1
    assert 1200 < regions[0].x < regions[0].x + regions[0].width < 1225
    assert 70 < regions[0].y < 95


def test_a_dimension_with_its_text_is_one_change() -> None:
    """One new dimension would be listed as nine changes."""
    changed = SHEET.copy()
    for x in (580, 700):
        cv2.line(changed, (x, 690), (x, 740), 0, 1)
        cv2.line(changed, (x, 735), (x + (8 if x == 580 else -8), 731), 0, 1)
        cv2.line(changed, (x, 735), (x + (8 if x == 580 else -8), 739), 0, 1)
    cv2.line(changed, (580, 735), (700, 735), 0, 1)
    cv2.putText(changed, "45", (625, 726), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 1, cv2.LINE_AA)
    _, regions = diff(clean(changed), INK, UNMOVED)

    assert len(regions) == 1
    assert regions[0].change == "added"
    assert all(holds(regions[0], *spot) for spot in ((582, 700), (698, 738), (635, 715)))


def test_hole_moved_by_a_millimetre_is_a_move() -> None:
    """The smallest change that matters would be missed, or shown as if holes came and went."""
    _, regions = diff(with_hole(HOLE[0] + 4.8), with_hole(), UNMOVED)

    assert [region.change for region in regions] == ["moved"]
    assert (regions[0].shift_x, regions[0].shift_y) == pytest.approx((5, 0), abs=1)


def test_hole_moved_farther_is_one_move() -> None:
    """A hole that moved by more than its size would be two changes that nobody connects."""
    _, regions = diff(with_hole(HOLE[0] + 20, HOLE[1] + 75), with_hole(), UNMOVED)

    assert [region.change for region in regions] == ["moved"]
    assert (regions[0].shift_x, regions[0].shift_y) == pytest.approx((20, 75), abs=1)
    assert holds(regions[0], HOLE[0] + 20, HOLE[1] + 75)


def test_small_shift_and_line_width_are_no_change() -> None:
    """A redrawn sheet would be marked all over."""
    moved = np.asarray(np.roll(INK, (1, 1), (0, 1)), np.uint8)
    thick = ink(cv2.dilate(INK, np.ones((5, 5), np.uint8)))

    assert diff(moved, INK, UNMOVED)[1] == ()
    assert diff(thick, INK, UNMOVED)[1] == ()
    assert diff(INK, thick, UNMOVED)[1] == ()


def test_bent_paper_is_no_change_and_hides_none() -> None:
    """A scan would show its lines as changed wherever the paper was not flat."""
    changed = SHEET.copy()
    cv2.circle(changed, HOLE[:2], HOLE[2], 0, 2, cv2.LINE_AA)
    _, unchanged = diff(clean(bent(SHEET, 4)), INK, UNMOVED)
    _, regions = diff(clean(bent(changed, 4)), INK, UNMOVED)

    assert unchanged == ()
    assert len(regions) == 1
    assert holds(regions[0], HOLE[0], HOLE[1])


def test_thin_lines_lost_all_over_are_no_change() -> None:
    """Every fax of a drawing would look revised."""
    thick = cv2.dilate(INK, np.ones((3, 3), np.uint8))
    small = cv2.resize(thick, None, fx=0.42, fy=0.42, interpolation=cv2.INTER_AREA)
    copy = ink(cv2.resize(small, INK.shape[::-1], interpolation=cv2.INTER_LINEAR))
    full, one = ink(thick), ink(thick)
    for x in range(60, 1350, 30):
        cv2.line(full, (x, 60), (x, 940), (255,), 1)
    cv2.line(one, (660, 60), (660, 600), (255,), 1)

    assert diff(copy, full, UNMOVED)[1] == ()
    assert [region.change for region in diff(copy, one, UNMOVED)[1]] == ["removed"]


def test_other_frame_is_no_change() -> None:
    """A drawing on the sheet of another company would look changed all around."""
    moved = SHEET.copy()
    cv2.line(moved, (25, 25), (900, 25), 255, 2)
    cv2.line(moved, (25, 25), (25, 964), 255, 2)
    cv2.rectangle(moved, (18, 18), (1381, 971), 0, 4)
    for x in range(100, 1300, 150):
        cv2.line(moved, (x, 0), (x, 18), 0, 2)
    _, regions = diff(clean(moved), INK, UNMOVED)

    assert regions == ()


def test_beyond_the_query_nothing_is_missing() -> None:
    """A part of a sheet would be shown with the rest of the sheet removed."""
    window = np.ascontiguousarray(with_hole()[150:700, 250:1000])
    placement = np.array([[1.0, 0, 250], [0, 1, 150], [0, 0, 1]])
    png, regions = diff(window, INK, placement)
    beyond = INK.copy()
    beyond[150:700, 250:1000] = 0

    assert [region.change for region in regions] == ["added"]
    assert (shown(png)[beyond > 0] == LEFT_OUT).all()


def test_ignored_areas_have_no_changes() -> None:
    """What somebody masked would be marked all the same, or all else be hidden with it."""
    changed = with_hole()
    cv2.putText(changed, "NEW", (1180, 90), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255,), 2)
    _, both = diff(changed, INK, UNMOVED)
    _, regions = diff(changed, INK, UNMOVED, ignore=[(1150, 60, 150, 50)])

    assert len(both) > 1
    assert len(regions) == 1
    assert holds(regions[0], *HOLE[:2])


def test_regions_say_where_they_are() -> None:
    """A reader could not find the change on paper, or would not know that it is in the title block only."""
    changed = with_hole()
    cv2.putText(changed, "C", (1300, 950), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255,), 2)
    _, regions = diff(changed, INK, UNMOVED, mm_per_pixel=0.3)
    hole, letter = regions

    assert letter.place == "title_block"
    assert hole.place != "title_block"
    assert (hole.x_mm, hole.width_mm) == pytest.approx((0.3 * hole.x, 0.3 * hole.width), abs=0.01)
    assert diff(changed, INK, UNMOVED)[1][0].x_mm is None


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_placement_is_applied(scale: float) -> None:
    """Sheets of another resolution would differ everywhere."""
    changed = with_hole()
    size = (round(INK.shape[1] * scale), round(INK.shape[0] * scale))
    query = np.where(cv2.resize(changed, size, interpolation=cv2.INTER_AREA) > 60, 255, 0).astype(np.uint8)
    placement = np.diag([1 / scale, 1 / scale, 1.0])
    _, regions = diff(query, INK, placement, tolerance=max(2.0, 2 / scale))

    assert holds(regions[0], HOLE[0] + HOLE[2], HOLE[1])
    assert all(abs(region.x - HOLE[0]) < 60 for region in regions)


def test_blank_sheets_differ_nowhere_else() -> None:
    """A sheet without ink would crash the comparison."""
    blank = np.zeros_like(INK)

    assert diff(blank, blank, UNMOVED)[1] == ()
    assert {region.change for region in diff(blank, INK, UNMOVED)[1]} == {"removed"}
