"""Geometry of a made-up part, and what becomes of drawings: turned, split, taken apart, revised."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from dedup2d.geometry.model import Geometry
from dedup2d.geometry.reading import read_geometry

Data = dict[str, Any]


def read(data: Data) -> Geometry:
    return read_geometry(json.dumps(data).encode())


def plate(*, width: float = 210.0, height: float = 120.0, holes: int = 5, seed: int = 3) -> Data:
    """Return a plate with rounded corners, holes, a slot, screws as blocks, dimensions, a hatch and texts."""
    rng = random.Random(seed)
    entities: list[Data] = [
        _outline(width, height, 8.0),
        {"type": "LINE", "layer": "CENTER", "start": [width / 2, -5], "end": [width / 2, height + 5]},
        {
            "type": "ARC",
            "layer": "PART",
            "center": [30, 60],
            "radius": 17,
            "start_angle": 20,
            "end_angle": 200,
        },
        {"type": "ELLIPSE", "layer": "PART", "center": [150, 70], "major_axis": [20, 5], "ratio": 0.4},
        {
            "type": "SPLINE",
            "layer": "PART",
            "control_points": [[60, 20], [75, 45], [100, 10], [120, 40], [140, 25]],
        },
        {
            "type": "HATCH",
            "layer": "HATCH",
            "pattern": "ANSI31",
            "paths": [[[20, 90], [60, 90], [60, 110], [20, 110]]],
        },
        {"type": "TEXT", "layer": "TEXT", "text": "PLATE 4711", "insert": [10, -30], "height": 5},
        {
            "type": "MTEXT",
            "layer": "TEXT",
            "text": "ALL EDGES\\PDEBURRED",
            "insert": [120, -30],
            "height": 3.5,
        },
        _dimension(width, [0, 0], [width, 0], -15),
        _dimension(height, [0, 0], [0, height], -25),
    ]
    for number in range(holes):
        x, y = 25 + number * (width - 50) / max(1, holes - 1), 15 + 6 * rng.random()
        entities.append({"type": "CIRCLE", "layer": "PART", "center": [x, y], "radius": 3 + number % 3})
    entities += [
        {
            "type": "INSERT",
            "layer": "PART",
            "name": "SCREW",
            "insert": [x, 100],
            "rotation": turn,
            "scale": size,
        }
        for x, turn, size in ((80, 0, 1.0), (130, 30, 1.0), (180, 75, 1.5))
    ]
    return {
        "layers": {
            "PART": {"color": 7, "linetype": "CONTINUOUS"},
            "CENTER": {"color": 1, "linetype": "CENTER"},
            "TEXT": {"color": 3},
        },
        "entities": entities,
        "blocks": {"SCREW": {"base_point": [1, 0], "entities": _screw()}},
        "meta": {"drawing_number": "4711", "units": "mm"},
    }


def _outline(width: float, height: float, r: float) -> Data:
    quarter = math.tan(math.pi / 8)
    corners = [
        [r, 0, 0],
        [width - r, 0, quarter],
        [width, r, 0],
        [width, height - r, quarter],
        [width - r, height, 0],
        [r, height, quarter],
        [0, height - r, 0],
        [0, r, quarter],
    ]
    return {"type": "LWPOLYLINE", "layer": "PART", "points": corners, "closed": True}


def _screw() -> list[Data]:
    return [
        {"type": "CIRCLE", "layer": "PART", "center": [1, 0], "radius": 4},
        {"type": "LINE", "layer": "PART", "start": [-2, -0.5], "end": [4, -0.5]},
        {"type": "LINE", "layer": "PART", "start": [-2, 0.5], "end": [4, 0.5]},
    ]


def _dimension(value: float, start: list[float], end: list[float], away: float) -> Data:
    return {
        "type": "DIMENSION",
        "layer": "TEXT",
        "dimension_type": "linear",
        "value": value,
        "points": [start, end],
        "insert": [(start[0] + end[0]) / 2 + away, (start[1] + end[1]) / 2 + away],
    }


def turned(
    data: Data,
    degrees: float,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    digits: int | None = None,
) -> Data:
    """Return *data* scaled, turned and shifted, coordinates rounded to *digits*."""
    turn = math.radians(degrees)
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale

    def vector(p: list[float]) -> list[float]:
        return [rounded(cos * p[0] - sin * p[1]), rounded(sin * p[0] + cos * p[1]), *p[2:]]

    def point(p: list[float]) -> list[float]:
        return [
            rounded(cos * p[0] - sin * p[1] + shift[0]),
            rounded(sin * p[0] + cos * p[1] + shift[1]),
            *p[2:],
        ]

    def rounded(value: float) -> float:
        return value if digits is None else round(value, digits)

    changes: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("start", "end", "center", "insert"), point),
        **dict.fromkeys(("points", "control_points"), lambda points: [point(p) for p in points]),
        "paths": lambda paths: [[point(p) for p in path] for path in paths],
        "major_axis": vector,
        **dict.fromkeys(("radius", "height", "value", "scale"), lambda value: rounded(value * scale)),
        **dict.fromkeys(("start_angle", "end_angle", "rotation"), lambda angle: angle + degrees),
    }
    always = {"TEXT": {"rotation": 0}, "MTEXT": {"rotation": 0}, "INSERT": {"rotation": 0, "scale": 1.0}}
    entities = [{**always.get(entity["type"], {}), **entity} for entity in data["entities"]]
    made = [{n: changes.get(n, lambda value: value)(v) for n, v in entity.items()} for entity in entities]
    return {**data, "entities": made}


def shuffled(data: Data, seed: int = 1) -> Data:
    made = copy.deepcopy(data)
    random.Random(seed).shuffle(made["entities"])
    return made


def split(data: Data, seed: int = 1) -> Data:
    """Return *data* with lines in pieces, and circles and arcs as polylines."""
    rng = random.Random(seed)
    entities: list[Data] = []
    for entity in data["entities"]:
        if entity["type"] == "LINE":
            (x1, y1), (x2, y2) = entity["start"], entity["end"]
            at = [0.0, *sorted(rng.uniform(0.1, 0.9) for _ in range(2)), 1.0]
            points = [[x1 + (x2 - x1) * t, y1 + (y2 - y1) * t] for t in at]
            entities += [{**entity, "start": a, "end": b} for a, b in pairwise(points)]
        elif entity["type"] in {"CIRCLE", "ARC"}:
            entities.append(_as_polyline(entity))
        else:
            entities.append(entity)
    rng.shuffle(entities)
    return {**data, "entities": entities}


def _as_polyline(entity: Data) -> Data:
    start, end = entity.get("start_angle", 0.0), entity.get("end_angle", 360.0)
    steps = max(8, round((end - start) / 6))
    (x, y), r = entity["center"], entity["radius"]
    angles = [math.radians(start + (end - start) * n / steps) for n in range(steps + 1)]
    points = [[round(x + r * math.cos(a), 5), round(y + r * math.sin(a), 5)] for a in angles]
    return {"type": "LWPOLYLINE", "layer": entity["layer"], "points": points}


def exploded(data: Data) -> Data:
    """Return *data* with its inserts (of one scale) taken apart."""
    entities: list[Data] = []
    for entity in data["entities"]:
        if entity["type"] != "INSERT":
            entities.append(entity)
            continue
        block = data["blocks"][entity["name"]]
        x, y = block["base_point"]
        based = turned({"entities": block["entities"]}, 0, 1, (-x, -y))
        placed = turned(based, entity.get("rotation", 0), entity.get("scale", 1.0), tuple(entity["insert"]))
        entities += placed["entities"]
    return {**data, "entities": entities, "blocks": {}}


def revised(data: Data, kind: str, number: int = 0, **changes: Any) -> Data:
    """Return *data* with fields of its *number*-th entity of *kind* changed."""
    made = copy.deepcopy(data)
    [entity for entity in made["entities"] if entity["type"] == kind][number].update(changes)
    return made
