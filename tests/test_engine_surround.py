"""What lies around a sheet in photos and scans: a desk, the lid of a copier, the black of a turned scan."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from dedup2d.engine.clean import clean
from dedup2d.engine.fingerprint import fingerprint_ink
from dedup2d.engine.surround import Grey, without_surround
from dedup2d.engine.verify import verify
from tests.engine_sheets import part


def on_desk(sheet: Grey) -> Grey:
    """A photo: a little perspective, uneven light, a dark desk with a grain."""
    height, width = sheet.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    aims = corners + np.array([[90, 70], [70, 85], [95, 75], [80, 95]], np.float32)
    size = (width + 170, height + 170)
    photo = cv2.warpPerspective(sheet, cv2.getPerspectiveTransform(corners, aims), size, borderValue=0)
    desk = cv2.warpPerspective(
        np.full_like(sheet, 255), cv2.getPerspectiveTransform(corners, aims), size, borderValue=0
    )
    draw = np.random.default_rng(3)
    grain = 70 + 15 * cv2.GaussianBlur(draw.normal(0, 6, photo.shape), (0, 0), sigmaX=40, sigmaY=2)
    light = np.linspace(0.6, 1, size[0])[None, :] * np.linspace(0.85, 1, size[1])[:, None]
    seen = np.where(desk > 128, photo, grain) * light + draw.normal(0, 3, photo.shape)
    return np.clip(cv2.GaussianBlur(seen, (0, 0), 0.8), 0, 255).astype(np.uint8)


def turned(sheet: Grey) -> Grey:
    """A scan set upright, with black where it had nothing."""
    height, width = sheet.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 4, 0.93)
    return np.asarray(cv2.warpAffine(sheet, turn, (width, height), borderValue=8), np.uint8)


def under_lid(sheet: Grey) -> Grey:
    """A copy with the black of an open lid on two sides."""
    return np.asarray(cv2.copyMakeBorder(sheet, 45, 0, 0, 60, cv2.BORDER_CONSTANT, value=0), np.uint8)


def in_a_viewer(sheet: Grey) -> Grey:
    """A page in a program on a grey ground."""
    return np.asarray(cv2.copyMakeBorder(sheet, 60, 60, 90, 90, cv2.BORDER_CONSTANT, value=82), np.uint8)


SURROUNDED: dict[str, Callable[[Grey], Grey]] = {
    "desk": on_desk,
    "turned": turned,
    "lid": under_lid,
    "viewer": in_a_viewer,
}


@pytest.mark.parametrize("name", SURROUNDED)
def test_a_sheet_is_the_same_whatever_lies_around_it(name: str) -> None:
    """If this fails, a photo or copy of a drawing is a `partial` of it, or it is not found."""
    sheet = part(1)
    seen = SURROUNDED[name](sheet)
    ink = clean(seen)
    height, width = ink.shape
    rim = max(height, width) // 100
    for edge in (ink[:rim], ink[-rim:], ink[:, :rim], ink[:, -rim:]):
        assert np.count_nonzero(edge) < 20

    plain = clean(sheet)
    evidence = verify(fingerprint_ink(ink), ink, fingerprint_ink(plain), plain)
    assert evidence is not None
    assert min(evidence.query.agreed, evidence.other.agreed) > 0.99
    assert min(evidence.query.overlap, evidence.other.overlap) > 0.99


def frame_at_the_rim() -> Grey:
    sheet = part(0).copy()
    cv2.rectangle(sheet, (0, 0), (sheet.shape[1] - 1, sheet.shape[0] - 1), 0, 16)
    return sheet


def half_a_board() -> Grey:
    """A part cut out of a circuit board, dark to three edges."""
    board = np.full((900, 1200), 255, np.uint8)
    board[:, :560] = 0
    for row in range(40, 900, 60):
        cv2.line(board, (30, row), (520, row), 255, 3)
    return board


def board_in_the_middle() -> Grey:
    board = np.full((900, 1200), 255, np.uint8)
    board[200:700, 300:900] = 0
    return board


LEFT_ALONE: dict[str, Grey] = {
    "a sheet": part(0),
    "a negative": 255 - part(0),
    "a blueprint": (160 - part(0) // 2).astype(np.uint8),
    "a frame at the rim": frame_at_the_rim(),
    "half a board": half_a_board(),
    "a board": board_in_the_middle(),
    "the negative of a board": 255 - board_in_the_middle(),
    "nothing": np.full((300, 400), 255, np.uint8),
    "night": np.zeros((300, 400), np.uint8),
    "one pixel": np.zeros((1, 1), np.uint8),
    "a line": np.array([[0, 255] * 700], np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (700, 900), np.uint8),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_no_surround_is_left_alone(name: str) -> None:
    """If this fails, dark parts of a drawing are wiped out."""
    assert np.array_equal(without_surround(LEFT_ALONE[name]), LEFT_ALONE[name])
