"""The vectors of one catalogue in memory, brought up to date with what any process changed."""

from __future__ import annotations

import threading
from collections.abc import Collection

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

    Threads take turns. Vectors of other models and damaged ones are left out.
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

    def nearest(self, vector: bytes, named: Collection[int], most: int) -> dict[int, float]:
        """
        Return how alike to *vector* the drawings of the keys *named* are, and the *most* alike others.

        That is the cosine, 0..1; opposites count as 0, and as not alike at all. The others come last, the
        most alike first.
        """
        query = np.frombuffer(vector, "<f2").astype(np.float32)
        with self._turn:
            cosines = self._cosines(query)
            rows = {key: self._rows[key] for key in named if key in self._rows}
            found = {key: float(cosines[row]) for key, row in rows.items()}
            cosines[list(rows.values())] = 0
            best = np.argpartition(-cosines, most)[:most] if most < len(cosines) else np.arange(len(cosines))
            others = sorted((-float(cosines[row]), int(self._keys[row])) for row in best)
        return found | {key: -score for score, key in others if score}

    def _cosines(self, query: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        found = np.empty(self._count, np.float32)
        for start in range(0, self._count, _BLOCK):
            rows = slice(start, min(start + _BLOCK, self._count))
            found[rows] = self._matrix[rows].astype(np.float32) @ query
        return np.clip(found, 0, 1)

    def _forget(self) -> None:
        self._removals_seen = self._additions_seen = self._count = 0
        self._matrix: npt.NDArray[np.float16] = np.empty((_LEAST_ROWS, self._model.dimensions), np.float16)
        self._keys: npt.NDArray[np.int64] = np.empty(_LEAST_ROWS, np.int64)
        self._rows: dict[int, int] = {}

    def _put(self, row: VectorRow) -> None:
        self._remove(row.key)
        if len(row.data) != 2 * self._model.dimensions:
            return
        values = np.frombuffer(row.data, "<f2")
        if not np.isfinite(values).all():
            return
        if self._count == len(self._keys):
            self._matrix = np.concatenate([self._matrix, np.empty_like(self._matrix)])
            self._keys = np.concatenate([self._keys, np.empty_like(self._keys)])
        self._matrix[self._count] = values
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
