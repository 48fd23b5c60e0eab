"""Scoring how alike two geometries are."""

from __future__ import annotations

from dedup2d.geometry.model import Geometry
from dedup2d.geometry.result import GeometryDiff, GeometryScore, Profile, Similarity

__all__ = ["score"]


def score(
    query: Geometry,
    other: Geometry,
    *,
    profile: str = Profile.STRICT,
    max_paths: int = 200,
    with_diff: bool = False,
) -> GeometryScore:
    """Return how alike *query* and *other* are."""
    Profile(profile)
    same = query == other
    return GeometryScore(
        score=1.0 if same else 0.0,
        diff=GeometryDiff() if with_diff else None,
        transform=Similarity() if same else None,
        warnings=(f"max_paths {max_paths}",) if not same else (),
    )
