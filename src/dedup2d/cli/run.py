"""The table of commands, and the frame that each of them runs in."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points, version
from types import FrameType

from attrs import frozen
from cyclopts import App, Group

from dedup2d.cli.endings import ending
from dedup2d.cli.terminal import Terminal

__all__ = ["run"]

_HELP = "Find duplicates, revisions, parts and variants of 2D drawings, and see what changed."

_EPILOGUE = """\
Reads PNG, JPEG, TIFF, PDF, DXF (also gzipped), DWG and SVG.

Exit codes:
  0    done; search and compare: something was found
  1    done, and nothing was found
  2    wrong usage, a wrong setting, or nothing of the input can be read
  3    done but for some files, each named with its reason
  130  interrupted; what was done stays"""


@frozen
class _Command:
    """A command as the list shows it, and the function that is loaded when it is called."""

    path: str
    arguments: str
    summary: str
    has_commands: bool = False


_COMMANDS = {
    "index": _Command("dedup2d.cli.index:index", "PATH...", "Put drawings into the index."),
    "search": _Command("dedup2d.cli.search:search", "FILE...", "Find what is like a drawing in the index."),
    "scan": _Command("dedup2d.cli.scan:scan", "FOLDER", "Find duplicates and revisions within a folder."),
    "compare": _Command("dedup2d.cli.compare:compare", "OLD NEW", "Compare two drawings, show what changed."),
    "geometry": _Command("dedup2d.cli.geometry:geometry", "FILE", "Write a DXF or DWG as geometry JSON."),
    "drawings": _Command("dedup2d.cli.drawings:drawings", "", "List the drawings in the index."),
    "remove": _Command("dedup2d.cli.drawings:remove", "ID...", "Remove drawings from the index."),
    "rebuild": _Command("dedup2d.cli.drawings:rebuild", "", "Make all fingerprints of the index anew."),
    "export": _Command("dedup2d.cli.export:export", "FILE", "Write an index into one file: a backup."),
    "import": _Command("dedup2d.cli.export:import_", "FILE", "Bring an index from such a file."),
    "keys": _Command(
        "dedup2d.cli.keys:app", "", "Create, list and revoke keys of the service.", has_commands=True
    ),
    "doctor": _Command("dedup2d.cli.doctor:doctor", "", "Check settings and servers; say what to do."),
    "gc": _Command("dedup2d.cli.gc:gc", "", "Delete what nobody needs: expired jobs, orphan files."),
    "samples": _Command("dedup2d.cli.samples:samples", "DIRECTORY", "Generate drawings to try things on."),
}
_ADAPTERS = {
    "serve": ("", "Start the service, with samples if you like."),
    "vision": ("serve", "Answer searches of other machines."),
    "worker": ("", "Run jobs that a service has put into Redis."),
}
"""What the list shows of commands that other packages bring: arguments and summary."""


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
    called = next((word for word in arguments if not word.startswith("-")), "")
    app = _app(called)
    result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    return int(result or 0)


def _app(called: str) -> App:
    app = App(
        name="dedup2d",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        version=lambda: f"dedup2d {version('dedup2d')}",
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
        group_commands=Group("Commands", sort_key=1),
    )
    for place, (name, command) in enumerate((*_COMMANDS.items(), *_adapters().items())):
        # A summary stands for the help of a command that need not be loaded.
        help_text = None if name == called else command.summary
        if command.has_commands:
            app.command(command.path, name=name, help=help_text, sort_key=place)
            continue
        app.command(
            command.path,
            name=name,
            help=help_text,
            usage=f"Usage: dedup2d {name} [OPTIONS] {command.arguments}".rstrip(),
            help_format="markdown",
            help_epilogue="Exit codes: see `dedup2d --help`.",
            sort_key=place,
        )
    app["--help"].sort_key = app["--version"].sort_key = 200
    return app


def _adapters() -> dict[str, _Command]:
    """Commands that other packages bring, so that the library need not know them."""
    found = {entry.name: entry.value for entry in entry_points(group="dedup2d.commands")}
    return {
        name: _Command(path, *_ADAPTERS.get(name, ("", "")))
        for name, path in sorted(found.items())
        if name not in _COMMANDS
    }


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
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # Scripts start what runs in the background so; then SIGTERM would do nothing either.
            signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # not the main thread: whoever runs us there has handlers of their own
        yield came
        return
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
