"""Two geometries laid onto each other: the pose, what lies on what, and what is matched."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property

import numpy as np
from attrs import evolve, frozen

from dedup2d.geometry.aligning import (
    LARGE,
    TELLING,
    Aligned,
    Outline,
    Side,
    align,
    is_known,
    outline,
    side,
    unique_places,
)
from dedup2d.geometry.flatten import Flat, Item, flatten
from dedup2d.geometry.items import Matched, match, without_drawn
from dedup2d.geometry.linework import box_of
from dedup2d.geometry.model import Geometry
from dedup2d.geometry.overlay import Overlay, overlay
from dedup2d.geometry.poses import Pose
from dedup2d.geometry.profiles import Leniency
from dedup2d.geometry.result import Similarity

__all__ = ["Comparison", "Prepared", "compared"]

INCH = 25.4
PLACE = 2e-3
"""Share of the diagonal that a text or a dimension may lie elsewhere and not have moved."""
TIED = 0.01
DECIDING = 300
"""Texts and dimensions, each, that decide between tied poses."""
MIRRORED_FROM = 0.15
"""How much more of the drawings the mirrored pose must cover to be taken for it."""


@frozen(eq=False)
class Prepared:
    """A geometry that is compared with several: what does not depend on the other is done once."""

    geometry: Geometry

    @cached_property
    def flat(self) -> Flat:
        """It without blocks."""
        return flatten(self.geometry)

    @cached_property
    def outline(self) -> Outline | None:
        """Its line work, None if it has none."""
        ink = self.flat.ink
        return outline(ink, box_of(ink)) if len(ink) else None


@frozen(eq=False, kw_only=True)
class Comparison:
    """
    What comparing two geometries found.

    Args:
        pose: None if nothing tells it.
        overlay: None unless both have line work.
        items: matches by section, only of sections that both have.
        evidence: how many different lengths bear out the scale.
        known_scale: whether it needs no evidence.
    """

    query: Geometry
    other: Geometry
    query_flat: Flat
    other_flat: Flat
    pose: Pose | None
    overlay: Overlay | None
    items: Mapping[str, Matched]
    evidence: int
    known_scale: bool

    def certainty(self, leniency: Leniency) -> float:
        """Return what to multiply the score by: little bears out a scale that a line or two suggest."""
        if self.pose is None or self.overlay is None:
            return 1.0
        doubt = (
            1.0 if self.known_scale else (0.5, 0.5, 0.75, 0.9)[self.evidence] if self.evidence < 4 else 1.0
        )
        return doubt * (leniency.mirrored if self.pose.mirrored else 1.0)

    def similarity(self) -> Similarity | None:
        """Return the pose in words."""
        pose = self.pose
        if pose is None:
            return None
        factor = pose.scale
        explained = next((f for f in (INCH, 1 / INCH) if abs(factor / f - 1) < 1e-3), 1.0)
        return Similarity(
            scale=factor,
            rotation=math.degrees(math.atan2(pose.factor.imag, pose.factor.real)) + 0.0,
            shift=(pose.shift.real, pose.shift.imag),
            mirrored=pose.mirrored,
            unit_factor=explained,
        )

    def warnings(self) -> tuple[str, ...]:
        """Return what limits the result, each a sentence."""
        found = dict.fromkeys(
            [*self.query.warnings, *self.other.warnings, *self.query_flat.warnings, *self.other_flat.warnings]
        )
        if self.overlay is not None and self.overlay.sampled:
            found[f"more than {LARGE:,} lines: a sample of {LARGE:,} of each drawing was looked up"] = None
        if self.pose is not None and self.pose.mirrored:
            found["the drawings are alike when one is mirrored"] = None
        if self.pose is not None and not self.known_scale and self.evidence < 4:
            found["few lengths bear out the scale between the drawings"] = None
        return tuple(found)


def compared(query: Prepared, other: Prepared) -> Comparison:
    """Lay *query* onto *other*."""
    query_flat, other_flat = query.flat, other.flat
    ours, theirs = unique_places(query_flat.texts, other_flat.texts)
    one, two = side(query.outline, ours), side(other.outline, theirs)
    scales = _known_scales(query.geometry, other.geometry)
    aligned = (
        _aligned(one, two, scales, query_flat, other_flat) if one is not None and two is not None else None
    )
    pose = aligned.pose if aligned is not None else None
    laid = None
    if pose is not None and one is not None and two is not None and len(one.lines) and len(two.lines):
        tolerance = max(two.tolerance, one.tolerance * pose.scale)
        laid = overlay(
            one,
            two,
            extras=(query_flat.dimension_ink, other_flat.dimension_ink),
            pose=pose,
            tolerance=tolerance,
        )
    return Comparison(
        query=query.geometry,
        other=other.geometry,
        query_flat=query_flat,
        other_flat=other_flat,
        pose=pose,
        overlay=laid,
        items=_matched(query_flat, other_flat, pose, two),
        evidence=min(_evidence(one), _evidence(two)),
        known_scale=pose is None or is_known(pose.scale, scales),
    )


def _known_scales(query: Geometry, other: Geometry) -> list[float]:
    scales = [1.0, INCH, 1 / INCH]
    if query.unit_mm and other.unit_mm:
        ratio = query.unit_mm / other.unit_mm
        if not is_known(ratio, scales):
            scales.append(ratio)
    return scales


def _aligned(one: Side, two: Side, scales: Sequence[float], query: Flat, other: Flat) -> Aligned | None:
    if one.lines.same_as(two.lines):
        return Aligned(Pose(1 + 0j, 0j), 1.0)
    anchored = bool(query.texts or query.dimensions)
    found = align(one, two, scales, anchored=anchored)
    best = _best(found, query, other, two)
    if best is not None and best.share > 1 - MIRRORED_FROM:
        return best
    turned = align(one, two, scales, mirrored=True, anchored=anchored)
    mirrored = _best(turned, query, other, two)
    if mirrored is not None and (best is None or mirrored.share > best.share + MIRRORED_FROM):
        return mirrored
    return best


def _best(found: Sequence[Aligned], query: Flat, other: Flat, two: Side) -> Aligned | None:
    """Let texts and dimensions decide between poses that cover the same, as of a symmetric part."""
    if not found:
        return None
    tied = [one for one in found if one.share >= found[0].share - TIED]
    few = query.texts, query.dimensions
    if len(tied) == 1 or not any(few) or (len(two.lines) and found[0].share < TELLING):
        return tied[0]
    query = evolve(
        query,
        texts=query.texts[:DECIDING],
        dimensions=query.dimensions[:DECIDING],
        dimension_texts=(),
        dimension_hatches=(),
        hatches=(),
        inserts=(),
    )
    return max(tied, key=lambda one: _in_place(one.pose, query, other, two))


def _in_place(pose: Pose, query: Flat, other: Flat, two: Side) -> int:
    matched = _matched(query, other, pose, two)
    return sum(len(matched[name].same) for name in ("texts", "dimensions") if name in matched)


def _evidence(one: Side | None) -> int:
    if one is None:
        return 0
    bars = one.features.bars[one.features.kind == 0]
    sizes = np.concatenate([np.abs(bars[:, 0] - bars[:, 1]), one.features.radii])
    return len(np.unique(np.round(np.log(np.maximum(sizes, 1e-300)) / 0.01)))


def _matched(query: Flat, other: Flat, pose: Pose | None, two: Side | None) -> dict[str, Matched]:
    place = None if pose is None else pose.affine()
    reach = PLACE * two.features.size if two is not None else 0.0
    scale = 1.0 if pose is None else pose.scale
    found: dict[str, Matched] = {}
    apart: tuple[set[str], set[str]] = (set(), set())
    for name, ours, theirs, drawn in (
        ("texts", query.texts, other.texts, (query.dimension_texts, other.dimension_texts)),
        ("hatches", query.hatches, other.hatches, (query.dimension_hatches, other.dimension_hatches)),
    ):
        matched, *paths = without_drawn(
            match(ours, theirs, lambda item, _: item.content, place, reach),
            (ours, theirs),
            drawn,
            place,
            reach,
        )
        if ours and theirs:
            found[name] = matched
        if name == "texts":  # an arrow alone is not the dimension
            apart = paths[0], paths[1]
    if query.dimensions and other.dimensions:
        content = _dimension_content(query, other, scale)
        matched = match(query.dimensions, other.dimensions, content, place, reach)
        found["dimensions"] = evolve(
            matched,
            removed=[i for i in matched.removed if query.dimensions[i].path not in apart[0]],
            added=[j for j in matched.added if other.dimensions[j].path not in apart[1]],
        )
    inserts = query.named_inserts, other.named_inserts
    if all(inserts):
        # By name only: where each lies the line work tells, and how many there are depends on the nesting.
        found["blocks"] = match(*inserts, lambda item, _: item.content, None, 0.0)
    return found


def _dimension_content(query: Flat, other: Flat, scale: float) -> Callable[[Item, bool], Hashable]:
    """
    Return what a dimension says: what is written, and a number for its value, equal where values nearly are.

    Values are either scaled with the drawing or left as they were: whichever brings more together.
    """
    ways = [_value_numbers(query, other, factor) for factor in dict.fromkeys((1.0, scale))]
    best = max(ways, key=_in_common)
    return lambda item, ours: (item.content, best[0 if ours else 1].get(_value_key(item)))


def _value_key(item: Item) -> tuple[float, bool] | None:
    return None if item.value is None else (item.value, item.angular)


def _value_numbers(query: Flat, other: Flat, factor: float) -> tuple[dict[object, int], dict[object, int]]:
    """Number the values of both so that those within rounding of each other share a number."""
    values: list[tuple[float, int, tuple[float, bool]]] = []
    for side_number, (items, grown) in enumerate(((query.dimensions, factor), (other.dimensions, 1.0))):
        for key in {key for key in map(_value_key, items) if key is not None}:
            value, angular = key
            values.append((value if angular else value * grown, side_number, key))
    values.sort(key=lambda entry: entry[0])
    numbers: tuple[dict[object, int], dict[object, int]] = ({}, {})
    number, last = 0, -math.inf
    for value, side_number, key in values:
        if value - last > 1.5e-3 * max(1.0, factor) + 1e-6 * abs(value):
            number += 1
        last = value
        numbers[side_number][key] = number
    return numbers


def _in_common(numbers: tuple[dict[object, int], dict[object, int]]) -> int:
    return len(set(numbers[0].values()) & set(numbers[1].values()))
