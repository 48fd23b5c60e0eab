"""What makes a SQLite database one of an index: its mark, its schema and its errors."""

from __future__ import annotations

from dedup2d.database import DatabaseKind
from dedup2d.engine import rows
from dedup2d.errors import Dedup2DError, IndexVersionError, VisionUnavailableError

__all__ = ["INDEX"]


def _unavailable(reason: str) -> Dedup2DError:
    return VisionUnavailableError(f"the index database: {reason}")


def _newer(found: int, known: int) -> Dedup2DError:
    return IndexVersionError(
        f"the index has format {found}, this version of dedup2d knows up to {known}:"
        " upgrade dedup2d, or index the drawings into another data directory"
    )


INDEX = DatabaseKind(
    name="index database",
    application_id=0x64643264,
    schema=rows.SCHEMA,
    version=rows.SCHEMA_VERSION,
    upgrades=rows.UPGRADES,
    unavailable=_unavailable,
    newer=_newer,
)
"""The kind of an index; its application id reads "dd2d"."""
