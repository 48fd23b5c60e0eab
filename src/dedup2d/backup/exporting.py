"""Writes indexes that may be in use into an archive."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from attrs import evolve, frozen

from dedup2d.backup.archive import FORMAT, FORMAT_VERSION, ArchivedIndex, Manifest, Told, Writer
from dedup2d.backup.database import snapshot
from dedup2d.engine.database import INDEX
from dedup2d.engine.fingerprint import FINGERPRINT_VERSION
from dedup2d.errors import Dedup2DError, InvalidParameterError
from dedup2d.tenants import is_tenant_id
from dedup2d.workplace import sync_directory, workplace

__all__ = ["Exported", "NoRoomError", "catalogue_of", "check_room", "export_indexes", "tenants_in"]

_SPARE_BYTES = 16 * 1024 * 1024


class NoRoomError(Dedup2DError, OSError):
    """The disk has not the room for what is to be written."""

    def __init__(self, where: Path, needed: int, free: int) -> None:
        super().__init__(
            f"{where} has {free:,} bytes free and {needed:,} are needed: make room, or choose another disk"
        )


@frozen
class Exported:
    """What was written."""

    bytes: int
    manifest: Manifest


def catalogue_of(directory: Path, tenant: str) -> Path:
    """Return where the database of the tenant's index lies below the *directory* of indexes."""
    return directory / tenant / "catalogue.sqlite3"


def tenants_in(directory: Path) -> list[str]:
    """Return the tenants that have an index below *directory*, in order."""
    if not directory.exists():
        return []
    names = [path.name for path in directory.iterdir()]
    return sorted(name for name in names if is_tenant_id(name) and catalogue_of(directory, name).is_file())


def check_room(where: Path, needed: int) -> None:
    """
    Make sure that *needed* bytes can be written there.

    Raises:
        NoRoomError: they cannot.
    """
    free = shutil.disk_usage(where).free
    if free < needed + _SPARE_BYTES:
        raise NoRoomError(where, needed + _SPARE_BYTES, free)


def export_indexes(
    directory: Path,
    tenants: Sequence[str],
    file: Path,
    *,
    replace: bool = False,
    sized: Callable[[int], None] = lambda _: None,
    told: Told = lambda _: None,
    clock: Callable[[], float] = time.time,
) -> Exported:
    """
    Write the indexes of *tenants* into the archive *file*, which appears whole or not at all.

    Each is as it was at one moment, whoever writes to it. Beside the archive, one index needs room at a time.

    Args:
        directory: where the indexes lie.
        tenants: each has one.
        file: where the archive goes.
        replace: whether it may take the place of a file that is there.
        sized: hears about how many bytes will be written.
        told: hears of each part that was.
        clock: gives the Unix time.

    Raises:
        InvalidParameterError: *file* is there, or cannot be.
        NoRoomError: the disk of *file* has not the room.
        IndexVersionError, VisionUnavailableError, InternalError: an index cannot be read.
        OSError: the file cannot be written.
    """
    _check_place(file, replace=replace)
    sizes = [_size(catalogue_of(directory, tenant)) for tenant in tenants]
    check_room(file.parent, sum(sizes) + max(sizes, default=0))
    sized(sum(sizes))
    with workplace(file.parent, file.name) as place:
        unfinished = place / "archive"
        with unfinished.open("xb") as out:
            os.fchmod(out.fileno(), 0o600)
            writer, begun = Writer(out, len(tenants)), clock()
            found = [
                _add(writer, tenant, catalogue_of(directory, tenant), place / "snapshot", told)
                for tenant in tenants
            ]
            manifest = _manifest(found, begun)
            writer.finish(manifest)
            out.flush()
            os.fsync(out.fileno())
            size = out.seek(0, os.SEEK_END)
        _move(unfinished, file, replace=replace)
    sync_directory(file.parent)
    return Exported(size, manifest)


def _add(writer: Writer, tenant: str, catalogue: Path, copy: Path, told: Told) -> ArchivedIndex:
    facts = snapshot(catalogue, copy)
    index = ArchivedIndex(
        tenant=tenant,
        bytes=copy.stat().st_size,
        sha256="",
        drawings=facts.drawings,
        files=facts.files,
        stale=facts.stale(FINGERPRINT_VERSION),
    )
    with copy.open("rb") as source:
        digest = writer.add(index.member, index.bytes, source, told)
    copy.unlink()
    return evolve(index, sha256=digest)


def _manifest(indexes: Iterable[ArchivedIndex], created_at: float) -> Manifest:
    return Manifest(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        dedup2d=version("dedup2d"),
        created_at=created_at,
        fingerprint_version=FINGERPRINT_VERSION,
        schema_version=INDEX.version,
        indexes=tuple(indexes),
    )


def _check_place(file: Path, *, replace: bool) -> None:
    if file.is_dir() or not file.parent.is_dir():
        raise InvalidParameterError("FILE", str(file), "a file in a directory that is there")
    if file.exists() and not replace:
        raise InvalidParameterError("FILE", str(file), "a new file, or --replace to write over this one")


def _move(unfinished: Path, file: Path, *, replace: bool) -> None:
    if replace:
        unfinished.replace(file)
        return
    try:
        # Unlike a rename, it does not write over what came there meanwhile.
        os.link(unfinished, file)
    except FileExistsError:
        _check_place(file, replace=False)
    except OSError:  # a file system without links
        _check_place(file, replace=False)
        unfinished.replace(file)


def _size(path: Path) -> int:
    """Return about how large a snapshot may be: the log may hold pages that the database has not yet."""
    log = path.with_name(path.name + "-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)
