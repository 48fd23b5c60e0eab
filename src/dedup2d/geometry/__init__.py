"""
Geometry: a drawing's entities as plug-ins send them ("v2 geometry JSON"), read, hashed and scored.

Needs the extra `engine`. Only `read_geometry` takes data from outside; the scorer takes what it gives.
"""

from __future__ import annotations

from dedup2d.errors import MissingExtraError

try:
    import msgspec  # noqa: F401 - so that a missing extra is told as such, whatever is imported first
    import numpy  # noqa: F401, ICN001 - as above
except ImportError as error:
    raise MissingExtraError("engine", "reading geometry") from error
