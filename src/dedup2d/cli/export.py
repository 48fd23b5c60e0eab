"""`dedup2d export` and `dedup2d import`: indexes in one file."""

from __future__ import annotations

import os
import stat
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from attrs import asdict
from cyclopts import Parameter

from dedup2d.backup.archive import ArchivedIndex
from dedup2d.backup.exporting import Exported, export_indexes, tenants_in
from dedup2d.backup.geometries import Geometries
from dedup2d.backup.importing import Imported, import_indexes
from dedup2d.build import build_files, uploads_directory
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
    when it is whole. It holds what can be seen of the drawings, so keep it as safe as them. The geometries of
    the drawings, which lie beside the uploads, are in it too: give the environment of the service.

    Args:
        file: The file to write.
    """
    terminal, settings, started = Terminal(quiet=quiet), load_settings(data_dir), time.monotonic()
    directory = _directory(settings)
    tenants = [one for one in tenants_in(directory) if every or one == settings.tenant]
    if not tenants:
        raise EmptyIndexError(settings.data_dir)
    with terminal.progress("Exporting (MiB)") as progress, ExitStack() as stack:
        steps = _Steps(progress)
        done = export_indexes(
            directory,
            tenants,
            file,
            geometries=_geometries(settings, stack) if _has_uploads(settings) else None,
            replace=replace,
            sized=steps.sized,
            told=steps.told,
        )
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
    that run go on with it. An index that is there is replaced only with --replace, all of it. Geometries in
    the file go to the store of uploads: give the environment of the service.

    Args:
        file: The file to read.
    """
    terminal, settings, started = Terminal(quiet=quiet), load_settings(data_dir), time.monotonic()
    wanted = None if every else [settings.tenant]
    with terminal.progress("Importing (MiB)") as progress, ExitStack() as stack:
        if os.geteuid() == 0 and settings.file_storage == "local":
            stack.callback(_give_to_owner, uploads_directory(settings))
        steps = _Steps(progress)
        done = import_indexes(
            file,
            _directory(settings),
            wanted,
            geometries=_geometries(settings, stack),
            replace=replace,
            sized=steps.sized,
            told=steps.told,
        )
    _tell_imported(terminal, done, json=json, seconds=time.monotonic() - started)
    return Exit.OK


def _directory(settings: Settings) -> Path:
    return settings.data_dir / "index"


def _geometries(settings: Settings, stack: ExitStack) -> Geometries:
    return Geometries(lambda: build_files(settings), stack)


def _has_uploads(settings: Settings) -> bool:
    """Whether there can be geometries: a directory that is not there must not be made by an export."""
    return settings.file_storage != "local" or uploads_directory(settings).is_dir()


def _give_to_owner(uploads: Path) -> None:
    """
    Let the service read what root has stored in its directory, or in the one around if root made it.

    The directory is the service's, who may change it meanwhile: no link in it leads elsewhere.
    """
    if not uploads.is_dir():
        return
    own, around = uploads.stat(), uploads.parent.stat()
    owner = own if own.st_uid else around
    os.chown(uploads, owner.st_uid, owner.st_gid, follow_symlinks=False)
    for _, folders, names, place in os.fwalk(uploads):
        for name in (*folders, *names):
            found = os.stat(name, dir_fd=place, follow_symlinks=False)
            if found.st_uid == 0 and (stat.S_ISDIR(found.st_mode) or found.st_nlink == 1):
                os.chown(name, owner.st_uid, owner.st_gid, dir_fd=place, follow_symlinks=False)


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
            {
                "file": str(file),
                "bytes": done.bytes,
                "indexes": indexes,
                "damaged_geometries": done.damaged_geometries,
                "seconds": round(seconds, 3),
            }
        )
        return
    for index in done.manifest.indexes:
        geometries = 0 if index.geometries is None else index.geometries.geometries
        terminal.line(f"{index.tenant}: {_counts(index.drawings, geometries)} exported")
    terminal.line(f"{visible(str(file))}: {done.bytes:,} bytes in {seconds:.1f} s")
    if done.damaged_geometries:
        terminal.note(
            f"{counted(done.damaged_geometries, 'geometry is', 'geometries are')} damaged and left out:"
            " add those drawings again to have them compared by geometry"
        )
    _note_stale(terminal, sum(map(_stale, done.manifest.indexes)))


def _counts(drawings: int, geometries: int) -> str:
    text = counted(drawings, "drawing")
    return text + (f" and {counted(geometries, 'geometry', 'geometries')}" if geometries else "")


def _stale(index: ArchivedIndex) -> int:
    return index.stale


def _tell_imported(terminal: Terminal, done: list[Imported], *, json: bool, seconds: float) -> None:
    if json:
        terminal.json({"indexes": [asdict(index) for index in done], "seconds": round(seconds, 3)})
        return
    for index in done:
        how = "replaced by" if index.replaced else "imported with"
        terminal.line(f"{index.tenant}: {how} {_counts(index.drawings, index.geometries)}")
    terminal.note(f"done in {seconds:.1f} s")
    _note_stale(terminal, sum(index.stale for index in done))


def _note_stale(terminal: Terminal, stale: int) -> None:
    if stale:
        terminal.note(
            f"{counted(stale, 'drawing has', 'drawings have')} fingerprints of another version,"
            " which searches leave out: dedup2d rebuild makes them anew"
        )
