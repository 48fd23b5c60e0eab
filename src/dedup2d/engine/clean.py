"""
From a grey raster of any origin to one clean ink picture.

An ink picture is uint8 (H, W), 255 where there is ink and 0 elsewhere, long side at most
`INK_SIDE`, in the raster's own position: nothing is turned or cropped, so that a box found on
the ink is a box on the raster (times `ink size / raster size` where the raster was larger).
"""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt

from dedup2d.engine.surround import without_surround

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

_INK_MAGIC = b"d2ik"
_INK_HEADER = struct.Struct("<4sHH")  # with width and height
_INK_LEVEL = 6

_RINGING = 0.125  # of the darkness of ink: what JPEG compression leaves on the paper within 8 pixels of it
_RINGS_FROM = (
    0.02  # of the paper beside ink that is not plain: renders have 0.002 at most, JPEG of any quality 0.04
)
_NEXT_TO = np.ones((3, 3), np.uint8)
_GRAIN = 1.5  # standard deviation of the paper, in grey levels, from which it is noisy
_FAINT, _CLEAR = 2.7, 4.5  # times the noise: least drop of ink on noisy paper
_PALEST, _PALE = 7.0, 12.0  # least darkness of faint and of clear ink there
_OF_DARKEST = 0.35  # share of the darkest near that ink there has
_COARSE = 4  # the paper of a noisy picture is measured on one this much smaller
_TINT = 45  # darkness against what is beside it, 0..255, up to which an area may be paper
_NEIGHBOURHOODS = (0.12, 0.4)
"""Shares of the longer side: the lesser tells ink from shade, the larger thick bars from their gaps."""
_MUCH_INK = 0.3  # of the sheet
_RIM = 8  # pixels
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
    grey = _dark_on_light(without_surround(_bounded(np.asarray(raster, np.uint8))))
    return _noisy_ink(grey) if _noise(grey) > _GRAIN else _even_ink(_flattened(grey))


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
        return 255 - grey if _is_dark_paper(grey, counts) else grey
    # ink is the lesser part of its neighbourhood: against the mean it sticks out farther than paper does
    size = (max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2))
    half = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    lean = sum(_skewness(half - cv2.blur(half, _window(share, half))) for share in _NEIGHBOURHOODS)
    return 255 - grey if lean > 0 else grey


def _is_dark_paper(grey: Picture, counts: npt.NDArray[np.int64]) -> bool:
    """Whether even paper is dark, as most is; the rim tells where as much is ink, as on circuit boards."""
    dark = int(counts[:128].sum())
    if min(dark, grey.size - dark) < _MUCH_INK * grey.size:
        return bool(counts.argmax() < 128)
    rim = [grey[:_RIM], grey[-_RIM:], grey[:, :_RIM], grey[:, -_RIM:]]
    return bool(np.median(np.concatenate([part.ravel() for part in rim])) < 128)


def _window(share: float, picture: npt.NDArray[np.float32]) -> tuple[int, int]:
    side = max(41, round(share * max(picture.shape))) | 1
    return side, side


def _skewness(values: npt.NDArray[np.float32]) -> float:
    squares = values * values
    spread = max(float(squares.mean()), 1e-6) ** 1.5
    return float((squares * values).mean()) / float(spread)


def _counts(grey: Picture) -> npt.NDArray[np.int64]:
    """How many pixels have each of the 256 shades."""
    return cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def _is_even(counts: npt.NDArray[np.int64], pixels: int) -> bool:
    """Even paper: a render, or a one-bit scan; also where as much is ink."""
    return bool(counts.max() > 0.5 * pixels or np.partition(counts, -2)[-2:].sum() > 0.8 * pixels)


def _flattened(grey: Picture) -> Picture:
    """Darkness 0..255 of each pixel against the paper around it, where the paper is smooth."""
    counts = _counts(grey)
    if _is_even(counts, grey.size):
        paper = 128 + int(counts[128:].argmax())  # though more of it may be ink
        return np.asarray(cv2.subtract(np.full_like(grey, paper), grey), np.uint8)
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


def _even_ink(darkness: Picture) -> Picture:
    """Ink on smooth paper, by hysteresis: faint ink counts where some of it is clear; specks do not."""
    faint, clear = _faint_and_clear(darkness)
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


def _faint_and_clear(darkness: Picture) -> tuple[Picture, Picture]:
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
    return cv2.countNonZero(pale) > _RINGS_FROM * cv2.countNonZero(beside)


def _noisy_ink(grey: Picture) -> Picture:
    """Ink on noisy paper of any shade, by hysteresis."""
    smooth = np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0), np.uint8)
    noise = _noise(smooth)
    paper = _paper(smooth, noise)
    drop = np.asarray(cv2.subtract(paper, smooth), np.uint8)
    darkness = np.asarray(cv2.divide(drop, paper, scale=255.0), np.uint8)
    over = np.asarray(cv2.subtract(darkness, _near_contrast(darkness)), np.uint8)
    faint = cv2.bitwise_and(_above(over, 0), _above(drop, _FAINT * noise))
    clear = cv2.bitwise_and(_above(darkness, _PALE), _above(drop, _CLEAR * noise))
    return _connected(np.asarray(faint, np.uint8), np.asarray(clear, np.uint8), least=24)


