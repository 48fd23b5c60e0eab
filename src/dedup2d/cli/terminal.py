"""
What the command writes: tables, JSON, messages and a progress bar.

On a terminal there are colours and aligned columns; piped, columns are separated by
tabs, and there is neither colour nor progress. Results go to stdout, all else to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from attrs import frozen

from dedup2d.cli.text import visible

__all__ = ["Column", "Progress", "Terminal"]


@frozen
class Column:
    """A column of a table; one that wraps takes the room that the others leave."""

    name: str
    number: bool = False
    wraps: bool = False


class Progress(Protocol):
    """Told how far a long command is."""

    def total(self, count: int) -> None:
        """Say how much there is to do, once that is known."""

    def advance(self, note: str = "") -> None:
        """Say that one more is done; *note* is shown beside the bar."""


class _Silent:
    def total(self, count: int) -> None: ...

    def advance(self, note: str = "") -> None: ...


@frozen
class Terminal:
    """Where the command writes to. `quiet` leaves out progress and notes."""

    quiet: bool = False

    @property
    def shows_progress(self) -> bool:
        """Whether a bar would be seen, and would not get into anything else."""
        watched = sys.stdout.isatty() and sys.stderr.isatty()
        return watched and not self.quiet and os.environ.get("TERM") != "dumb"

    def line(self, text: str = "") -> None:
        """Write one line of a result."""
        sys.stdout.write(text + "\n")

    def note(self, text: str) -> None:
        """Write one line for a person, unless it should be quiet."""
        if not self.quiet:
            sys.stderr.write(text + "\n")

    def warn(self, text: str) -> None:
        """Write one line about something that went wrong but does not stop the command."""
        sys.stderr.write(f"dedup2d: {text}\n")

    def error(self, text: str) -> None:
        """Write one line about what stops the command."""
        sys.stderr.write(f"dedup2d: error: {text}\n")

    def json(self, value: Any) -> None:
        """Write *value* as one JSON document, indented on a terminal."""
        self.line(json.dumps(value, indent=2 if sys.stdout.isatty() else None, ensure_ascii=True))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Write a table: for eyes on a terminal, for `cut` and `awk` in a pipe."""
        if sys.stdout.isatty():
            from dedup2d.cli.pretty import show_table  # noqa: PLC0415 - slow, and of no use in a pipe

            show_table([(column.name, column.number, column.wraps) for column in columns], rows)
            return
        self.line("\t".join(column.name for column in columns))
        for row in rows:
            self.line("\t".join(visible(cell) for cell in row))

    @contextmanager
    def progress(self, what: str) -> Iterator[Progress]:
        """Show a progress bar titled *what* while the body runs, if anyone can see it."""
        if not self.shows_progress:
            yield _Silent()
            return
        from dedup2d.cli.pretty import show_bar  # noqa: PLC0415 - as above

        with show_bar(what) as bar:
            yield bar
