"""Scoring how alike two geometries are."""

from __future__ import annotations

from collections.abc import Mapping

from dedup2d.errors import InvalidParameterError
from dedup2d.geometry.comparing import Comparison, Prepared, compared
from dedup2d.geometry.differences import differences
from dedup2d.geometry.model import Geometry
from dedup2d.geometry.profiles import PROFILES
from dedup2d.geometry.result import GeometryScore, Profile, Section
from dedup2d.geometry.sections import sections

__all__ = ["Prepared", "rated", "score"]


def score(
    query: Geometry | Prepared,
    other: Geometry | Prepared,
    *,
    profile: str = Profile.STRICT,
    max_paths: int = 200,
    with_diff: bool = False,
) -> GeometryScore:
    """
    Return how alike *query* and *other* are.

    It does not matter in which order entities stand, how the drawing is turned, moved and scaled, whether
    lines are split, arcs are written as chords or blocks are taken apart. Takes a second or two for 10,000
    entities on each side: call it in a child process.

    Args:
        query: the drawing that is looked for; `Prepared(geometry)`, kept, where it is compared with several.
        other: the one it is compared with, likewise.
        profile: `strict` or `version`.
        max_paths: entries of the diff at most, 0 or more.
        with_diff: whether to say what differs.

    Raises:
        InvalidParameterError: *profile* is neither, or *max_paths* is negative.
    """
    if profile not in list(Profile):
        raise InvalidParameterError("precision_profile", profile, "strict or version")
    if max_paths < 0:
        raise InvalidParameterError("precision_diff_max_paths", max_paths, "0 or more")
    comparison = compared(*(one if isinstance(one, Prepared) else Prepared(one) for one in (query, other)))
    total, parts = rated(comparison, Profile(profile))
    return GeometryScore(
        score=total,
        breakdown=parts,
        diff=differences(comparison, max_paths) if with_diff else None,
        transform=comparison.similarity(),
        warnings=comparison.warnings(),
    )


def rated(comparison: Comparison, profile: Profile) -> tuple[float | None, Mapping[str, Section]]:
    """Return the score in *profile*, None if nothing can be compared, and its sections."""
    leniency = PROFILES[profile]
    parts = sections(comparison, leniency)
    # Taken from 1, so that sections which are all the same add up to exactly that.
    missing = sum(part.weight * (1.0 - part.score) for part in parts.values())
    return max(0.0, 1.0 - missing) * comparison.certainty(leniency) if parts else None, parts
