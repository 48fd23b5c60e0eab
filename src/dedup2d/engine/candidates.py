"""
Finds the drawings worth a closer look, in memory, for one tenant's index.

L1 compares the query's hash in 8 poses with every drawing's. L2 looks up each feature of the query, and
its mirror image, in tables keyed by parts of the code (locality-sensitive hashing: Indyk and
Motwani, 1998), weighs what it finds by how rare it is in this index, and counts what agrees on one
turn, scale and place (Jegou et al., "Hamming embedding and weak geometric consistency", 2008).

Memory: up to 20 kB a drawing (50 bytes for each of at most 400 features; 2 GB at 100,000 drawings). Time of a
query: comparing hashes grows with the drawings (about 20 ms at 100,000); looking up features grows with the
entries under the query's keys, which get longer as the index grows (see `Postings`), and stops at 1,000
entries a key: what more share says nothing. Once the index has grown by a quarter, a query sorts it anew
first (about 1 s a million features).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.features import mirrored_codes
from dedup2d.engine.fingerprint import Fingerprint
from dedup2d.engine.phash import POSES, pose_hashes
from dedup2d.engine.postings import Postings
from dedup2d.engine.votes import Agreement, agreement

__all__ = ["Candidate", "Candidates"]

_FARTHEST = 96  # bits of 256; two unrelated hashes lie 128 +- 8 apart, two of one template nearer


@frozen(kw_only=True)
class Candidate:
    """
    A drawing that may match, with the scores (0..1) that brought it here.

    `mirrored` and `turns` (quarter turns counter-clockwise) are the pose of L1 that brings the
    query onto it. `votes`: how many of the query's features agree on one placement. `placement`: that
    placement, the similarity (9 numbers, row by row) from the query's ink pixels to the match's. `rarest`:
    how many drawings have the rarest feature that agrees, and where (x, y) on the query's ink it is.
    """

    key: int
    l1: float = 0.0
    l2: float = 0.0
    mirrored: bool = False
    turns: int = 0
    votes: int = 0
    placement: tuple[float, ...] | None = None
    rarest: tuple[int, float, float] | None = None

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
        l2, agreed = self._feature_scores(fingerprint)
        alive = np.array(self._keys) >= 0
        named = np.flatnonzero(alive & ((l1 > 0) | (l2 > 0)))
        found = [
            self._candidate(slot, l1, l2, POSES[poses[slot]], agreed.get(slot)) for slot in named.tolist()
        ]
        return sorted(found, key=lambda one: (-one.score, one.key))[:limit]

    def _candidate(
        self,
        slot: int,
        l1: npt.NDArray[np.float32],
        l2: npt.NDArray[np.float32],
        pose: tuple[bool, int],
        agreed: Agreement | None,
    ) -> Candidate:
        return Candidate(
            key=self._keys[slot],
            l1=float(l1[slot]),
            l2=float(l2[slot]),
            mirrored=pose[0],
            turns=pose[1],
            votes=agreed.count if agreed else 0,
            placement=agreed.placement if agreed else None,
            rarest=agreed.rarest if agreed else None,
        )

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

    def _feature_scores(self, query: Fingerprint) -> tuple[npt.NDArray[np.float32], dict[int, Agreement]]:
        """L2 score of each slot, and what agrees; the better of straight and mirrored."""
        drawings, features = len(self._slots), query.features
        best: dict[int, Agreement] = {}
        for mirrored in (False, True):
            codes = mirrored_codes(features.codes) if mirrored else features.codes
            hits = self._postings.near(np.ascontiguousarray(codes))
            for one in agreement(hits, features, self._sides, drawings, mirrored=mirrored):
                if one.slot not in best or one.weight > best[one.slot].weight:
                    best[one.slot] = one
        weight = np.zeros(len(self._keys))
        weight[list(best)] = [one.weight for one in best.values()]
        # one agreeing feature is chance; a dozen rare ones are a match
        return (1 - np.exp(-np.maximum(weight - 1, 0) / 8)).astype(np.float32), best

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
