"""The geometry of a file that the command is given: extracted from a drawing, or as JSON."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from dedup2d.children import Children
from dedup2d.cli.session import file_name
from dedup2d.errors import Dedup2DError, InvalidGeometryError, UnreadableDrawingError
from dedup2d.geometry.extracting import Extracted, extract_geometry
from dedup2d.geometry.reading import GeometryLimits, read_geometry
from dedup2d.readers import ReadLimits
from dedup2d.uploads import file_in_place

__all__ = ["drawing_geometry", "geometry_of"]

_MOST_BYTES = GeometryLimits().max_bytes


async def drawing_geometry(children: Children, path: Path, limits: ReadLimits) -> Extracted:
    """
    Extract the geometry of the DXF or DWG file at *path*.

    Raises: as `dedup2d.cli.session.Session.file` and `extract_geometry`.
    """
    name = await file_name(path)
    await file_in_place(path, name, max_bytes=limits.max_bytes)  # says what is wrong with the file in one way
    return await extract_geometry(children, path, name, limits)


async def geometry_of(children: Children, path: Path, limits: ReadLimits) -> Extracted:
    """
    Return the geometry of the file at *path*, which may also hold geometry JSON.

    Raises: as `drawing_geometry`; and
        InvalidGeometryError: the JSON cannot be used.
    """
    name = await file_name(path)
    data = await anyio.to_thread.run_sync(_json_in, path, name)
    if data is None:
        return await drawing_geometry(children, path, limits)
    try:
        return await children.call(_checked, data, seconds=limits.max_seconds, name=name)
    except InvalidGeometryError as error:
        raise _naming(name, error) from error


def _json_in(path: Path, name: str) -> bytes | None:
    """Return the file's bytes if it begins as JSON does."""
    try:
        with path.open("rb") as file:
            if file.read(64).lstrip()[:1] not in {b"{", b"["}:
                return None
            file.seek(0)
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UnreadableDrawingError(name, error.strerror or "it cannot be opened") from None
    if len(data) > _MOST_BYTES:
        raise UnreadableDrawingError(
            name, f"it is larger than the limit of {_MOST_BYTES:,} bytes of geometry JSON"
        )
    return data


def _checked(data: bytes) -> Extracted:
    geometry = read_geometry(data)
    entities = len(geometry.entities) + sum(len(block.entities) for block in geometry.blocks.values())
    return Extracted(data=data, entities=entities, warnings=geometry.warnings)


def _naming(name: str, error: InvalidGeometryError) -> Dedup2DError:
    """Say which of the files it is."""
    said = str(error).replace("geom_json cannot be used", f"{name} cannot be used as geometry", 1)
    return InvalidGeometryError.saying(said, path=error.path)
