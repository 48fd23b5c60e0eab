"""
DWG: converted to DXF in memory, then read as such.

zumen (Python 3.12 and later) reads DWG up to 2018 and says what it had to leave out; ezdwg
reads less, so its sheets always carry a warning.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dedup2d.errors import Dedup2DError, ImageTooLargeError, MissingExtraError, UnreadableDrawingError
from dedup2d.readers.dxf import sheets as dxf_sheets
from dedup2d.readers.model import Sheet, Source

__all__ = ["as_dxf", "sheets"]

_R13 = b"AC1012"
_LOSSY = "parts of the DWG may be missing: save it as DXF for an exact reading"


def sheets(source: Source) -> Iterator[Sheet]:
    """Give model space and each layout with something on it."""
    yield from dxf_sheets(source, *as_dxf(source))


def as_dxf(source: Source) -> tuple[bytes, list[str]]:
    """
    Convert the DWG.

    Returns:
        a DXF, and warnings of what it lacks.

    Raises:
        ImageTooLargeError: as DXF it has more than `max_expanded_bytes`.
        UnreadableDrawingError: it is damaged, or of a version that cannot be read.
        MissingExtraError: no converter is installed.
    """
    convert = _with_zumen if importlib.util.find_spec("zumen") else _with_ezdwg
    try:
        data, notes = convert(source)
    except (Dedup2DError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableDrawingError(source.name, _why(source, with_ezdwg=convert is _with_ezdwg)) from error
    if len(data) > source.limits.max_expanded_bytes:
        raise ImageTooLargeError(
            source.name,
            f"as DXF it is above the limit of {source.limits.max_expanded_bytes:,} expanded bytes",
        )
    return data, notes


def _why(source: Source, *, with_ezdwg: bool) -> str:
    with source.path.open("rb") as file:
        version = file.read(6)
    if with_ezdwg and version < _R13:
        return (
            f"its DWG version {version.decode('ascii', 'replace')} is older than R13, which needs"
            " Python 3.12 or later: save it as DXF or as a newer DWG"
        )
    return "the DWG is damaged or incomplete, or of a version that cannot be read: save it as DXF"


def _with_zumen(source: Source) -> tuple[bytes, list[str]]:
    import zumen  # noqa: PLC0415 - installed on some Pythons only

    converted = zumen.convert(source.path.read_bytes(), "dxf", format="dwg")
    lost = ", ".join(f"{notice['count']} {notice['code']}" for notice in converted.notices[:5])
    return bytes(converted.data), [f"parts of the DWG are simplified or missing: {lost}"] if lost else []


def _with_ezdwg(source: Source) -> tuple[bytes, list[str]]:
    try:
        import ezdwg  # noqa: PLC0415 - installed on some Pythons only
    except ImportError as error:
        raise MissingExtraError("engine", "reading DWG files") from error
    with _scratch() as path:
        result: Any = ezdwg.to_dxf(str(source.path), str(path))
        skipped = ", ".join(f"{count} {kind}" for kind, count in result.skipped_by_type.items())
        return path.read_bytes(), [f"{_LOSSY} (left out: {skipped})" if skipped else _LOSSY]


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A place for a file that is gone with the process, however that ends."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("dxf")
        try:
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "converted.dxf"
