"""A geometry with all blocks taken apart: line work, texts, dimensions, hatches and inserts in place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import define, evolve, field, frozen

from dedup2d.geometry.curves import arc_row, ellipse_points, polyline_parts, spline_points
from dedup2d.geometry.linework import Affine, Floats, Linework, joined, transformed
from dedup2d.geometry.model import (
    Arc,
    Block,
    Circle,
    Dimension,
    Ellipse,
    Entity,
    Geometry,
    Hatch,
    Insert,
    Leader,
    Line,
    Polyline,
    Spline,
    Text,
)
from dedup2d.geometry.plain_text import plain

__all__ = ["MAX_PRIMITIVES", "Flat", "Item", "flatten"]

MAX_PRIMITIVES = 300_000
"""Segments and arcs that inserts may make; what comes after is left out, with a warning."""
MAX_NESTING = 16
MAX_ITEMS = 200_000


@frozen(kw_only=True)
class Item:
    """
    Something with content and perhaps a place.

    Args:
        kind: its entity type.
        path: where it stands in the JSON.
        place: x, y; None if it has none.
        size: of a text's letters, drawing units; 0 if not told.
        content: what is compared.
        value: of a dimension, or the area of a hatch.
        angular: whether the value is an angle, which no scale changes.
    """

    kind: str
    path: str
    place: tuple[float, float] | None
    size: float = 0.0
    content: str = ""
    value: float | None = None
    angular: bool = False


@frozen(kw_only=True, eq=False)
class Flat:
    """
    What a geometry draws and says.

    Args:
        ink: the line work.
        dimension_ink: what the blocks of dimensions draw: it may stand for lines of the other drawing, which
            may have its dimensions taken apart, and is itself not looked for.
        dimension_texts, dimension_hatches: what they write and fill, likewise; their path is the dimension's.
        sources: for each source number of the line work the entity and its path.
    """

    ink: Linework
    dimension_ink: Linework
    sources: Sequence[tuple[Entity, str]]
    dimension_texts: Sequence[Item]
    dimension_hatches: Sequence[Item]
    texts: Sequence[Item]
    dimensions: Sequence[Item]
    hatches: Sequence[Item]
    inserts: Sequence[Item]
    warnings: tuple[str, ...] = ()

    def items(self) -> Sequence[Sequence[Item]]:
        return _items(self)

    @property
    def named_inserts(self) -> Sequence[Item]:
        """An insert of each named block; anonymous ones get another number with each save."""
        return list({one.content: one for one in self.inserts if not one.content.startswith("*")}.values())


@define(eq=False)
class _Pile:
    """What entities add to, in their own coordinates."""

    segments: list[tuple[float, float, float, float]] = field(factory=list)
    segment_source: list[int] = field(factory=list)
    parts: list[Linework] = field(factory=list)
    arcs: list[tuple[float, float, float, float, float]] = field(factory=list)
    arc_source: list[int] = field(factory=list)
    dimension_parts: list[Linework] = field(factory=list)
    sources: list[tuple[Entity, str]] = field(factory=list)
    dimension_texts: list[Item] = field(factory=list)
    dimension_hatches: list[Item] = field(factory=list)
    texts: list[Item] = field(factory=list)
    dimensions: list[Item] = field(factory=list)
    hatches: list[Item] = field(factory=list)
    inserts: list[Item] = field(factory=list)

    def items(self) -> Sequence[list[Item]]:
        return _items(self)

    def line(self, points: Floats, source: int, *, curved: bool) -> None:
        if len(points) < 2:
            return
        chords = np.concatenate([points[:-1], points[1:]], axis=1)
        self.add(chords, np.empty((0, 5)), source, curved=curved)

    def add(self, chords: Floats, arcs: Floats, source: int, *, curved: bool = False) -> None:
        self.parts.append(
            Linework(
                chords,
                np.full(len(chords), source),
                np.full(len(chords), curved),
                arcs,
                np.full(len(arcs), source),
            )
        )

    def ink(self) -> Linework:
        simple = Linework(
            np.array(self.segments, float).reshape(-1, 4),
            np.array(self.segment_source, np.int64),
            np.zeros(len(self.segments), bool),
            np.array(self.arcs, float).reshape(-1, 5),
            np.array(self.arc_source, np.int64),
        )
        return joined([simple, *self.parts])


def _items(one: Any) -> Sequence[Any]:
    return (
        one.dimension_texts,
        one.dimension_hatches,
        one.texts,
        one.dimensions,
        one.hatches,
        one.inserts,
    )


def flatten(geometry: Geometry) -> Flat:
    """Take all inserts of *geometry* apart, within bounds."""
    return _Flattening(geometry.blocks).all_of(geometry)


@define(eq=False)
class _Flattening:
    blocks: Mapping[str, Block]
    done: dict[str, Flat] = field(factory=dict)
    open: list[str] = field(factory=list)
    left: int = MAX_PRIMITIVES
    items_left: int = MAX_ITEMS
    warnings: dict[str, None] = field(factory=dict)

    def all_of(self, geometry: Geometry) -> Flat:
        flat = self.flat(geometry.entities, "entities")
        dimensions = flat.dimensions or [
            _dimension(d, f"dimensions[{i}]") for i, d in enumerate(geometry.dimensions)
        ]
        hatches = flat.hatches or [_hatch(h, f"hatches[{i}]") for i, h in enumerate(geometry.hatches)]
        texts = flat.texts or [
            _text(t, f"text_content[{i}]") for i, t in enumerate(geometry.text_content) if t.text.strip()
        ]
        return evolve(
            flat, dimensions=dimensions, hatches=hatches, texts=texts, warnings=tuple(self.warnings)
        )

    def flat(self, entities: Sequence[Entity], path: str) -> Flat:
        pile = _Pile()
        for position, entity in enumerate(entities):
            self._add(pile, entity, f"{path}[{position}]")
        ink = pile.ink()
        kept = np.concatenate(
            [np.isfinite(ink.segments).all(axis=1), np.isfinite(ink.arcs).all(axis=1) & (ink.arcs[:, 2] > 0)]
        )
        return Flat(
            ink=ink.part(kept & (ink.lengths > 0)),
            dimension_ink=joined(pile.dimension_parts),
            dimension_texts=pile.dimension_texts,
            dimension_hatches=pile.dimension_hatches,
            sources=pile.sources,
            texts=pile.texts,
            dimensions=pile.dimensions,
            hatches=pile.hatches,
            inserts=pile.inserts,
        )

    def _add(self, pile: _Pile, entity: Entity, path: str) -> None:
        if isinstance(entity, Line):  # first, for most are
            pile.segments.append((*entity.start[:2], *entity.end[:2]))  # type: ignore[arg-type]  # a slice has two
            pile.segment_source.append(len(pile.sources))
            pile.sources.append((entity, path))
        elif isinstance(entity, Insert):
            self._insert(pile, entity, path)
        elif isinstance(entity, Text):
            if entity.text.strip():
                pile.texts.append(_text(entity, path))
        elif isinstance(entity, Dimension):
            self._dimension(pile, entity, path)
        elif isinstance(entity, Hatch):
            pile.hatches.append(_hatch(entity, path))
        else:
            pile.sources.append((entity, path))
            _draw(pile, entity, len(pile.sources) - 1)
            if isinstance(entity, Leader) and entity.text.strip():
                place = _xy(entity.points[-1]) if entity.points else None
                pile.texts.append(Item(kind="LEADER", path=path, place=place, content=plain(entity.text)))

    def _dimension(self, pile: _Pile, entity: Dimension, path: str) -> None:
        pile.dimensions.append(_dimension(entity, path))
        block = (
            self._block(entity.block) if entity.block is not None and entity.block in self.blocks else None
        )
        if block is not None and self._room_for(block):
            pile.dimension_parts.append(block.ink)
            pile.dimension_texts.extend(evolve(text, path=path) for text in block.texts)
            pile.dimension_hatches.extend(evolve(hatch, path=path) for hatch in block.hatches)

    def _block(self, name: str) -> Flat | None:
        """Return what a block draws; None if it holds itself or is nested too deeply."""
        if name in self.open or len(self.open) >= MAX_NESTING:
            self.warnings["blocks that hold themselves, or are nested too deeply, are not compared"] = None
            return None
        if name not in self.done:
            self.open.append(name)
            self.done[name] = self.flat(self.blocks[name].entities, f"blocks.{name}.entities")
            self.open.pop()
        return self.done[name]

    def _insert(self, pile: _Pile, insert: Insert, path: str) -> None:
        pile.inserts.append(Item(kind="INSERT", path=path, place=_xy(insert.insert), content=insert.name))
        for number, one in enumerate(insert.attributes):
            if one.text.strip():
                pile.texts.append(
                    Item(
                        kind="ATTRIB",
                        path=f"{path}.attributes[{number}]",
                        place=None if one.insert is None else _xy(one.insert),
                        size=one.height,
                        content=plain(one.text),
                    )
                )
        if insert.name not in self.blocks:
            self.warnings["blocks that are inserted but not sent are not compared"] = None
            return
        block = self._block(insert.name)
        if block is None:
            return
        base = self.blocks[insert.name].base_point
        for row in range(insert.rows):
            for column in range(insert.columns):
                if not self._room_for(block):
                    return
                shift = (column * insert.column_spacing, row * insert.row_spacing)
                _put(pile, block, _pose(insert, _xy(base), shift), path)

    def _room_for(self, block: Flat) -> bool:
        self.left -= len(block.ink) + len(block.dimension_ink)
        self.items_left -= sum(map(len, block.items())) + 1
        if self.left < 0 or self.items_left < 0:
            self.warnings[
                f"the blocks make more than {MAX_PRIMITIVES:,} lines: what comes after is not compared"
            ] = None
            return False
        return True


def _pose(insert: Insert, base: tuple[float, float], shift: tuple[float, float]) -> Affine:
    scale = insert.scale if isinstance(insert.scale, tuple) else (insert.scale, insert.scale)
    turn = math.radians(insert.rotation)
    cos, sin = math.cos(turn), math.sin(turn)
    x, y = _xy(insert.insert)
    turned = Affine(cos, sin, -sin, cos, x, y)
    grown = Affine(scale[0], 0.0, 0.0, scale[1], shift[0] - scale[0] * base[0], shift[1] - scale[1] * base[1])
    return turned.after(grown)


def _put(pile: _Pile, block: Flat, pose: Affine, path: str) -> None:
    """Add what *block* draws under *pose*."""
    if pose.determinant == 0:
        return
    first = len(pile.sources)
    pile.sources.extend((entity, f"{path}.{inner}") for entity, inner in block.sources)
    ink = transformed(block.ink, pose)
    pile.parts.append(
        evolve(ink, segment_source=ink.segment_source + first, arc_source=ink.arc_source + first)
    )
    if len(block.dimension_ink):
        pile.dimension_parts.append(transformed(block.dimension_ink, pose))
    for ours, theirs in zip(pile.items(), block.items(), strict=True):
        ours.extend(_moved(item, pose, path) for item in theirs)


def _moved(item: Item, pose: Affine, path: str) -> Item:
    return evolve(
        item,
        path=f"{path}.{item.path}",
        place=None if item.place is None else pose.point(*item.place),
        size=item.size * pose.scale,
    )


def _draw(pile: _Pile, entity: Any, source: int) -> None:
    if isinstance(entity, Circle):
        pile.arcs.append((*entity.center[:2], entity.radius, 0.0, 2 * math.pi))  # type: ignore[arg-type]  # a slice has two
        pile.arc_source.append(source)
    elif isinstance(entity, Arc):
        pile.arcs.append(arc_row(entity))
        pile.arc_source.append(source)
    elif isinstance(entity, Polyline):
        pile.add(*polyline_parts(entity), source)
    elif isinstance(entity, Ellipse):
        pile.line(ellipse_points(entity), source, curved=True)
    elif isinstance(entity, Spline):
        pile.line(spline_points(entity), source, curved=spline_is_round(entity))
    elif isinstance(entity, Leader):
        pile.line(np.array([p[:2] for p in entity.points]).reshape(-1, 2), source, curved=False)


def spline_is_round(spline: Spline) -> bool:
    """Return whether *spline* is more than straight pieces."""
    return spline.degree > 1


def _xy(point: Sequence[float]) -> tuple[float, float]:
    return point[0], point[1]


def _text(text: Text, path: str) -> Item:
    return Item(
        kind=text.type,
        path=path,
        place=None if text.insert is None else _xy(text.insert),
        size=max(0.0, text.height),
        content=plain(text.text),
    )


def _dimension(dimension: Dimension, path: str) -> Item:
    place = None
    if dimension.insert is not None:
        place = _xy(dimension.insert)
    elif dimension.points:
        middle = np.mean([p[:2] for p in dimension.points], axis=0)
        place = (float(middle[0]), float(middle[1]))
    return Item(
        kind="DIMENSION",
        path=path,
        place=place,
        content=_written(dimension),
        value=dimension.value,
        angular=_is_angular(dimension.dimension_type),
    )


def _written(dimension: Dimension) -> str:
    """Return what stands in place of the value, empty if it is the value itself."""
    text = plain(dimension.text)
    if text == "<>":
        return ""
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return text
    value = dimension.value
    return "" if value is not None and abs(number - value) <= 5e-3 * max(1.0, abs(value)) else text


def _is_angular(kind: int | str | None) -> bool:
    if isinstance(kind, int):
        return kind & 7 in {2, 5}
    return kind is not None and "ang" in kind.lower()


def _hatch(hatch: Hatch, path: str) -> Item:
    points = [p[:2] for outline in hatch.paths for p in outline]
    place = None
    if points:
        middle = np.mean(points, axis=0)
        place = (float(middle[0]), float(middle[1]))
    pattern = "SOLID" if hatch.solid else (hatch.pattern or "").upper()
    return Item(kind="HATCH", path=path, place=place, content=pattern, value=hatch.area)
