"""What the profiles of a score forgive."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from dedup2d.geometry.result import Profile

__all__ = ["PROFILES", "Leniency"]


@frozen(kw_only=True)
class Leniency:
    """
    How a profile weighs what differs.

    Args:
        weights: of the sections, before they are shared out among those that both drawings have.
        moved: what a thing that only moved counts.
        changed: what a thing counts whose content changed in place.
        line_moved: what of a line, arc or curve counts that only moved.
        line_changed: the same where its size changed.
        contained: from 0, the shared part is measured by both drawings, to 1, by the one it makes up more of.
        mirrored: factor for a drawing that is found mirrored only.
    """

    weights: Mapping[str, float]
    moved: float
    changed: float
    line_moved: float
    line_changed: float
    contained: float
    mirrored: float

    def combined(self, query: float, other: float) -> float:
        """Return one score from the shares of both drawings that are found in the other."""
        if query + other <= 0:
            return 0.0
        both = 2 * query * other / (query + other)
        return both + self.contained * (max(query, other) - both)


_WEIGHTS = {
    "entities": 0.60,
    "dimensions": 0.20,
    "texts": 0.12,
    "hatches": 0.04,
    "layers": 0.02,
    "blocks": 0.02,
}

PROFILES: Mapping[Profile, Leniency] = {
    Profile.STRICT: Leniency(
        weights=_WEIGHTS,
        moved=0.5,
        changed=0.0,
        line_moved=0.0,
        line_changed=0.0,
        contained=0.0,
        mirrored=0.75,
    ),
    Profile.VERSION: Leniency(
        weights={**_WEIGHTS, "dimensions": 0.10, "texts": 0.08},
        moved=0.9,
        changed=0.6,
        line_moved=0.9,
        line_changed=0.6,
        contained=0.7,
        mirrored=0.9,
    ),
}
