"""
What parts there are, how their measures are chosen, and how they change.

A part's measures are part millimetres by name. Every kind knows the measures `shift` (a feature
moves), `extra` (a hole comes) and `chamfer`, which are 0 in a first issue.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from attrs import evolve, frozen

from dedup2d.samples import flat, turned
from dedup2d.samples.layout import View

__all__ = ["KINDS", "Kind", "Part", "make_part", "revise", "vary"]

Params = Mapping[str, float]
Words = tuple[str, str]
"""The same said in the language of either company."""
Range = tuple[float, float, float]
"""Least, most and step of a measure."""


@frozen(kw_only=True)
class Kind:
    """
    A kind of part.

    Args:
        names: its title with either company.
        views: draws its views.
        ranges: measures that are chosen freely.
        derive: measures that follow from those.
        changes: measures that a revision may change a little, each with its words.
        moves: how far a revision moves its feature, in the unit of the kind's `shift`.
        chamfer: the chamfer that a revision may add, mm.
        handed: whether left and right make different parts.
    """

    names: Words
    views: Callable[[Params], list[View]]
    ranges: Mapping[str, Range]
    derive: Callable[[dict[str, float]], dict[str, float]]
    changes: Mapping[str, str]
    moves: float
    chamfer: float
    handed: bool = False


@frozen(kw_only=True)
class Part:
    """One part: its kind, measures and what its title block says of it."""

    kind: str
    params: Params
    serial: int
    material: str
    finish: Words
    notes: tuple[Words, ...]

    @property
    def views(self) -> Sequence[View]:
        return KINDS[self.kind].views(self.params)

    @property
    def handed(self) -> bool:
        return KINDS[self.kind].handed


def _cover_boss(p: Params) -> int:
    """Give a boss that stands clear of the cover's wall, even after a revision."""
    return round(min(p["width"] * 0.42, 2 * (0.36 * p["length"] - 2.4 * p["edge"] - 3)))


