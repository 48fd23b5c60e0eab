"""
One ezdxf entity as one entity of the v2 geometry JSON.

Coordinates are of the plane of drawing (world x and y), in drawing units; angles in degrees,
counter-clockwise. Entities that CAD keeps in a mirrored plane are turned over, so that what looks the same is
written the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from ezdxf import path as ezpath
from ezdxf.entities.boundary_paths import PolylinePath
from ezdxf.entities.dxfgfx import DXFGraphic
from ezdxf.math import OCS, Vec3, area
from ezdxf.tools.text import plain_mtext

__all__ = ["CONVERTERS", "Json", "attributes_of", "name_of", "number", "text_of"]

Json = dict[str, Any]

Loop: TypeAlias = Sequence[tuple[float, float]]

_LONGEST_TEXT = 8000
_LONGEST_NAME = 1000
_NO_TEXT = re.compile("[\ud800-\udfff]")
_DECIMALS = 6
_MOST_LOOPS = 200
_MOST_CORNERS = 500
_FLAT = 1 / 400
_DIMENSIONS = {
    0: "linear",
    1: "aligned",
    2: "angular",
    3: "diameter",
    4: "radius",
    5: "angular",
    6: "ordinate",
    8: "arc_length",
}
_POINTS = ("defpoint", "defpoint2", "defpoint3", "defpoint4", "defpoint5")
_SPLINE_FRAME = 16


def number(value: Any) -> float:
    """
    Return *value* as a number of JSON, rounded to 6 decimals.

    Raises:
        ValueError: it is infinite, or not a number.
    """
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{found} is not a coordinate")
    return round(found, _DECIMALS) + 0.0  # never -0.0


def name_of(value: Any) -> str:
    """Return a name with a mark instead of each byte that is no text in the file's encoding."""
    return _NO_TEXT.sub("\ufffd", str(value))[:_LONGEST_NAME]


def text_of(value: Any) -> str:
    """Return a text with lines that end alike, and no longer than may be; else as `name_of`."""
    return _NO_TEXT.sub("\ufffd", "\n".join(str(value).splitlines()).strip()[:_LONGEST_TEXT])


def _plain(mtext: str) -> str:
    """Return a text without the codes for fonts and colours."""
    return str(plain_mtext(mtext))


def _point(point: Any) -> list[float]:
    return [number(point[0]), number(point[1])]


def _points(points: Iterable[Any]) -> list[list[float]]:
    return [_point(point) for point in points]


def _flipped(entity: Any) -> bool:
    return bool(Vec3(entity.dxf.get("extrusion", (0, 0, 1))).z < 0)


def _placed(entity: Any, point: Any) -> list[float]:
    """Return a point that the entity keeps in the coordinates of its own plane."""
    extrusion = Vec3(entity.dxf.get("extrusion", (0, 0, 1)))
    return _point(OCS(extrusion).to_wcs(Vec3(point)))


def _angle(degrees: float) -> float:
    found = number(degrees % 360.0)
    return 0.0 if found == 360.0 else found


def _line(line: Any) -> Json:
    return {"start": _point(line.dxf.start), "end": _point(line.dxf.end)}


def _circle(circle: Any) -> Json:
    return {"center": _placed(circle, circle.dxf.center), "radius": number(abs(circle.dxf.radius))}


def _arc(arc: Any) -> Json:
    start, end = arc.dxf.start_angle, arc.dxf.end_angle
    if _flipped(arc):
        start, end = 180.0 - end, 180.0 - start
    return {**_circle(arc), "start_angle": _angle(start), "end_angle": _angle(end)}


def _ellipse(ellipse: Any) -> Json:
    start, end = ellipse.dxf.start_param, ellipse.dxf.end_param
    if _flipped(ellipse):
        start, end = -end, -start
    whole = math.isclose(abs(end - start), math.tau, abs_tol=1e-9)
    return {
        "center": _point(ellipse.dxf.center),
        "major_axis": _point(ellipse.dxf.major_axis),
        "ratio": number(ellipse.dxf.ratio),
        "start_param": 0.0 if whole else number(start % math.tau),
        "end_param": number(math.tau) if whole else number(end % math.tau),
    }


def _lwpolyline(polyline: Any) -> Json:
    return _bulged(polyline, ((x, y, bulge) for x, y, bulge in polyline.get_points("xyb")))


def _polyline(polyline: Any) -> Json:
    """Give polylines of old files as new ones; meshes are no line work."""
    vertices = [vertex for vertex in polyline.vertices if not vertex.dxf.flags & _SPLINE_FRAME]
    if polyline.is_2d_polyline:
        return _bulged(polyline, ((*vertex.dxf.location.vec2, vertex.dxf.bulge) for vertex in vertices))
    if polyline.is_3d_polyline:
        points = _points(vertex.dxf.location for vertex in vertices)
        return {"points": points, "closed": bool(polyline.is_closed)}
    raise NotImplementedError("a mesh")


