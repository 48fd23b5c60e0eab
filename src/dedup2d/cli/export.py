"""`dedup2d export` and `dedup2d import`: indexes in one file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from attrs import asdict
from cyclopts import Parameter

from dedup2d.backup.archive import ArchivedIndex
from dedup2d.backup.exporting import Exported, export_indexes, tenants_in
from dedup2d.backup.importing import Imported, import_indexes
from dedup2d.cli.exits import Exit
from dedup2d.cli.options import DataDir, Json, Quiet, load_settings
from dedup2d.cli.session import EmptyIndexError
from dedup2d.cli.terminal import Progress, Terminal
from dedup2d.cli.text import counted, visible
from dedup2d.settings import Settings

__all__ = ["export", "import_"]

_MIB = 1024 * 1024

All = Annotated[
    bool,
    Parameter(
        name="--all",
        negative="",
        show_default=False,
        help="The indexes of all tenants. [default: $DEDUP2D_TENANT's]",
    ),
]
File = Annotated[Path, Parameter(name="FILE", show_default=False)]


def export(
    file: File,
    /,
    *,
    every: All = False,
    replace: Annotated[
        bool, Parameter(negative="", show_default=False, help="Write over FILE if it is there.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Write an index into one file, to be kept or taken to another machine by `dedup2d import`.

    Services and `dedup2d index` may go on: the file holds what was in the index at one moment. It appears
    when it is whole. It holds what can be seen of the drawings, so keep it as safe as them. Geometries, which
    lie beside the uploads, are not in it.

    Args:
        file: The file to write.
    """
    terminal, settings, started = Terminal(quiet=quiet), load_settings(data_dir), time.monotonic()
    directory = _directory(settings)
    tenants = [one for one in tenants_in(directory) if every or one == settings.tenant]
    if not tenants:
        raise EmptyIndexError(settings.data_dir)
    with terminal.progress("Exporting (MiB)") as progress:
        steps = _Steps(progress)
        done = export_indexes(directory, tenants, file, replace=replace, sized=steps.sized, told=steps.told)
    _tell_exported(terminal, file, done, json=json, seconds=time.monotonic() - started)
    return Exit.OK


def import_(
    file: File,
    /,
    *,
    every: All = False,
    replace: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Put it in the place of an index that is there."),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Bring an index from a file that `dedup2d export` wrote.

    The file is checked before anything is changed; the index is then there at once, or not at all. Services
    that run go on with it. An index that is there is replaced only with --replace, all of it.

    Args:
        file: The file to read.
    """
    terminal, settings, started = Terminal(quiet=quiet), load_settings(data_dir), time.monotonic()
    wanted = None if every else [settings.tenant]
    with terminal.progress("Importing (MiB)") as progress:
        steps = _Steps(progress)
        done = import_indexes(
            file, _directory(settings), wanted, replace=replace, sized=steps.sized, told=steps.told
        )
    _tell_imported(terminal, done, json=json, seconds=time.monotonic() - started)
    return Exit.OK


def _directory(settings: Settings) -> Path:
    return settings.data_dir / "index"


class _Steps:
    """Turns bytes into the steps of a progress bar, a MiB each."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bytes = 0

    def sized(self, size: int) -> None:
        self._progress.total(size // _MIB)

    def told(self, size: int) -> None:
        before, self._bytes = self._bytes, self._bytes + size
        for _ in range(self._bytes // _MIB - before // _MIB):
            self._progress.advance()


def _tell_exported(terminal: Terminal, file: Path, done: Exported, *, json: bool, seconds: float) -> None:
    if json:
        indexes = [asdict(index) for index in done.manifest.indexes]
        terminal.json(
            {"file": str(file), "bytes": done.bytes, "indexes": indexes, "seconds": round(seconds, 3)}
        )
        return
    for index in done.manifest.indexes:
        terminal.line(f"{index.tenant}: {counted(index.drawings, 'drawing')} exported")
    terminal.line(f"{visible(str(file))}: {done.bytes:,} bytes in {seconds:.1f} s")
    _note_stale(terminal, sum(map(_stale, done.manifest.indexes)))


def _stale(index: ArchivedIndex) -> int:
    return index.stale


def _tell_imported(terminal: Terminal, done: list[Imported], *, json: bool, seconds: float) -> None:
    if json:
        terminal.json({"indexes": [asdict(index) for index in done], "seconds": round(seconds, 3)})
        return
    for index in done:
        how = "replaced by" if index.replaced else "imported with"
        terminal.line(f"{index.tenant}: {how} {counted(index.drawings, 'drawing')}")
    terminal.note(f"done in {seconds:.1f} s")
    _note_stale(terminal, sum(index.stale for index in done))


def _note_stale(terminal: Terminal, stale: int) -> None:
    if stale:
        terminal.note(
            f"{counted(stale, 'drawing has', 'drawings have')} fingerprints of another version,"
            " which searches leave out: dedup2d rebuild makes them anew"
        )
