"""Cleaning: one ink picture whatever the scan looked like."""

from __future__ import annotations

import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.transforms import apply_transform
from dedup2d.engine.clean import INK_SIDE, clean, decode_ink, encode_ink, ink_as_png, ink_box
from tests.engine_sheets import part


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Least share of one's ink that lies within two pixels of the other's."""
    kernel = np.ones((5, 5), np.uint8)
    shares = [
        (cv2.dilate(a, kernel)[b > 0] > 0).mean() for a, b in ((first, second), (second, first)) if b.any()
    ]
    return float(min(shares))


def test_inverted_is_the_same() -> None:
    """White on black would be a drawing of its own."""
    sheet = part(1)

    assert np.array_equal(clean(sheet), clean(255 - sheet))


@pytest.mark.parametrize("filled", [0.45, 0.55, 0.65])
def test_a_board_that_is_mostly_ink_is_seen_by_its_rim(filled: float) -> None:
    """A part cut out of a circuit board would be a negative of it, and not be found."""
    board = np.full((800, 600), 255, np.uint8)
    edge = round(600 * (1 - np.sqrt(filled * 800 / 750)) / 2)
    board[25:775, edge:-edge] = 0
    for row in range(60, 760, 40):
        cv2.line(board, (edge + 20, row), (580 - edge, row), 255, 3)

    assert np.array_equal(clean(board) > 0, board == 0)
    assert np.array_equal(clean(board), clean(255 - board))


def test_ringing_of_strong_compression_is_no_ink() -> None:
    """A copy sent as a small JPEG would be called a revision, for its blurs beside the lines."""
    sheet = part(0)
    small = cv2.resize(sheet, None, fx=0.45, fy=0.45, interpolation=cv2.INTER_AREA)
    _, packed = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 35])
    ringing = clean(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE))
    beside = (ringing > 0) & (cv2.dilate(clean(small), np.ones((5, 5), np.uint8)) == 0)

    assert beside.sum() < 0.002 * (ringing > 0).sum()
    assert agreement(clean(small), ringing) > 0.97


def test_fold_in_noisy_paper_is_no_ink() -> None:
    """The shadow of a fold would be full of specks, and the scan a revision for them."""
    sheet = part(0)
    away = (np.arange(sheet.shape[0])[:, None] - 0.6 * sheet.shape[0]) / 25
    light = 1 - 0.04 * np.exp(-(away**2)) - 0.15 * np.linspace(0, 1, sheet.shape[1])[None, :]
    noise = np.random.default_rng(0).normal(0, 5, sheet.shape)
    soft = cv2.GaussianBlur(sheet, (0, 0), 1.0).astype(np.float64)
    scan = np.clip((60 + soft * 0.65) * light + noise, 0, 255).astype(np.uint8)
    specks = (clean(scan) > 0) & (cv2.dilate(clean(sheet), np.ones((5, 5), np.uint8)) == 0)

    assert specks.sum() < 3000
    assert agreement(clean(scan), clean(sheet)) > 0.9


@pytest.mark.parametrize("grain", [2.5, 5.0, 9.0])
def test_empty_paper_of_a_poor_scanner_is_no_ink(grain: float) -> None:
    """Shade and grain of a scanner would be ink on mostly empty sheets, and each scan a revision."""
    sheet = np.full((1400, 2000), 255, np.uint8)
    sheet[500:900, 200:1000] = cv2.resize(part(1), (800, 400), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(4)
    shade = cv2.resize(rng.random((5, 5)).astype(np.float32), (2000, 1400), interpolation=cv2.INTER_CUBIC)
    soft = 60 + cv2.GaussianBlur(sheet, (0, 0), 1.0).astype(np.float32) * 0.6
    noise = cv2.GaussianBlur(rng.standard_normal(sheet.shape).astype(np.float32), (0, 0), 0.7)
    scan = soft * (1 - 0.4 * np.clip(shade, 0, 1)) + grain * noise / noise.std()
    found = clean(np.clip(scan, 0, 255).astype(np.uint8))
    specks = (found > 0) & (cv2.dilate(clean(sheet), np.ones((7, 7), np.uint8)) == 0)

    assert specks.sum() < 0.01 * (found > 0).sum()
    assert agreement(clean(sheet), found) > 0.9


def test_shaded_noisy_scan_keeps_its_lines() -> None:
    """Thin lines of a scan in uneven light would be lost, or its shadow would become ink."""
    sheet = part(2)
    light = np.linspace(0.65, 1.0, sheet.shape[1])[None, :]
    noise = np.random.default_rng(0).normal(0, 5, sheet.shape)
    soft = cv2.GaussianBlur(sheet, (0, 0), 1.0).astype(np.float64)
    scan = np.clip((60 + soft * 0.65) * light + noise, 0, 255).astype(np.uint8)

    assert agreement(clean(sheet), clean(scan)) > 0.97
    assert agreement(clean(sheet), clean(255 - scan)) > 0.97


def test_specks_go() -> None:
    """Dust on the glass would count as ink and widen the drawing's box."""
    sheet = np.full((800, 1000), 255, np.uint8)
    cv2.rectangle(sheet, (300, 300), (600, 500), 0, 2)
    dusty = np.clip(sheet + np.random.default_rng(1).normal(0, 4, sheet.shape), 0, 255).astype(np.uint8)
    dusty[100, 900] = dusty[700, 80] = 90

    assert ink_box(clean(dusty)) == pytest.approx((299, 299, 303, 203), abs=3)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_has_no_ink(level: int) -> None:
    """An empty sheet would match other empty sheets."""
    assert not clean(np.full((300, 400), level, np.uint8)).any()


