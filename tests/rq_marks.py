"""What a stranger could name in a queue: importing this module, or calling its function, leaves a mark."""

from __future__ import annotations

import os
from pathlib import Path


def leave(*_: object) -> None:
    """Leave a mark where the variable says, if it does."""
    if where := os.environ.get("DEDUP2D_TEST_MARK"):
        Path(where).touch()


leave()
