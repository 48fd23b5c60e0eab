"""
L1: a 256-bit perceptual hash of where the ink is, comparable in 8 poses without the picture.

After the DCT hash of Zauner, "Implementation and benchmarking of perceptual image hash
functions" (2010), but of an ink-density map cropped to its ink, and thresholded at zero:
then turning by 90 degrees transposes the coefficients and mirroring changes the sign of every second
one, so that the hash of any pose follows from the bits alone.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from dedup2d.engine.clean import Picture, halved, ink_box

__all__ = ["HASH_BYTES", "POSES", "hashed", "pose_hashes"]

HASH_BYTES = 32
POSES: tuple[tuple[bool, int], ...] = tuple(
    (mirrored, turns) for mirrored in (False, True) for turns in range(4)
)
"""(mirrored, quarter turns counter-clockwise), in this order, of each row of `pose_hashes`."""

_SIDE = 64
_REDUCED = 500  # least long side that a sheet is reduced to
_LEAST_SIDE = 8  # pixels of ink that say anything
_SOME = 20  # a thin line's shade after that


@cache
def _chosen() -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The 256 lowest order pairs (u, v) but (0, 0): closed under swapping u and v up to its rim."""
    pairs = [(u + v, abs(u - v), u, v) for u in range(23) for v in range(23) if u + v > 0]
    lowest = sorted(pairs)[:254]
    rim = [(u, v) for _, _, u, v in lowest]
    missing = [(v, u) for u, v in rim if (v, u) not in rim]
    rim += missing
    extra = [(u, v) for _, _, u, v in sorted(pairs)[254:] if u == v]
    rim = (rim + extra)[:256]
    return np.array([u for u, _ in rim]), np.array([v for _, v in rim])


def _density(crop: Picture) -> npt.NDArray[np.float32]:
    """Share of ink (64, 64); thin and thick lines weigh nearly alike."""
    reach = max(1, round(max(crop.shape) / 300))
    wide = cv2.dilate(crop, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    small = cv2.resize(wide, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.sqrt(small)


def _reduced(ink: Picture, box: tuple[int, int, int, int]) -> Picture:
    """The part with ink, which lies within `box`, small, 255 wherever there is some."""
    x, y, width, height = box
    small, _ = halved(ink[y : y + height, x : x + width], _REDUCED)
    return np.asarray(cv2.threshold(small, _SOME, 255, cv2.THRESH_BINARY)[1], np.uint8)


def hashed(ink: Picture, least: float = 0.0) -> tuple[bytes, float]:
    """
    Return the hash (32 bytes) of an ink picture, and how much it can say.

    That is 0 (blank, a line, an empty frame) to 1: the share of a 32 x 32 grid's inner cells with ink,
    saturating at one in sixteen. The hash is all zero where there is no ink, or it says less than *least*.
    """
    box = ink_box(ink)
    if not any(box):
        return bytes(HASH_BYTES), 0.0
    reduced = _reduced(ink, box)
    telling = _information(reduced) if min(box[2:]) >= _LEAST_SIDE else 0.0
    if telling < least:
        return bytes(HASH_BYTES), telling
    u, v = _chosen()
    return np.packbits(cv2.dct(_density(reduced))[u, v] > 0).tobytes(), telling


def _information(reduced: Picture) -> float:
    small = cv2.resize(reduced, (32, 32), interpolation=cv2.INTER_AREA)[3:-3, 3:-3]
    return float(min(1.0, np.count_nonzero(small) / 64))


@cache
def _pose_moves() -> tuple[tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]], ...]:
    """For each pose: which bit each bit comes from, and whether it is negated."""
    u, v = _chosen()
    place = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(u, v, strict=True))}
    moves = []
    for mirrored, turns in POSES:
        source = np.empty(256, np.intp)
        negate = np.empty(256, np.bool_)
        for i, (a, b) in enumerate(zip(u.tolist(), v.tolist(), strict=True)):
            row, column, odd = a, b, 0
            for _ in range(turns):  # turned(y, x) = picture(x, W-1-y)
                odd += row
                row, column = column, row
            odd += column if mirrored else 0
            source[i] = place.get((row, column), i)
            negate[i] = odd % 2 == 1
        moves.append((source, negate))
    return tuple(moves)


def pose_hashes(code: bytes) -> npt.NDArray[np.uint8]:
    """The hashes (8, 32) of the picture behind `code` in the poses of `POSES`."""
    bits = np.unpackbits(np.frombuffer(code, np.uint8)).astype(np.bool_)
    return np.stack([np.packbits(bits[source] ^ negate) for source, negate in _pose_moves()])
