"""
From a grey raster of any origin to one clean ink picture.

An ink picture is uint8 (H, W), 255 where there is ink and 0 elsewhere, long side at most
`INK_SIDE`, in the raster's own position: nothing is turned or cropped, so that a box found on
the ink is a box on the raster (times `ink size / raster size` where the raster was larger).
"""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = [
    "INK_SIDE",
    "Picture",
    "clean",
    "decode_ink",
    "encode_ink",
    "halved",
    "ink_as_png",
    "ink_box",
]

Picture = npt.NDArray[np.uint8]

INK_SIDE = 2000
"""Longest side of an ink picture, in pixels."""

_RINGING = 0.125  # of the darkness of ink: what JPEG compression leaves on the paper within 8 pixels of it
_NEXT_TO = np.ones((3, 3), np.uint8)
_SMALL = 8  # the background is estimated on a picture this much smaller


def clean(raster: npt.NDArray[np.generic]) -> Picture:
    """
    Clean ink picture of a grey `raster` (uint8, (H, W), any polarity and background).

    Time grows with the pixels: about 20 ms for 2000 x 1400 on one core.

    Raises:
        ValueError: the raster is not a two-dimensional uint8 array with pixels in it.
    """
    if raster.ndim != 2 or raster.dtype != np.uint8 or raster.size == 0:
        raise ValueError(f"a raster is uint8 (H, W) with pixels in it, not {raster.dtype} {raster.shape}")
    grey = _dark_on_light(_bounded(np.asarray(raster, np.uint8)))
    return _without_specks(_flattened(grey))


def _bounded(grey: Picture) -> Picture:
    longest = max(grey.shape)
    if longest <= INK_SIDE:
        return grey
    size = tuple(max(1, round(side * INK_SIDE / longest)) for side in grey.shape[::-1])
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _dark_on_light(grey: Picture) -> Picture:
    """Light ink on dark ground comes out inverted."""
    counts = _counts(grey)
    if _is_even(counts, grey.size):
        return 255 - grey if counts.argmax() < 128 else grey
    # ink is the lesser part of any neighbourhood: against its mean it sticks out farther than paper does
    size = (max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2))
    half = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    above = half - cv2.blur(half, (41, 41))
    return 255 - grey if float((above * above * above).mean()) > 0 else grey


def _counts(grey: Picture) -> npt.NDArray[np.int64]:
    """How many pixels have each of the 256 shades."""
    return cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def _is_even(counts: npt.NDArray[np.int64], pixels: int) -> bool:
    """Even paper: a render, or a one-bit scan."""
    return bool(counts.max() > 0.5 * pixels)


