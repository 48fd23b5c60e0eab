"""Small geometries for tests of what searches make of them."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["FLANGE", "geometry", "plate"]


def geometry(*entities: dict[str, Any], **sections: Any) -> bytes:
    """Return geometry JSON with these entities."""
    return json.dumps({"entities": entities, **sections}).encode()


def plate(
    *,
    hole: tuple[float, float] = (20.0, 25.0),
    radius: float = 5.0,
    width: float = 100.0,
    number: str | None = None,
    turned: bool = False,
) -> bytes:
    """Return the geometry of a plate with two holes; *turned*: by 90 degrees, in another order, in inches."""

    def at(x: float, y: float) -> list[float]:
        return [-y / 25.4, x / 25.4] if turned else [x, y]

    corners = [(0.0, 0.0), (width, 0.0), (width, 50.0), (0.0, 50.0)]
    lines = [
        {"type": "LINE", "layer": "part", "start": at(*a), "end": at(*b)}
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True)
    ]
    size = 1 / 25.4 if turned else 1.0
    circles = [
        {"type": "CIRCLE", "layer": "part", "center": at(*hole), "radius": radius * size},
        {"type": "CIRCLE", "layer": "part", "center": at(80.0, 25.0), "radius": 5.0 * size},
    ]
    entities = [*lines, *circles]
    meta: dict[str, Any] = {"units": "inch" if turned else "mm"}
    if number is not None:
        meta["drawing_number"] = number
    return geometry(*(reversed(entities) if turned else entities), meta=meta)


FLANGE = geometry(
    *({"type": "CIRCLE", "center": [0, 0], "radius": radius} for radius in (10, 30, 50, 61.5)),
    *(
        {"type": "CIRCLE", "center": [40 * x, 40 * y], "radius": 4.5}
        for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))
    ),
    {"type": "ARC", "center": [0, 0], "radius": 55, "start_angle": 20, "end_angle": 160},
    {"type": "LINE", "start": [-70, 0], "end": [70, 0]},
)
"""Something else altogether."""
