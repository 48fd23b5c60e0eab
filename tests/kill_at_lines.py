"""
Exports or imports again and again, each time killed one line of our code later; run by test_export.

Each try is a fork of one warm process, so that every line of a run is reached within seconds. Prints what was
found after each kill, and `done` with the number of lines once a try has come to its end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import Any

from dedup2d import workplace
from dedup2d.backup import archive, database, exporting, geometries, importing
from dedup2d.files.local import LocalFileStore

OURS = {module.__file__ for module in (archive, database, exporting, geometries, importing, workplace)}
NEW = 6
"""Drawings of the index that is imported; one of its files has a geometry."""


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def killed_at(line: int, work: Callable[[], object]) -> bool:
    """Do *work* in a fork that is killed before its *line*-th line of ours; say whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            if frame.f_code.co_filename not in OURS:
                return None
            count += event == "line"
            if count == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        work()
        sys.settrace(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0, status
    return os.WIFSIGNALED(status)


def drawings(path: Path) -> int:
    """Count what the index has, which must be sound."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        count: int = connection.execute("SELECT count(*) FROM drawings").fetchone()[0]
        return count


def brought(file: Path, directory: Path, stored: Path, *, replace: bool) -> None:
    with ExitStack() as stack:
        kept = geometries.Geometries(lambda: LocalFileStore(stored), stack)
        importing.import_indexes(file, directory, ["tenant"], geometries=kept, replace=replace)


def kill_imports(file: Path, directory: Path, pristine: Path) -> None:
    """Kill at each line; where no index was before, of which there is less to lose, at each fifth."""
    line, was_there, stored = 0, pristine.exists(), directory.parent / "files"
    while True:
        line += 1 if was_there else 5
        shutil.rmtree(directory / "tenant", ignore_errors=True)
        if was_there:
            shutil.copytree(pristine, directory / "tenant")
        shutil.rmtree(stored, ignore_errors=True)
        killed = killed_at(line, lambda: brought(file, directory, stored, replace=was_there))
        place = exporting.catalogue_of(directory, "tenant")
        found = drawings(place) if place.exists() else 0
        assert found != NEW or len(list(stored.rglob("*.json.gz"))) == 1, "an index without its geometry"
        say(found)
        if not killed:
            break
    say("left", *(path.name for path in directory.iterdir() if path.name.startswith(".")))
    say("done", line)


def kill_exports(file: Path, directory: Path) -> None:
    line, killed = 0, True
    while killed:
        line += 1
        file.write_bytes(b"old")
        killed = killed_at(line, lambda: exporting.export_indexes(directory, ["tenant"], file, replace=True))
        say("old" if file.read_bytes() == b"old" else exported(file))
    say("left", *(path.name for path in file.parent.iterdir() if path.name.startswith(".")))
    say("done", line)


def exported(file: Path) -> int:
    """Read an archive to its end and return how many drawings it has."""
    with file.open("rb") as source:
        reader = archive.Reader(source)
        for member in reader.members():
            reader.skip(member, lambda _: None)
        return member.index.drawings


if __name__ == "__main__":
    what, *paths = sys.argv[1], *map(Path, sys.argv[2:])
    if what == "import":
        kill_imports(*paths)
    else:
        kill_exports(*paths)