def _paper(smooth: Picture, noise: float) -> Picture:
    """Shade of the paper by place: measured where there is no ink, and carried on to where there is."""
    height, width = smooth.shape
    size = (max(1, width // _COARSE), max(1, height // _COARSE))
    small = np.asarray(cv2.resize(smooth, size, interpolation=cv2.INTER_AREA), np.uint8)
    plain = _plain(small, noise)
    shade = _carried_on(small, plain)
    return np.asarray(cv2.resize(shade, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _plain(small: Picture, noise: float) -> Picture:
    """255 where there is nothing but paper: no edge near, and not in an area that is dark up to its edges."""
    lightest = cv2.dilate(small, _NEXT_TO)
    spread = np.asarray(cv2.subtract(lightest, cv2.erode(small, _NEXT_TO)), np.uint8)
    rough = _above(spread, max(6.0, 3 * noise))
    count, labels = cv2.connectedComponents(255 - rough, connectivity=4, ltype=cv2.CV_32S)
    rim = np.flatnonzero((cv2.dilate(rough, _NEXT_TO) > 0) & (rough == 0))
    beside = cv2.dilate(small, np.ones((21, 21), np.uint8))
    darker = cv2.divide(cv2.subtract(beside, small), beside, scale=255.0).ravel()[rim]
    label = labels.ravel()[rim]
    around = np.bincount(label, minlength=count)
    dark = np.bincount(label[darker > _TINT], minlength=count)
    paper = 2 * dark <= around
    paper[0] = False
    return np.asarray(np.where(paper[labels], 255, 0), np.uint8)


def _carried_on(small: Picture, plain: Picture) -> Picture:
    """Mean of the plain parts of `small` around each pixel, as near as there are enough of them."""
    weight = (plain > 0).astype(np.float32)
    if not weight.any():
        return np.full_like(small, int(small.max()))
    value = small.astype(np.float32) * weight
    shade = np.full(small.shape, value.sum() / weight.sum(), np.float32)
    side = 2 * max(small.shape) + 1
    for reach in (257, 65, 17, 9):
        if reach > side:
            continue
        share = cv2.blur(weight, (reach, reach), borderType=cv2.BORDER_CONSTANT)
        mean = cv2.blur(value, (reach, reach), borderType=cv2.BORDER_CONSTANT) / np.maximum(share, 1e-6)
        near = np.minimum(share * 8, 1.0)
        shade += near * (mean - shade)
    return np.asarray(np.round(shade), np.uint8)


def _near_contrast(darkness: Picture) -> Picture:
    """Least darkness of ink by place: a share of the darkest nearby, so that blur does not fill gaps."""
    height, width = darkness.shape
    size = (max(1, width // 4), max(1, height // 4))
    small = cv2.resize(darkness, size, interpolation=cv2.INTER_AREA)
    darkest = cv2.blur(cv2.dilate(small, np.ones((5, 5), np.uint8)), (5, 5))
    floor = np.clip(_OF_DARKEST * darkest.astype(np.float32), _PALEST, 160.0).astype(np.uint8)
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
    """
    `ink` in some kB: after a header, its bits as zlib packs them.

    Eight pixels of a row are a byte, and the bytes of a column lie together: so packed, drawings take less
    than in the coding of fax machines (ITU-T T.6), and a third of the time.
    """
    height, width = ink.shape
    columns = np.ascontiguousarray(np.packbits(ink, axis=1).T)
    return _INK_HEADER.pack(_INK_MAGIC, width, height) + zlib.compress(columns.data, _INK_LEVEL)


def decode_ink(data: bytes) -> Picture:
    """
    The ink picture that `encode_ink` stored, or an earlier version as PNG or TIFF.

    Raises:
        ValueError: the bytes are not such a picture.
    """
    if data.startswith(_INK_MAGIC):
        return _unpacked(data)
    paper = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if paper is None:
        raise _damaged()
    return np.asarray(cv2.threshold(paper, 127, 255, cv2.THRESH_BINARY_INV)[1], np.uint8)


def _unpacked(data: bytes) -> Picture:
    try:
        _, width, height = _INK_HEADER.unpack_from(data)
        size = -(-width // 8) * height
        if not size or max(width, height) > INK_SIDE:
            raise _damaged()
        stream = zlib.decompressobj()
        packed = stream.decompress(data[_INK_HEADER.size :], size + 1)
    except (struct.error, zlib.error):
        raise _damaged() from None
    if len(packed) != size or not stream.eof:  # at whose end stands its sum
        raise _damaged()
    columns = np.frombuffer(packed, np.uint8).reshape(-1, height)
    bits = np.unpackbits(np.ascontiguousarray(columns.T), axis=1, count=width)
    return np.negative(bits, out=bits)  # 255 for 1


def _damaged() -> ValueError:
    return ValueError("the stored ink picture is damaged: index the drawing again")


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
