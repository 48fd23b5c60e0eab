"""
Finds the drawings worth a closer look among those of one tenant's index.

L1 compares the query's hash in 8 poses with every drawing's. L2 looks up each feature of the query, and
its mirror image, in tables keyed by parts of the code (locality-sensitive hashing: Indyk and
Motwani, 1998), weighs what it finds by how rare it is in this index, and counts what agrees on one
turn, scale and place (Jegou et al., "Hamming embedding and weak geometric consistency", 2008).

Drawings lie in segments (see `segments`), what was added last in one that is made anew when asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.features import MAX_FEATURES, mirrored_codes
from dedup2d.engine.fingerprint import Fingerprint
from dedup2d.engine.hashes import Scores, hash_scores
from dedup2d.engine.phash import POSES
from dedup2d.engine.postings import look_up, taken
from dedup2d.engine.segments import Row, Segment, halves, segment_of
from dedup2d.engine.votes import Agreement, agreement

__all__ = ["Candidate", "Candidates"]


@frozen(kw_only=True)
class Candidate:
    """
    A drawing that may match, with the scores (0..1) that brought it here.

    `mirrored` and `turns` (quarter turns counter-clockwise) are the pose of L1 that brings the
    query onto it. `votes`: how many of the query's features agree on one placement. `placement`: that
    placement, the similarity (9 numbers, row by row) from the query's ink pixels to the match's. `rarest`:
    how many drawings have the rarest feature that agrees, and where (x, y) on the query's ink it is.
    `l3`: how alike a learned embedding finds it, None where none was asked.
    """

    key: int
    l1: float = 0.0
    l2: float = 0.0
    mirrored: bool = False
    turns: int = 0
    votes: int = 0
    placement: tuple[float, ...] | None = None
    rarest: tuple[int, float, float] | None = None
    l3: float | None = None

    @property
    def score(self) -> float:
        """What candidates are ordered by: either level alone may speak for a drawing."""
        return max(self.l1, self.l2) + 0.25 * min(self.l1, self.l2)


class _Depth(NamedTuple):
    """
    How many times as common a feature may be; the next two as of `agreement`.

    `by_share`: what agrees counts as a share of the drawing's features: of common ones more agree by chance
    where there are more.
    """

    crowd: int
    binned: int
    placed: int
    by_share: bool


_QUICK = _Depth(crowd=1, binned=400, placed=64, by_share=False)
_THOROUGH = _Depth(crowd=16, binned=1200, placed=400, by_share=True)


class Candidates:
    """
    Candidate finder of one index. Not thread-safe by itself.

    What a query gives depends on the drawings alone: not on the order in which they came, nor on what was
    removed, nor on how they are spread over segments.
    """

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._fresh: dict[int, Row] = {}
        self._last: Segment | None = None

    def __len__(self) -> int:
        return len(self._fresh) + sum(one.living for one in self._segments)

    def __contains__(self, key: object) -> bool:
        if key in self._fresh:
            return True
        return isinstance(key, int) and any(one.holds(key) for one in self._segments)

    @property
    def segments(self) -> Sequence[Segment]:
        """The segments; what is in none of them is `fresh`."""
        return tuple(self._segments)

    @property
    def fresh(self) -> Sequence[Row]:
        """What was added since the last `seal`."""
        return tuple(self._fresh.values())

    def add(self, key: int, fingerprint: Fingerprint, *, change: int = 0, mark: int = 0) -> None:
        """Add a drawing under `key`, which stands for what was under it before; see `Row`."""
        self.remove(key)
        self._fresh[key] = Row(key, change, mark, fingerprint)
        self._last = None

    def remove(self, key: int) -> None:
        """Forget a drawing; a key that is not there is no error."""
        if self._fresh.pop(key, None) is not None:
            self._last = None
            return
        for one in self._segments:
            if one.remove(key):
                return

    def seal(self) -> None:
        """Make a segment of what is fresh."""
        if self._fresh:
            self._segments.append(self._newest())
        self._fresh, self._last = {}, None

    def arrange(self, segments: Iterable[Segment], fresh: Iterable[Row]) -> None:
        """Hold this instead; no drawing may be alive twice."""
        self._segments = list(segments)
        self._fresh = {row.key: row for row in fresh}
        self._last = None

    def swap(self, olds: Sequence[Segment], new: Segment | None) -> bool:
        """Put *new*, if any, in the place of those it was merged from; say whether it holds all of theirs."""
        alive = np.concatenate([old.keys[old.alive] for old in olds])
        held = new.keys if new is not None else alive[:0]
        if any(old not in self._segments for old in olds) or not np.isin(alive, held).all():
            return False
        self._segments = [one for one in self._segments if one not in olds]
        if new is not None:
            new.revive(np.isin(new.keys, alive))
            self._segments.append(new)
        return True

    def query(self, fingerprint: Fingerprint, *, limit: int, thorough: bool = False) -> list[Candidate]:
        """
        The `limit` best candidates, best first; drawings that nothing speaks for are left out.

        `thorough`: asks for common features too, all that plain drawings have; takes several times as long.

        Raises:
            ValueError: `limit` is less than 1.
        """
        if limit < 1:
            raise ValueError(f"limit={limit} is not allowed: give 1 or more")
        segments = [*self._segments, self._newest()] if self._fresh else self._segments
        if not any(one.living for one in segments):
            return []
        l1, poses = hash_scores(segments, fingerprint)
        l2, agreed = _feature_scores(segments, fingerprint, _THOROUGH if thorough else _QUICK)
        keys = np.concatenate([one.keys for one in segments])
        return [
            _candidate(int(keys[slot]), float(l1[slot]), float(l2[slot]), int(poses[slot]), agreed.get(slot))
            for slot in _best(l1, l2, keys, limit)
        ]

    def _newest(self) -> Segment:
        if self._last is None:
            self._last = segment_of(list(self._fresh.values()))
        return self._last


def _candidate(key: int, l1: float, l2: float, pose: int, agreed: Agreement | None) -> Candidate:
    mirrored, turns = POSES[pose]
    return Candidate(
        key=key,
        l1=l1,
        l2=l2,
        mirrored=mirrored,
        turns=turns,
        votes=agreed.count if agreed else 0,
        placement=agreed.placement if agreed else None,
        rarest=agreed.rarest if agreed else None,
    )


def _best(l1: Scores, l2: Scores, keys: npt.NDArray[np.int64], limit: int) -> list[int]:
    """The slots of the best scores, ties by key."""
    named = np.flatnonzero((l1 > 0) | (l2 > 0))
    high, low = np.maximum(l1[named], l2[named]), np.minimum(l1[named], l2[named])
    score = high.astype(np.float64) + 0.25 * low.astype(np.float64)
    return [int(slot) for slot in named[np.lexsort((keys[named], -score))[:limit]]]


def _feature_scores(
    segments: Sequence[Segment], query: Fingerprint, depth: _Depth
) -> tuple[Scores, dict[int, Agreement]]:
    """L2 score of each slot, and what agrees; the better of straight and mirrored."""
    sides = np.concatenate([one.arrays["side"] for one in segments])
    drawings, features = sum(one.living for one in segments), query.features
    codes = np.concatenate([halves(features.codes), halves(mirrored_codes(features.codes))])
    both = look_up(segments, codes, depth.crowd)
    middle = int(np.searchsorted(both.query, len(features)))
    both.query[middle:] -= len(features)
    best: dict[int, Agreement] = {}
    for mirrored in (False, True):
        hits = taken(both, slice(middle, None) if mirrored else slice(middle))
        for one in agreement(
            hits,
            features,
            sides,
            drawings,
            mirrored=mirrored,
            binned=depth.binned,
            placed=depth.placed,
        ):
            if one.slot not in best or one.weight > best[one.slot].weight:
                best[one.slot] = one
    weight = np.zeros(len(sides))
    weight[list(best)] = [one.weight for one in best.values()]
    if depth.by_share:
        sizes = np.concatenate([np.diff(one.arrays["first"].astype(np.int64)) for one in segments])
        weight *= MAX_FEATURES / np.maximum(sizes, 1)
    # one agreeing feature is chance; a dozen rare ones are a match
    return (1 - np.exp(-np.maximum(weight - 1, 0) / 8)).astype(np.float32), best