KINDS: Mapping[str, Kind] = {
    "flange": Kind(
        names=("Nabenflansch", "HUB FLANGE"),
        views=turned.flange,
        ranges={"outer": (90, 220, 5), "holes": (4, 9, 1), "thick": (12, 24, 1), "hub_length": (14, 50, 2)},
        derive=lambda p: {
            "pitch": round(p["outer"] * 0.76),
            "hole": round(p["outer"] * 0.07),
            "hub": round(p["outer"] * 0.5),
            "bore": round(p["outer"] * 0.3),
        },
        changes={"hub_length": "hub length", "thick": "flange thickness", "hole": "bolt holes"},
        moves=9.0,
        chamfer=2.0,
    ),
    "shaft": Kind(
        names=("Antriebswelle", "DRIVE SHAFT"),
        views=turned.shaft,
        ranges={
            "d1": (18, 30, 1),
            "d2": (32, 48, 1),
            "d3": (26, 38, 1),
            "d4": (16, 24, 1),
            "l1": (26, 60, 1),
            "l2": (30, 80, 1),
            "l3": (50, 90, 1),
            "l4": (18, 45, 1),
        },
        derive=lambda p: {"key": round(p["d3"] * 0.3), "key_length": round(p["l3"] * 0.62)},
        changes={"l2": "collar length", "d2": "collar diameter", "l4": "journal length"},
        moves=4.0,
        chamfer=2.5,
    ),
    "bracket": Kind(
        names=("Lagerbock", "SUPPORT BRACKET"),
        views=flat.bracket,
        ranges={
            "depth": (60, 120, 2),
            "height": (70, 140, 2),
            "width": (70, 130, 2),
            "wall": (8, 14, 1),
            "radius": (4, 10, 1),
            "corner": (8, 20, 2),
        },
        derive=lambda p: {"hole": round(p["width"] * 0.13), "slot": round(p["depth"] * 0.13)},
        changes={"height": "height", "hole": "bores", "corner": "corner", "slot": "slots"},
        moves=5.0,
        chamfer=3.0,
        handed=True,
    ),
    "plate": Kind(
        names=("Grundplatte", "BASE PLATE"),
        views=flat.plate,
        ranges={
            "length": (140, 300, 5),
            "width": (90, 160, 5),
            "thick": (16, 30, 1),
            "edge": (10, 14, 1),
            "radius": (6, 12, 1),
        },
        derive=lambda p: {
            "depth": round(p["thick"] * 0.6),
            "hole": round(p["edge"] * 0.8),
            "bore": round(p["width"] * 0.16),
        },
        changes={"depth": "pocket depth", "bore": "bore", "hole": "fixing holes", "radius": "pocket radius"},
        moves=5.0,
        chamfer=8.0,
        handed=True,
    ),
    "cover": Kind(
        names=("Gehäusedeckel", "HOUSING COVER"),
        views=flat.cover,
        ranges={
            "length": (130, 260, 5),
            "width": (90, 150, 5),
            "height": (34, 60, 2),
            "edge": (9, 12, 1),
            "wall": (6, 9, 1),
            "radius": (14, 24, 2),
            "holes": (3, 5, 1),
        },
        derive=lambda p: {
            "hole": round(p["edge"] * 0.75, 1),
            "boss": _cover_boss(p),
            "bore": round(_cover_boss(p) * 0.56),
            "boss_at": 0.36,
        },
        changes={"boss": "boss", "bore": "bore", "height": "height"},
        moves=6.0,
        chamfer=3.0,
        handed=True,
    ),
    "gear": Kind(
        names=("Stirnrad", "SPUR GEAR"),
        views=turned.gear,
        ranges={"module": (2, 4, 0.5), "teeth": (22, 46, 1), "width": (18, 40, 2), "spokes": (0, 6, 3)},
        derive=lambda p: {
            "hub": round(p["module"] * p["teeth"] * 0.46),
            "bore": round(p["module"] * p["teeth"] * 0.24),
            "key": max(4, round(p["module"] * p["teeth"] * 0.07)),
        },
        changes={"bore": "bore", "hub": "hub", "width": "face width"},
        moves=7.0,
        chamfer=1.5,
    ),
    "angle": Kind(
        names=("Blechwinkel", "SHEET ANGLE"),
        views=flat.angle,
        ranges={
            "base": (50, 110, 2),
            "leg": (40, 80, 2),
            "width": (60, 120, 2),
            "sheet": (1.5, 4, 0.5),
            "edge": (9, 14, 1),
        },
        derive=lambda p: {"hole": round(p["edge"] * 0.7, 1), "slot": round(p["base"] * 0.12)},
        changes={"leg": "leg", "hole": "holes", "slot": "slot"},
        moves=6.0,
        chamfer=4.0,
        handed=True,
    ),
    "lever": Kind(
        names=("Schalthebel", "SHIFT LEVER"),
        views=flat.lever,
        ranges={"span": (110, 200, 5), "big": (44, 70, 2), "small": (26, 38, 2), "boss": (24, 36, 2)},
        derive=lambda p: {
            "bore": round(p["big"] * 0.5),
            "pin": round(p["small"] * 0.45),
            "web": round(p["boss"] * 0.42),
        },
        changes={"bore": "bore", "boss": "boss height", "pin": "pin bore"},
        moves=8.0,
        chamfer=2.0,
    ),
}

