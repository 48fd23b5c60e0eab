"""Fingerprints: what of a sheet is kept, and that its pose does not matter."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup2d.engine.clean import clean
from dedup2d.engine.features import CODE_BYTES, MAX_FEATURES, Features, extract_features, mirrored_codes
from dedup2d.engine.fingerprint import Fingerprint, fingerprint, fingerprint_ink
from dedup2d.engine.layout import find_layout
from dedup2d.engine.phash import POSES, hashed, pose_hashes
from tests.engine_sheets import part, template


def features_of(raster: np.ndarray) -> Features:
    ink = np.asarray(raster, np.uint8)
    return extract_features(ink, find_layout(ink))


def bits_apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Bits in which rows of two arrays of codes differ."""
    return np.bitwise_count(first ^ second).sum(axis=-1)


@pytest.mark.parametrize(("pose", "mirrored", "turns"), [(i, *pose) for i, pose in enumerate(POSES)])
def test_hash_of_a_pose_follows_from_the_hash(pose: int, *, mirrored: bool, turns: int) -> None:
    """A drawing scanned sideways or mirrored would not be found by its hash."""
    ink = clean(part(1))
    seen = np.rot90(ink[:, ::-1] if mirrored else ink, turns)

    predicted = pose_hashes(hashed(ink)[0])[pose]
    actual = np.frombuffer(hashed(np.ascontiguousarray(seen))[0], np.uint8)

    assert bits_apart(predicted, actual) <= 4


def test_hashes_of_strangers_lie_apart() -> None:
    """Every drawing would be a candidate of every other."""
    hashes = [np.frombuffer(hashed(clean(_views(part(seed))))[0], np.uint8) for seed in range(6)]

    assert min(bits_apart(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 60


def _views(sheet: np.ndarray) -> np.ndarray:
    return sheet[60:770, 60:1360]


@pytest.mark.parametrize("shape", [(0, 0), (40, 40)])
def test_sheet_without_content_says_nothing(shape: tuple[int, int]) -> None:
    """Blank and frame-only sheets would be duplicates of each other."""
    sheet = np.full((700, 1000), 255, np.uint8)
    if shape != (0, 0):
        cv2.rectangle(sheet, (20, 20), (980, 680), 0, 2)

    assert hashed(clean(sheet))[1] == 0.0


def test_information_of_a_part_is_full() -> None:
    """The hash of a real drawing would be ignored."""
    assert hashed(clean(part(2)))[1] == 1.0


def test_mirrored_codes_are_those_of_the_mirrored_sheet() -> None:
    """Mirrored copies would not be found by their features."""
    ink = clean(part(3))
    plain = features_of(ink)
    mirror = features_of(np.ascontiguousarray(ink[:, ::-1]))

    turned = mirrored_codes(mirror.codes)
    nearest = np.array([bits_apart(code, plain.codes).min() for code in turned])
    unturned = np.array([bits_apart(code, plain.codes).min() for code in mirror.codes])

    assert np.median(nearest) < 12
    assert np.median(nearest) < np.median(unturned) - 8


def test_features_follow_a_turn_and_a_scale() -> None:
    """Turned and rescaled copies would not be found by their features."""
    ink = clean(part(4))
    height, width = ink.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 37, 0.7)
    turned = clean(255 - cv2.warpAffine(ink, matrix, (width, height), flags=cv2.INTER_AREA))

    before, after = features_of(ink), features_of(turned)
    expected = before.places @ matrix[:, :2].T + matrix[:, 2]
    nearest = [(np.hypot(*(after.places - place).T)).argmin() for place in expected]
    found = np.hypot(*(after.places[nearest] - expected).T) < 8
    close = bits_apart(after.codes[nearest], before.codes) < 48

    assert (found & close).mean() > 0.2


def test_fingerprint_survives_storing() -> None:
    """A search by a stored drawing would answer otherwise than one by its file."""
    made, _ = fingerprint(part(5))
    read = Fingerprint.from_bytes(made.to_bytes())

    assert read.to_bytes() == made.to_bytes()
    assert (read.width, read.height, read.box) == (made.width, made.height, made.box)
    assert np.array_equal(read.features.codes, made.features.codes)
    assert np.array_equal(read.features.places, made.features.places)
    assert len(made.to_bytes()) <= 16_500


def test_fingerprint_is_the_same_every_time() -> None:
    """Two runs would rank matches differently."""
    first, first_png = fingerprint(part(6))
    second, second_png = fingerprint(part(6))

    assert first.to_bytes() == second.to_bytes()
    assert first_png == second_png


@pytest.mark.parametrize("sheet", [np.full((50, 70), 255, np.uint8), np.zeros((1, 1), np.uint8)])
def test_blank_sheet_has_an_empty_fingerprint(sheet: np.ndarray) -> None:
    """An empty page would stop the indexing of its file."""
    made, _ = fingerprint(sheet)

    assert made.information == 0.0
    assert len(made.features) == 0
    assert Fingerprint.from_bytes(made.to_bytes()).box == (0, 0, 0, 0)


def test_features_are_bounded() -> None:
    """Memory per drawing would grow with how dense it is."""
    noise = np.random.default_rng(0).integers(0, 2, (900, 900), dtype=np.uint8) * 255
    features = features_of(cv2.resize(noise, (1800, 1800), interpolation=cv2.INTER_NEAREST))

    assert 0 < len(features) <= MAX_FEATURES
    assert features.codes.shape == (len(features), CODE_BYTES)


@given(data=st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_damaged_bytes_are_refused(data: bytes) -> None:
    """A damaged index would give nonsense or a crash instead of an error."""
    with pytest.raises(ValueError, match="index"):
        Fingerprint.from_bytes(data)


def test_cut_and_foreign_fingerprints_are_refused() -> None:
    """An index of another version would be compared with this one's fingerprints."""
    data = fingerprint_ink(clean(template())).to_bytes()

    with pytest.raises(ValueError, match="damaged"):
        Fingerprint.from_bytes(data[:-1])
    with pytest.raises(ValueError, match="version 65535"):
        Fingerprint.from_bytes(data[:4] + b"\xff\xff" + data[6:])
