"""
The names under which plug-ins send what the model calls otherwise.

Where a plug-in sends both names, the model's own counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

__all__ = ["FIELD_ALIASES", "TYPE_ALIASES", "TYPE_FIELDS", "UNUSUAL_FIELDS", "renamed", "without_objects"]

TYPE_FIELDS = ("type", "dxftype", "entity_type")
"""Where an entity says what it is, first come."""

TYPE_ALIASES: Mapping[str, str] = {
    "POLYLINE": "LWPOLYLINE",
    "MULTILEADER": "LEADER",
    "MLEADER": "LEADER",
    "BLOCK_REFERENCE": "INSERT",
}

_ANY = {"centre": "center", "layer_name": "layer", "position": "insert", "location": "insert"}
_LINE = {"start_point": "start", "end_point": "end", "p1": "start", "p2": "end"}
_ROUND = {"r": "radius"}
_POINTS = {"vertices": "points", "is_closed": "closed"}
_TEXT = {"content": "text", "value": "text", "insertion_point": "insert", "char_height": "height"}

FIELD_ALIASES: Mapping[str, Mapping[str, str]] = {
    "LINE": _ANY | _LINE,
    "CIRCLE": _ANY | _ROUND,
    "ARC": _ANY | _ROUND,
    "LWPOLYLINE": _ANY | _POINTS,
    "ELLIPSE": _ANY,
    "SPLINE": _ANY | {"is_closed": "closed", "points": "fit_points"},
    "TEXT": _ANY | _TEXT,
    "MTEXT": _ANY | _TEXT,
    "DIMENSION": _ANY
    | {
        "measurement": "value",
        "actual_measurement": "value",
        "text_override": "text",
        "text_position": "insert",
        "text_midpoint": "insert",
        "dimtype": "dimension_type",
        "dim_type": "dimension_type",
        "angle": "rotation",
        "geometry": "block",
    },
    "HATCH": _ANY
    | {
        "pattern_name": "pattern",
        "pattern_scale": "scale",
        "pattern_angle": "angle",
        "solid_fill": "solid",
        "boundaries": "paths",
        "boundary_paths": "paths",
    },
    "LEADER": _ANY | _POINTS,
    "INSERT": _ANY
    | {
        "block": "name",
        "block_name": "name",
        "insertion_point": "insert",
        "attribs": "attributes",
        "column_count": "columns",
        "row_count": "rows",
    },
}

UNUSUAL_FIELDS = {
    kind: frozenset(names)
    | {"LWPOLYLINE": {"type", "flags"}, "CIRCLE": {"diameter"}}.get(kind, frozenset())
    | {
        "ELLIPSE": {"start_angle", "end_angle", "major_radius"},
        "INSERT": {"xscale", "yscale", "scale_x", "scale_y", "x_scale", "y_scale"},
        "DIMENSION": {"defpoint", "defpoint2", "defpoint3", "defpoint4", "defpoint5"},
    }.get(kind, frozenset())
    for kind, names in FIELD_ALIASES.items()
}


def renamed(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the *fields* of an entity of *kind* (a name of the model) under the model's names."""
    if UNUSUAL_FIELDS[kind].isdisjoint(fields):
        return fields
    names = FIELD_ALIASES[kind]
    ours = dict(fields)
    if not names.keys().isdisjoint(fields):
        for name in names.keys() & fields.keys():
            del ours[name]
        for name, value in fields.items():
            if name in names:
                ours.setdefault(names[name], value)
    other_ways = _OTHER_WAYS.get(kind)
    if other_ways is not None:
        other_ways(ours)
    return ours


def _of_circle(fields: dict[str, Any]) -> None:
    diameter = fields.get("diameter")
    if _is_number(diameter):
        fields.setdefault("radius", diameter / 2)


def _of_ellipse(fields: dict[str, Any]) -> None:
    for angle, parameter in (("start_angle", "start_param"), ("end_angle", "end_param")):
        if _is_number(fields.get(angle)):
            fields.setdefault(parameter, math.radians(fields[angle]))
    major, minor = fields.get("major_radius"), fields.get("minor_radius")
    if _is_number(major) and "major_axis" not in fields:
        turn = math.radians(fields["rotation"]) if _is_number(fields.get("rotation")) else 0.0
        fields["major_axis"] = (major * math.cos(turn), major * math.sin(turn))
        if _is_number(minor) and major > 0:
            fields.setdefault("ratio", minor / major)


def _of_insert(fields: dict[str, Any]) -> None:
    for x, y in (("xscale", "yscale"), ("scale_x", "scale_y"), ("x_scale", "y_scale")):
        if x in fields or y in fields:
            fields.setdefault("scale", (fields.get(x, 1.0), fields.get(y, 1.0)))


def _of_dimension(fields: dict[str, Any]) -> None:
    names = ("defpoint", "defpoint2", "defpoint3", "defpoint4", "defpoint5")
    points = [fields[name] for name in names if name in fields and fields[name] is not None]
    if points:
        fields.setdefault("points", points)


def _of_polyline(fields: dict[str, Any]) -> None:
    """Drop z of an old-style POLYLINE, whose third number is no bulge, and read its flags."""
    if isinstance(fields.get("flags"), int):
        fields.setdefault("closed", bool(fields["flags"] & 1))
    if str(fields.get("type")).upper() == "POLYLINE" and isinstance(fields.get("points"), list):
        fields["points"] = [_without_z(point) for point in fields["points"]]


def _without_z(point: Any) -> Any:
    if isinstance(point, dict):
        return {name: number for name, number in point.items() if name != "z"}
    return point[:2] if isinstance(point, list) and len(point) == 3 else point


_OTHER_WAYS: Mapping[str, Callable[[dict[str, Any]], None]] = {
    "CIRCLE": _of_circle,
    "ELLIPSE": _of_ellipse,
    "INSERT": _of_insert,
    "DIMENSION": _of_dimension,
    "LWPOLYLINE": _of_polyline,
}


_NESTED = (dict, list)


def without_objects(value: Any) -> Any:
    """
    Return *value* with points written as objects (`{"x": 1, "y": 2}`, also with `z` or `bulge`) as lists.

    Fields that are null count as not sent. Changes *value*, which must not be nested deeply, or makes it new.
    """
    if isinstance(value, dict):
        if "x" in value and "y" in value:
            third = value.get("bulge", value.get("z"))
            return [value["x"], value["y"]] if third is None else [value["x"], value["y"], third]
        for name, item in value.items():
            if isinstance(item, _NESTED):
                value[name] = without_objects(item)  # a key that is there: copies took most of the time
        if None in value.values():
            return {name: item for name, item in value.items() if item is not None}
        return value
    if isinstance(value, list):
        return [without_objects(item) if isinstance(item, _NESTED) else item for item in value]
    return value


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
