"""
The file that `dedup2d export` writes: a tar with a manifest, and one database for each index.

After a database may come a tar with the geometries of its drawings, each under the hash of its file.

Readers trust nothing in it: one kind of header, the members that the manifest names in its order, each of
the size and sha256 that it says, and nothing else. No member is ever written under the name it has.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import IO

from attrs import frozen

from dedup2d.codec import from_json, to_json
from dedup2d.errors import Dedup2DError, UnreadableRecordError
from dedup2d.tenants import is_tenant_id

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "ArchiveError",
    "ArchivedGeometries",
    "ArchivedIndex",
    "Manifest",
    "Member",
    "Part",
    "Reader",
    "Writer",
    "next_file",
    "skip_padding",
    "write_file",
]

FORMAT = "dedup2d-index"
FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1024 * 1024
_LARGEST_MANIFEST = 64 * 1024 * 1024
_ROOM_FOR_ONE = 1024
_NO_HASH = "0" * 64

Told = Callable[[int], None]
"""Hears how many bytes more are done."""


class ArchiveError(Dedup2DError, ValueError):
    """A file is not an archive that can be imported."""

    def __init__(self, reason: str, step: str = "export the index again, or take another copy") -> None:
        super().__init__(f"the archive cannot be imported: {reason}: {step}")


@frozen(kw_only=True)
class ArchivedGeometries:
    """The geometries of one index in an archive."""

    geometries: int
    bytes: int
    sha256: str


@frozen(kw_only=True)
class ArchivedIndex:
    """One index in an archive; `geometries` is None if no drawing has one, or they were left out."""

    tenant: str
    bytes: int
    sha256: str
    drawings: int
    files: int
    stale: int
    geometries: ArchivedGeometries | None

    @property
    def members(self) -> tuple[Member, ...]:
        """What the archive has of it, in order."""
        found = [Member(index=self, part=Part.DATABASE, bytes=self.bytes, sha256=self.sha256)]
        if self.geometries is not None:
            size, digest = self.geometries.bytes, self.geometries.sha256
            found.append(Member(index=self, part=Part.GEOMETRIES, bytes=size, sha256=digest))
        return tuple(found)


class Part(StrEnum):
    """What an archive may have of an index, by the name that it has there."""

    DATABASE = "catalogue.sqlite3"
    GEOMETRIES = "geometries.tar"

    def of(self, tenant: str) -> str:
        return f"{tenant}/{self}"


@frozen(kw_only=True)
class Member:
    """One file of an archive."""

    index: ArchivedIndex
    part: Part
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return self.part.of(self.index.tenant)


@frozen(kw_only=True)
class Manifest:
    """
    What an archive holds, and what made it.

    Nothing has a default: a manifest that lacks something is damaged.
    """

    format: str
    format_version: int
    dedup2d: str
    created_at: float
    fingerprint_version: int
    schema_version: int
    indexes: tuple[ArchivedIndex, ...]


class Writer:
    """
    Writes an archive into a file that can be sought in: the manifest, which comes first, is known last.

    Args:
        file: empty, opened for writing.
        count: how many indexes there will be.
    """

    def __init__(self, file: IO[bytes], count: int) -> None:
        self._file = file
        self._room = _blocks(4096 + count * _ROOM_FOR_ONE)
        file.write(_header(_MANIFEST, self._room) + bytes(self._room))

    def add(self, name: str, size: int, source: IO[bytes], told: Told) -> str:
        """Copy *size* bytes of *source* as the member *name*, and return their sha256."""
        self._file.write(_header(name, size))
        digest = hashlib.sha256()
        for chunk in _chunks(source, size):
            digest.update(chunk)
            self._file.write(chunk)
            told(len(chunk))
        self._file.write(bytes(_blocks(size) - size))
        return digest.hexdigest()

    def finish(self, manifest: Manifest) -> None:
        """Write the end, and the manifest into its place."""
        self._file.write(bytes(2 * _BLOCK))
        data = to_json(manifest)
        assert len(data) < self._room, "the manifest is larger than its room"
        self._file.seek(_BLOCK)
        self._file.write(data.ljust(self._room - 1) + b"\n")


class Reader:
    """
    Reads an archive from its begin to its end.

    Raises:
        ArchiveError: it is none, or of a newer version.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        name, size = next_file(file)
        if name != _MANIFEST:
            raise ArchiveError("it does not begin with a manifest", "give a file that dedup2d export wrote")
        if size > _LARGEST_MANIFEST:
            raise ArchiveError(f"its manifest has {size:,} bytes, {_LARGEST_MANIFEST:,} are allowed")
        self.manifest = _manifest(b"".join(_chunks(file, size)))
        skip_padding(file, size)

    def members(self) -> Iterator[Member]:
        """
        Give each member that the manifest names, to be copied or skipped before the next is asked for.

        Raises:
            ArchiveError: another member comes, or something after the last.
        """
        for member in (one for index in self.manifest.indexes for one in index.members):
            if next_file(self._file) != (member.name, member.bytes):
                raise ArchiveError("its members are not those that its manifest names")
            yield member
            skip_padding(self._file, member.bytes)
        # A damaged copy of the begin with the rest of another is not taken for whole.
        if any(any(chunk) for chunk in iter(lambda: self._file.read(_CHUNK), b"")):
            raise ArchiveError("something follows its last member")

    def copy(self, member: Member, to: IO[bytes], told: Told) -> None:
        """
        Write the current member to *to*.

        Raises:
            ArchiveError: its bytes are not those that were exported.
        """
        digest = hashlib.sha256()
        for chunk in _chunks(self._file, member.bytes):
            digest.update(chunk)
            to.write(chunk)
            told(len(chunk))
        if digest.hexdigest() != member.sha256:
            raise ArchiveError(f"{member.name} is damaged: its sha256 is not that of the manifest")

    def skip(self, member: Member, told: Told) -> None:
        """Pass over the current member."""
        for chunk in _chunks(self._file, member.bytes):
            told(len(chunk))


