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
    darkness = _flattened(grey)
    return _without_specks(darkness, _noise(darkness))


def _bounded(grey: Picture) -> Picture:
    longest = max(grey.shape)
    if longest <= INK_SIDE:
        return grey
    size = tuple(max(1, round(side * INK_SIDE / longest)) for side in grey.shape[::-1])
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _dark_on_light(grey: Picture) -> Picture:
    """The side of the background with more weight is ink: a blueprint comes out inverted."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(np.float64)
    background = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    away = np.arange(256) - background
    # the paper of a scan wavers by some grey levels; that is neither ink
    weight = counts * np.where(np.abs(away) > 24, np.abs(away), 0)
    return 255 - grey if weight[away > 0].sum() > weight[away < 0].sum() else grey


def _flattened(grey: Picture) -> Picture:
    """Darkness 0..255 of each pixel against the paper around it."""
    counts = np.bincount(grey.ravel(), minlength=256)
    if counts.max() > 0.5 * grey.size:  # even paper: a render, or a one-bit scan
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
    """Standard deviation of what is neither ink nor even paper, in grey levels."""
    step = max(1, max(darkness.shape) // 1000)
    tile = darkness[::step, ::step].astype(np.int16)
    across = np.abs(np.diff(tile, axis=1))
    return float(np.median(across)) / 0.954  # median |a - b| of two normal values is 0.954 sigma


def _without_specks(darkness: Picture, noise: float) -> Picture:
    """Hysteresis: connected faint ink counts where some of it is clear; specks do not."""
    faint = max(40.0, 5.0 * noise)
    clear = max(64.0, 8.0 * noise)
    if noise > 1.0:
        darkness = np.asarray(cv2.GaussianBlur(darkness, (3, 3), 0), np.uint8)
    candidates = np.where(darkness > min(faint, 200.0), 255, 0).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(candidates, connectivity=8, ltype=cv2.CV_32S)
    seeds = np.bincount(labels[darkness > min(clear, 220.0)], minlength=count) > 0
    least = 12 if noise > 1.0 else 2
    keep = seeds & (stats[:, cv2.CC_STAT_AREA] >= least)
    keep[0] = False
    if keep[1:].all():
        return candidates
    table = np.where(keep, 255, 0).astype(np.uint8)
    return np.asarray(table[labels], np.uint8)


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
