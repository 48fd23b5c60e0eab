"""The candidates of one catalogue in memory, brought up to date with what any process changed."""

from __future__ import annotations

import threading

from dedup2d.engine.candidates import Candidate, Candidates
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION, Fingerprint
from dedup2d.engine.records import FingerprintRow

__all__ = ["LiveCandidates"]


class LiveCandidates:
    """
    Candidates that follow their catalogue. Threads take turns.

    Fingerprints of another version, or damaged ones, are left out until the index is rebuilt.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._turn = threading.Lock()
        self._candidates = Candidates()
        self._damaged: set[int] = set()
        self._removals_seen = 0
        self._additions_seen = 0

    def __len__(self) -> int:
        return len(self._candidates)

    @property
    def damaged(self) -> int:
        """How many fingerprints cannot be read although they are of this version."""
        return len(self._damaged)

    def catch_up(self, *, limit: int = 500) -> bool:
        """
        Take over changes, at most *limit* added drawings; say whether there may be more.

        What was committed before the call that returns False is in.
        """
        with self._turn:
            return self._catch_up(limit)

    def _catch_up(self, limit: int) -> bool:
        head, removed = self._catalogue.removed_since(self._removals_seen)
        if removed is None:
            self._forget()
        for key in removed or ():
            self._remove(key)
        self._removals_seen = head
        rows = self._catalogue.fingerprints_since(self._additions_seen, limit=limit)
        for row in rows:
            self._put(row)
            self._additions_seen = row.change
        return len(rows) == limit

    def query(self, fingerprint: Fingerprint, *, limit: int) -> list[Candidate]:
        """Return the best candidates, best first, as of the last `catch_up`."""
        with self._turn:
            return self._candidates.query(fingerprint, limit=limit)

    def _put(self, row: FingerprintRow) -> None:
        self._remove(row.key)
        if row.version != FINGERPRINT_VERSION:
            return
        try:
            self._candidates.add(row.key, Fingerprint.from_bytes(row.data))
        except ValueError:
            self._damaged.add(row.key)

    def _remove(self, key: int) -> None:
        self._candidates.remove(key)
        self._damaged.discard(key)

    def _forget(self) -> None:
        self._candidates = Candidates()
        self._damaged.clear()
        self._additions_seen = 0
