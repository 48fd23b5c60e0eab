"""The vectors of one catalogue in memory, brought up to date with what any process changed."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from dedup2d.engine.catalogue import Catalogue
from dedup2d.engine.embedding import Model
from dedup2d.engine.records import VectorRow

__all__ = ["LiveVectors"]

_BLOCK = 4096  # rows at once as float32
_LEAST_ROWS = 256


class LiveVectors:
    """
    What one model made of the drawings of one catalogue: a matrix of float16, one row each.

    Threads take turns. Vectors of other models, or of another length, are left out.
    """

    def __init__(self, catalogue: Catalogue, model: Model) -> None:
        self._catalogue = catalogue
        self._model = model
        self._turn = threading.Lock()
        self._removals_seen = self._additions_seen = self._count = 0
        self._forget()

    def __len__(self) -> int:
        return self._count

    def catch_up(self, *, limit: int = 2000) -> bool:
        """Take over changes, at most *limit* added drawings; say whether there may be more."""
        with self._turn:
            head, removed = self._catalogue.removed_since(self._removals_seen)
            if removed is None or head < max(self._removals_seen, self._additions_seen):
                self._forget()
            for key in removed or ():
                self._remove(key)
            self._removals_seen = head
            rows = self._catalogue.vectors_since(self._additions_seen, self._model.digest, limit=limit)
            for row in rows:
                self._put(row)
                self._additions_seen = row.change
            return len(rows) == limit

    def likeness(self, vector: bytes) -> dict[int, float]:
        """Return the cosine, 0..1, of *vector* with that of each drawing, by key; opposites count as 0."""
        query = np.frombuffer(vector, "<f2").astype(np.float32)
        with self._turn:
            matrix = self._matrix[: self._count]
            blocks = [
                matrix[start : start + _BLOCK].astype(np.float32) @ query
                for start in range(0, self._count, _BLOCK)
            ]
            keys = self._keys[: self._count].tolist()
        cosines = np.clip(np.concatenate(blocks), 0, 1) if blocks else np.zeros(0)
        return dict(zip(keys, cosines.tolist(), strict=True))

    def _forget(self) -> None:
        self._removals_seen = self._additions_seen = self._count = 0
        self._matrix: npt.NDArray[np.float16] = np.empty((_LEAST_ROWS, self._model.dimensions), np.float16)
        self._keys: npt.NDArray[np.int64] = np.empty(_LEAST_ROWS, np.int64)
        self._rows: dict[int, int] = {}

    def _put(self, row: VectorRow) -> None:
        self._remove(row.key)
        if len(row.data) != 2 * self._model.dimensions:
            return
        if self._count == len(self._keys):
            self._matrix = np.concatenate([self._matrix, np.empty_like(self._matrix)])
            self._keys = np.concatenate([self._keys, np.empty_like(self._keys)])
        self._matrix[self._count] = np.frombuffer(row.data, "<f2")
        self._keys[self._count] = row.key
        self._rows[row.key] = self._count
        self._count += 1

    def _remove(self, key: int) -> None:
        """Put the last row in the place of the removed one."""
        place = self._rows.pop(key, None)
        if place is None:
            return
        self._count -= 1
        if place != self._count:
            self._matrix[place] = self._matrix[self._count]
            last = int(self._keys[self._count])
            self._keys[place], self._rows[last] = last, place
