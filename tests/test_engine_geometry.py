"""Placements: matrices, and how they are told to people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup2d.engine.geometry import (
    Matrix,
    apply,
    as_transform,
    box_poses,
    flips,
    inverted,
    is_mirrored,
    is_sane,
)


def made(*, mirrored: bool, degrees: float, scale: float, shift: tuple[float, float]) -> Matrix:
    """Mirror, turn counter-clockwise on a screen (y down), scale, shift."""
    angle = -np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = scale * turn @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    matrix[:2, 2] = shift
    return matrix


@given(
    mirrored=st.booleans(),
    degrees=st.floats(-179, 179),
    scale=st.floats(0.2, 5),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_transform_tells_what_the_matrix_does(
    *, mirrored: bool, degrees: float, scale: float, shift: tuple[float, float]
) -> None:
    """A user would be told a wrong angle, scale or offset."""
    told = as_transform(made(mirrored=mirrored, degrees=degrees, scale=scale, shift=shift))

    assert told.mirrored == mirrored
    assert told.rotation_degrees == pytest.approx(degrees, abs=0.01)
    assert told.scale == pytest.approx(scale, rel=1e-3)
    assert (told.shift_x, told.shift_y) == pytest.approx(shift, abs=0.01)


def test_quarter_turn_is_counter_clockwise_on_the_screen() -> None:
    """The stated angle would turn the drawing the wrong way."""
    quarter = made(mirrored=False, degrees=90, scale=1, shift=(0, 0))

    assert apply(quarter, np.array([[1, 0]], np.float32))[0] == pytest.approx((0, -1), abs=1e-6)


def test_apply_and_inverse_undo_each_other() -> None:
    """Agreement would be measured with different placements in the two directions."""
    matrix = made(mirrored=True, degrees=20, scale=1.5, shift=(40, -7))
    matrix[2, :2] = 1e-5, -2e-5
    points = np.array([[0, 0], [1000, 30], [500, 900]], np.float32)

    assert apply(inverted(matrix), apply(matrix, points)) == pytest.approx(points, abs=0.05)


def test_box_poses_lay_box_on_box() -> None:
    """Turned and mirrored simple drawings without features would not be laid on each other."""
    poses = box_poses((10, 20, 200, 100), (0, 0, 51, 101))
    corners = np.array([[10, 20], [209, 20], [209, 119], [10, 119]], np.float32)

    assert len(poses) == 8
    assert sum(is_mirrored(pose) for pose in poses) == 4
    spans = [np.ptp(apply(pose, corners), axis=0) for pose in poses]
    assert sum(np.allclose(span, (50, 100), atol=2) for span in spans) == 4


def seen_from_aside(share: float, sheet: float = 1.0) -> Matrix:
    """A sheet of 2000 pixels whose right side is that much farther away."""
    return np.array([[sheet, 0, 0], [0, 1, 0], [share / 2000, 0, 1.0]])


@pytest.mark.parametrize(
    "broken",
    [
        *(np.zeros((3, 3)), np.diag([1.0, 1.5, 1.0]), np.diag([0.05, 0.05, 1.0]), np.full((3, 3), np.nan)),
        *(seen_from_aside(0.4), seen_from_aside(0.2, 0.9), 0.1 * seen_from_aside(-2.0)),
    ],
)
def test_nonsense_placements_are_refused(broken: Matrix) -> None:
    """A sheet squeezed onto a line would agree with any line."""
    assert not is_sane(broken, 2000)


@pytest.mark.parametrize("sane", [np.eye(3), seen_from_aside(0.2, 1.1), 0.1 * seen_from_aside(0.2, 1.1)])
def test_placements_of_photos_are_taken(sane: Matrix) -> None:
    """A photo of a sheet from a little aside would not be found."""
    assert is_sane(sane, 2000)


def test_flips_take_a_box_onto_itself() -> None:
    """A symmetric drawing would be called mirrored, for its straight placement is never tried."""
    x, y, width, height = box = (30, 50, 201, 101)
    corners = np.array([[x, y], [x + width - 1, y], [x, y + height - 1]], np.float32)
    across, down = flips(box)

    assert np.allclose(apply(across, corners), [[x + width - 1, y], [x, y], [x + width - 1, y + height - 1]])
    assert np.allclose(apply(down, corners), [[x, y + height - 1], [x + width - 1, y + height - 1], [x, y]])
    assert is_mirrored(across)
    assert is_mirrored(down)