def next_file(tar: IO[bytes]) -> tuple[str, int]:
    """
    Read the header of the next file of a tar: its name and size.

    Raises:
        ArchiveError: there is none, or it is none that `dedup2d export` writes.
    """
    block = tar.read(_BLOCK)
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):
        raise ArchiveError("it is cut off or damaged, or no archive of dedup2d export") from None
    # Long names, pax headers and sparse files would let the archive say how much memory is used.
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.size < 0:
        raise ArchiveError("it has members that are not plain files")
    return info.name, info.size


def skip_padding(tar: IO[bytes], size: int) -> None:
    """Pass over what fills the last block of a file of *size* bytes."""
    for _ in _chunks(tar, _blocks(size) - size):
        pass


def write_file(tar: IO[bytes], name: str, data: bytes) -> None:
    """Write one file into a tar."""
    tar.write(_header(name, len(data)) + data + bytes(_blocks(len(data)) - len(data)))


def _manifest(data: bytes) -> Manifest:
    try:
        manifest = from_json(data, Manifest)
    except UnreadableRecordError:
        raise ArchiveError("its manifest cannot be read") from None
    if manifest.format != FORMAT:
        raise ArchiveError(
            "its manifest is not one of dedup2d export", "give a file that dedup2d export wrote"
        )
    if manifest.format_version > FORMAT_VERSION:
        raise ArchiveError(
            f"it has format {manifest.format_version}, this version of dedup2d knows up to {FORMAT_VERSION}",
            "upgrade dedup2d",
        )
    tenants = [index.tenant for index in manifest.indexes]
    if not tenants or len(set(tenants)) != len(tenants) or not all(map(_sane, manifest.indexes)):
        raise ArchiveError("its manifest names indexes that cannot be")
    return manifest


def _sane(index: ArchivedIndex) -> bool:
    counts = [index.bytes, index.drawings, index.files, index.stale]
    if index.geometries is not None:
        counts += [index.geometries.geometries, index.geometries.bytes]
    return is_tenant_id(index.tenant) and all(0 <= count < 2**62 for count in counts)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    # One block, whatever the size; pax would need a header of its own above 8 GiB.
    return info.tobuf(tarfile.GNU_FORMAT)


def _chunks(source: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = source.read(min(left, _CHUNK))
        if not chunk:
            raise ArchiveError("it is cut off")
        left -= len(chunk)
        yield chunk


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
