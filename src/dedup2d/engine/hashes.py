"""Compares the hashes of a query with those of all drawings, of whole sheets and of their parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dedup2d.engine.fingerprint import Fingerprint
from dedup2d.engine.phash import pose_hashes
from dedup2d.engine.segments import Segment

__all__ = ["Scores", "hash_scores"]

_FARTHEST = 96  # bits of 256; two unrelated hashes lie 128 +- 8 apart, two of one template nearer
_FARTHEST_PART = 64
_FIRST_WORD = (
    22  # of its 64 bits, the longest waves, which differ least: what differs more is not looked at further
)
_PART_SAYS = 0.6  # a part alone is less than a sheet
_QUERY_PARTS = 3  # all views together and the largest

Scores = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]
Words = npt.NDArray[np.uint64]


def hash_scores(segments: Sequence[Segment], query: Fingerprint) -> tuple[Scores, Numbers]:
    """
    L1 score and pose of each slot: the better of sheet on sheet and of what a part has to do with.

    A part that many drawings have, such as a logo, says little.
    """
    found = [_sheet_scores(one, query) for one in segments]
    score, pose = np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])
    drawings = sum(one.living for one in segments)
    for number, code in enumerate((query.hash, *query.parts[:_QUERY_PARTS])):
        if number == 0 and not query.information:
            continue
        nearest, turned = _near_parts(segments, code, whole=number == 0)
        near = np.flatnonzero(nearest < _FARTHEST_PART)
        rarity = np.log((drawings + 1) / max(len(near), 1)) / np.log(drawings + 1)
        weighed = (1 - nearest[near] / _FARTHEST_PART) * (_PART_SAYS * rarity)
        better = weighed > score[near]
        score[near[better]], pose[near[better]] = weighed[better], turned[near[better]]
    return score.astype(np.float32), pose


def _sheet_scores(segment: Segment, query: Fingerprint) -> tuple[Scores, Numbers]:
    nearest = np.full(len(segment), 256, np.uint16)
    best = np.zeros(len(segment), np.intp)
    for number, pose in enumerate(pose_hashes(query.hash).view("<u8")):
        distance = np.bitwise_count(segment.arrays["hash"] ^ pose).sum(axis=1, dtype=np.uint16)
        nearer = distance < nearest
        nearest[nearer], best[nearer] = distance[nearer], number
    says = np.minimum(segment.arrays["says"], np.float32(query.information)) * segment.alive
    return (np.clip(1 - nearest / np.float32(_FARTHEST), 0, 1) * says).astype(np.float32), best


def _near_parts(segments: Sequence[Segment], code: bytes, *, whole: bool) -> tuple[Numbers, Numbers]:
    """How far each slot's parts are from a hash, and its sheet unless that is *whole* too; and the pose."""
    nearest = np.full(sum(map(len, segments)), 256, np.intp)
    turned = np.zeros(len(nearest), np.intp)
    base = 0
    for one in segments:
        for number, pose in enumerate(pose_hashes(code).view("<u8")):
            slot, distance = _near(one.arrays["part"], one.arrays["part_of"], pose)
            if not whole:
                sheets, away = _near(one.arrays["hash"], None, pose)
                telling = one.arrays["says"][sheets] > 0
                slot, distance = (
                    np.concatenate([slot, sheets[telling]]),
                    np.concatenate([distance, away[telling]]),
                )
            slot, distance = slot[one.alive[slot]] + base, distance[one.alive[slot]]
            nearer = distance < nearest[slot]
            turned[slot[nearer]] = number
            np.minimum.at(nearest, slot, distance)
        base += len(one)
    return nearest, turned


def _near(hashes: Words, owner: npt.NDArray[np.uint32] | None, pose: Words) -> tuple[Numbers, Numbers]:
    """The owners of near hashes, and how far these are."""
    close = np.flatnonzero(np.bitwise_count(hashes[:, 0] ^ pose[0]) <= _FIRST_WORD)
    distance = np.bitwise_count(hashes[close] ^ pose).sum(axis=1, dtype=np.intp)
    near = distance < _FARTHEST_PART
    close, distance = close[near], distance[near]
    return (close if owner is None else owner[close].astype(np.intp)), distance