_MATERIALS = ("S235JR", "C45E", "42CrMo4", "EN AW-6082 T6", "EN-GJL-250", "1.4301")
_FINISHES = (
    ("blank geölt", "OILED"),
    ("verzinkt", "ZINC PLATED"),
    ("eloxiert E6/EV1", "ANODISED CLEAR"),
    ("pulverbesch. RAL 7035", "POWDER COAT RAL 7035"),
    ("brüniert", "BLACK OXIDE"),
)
_NOTES = (
    ("Kanten gebrochen 0,5 x 45°", "BREAK EDGES 0.5 x 45°"),
    ("Nicht bemaßte Radien R2", "UNSPECIFIED RADII R2"),
    ("Rundlauf 0,02 zu Bezug A", "RUNOUT 0.02 TO DATUM A"),
    ("Werkstückkanten ISO 13715", "EDGES TO ISO 13715"),
    ("Teile-Nr. geprägt, Schrift 3 mm", "STAMP PART No. 3 HIGH"),
    ("Härteprobe nach Zeichnung 77-003", "HARDNESS TEST SEE 77-003"),
    ("Prüfmaße nach QP-112", "INSPECT TO QP-112"),
)
_WORDS = {
    "hub length": "Nabenlänge",
    "flange thickness": "Flanschdicke",
    "bolt holes": "Bohrungen",
    "collar length": "Bundlänge",
    "collar diameter": "Bunddurchmesser",
    "journal length": "Zapfenlänge",
    "height": "Höhe",
    "bores": "Bohrungen",
    "corner": "Ecke",
    "slots": "Langlöcher",
    "slot": "Langloch",
    "pocket depth": "Taschentiefe",
    "bore": "Bohrung",
    "fixing holes": "Befestigungsbohrungen",
    "pocket radius": "Taschenradius",
    "boss": "Nabe",
    "hub": "Nabe",
    "face width": "Zahnbreite",
    "leg": "Schenkel",
    "holes": "Bohrungen",
    "boss height": "Nabenhöhe",
    "pin bore": "Stiftbohrung",
}


def make_part(rng: random.Random, kind: str, serial: int) -> Part:
    """Return a part of *kind* with measures chosen by *rng*."""
    return Part(
        kind=kind,
        params=_measures(KINDS[kind], rng),
        serial=serial,
        material=rng.choice(_MATERIALS),
        finish=rng.choice(_FINISHES),
        notes=tuple(rng.sample(_NOTES, rng.randint(2, 4))),
    )


def _measures(kind: Kind, rng: random.Random) -> dict[str, float]:
    chosen = {name: _pick(rng, limits) for name, limits in kind.ranges.items()}
    return {**chosen, **kind.derive(chosen), "shift": 0.0, "extra": 0.0, "chamfer": 0.0}


def _pick(rng: random.Random, limits: Range) -> float:
    low, high, step = limits
    return low + step * rng.randint(0, round((high - low) / step))


def revise(part: Part, rng: random.Random) -> tuple[Part, Words]:
    """Return the next revision of *part*, one or two changes on, and what the revision table says."""
    kind, params = KINDS[part.kind], dict(part.params)
    options = [name for name in ("extra", "shift", "chamfer") if not params[name]]
    changes = rng.sample([*options, "measure"], rng.choice((1, 2)))
    words = [_apply(kind, params, change, rng) for change in changes]
    return evolve(part, params=params), (", ".join(w[0] for w in words), ", ".join(w[1] for w in words))


def _apply(kind: Kind, params: dict[str, float], change: str, rng: random.Random) -> Words:
    if change == "extra":
        params["extra"] = 1.0
        return "Bohrung ergänzt", "hole added"
    if change == "shift":
        params["shift"] = kind.moves
        return f"Lage um {kind.moves:g} geändert", f"feature moved by {kind.moves:g}"
    if change == "chamfer":
        params["chamfer"] = kind.chamfer
        return f"Fase {kind.chamfer:g} ergänzt", f"chamfer {kind.chamfer:g} added"
    name = rng.choice(sorted(kind.changes))
    before = params[name]
    params[name] = round(before * 1.12) if before >= 9 else before + 1
    english, values = kind.changes[name], f"{before:g} -> {params[name]:g}"
    return f"{_WORDS[english]} {values}", f"{english} {values}"


def vary(part: Part, rng: random.Random, serial: int) -> Part:
    """Return a sibling of *part*: same kind and look, two to four other main measures, other number."""
    kind = KINDS[part.kind]
    chosen = {name: part.params[name] for name in kind.ranges}
    for name in rng.sample(sorted(kind.ranges), min(len(kind.ranges), rng.randint(2, 4))):
        low, high, step = kind.ranges[name]
        others = [low + step * index for index in range(round((high - low) / step) + 1)]
        apart = [value for value in others if abs(value - chosen[name]) >= 0.15 * (high - low)]
        chosen[name] = rng.choice(apart)
    params = {**chosen, **kind.derive(chosen), "shift": 0.0, "extra": 0.0, "chamfer": 0.0}
    return evolve(part, params=params, serial=serial)
