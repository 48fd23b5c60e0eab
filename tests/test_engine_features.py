"""Features: which places of a drawing are described, and that they find it in any pose and at any size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup2d.engine.candidates import Candidate, Candidates
from dedup2d.engine.clean import clean, ink_box
from dedup2d.engine.features import extract_features
from dedup2d.engine.fingerprint import fingerprint, fingerprint_ink
from dedup2d.engine.geometry import is_mirrored
from dedup2d.engine.keypoints import LEVELS, Pyramid
from dedup2d.engine.layout import Layout, find_layout
from tests.engine_sheets import Grey, part, template

SHEETS = {seed: part(seed) for seed in range(8)}
INDEX = Candidates()
for _seed, _sheet in SHEETS.items():
    INDEX.add(_seed, fingerprint(_sheet)[0])


def moved(sheet: Grey, angle: float, scale: float, *, mirrored: bool) -> tuple[Grey, np.ndarray]:
    """The sheet on paper large enough for it, and the matrix (3, 3) from it to there."""
    height, width = sheet.shape
    flip = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]]) if mirrored else np.eye(3)
    turn = np.eye(3)
    turn[:2] = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    corners = turn[:2] @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
    turn[:2, 2] -= corners.min(axis=1)
    size = np.ceil(np.ptp(corners, axis=1)).astype(int) + 1
    matrix = turn @ flip
    page = cv2.warpAffine(sheet, matrix[:2], size.tolist(), flags=cv2.INTER_AREA, borderValue=(255,))
    return np.asarray(page, np.uint8), matrix


def best(sheet: Grey) -> Candidate:
    return INDEX.query(fingerprint(sheet)[0], limit=1)[0]


def off(placement: tuple[float, ...] | None, matrix: np.ndarray, sheet: Grey) -> float:
    """How far a placement puts the sheet's corners off where they are, in shares of its side."""
    height, width = sheet.shape
    corners = np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]], np.float64)
    back = np.array(placement).reshape(3, 3) @ matrix @ corners
    return float(np.abs((back - corners)[:2]).max() / max(sheet.shape))