def _bulged(polyline: Any, vertices: Iterable[tuple[float, float, float]]) -> Json:
    points, bulges = [], []
    turn = -1.0 if _flipped(polyline) else 1.0
    for x, y, bulge in vertices:
        points.append(_placed(polyline, (x, y)))
        bulges.append(number(turn * bulge))
    found: Json = {"points": points, "closed": bool(polyline.is_closed)}
    return {**found, "bulges": bulges} if any(bulges) else found


def _solid(solid: Any) -> Json:
    """Give a filled triangle or quadrangle, such as the head of an arrow, as what it looks like."""
    corners = _points(solid.wcs_vertices())
    size = area([(x, y) for x, y in corners])
    return {"pattern": "SOLID", "solid": True, "paths": [corners], "area": number(size)}


def _face(face: Any) -> Json:
    return {"points": _points(face.wcs_vertices()), "closed": True}


def _spline(spline: Any) -> Json:
    found: Json = {"degree": int(spline.dxf.degree), "closed": bool(spline.closed)}
    for name in ("control_points", "fit_points"):
        if len(getattr(spline, name)):
            found[name] = _points(getattr(spline, name))
    for name in ("knots", "weights"):
        if len(getattr(spline, name)):
            found[name] = [number(value) for value in getattr(spline, name)]
    return found


def _text(text: Any) -> Json:
    _, place, second = text.get_placement()
    if second is not None and text.dxf.get("halign", 0) not in {3, 5}:
        place = second
    rotation = text.dxf.get("rotation", 0.0)
    return {
        "text": text_of(text.plain_text()),
        "insert": _placed(text, place),
        "height": number(text.dxf.get("height", 0.0)),
        "rotation": _angle(180.0 - rotation if _flipped(text) else rotation),
    }


def _mtext(mtext: Any) -> Json:
    return {
        "text": text_of(_plain(mtext.text)),
        "insert": _point(mtext.dxf.insert),
        "height": number(mtext.dxf.get("char_height", 0.0)),
        "rotation": _angle(mtext.get_rotation()),
    }


def _tolerance(tolerance: Any) -> Json:
    return {
        "text": text_of(_plain(tolerance.dxf.get("content", ""))),
        "insert": _point(tolerance.dxf.insert),
        "height": 0.0,
        "rotation": _angle(Vec3(tolerance.dxf.get("x_axis_vector", (1, 0, 0))).angle_deg),
    }


def _dimension(dimension: Any) -> Json:
    kind = 8 if dimension.dxftype() == "ARC_DIMENSION" else dimension.dimtype
    measured = _measured(dimension)
    override = text_of(_plain(str(dimension.dxf.get("text", ""))))
    found: Json = {
        "dimension_type": _DIMENSIONS.get(kind, "linear"),
        "points": _points(dimension.dxf.get(name) for name in _POINTS if dimension.dxf.hasattr(name)),
    }
    if measured is not None:
        found["value"] = measured
    if override and override != "<>":
        found["text"] = override
    if dimension.dxf.hasattr("text_midpoint"):
        found["insert"] = _placed(dimension, dimension.dxf.text_midpoint)
    if kind == 0:
        found["rotation"] = _angle(dimension.dxf.get("angle", 0.0))
    return found


def _measured(dimension: Any) -> float | None:
    # What the program measured is what it writes; ezdxf does not turn the axis of a turned one.
    told = dimension.dxf.get("actual_measurement")
    if told and dimension.dxf.dimtype & 7 in {0, 1, 3, 4}:
        return number(told)
    try:
        measured = dimension.get_measurement()
    except (TypeError, ValueError, ZeroDivisionError):
        measured = dimension.dxf.get("actual_measurement")
    if isinstance(measured, Vec3):  # of an ordinate dimension, whose flag says which of the two is meant
        measured = measured.x if dimension.dxf.dimtype & 64 else measured.y
    return None if measured is None else number(measured)


def _hatch(hatch: Any) -> Json:
    loops = [loop for loop in _loops(hatch) if len(loop) > 2]
    found: Json = {
        "pattern": name_of(hatch.dxf.get("pattern_name", "")),
        "solid": bool(hatch.dxf.get("solid_fill", 0)),
        "area": number(_enclosed(loops)),
        "paths": _outlines(hatch, loops),
    }
    if not found["solid"]:
        found["angle"] = _angle(hatch.dxf.get("pattern_angle", 0.0))
        found["scale"] = number(hatch.dxf.get("pattern_scale", 1.0))
    return found


def _loops(hatch: Any) -> list[Loop]:
    found: list[Loop] = []
    for outline in ezpath.from_hatch(hatch):
        corners = outline.control_vertices()
        size = max((corners[0].distance(corner) for corner in corners), default=0.0)
        flat = outline.flattening(max(_FLAT * size, 1e-9), segments=4)
        found.append([(point.x, point.y) for point in flat])
    return found


