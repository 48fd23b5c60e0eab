"""Two geometries from JSON to their score, in one step that a child process can do."""

from __future__ import annotations

from dedup2d.geometry.reading import read_geometry
from dedup2d.geometry.result import GeometryScore
from dedup2d.geometry.scoring import score

__all__ = ["compare_json"]


def compare_json(old: bytes, new: bytes, profile: str, max_paths: int) -> GeometryScore:
    """
    Return how alike two geometries are, with the difference from *old* to *new*.

    Meant to run inside `Children.call`.

    Args:
        old: v2 geometry JSON.
        new: the same of the other drawing.
        profile: `strict` or `version`.
        max_paths: most differences that are named.

    Raises:
        InvalidGeometryError: one of them is not, or exceeds a limit.
    """
    return score(read_geometry(old), read_geometry(new), profile=profile, max_paths=max_paths, with_diff=True)
