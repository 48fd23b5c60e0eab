"""
The command `dedup2d`.

Each command lives in a module of its own that is loaded when it is called, so that
`dedup2d --help` stays fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command with *arguments* (default: those of the process) and return its exit code.

    Never raises; each error is one line on stderr.
    """
    try:
        from dedup2d.cli.run import run  # noqa: PLC0415 - its packages are behind an extra
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "dedup2d":
            raise
        sys.stderr.write(
            "dedup2d: error: the command needs an extra that is not installed:"
            ' pip install "dedup2d[engine]"\n'
        )
        return 2
    return run(sys.argv[1:] if arguments is None else arguments)
