"""`dedup2d geometry`: the geometry JSON of a DXF or DWG file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from dedup2d.build import read_limits
from dedup2d.children import Children
from dedup2d.cli.exits import Exit
from dedup2d.cli.geometry_files import drawing_geometry
from dedup2d.cli.options import Quiet, load_settings
from dedup2d.cli.outputs import check_output, write_output
from dedup2d.cli.session import run_async
from dedup2d.cli.terminal import Terminal
from dedup2d.cli.text import counted, visible
from dedup2d.geometry.extracting import Extracted
from dedup2d.settings import Settings

__all__ = ["geometry"]


def geometry(
    file: Path,
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=("--output", "-o"), help="Write the JSON here. [default: stdout]")
    ] = None,
    summary: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Print what is in it instead of the JSON itself."),
    ] = False,
    quiet: Quiet = False,
) -> int:
    """
    Write the entities of a DXF (also gzipped) or DWG file as geometry JSON.

    It is what CAD plug-ins send beside a drawing: searches and `dedup2d compare --geometry` compare by it
    exactly. Model space is written, or the first layout where that is empty. What cannot be written is named
    on stderr.

    Args:
        file: The drawing.
    """
    check_output("--output", output, inputs=(file,))
    settings = load_settings(None)
    found = run_async(lambda: _extracted(settings, file))
    terminal = Terminal(quiet=quiet)
    for warning in found.warnings:
        terminal.note(f"dedup2d: warning: {visible(warning)}")
    document = json.loads(found.data)
    if output is not None:
        write_output(output, found.data + b"\n")
        terminal.note(f"geometry written to {visible(str(output))}")
    elif not summary:
        sys.stdout.write(found.data.decode() + "\n")
    if summary:
        for line in _summary(document, found):
            terminal.line(line)
    elif output is not None:
        for line in _summary(document, found):
            terminal.note(line)
    return Exit.OK


async def _extracted(settings: Settings, file: Path) -> Extracted:
    limits = read_limits(settings)
    async with Children(processes=1, memory_bytes=limits.max_memory_bytes) as children:
        return await drawing_geometry(children, file, limits)


def _summary(document: dict[str, Any], found: Extracted) -> list[str]:
    meta, statistics = document["meta"], document["statistics"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in statistics["by_type"].items())
    named = [
        f"{title}: {visible(str(meta[name]))}"
        for name, title in (
            ("drawing_number", "drawing number"),
            ("revision", "revision"),
            ("title", "title"),
            ("units", "units"),
        )
        if name in meta
    ]
    size = f"{len(found.data):,} bytes"
    counts = (counted(statistics["layers"], "layer"), counted(statistics["blocks"], "block"), size)
    return [f"{counted(found.entities, 'entity', 'entities')}: {kinds}", ", ".join(counts), *named]
