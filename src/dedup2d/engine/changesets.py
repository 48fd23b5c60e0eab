"""Gathers lines that were added and removed into changes: what lies together is one change."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup2d.engine.changes import Ink, Lost, Spots, lost_ink, spots_of
from dedup2d.engine.clean import Picture

__all__ = ["ChangeSet", "Gathered", "gathered"]

Box = tuple[int, int, int, int]

_CELL = 4  # pixels of a sheet of 2000 that count as one place
_REACH = 5  # places: what lies closer together is one change
_JOINED = 0.8  # of the length of the shorter of two pieces: a smaller gap parts no two things
_MOST_REACH = 12.0  # places, however long the pieces
_MOST_JOINED = 1000  # pieces: more are noise, or another drawing
_LEAST_FINE = (4, 4)  # pixels that are no noise where the sheets agree to the pixel
_LEAST_LINE = 12  # pixels of line, on a sheet of 2000, that are no noise
_LEAST_CLEAR = 5  # of them clearly off
_MOVED = 0.85  # of both inks that must agree after the move
_LEAST_MOVED = 40  # pixels of ink: less looks alike by chance
_SLACK = 2  # pixels that a move may be off
_SLACK_FINE = 1  # the same, where the sheets agree to the pixel
_MOST_TRIED = 40  # changes that are tried against each other for moves


class ChangeSet(NamedTuple):
    """A box (x, y, width, height), its pixels added and removed, what happened, and how far it moved."""

    box: Box
    added: int
    removed: int
    change: str
    shift: tuple[int, int] | None = None

    @property
    def area(self) -> int:
        return self.added + self.removed


class Gathered(NamedTuple):
    """The ink added and removed, without noise, and the changes, largest first."""

    added: Picture
    removed: Picture
    changes: list[ChangeSet]


def gathered(query: Ink, added: Lost, other: Ink, removed: Lost) -> Gathered:
    """Gather what the query has more and less than the other; what is too little to be told is left out."""
    inks = [lost_ink(query, added), lost_ink(other, removed)]
    places = _Places(inks)
    unit = max(inks[0].shape) / 2000
    line = places.counts(added.spots) + places.counts(removed.spots)
    clear = places.counts(added.spots[added.clear]) + places.counts(removed.spots[removed.clear])
    least = _LEAST_FINE if added.fine else (_LEAST_LINE * unit, _LEAST_CLEAR * unit)
    kept = (line >= least[0]) & (clear >= least[1])
    kept[0] = False
    parts = [places.only(ink, kept) for ink in inks]
    sets = _sets(parts[0], parts[1], len(kept))
    return Gathered(
        parts[0].picture, parts[1].picture, _with_moves(sets, parts, _SLACK_FINE if added.fine else _SLACK)
    )


class _Part(NamedTuple):
    """Ink of one kind that counts, and its pixels with the change that each is of."""

    picture: Picture
    x: Spots
    y: Spots
    owner: Spots

    def of(self, number: int) -> Spots:
        """Pixels (N, 2) x, y of one change."""
        own = self.owner == number
        return np.stack([self.x[own], self.y[own]], axis=1)


class _Places:
    """The sheet in small cells, with a number for those that belong together; 0 is for those without ink."""

    def __init__(self, inks: list[Picture]) -> None:
        height, width = inks[0].shape
        self._width, self._side = width, max(height, width)
        self._cell = max(1, round(_CELL * self._side / 2000))
        grid = np.zeros((-(-height // self._cell), -(-width // self._cell)), np.uint8)
        for ink in inks:
            y, x = np.divmod(spots_of(ink), width)
            grid[y // self._cell, x // self._cell] = 255
        joined = cv2.dilate(grid, np.ones((_REACH, _REACH), np.uint8))
        self.count, numbers, stats, _ = cv2.connectedComponentsWithStats(
            joined, connectivity=8, ltype=cv2.CV_32S
        )
        self._numbers = self._joined(stats[:, :4].astype(np.float64))[numbers]

    def _joined(self, boxes: npt.NDArray[np.float64]) -> Spots:
        """New numbers: pieces of one thing lie closer together than they are long."""
        number = np.arange(len(boxes), dtype=np.intp)
        if not 2 < len(boxes) <= _MOST_JOINED:
            return number
        start, size = boxes[:, :2], boxes[:, 2:]
        gap = np.maximum(start[:, None] - (start + size)[None], start[None] - (start + size)[:, None])
        apart = np.hypot(*np.moveaxis(np.maximum(gap, 0), 2, 0))
        longest = size.max(axis=1)
        reach = np.minimum(_JOINED * np.minimum(longest[:, None], longest[None]), _MOST_REACH)
        for one, other in np.argwhere(np.triu(apart <= reach, 1)).tolist():
            if one:
                number[number == number[other]] = number[one]
        return number

    def counts(self, spots: Spots) -> Spots:
        """How many of `spots` each change has."""
        return np.bincount(self._owners(*np.divmod(spots, self._width)), minlength=self.count)

    def only(self, ink: Picture, kept: npt.NDArray[np.bool_]) -> _Part:
        """The part of `ink` that is of the changes to be `kept`."""
        y, x = np.divmod(spots_of(ink), self._width)
        owner = self._owners(y, x)
        own = kept[owner]
        y, x, owner = y[own], x[own], owner[own]
        picture = np.zeros_like(ink)
        picture[y, x] = 255
        return _Part(picture, x, y, owner)

    def _owners(self, y: Spots, x: Spots) -> Spots:
        return np.asarray(self._numbers[y // self._cell, x // self._cell], np.intp)


def _sets(added: _Part, removed: _Part, count: int) -> dict[int, ChangeSet]:
    """The changes by number."""
    gains, losses = (np.bincount(part.owner, minlength=count) for part in (added, removed))
    x, y = np.concatenate([added.x, removed.x]), np.concatenate([added.y, removed.y])
    owner = np.concatenate([added.owner, removed.owner])
    order = np.argsort(owner, kind="stable")
    numbers, starts = np.unique(owner[order], return_index=True)
    if not len(numbers):
        return {}
    spans = [reduce.reduceat(of[order], starts) for of in (x, y) for reduce in (np.minimum, np.maximum)]
    found = {}
    for number, left, right, top, bottom in zip(
        numbers.tolist(), *(span.tolist() for span in spans), strict=True
    ):
        gain, loss = int(gains[number]), int(losses[number])
        change = "added" if loss < 0.1 * gain else "removed" if gain < 0.1 * loss else "changed"
        box = (left, top, right - left + 1, bottom - top + 1)
        found[number] = ChangeSet(box, gain, loss, change)
    return found


def _with_moves(sets: dict[int, ChangeSet], parts: list[_Part], slack: int) -> list[ChangeSet]:
    """The changes, largest first; where the same ink went elsewhere, both places are one change."""
    largest = sorted(sets, key=lambda number: -sets[number].area)[:_MOST_TRIED]
    for number in largest:
        if sets[number].change == "changed":
            sets[number] = _moved(sets[number], parts[0].of(number), parts[1].of(number), slack)
    gains, losses = ([n for n in largest if sets[n].change == change] for change in ("added", "removed"))
    side = max(parts[0].picture.shape)
    near = [pair for pair in product(gains, losses) if _may_be_moved(sets[pair[0]], sets[pair[1]], side)]
    for gain, loss in sorted(near, key=lambda pair: _way(sets[pair[0]], sets[pair[1]])):
        if gain not in sets or loss not in sets or sets[gain].change == "moved":
            continue
        whole = sets[gain]._replace(removed=sets[loss].removed)
        moved = _moved(whole, parts[0].of(gain), parts[1].of(loss), slack)
        if moved.change == "moved":
            sets[gain] = moved
            del sets[loss]
    return sorted(sets.values(), key=lambda one: -one.area)


def _may_be_moved(gain: ChangeSet, loss: ChangeSet, side: int) -> bool:
    alike = 0.8 * loss.removed <= gain.added <= 1.25 * loss.removed
    sizes = zip(gain.box[2:], loss.box[2:], strict=True)
    return alike and all(abs(a - b) <= 2 * _SLACK for a, b in sizes) and _way(gain, loss) <= side / 10


def _way(gain: ChangeSet, loss: ChangeSet) -> float:
    return float(np.hypot(gain.box[0] - loss.box[0], gain.box[1] - loss.box[1]))


def _moved(one: ChangeSet, new: npt.NDArray[np.intp], old: npt.NDArray[np.intp], slack: int) -> ChangeSet:
    """`one` as a move, with the box where it is now, if its `old` pixels, shifted, lie on the `new` ones."""
    if min(len(new), len(old)) < _LEAST_MOVED:
        return one
    shift = np.round(new.mean(axis=0) - old.mean(axis=0)).astype(np.intp)
    if np.abs(shift).max() <= slack or not _agree(new, old + shift, slack):
        return one
    left, top = new.min(axis=0).tolist()
    right, bottom = new.max(axis=0).tolist()
    box = (left, top, right - left + 1, bottom - top + 1)
    return one._replace(box=box, change="moved", shift=(int(shift[0]), int(shift[1])))


def _agree(a: npt.NDArray[np.intp], b: npt.NDArray[np.intp], slack: int) -> bool:
    """Whether nearly all of the pixels of each have one of the other close by."""
    low = np.minimum(a.min(axis=0), b.min(axis=0)) - slack
    high = np.maximum(a.max(axis=0), b.max(axis=0)) + slack
    pictures = []
    for pixels in (a, b):
        x, y = (pixels - low).T
        picture = np.zeros((high[1] - low[1] + 1, high[0] - low[0] + 1), np.uint8)
        picture[y, x] = 1
        pictures.append(picture)
    kernel = np.ones((2 * slack + 1, 2 * slack + 1), np.uint8)
    one, other = pictures
    shares = [
        (first & cv2.dilate(second, kernel)).sum() / first.sum()
        for first, second in ((one, other), (other, one))
    ]
    return bool(min(shares) >= _MOVED)
