"""Files that a command is to write, looked at before the work starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dedup2d.errors import Dedup2DError, InvalidParameterError
from dedup2d.readers.sniff import HEAD_BYTES, sniff
from dedup2d.workplace import workplace

__all__ = ["check_output", "write_output"]


def check_output(
    option: str, path: Path | None, *, inputs: Sequence[Path] = (), picture: bool = False
) -> None:
    """
    Make sure that *path* can be written and is nothing that somebody would miss.

    A drawing is never written over. What stands where a *picture* goes may be an older picture,
    so there only *inputs* are spared.

    Raises:
        InvalidParameterError: it is not so; names *option*.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise InvalidParameterError(option, str(path), "a file in a folder that exists")
    if path.is_dir():
        raise InvalidParameterError(option, str(path), "a file, this is a folder")
    if path.exists() and (any(path.samefile(one) for one in inputs if one.exists()) or not picture):
        _refuse_drawing(option, path)


def write_output(path: Path, data: bytes) -> None:
    """
    Write *data* into the file, all or nothing.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists() and not path.is_file():  # a pipe or a device, which takes what comes
        path.write_bytes(data)
        return
    with workplace(path.parent, path.name) as place:
        unfinished = place / "output"
        unfinished.write_bytes(data)
        unfinished.replace(path)


def _refuse_drawing(option: str, path: Path) -> None:
    try:
        with path.open("rb") as file:
            sniff(file.read(HEAD_BYTES), path.name)
    except Dedup2DError:
        return
    raise InvalidParameterError(option, str(path), "a file that is no drawing, this one would be lost")
