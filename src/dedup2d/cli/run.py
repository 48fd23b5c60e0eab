"""The table of commands, and the frame that each of them runs in."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points, version
from types import FrameType

from cyclopts import App, Group

from dedup2d.cli.endings import ending
from dedup2d.cli.terminal import Terminal

__all__ = ["run"]

_HELP = "Find duplicates, revisions, parts and variants of 2D drawings, and see what changed."

_EPILOGUE = """\
Reads PNG, JPEG, TIFF, PDF, DXF (also gzipped), DWG and SVG.

Exit codes: 0 done, something found; 1 done, nothing found; 2 wrong usage or bad input; 3 done but for
some files; 130 interrupted."""

_COMMANDS = {
    "index": ("dedup2d.cli.index:index", "Put drawings into the index."),
    "search": ("dedup2d.cli.search:search", "Find what is like a drawing in the index."),
    "scan": ("dedup2d.cli.scan:scan", "Find duplicates and revisions within a folder."),
    "compare": ("dedup2d.cli.compare:compare", "Compare two drawings and show what changed."),
    "drawings": ("dedup2d.cli.drawings:drawings", "List the drawings in the index."),
    "remove": ("dedup2d.cli.drawings:remove", "Remove drawings from the index."),
    "samples": ("dedup2d.cli.samples:samples", "Generate sample drawings to try things on."),
}
_HELP_OF_ADAPTERS = {"serve": "Start the service, with samples if you like."}


def run(arguments: Sequence[str]) -> int:
    """Run the command with *arguments* and return its exit code; never raises."""
    _never_fail_to_encode()
    with _terminate_as_interrupt() as terminated:
        try:
            code = _call(list(arguments))
            sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001 - this is where errors become exit codes
            return ending(error, Terminal(), terminated=bool(terminated))
        return code


def _call(arguments: list[str]) -> int:
    result = _app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return int(result or 0)


def _app() -> App:
    app = App(
        name="dedup2d",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        version=lambda: f"dedup2d {version('dedup2d')}",
        version_flags=["--version"],
        group_commands=Group("Commands", sort_key=1),
    )
    for place, (name, (path, summary)) in enumerate(_COMMANDS.items()):
        app.command(path, name=name, help=summary, sort_key=place)
    for entry in _adapters():
        app.command(entry.value, name=entry.name, help=_HELP_OF_ADAPTERS.get(entry.name), sort_key=100)
    app["--help"].sort_key = app["--version"].sort_key = 200
    return app


def _adapters() -> list[EntryPoint]:
    """Commands that other packages bring, so that the library need not know them."""
    found = {entry.name: entry for entry in entry_points(group="dedup2d.commands")}
    return [entry for name, entry in sorted(found.items()) if name not in _COMMANDS]


def _never_fail_to_encode() -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _terminate_as_interrupt() -> Iterator[list[int]]:
    """Let SIGTERM end a command as cleanly as Ctrl-C; the list says whether it came."""
    came: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs us there has handlers of their own
        yield came
        return
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
