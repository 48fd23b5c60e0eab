"""`dedup2d search`: finds what is like a drawing."""

from __future__ import annotations

import base64
import json as jsonlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from dedup2d.cli.exits import Exit
from dedup2d.cli.indexing import reason_in
from dedup2d.cli.options import (
    DataDir,
    Duplicate,
    EnableMl,
    Ignore,
    Json,
    MaxResults,
    ModeOption,
    Preset,
    Quiet,
    Similar,
    at_least_one,
    load_settings,
    search_params,
)
from dedup2d.cli.session import Session, open_session, run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.cli.text import counted, shown_path, visible
from dedup2d.codec import to_json
from dedup2d.errors import Dedup2DError, VisionUnavailableError
from dedup2d.settings import Settings
from dedup2d.types import Match, SearchParams, SearchResult

__all__ = ["search"]

_COLUMNS = (
    Column("similarity", number=True),
    Column("relation"),
    Column("verdict"),
    Column("drawing", wraps=True),
    Column("page", number=True),
    Column("id"),
    Column("why", wraps=True),
)
_MOST_DIFFS = 50


def search(
    *files: Annotated[Path, Parameter(name="FILE", show_default=False)],
    preset: Preset = None,
    mode: ModeOption = None,
    duplicate_threshold: Duplicate = None,
    similar_threshold: Similar = None,
    ignore: Ignore = None,
    enable_ml: EnableMl = False,
    max_results: MaxResults = 50,
    exclude_self: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Leave out drawings whose file has the very bytes of FILE."
        ),
    ] = False,
    diff: Annotated[
        Path | None, Parameter(help="Write a picture of each difference into this folder.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Find what is like a drawing in the index.

    For each match: how alike it is (1 is the same), how it is related (exact, identical, revision,
    partial, mirrored, variant, similar), and the verdict under the thresholds. Exits with 1 if nothing
    was found for any FILE.

    Args:
        files: Drawings to search for; each sheet of them is searched for.
    """
    at_least_one(files, "FILE", "search")
    terminal = Terminal(quiet=quiet)
    settings = load_settings(data_dir)
    if diff is not None:
        diff.mkdir(parents=True, exist_ok=True)
    params = search_params(
        preset=preset,
        mode=mode,
        max_results=max_results,
        duplicate_threshold=duplicate_threshold,
        similar_threshold=similar_threshold,
        exclude_self=exclude_self,
        diff_top_n=min(max_results, _MOST_DIFFS) if diff else 0,
        ignore=ignore,
        enable_ml=enable_ml,
    )
    asked = _Asked(terminal, params, diff, many=len(files) > 1, json=json)
    return run_async(lambda: asked.search(settings, files))


class _Asked:
    """One call of the command: what was asked for, and what came of it."""

    def __init__(
        self, terminal: Terminal, params: SearchParams, diff: Path | None, *, many: bool, json: bool
    ) -> None:
        self._terminal = terminal
        self._params = params
        self._diff = diff
        self._many = many
        self._json = json
        self._found = 0
        self._failed = 0

    async def search(self, settings: Settings, files: Sequence[Path]) -> int:
        async with open_session(settings) as session:
            total = await session.count()
            for path in files:
                await self._one(session, path, total)
        if self._failed:
            return Exit.ERROR if self._failed == len(files) else Exit.PARTIAL
        return Exit.OK if self._found else Exit.NOTHING

    async def _one(self, session: Session, path: Path, total: int) -> None:
        try:
            file = await session.file(path)
            result = await session.vision.search(session.tenant_id, file, self._params)
        except (VisionUnavailableError, BrokenPipeError):
            raise
        except (Dedup2DError, OSError) as error:
            self._failed += 1
            self._terminal.error(f"{visible(str(path))}: {visible(reason_in(error, path.name)[1])}")
            return
        self._found += result.total_matches
        pictures = self._write_diffs(path, result)
        if self._json:
            self._terminal.json(_as_json(path, result, pictures))
        else:
            self._show(path, result, total)

    def _show(self, path: Path, result: SearchResult, total: int) -> None:
        found = (
            counted(result.total_matches, "match", "matches") if result.total_matches else "nothing like it"
        )
        seconds = result.timing.total_ms / 1000
        self._terminal.note(
            f"{visible(path.name)}: {found} among {counted(total, 'drawing')} ({seconds:.1f} s)"
        )
        for warning in result.warnings:
            self._terminal.note(f"dedup2d: {visible(path.name)}: warning: {visible(warning)}")
        matches = (*result.duplicates, *result.similar)
        if matches:
            query = (Column("query"),) if self._many else ()
            first = (path.name,) if self._many else ()
            self._terminal.table((*query, *_COLUMNS), ((*first, *_row(match)) for match in matches))

    def _write_diffs(self, path: Path, result: SearchResult) -> dict[str, str]:
        written: dict[str, str] = {}
        if self._diff is None:
            return written
        for place, match in enumerate((*result.duplicates, *result.similar), 1):
            if match.diff_image_base64:
                other = _slug(Path(match.file_name).stem)
                name = f"{_slug(path.stem)}-{place:02}-{other}-{match.drawing_id[:8]}.png"
                (self._diff / name).write_bytes(base64.b64decode(match.diff_image_base64))
                written[match.drawing_id] = str(self._diff / name)
        self._terminal.note(f"{counted(len(written), 'picture')} in {visible(str(self._diff))}")
        return written


def _slug(name: str) -> str:
    """Return a file name that no system, shell or path can misread."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60] or "drawing"


def _row(match: Match) -> tuple[str, ...]:
    place = shown_path(match.source) if match.source else match.file_name
    return (
        f"{match.similarity:.3f}",
        match.relation,
        match.verdict,
        place,
        str(match.page),
        match.drawing_id,
        match.reason,
    )


def _as_json(path: Path, result: SearchResult, pictures: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = jsonlib.loads(to_json(result))
    for match in (*document["duplicates"], *document["similar"]):
        match.pop("diff_image_base64", None)
        match["diff_file"] = pictures.get(match["drawing_id"])
    return {"file": str(path), **document}
