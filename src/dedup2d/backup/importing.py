"""Brings indexes of an archive to their places, each of them whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from attrs import evolve, frozen

from dedup2d.backup.archive import ArchivedIndex, ArchiveError, Manifest, Member, Part, Reader, Told
from dedup2d.backup.database import Facts, make_ready
from dedup2d.backup.exporting import catalogue_of, check_room
from dedup2d.backup.geometries import Geometries
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION
from dedup2d.errors import Dedup2DError
from dedup2d.workplace import sync_directory, workplace

__all__ = ["Imported", "IndexThereError", "import_indexes"]

_CURRENT_DIRECTORY = -100
_EXCHANGE = 2


class IndexThereError(Dedup2DError, FileExistsError):
    """A tenant has an index already."""

    def __init__(self, tenant: str) -> None:
        super().__init__(
            f"there is an index of {tenant} already, and nothing was changed: --replace puts the archive's"
            " in its place, and what it has is gone then"
        )


@frozen
class Imported:
    """One index that was brought to its place."""

    tenant: str
    drawings: int
    files: int
    stale: int
    geometries: int
    replaced: bool


@frozen
class _Ready:
    """One index that is whole, on the disk and not yet in its place."""

    index: ArchivedIndex
    facts: Facts
    place: Path
    geometries: int = 0


def import_indexes(
    file: Path,
    directory: Path,
    wanted: Collection[str] | None,
    *,
    geometries: Geometries | None = None,
    replace: bool = False,
    sized: Callable[[int], None] = lambda _: None,
    told: Told = lambda _: None,
) -> list[Imported]:
    """
    Bring the indexes of the tenants *wanted*, None for all, from the archive *file* to *directory*.

    All are read, checked and on the disk before the first goes to its place, which is one step
    of the file system for each: a killed process leaves the old index, or the new. Services that use it go
    on, with the new one from their next call. Geometries are stored before: what a killed process has stored
    is that of no drawing, and collected later, or is stored once more by the next import.

    Args:
        file: the archive.
        directory: where the indexes lie.
        wanted: each has an index in it.
        geometries: where those in the archive go; they are left out if it is not given.
        replace: whether indexes that are there may be replaced.
        sized: hears how many bytes will be read.
        told: hears of each part that was.

    Raises:
        ArchiveError: the archive is none, is damaged, or has not the tenants.
        IndexThereError: a tenant has an index, and *replace* is false.
        IndexVersionError: a newer version of dedup2d exported it.
        NoRoomError: the disk has not the room.
        StoreUnavailableError: the store of geometries does not answer.
        OSError: a file cannot be read or written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(file) as source:
        reader = Reader(source)
        chosen = _chosen(reader.manifest, wanted)
        _check_versions(reader.manifest)
        if not replace:
            _refuse_those_there(directory, chosen)
        check_room(directory, sum(member.bytes for index in chosen for member in index.members))
        sized(sum(member.bytes for index in reader.manifest.indexes for member in index.members))
        with workplace(directory, "import") as place:
            ready = _prepared(reader, chosen, place, told)
            if geometries is not None:
                ready = [_restored(one, geometries) for one in ready]
            return _put_in_place(ready, directory, replace=replace)


def _opened(file: Path) -> IO[bytes]:
    # A pipe could not be told from a file that is cut off, and opening one would wait for its writer.
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise ArchiveError(f"{file} is not a plain file", "give a file that dedup2d export wrote")
    return os.fdopen(opened, "rb")


def _chosen(manifest: Manifest, wanted: Collection[str] | None) -> list[ArchivedIndex]:
    if wanted is None:
        return list(manifest.indexes)
    tenants = [index.tenant for index in manifest.indexes]
    missing = sorted(set(wanted).difference(tenants))
    if missing:
        more = ", …" if len(tenants) > 10 else ""
        raise ArchiveError(
            f"it has no index of {missing[0]}, but of {', '.join(tenants[:10])}{more}",
            "set DEDUP2D_TENANT to one of them, or give --all",
        )
    return [index for index in manifest.indexes if index.tenant in wanted]


def _check_versions(manifest: Manifest) -> None:
    if manifest.fingerprint_version > FINGERPRINT_VERSION:
        raise ArchiveError(
            f"its fingerprints have version {manifest.fingerprint_version}, this version of dedup2d makes"
            f" {FINGERPRINT_VERSION}",
            f"upgrade dedup2d to {manifest.dedup2d or 'a newer version'}",
        )


