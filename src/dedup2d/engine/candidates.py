"""
Finds the drawings worth a closer look, in memory, for one tenant's index.

L1 compares the query's hash in 8 poses with every drawing's. L2 looks up each feature of the query, and
its mirror image, in tables keyed by parts of the code (locality-sensitive hashing: Indyk and
Motwani, 1998), weighs what it finds by how rare it is in this index, and counts what agrees on one
turn, scale and place (Jegou et al., "Hamming embedding and weak geometric consistency", 2008).

Memory: about 11 kB a drawing with 300 features (1.1 GB at 100,000). Time of a query: the hashes
grow with the drawings (about 20 ms at 100,000), the look-ups with the entries under the
query's keys, of which at most `_MOST_ENTRIES` per key are read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.features import Features, mirrored_codes
from dedup2d.engine.fingerprint import Fingerprint
from dedup2d.engine.phash import POSES, pose_hashes
from dedup2d.engine.postings import Hits, Postings

__all__ = ["Candidate", "Candidates"]

_FARTHEST = 96  # bits of 256; two unrelated hashes lie 128 +- 8 apart, two of one template nearer
_ANGLE_BINS = 16
_SCALE_STEP = 0.35  # log2 of the scale per bin
_PLACE_STEP = 0.15  # of the matched sheet's long side per bin


@frozen(kw_only=True)
class Candidate:
    """
    A drawing that may match, with the scores (0..1) that brought it here.

    `mirrored` and `turns` (quarter turns counter-clockwise) are the pose of L1 that brings the
    query onto it. `votes`: how many of the query's features agree on one placement.
    """

    key: int
    l1: float = 0.0
    l2: float = 0.0
    mirrored: bool = False
    turns: int = 0
    votes: int = 0

    @property
    def score(self) -> float:
        """What candidates are ordered by: either level alone may speak for a drawing."""
        return max(self.l1, self.l2) + 0.25 * min(self.l1, self.l2)


class Candidates:
    """
    Candidate finder of one index. Not thread-safe by itself.

    The order in which drawings were added does not change what a query gives.
    """

    def __init__(self) -> None:
        self._keys: list[int] = []
        self._slots: dict[int, int] = {}
        self._hashes = np.empty((16, 4), np.uint64)
        self._says = np.zeros(16, np.float32)
        self._sides = np.ones(16, np.float32)
        self._postings = Postings()

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def add(self, key: int, fingerprint: Fingerprint) -> None:
        """
        Add a drawing under `key`, which stands for what was under it before.

        Amortised constant time: about 0.1 ms.
        """
        self.remove(key)
        slot = len(self._keys)
        if slot == len(self._says):
            self._grow()
        self._keys.append(key)
        self._slots[key] = slot
        self._hashes[slot] = np.frombuffer(fingerprint.hash, np.uint64)
        self._says[slot] = fingerprint.information
        self._sides[slot] = max(fingerprint.width, fingerprint.height)
        self._postings.add(slot, fingerprint.features)

    def remove(self, key: int) -> None:
        """Forget a drawing; a key that is not there is no error."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return
        self._says[slot] = 0.0
        self._postings.remove(slot)
        self._keys[slot] = -1
        if len(self._keys) > 64 and len(self._slots) < len(self._keys) // 2:
            self._compact()

    def query(self, fingerprint: Fingerprint, *, limit: int) -> list[Candidate]:
        """
        The `limit` best candidates, best first; drawings that nothing speaks for are left out.

        Raises:
            ValueError: `limit` is less than 1.
        """
        if limit < 1:
            raise ValueError(f"limit={limit} is not allowed: give 1 or more")
        if not self._slots:
            return []
        l1, poses = self._hash_scores(fingerprint)
        l2, votes = self._feature_scores(fingerprint)
        alive = np.array(self._keys) >= 0
        named = np.flatnonzero(alive & ((l1 > 0) | (l2 > 0)))
        found = [
            Candidate(
                key=self._keys[slot],
                l1=float(l1[slot]),
                l2=float(l2[slot]),
                mirrored=POSES[poses[slot]][0],
                turns=POSES[poses[slot]][1],
                votes=int(votes[slot]),
            )
            for slot in named.tolist()
        ]
        return sorted(found, key=lambda one: (-one.score, one.key))[:limit]

    def _hash_scores(self, query: Fingerprint) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
        """L1 score and pose of each slot."""
        count = len(self._keys)
        poses = pose_hashes(query.hash).view(np.uint64)
        stored = self._hashes[:count]
        distance = np.stack([np.bitwise_count(stored ^ pose).sum(axis=1) for pose in poses])
        best = distance.argmin(axis=0)
        nearest = distance[best, np.arange(count)].astype(np.float32)
        says = np.minimum(self._says[:count], np.float32(query.information))
        return np.clip(1 - nearest / _FARTHEST, 0, 1) * says, best

    def _feature_scores(self, query: Fingerprint) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
        """L2 score and votes of each slot, the better of straight and mirrored."""
        features = query.features
        straight = self._placed(features, mirrored=False)
        mirrored = self._placed(features, mirrored=True)
        better = mirrored[0] > straight[0]
        score = np.where(better, mirrored[0], straight[0])
        return score.astype(np.float32), np.where(better, mirrored[1], straight[1])

    def _placed(
        self, features: Features, *, mirrored: bool
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
        codes = mirrored_codes(features.codes) if mirrored else features.codes
        hits = self._postings.near(np.ascontiguousarray(codes))
        return _vote(hits, features, self._sides, len(self._keys), len(self._slots), mirrored=mirrored)

    def _grow(self) -> None:
        size = 2 * len(self._says)
        self._hashes = np.resize(self._hashes, (size, 4))
        self._says = np.resize(self._says, size)
        self._sides = np.resize(self._sides, size)

    def _compact(self) -> None:
        """Close the gaps that removed drawings left."""
        kept = np.array([slot for slot, key in enumerate(self._keys) if key >= 0], np.intp)
        renamed = np.full(len(self._keys), -1, np.int32)
        renamed[kept] = np.arange(len(kept))
        self._keys = [self._keys[slot] for slot in kept.tolist()]
        self._slots = {key: slot for slot, key in enumerate(self._keys)}
        for table in (self._hashes, self._says, self._sides):
            table[: len(kept)] = table[kept]
        self._postings.rename(renamed)


def _vote(
    hits: Hits,
    query: Features,
    sides: npt.NDArray[np.float32],
    slots: int,
    drawings: int,
    *,
    mirrored: bool,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Score and votes of each slot: the weight of its best-agreeing set of hits."""
    score, votes = np.zeros(slots), np.zeros(slots, np.intp)
    if not len(hits.slot):
        return score, votes
    weight = _rarity(hits, len(query), drawings) * np.exp(-((hits.distance / 40.0) ** 2))
    for shift in (0.0, 0.5):  # two staggered sets of bins, so that no agreement is split by a rim in both
        bins = _bins(hits, query, sides, shift, mirrored=mirrored)
        # one vote per feature of the query in a bin: repeated symbols must not add up
        _, once = np.unique(bins * len(query) + hits.query, return_index=True)
        named, member = np.unique(bins[once], return_inverse=True)
        total = np.bincount(member, weights=weight[once])
        count = np.bincount(member)
        owner = np.zeros(len(named), np.intp)
        owner[member] = hits.slot[once]
        order = np.argsort(total, kind="stable")
        better = total[order] > score[owner[order]]
        votes[owner[order][better]] = count[order][better]
        np.maximum.at(score, owner, total)
    # one agreeing feature is chance; a dozen rare ones are a match
    return 1 - np.exp(-np.maximum(score - 1.5, 0) / 6.0), votes


def _rarity(hits: Hits, features: int, drawings: int) -> npt.NDArray[np.float64]:
    """Weight 0..1 of each hit: the fewer drawings have the feature, the more it says."""
    pairs = np.unique(hits.query.astype(np.int64) * (1 << 32) + hits.slot)
    frequency = np.bincount(pairs >> 32, minlength=features)
    weight = np.log((drawings + 1) / np.maximum(frequency, 1)) / np.log(drawings + 1)
    return np.asarray(np.maximum(weight, 0.02))[hits.query]


def _bins(
    hits: Hits, query: Features, sides: npt.NDArray[np.float32], shift: float, *, mirrored: bool
) -> npt.NDArray[np.int64]:
    """One number per (slot, turn, scale, place of the query's centre on the other sheet)."""
    places, angles = query.places[hits.query], query.angles[hits.query]
    middle = query.places.mean(axis=0)
    offset = middle - places
    if mirrored:
        offset = offset * np.array([-1, 1], np.float32)
        angles = np.pi - angles
    turn = hits.angle - angles
    scale = hits.size / query.sizes[hits.query]
    cosine, sine = np.cos(turn) * scale, np.sin(turn) * scale
    centre_x = hits.place[:, 0] + cosine * offset[:, 0] - sine * offset[:, 1]
    centre_y = hits.place[:, 1] + sine * offset[:, 0] + cosine * offset[:, 1]
    step = _PLACE_STEP * sides[hits.slot]
    parts = (
        (np.floor(turn / (2 * np.pi) * _ANGLE_BINS + shift).astype(np.int64) % _ANGLE_BINS, _ANGLE_BINS),
        (np.clip(np.floor(np.log2(scale) / _SCALE_STEP + shift) + 16, 0, 31).astype(np.int64), 32),
        (np.clip(np.floor(centre_x / step + shift) + 32, 0, 63).astype(np.int64), 64),
        (np.clip(np.floor(centre_y / step + shift) + 32, 0, 63).astype(np.int64), 64),
    )
    number = hits.slot.astype(np.int64)
    for part, size in parts:
        number = number * size + part
    return number
