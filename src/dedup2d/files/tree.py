"""
Keys as a tree of directories, reached by open directories alone.

Every step from one directory to the next refuses symbolic links, so nothing put inside the
tree leads out of it, not even when it changes while it is walked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import nsmallest

from attrs import frozen

from dedup2d.files.keys import is_key
from dedup2d.types import StoredFile

__all__ = ["Wanted", "directory", "names", "open_file", "prune", "stored", "walk"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a named pipe for reading would wait for its writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@frozen(kw_only=True)
class Wanted:
    """Which files a walk gives; it looks at *batch* names of a directory at a time."""

    prefix: str = ""
    older_than: float | None = None
    after: str = ""
    batch: int = 1000

    def file(self, key: str) -> bool:
        return key > self.after and key.startswith(self.prefix) and is_key(key)

    def folder(self, base: str) -> bool:
        """Say whether keys that begin with *base*, which ends with a slash, can be wanted."""
        in_prefix = base.startswith(self.prefix) or self.prefix.startswith(base)
        return in_prefix and (base > self.after or self.after.startswith(base)) and is_key(base + "x")


def names(key: str) -> list[str]:
    """
    Return the names of the directories and of the file for *key*.

    Directories end with a `+`, which no key has, so that `a` and `a/b` can both be stored.
    """
    *folders, leaf = key.split("/")
    return [*(f"{folder}+" for folder in folders), leaf]


@contextmanager
def directory(root: int, folders: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """Open the directory *folders* below the open directory *root*, making it if asked to."""
    opened = os.dup(root)
    try:
        for name in folders:
            if create:
                _make(opened, name)
            child = os.open(name, _DIRECTORY, dir_fd=opened)
            os.close(opened)
            opened = child
        yield opened
    finally:
        os.close(opened)


def open_file(parent: int, name: str) -> int:
    """
    Open a plain file of the open directory *parent*.

    Raises:
        OSError: it is not there, or something else is.
    """
    opened = os.open(name, _FILE, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise FileNotFoundError
    return opened


def prune(root: int, folders: Sequence[str]) -> None:
    """Remove the directory *folders* below *root*, and those above, as far as they are empty."""
    with suppress(OSError):
        for depth in range(len(folders), 0, -1):
            with directory(root, folders[: depth - 1]) as parent:
                os.rmdir(folders[depth - 1], dir_fd=parent)


def stored(key: str, status: os.stat_result, sha256: str = "") -> StoredFile:
    """Return *key* as a stored file; its time is that of the last change to its bytes."""
    return StoredFile(
        key=key, size=status.st_size, created_at=status.st_mtime_ns / 1_000_000_000, sha256=sha256
    )


def walk(root: int, wanted: Wanted, *, folders: tuple[str, ...] = (), base: str = "") -> Iterator[StoredFile]:
    """Give the *wanted* files in the order of their keys, reading no further than is asked for."""
    after = ""
    while batch := _batch(root, folders, base, after, wanted):
        for name, file in batch:
            if file is not None:
                yield file
            elif name.endswith("/"):
                yield from walk(root, wanted, folders=(*folders, f"{name[:-1]}+"), base=base + name)
        after = batch[-1][0]


def _batch(
    root: int, folders: Sequence[str], base: str, after: str, wanted: Wanted
) -> list[tuple[str, StoredFile | None]]:
    try:
        with directory(root, folders) as parent, os.scandir(parent) as entries:
            found = (_named(entry, base, wanted) for entry in entries)
            next_names = nsmallest(wanted.batch, (name for name in found if name > after))
            return [(name, _file(parent, base, name)) for name in next_names]
    except OSError:
        return []  # the directory went away, or is a link


def _named(entry: os.DirEntry[str], base: str, wanted: Wanted) -> str:
    """Return the name by which *entry* sorts among the keys, or nothing if it is not wanted."""
    name = entry.name
    if name.endswith("+") and entry.is_dir(follow_symlinks=False):
        sorts_as = f"{name[:-1]}/"
        return sorts_as if wanted.folder(base + sorts_as) else ""
    if wanted.file(base + name) and entry.is_file(follow_symlinks=False):
        return name if _old_enough(entry, wanted.older_than) else ""
    return ""


def _old_enough(entry: os.DirEntry[str], older_than: float | None) -> bool:
    if older_than is None:
        return True
    try:
        return entry.stat(follow_symlinks=False).st_mtime_ns / 1_000_000_000 < older_than
    except FileNotFoundError:
        return False


def _file(parent: int, base: str, name: str) -> StoredFile | None:
    if name.endswith("/"):
        return None
    try:
        return stored(base + name, os.stat(name, dir_fd=parent, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _make(parent: int, name: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
        os.fsync(parent)
