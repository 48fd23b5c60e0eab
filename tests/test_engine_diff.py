"""The difference: planted changes are found where they are, and nothing else is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dedup2d.engine.clean import clean
from dedup2d.engine.diff import ADDED, REMOVED, UNCHANGED, diff
from dedup2d.types import DiffRegion
from tests.engine_sheets import part

SHEET = part(1)
INK = clean(SHEET)
HOLE = (640, 300, 30)  # x, y, radius: between the views


def with_hole() -> np.ndarray:
    changed = SHEET.copy()
    cv2.circle(changed, HOLE[:2], HOLE[2], 0, 2, cv2.LINE_AA)
    return clean(changed)


def holds(region: DiffRegion, x: int, y: int) -> bool:
    return region.x <= x <= region.x + region.width and region.y <= y <= region.y + region.height


def test_no_difference_to_itself() -> None:
    """Every comparison would show changes that are none."""
    png, regions = diff(INK, INK, np.eye(3))
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)

    assert regions == ()
    assert picture.shape == (*INK.shape, 3)
    assert (picture[INK > 0] == UNCHANGED).all()


@pytest.mark.parametrize(("added", "change", "colour"), [(True, "added", ADDED), (False, "removed", REMOVED)])
def test_planted_hole_is_found(*, added: bool, change: str, colour: tuple[int, int, int]) -> None:
    """A changed hole would not be shown, or in the wrong place or colour."""
    pair = (with_hole(), INK) if added else (INK, with_hole())
    png, regions = diff(*pair, np.eye(3))
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    x, y, radius = HOLE

    assert len(regions) == 1
    assert regions[0].change == change
    assert (regions[0].x, regions[0].y) == pytest.approx((x - radius, y - radius), abs=4)
    assert (regions[0].width, regions[0].height) == pytest.approx((2 * radius, 2 * radius), abs=6)
    assert (picture[y - 3 : y + 4, x + radius] == colour).all(axis=-1).any()


def test_replaced_text_is_changed() -> None:
    """A changed dimension would be shown as two unrelated changes, or not at all."""
    old, new = SHEET.copy(), SHEET.copy()
    for page, text in ((old, "125"), (new, "138")):
        cv2.putText(page, text, (1180, 90), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 0, 3, cv2.LINE_AA)
    _, regions = diff(clean(new), clean(old), np.eye(3))

    assert regions
    assert all(1170 < region.x < 1280 and 50 < region.y < 100 for region in regions)
    assert any(region.change == "changed" for region in regions)


def test_small_shift_and_line_width_are_no_change() -> None:
    """A redrawn sheet would be marked all over."""
    moved = np.roll(INK, (1, 1), (0, 1))
    thick = cv2.dilate(INK, np.ones((3, 3), np.uint8))

    assert diff(moved, INK, np.eye(3))[1] == ()
    assert diff(thick, INK, np.eye(3))[1] == ()


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
