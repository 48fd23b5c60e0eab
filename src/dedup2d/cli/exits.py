"""
Exit codes of the command.

They follow what people know: `grep` (0 found, 1 not found, 2 trouble) and `rsync` (a code of
its own where a part of the files failed).
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Exit"]


class Exit(IntEnum):
    """What the exit code says."""

    OK = 0
    """Done; for `search` and `compare`: something was found."""
    NOTHING = 1
    """Done, and nothing was found."""
    FAILED = 1
    """Done, and what was looked at is not as it should be."""
    ERROR = 2
    """Wrong usage, bad input or a wrong setting; nothing was done."""
    PARTIAL = 3
    """Done but for some files, each named with its reason."""
    INTERNAL = 70
    """A bug of dedup2d (EX_SOFTWARE of sysexits.h)."""
    INTERRUPTED = 130
    """Ctrl-C; what was done stays."""
    BROKEN_PIPE = 141
    """The reader of the output went away, as `head` does."""
    TERMINATED = 143
    """SIGTERM; what was done stays."""
