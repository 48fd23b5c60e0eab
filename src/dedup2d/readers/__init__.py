"""
Readers: from a file of any supported format to its sheets.

Import is cheap; the imaging packages (extra `engine`) load with the first file of a format.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dedup2d.errors import (
    Dedup2DError,
    FileTooLargeError,
    MissingExtraError,
    NoGeometryError,
    UnreadableDrawingError,
    shown,
)
from dedup2d.readers.model import Entity, ReadLimits, Sheet, Source, Text
from dedup2d.readers.sniff import HEAD_BYTES, sniff

if TYPE_CHECKING:
    from ezdxf.document import Drawing

__all__ = ["Entity", "ReadLimits", "Sheet", "Text", "iterate", "read", "read_document", "sniff"]

_MODULES = {
    "png": "raster",
    "jpeg": "raster",
    "tiff": "raster",
    "pdf": "pdf",
    "dxf": "dxf",
    "dwg": "dwg",
    "svg": "svg",
}


def read(path: Path, name: str, limits: ReadLimits | None = None) -> list[Sheet]:
    """
    Read all sheets of the file at *path*.

    Meant to run inside `Children.call`, which holds the limits on seconds and memory and survives
    crashes; all other limits are held here.

    Args:
        path: a regular file, or a link to one.
        name: what to call it in messages.
        limits: default: `ReadLimits()`.

    Raises:
        EmptyFileError: it has no bytes.
        FileTooLargeError: it has more than `max_bytes`.
        UnsupportedFormatError: it is of no format that can be read.
        ImageTooLargeError: a picture has more than `max_pixels`, or a gzip expands too far.
        UnreadableDrawingError: it is damaged, locked, or exceeds another limit.
        MissingExtraError: the extra `engine` is not installed.
    """
    return list(iterate(path, name, limits))


def iterate(path: Path, name: str, limits: ReadLimits | None = None) -> Iterator[Sheet]:
    """
    Give the sheets one by one, so that only one is in memory; see `read`.

    An error may come after some sheets were given.
    """
    source = _source(Path(path), name, limits or ReadLimits())
    try:
        module = importlib.import_module(f"dedup2d.readers.{_MODULES[source.format]}")
    except ImportError as error:
        raise MissingExtraError("engine", f"reading {source.format.upper()} files") from error
    count = 0
    with _mapped_errors(source):
        for sheet in module.sheets(source):
            count += 1
            yield sheet
    if not count:
        raise UnreadableDrawingError(name, "it has no sheet with anything drawn on it")


def read_document(path: Path, name: str, limits: ReadLimits | None = None) -> tuple[Drawing, list[str]]:
    """
    Give the ezdxf document of a DXF or DWG file, and warnings; see `read`.

    Raises:
        NoGeometryError: the file is of another format.
    """
    source = _source(Path(path), name, limits or ReadLimits())
    if source.format not in {"dxf", "dwg"}:
        raise NoGeometryError(name, source.format.upper())
    try:
        from dedup2d.readers.dwg import as_dxf  # noqa: PLC0415 - behind an extra
        from dedup2d.readers.dxf_load import load  # noqa: PLC0415 - behind an extra
    except ImportError as error:
        raise MissingExtraError("engine", f"reading {source.format.upper()} files") from error
    with _mapped_errors(source):
        data, notes = as_dxf(source) if source.format == "dwg" else (None, [])
        document, warned = load(source, data)
    return document, [*notes, *warned]


@contextmanager
def _mapped_errors(source: Source) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn about files; sheets carry our own warnings
            yield
    except (Dedup2DError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableDrawingError(source.name, _damage(source, error)) from error


def _source(path: Path, name: str, limits: ReadLimits) -> Source:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block, a device would never end
            raise UnreadableDrawingError(name, "it is not a regular file")
        if status.st_size > limits.max_bytes:
            raise FileTooLargeError(name, limits.max_bytes, "the limit of bytes")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UnreadableDrawingError(name, _os_reason(error)) from None
    return Source(path, name, sniff(head, name), limits)


def _os_reason(error: OSError) -> str:
    known = {errno.ENOENT: "it is not there", errno.ELOOP: "its link leads in circles"}
    return known.get(error.errno or 0) or (os.strerror(error.errno) if error.errno else "it cannot be opened")


def _damage(source: Source, error: Exception) -> str:
    """Say what a library said, without the server's paths in it."""
    detail = shown(" ".join(str(error).replace(str(source.path), source.name).split()), 120)
    if isinstance(error, RecursionError):
        detail = "nested too deep"
    if not detail or os.sep in detail:
        detail = type(error).__name__
    return f"the {source.format.upper()} is damaged or incomplete ({detail})"