@given(
    seed=st.sampled_from(sorted(SHEETS)),
    angle=st.floats(0, 360),
    scale=st.floats(0.45, 1.1),
    mirrored=st.booleans(),
    inverted=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_every_pose_is_found_and_laid(
    seed: int, angle: float, scale: float, *, mirrored: bool, inverted: bool
) -> None:
    """Turned, rescaled, mirrored or inverted copies would be new drawings, or be laid askew on the old."""
    sheet, matrix = moved(SHEETS[seed], angle, scale, mirrored=mirrored)
    found = best(255 - sheet if inverted else sheet)

    assert found.key == seed
    assert found.l2 > 0.5
    assert off(found.placement, matrix, SHEETS[seed]) < 0.03
    assert is_mirrored(np.array(found.placement).reshape(3, 3)) == mirrored


@pytest.mark.parametrize("scale", [0.3, 0.45, 0.6])
@pytest.mark.parametrize("seed", [1, 6])
def test_a_view_on_another_sheet_is_found(seed: int, scale: float) -> None:
    """A view copied into an overview would be a new drawing."""
    view = SHEETS[seed][70:730, 70:690]
    small = cv2.resize(view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    page = np.full((1000, 1500), 255, np.uint8)
    cv2.rectangle(page, (30, 30), (1470, 970), 0, 3)
    cv2.putText(page, "OVERVIEW OF SPARES", (900, 900), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 0, 2, cv2.LINE_AA)
    page[300 : 300 + small.shape[0], 500 : 500 + small.shape[1]] = small

    assert best(page).key == seed


def test_the_rarest_evidence_is_no_template() -> None:
    """A match would be explained by the frame that all drawings share."""
    found = best(SHEETS[2])
    assert found.rarest is not None
    drawings, x, y = found.rarest

    assert drawings == 1
    assert y < 780 or x < 930  # outside of the title block


def test_shared_features_weigh_little_in_any_index() -> None:
    """A company's form would make all its drawings alike."""
    form = fingerprint(template())[0]
    for count in (4, 8):
        index = Candidates()
        for seed in range(count):
            index.add(seed, fingerprint(SHEETS[seed])[0])
        of_form = max((one.l2 for one in index.query(form, limit=count)), default=0.0)
        of_part = index.query(fingerprint(SHEETS[0])[0], limit=1)[0].l2

        assert of_form < 0.5 * of_part


def test_a_bare_outline_has_keypoints_of_all_sizes() -> None:
    """A plate of a few lines would have nothing but its corners, which every plate has."""
    sheet = np.zeros((700, 700), np.float32)
    cv2.rectangle(sheet, (60, 60), (640, 500), 1, 2)
    cv2.circle(sheet, (300, 280), 120, 1, 2)
    octaves = set((Pyramid(sheet).keypoints().levels // LEVELS).tolist())

    assert octaves >= {0, 1, 2, 3}


def test_features_that_look_alike_are_few() -> None:
    """The holes of a perforated plate would crowd out what tells it from others."""
    ink = np.zeros((1000, 1000), np.uint8)
    for x in range(100, 1000, 100):
        for y in range(100, 1000, 100):
            cv2.circle(ink, (x, y), 30, 255, 3)
    codes = extract_features(ink, find_layout(ink)).codes
    apart = np.bitwise_count(codes[:, None] ^ codes[None]).sum(axis=2)
    before = np.tril(apart <= 24, -1).sum(axis=1)

    assert len(codes) > 20
    assert before.max() < 40


def test_features_prefer_views_to_tables() -> None:
    """Two drawings of one company would agree in most features: those of the title block."""
    ink = clean(SHEETS[4])
    layout = find_layout(ink)
    title = (930, 780, 445, 185)
    assert layout.title_block is not None

    def share(places: np.ndarray) -> float:
        inside = (places >= title[:2]) & (places <= np.array(title[:2]) + title[2:])
        return float(inside.all(axis=1).mean())

    told = share(extract_features(ink, layout).places)
    untold = share(extract_features(ink, Layout()).places)

    assert told < 0.8 * untold


def test_layout_and_parts_survive_storing() -> None:
    """Verification would look for the frame again, or views would not be found by their hashes."""
    ink = clean(SHEETS[5])
    made = fingerprint_ink(ink)

    assert made.layout == find_layout(ink)
    assert 1 <= len(made.parts) <= 8
    assert all(len(code) == 32 and any(code) for code in made.parts)
    assert len(set(made.parts)) == len(made.parts)


@pytest.mark.parametrize("framed", [False, True])
def test_a_sheet_without_views_has_no_parts(*, framed: bool) -> None:
    """Blank forms would be found by the hash of nothing."""
    sheet = np.full((700, 1000), 255, np.uint8)
    if framed:
        cv2.rectangle(sheet, (20, 20), (980, 680), 0, 2)

    assert fingerprint(sheet)[0].parts == ()


def test_a_view_has_the_same_hash_on_another_sheet() -> None:
    """A copied view too simple for features would not be found."""
    ink = clean(SHEETS[3])
    x, y, width, height = find_layout(ink).views[0]
    view = ink[y : y + height, x : x + width]
    x, y, width, height = ink_box(view)
    small = cv2.resize(
        255 - view[y : y + height, x : x + width], None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA
    )
    page = np.full((1000, 1500), 255, np.uint8)
    cv2.rectangle(page, (30, 30), (1470, 970), 0, 3)
    page[200 : 200 + small.shape[0], 700 : 700 + small.shape[1]] = small

    ours, theirs = (
        np.array([np.frombuffer(code, np.uint8) for code in fingerprint_ink(one).parts])
        for one in (ink, clean(page))
    )
    apart = np.bitwise_count(ours[:, None] ^ theirs[None]).sum(axis=2)

    assert apart.min() < 32
