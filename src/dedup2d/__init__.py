"""
dedup2d finds, for a 2D drawing, its duplicates, revisions, parts and variants.

Importing this package needs attrs and anyio alone. Everything heavier lies in modules
behind extras and is loaded when it is first used.
"""

from __future__ import annotations

from dedup2d.errors import Dedup2DError
from dedup2d.service import Dedup2D, ServiceOptions
from dedup2d.types import (
    AddResult,
    Area,
    Comparison,
    DiffRegion,
    Drawing,
    Job,
    JobStatus,
    Match,
    Mode,
    Relation,
    SearchParams,
    SearchResult,
    Verdict,
)

__all__ = [
    "AddResult",
    "Area",
    "Comparison",
    "Dedup2D",
    "Dedup2DError",
    "DiffRegion",
    "Drawing",
    "Job",
    "JobStatus",
    "Match",
    "Mode",
    "Relation",
    "SearchParams",
    "SearchResult",
    "ServiceOptions",
    "Verdict",
]