def _outlines(hatch: Any, loops: Sequence[Loop]) -> list[Any]:
    """Give the outlines as kept, flattened where they have other curves than arcs; a box if they are long."""
    kept = hatch.paths.paths
    if all(isinstance(path, PolylinePath) for path in kept):
        if sum(len(path.vertices) for path in kept) <= _MOST_CORNERS:
            turn = -1.0 if _flipped(hatch) else 1.0
            return [
                [
                    [*_placed(hatch, (x, y)), number(turn * bulge)] if bulge else _placed(hatch, (x, y))
                    for x, y, bulge in path.vertices
                ]
                for path in kept
            ]
    elif sum(map(len, loops)) <= _MOST_CORNERS:
        return [_points(loop) for loop in loops]
    left, bottom, right, top = _box([point for loop in loops for point in loop])
    return [_points([(left, bottom), (right, bottom), (right, top), (left, top)])]


def _box(points: Loop) -> tuple[float, float, float, float]:
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _enclosed(loops: Sequence[Loop]) -> float:
    """Return the area between the loops: those inside an odd number of others are holes."""
    boxes = [_box(loop) for loop in loops]
    around = boxes if len(boxes) <= _MOST_LOOPS else []  # thousands are dots, each beside the others
    total = 0.0
    for index, loop in enumerate(loops):
        depth = sum(_holds(other, boxes[index]) for other in around)
        total += -area(loop) if depth % 2 else area(loop)
    return max(total, 0.0)


def _holds(outer: tuple[float, ...], inner: tuple[float, ...]) -> bool:
    left, bottom, right, top = outer
    holds = left <= inner[0] and bottom <= inner[1] and inner[2] <= right and inner[3] <= top
    return holds and outer != inner


def _leader(leader: Any) -> Json:
    return {"points": _points(leader.vertices)}


def _multileader(leader: Any) -> list[Json]:
    """Give each of its lines as a leader, the first with the text."""
    lines = [
        _points([*line.vertices, branch.last_leader_point])
        for branch in leader.context.leaders
        for line in branch.lines
    ]
    words = text_of(_plain(leader.get_mtext_content()))
    if words and not lines:
        lines = [_points([leader.context.mtext.insert])]
    found: list[Json] = [{"points": points} for points in lines]
    if words:
        found[0]["text"] = words
    return found


def _insert(insert: Any) -> Json:
    turn, block = -1.0 if _flipped(insert) else 1.0, insert.block()
    found: Json = {
        "name": insert.dxf.name if block is None else block.name,
        "insert": _placed(insert, insert.dxf.insert),
        "rotation": _angle(turn * insert.dxf.get("rotation", 0.0)),
        "scale": [number(turn * insert.dxf.get("xscale", 1.0)), number(insert.dxf.get("yscale", 1.0))],
    }
    if insert.mcount > 1:
        found["columns"], found["rows"] = int(insert.dxf.column_count), int(insert.dxf.row_count)
        found["column_spacing"] = number(turn * insert.dxf.get("column_spacing", 0.0))
        found["row_spacing"] = number(insert.dxf.get("row_spacing", 0.0))
    attributes = [_attribute(attribute) for attribute in insert.attribs]
    return {**found, "attributes": attributes} if attributes else found


def _attribute(attribute: Any) -> Json:
    return {"tag": name_of(attribute.dxf.get("tag", "")), **_text_of_attribute(attribute)}


def _text_of_attribute(attribute: Any) -> Json:
    if not attribute.has_embedded_mtext_entity:
        return _text(attribute)
    return {**_text(attribute), "text": text_of(attribute.plain_mtext())}


def attributes_of(insert: Any) -> Iterable[tuple[str, str]]:
    """Give tag and text of each attribute of a block reference."""
    for attribute in insert.attribs:
        found = _attribute(attribute)
        yield found["tag"], found["text"]


def _table(table: Any) -> Json:
    """Give a table as the block in which CAD keeps its picture."""
    return {"name": table.get_block_name(), "insert": _point(table.get_insert_location())}


CONVERTERS: Mapping[str, tuple[str, Callable[[DXFGraphic], Json | list[Json]]]] = {
    "LINE": ("LINE", _line),
    "CIRCLE": ("CIRCLE", _circle),
    "ARC": ("ARC", _arc),
    "ELLIPSE": ("ELLIPSE", _ellipse),
    "LWPOLYLINE": ("LWPOLYLINE", _lwpolyline),
    "POLYLINE": ("LWPOLYLINE", _polyline),
    "3DFACE": ("LWPOLYLINE", _face),
    "SOLID": ("HATCH", _solid),
    "TRACE": ("HATCH", _solid),
    "SPLINE": ("SPLINE", _spline),
    "TEXT": ("TEXT", _text),
    "MTEXT": ("MTEXT", _mtext),
    "TOLERANCE": ("TEXT", _tolerance),
    "DIMENSION": ("DIMENSION", _dimension),
    "ARC_DIMENSION": ("DIMENSION", _dimension),
    "LARGE_RADIAL_DIMENSION": ("DIMENSION", _dimension),
    "HATCH": ("HATCH", _hatch),
    "MPOLYGON": ("HATCH", _hatch),
    "LEADER": ("LEADER", _leader),
    "MULTILEADER": ("LEADER", _multileader),
    "MLEADER": ("LEADER", _multileader),
    "INSERT": ("INSERT", _insert),
    "ACAD_TABLE": ("INSERT", _table),
}
"""By type of DXF: the type in the JSON, and what makes the entity's own fields."""
