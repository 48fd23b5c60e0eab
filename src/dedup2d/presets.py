"""Named sets of search parameters. A parameter that a request gives itself wins over its preset's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from dedup2d.types import Mode

__all__ = ["PRESETS", "Preset"]


@frozen(kw_only=True)
class Preset:
    """
    A named set of parameters.

    The thresholds are as in `SearchParams`. What starts with `precision_`, and the version gate, act on
    searches that bring the drawing's geometry: weights are of the visual and the geometric score,
    `precision_top_n` says how many matches are scored by geometry.
    """

    name: str
    description: str
    mode: Mode
    duplicate_threshold: float
    similar_threshold: float
    precision_profile: str
    precision_top_n: int
    precision_visual_weight: float
    precision_geom_weight: float
    version_gate: str

    def search_params(self) -> Mapping[str, Any]:
        """Return the preset's part of `SearchParams`."""
        return {
            "mode": self.mode,
            "duplicate_threshold": self.duplicate_threshold,
            "similar_threshold": self.similar_threshold,
        }


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="strict",
            description="only what is the same drawing counts as duplicate",
            mode=Mode.BALANCED,
            duplicate_threshold=0.95,
            similar_threshold=0.80,
            precision_profile="strict",
            precision_top_n=20,
            precision_visual_weight=0.3,
            precision_geom_weight=0.7,
            version_gate="off",
        ),
        Preset(
            name="version",
            description="finds the versions of one drawing",
            mode=Mode.BALANCED,
            duplicate_threshold=0.95,
            similar_threshold=0.70,
            precision_profile="version",
            precision_top_n=50,
            precision_visual_weight=0.5,
            precision_geom_weight=0.5,
            version_gate="auto",
        ),
        Preset(
            name="loose",
            description="finds whatever resembles it",
            mode=Mode.BALANCED,
            duplicate_threshold=0.90,
            similar_threshold=0.50,
            precision_profile="version",
            precision_top_n=50,
            precision_visual_weight=0.6,
            precision_geom_weight=0.4,
            version_gate="off",
        ),
    )
}
