"""What the catalogue holds now, as far as it takes to tell which drawings of a segment still count."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from attrs import frozen

from dedup2d.engine.segments import Segment

__all__ = ["Stamps", "mark"]


def mark(drawing_id: str) -> int:
    """A number that tells drawings apart which got the same key and change, as after restoring a backup."""
    return zlib.crc32(drawing_id.encode())


@frozen(eq=False)
class Stamps:
    """
    The drawings with a fingerprint of this version, by key.

    `head`: number of the last change. `keys`, `changes`, `marks`: arrays of one length; see `Row`.
    """

    head: int
    keys: npt.NDArray[np.int64]
    changes: npt.NDArray[np.int64]
    marks: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, head: int, rows: Iterable[Sequence[tuple[int, int, str]]]) -> Stamps:
        """Make it of lists of key, change and drawing id, in the order of the keys."""
        parts = [
            np.array([(key, change, mark(name)) for key, change, name in some], np.int64) for some in rows
        ]
        every = np.concatenate([np.empty((0, 3), np.int64), *parts])
        return cls(head, every[:, 0].copy(), every[:, 1].copy(), every[:, 2].astype(np.uint32))

    def nothing(self) -> npt.NDArray[np.bool_]:
        """Flags, one per drawing, none set."""
        return np.zeros(len(self.keys), np.bool_)

    def revive(self, segment: Segment, seen: npt.NDArray[np.bool_]) -> bool:
        """Let live in *segment* what is here and not *seen* yet, and note it; say whether anything does."""
        at, same = self.find(segment.keys, segment.arrays["change"], segment.arrays["mark"])
        same[same] = ~seen[at[same]]
        seen[at[same]] = True
        segment.revive(same)
        return bool(same.any())

    def find(
        self, keys: npt.ArrayLike, changes: npt.ArrayLike, marks: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Where drawings are, and whether they are the same."""
        at = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        if not len(self.keys):
            return at, np.zeros(at.shape, np.bool_)
        same = (self.keys[at] == keys) & (self.changes[at] == changes) & (self.marks[at] == marks)
        return at, np.asarray(same, np.bool_)
