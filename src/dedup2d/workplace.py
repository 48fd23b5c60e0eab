"""Hidden directories in which something is prepared, until it goes to its place by one rename."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["sync_directory", "workplace"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def workplace(parent: Path, name: str) -> Iterator[Path]:
    """
    Give a new directory `.NAME-…` in *parent*, and delete it in the end with what is in it.

    Those that killed processes have left are deleted too: whose owner lives is told by a lock, which ends
    with its process.

    Raises:
        OSError: it cannot be made.
    """
    _clear_away(parent, f".{name}-")
    place, lock = parent / f".{name}-{secrets.token_hex(8)}", None
    try:
        lock = _made(place)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _made(place: Path) -> int:
    """Make the directory and return what keeps it locked."""
    while True:
        place.mkdir(mode=0o700)
        lock = os.open(place, _DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_SH)
        # Before it was locked, another process may have taken it for one that was left.
        if place.exists():
            return lock
        os.close(lock)


def _clear_away(parent: Path, prefix: str) -> None:
    for path in parent.iterdir():
        if path.name.startswith(prefix):
            with suppress(OSError):
                _clear_if_left(path)


def _clear_if_left(place: Path) -> None:
    lock = os.open(place, _DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(lock)


def sync_directory(directory: Path) -> None:
    """
    Bring the names in *directory* to the disk.

    Raises:
        OSError: it cannot be opened.
    """
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
