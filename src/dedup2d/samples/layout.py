"""Places the views of a part on a sheet at the largest standard scale that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from attrs import frozen

from dedup2d.samples.pen import Pen

__all__ = ["Placement", "View", "arrange"]

SCALES = tuple(
    Fraction(*ratio) for ratio in ((5, 1), (2, 1), (1, 1), (1, 2), (1, 5), (1, 10), (1, 20), (1, 50))
)
"""ISO 5455, largest first."""


@frozen(kw_only=True)
class View:
    """
    One view: its place in the grid of views, its box in part mm, and how it is drawn.

    `pad` is the room for dimensions around the box: left, bottom, right, top, mm on paper.
    """

    column: int
    row: int
    box: tuple[float, float, float, float]
    draw: Callable[[Pen], None]
    pad: tuple[float, float, float, float] = (16.0, 16.0, 16.0, 16.0)


@frozen(kw_only=True)
class Placement:
    """A scale, and where each view's centre lies on the paper."""

    scale: Fraction
    centres: tuple[tuple[float, float], ...]

    @property
    def label(self) -> str:
        return f"{self.scale.numerator}:{self.scale.denominator}"


def arrange(views: Sequence[View], area: tuple[float, float, float, float]) -> Placement | None:
    """
    Place *views* centred in *area* (x0, y0, x1, y1), aligned by columns and rows.

    None if they do not fit at any scale.
    """
    width, height = area[2] - area[0], area[3] - area[1]
    for scale in SCALES:
        columns = list(_tracks(views, float(scale), axis=0))
        rows = list(_tracks(views, float(scale), axis=1))
        if sum(columns_size(columns)) <= width and sum(columns_size(rows)) <= height:
            xs = list(_axes(columns, area[0], width))
            ys = list(_axes(rows, area[1], height))
            return Placement(scale=scale, centres=tuple((xs[v.column], ys[v.row]) for v in views))
    return None


def columns_size(tracks: Sequence[tuple[float, float]]) -> Iterator[float]:
    return (before + after for before, after in tracks)


def _tracks(views: Sequence[View], scale: float, axis: int) -> Iterator[tuple[float, float]]:
    """Give for each column (or row) the room before and after its axis, mm on paper."""

    def index_of(view: View) -> int:
        return view.column if axis == 0 else view.row

    for index in range(1 + max(map(index_of, views))):
        half = [
            (
                view.pad[axis] + scale * (view.box[axis + 2] - view.box[axis]) / 2,
                view.pad[axis + 2] + scale * (view.box[axis + 2] - view.box[axis]) / 2,
            )
            for view in views
            if index_of(view) == index
        ]
        yield max(before for before, _ in half), max(after for _, after in half)


def _axes(tracks: Sequence[tuple[float, float]], start: float, room: float) -> Iterator[float]:
    gap = (room - sum(columns_size(tracks))) / (len(tracks) + 1)
    place = start
    for before, after in tracks:
        place += gap + before
        yield place
        place += after
