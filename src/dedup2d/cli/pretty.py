"""Tables and progress bars for a terminal; loaded only where there is one."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from dedup2d.cli.text import visible

__all__ = ["Bar", "show_bar", "show_table"]

_STYLES = {
    "exact": "bold green",
    "identical": "green",
    "revision": "yellow",
    "mirrored": "magenta",
    "partial": "cyan",
    "variant": "blue",
    "similar": "dim",
    "duplicate": "bold green",
    "different": "dim",
}


def show_table(columns: Sequence[tuple[str, bool, bool]], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a column is its name, whether it holds numbers, and whether it may wrap."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name, number, wraps in columns:
        table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=not wraps)
    for row in rows:
        # Text, not markup: a file may be called "[red]".
        table.add_row(*(Text(visible(cell), style=_STYLES.get(cell, "")) for cell in row))
    Console(file=sys.stdout).print(table)


class Bar:
    """A progress bar that is shown."""

    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def total(self, count: int) -> None:
        self._bars.update(self._task, total=count)

    def advance(self, note: str = "") -> None:
        self._bars.update(self._task, advance=1, note=visible(note)[:60])


@contextmanager
def show_bar(what: str) -> Iterator[Bar]:
    """Show a bar titled *what* on stderr while the body runs."""
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(file=sys.stderr),
        transient=True,
    )
    with bars:
        yield Bar(bars, bars.add_task(what, total=None, note=""))
