"""
From a grey raster of any origin to one clean ink picture.

An ink picture is uint8 (H, W), 255 where there is ink and 0 elsewhere, long side at most
`INK_SIDE`, in the raster's own position: nothing is turned or cropped, so that a box found on
the ink is a box on the raster (times `ink size / raster size` where the raster was larger).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["INK_SIDE", "Picture", "clean", "decode_ink", "encode_ink", "ink_box"]

Picture = npt.NDArray[np.uint8]

INK_SIDE = 2000
"""Longest side of an ink picture, in pixels."""

_RINGING = 0.125  # of the darkness of ink: what JPEG compression leaves on the paper within 8 pixels of it
_SMALL = 8  # the background is estimated on a picture this much smaller


def clean(raster: npt.NDArray[np.generic]) -> Picture:
    """
    Clean ink picture of a grey `raster` (uint8, (H, W), any polarity and background).

    Time grows with the pixels: about 60 ms for 2000 x 1400 on one core.

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
    counts = np.bincount(grey.ravel(), minlength=256)
    if _is_even(counts, grey.size):
        return 255 - grey if counts.argmax() < 128 else grey
    # ink is the lesser part of any neighbourhood: against its mean it sticks out farther than paper does
    size = (max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2))
    half = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    above = half - cv2.blur(half, (41, 41))
    return 255 - grey if float((above**3).mean()) > 0 else grey


def _is_even(counts: npt.NDArray[np.intp], pixels: int) -> bool:
    """Even paper: a render, or a one-bit scan."""
    return bool(counts.max() > 0.5 * pixels)


def _flattened(grey: Picture) -> Picture:
    """Darkness 0..255 of each pixel against the paper around it."""
    counts = np.bincount(grey.ravel(), minlength=256)
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
    apart = np.abs(darkness[::2, 3::3].astype(np.int16) - darkness[::2, :-3:3])
    middle = float(np.median(apart)) if apart.size else 0.0
    if middle == 0:
        return 0.0
    return float(apart[apart <= 3 * middle + 1].mean()) / 1.08


def _without_specks(darkness: Picture) -> Picture:
    """Hysteresis: connected faint ink counts where some of it is clear; specks do not."""
    noisy = _noise(darkness) > 1.5
    faint, clear = _noisy_ink(darkness) if noisy else _even_ink(darkness)
    candidates = np.where(faint, 255, 0).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(candidates, connectivity=8, ltype=cv2.CV_32S)
    seeds = np.bincount(labels[clear], minlength=count) > 0
    keep = seeds & (stats[:, cv2.CC_STAT_AREA] >= (24 if noisy else 2))
    keep[0] = False
    if keep[1:].all():
        return candidates
    table = np.where(keep, 255, 0).astype(np.uint8)
    return np.asarray(table[labels], np.uint8)


Mask = npt.NDArray[np.bool_]


def _even_ink(darkness: Picture) -> tuple[Mask, Mask]:
    """Faint and clear ink on even paper: thin lines may be pale, areas may not (a tint is no ink)."""
    line = cv2.morphologyEx(darkness, cv2.MORPH_TOPHAT, np.ones((9, 9), np.uint8))
    dark = darkness > 64
    if not _rings(darkness, dark):
        return (line > 16) | dark, (line > 28) | dark
    rings = cv2.dilate(darkness, np.ones((17, 17), np.uint8)) * np.float32(_RINGING)
    return (line > np.maximum(rings, 16)) | dark, (line > np.maximum(rings, 28)) | dark


def _rings(darkness: Picture, dark: Mask) -> bool:
    """Whether the paper beside dark ink is hardly ever plain, as after strong JPEG compression."""
    ink = np.where(dark, 255, 0).astype(np.uint8)
    beside = (cv2.dilate(ink, np.ones((15, 15), np.uint8)) > 0) & (
        cv2.dilate(ink, np.ones((5, 5), np.uint8)) == 0
    )
    off = darkness[beside]
    return bool(off.size and np.count_nonzero((off > 0) & (off < 16)) > 0.08 * off.size)


def _noisy_ink(darkness: Picture) -> tuple[Mask, Mask]:
    """Faint and clear ink on noisy paper."""
    smooth = np.asarray(cv2.GaussianBlur(darkness, (0, 0), 1.0), np.uint8)
    noise = _noise(smooth)
    faint, clear = max(10.0, 4.5 * noise), max(16.0, 7 * noise)
    smooth = np.asarray(cv2.subtract(smooth, _shade_left(smooth, faint)), np.uint8)
    return smooth > _near_contrast(smooth, faint), smooth > min(clear, 200.0)


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
    columns = np.flatnonzero(ink.any(axis=0))
    if columns.size == 0:
        return 0, 0, 0, 0
    rows = np.flatnonzero(ink.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def encode_ink(ink: Picture) -> bytes:
    """`ink` as a one-bit PNG (paper white), typically a few 10 kB."""
    options = [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 6]
    done, data = cv2.imencode(".png", 255 - ink, options)
    if not done:
        raise ValueError(f"the ink picture {ink.shape} cannot be stored as PNG")
    return bytes(data)


def decode_ink(png: bytes) -> Picture:
    """
    The ink picture that `encode_ink` stored.

    Raises:
        ValueError: the bytes are not such a picture.
    """
    paper = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE) if png else None
    if paper is None:
        raise ValueError("the stored ink picture is damaged: index the drawing again")
    return np.asarray(np.where(paper < 128, 255, 0), np.uint8)
