"""
Segments as files beside the catalogue, which any number of processes map and one at a time writes.

They are a cache. Whatever is missing, damaged or of another catalogue, version or time is passed over and
made again: what a segment holds counts only where the catalogue has the same drawing (see `Stamps`).
So there is no list of the files that count either, which could be out of step with them. A file
appears whole, under its final name. A process that is killed leaves at most a temporary one, and files that
newer ones have made useless; the next that writes clears both away.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from dedup2d.engine.fingerprint import FINGERPRINT_VERSION
from dedup2d.engine.segments import Segment, Sizes

__all__ = ["SegmentFiles"]

_FORMAT = 1
_MAGIC = b"dd2dseg\0"
_HEADER = struct.Struct("<8sII16sqqIIIIII")
_ALIGNMENT = 64
_CHECKED = ("key", "change", "mark", "first", "side", "says", "hash", "part_of", "part", "start")
_SUFFIX, _UNFINISHED = ".segment", ".unfinished"


class SegmentFiles:
    """
    The segment files of one catalogue.

    Args:
        directory: where they lie, made when the first is written.
        salt: what tells the catalogue from others, at most 16 characters.
    """

    def __init__(self, directory: Path, salt: str) -> None:
        self._directory = directory
        self._salt = salt.encode().ljust(16, b"\0")[:16]
        self._prefix = f"{_FORMAT}-{FINGERPRINT_VERSION}-"

    def names(self) -> frozenset[str]:
        """The names of the files that this version can read; none where the directory cannot be read."""
        return frozenset(
            name for name in self._listed() if name.startswith(self._prefix) and name.endswith(_SUFFIX)
        )

    def open(self, name: str) -> Segment | None:
        """Map a file; None if it is not there, damaged, or of another catalogue."""
        try:
            with (self._directory / name).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            return None
        return self._read(mapped, name)

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Say whether it is this process's turn to write and delete, until the end; never waits."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield False
            return
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    def write(self, segment: Segment) -> Segment:
        """
        Store a segment, flushed to the disk, and give it mapped; only in one's turn.

        Raises:
            OSError: the disk is full, or something else.
        """
        name = f"{self._prefix}{secrets.token_hex(8)}{_SUFFIX}"
        unfinished = self._directory / f"{name}{_UNFINISHED}"
        try:
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor
                file.writelines(self._pieces(segment))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self._directory / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self._flush_names()
        made = self.open(name)
        if made is None:
            raise OSError(f"the new file {name} cannot be read")
        return made

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; processes that have mapped them keep them. Only in one's turn."""
        for name in names:
            with suppress(OSError):
                (self._directory / name).unlink(missing_ok=True)

    def clear_away(self) -> None:
        """Delete what killed processes and older versions left. Only in one's turn."""
        self.delete(name for name in self._listed() if name.endswith(_UNFINISHED) or self._older(name))

    def _older(self, name: str) -> bool:
        parts = name.split("-")
        if not name.endswith(_SUFFIX) or len(parts) != 3 or not all(part.isdecimal() for part in parts[:2]):
            return False
        return (int(parts[0]), int(parts[1])) < (_FORMAT, FINGERPRINT_VERSION)

    def _listed(self) -> list[str]:
        try:
            return [path.name for path in self._directory.iterdir()]
        except OSError:
            return []

    def _flush_names(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _pieces(self, segment: Segment) -> Iterator[bytes | memoryview]:
        arrays, sizes = segment.arrays, segment.sizes
        keys = arrays["key"]
        low, high = (int(keys[0]), int(keys[-1])) if len(segment) else (0, -1)
        checksum = 0
        for name in _CHECKED:
            checksum = zlib.crc32(arrays[name].data, checksum)
        head = _HEADER.pack(_MAGIC, _FORMAT, FINGERPRINT_VERSION, self._salt, low, high, *sizes, checksum, 0)
        head = head[:-4] + struct.pack("<I", zlib.crc32(head[:-4]))
        yield head + bytes(_padding(len(head)))
        for name in sizes.shapes():
            yield arrays[name].data.cast("B") if arrays[name].size else b""
            yield bytes(_padding(arrays[name].nbytes))

    def _read(self, mapped: mmap.mmap, name: str) -> Segment | None:
        if len(mapped) < _HEADER.size:
            return None
        head = mapped[: _HEADER.size]
        magic, form, version, salt, _, _, *counts, checksum, own = _HEADER.unpack(head)
        if (magic, form, version, salt) != (_MAGIC, _FORMAT, FINGERPRINT_VERSION, self._salt):
            return None
        if own != zlib.crc32(head[:-4]):
            return None
        segment = _mapped(mapped, Sizes(*counts), name)
        if segment is None:
            return None
        found = 0
        for part in _CHECKED:
            found = zlib.crc32(segment.arrays[part].data, found)
        if found != checksum:
            return None
        # Read ahead: one long read now is less than thousands of short ones during the first search.
        mapped.madvise(mmap.MADV_WILLNEED)
        return segment


def _mapped(mapped: mmap.mmap, sizes: Sizes, name: str) -> Segment | None:
    place = _HEADER.size + _padding(_HEADER.size)
    arrays = {}
    for part, (kind, shape) in sizes.shapes().items():
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        if place + size > len(mapped):
            return None
        arrays[part] = np.frombuffer(mapped, kind, size // np.dtype(kind).itemsize, place).reshape(shape)
        place += size + _padding(size)
    return Segment(arrays, sizes, name=name) if place == len(mapped) else None


def _padding(size: int) -> int:
    return -size % _ALIGNMENT
