"""Turned parts: flange, stepped shaft, spur gear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dedup2d.samples.layout import View
from dedup2d.samples.pen import Pen, Vertex

__all__ = ["flange", "gear", "shaft"]

Params = Mapping[str, float]


def _on_circle(radius: float, degrees: float) -> tuple[float, float]:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


def _mirrored_down(points: Sequence[Vertex]) -> list[Vertex]:
    return [(point[0], -point[1]) for point in points]


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def flange(p: Params) -> list[View]:
    """Return the views of a hub flange: bolt circle from the front, full section."""
    outer, length = p["outer"] / 2, p["thick"] + p["hub_length"]
    return [
        View(column=0, row=0, box=(-outer, -outer, outer, outer), draw=lambda pen: _flange_front(pen, p)),
        View(
            column=1,
            row=0,
            box=(0, -outer, length, outer),
            draw=lambda pen: _flange_section(pen, p),
            pad=(18, 20, 34, 28),
        ),
    ]


def _flange_front(pen: Pen, p: Params) -> None:
    outer, pitch, count = p["outer"] / 2, p["pitch"] / 2, int(p["holes"])
    pen.circle(0, 0, outer)
    pen.circle(0, 0, p["hub"] / 2)
    pen.circle(0, 0, p["bore"] / 2)
    pen.circle(0, 0, pitch, "CENTRE")
    pen.cross(0, 0, outer)
    for index in range(count):
        angle = 90 + 360 * (index + 0.5) / count + (p["shift"] if index == 0 else 0)
        x, y = _on_circle(pitch, angle)
        pen.circle(x, y, p["hole"] / 2)
        inner, far = _on_circle(pitch - p["hole"] * 0.9, angle), _on_circle(pitch + p["hole"] * 0.9, angle)
        pen.line(*inner, *far, "CENTRE")
    if p["extra"]:
        x, y = _on_circle(pitch, 90 + 360 / count * 2)
        pen.hole(x, y, p["hole"] * 0.3)
        pen.note(x, y, f"Ø{_number(p['hole'] * 0.6)} H7", -14, outer * pen.scale * 0.5 + 8)
    if p["chamfer"]:
        pen.circle(0, 0, outer - p["chamfer"])
    x, y = _on_circle(pitch, 90 - 180 / count)
    pen.note(x, y, f"{count}x Ø{_number(p['hole'])}", 12, (outer - y) * pen.scale + 7)
    x, y = _on_circle(pitch, -45)
    pen.note(x, y, f"Ø{_number(p['pitch'])} ±0.1", 10, -(outer + y) * pen.scale - 6)
    _cutting_plane(pen, outer)


def _cutting_plane(pen: Pen, reach: float) -> None:
    paper = pen.paper
    for sign in (-1, 1):
        x, y = pen.at(0, sign * reach)
        y += sign * 6
        paper.line(x, y, x, y + sign * 5, "VISIBLE")
        paper.line(x, y + sign * 5, x - 6, y + sign * 5, "THIN")
        paper.text(x - 4, y + sign * 8, "A", 3.5, "centre")


def _flange_section(pen: Pen, p: Params) -> None:
    outer, thick, length = p["outer"] / 2, p["thick"], p["thick"] + p["hub_length"]
    bore, hub, cut = p["bore"] / 2, p["hub"] / 2, p["chamfer"]
    low, high = p["pitch"] / 2 - p["hole"] / 2, p["pitch"] / 2 + p["hole"] / 2
    inner: list[Vertex] = [(0, bore), (length, bore), (length, hub), (thick, hub), (thick, low), (0, low)]
    rim: list[Vertex] = [(0, high), (thick, high), (thick, outer), (cut, outer), (0, outer - cut)]
    for points in (inner, rim):
        for half in (points, _mirrored_down(points)):
            pen.path(half)
            pen.hatch(half)
    for sign in (1, -1):
        pen.line(0, sign * low, 0, sign * high)
        pen.line(thick, sign * low, thick, sign * high)
        pen.axis(0, sign * p["pitch"] / 2, thick, sign * p["pitch"] / 2)
    for x in (0.0, length):
        pen.line(x, -bore, x, bore)
    pen.axis(0, 0, length, 0)
    pen.across(0, thick, outer, 10)
    pen.across(0, length, -outer, -12)
    pen.upright(-hub, hub, length, 8, "Ø<>")
    pen.upright(-bore, bore, 0, -10, "Ø<> H7")
    pen.upright(-outer, outer, length, 22, "Ø<>")
    x, y = pen.at(length / 2, outer)
    pen.paper.text(x, y + 22, "A - A", 3.5, "centre")


def shaft(p: Params) -> list[View]:
    """Return the views of a stepped shaft: from the side with a keyway, its section, the end."""
    total, largest = _steps(p)[-1][1], max(p["d1"], p["d2"], p["d3"], p["d4"]) / 2
    middle = p["d3"] / 2
    return [
        View(
            column=0,
            row=1,
            box=(0, -largest, total, largest),
            draw=lambda pen: _shaft_side(pen, p),
            pad=(14, 36, 14, 26),
        ),
        View(
            column=0,
            row=0,
            box=(-middle, -middle, middle, middle),
            draw=lambda pen: _shaft_key(pen, p),
            pad=(24, 12, 20, 14),
        ),
        View(
            column=1,
            row=1,
            box=(-largest, -largest, largest, largest),
            draw=lambda pen: _shaft_end(pen, p),
            pad=(8, 8, 8, 8),
        ),
    ]


def _steps(p: Params) -> list[tuple[float, float, float]]:
    """Give (start, end, diameter) of each step."""
    steps, x = [], 0.0
    for index in range(1, 5):
        steps.append((x, x + p[f"l{index}"], p[f"d{index}"]))
        x = steps[-1][1]
    return steps


def _shaft_side(pen: Pen, p: Params) -> None:
    steps = _steps(p)
    total, cut = steps[-1][1], max(1.0, p["chamfer"])
    largest = max(step[2] for step in steps) / 2
    pen.axis(0, 0, total, 0)
    for index, (start, end, diameter) in enumerate(steps):
        radius = diameter / 2
        left = start + (cut if index == 0 else 0)
        right = end - (cut if index == len(steps) - 1 else 0)
        for sign in (1, -1):
            pen.line(left, sign * radius, right, sign * radius)
        for x in {left, right}:
            pen.line(x, -radius, x, radius)
        if left > start:
            pen.path([(left, radius), (start, radius - cut), (start, cut - radius), (left, -radius)])
        if right < end:
            pen.path([(right, radius), (end, radius - cut), (end, cut - radius), (right, -radius)])
    for index, (start, end, diameter) in enumerate(steps):
        pen.across(start, end, -largest, -18)
        x = start + (end - start) * (0.3 if index % 2 else 0.6)
        fit = ("k6", "h7", "m6", "h11")[index]
        pen.note(
            x,
            diameter / 2,
            f"Ø{_number(diameter)} {fit}",
            4,
            (largest - diameter / 2) * pen.scale + 6 + 7 * (index % 2),
        )
    pen.across(0, total, -largest, -27)
    start, end, _ = steps[2]
    key = p["key_length"]
    left = (start + end - key) / 2 + p["shift"]
    half = p["key"] / 2
    right = left + key
    pen.path([(left + half, -half), (right - half, -half, 1), (right - half, half), (left + half, half, 1)])
    pen.across(left, right, -largest, -9)
    if p["extra"]:
        start, end, _ = steps[1]
        pen.hole((start + end) / 2, 0, p["d2"] * 0.14)


def _shaft_key(pen: Pen, p: Params) -> None:
    radius, half, depth = p["d3"] / 2, p["key"] / 2, p["d3"] / 2 - p["key"] * 0.6
    bulge_angle = 2 * math.pi - 2 * math.asin(half / radius)
    shoulder = math.sqrt(radius**2 - half**2)
    outline: list[Vertex] = [
        (half, depth),
        (half, shoulder, -math.tan(bulge_angle / 4)),
        (-half, shoulder),
        (-half, depth),
    ]
    pen.path(outline)
    pen.hatch(outline)
    pen.cross(0, 0, radius)
    pen.across(-half, half, radius, 6, "<> P9")
    pen.upright(-radius, depth, radius, 9)
    x, y = pen.at(-radius, 0)
    pen.paper.text(x - 16, y, "B - B", 3.5, "centre")


def _shaft_end(pen: Pen, p: Params) -> None:
    diameters = [step[2] for step in _steps(p)]
    visible = [d for index, d in enumerate(diameters) if d > max(diameters[index + 1 :], default=0.0)]
    for diameter in {*visible, diameters[-1] - 2 * max(1.0, p["chamfer"])}:
        pen.circle(0, 0, diameter / 2)
    pen.cross(0, 0, max(diameters) / 2)


def gear(p: Params) -> list[View]:
    """Return the views of a spur gear with keyway: from the front, full section, gear data."""
    tip = p["module"] * (p["teeth"] + 2) / 2
    return [
        View(column=0, row=0, box=(-tip, -tip, tip, tip), draw=lambda pen: _gear_front(pen, p)),
        View(
            column=1,
            row=0,
            box=(0, -tip, p["width"], tip),
            draw=lambda pen: _gear_section(pen, p),
            pad=(18, 20, 60, 20),
        ),
    ]


def _tooth_profile(p: Params) -> list[Vertex]:
    pitch = p["module"] * p["teeth"] / 2
    tip, root = pitch + p["module"], pitch - 1.25 * p["module"]
    step = 360 / p["teeth"]
    shape = ((root, -0.33), (pitch, -0.25), (tip, -0.11), (tip, 0.11), (pitch, 0.25), (root, 0.33))
    return [
        _on_circle(radius, step * (tooth + part))
        for tooth in range(int(p["teeth"]))
        for radius, part in shape
    ]


def _gear_front(pen: Pen, p: Params) -> None:
    pitch, bore, half = p["module"] * p["teeth"] / 2, p["bore"] / 2, p["key"] / 2
    pen.path(_tooth_profile(p))
    pen.circle(0, 0, pitch, "CENTRE")
    pen.cross(0, 0, pitch + p["module"])
    shoulder = math.sqrt(bore**2 - half**2)
    angle = 2 * math.pi - 2 * math.asin(half / bore)
    top = bore + half * 0.8
    pen.path([(half, top), (half, shoulder, -math.tan(angle / 4)), (-half, shoulder), (-half, top)])
    pen.circle(0, 0, p["hub"] / 2)
    rim = (pitch + p["hub"] / 2) / 2
    if p["spokes"]:
        for index in range(int(p["spokes"])):
            x, y = _on_circle(rim, 45 + 360 * index / p["spokes"] + (p["shift"] if index == 0 else 0))
            pen.hole(x, y, (pitch - p["hub"] / 2) * 0.27)
    if p["extra"]:
        pen.hole(0, -(p["hub"] / 2 + bore) / 2, max(1.5, (p["hub"] / 2 - bore) * 0.28))
    pen.note(*_on_circle(pitch + p["module"], 60), f"z = {int(p['teeth'])}", 12, 10)
    pen.across(-half, half, bore, (pitch + p["module"] - bore) * pen.scale + 9, "<> JS9")


def _gear_section(pen: Pen, p: Params) -> None:
    pitch, bore, width, cut = p["module"] * p["teeth"] / 2, p["bore"] / 2, p["width"], p["chamfer"]
    tip, root = pitch + p["module"], pitch - 1.25 * p["module"]
    body: list[Vertex] = [(0, bore), (width, bore), (width, root), (0, root)]
    for half in (body, _mirrored_down(body)):
        pen.path(half)
        pen.hatch(half)
    teeth: list[Vertex] = [
        (0, root),
        (width, root),
        (width, tip - cut),
        (width - cut, tip),
        (cut, tip),
        (0, tip - cut),
    ]
    for half in (teeth, _mirrored_down(teeth)):
        pen.path(half)
    for sign in (1, -1):
        pen.axis(0, sign * pitch, width, sign * pitch)
    for x in (0.0, width):
        pen.line(x, -bore, x, bore)
    pen.axis(0, 0, width, 0)
    pen.across(0, width, tip, 9)
    pen.upright(-bore, bore, 0, -10, "Ø<> H7")
    pen.upright(-tip, tip, width, 10, "Ø<> h9")
    _gear_table(pen, p, tip)


def _gear_table(pen: Pen, p: Params, tip: float) -> None:
    x, y = pen.at(p["width"], tip)
    x, paper = x + 20, pen.paper
    rows = (
        ("m", _number(p["module"])),
        ("z", str(int(p["teeth"]))),
        ("PA", "20°"),
        ("d", _number(p["module"] * p["teeth"])),
        ("Q", "7 DIN 3962"),
    )
    for index, (label, value) in enumerate(rows):
        low = y - 5.5 * (index + 1)
        paper.rect(x, low, 8, 5.5, "THIN")
        paper.rect(x + 8, low, 28, 5.5, "THIN")
        paper.text(x + 4, low + 2.75, label, 2.5, "centre")
        paper.text(x + 22, low + 2.75, value, 2.5, "centre")
