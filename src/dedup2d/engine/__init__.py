"""The embedded engine: cleaning, fingerprints, candidates, verification, and the index on disk."""

from __future__ import annotations

from dedup2d.errors import MissingExtraError

try:
    import cv2  # noqa: F401 - so that a missing extra is told as such, whatever is imported first
    import numpy  # noqa: F401, ICN001 - as above
except ImportError as error:
    raise MissingExtraError("engine", "the embedded engine") from error
