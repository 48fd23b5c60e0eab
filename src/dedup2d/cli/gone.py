"""Finds what the index holds of files that are no longer there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread
from attrs import define, field

from dedup2d.cli.session import Session
from dedup2d.cli.text import source_of
from dedup2d.types import Drawing

__all__ = ["Gone", "find_gone"]

_KEPT = 1000
_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


@define
class Gone:
    """Indexed files that are gone, and the drawings of them that were removed for it."""

    files: int = 0
    sources: list[str] = field(factory=list)
    pruned: int = 0


async def find_gone(session: Session, paths: Sequence[Path], gone: Gone, *, prune: bool) -> None:
    """
    Note in *gone* the indexed files below *paths* that are gone; with *prune* remove their drawings.

    A folder of *paths* that is itself gone is left alone: it may lie on a disk that is not mounted.
    """
    roots = tuple(source_of(path.resolve()) + os.sep for path in paths if path.is_dir())
    token: str | None = None
    last = ""
    while roots:
        page = await session.vision.drawings(session.tenant_id, limit=500, page_token=token)
        missing = await anyio.to_thread.run_sync(_missing, page.drawings, roots)
        for drawing in missing:
            if prune:
                await session.vision.remove(session.tenant_id, drawing.drawing_id)
                gone.pruned += 1
            elif drawing.source != last:
                last = drawing.source or ""
                gone.files += 1
                if len(gone.sources) < _KEPT:
                    gone.sources.append(last)
        token = page.next_page_token
        if token is None:
            return


def _missing(drawings: Sequence[Drawing], roots: tuple[str, ...]) -> list[Drawing]:
    return [
        drawing
        for drawing in drawings
        if drawing.source and drawing.source.startswith(roots) and not _exists(drawing.source)
    ]


def _exists(source: str) -> bool:
    # A name that was not UTF-8 is kept with escapes, see `source_of`.
    raw = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(source))
    return os.path.lexists(source) or os.path.lexists(raw)
