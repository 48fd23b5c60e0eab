"""
Finds the files that may be drawings below folders, one at a time.

Like `grep -r`, it follows symbolic links that are given by name and none that it meets, so
that it ends, and no file is met twice.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

from attrs import evolve, frozen

from dedup2d.errors import Dedup2DError, EmptyFileError, UnsupportedFormatError, shown
from dedup2d.readers.sniff import HEAD_BYTES, sniff

__all__ = ["Fate", "Found", "count_files", "looked_into", "reason_of", "walk", "without_name"]

_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pdf", ".dxf", ".dxf.gz", ".dwg", ".svg")


class Fate(StrEnum):
    """What is to happen to something that was found."""

    READ = "read"
    SKIPPED = "skipped"
    FAILED = "failed"


@frozen(kw_only=True)
class Found:
    """
    Something met on the way: a file to look at, or why it is not looked at.

    `named` says that the caller named this very file.
    """

    path: Path
    fate: Fate = Fate.READ
    reason: str = ""
    code: str = "UNREADABLE_DRAWING"
    named: bool = False
    size: int = 0
    mtime_ns: int = 0


def walk(paths: Sequence[Path], *, leave_out: Path | None = None) -> Iterator[Found]:
    """
    Give every file under *paths*, folders recursively, in constant memory.

    Hidden files, links and what is not a regular file are `skipped`; a folder that cannot be
    opened is `failed`; the folder *leave_out* is as if it were not there.
    """
    hidden = os.path.realpath(leave_out) if leave_out else ""
    for path in paths:
        try:
            resolved = path.resolve()
            is_folder = resolved.is_dir()
        except (OSError, RuntimeError, ValueError):  # a loop of links; a name with NUL
            yield Found(
                path=path, fate=Fate.FAILED, reason="it is not a path that can be followed", named=True
            )
            continue
        if is_folder:
            yield from _folder(resolved, hidden)
        else:
            yield _named(resolved, path)


def count_files(paths: Sequence[Path], *, leave_out: Path | None = None) -> int:
    """Count what `walk` gives."""
    return sum(1 for _ in walk(paths, leave_out=leave_out))


def looked_into(found: Found) -> Found:
    """
    Return *found* if its content is of a format that can be read, else what to do with it.

    A file that is no drawing is skipped, but failed if its name or the caller says that it is one.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with found.path.open("rb") as file:
            sniff(file.read(HEAD_BYTES), found.path.name)
    except (EmptyFileError, UnsupportedFormatError) as error:
        claimed = found.named or found.path.name.lower().endswith(_ENDINGS)
        fate = Fate.FAILED if claimed else Fate.SKIPPED
        return evolve(found, fate=fate, reason=without_name(error, found.path.name), code=error.code)
    return found


def _named(resolved: Path, given: Path) -> Found:
    try:
        status = resolved.stat()
    except OSError as error:
        return Found(path=given, fate=Fate.FAILED, reason=reason_of(error), named=True)
    if not stat.S_ISREG(status.st_mode):
        return Found(path=given, fate=Fate.FAILED, reason="it is neither a file nor a folder", named=True)
    return Found(path=resolved, named=True, size=status.st_size, mtime_ns=status.st_mtime_ns)


def _folder(top: Path, leave_out: str) -> Iterator[Found]:
    # Iterators on a stack instead of a list of all files: a folder may hold a million.
    waiting = [os.fspath(top)]
    while waiting:
        folder = waiting.pop()
        try:
            entries = os.scandir(folder)
        except OSError as error:
            yield Found(path=Path(folder), fate=Fate.FAILED, reason=reason_of(error))
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    if entry.path != leave_out:
                        waiting.append(entry.path)
                else:
                    yield _entry(entry)


def _entry(entry: os.DirEntry[str]) -> Found:
    path = Path(entry.path)
    if entry.name.startswith("."):
        return Found(path=path, fate=Fate.SKIPPED, reason="hidden")
    if not entry.is_file(follow_symlinks=False):
        return Found(path=path, fate=Fate.SKIPPED, reason="a link or not a regular file")
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return Found(path=path, fate=Fate.FAILED, reason=reason_of(error))
    return Found(path=path, size=status.st_size, mtime_ns=status.st_mtime_ns)


def without_name(error: Dedup2DError, name: str) -> str:
    """Return what *error* says about the file *name*, where the name is shown already."""
    return str(error).removeprefix(f"{shown(name)} ").removeprefix("is ")


def reason_of(error: OSError) -> str:
    """Return what the system said, without a path."""
    return (error.strerror or type(error).__name__).lower()
