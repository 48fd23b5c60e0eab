"""Milled, cast and bent parts: plate, cover, bracket, angle, lever."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dedup2d.samples.layout import View
from dedup2d.samples.pen import Pen, Vertex

__all__ = ["angle", "bracket", "cover", "lever", "plate"]

Params = Mapping[str, float]
_QUARTER = math.tan(math.pi / 8)  # bulge of a quarter circle


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _rounded(x: float, y: float, width: float, height: float, radius: float) -> list[Vertex]:
    """Give a rectangle with round corners, counter-clockwise."""
    right, top = x + width, y + height
    return [
        (x + radius, y),
        (right - radius, y, _QUARTER),
        (right, y + radius),
        (right, top - radius, _QUARTER),
        (right - radius, top),
        (x + radius, top, _QUARTER),
        (x, top - radius),
        (x, y + radius, _QUARTER),
    ]


def _slot(x: float, y: float, length: float, width: float, *, upright: bool = False) -> list[Vertex]:
    """Give a slot with round ends about its centre."""
    half, radius = (length - width) / 2, width / 2
    if upright:
        return [
            (x + radius, y - half),
            (x + radius, y + half, 1),
            (x - radius, y + half),
            (x - radius, y - half, 1),
        ]
    return [
        (x - half, y - radius),
        (x + half, y - radius, 1),
        (x + half, y + radius),
        (x - half, y + radius, 1),
    ]


def plate(p: Params) -> list[View]:
    """Return the views of a milled plate with two pockets: from above, section, from the side."""
    length, width, thick = p["length"], p["width"], p["thick"]
    return [
        View(
            column=0,
            row=1,
            box=(0, 0, length, width),
            draw=lambda pen: _plate_plan(pen, p),
            pad=(26, 10, 12, 28),
        ),
        View(
            column=0,
            row=0,
            box=(0, 0, length, thick),
            draw=lambda pen: _plate_section(pen, p),
            pad=(20, 18, 14, 14),
        ),
        View(
            column=1,
            row=1,
            box=(0, 0, thick, width),
            draw=lambda pen: _plate_side(pen, p),
            pad=(8, 10, 8, 16),
        ),
    ]


def _plate_pockets(p: Params) -> tuple[tuple[float, float, float, float], tuple[float, float, float, float]]:
    """Give the pockets as (x, y, width, height)."""
    length, width, edge = p["length"], p["width"], p["edge"]
    left = (edge * 2, edge * 1.6, length * 0.42, width - edge * 3.2)
    start = left[0] + left[2] + edge
    right = (
        start,
        width * 0.45 + p["shift"],
        length - edge * 2 - start,
        width * 0.55 - edge * 1.6 - p["shift"],
    )
    return left, right


def _plate_plan(pen: Pen, p: Params) -> None:
    length, width, edge, hole = p["length"], p["width"], p["edge"], p["hole"] / 2
    cut = p["chamfer"]
    corner: list[Vertex] = [(length, width - cut), (length - cut, width)] if cut else [(length, width)]
    pen.path([(0, 0), (length, 0), *corner, (0, width)])
    for pocket in _plate_pockets(p):
        pen.path(_rounded(*pocket, min(p["radius"], pocket[3] / 2.1)))
    for x, y in ((edge, edge), (length - edge, edge), (length - edge, width - edge), (edge, width - edge)):
        pen.hole(x, y, hole)
    right = _plate_pockets(p)[1]
    pen.hole(right[0] + right[2] * 0.3, right[1] * 0.5, p["bore"] / 2)
    if p["extra"]:
        pen.hole(right[0] + right[2] * 0.78, right[1] * 0.5, p["bore"] * 0.32)
    pen.across(0, length, width, 20)
    pen.across(edge, length - edge, width, 11)
    pen.upright(0, width, 0, -19)
    pen.upright(edge, width - edge, 0, -10)
    pen.note(edge, edge, f"4x Ø{_number(p['hole'])}", -6, -edge * pen.scale - 6)
    pen.note(
        right[0] + right[2] * 0.3,
        right[1] * 0.5,
        f"Ø{_number(p['bore'])} H8",
        9,
        -right[1] * 0.5 * pen.scale - 6,
    )


def _plate_section(pen: Pen, p: Params) -> None:
    length, thick, depth = p["length"], p["thick"], p["depth"]
    floor = thick - depth
    (x1, _, w1, _), (x2, _, w2, _) = _plate_pockets(p)
    outline: list[Vertex] = [
        (0, 0),
        (length, 0),
        (length, thick),
        (x2 + w2, thick),
        (x2 + w2, floor),
        (x2, floor),
    ]
    outline += [(x2, thick), (x1 + w1, thick), (x1 + w1, floor), (x1, floor), (x1, thick), (0, thick)]
    pen.path(outline)
    pen.hatch(outline)
    pen.line(x1, thick, x1 + w1, thick)
    pen.line(x2, thick, x2 + w2, thick)
    pen.upright(0, thick, 0, -11)
    pen.across(x1, x1 + w1, 0, -9)
    pen.upright(floor, thick, length, 8)


def _plate_side(pen: Pen, p: Params) -> None:
    thick, width, edge, hole = p["thick"], p["width"], p["edge"], p["hole"] / 2
    pen.rect(0, 0, thick, width)
    floor = thick - p["depth"]
    for x, y, _, height in _plate_pockets(p)[:1]:
        del x
        pen.path([(thick, y), (floor, y), (floor, y + height), (thick, y + height)], "HIDDEN", closed=False)
    for y in (edge, width - edge):
        for side in (-hole, hole):
            pen.line(0, y + side, thick, y + side, "HIDDEN")
        pen.axis(0, y, thick, y)


def cover(p: Params) -> list[View]:
    """Return the views of a housing cover with boss: from above, section below it."""
    length, width, height = p["length"], p["width"], p["height"]
    return [
        View(
            column=0,
            row=1,
            box=(0, 0, length, width),
            draw=lambda pen: _cover_plan(pen, p),
            pad=(24, 12, 14, 20),
        ),
        View(
            column=0,
            row=0,
            box=(0, 0, length, height),
            draw=lambda pen: _cover_section(pen, p),
            pad=(16, 18, 18, 12),
        ),
    ]


def _cover_holes(p: Params) -> list[tuple[float, float]]:
    length, width, edge, count = p["length"], p["width"], p["edge"], int(p["holes"])
    xs = [edge + (length - 2 * edge) * index / (count - 1) for index in range(count)]
    xs[1] += p["shift"]
    return [(x, y) for y in (edge, width - edge) for x in xs]


def _cover_plan(pen: Pen, p: Params) -> None:
    length, width, edge = p["length"], p["width"], p["edge"]
    x, y = length * p["boss_at"], width / 2
    pen.path(_rounded(0, 0, length, width, p["radius"]))
    pen.path(_rounded(edge * 2, edge * 2, length - edge * 4, width - edge * 4, max(2.0, p["radius"] - edge)))
    if p["chamfer"]:
        c = p["chamfer"]
        pen.path(_rounded(c, c, length - 2 * c, width - 2 * c, max(1.0, p["radius"] - c)), "THIN")
    for hole_x, hole_y in _cover_holes(p):
        pen.hole(hole_x, hole_y, p["hole"] / 2)
    pen.circle(x, y, p["boss"] / 2)
    pen.hole(x, y, p["bore"] / 2)
    if p["extra"]:
        pen.hole(length * (1 - p["boss_at"]), y, p["hole"] * 0.9)
        pen.circle(length * (1 - p["boss_at"]), y, p["hole"] * 1.6)
    pen.across(0, length, width, 12)
    pen.upright(0, width, 0, -18)
    pen.upright(edge, width - edge, 0, -9)
    pen.note(*_cover_holes(p)[1], f"{len(_cover_holes(p))}x Ø{_number(p['hole'])}", 8, -edge * pen.scale - 6)
    pen.note(x + p["boss"] * 0.354, y + p["boss"] * 0.354, f"Ø{_number(p['boss'])}", 8, 5)


def _cover_section(pen: Pen, p: Params) -> None:
    length, height, edge, wall = p["length"], p["height"], p["edge"], p["wall"]
    x, boss, bore = length * p["boss_at"], p["boss"] / 2, p["bore"] / 2
    deck = height * 0.72
    left: list[Vertex] = [
        (0, 0),
        (2 * edge, 0),
        (2 * edge, deck - wall),
        (x - bore, deck - wall),
        (x - bore, height),
    ]
    left += [(x - boss, height), (x - boss, deck), (edge * 1.4, deck), (edge * 1.4, wall), (0, wall)]
    right: list[Vertex] = [(length, 0), (length - 2 * edge, 0), (length - 2 * edge, deck - wall)]
    right += [(x + bore, deck - wall), (x + bore, height), (x + boss, height), (x + boss, deck)]
    right += [(length - edge * 1.4, deck), (length - edge * 1.4, wall), (length, wall)]
    for outline in (left, right):
        pen.path(outline)
        pen.hatch(outline, spacing=2.2)
    for level in (height, deck - wall):
        pen.line(x - bore, level, x + bore, level)
    pen.line(2 * edge, 0, length - 2 * edge, 0)
    pen.axis(x, 0, x, height)
    pen.upright(0, height, length, 10)
    pen.upright(0, wall, 0, -8)
    pen.across(0, x, 0, -9)
    pen.across(x - bore, x + bore, height, 7, "Ø<> H7")


def bracket(p: Params) -> list[View]:
    """Return the views of an angle bracket with rib and slots: side, front, from above."""
    return [
        View(
            column=0,
            row=1,
            box=(0, 0, p["depth"], p["height"]),
            draw=lambda pen: _bracket_side(pen, p),
            pad=(20, 20, 10, 12),
        ),
        View(
            column=1,
            row=1,
            box=(0, 0, p["width"], p["height"]),
            draw=lambda pen: _bracket_front(pen, p),
            pad=(10, 20, 24, 16),
        ),
        View(
            column=0,
            row=0,
            box=(0, 0, p["depth"], p["width"]),
            draw=lambda pen: _bracket_plan(pen, p),
            pad=(20, 16, 20, 10),
        ),
    ]


def _bracket_side(pen: Pen, p: Params) -> None:
    depth, height, wall, bend = p["depth"], p["height"], p["wall"], p["radius"]
    cut = p["chamfer"]
    tip: list[Vertex] = [(depth, wall - cut), (depth - cut, wall)] if cut else [(depth, wall)]
    pen.path(
        [
            (0, 0),
            (depth, 0),
            *tip,
            (wall + bend, wall, -_QUARTER),
            (wall, wall + bend),
            (wall, height),
            (0, height),
        ]
    )
    rib_x, rib_y = depth * 0.72, height * 0.7
    pen.line(wall, rib_y, rib_x, wall)
    pen.upright(0, height, 0, -13)
    pen.across(0, depth, 0, -12)
    pen.across(0, wall, height, 7)
    hole = p["hole"] / 2
    for side in (-hole, hole):
        pen.line(0, height * 0.8 + side, wall, height * 0.8 + side, "HIDDEN")
    pen.axis(0, height * 0.8, wall, height * 0.8)


def _bracket_front(pen: Pen, p: Params) -> None:
    width, height, wall = p["width"], p["height"], p["wall"]
    pen.path([(0, 0), (width, 0), (width, height - p["corner"]), (width - p["corner"], height), (0, height)])
    pen.line(0, wall, width, wall)
    pen.rect(width / 2 - wall / 2, wall, wall, height * 0.7 - wall, "VISIBLE")
    at = width * 0.25 + p["shift"]
    pen.hole(at, height * 0.8, p["hole"] / 2)
    pen.hole(width * 0.75, height * 0.8, p["hole"] / 2)
    pen.path(_slot(width * 0.22, height * 0.42, p["slot"] * 1.8, p["slot"] * 0.8, upright=True))
    pen.axis(width * 0.22, height * 0.42 - p["slot"], width * 0.22, height * 0.42 + p["slot"])
    if p["extra"]:
        pen.hole(width * 0.78, height * 0.42, p["hole"] * 0.35)
    pen.across(0, width, 0, -14)
    pen.across(at, width * 0.75, height, 9)
    pen.upright(0, height * 0.8, width, 10)
    pen.note(width * 0.75, height * 0.8, f"2x Ø{_number(p['hole'])}", 10, height * 0.2 * pen.scale + 2)


def _bracket_plan(pen: Pen, p: Params) -> None:
    depth, width, wall, slot = p["depth"], p["width"], p["wall"], p["slot"]
    pen.rect(0, 0, depth, width)
    pen.line(wall, 0, wall, width)
    pen.path(
        [
            (wall, width / 2 + wall / 2),
            (depth * 0.72, width / 2 + wall / 2),
            (depth * 0.72, width / 2 - wall / 2),
            (wall, width / 2 - wall / 2),
        ],
        closed=False,
    )
    for y in (width * 0.22, width * 0.78):
        pen.path(_slot(depth * 0.6, y, slot * 2, slot))
        pen.axis(depth * 0.6 - slot, y, depth * 0.6 + slot, y)
    pen.upright(width * 0.22, width * 0.78, depth, 9)
    pen.across(0, depth * 0.6, 0, -9)


def angle(p: Params) -> list[View]:
    """Return the views of a bent sheet: profile, from above with cut-outs, flat pattern."""
    flat = p["leg"] + p["base"] - 1.6 * p["sheet"]
    return [
        View(
            column=0,
            row=1,
            box=(0, 0, p["base"], p["leg"]),
            draw=lambda pen: _angle_profile(pen, p),
            pad=(20, 14, 20, 14),
        ),
        View(
            column=0,
            row=0,
            box=(0, 0, p["base"], p["width"]),
            draw=lambda pen: _angle_plan(pen, p),
            pad=(20, 20, 22, 10),
        ),
        View(
            column=1,
            row=0,
            box=(0, 0, flat, p["width"]),
            draw=lambda pen: _angle_flat(pen, p, flat),
            pad=(12, 20, 14, 14),
        ),
    ]


def _angle_profile(pen: Pen, p: Params) -> None:
    base, leg, t = p["base"], p["leg"], p["sheet"]
    r = t * 1.5
    pen.path(
        [
            (r + t, 0),
            (base, 0),
            (base, t),
            (r + t, t, -_QUARTER),
            (t, r + t),
            (t, leg),
            (0, leg),
            (0, r + t, _QUARTER),
        ]
    )
    pen.upright(0, leg, 0, -12)
    pen.across(0, base, leg, 8)
    pen.note(base * 0.7, t, f"t = {_number(t)}", 6, 9)
    pen.note(t + 0.3 * r, t + 0.3 * r, f"R{_number(r)}", 7, 16)


def _angle_base_features(pen: Pen, p: Params, x0: float, toward: float) -> None:
    """Draw the base's cut-outs; *x0* is the outer face, *toward* +1 or -1 the base's direction."""
    base, width = p["base"], p["width"]
    for y in (p["edge"], width - p["edge"]):
        pen.hole(x0 + toward * (base - p["edge"]), y, p["hole"] / 2)
    pen.path(
        _slot(x0 + toward * base * 0.5, width / 2 + p["shift"], p["slot"] * 2.4, p["slot"], upright=True)
    )
    if p["extra"]:
        pen.hole(x0 + toward * (base - p["edge"]), width / 2, p["hole"] * 0.7)


def _angle_plan(pen: Pen, p: Params) -> None:
    base, width, cut = p["base"], p["width"], max(p["chamfer"], 0.0) * 2
    outline: list[Vertex] = [(0, 0), (base - cut, 0), (base, cut)] if cut else [(0, 0), (base, 0)]
    pen.path([*outline, (base, width), (0, width)])
    pen.line(p["sheet"], 0, p["sheet"], width)
    _angle_base_features(pen, p, 0, 1)
    pen.upright(0, width, base, 16)
    pen.upright(p["edge"], width - p["edge"], base, 8)
    pen.across(0, base * 0.5, 0, -8)
    pen.across(0, base - p["edge"], 0, -15)


def _angle_flat(pen: Pen, p: Params, flat: float) -> None:
    base, width = p["base"], p["width"]
    pen.rect(0, 0, flat, width)
    bend = p["leg"] - 0.8 * p["sheet"]
    pen.line(bend, 0, bend, width, "CENTRE")
    x, y = pen.at(bend, width * 0.5)
    pen.paper.text(x - 2.5, y, "UP 90°", 2.5, "centre", 90)
    _angle_base_features(pen, p, flat - base, 1)
    for index in range(3):
        pen.hole(p["leg"] * 0.4, width * (0.2 + 0.3 * index), p["hole"] * 0.4)
    pen.across(0, flat, 0, -14)
    pen.across(0, bend, 0, -7)
    x, y = pen.at(flat / 2, width)
    pen.paper.text(x, y + 6, f"FLAT PATTERN  {_number(flat)} x {_number(width)}", 3, "centre")


def lever(p: Params) -> list[View]:
    """Return the views of a forked lever: outline with two bosses, section through both."""
    big, small, span = p["big"] / 2, p["small"] / 2, p["span"]
    return [
        View(
            column=0,
            row=1,
            box=(-big, -big, span + small, big),
            draw=lambda pen: _lever_plan(pen, p),
            pad=(16, 12, 20, 22),
        ),
        View(
            column=0,
            row=0,
            box=(-big, 0, span + small, p["boss"]),
            draw=lambda pen: _lever_section(pen, p),
            pad=(18, 18, 18, 12),
        ),
    ]


def _lever_plan(pen: Pen, p: Params) -> None:
    big, small, span = p["big"] / 2, p["small"] / 2, p["span"]
    web_big, web_small = big * 0.8, small * 0.8
    lean = math.asin((web_big - web_small) / span)
    for sign in (1, -1):
        dx, dy = math.sin(lean), sign * math.cos(lean)
        pen.line(
            math.sqrt(max(big**2 - (web_big * dy) ** 2, 0)),
            web_big * dy,
            span - math.sqrt(max(small**2 - (web_small * dy) ** 2, 0)),
            web_small * dy,
        )
        del dx
    pen.circle(0, 0, big)
    pen.hole(0, 0, p["bore"] / 2)
    pen.circle(span, 0, small)
    pen.hole(span, 0, p["pin"] / 2)
    pen.axis(0, 0, span, 0)
    at = span * 0.5 + p["shift"]
    pen.path(_slot(at, 0, span * 0.3, web_small * 0.8))
    if p["chamfer"]:
        pen.circle(0, 0, p["bore"] / 2 + p["chamfer"])
    if p["extra"]:
        pen.hole(-big * 0.62, big * 0.35, big * 0.12)
    pen.across(0, span, big, 14)
    pen.across(0, at, big, 7)
    pen.note(span + small * 0.7, small * 0.7, f"R{_number(small)}", 5, 6)
    pen.note(-big * 0.7, -big * 0.7, f"Ø{_number(p['big'])}", -14, -8)


def _lever_section(pen: Pen, p: Params) -> None:
    big, small, span, boss, web = p["big"] / 2, p["small"] / 2, p["span"], p["boss"], p["web"]
    bore, pin = p["bore"] / 2, p["pin"] / 2
    low, high = (boss - web) / 2, (boss + web) / 2
    slot_left, slot_right = span * 0.35 + p["shift"], span * 0.65 + p["shift"]
    left: list[Vertex] = [(bore, 0), (big, 0), (big, low), (slot_left, low), (slot_left, high), (big, high)]
    left += [(big, boss), (bore, boss)]
    eye = boss * 0.1, boss * 0.9
    right: list[Vertex] = [
        (slot_right, low),
        (span - small, low),
        (span - small, eye[0]),
        (span - pin, eye[0]),
    ]
    right += [(span - pin, eye[1]), (span - small, eye[1]), (span - small, high), (slot_right, high)]
    pieces: list[list[Vertex]] = [
        [(-big, 0), (-bore, 0), (-bore, boss), (-big, boss)],
        left,
        right,
        [(span + pin, eye[0]), (span + small, eye[0]), (span + small, eye[1]), (span + pin, eye[1])],
    ]
    for piece in pieces:
        pen.path(piece)
        pen.hatch(piece)
    for level in (low, high):
        pen.line(slot_left, level, slot_right, level)
    for level in (0, boss):
        pen.line(-bore, level, bore, level)
    for level in (boss * 0.1, boss * 0.9):
        pen.line(span - pin, level, span + pin, level)
    for x in (0.0, span):
        pen.axis(x, 0, x, boss)
    pen.upright(0, boss, -big, -9)
    pen.upright(low, high, span + small, 9)
    pen.across(-bore, bore, 0, -10, "Ø<> H7")
    pen.across(span - pin, span + pin, 0, -10, "Ø<> H8")