def _refuse_those_there(directory: Path, chosen: Sequence[ArchivedIndex]) -> None:
    for index in chosen:
        if catalogue_of(directory, index.tenant).exists():
            raise IndexThereError(index.tenant)


def _prepared(reader: Reader, chosen: Sequence[ArchivedIndex], place: Path, told: Told) -> list[_Ready]:
    names = {index.tenant for index in chosen}
    for member in reader.members():
        if member.index.tenant in names:
            with _place_of(member, place).open("xb") as out:
                os.fchmod(out.fileno(), 0o600)
                reader.copy(member, out, told)
        else:
            reader.skip(member, told)
    # Only now is the archive known to be whole.
    return [_checked(index, place / index.tenant) for index in chosen]


def _place_of(member: Member, place: Path) -> Path:
    if member.part is Part.GEOMETRIES:
        return _geometries_of(place / member.index.tenant)
    (place / member.index.tenant).mkdir(mode=0o700)
    return catalogue_of(place, member.index.tenant)


def _geometries_of(target: Path) -> Path:
    """Where the geometries of the index that is made ready at *target* are meanwhile."""
    return target.with_name(f"{target.name}+geometries")


def _restored(ready: _Ready, geometries: Geometries) -> _Ready:
    """Store the geometries of the index, and say how many those are."""
    archived = ready.index.geometries
    if archived is None:
        return ready
    with _geometries_of(ready.place).open("rb") as source:
        geometries.restore(ready.index.tenant, source, archived.geometries)
    return evolve(ready, geometries=archived.geometries)


def _checked(index: ArchivedIndex, target: Path) -> _Ready:
    database = target / "catalogue.sqlite3"
    facts = make_ready(database, index)
    with database.open("rb") as written:
        os.fsync(written.fileno())
    for path in (target, database):
        _give_to_owner(path, target.parent.parent)
    sync_directory(target)
    return _Ready(index, facts, target)


def _give_to_owner(path: Path, of: Path) -> None:
    """Let the service read what root has brought: it runs as the owner of the directory."""
    if os.geteuid() == 0:
        owner = of.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _put_in_place(ready: Sequence[_Ready], directory: Path, *, replace: bool) -> list[Imported]:
    done: list[tuple[_Ready, bool]] = []
    try:
        for one in ready:
            replaced = _move(one.place, directory / one.index.tenant, replace=replace)
            done += [(one, replaced)]
    except BaseException:
        for one, replaced in reversed(done):
            with suppress(OSError):
                _undo(one.place, directory / one.index.tenant, replaced=replaced)
        raise
    sync_directory(directory)
    return [
        Imported(
            one.index.tenant,
            one.facts.drawings,
            one.facts.files,
            one.facts.stale(FINGERPRINT_VERSION),
            one.geometries,
            replaced,
        )
        for one, replaced in done
    ]


def _move(new: Path, to: Path, *, replace: bool) -> bool:
    """Put the directory *new* to its place; say whether one was there, which is where *new* was then."""
    try:
        new.rename(to)  # also over an empty directory
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
    else:
        return False
    if not replace and catalogue_of(to.parent, to.name).exists():
        raise IndexThereError(to.name)
    _exchange(new, to)
    return True


def _undo(new: Path, at: Path, *, replaced: bool) -> None:
    if replaced:
        _exchange(at, new)
    else:
        at.rename(new)


def _exchange(one: Path, other: Path) -> None:
    """
    Let two directories change places in one step.

    The whole directory, since the journal beside the database belongs to it: processes that have the old one
    open go on with both its files, and would spoil the new one if they found that beside their journal.

    Raises:
        OSError: the file system cannot do that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.renameat2(
        _CURRENT_DIRECTORY, os.fsencode(one), _CURRENT_DIRECTORY, os.fsencode(other), _EXCHANGE
    )
    if number:
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOSYS):
            raise _NoExchangeError(other.name)
        raise OSError(code, os.strerror(code), str(other))


class _NoExchangeError(Dedup2DError, OSError):
    def __init__(self, tenant: str) -> None:
        super().__init__(
            f"this file system cannot exchange directories in one step, so the index of {tenant} was not"
            " replaced: stop the services that use it, move its directory away, and import without --replace"
        )
