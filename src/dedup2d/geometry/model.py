"""
The types of the v2 geometry JSON.

Coordinates are those of the drawing's model space seen from above, in drawing units; z is ignored. Angles are
degrees counter-clockwise unless a field says otherwise. A field that the JSON may leave out has a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from attrs import Factory, field, frozen

from dedup2d.errors import MissingExtraError

try:
    from msgspec import Meta
except ImportError:
    raise MissingExtraError("engine", "geometry of drawings") from None

__all__ = [
    "ENTITY_TYPES",
    "MAX_NUMBER",
    "Arc",
    "Attribute",
    "Block",
    "Circle",
    "Dimension",
    "Ellipse",
    "Entity",
    "Geometry",
    "Hatch",
    "Insert",
    "Layer",
    "Leader",
    "Line",
    "Point",
    "Polyline",
    "Spline",
    "Text",
]

MAX_NUMBER = 1e12
"""Largest coordinate, radius or value, either way; beyond it double precision makes no sense."""

Number: TypeAlias = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Size: TypeAlias = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]
Name: TypeAlias = Annotated[str, Meta(max_length=1_000)]
Words: TypeAlias = Annotated[str, Meta(max_length=32_768)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=32_767)]
Point: TypeAlias = Annotated[tuple[Number, ...], Meta(min_length=2, max_length=3)]
"""x, y and perhaps z."""
Vertex: TypeAlias = Annotated[tuple[Number, ...], Meta(min_length=2, max_length=5)]
"""x, y and perhaps the bulge; or x, y, start width, end width and perhaps the bulge, as ezdxf gives them."""


@frozen(kw_only=True)
class Line:
    """A straight line."""

    type: Literal["LINE"] = "LINE"
    layer: Name = "0"
    start: Point
    end: Point


@frozen(kw_only=True)
class Circle:
    """A full circle."""

    type: Literal["CIRCLE"] = "CIRCLE"
    layer: Name = "0"
    center: Point
    radius: Size


@frozen(kw_only=True)
class Arc:
    """A part of a circle, counter-clockwise from `start_angle` to `end_angle`."""

    type: Literal["ARC"] = "ARC"
    layer: Name = "0"
    center: Point
    radius: Size
    start_angle: Number
    end_angle: Number


@frozen(kw_only=True)
class Polyline:
    """Lines and arcs in a row; `bulges`, one for each vertex, stand for those in `points`."""

    type: Literal["LWPOLYLINE"] = "LWPOLYLINE"
    layer: Name = "0"
    points: tuple[Vertex, ...]
    bulges: tuple[Number, ...] = ()
    closed: bool = False


@frozen(kw_only=True)
class Ellipse:
    """
    An ellipse or a part of it.

    `major_axis` goes from the centre to the end of the longer axis, `ratio` is of the shorter to the longer.
    The parameters are radians, as in DXF: 0 to 2 pi is all of it.
    """

    type: Literal["ELLIPSE"] = "ELLIPSE"
    layer: Name = "0"
    center: Point
    major_axis: Point
    ratio: Number = 1.0
    start_param: Number = 0.0
    end_param: Number = 6.283185307179586


@frozen(kw_only=True)
class Spline:
    """A B-spline by control points, or a curve through `fit_points` where there are none."""

    type: Literal["SPLINE"] = "SPLINE"
    layer: Name = "0"
    degree: Annotated[int, Meta(ge=1, le=25)] = 3
    control_points: tuple[Point, ...] = ()
    fit_points: tuple[Point, ...] = ()
    knots: tuple[Number, ...] = ()
    weights: tuple[Number, ...] = ()
    closed: bool = False


@frozen(kw_only=True)
class Text:
    """A text; one of `text_content` may have no place."""

    type: Literal["TEXT", "MTEXT"] = "TEXT"
    layer: Name = "0"
    text: Words
    insert: Point | None = None
    height: Number = 0.0
    rotation: Number = 0.0


@frozen(kw_only=True)
class Dimension:
    """
    A dimension.

    Args:
        value: the measured length (drawing units) or angle (degrees).
        text: what is written instead of the value; `<>` in it stands for the value, empty for nothing else.
        insert: the place of its text.
        points: its definition points.
        block: name of the block in `blocks` that draws it (`*D12`), whose lines are then known as its own.
    """

    type: Literal["DIMENSION"] = "DIMENSION"
    layer: Name = "0"
    dimension_type: int | Name | None = None
    value: Number | None = None
    text: Words = ""
    insert: Point | None = None
    points: tuple[Point, ...] = ()
    rotation: Number = 0.0
    block: Name | None = None


@frozen(kw_only=True)
class Hatch:
    """A hatched or filled area; `paths` are its outlines."""

    type: Literal["HATCH"] = "HATCH"
    layer: Name = "0"
    pattern: Name = ""
    solid: bool = False
    scale: Number = 1.0
    angle: Number = 0.0
    paths: tuple[tuple[Vertex, ...], ...] = ()
    area: Number | None = None


@frozen(kw_only=True)
class Leader:
    """A line that points at something, arrow first, with the text at its end if it has one."""

    type: Literal["LEADER"] = "LEADER"
    layer: Name = "0"
    points: tuple[Point, ...]
    text: Words = ""


@frozen(kw_only=True)
class Attribute:
    """A text of an insert."""

    tag: Name = ""
    text: Words
    insert: Point | None = None
    height: Number = 0.0
    rotation: Number = 0.0


@frozen(kw_only=True)
class Insert:
    """A block `name` scaled (one number, or one for each axis; negative mirrors), turned, put at `insert`."""

    type: Literal["INSERT"] = "INSERT"
    layer: Name = "0"
    name: Name
    insert: Point
    scale: Number | Annotated[tuple[Number, ...], Meta(min_length=2, max_length=3)] = 1.0
    rotation: Number = 0.0
    columns: Count = 1
    rows: Count = 1
    column_spacing: Number = 0.0
    row_spacing: Number = 0.0
    attributes: tuple[Attribute, ...] = ()


Entity: TypeAlias = (
    Line | Circle | Arc | Polyline | Ellipse | Spline | Text | Dimension | Hatch | Leader | Insert
)

ENTITY_TYPES: Mapping[str, type[Entity]] = {
    "LINE": Line,
    "CIRCLE": Circle,
    "ARC": Arc,
    "LWPOLYLINE": Polyline,
    "ELLIPSE": Ellipse,
    "SPLINE": Spline,
    "TEXT": Text,
    "MTEXT": Text,
    "DIMENSION": Dimension,
    "HATCH": Hatch,
    "LEADER": Leader,
    "INSERT": Insert,
}


@frozen(kw_only=True)
class Layer:
    """How a layer looks."""

    color: int | Name | None = None
    linetype: Name | None = None


@frozen(kw_only=True)
class Block:
    """A block: its entities lie around `base_point`, which is what an insert puts in place."""

    base_point: Point = (0.0, 0.0)
    entities: tuple[Entity, ...] = ()


@frozen(kw_only=True)
class Geometry:
    """
    A drawing's geometry.

    Dimensions, hatches and texts may stand among the `entities`, in the section of their own, or in both: the
    entities count where they have any.

    Args:
        meta: whatever the plug-in tells of the drawing; `drawing_number` (text) and `units` (`mm`, `inch`,
            ..., or the number of DXF's INSUNITS) mean something here.
        statistics: whatever the plug-in counted; not compared.
        warnings: what reading left out, each a sentence for the user; not part of the JSON.
    """

    layers: Mapping[str, Layer] = Factory(dict)
    entities: tuple[Entity, ...] = ()
    blocks: Mapping[str, Block] = Factory(dict)
    dimensions: tuple[Dimension, ...] = ()
    hatches: tuple[Hatch, ...] = ()
    text_content: tuple[Text, ...] = ()
    meta: Mapping[str, Any] = Factory(dict)
    statistics: Mapping[str, Any] = Factory(dict)
    warnings: tuple[str, ...] = field(default=(), eq=False)

    @property
    def drawing_number(self) -> str | None:
        """The drawing's number, None if it is not told."""
        number = self.meta.get("drawing_number")
        return None if number is None or not str(number).strip() else str(number).strip()

    @property
    def unit_mm(self) -> float | None:
        """Millimetres of one drawing unit, None if the unit is not told."""
        unit = self.meta.get("units", self.meta.get("unit"))
        return _UNIT_MM.get(unit.strip().lower() if isinstance(unit, str) else unit)


_UNIT_MM: Mapping[Any, float] = {
    1: 25.4,
    2: 304.8,
    4: 1.0,
    5: 10.0,
    6: 1000.0,
    10: 914.4,
    14: 100.0,
    "1": 25.4,
    "2": 304.8,
    "4": 1.0,
    "5": 10.0,
    "6": 1000.0,
    "in": 25.4,
    "inch": 25.4,
    "inches": 25.4,
    '"': 25.4,
    "ft": 304.8,
    "foot": 304.8,
    "feet": 304.8,
    "mm": 1.0,
    "millimeter": 1.0,
    "millimeters": 1.0,
    "millimetre": 1.0,
    "millimetres": 1.0,
    "cm": 10.0,
    "centimeters": 10.0,
    "centimetres": 10.0,
    "dm": 100.0,
    "m": 1000.0,
    "meters": 1000.0,
    "metres": 1000.0,
    "yd": 914.4,
    "yards": 914.4,
}