def test_paper_noise_alone_is_no_ink() -> None:
    """A scanned empty sheet would be full of ink."""
    paper = np.random.default_rng(2).normal(215, 6, (900, 700)).clip(0, 255).astype(np.uint8)

    assert clean(paper).mean() < 0.05


def test_large_raster_is_bounded() -> None:
    """Memory and time would grow with the resolution of the scanner."""
    large = cv2.resize(part(3), None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR)

    assert max(clean(large).shape) == INK_SIDE


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2000)])
def test_extreme_shapes_do_not_fail(shape: tuple[int, int]) -> None:
    """A degenerate page would stop the indexing of its file."""
    noise = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)

    assert clean(noise).shape == shape


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), np.zeros((0, 4), np.uint8)]
)
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    """A colour picture or floats would be cleaned into nonsense."""
    with pytest.raises(ValueError, match="uint8"):
        clean(wrong)


def test_ink_survives_storing() -> None:
    """What verification sees would differ from what was indexed."""
    ink = clean(part(4))
    stored = encode_ink(ink)

    assert np.array_equal(ink, decode_ink(stored))
    assert len(stored) < 20_000


def test_ink_can_be_shown() -> None:
    """The picture of a drawing would not open in a browser, or show it in negative."""
    ink = clean(part(4))
    shown = cv2.imdecode(np.frombuffer(ink_as_png(encode_ink(ink)), np.uint8), cv2.IMREAD_GRAYSCALE)

    assert np.array_equal(255 - ink, shown)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_ink_of_older_indexes_can_be_read(kind: str) -> None:
    """An index made with an earlier version, which stored other formats, could not be rebuilt."""
    ink = clean(part(4))
    data = BytesIO()
    paper = Image.fromarray(255 - ink).convert("1")
    paper.save(data, kind, **({"compression": "group4"} if kind == "TIFF" else {}))

    assert np.array_equal(ink, decode_ink(data.getvalue()))


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (7, 13)])
def test_small_ink_survives_storing(shape: tuple[int, int]) -> None:
    """Sheets whose width is no multiple of eight would come back shifted."""
    ink = np.random.default_rng(4).integers(0, 2, shape, dtype=np.uint8) * np.uint8(255)

    assert np.array_equal(ink, decode_ink(encode_ink(ink)))


STORED = encode_ink(np.full((1400, 2000), 255, np.uint8))
DAMAGED = {
    "nothing": b"",
    "no picture": b"not a png",
    "half a header": STORED[:6],
    "no end": STORED[:-1],
    "another sum": STORED[:-1] + bytes([STORED[-1] ^ 1]),
    "narrower": STORED[:4] + b"\1\0" + STORED[6:],
    "higher": STORED[:6] + b"\xd0\7" + STORED[8:],
    "too large": STORED[:4] + b"\xff\xff\xff\xff" + zlib.compress(bytes(8192 * 65535), 1),
    "without pixels": STORED[:4] + bytes(4) + zlib.compress(b""),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_ink_is_named(data: bytes) -> None:
    """A damaged index would show as a crash inside a library, or take all memory."""
    with pytest.raises(ValueError, match="index the drawing again"):
        decode_ink(data)


def lattice() -> np.ndarray:
    """Thick bars on a mostly empty sheet, close together: between them paper is the lesser part."""
    page = np.full((1400, 1000), 255, np.uint8)
    for place in range(330, 660, 40):
        cv2.line(page, (place, 200), (place + 60, 520), 80, 22, cv2.LINE_AA)
    for place in range(230, 520, 70):
        cv2.line(page, (330, place), (700, place + 30), 80, 22, cv2.LINE_AA)
    return page


@pytest.mark.parametrize("name", ["scanned", "blueprint", "scanned, inverted", "scanned on a desk"])
def test_thick_bars_close_together_are_ink(name: str) -> None:
    """If this fails, the paper of such a picture is taken for its ink, and nothing is found with it."""
    page = lattice()
    made = apply_transform(name.split(",", maxsplit=1)[0].split(" ", maxsplit=1)[0], page, 5)
    if "inverted" in name:
        made = 255 - made
    if "desk" in name:
        made = cv2.copyMakeBorder(made, 90, 90, 90, 90, cv2.BORDER_CONSTANT, value=(40,))
        made = made + np.random.default_rng(1).integers(0, 8, made.shape, np.uint8)
    inner = clean(made)[110:-110, 110:-110]

    assert np.count_nonzero(inner) == pytest.approx(np.count_nonzero(page < 128), rel=0.25)
