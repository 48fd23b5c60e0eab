"""The candidates of one catalogue, brought up to date with what any process changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from dedup2d.engine.candidates import Candidate, Candidates
from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION, Fingerprint
from dedup2d.engine.merging import due, merged
from dedup2d.engine.records import FingerprintRow
from dedup2d.engine.segment_files import SegmentFiles
from dedup2d.engine.segments import Segment
from dedup2d.engine.stamps import mark
from dedup2d.errors import Dedup2DError

__all__ = ["LiveCandidates"]

_LEAST_FRESH, _MOST_FRESH = 32, 1000  # drawings outside of segments
_FRESH_SHARE = 40  # of all drawings one in so many may be
_MOST_UNSTORED = 4  # segments, then loading waits until they are
_FAR_BEHIND = 2000  # changes
_IN_MEMORY = ""  # name of what was merged and is not stored
_REST = 60.0  # seconds after the disk refused


class LiveCandidates:
    """
    Candidates that follow their catalogue. Threads take turns.

    Fingerprints of another version, or damaged ones, are left out until the index is rebuilt.
    Segments are written by a thread of its own, as soon as enough was added, unless another process does.

    Args:
        directory: where segments are stored (see `SegmentFiles`); None keeps all in memory.
    """

    def __init__(self, catalogue: Catalogue, directory: Path | None = None) -> None:
        self._catalogue = catalogue
        self._files = SegmentFiles(directory, catalogue.salt()) if directory else None
        self._turn = threading.Lock()
        self._candidates = Candidates()
        self._damaged: set[int] = set()
        self._missing: list[int] | None = None
        self._names: frozenset[str] = frozenset()
        self._useless: frozenset[str] = frozenset()
        self._removals_seen = self._additions_seen = 0
        self._storing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._rests_until = 0.0

    def __len__(self) -> int:
        return len(self._candidates)

    @property
    def damaged(self) -> int:
        """How many fingerprints cannot be read although they are of this version."""
        return len(self._damaged)

    @property
    def segments(self) -> Sequence[Segment]:
        """The segments that searches go through, beside what was added last."""
        return self._candidates.segments

    def close(self) -> None:
        """Wait until nothing more is written."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def catch_up(self, *, limit: int = 500) -> bool:
        """
        Take over changes, at most *limit* added drawings; say whether there may be more.

        What was committed before the call that returns False is in.
        """
        with self._turn:
            more = self._catch_up(limit)
            unstored = sum(one.name is None for one in self._candidates.segments)
            wanted = self._wants_storing()
        if wanted and more and unstored >= _MOST_UNSTORED:
            self.store(wait=True)
        elif wanted:
            self._store_beside()
        return more

    def query(self, fingerprint: Fingerprint, *, limit: int, thorough: bool = False) -> list[Candidate]:
        """Return the best candidates, best first, as of the last `catch_up`; see `Candidates.query`."""
        with self._turn:
            return self._candidates.query(fingerprint, limit=limit, thorough=thorough)

    def tend(self) -> None:
        """Catch up and store in a thread of its own, so that no search will have to."""
        self._store_beside(first_catch_up=True)

    def store(self, *, wait: bool = False) -> None:
        """
        Merge and store segments until all is well, unless another process does.

        If another thread does, *wait* for it and look again, or leave it to that.
        """
        if not self._storing.acquire(blocking=wait):
            return
        try:
            if self._files is None:
                while self._merge_once(None):
                    pass
                return
            with self._files.turn() as ours:
                if ours:
                    self._tidy(self._files)
                    while self._merge_once(self._files):
                        pass
        except OSError:
            self._rests_until = time.monotonic() + _REST
        finally:
            self._storing.release()

    def _tidy(self, files: SegmentFiles) -> None:
        files.clear_away()
        with self._turn:
            files.delete(self._useless)
            self._names -= self._useless
            self._useless = frozenset()

    def _catch_up(self, limit: int) -> bool:
        head, removed = self._catalogue.removed_since(self._removals_seen)
        names = self._files.names() if self._files else frozenset()
        behind = head - max(self._additions_seen, self._removals_seen)
        if self._missing is None or removed is None or names != self._names or not 0 <= behind < _FAR_BEHIND:
            self._look_anew(names)
        else:
            for key in removed:
                self._remove(key)
            self._removals_seen = head
        if self._missing:
            some, self._missing = self._missing[:limit], self._missing[limit:]
            for row in self._catalogue.fingerprints_of(some):
                self._put(row)
            self._seal()
            return True
        rows = self._catalogue.fingerprints_since(self._additions_seen, limit=limit)
        for row in rows:
            self._put(row)
            self._additions_seen = row.change
        self._seal()
        return len(rows) == limit

    def _look_anew(self, names: frozenset[str]) -> None:
        """Take over which drawings there are and which segments have them; what none has is missing."""
        stamps = self._catalogue.stamps()
        known = {one.name: one for one in self._candidates.segments if one.name}
        opened = [
            known.get(name) or (self._files.open(name) if self._files else None) for name in sorted(names)
        ]
        stored = sorted((one for one in opened if one), key=len, reverse=True)
        others = [one for one in self._candidates.segments if one not in stored]
        seen, fresh = stamps.nothing(), []
        kept = [one for one in [*stored, *others] if stamps.revive(one, seen)]
        for row in self._candidates.fresh:
            at, same = stamps.find([row.key], [row.change], [row.mark])
            if same[0] and not seen[at[0]]:
                fresh.append(row)
                seen[at[0]] = True
        for one in kept:
            if one.name and one.name not in names and self._files:
                one.name = None  # somebody deleted it: it is stored again
        self._candidates.arrange(kept, fresh)
        self._names = names
        self._useless = names - {one.name for one in kept if one.name}
        self._missing = stamps.keys[~seen].tolist()
        self._damaged.clear()
        self._removals_seen = self._additions_seen = stamps.head

    def _put(self, row: FingerprintRow) -> None:
        self._remove(row.key)
        if row.version != FINGERPRINT_VERSION:
            return
        try:
            made = Fingerprint.from_bytes(row.data)
        except ValueError:
            self._damaged.add(row.key)
        else:
            self._candidates.add(row.key, made, change=row.change, mark=mark(row.drawing_id))

    def _remove(self, key: int) -> None:
        self._candidates.remove(key)
        self._damaged.discard(key)

    def _seal(self) -> None:
        fresh = len(self._candidates.fresh)
        if fresh >= min(max(len(self._candidates) // _FRESH_SHARE, _LEAST_FRESH), _MOST_FRESH):
            self._candidates.seal()

    def _wants_storing(self) -> bool:
        if time.monotonic() < self._rests_until:
            return False
        return bool(due(self._candidates.segments)) or bool(self._useless)

    def _store_beside(self, *, first_catch_up: bool = False) -> None:
        with self._turn:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, args=(first_catch_up,), name="segments")
                self._thread.start()

    def _work(self, first_catch_up: bool) -> None:
        try:
            while first_catch_up and self.catch_up():
                pass
        except Dedup2DError:
            return  # the next search says what is wrong
        self.store()

    def _merge_once(self, files: SegmentFiles | None) -> bool:
        """Merge what is due; say whether that was done."""
        with self._turn:
            chosen = due(self._candidates.segments)
        if not chosen:
            return False
        new = merged(chosen)
        if new is not None:
            new.name = _IN_MEMORY
            new = files.write(new) if files else new
        with self._turn:
            return self._swap(chosen, new)

    def _swap(self, chosen: Sequence[Segment], new: Segment | None) -> bool:
        done = self._candidates.swap(chosen, new)
        if done and self._files:
            gone = {one.name for one in chosen if one.name}
            self._files.delete(gone)
            self._names = self._names - gone | ({new.name} if new and new.name else set())
        return done
