"""`dedup2d samples`: drawings to try things on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from dedup2d.cli.options import Json, Quiet
from dedup2d.cli.terminal import Terminal
from dedup2d.cli.text import counted, visible

__all__ = ["samples"]


def samples(
    directory: Path,
    /,
    *,
    seed: Annotated[int, Parameter(help="The same seed gives the same drawings.")] = 0,
    parts: Annotated[
        int,
        Parameter(
            help="How many parts; each comes with revisions, copies and scans.",
            validator=validators.Number(gte=1, lte=1000),
        ),
    ] = 6,
    overwrite: Annotated[
        bool, Parameter(negative="", show_default=False, help="Write over files of the same names.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """
    Generate sample drawings to try things on.

    Several parts with views, dimensions, hatches and the title blocks of two companies, each with
    revisions, variants, mirrored and re-framed copies and scans, as DXF, PDF, PNG and TIFF.

    Args:
        directory: Where to write them; made if missing.
    """
    from dedup2d.samples import generate  # noqa: PLC0415 - loads everything that draws

    terminal = Terminal(quiet=quiet)
    made = generate(directory, seed=seed, parts=parts, overwrite=overwrite)
    if json:
        terminal.json(
            [{"file": visible(str(one.path)), "part": one.part, "relation": one.relation} for one in made]
        )
        return
    formats = Counter(one.path.suffix.lstrip(".").upper() for one in made)
    kinds = ", ".join(f"{number} {name}" for name, number in sorted(formats.items()))
    terminal.line(f"{counted(len(made), 'drawing')} in {visible(str(directory))} ({kinds})")
    terminal.note(f"next: dedup2d index {visible(str(directory))}")
