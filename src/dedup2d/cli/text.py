"""Text that others wrote (file names, messages), made safe to show on a terminal."""

from __future__ import annotations

import os
from pathlib import Path

from dedup2d.types import Drawing

__all__ = ["below", "counted", "shown_path", "source_of", "visible"]


def visible(text: str) -> str:
    r"""
    Return *text* as one line that cannot move the cursor, change colours or reorder what is read.

    Everything that Unicode calls not printable (control characters, escapes, line ends, marks
    that turn the reading direction, lone surrogates) becomes an escape such as `\n` or `\x1b`.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def source_of(path: Path) -> str:
    r"""Return the name under which the index keeps *path*; bytes that are not UTF-8 become `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def shown_path(source: str) -> str:
    """Return *source* safe to show, relative where it lies below the working directory."""
    try:
        here = source_of(Path.cwd()).rstrip(os.sep) + os.sep
    except OSError:  # it was removed under us
        here = ""
    return visible(source.removeprefix(here))


def below(folder: str, drawing: Drawing) -> str:
    """Return where *drawing* lies, without *folder* if it lies in it."""
    return (drawing.source or drawing.file_name).removeprefix(folder.rstrip(os.sep) + os.sep)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return "1 file" or "2,000 files"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