def _flattened(grey: Picture) -> Picture:
    """Darkness 0..255 of each pixel against the paper around it."""
    counts = _counts(grey)
    if _is_even(counts, grey.size):
        paper = int(counts.argmax())
        return np.asarray(cv2.subtract(np.full_like(grey, paper), grey), np.uint8) if paper else grey
    height, width = grey.shape
    small_size = (max(1, width // _SMALL), max(1, height // _SMALL))
    small = cv2.resize(grey, small_size, interpolation=cv2.INTER_AREA)
    reach = max(3, max(small.shape) // 12) | 1
    closed = cv2.morphologyEx(small, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    # a filled area larger than the closing must not become paper
    closed = np.maximum(closed, np.uint8(0.6 * np.median(small)))
    paper_map = cv2.resize(cv2.blur(closed, (reach, reach)), (width, height), interpolation=cv2.INTER_LINEAR)
    ratio = cv2.divide(grey, paper_map, scale=255.0)
    return np.asarray(255 - ratio, np.uint8)


def _noise(darkness: Picture) -> float:
    """Standard deviation of the paper, in grey levels."""
    right, left = np.ascontiguousarray(darkness[::2, 3::3]), np.ascontiguousarray(darkness[::2, :-3:3])
    if not right.size:
        return 0.0
    counts = _counts(np.asarray(cv2.absdiff(right, left), np.uint8))
    middle = int(np.searchsorted(np.cumsum(counts), right.size / 2))
    if middle == 0:
        return 0.0
    counts = counts[: 3 * middle + 2]
    return float(counts @ np.arange(len(counts)) / counts.sum()) / 1.08


def _without_specks(darkness: Picture) -> Picture:
    """Hysteresis: connected faint ink counts where some of it is clear; specks do not."""
    if _noise(darkness) > 1.5:
        return _connected(*_noisy_ink(darkness), least=24)
    faint, clear = _even_ink(darkness)
    if cv2.countNonZero(cv2.subtract(faint, cv2.dilate(clear, _NEXT_TO))):
        return _connected(faint, clear, least=2)
    # all of it is clear or beside what is: only single pixels go
    others = _NEXT_TO.copy()
    others[1, 1] = 0
    return np.asarray(cv2.bitwise_and(faint, cv2.dilate(faint, others)), np.uint8)


def _connected(faint: Picture, clear: Picture, *, least: int) -> Picture:
    """The connected parts of `faint` with some of `clear` in them and at least `least` pixels."""
    count, labels = cv2.connectedComponents(faint, connectivity=8, ltype=cv2.CV_32S)
    spots = np.flatnonzero(faint)
    label = labels.ravel()[spots]
    seeded = np.bincount(label[clear.ravel()[spots] > 0], minlength=count) > 0
    keep = seeded & (np.bincount(label, minlength=count) >= least)
    kept = np.zeros_like(faint)
    kept.ravel()[spots[keep[label]]] = 255
    return kept


def _even_ink(darkness: Picture) -> tuple[Picture, Picture]:
    """Faint and clear ink on even paper: thin lines may be pale, areas may not (a tint is no ink)."""
    line = np.asarray(cv2.morphologyEx(darkness, cv2.MORPH_TOPHAT, np.ones((9, 9), np.uint8)), np.uint8)
    dark = _above(darkness, 64)
    if _rings(darkness, dark):
        rings = cv2.dilate(darkness, np.ones((17, 17), np.uint8)) * np.float32(_RINGING)
        # what does not stand out from the ringing stands out from nothing
        line = np.asarray(np.where(line > rings, line, 0), np.uint8)
    return _either(_above(line, 16), dark), _either(_above(line, 28), dark)


def _above(picture: Picture, least: float) -> Picture:
    """255 where `picture` is more than `least`, else 0."""
    return np.asarray(cv2.threshold(picture, least, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _either(first: Picture, second: Picture) -> Picture:
    return np.asarray(cv2.bitwise_or(first, second), np.uint8)


def _rings(darkness: Picture, dark: Picture) -> bool:
    """Whether the paper beside dark ink is hardly ever plain, as after strong JPEG compression."""
    around, close = (cv2.dilate(dark, np.ones((side, side), np.uint8)) for side in (15, 5))
    beside = cv2.subtract(around, close)
    pale = cv2.bitwise_and(beside, cv2.inRange(darkness, 1, 15))
    return cv2.countNonZero(pale) > 0.08 * cv2.countNonZero(beside)


def _noisy_ink(darkness: Picture) -> tuple[Picture, Picture]:
    """Faint and clear ink on noisy paper."""
    smooth = np.asarray(cv2.GaussianBlur(darkness, (0, 0), 1.0), np.uint8)
    noise = _noise(smooth)
    faint, clear = max(10.0, 4.5 * noise), max(16.0, 7 * noise)
    smooth = np.asarray(cv2.subtract(smooth, _shade_left(smooth, faint)), np.uint8)
    over = cv2.subtract(smooth, _near_contrast(smooth, faint))
    return _above(np.asarray(over, np.uint8), 0), _above(smooth, min(clear, 200.0))


def _shade_left(darkness: Picture, most: float) -> Picture:
    """How dark the paper itself still is where there is nothing else, `most` at most."""
    height, width = darkness.shape
    size = (max(1, width // 4), max(1, height // 4))
    small = cv2.resize(darkness, size, interpolation=cv2.INTER_AREA)
    around = np.ones((9, 9), np.uint8)
    lightest, darkest = cv2.erode(small, around), cv2.dilate(small, around)
    paper = np.where(cv2.subtract(darkest, lightest) < most, np.minimum(small, most), 0).astype(np.uint8)
    return np.asarray(cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _near_contrast(darkness: Picture, faint: float) -> Picture:
    """Least darkness of ink by place: a share of the darkest nearby, so that blur does not fill gaps."""
    height, width = darkness.shape
    size = (max(1, width // 4), max(1, height // 4))
    small = cv2.resize(darkness, size, interpolation=cv2.INTER_AREA)
    darkest = cv2.blur(cv2.dilate(small, np.ones((5, 5), np.uint8)), (5, 5))
    floor = np.clip(0.4 * darkest.astype(np.float32), min(faint, 160.0), 160.0).astype(np.uint8)
    return np.asarray(cv2.resize(floor, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def ink_box(ink: Picture) -> tuple[int, int, int, int]:
    """Smallest (x, y, width, height) around the ink; all zero where there is none."""
    x, y, width, height = cv2.boundingRect(ink) if ink.size else (0, 0, 0, 0)
    return int(x), int(y), int(width), int(height)


def halved(ink: Picture, least: int) -> tuple[Picture, float]:
    """
    `ink` as a grey picture halved as long as its long side stays at least `least`, and its scale.

    Far faster than reducing it in one step by any other factor.
    """
    scale = 1.0
    while max(ink.shape) >= 2 * least and min(ink.shape) >= 2:
        height, width = (side // 2 for side in ink.shape)
        even = ink[: 2 * height, : 2 * width]
        ink = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        scale /= 2
    return ink, scale


def encode_ink(ink: Picture) -> bytes:
    """`ink` as a one-bit TIFF, paper white, in the coding of fax machines (Group 4): a few kB."""
    picture = Image.frombytes("1", ink.shape[::-1], np.packbits(ink == 0, axis=1).tobytes())
    data = BytesIO()
    picture.save(data, "TIFF", compression="group4")
    return data.getvalue()


def decode_ink(data: bytes) -> Picture:
    """
    The ink picture that `encode_ink` stored.

    Raises:
        ValueError: the bytes are not such a picture.
    """
    paper = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if paper is None:
        raise ValueError("the stored ink picture is damaged: index the drawing again")
    return np.asarray(cv2.threshold(paper, 127, 255, cv2.THRESH_BINARY_INV)[1], np.uint8)


def ink_as_png(data: bytes) -> bytes:
    """
    What `encode_ink` stored as a one-bit PNG, which programs and browsers can show.

    Raises:
        ValueError: the bytes are not such a picture.
    """
    done, png = cv2.imencode(".png", 255 - decode_ink(data), [cv2.IMWRITE_PNG_BILEVEL, 1])
    if not done:
        raise ValueError("the stored ink picture cannot be shown: index the drawing again")
    return bytes(png)
