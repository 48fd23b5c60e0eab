"""Writes indexes that may be in use into an archive."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from attrs import evolve, frozen

from dedup2d.backup.archive import (
    FORMAT,
    FORMAT_VERSION,
    ArchivedGeometries,
    ArchivedIndex,
    Manifest,
    Part,
    Told,
    Writer,
)
from dedup2d.backup.database import snapshot
from dedup2d.backup.geometries import Geometries
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
    """What was written; `damaged_geometries` were left out."""

    bytes: int
    manifest: Manifest
    damaged_geometries: int


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
    geometries: Geometries | None = None,
    replace: bool = False,
    sized: Callable[[int], None] = lambda _: None,
    told: Told = lambda _: None,
    clock: Callable[[], float] = time.time,
) -> Exported:
    """
    Write the indexes of *tenants* into the archive *file*, which appears whole or not at all.

    Each is as it was at one moment, whoever writes to it; geometries are those that its drawings have soon
    after. Beside the archive, one index or its geometries need room at a time.

    Args:
        directory: where the indexes lie.
        tenants: each has one.
        file: where the archive goes.
        geometries: those of the indexes' drawings go into it too, if given.
        replace: whether it may take the place of a file that is there.
        sized: hears about how many bytes will be written.
        told: hears of each part that was.
        clock: gives the Unix time.

    Raises:
        InvalidParameterError: *file* is there, or cannot be.
        NoRoomError: the disk of *file* has not the room.
        IndexVersionError, VisionUnavailableError, InternalError: an index cannot be read.
        StoreUnavailableError: the store of geometries does not answer.
        OSError: the file cannot be written.
    """
    _check_place(file, replace=replace)
    sizes = [_size(catalogue_of(directory, tenant)) for tenant in tenants]
    sizes += [geometries.bytes_of(tenant) for tenant in tenants] if geometries else []
    check_room(file.parent, sum(sizes) + max(sizes, default=0))
    sized(sum(sizes))
    with workplace(file.parent, file.name) as place:
        unfinished = place / "archive"
        with unfinished.open("xb") as out:
            os.fchmod(out.fileno(), 0o600)
            writer, begun, damaged = Writer(out, len(tenants)), clock(), 0
            found = []
            for tenant in tenants:
                copy = place / "snapshot"
                index = _add_index(writer, tenant, catalogue_of(directory, tenant), copy, told)
                if geometries is not None:
                    index, lost = _add_geometries(writer, index, geometries, copy, told)
                    damaged += lost
                copy.unlink()
                found.append(index)
            manifest = _manifest(found, begun)
            writer.finish(manifest)
            out.flush()
            os.fsync(out.fileno())
            size = out.seek(0, os.SEEK_END)
        _move(unfinished, file, replace=replace)
    sync_directory(file.parent)
    return Exported(size, manifest, damaged)


def _add_index(writer: Writer, tenant: str, catalogue: Path, copy: Path, told: Told) -> ArchivedIndex:
    facts = snapshot(catalogue, copy)
    index = ArchivedIndex(
        tenant=tenant,
        bytes=copy.stat().st_size,
        sha256="",
        drawings=facts.drawings,
        files=facts.files,
        stale=facts.stale(FINGERPRINT_VERSION),
        geometries=None,
    )
    with copy.open("rb") as source:
        digest = writer.add(Part.DATABASE.of(tenant), index.bytes, source, told)
    return evolve(index, sha256=digest)


def _add_geometries(
    writer: Writer, index: ArchivedIndex, geometries: Geometries, copy: Path, told: Told
) -> tuple[ArchivedIndex, int]:
    """Add those of the drawings in the snapshot *copy*; return the index with them, and the damaged ones."""
    with (copy.parent / "geometries").open("w+b") as tar:
        written = geometries.write(index.tenant, copy, tar)
        if not written.geometries:
            return index, written.damaged
        size = tar.tell()
        tar.seek(0)
        digest = writer.add(Part.GEOMETRIES.of(index.tenant), size, tar, told)
    archived = ArchivedGeometries(geometries=written.geometries, bytes=size, sha256=digest)
    return evolve(index, geometries=archived), written.damaged


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
