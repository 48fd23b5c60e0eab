"""
What is done with geometry in child processes: it comes from strangers, and takes time and memory.

Every function is for `dedup2d.children.Children.call`. The packages that they need load in the child.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from dedup2d.geometry.result import GeometryDiff, GeometryScore
from dedup2d.precision.findings import Facts, Finding

if TYPE_CHECKING:
    from dedup2d.geometry.extracting import Extracted
    from dedup2d.geometry.model import Geometry
    from dedup2d.geometry.scoring import Prepared
    from dedup2d.readers import ReadLimits

__all__ = ["Wanted", "compared", "examined", "extracted", "scored"]

# ruff: noqa: PLC0415 - see above

_LONGEST_TEXT = 200
"""Characters of a text that a difference shows."""

_LONGEST_LIST = 32


@frozen(kw_only=True)
class Wanted:
    """How two geometries are to be compared: `profile` and `max_paths` as in `SearchParams`."""

    profile: str
    max_paths: int
    with_diff: bool = True


def examined(data: bytes) -> Facts:
    """
    Read geometry JSON and say what it is.

    Raises:
        InvalidGeometryError: it is not JSON, not of the v2 format, or exceeds a limit.
        MissingExtraError: the packages for it are not installed.
    """
    geometry = _prepared(data).geometry
    inner = sum(len(block.entities) for block in geometry.blocks.values())
    return Facts(
        entities=len(geometry.entities) + inner,
        drawing_number=geometry.drawing_number,
        warnings=geometry.warnings,
    )


def extracted(path: str, name: str, limits: ReadLimits | None) -> Extracted:
    """
    Return the geometry of the DXF or DWG file at *path*.

    Raises: as `dedup2d.geometry.extracting.extract`.
    """
    from dedup2d.geometry.extracting import extract

    return extract(path, name, limits)


def scored(query: bytes, other: bytes, wanted: Wanted) -> Finding:
    """
    Compare the geometry of a match with the query's.

    Raises: as `examined`.
    """
    geometry = _read_anew(other)
    found = _compare(_prepared(query), geometry, wanted)
    return Finding(
        score=found.score,
        breakdown=found.breakdown,
        diff=found.diff or GeometryDiff(),
        mirrored=found.transform is not None and found.transform.mirrored,
        drawing_number=geometry.drawing_number,
        warnings=found.warnings,
    )


def compared(query: bytes, other: bytes, wanted: Wanted) -> GeometryScore:
    """
    Compare two geometries.

    Raises: as `examined`.
    """
    left, right = _prepared(query), _read_anew(other)
    found = _compare(left, right, wanted)
    sides = (("query", left.geometry), ("other", right))
    notes = [f"{name}: {text}" for name, one in sides for text in one.warnings]
    return evolve(found, warnings=(*found.warnings, *notes))


def _compare(query: Prepared, other: Geometry, wanted: Wanted) -> GeometryScore:
    from dedup2d.geometry.scoring import score

    found = score(
        query, other, profile=wanted.profile, max_paths=wanted.max_paths, with_diff=wanted.with_diff
    )
    if found.diff is None:
        return found
    entries = tuple(
        evolve(each, before=_shortened(each.before), after=_shortened(each.after))
        for each in found.diff.entries
    )
    return evolve(found, diff=evolve(found.diff, entries=entries))


def _shortened(value: Any) -> Any:
    """Return *value* as it is shown: nobody reads the ten thousand points of a spline."""
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return value[: _LONGEST_TEXT - 3] + "..."
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        shown = [_shortened(each) for each in value[:_LONGEST_LIST]]
        return [*shown, f"and {len(value) - _LONGEST_LIST:,} more"] if len(value) > _LONGEST_LIST else shown
    return value


@lru_cache(maxsize=1)
def _prepared(data: bytes) -> Prepared:
    """Read the query, which is compared with one match after the other."""
    from dedup2d.geometry.scoring import Prepared

    return Prepared(_read_anew(data))


def _read_anew(data: bytes) -> Geometry:
    from dedup2d.geometry.reading import read_geometry

    return read_geometry(data)
