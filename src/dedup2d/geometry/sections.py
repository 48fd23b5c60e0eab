"""The sections of a score: entities, dimensions, texts, hatches, layers, blocks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from attrs import evolve

from dedup2d.geometry.comparing import Comparison
from dedup2d.geometry.items import Matched
from dedup2d.geometry.line_changes import forgiven
from dedup2d.geometry.model import Geometry, Insert, Layer
from dedup2d.geometry.profiles import Leniency
from dedup2d.geometry.result import Section

__all__ = ["named_layers", "sections"]

UNNAMED_LAYERS = frozenset({"0", "DEFPOINTS"})
TELLING = frozenset({"entities", "dimensions", "texts", "hatches"})
"""Sections that make two drawings comparable; layers and blocks alone say how offices work."""


def sections(comparison: Comparison, leniency: Leniency) -> Mapping[str, Section]:
    """Return the sections that both drawings have, weights adding up to 1; none if they say nothing."""
    found = {name: _of_items(matched, leniency) for name, matched in comparison.items.items()}
    if "blocks" in found:
        # Blocks that one drawing has taken apart are no difference.
        fewer = min(found["blocks"].query, found["blocks"].other)
        found["blocks"] = evolve(found["blocks"], score=found["blocks"].matched / fewer)
    if comparison.overlay is not None:
        found["entities"] = _of_lines(comparison, leniency)
    if not TELLING & found.keys():
        return {}
    layers = _of_layers(comparison.query, comparison.other, leniency)
    if layers is not None:
        found["layers"] = layers
    total = sum(leniency.weights[name] for name in found)
    ordered = sorted(found, key=lambda name: -leniency.weights[name])
    return {name: evolve(found[name], weight=leniency.weights[name] / total) for name in ordered}


def _of_lines(comparison: Comparison, leniency: Leniency) -> Section:
    laid = comparison.overlay
    assert laid is not None
    _, _, share = laid.query.by_source()
    _, _, others = laid.other.by_source()
    more, other_more = forgiven(comparison, leniency)
    return Section(
        score=leniency.combined(laid.query.found + more, laid.other.found + other_more),
        weight=0.0,
        query=len(share),
        other=len(others),
        matched=int(np.count_nonzero(share >= 1)),
    )


def _of_items(matched: Matched, leniency: Leniency) -> Section:
    pairs = len(matched.same) + len(matched.moved) + len(matched.changed)
    points = len(matched.same) + leniency.moved * len(matched.moved) + leniency.changed * len(matched.changed)
    query, other = pairs + len(matched.removed), pairs + len(matched.added)
    return Section(
        score=leniency.combined(points / query, points / other) if query and other else 1.0,
        weight=0.0,
        query=query,
        other=other,
        matched=len(matched.same) + len(matched.moved),
    )


def named_layers(geometry: Geometry) -> Mapping[str, Layer]:
    """Return the layers that someone named and drew on; all named ones where no entity was sent."""
    drawn = _drawn_layers(geometry)
    return {
        name: layer
        for name, layer in geometry.layers.items()
        if name.upper() not in UNNAMED_LAYERS and (not drawn or name in drawn)
    }


def _drawn_layers(geometry: Geometry) -> set[str]:
    """Return the layers of all but inserts, which are gone where they were taken apart."""
    entities = itertools.chain(geometry.entities, *(block.entities for block in geometry.blocks.values()))
    return {entity.layer for entity in entities if not isinstance(entity, Insert)}


def _of_layers(query: Geometry, other: Geometry, leniency: Leniency) -> Section | None:
    ours, theirs = named_layers(query), named_layers(other)
    if not ours or not theirs:
        return None
    common = ours.keys() & theirs.keys()
    points = sum(1.0 if ours[name] == theirs[name] else 0.9 for name in common)
    return Section(
        score=leniency.combined(points / len(ours), points / len(theirs)),
        weight=0.0,
        query=len(ours),
        other=len(theirs),
        matched=len(common),
    )
