"""Named sets of search parameters. A parameter that a request gives itself wins over its preset's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, frozen

from dedup2d.search_params import Mode, PrecisionProfile, VersionGate

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
    precision_profile: PrecisionProfile
    precision_top_n: int
    precision_visual_weight: float
    precision_geom_weight: float
    version_gate: VersionGate

    def search_params(self) -> Mapping[str, Any]:
        """Return the preset's part of `SearchParams`."""
        return {name: value for name, value in asdict(self).items() if name not in ("name", "description")}


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="strict",
            description="only what is the same drawing counts as duplicate",
            mode=Mode.BALANCED,
            duplicate_threshold=0.95,
            similar_threshold=0.80,
            precision_profile=PrecisionProfile.STRICT,
            precision_top_n=20,
            precision_visual_weight=0.3,
            precision_geom_weight=0.7,
            version_gate=VersionGate.OFF,
        ),
        Preset(
            name="version",
            description="finds the versions of one drawing",
            mode=Mode.BALANCED,
            duplicate_threshold=0.95,
            similar_threshold=0.70,
            precision_profile=PrecisionProfile.VERSION,
            precision_top_n=50,
            precision_visual_weight=0.5,
            precision_geom_weight=0.5,
            version_gate=VersionGate.AUTO,
        ),
        Preset(
            name="loose",
            description="finds whatever resembles it",
            mode=Mode.BALANCED,
            duplicate_threshold=0.90,
            similar_threshold=0.50,
            precision_profile=PrecisionProfile.VERSION,
            precision_top_n=50,
            precision_visual_weight=0.6,
            precision_geom_weight=0.4,
            version_gate=VersionGate.OFF,
        ),
    )
}
