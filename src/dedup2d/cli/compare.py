"""`dedup2d compare`: two drawings against each other."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from dedup2d.cli.exits import Exit
from dedup2d.cli.options import DataDir, Duplicate, Ignore, Json, Quiet, Similar, load_settings, search_params
from dedup2d.cli.outputs import check_output
from dedup2d.cli.session import open_session, run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.cli.text import counted, visible
from dedup2d.codec import to_json
from dedup2d.errors import InvalidParameterError
from dedup2d.settings import Settings
from dedup2d.types import Comparison, DiffRegion, Mode, SearchParams, Transform, Verdict

__all__ = ["compare"]

_COLUMNS = (
    Column("change"),
    *(Column(name, number=True) for name in ("x", "y", "width", "height", "area")),
    Column("place"),
)
_MILLIMETRES = tuple(Column(name, number=True) for name in ("x mm", "y mm", "width mm", "height mm"))

_MOST_REGIONS = 20


def compare(
    old: Path,
    new: Path,
    /,
    *,
    duplicate_threshold: Duplicate = None,
    similar_threshold: Similar = None,
    ignore: Ignore = None,
    diff: Annotated[Path | None, Parameter(help="Write the picture of the difference here, as PNG.")] = None,
    geometry: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Compare entities instead of pictures; OLD and NEW are DXF, DWG or geometry JSON.",
        ),
    ] = False,
    profile: Annotated[
        Literal["strict", "version"] | None,
        Parameter(help="With --geometry: is it the same, or a version of it? [default: strict]"),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Compare two drawings and show what changed, as `diff OLD NEW` does for text.

    The first sheets are compared; regions are in pixels of OLD, from the top left. With --geometry it is
    their entities, and places are in drawing units of OLD. Exits with 1 if the two have nothing to do with
    each other.

    Args:
        old: The drawing that is compared with.
        new: The drawing in which something was added or removed.
    """
    if geometry:
        _check_geometry_options(diff, ignore)
    elif profile is not None:
        raise InvalidParameterError("--profile", profile, "it together with --geometry")
    check_output("--diff", diff, inputs=(old, new), picture=True)
    terminal = Terminal(quiet=quiet)
    if geometry:
        return _compare_geometry(
            load_settings(data_dir),
            old,
            new,
            profile=profile or "strict",
            thresholds=search_params(
                preset=profile or "strict",
                duplicate_threshold=duplicate_threshold,
                similar_threshold=similar_threshold,
            ),
            json=json,
            terminal=terminal,
        )
    params = search_params(
        mode=Mode.PRECISE,
        max_results=1,
        duplicate_threshold=duplicate_threshold,
        similar_threshold=similar_threshold,
        diff_top_n=1,
        ignore=ignore,
    )
    settings = load_settings(data_dir)
    result = run_async(lambda: _compare(settings, old, new, params))
    if diff is not None and result.diff_png:
        diff.write_bytes(result.diff_png)
        terminal.note(f"difference written to {visible(str(diff))}")
    if json:
        terminal.json(_as_json(old, new, result, diff))
    else:
        _show(terminal, result)
    return Exit.NOTHING if result.verdict is Verdict.DIFFERENT else Exit.OK


def _check_geometry_options(diff: Path | None, ignore: list[str] | None) -> None:
    if diff is not None:
        raise InvalidParameterError(
            "--diff", str(diff), "no picture with --geometry, which compares entities"
        )
    if ignore:
        raise InvalidParameterError("--ignore", ignore[0], "no area with --geometry, which compares entities")


def _compare_geometry(*files: Any, **options: Any) -> int:
    from dedup2d.cli.compare_geometry import compare_geometry  # noqa: PLC0415 - slow, and often not needed

    return compare_geometry(*files, **options)


async def _compare(settings: Settings, old: Path, new: Path, params: SearchParams) -> Comparison:
    async with open_session(settings, directory=None) as session:
        return await session.vision.compare(await session.file(new), await session.file(old), params)


def _show(terminal: Terminal, result: Comparison) -> None:
    related = "no relation" if result.verdict is Verdict.DIFFERENT else result.relation
    terminal.line(f"{related}, similarity {result.similarity:.3f}, verdict {result.verdict}")
    if result.reason:
        terminal.line(visible(result.reason))
    if result.transform and (placed := _placed(result.transform)):
        terminal.line(f"NEW was {placed} to fit OLD")
    for warning in result.warnings:
        terminal.note(f"dedup2d: warning: {visible(warning)}")
    if result.diff_regions:
        left_out = len(result.diff_regions) - _MOST_REGIONS
        more = f", the largest {_MOST_REGIONS} of them here" if left_out > 0 else ""
        terminal.line(counted(len(result.diff_regions), "region differs", "regions differ") + more)
        shown = result.diff_regions[:_MOST_REGIONS]
        millimetres = _MILLIMETRES if shown[0].x_mm is not None else ()
        terminal.table((*_COLUMNS, *millimetres), map(_row, shown))


def _row(region: DiffRegion) -> tuple[str, ...]:
    moved = "" if region.shift_x is None else f" by {region.shift_x:g}, {region.shift_y:g}"
    pixels = (region.x, region.y, region.width, region.height, region.area)
    millimetres = (region.x_mm, region.y_mm, region.width_mm, region.height_mm)
    return (
        region.change + moved,
        *map(str, pixels),
        region.place.replace("_", " "),
        *(f"{value:.1f}" for value in millimetres if value is not None),
    )


def _placed(transform: Transform) -> str:
    parts = [
        "mirrored" if transform.mirrored else "",
        f"turned by {transform.rotation_degrees:.1f}°" if abs(transform.rotation_degrees) >= 0.05 else "",
        f"scaled by {transform.scale:.3f}" if abs(transform.scale - 1) >= 0.0005 else "",
    ]
    return ", ".join(filter(None, parts))


def _as_json(old: Path, new: Path, result: Comparison, diff: Path | None) -> dict[str, Any]:
    document: dict[str, Any] = jsonlib.loads(to_json(result))
    document.pop("diff_png", None)
    written = str(diff) if diff is not None and result.diff_png else None
    return {"old": str(old), "new": str(new), **document, "diff_file": written}
