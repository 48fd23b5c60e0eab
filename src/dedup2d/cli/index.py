"""`dedup2d index`: puts drawings into the index."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from attrs import asdict
from cyclopts import Parameter

from dedup2d.cli.exits import Exit
from dedup2d.cli.gone import Gone, find_gone
from dedup2d.cli.indexing import Failure, Indexer, Tally
from dedup2d.cli.options import DataDir, Jobs, Json, Quiet, at_least_one, load_settings
from dedup2d.cli.session import open_session, run_async
from dedup2d.cli.terminal import Terminal
from dedup2d.cli.text import counted, shown_path, visible
from dedup2d.settings import Settings

__all__ = ["fill", "index", "summary"]


def index(
    *paths: Annotated[Path, Parameter(name="PATH", show_default=False)],
    prune: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Remove drawings from the index whose files are gone."
        ),
    ] = False,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Put drawings into the index, to be found by `dedup2d search`.

    Folders are read with all folders in them. Files that have not changed since the last time
    are left as they are; changed ones are replaced. Hidden files and files that are no drawings are
    skipped. A file that cannot be read is named with the reason and stops nothing. Ctrl-C keeps what
    was done.

    Args:
        paths: Files and folders.
    """
    at_least_one(paths, "PATH", "index")
    terminal = Terminal(quiet=quiet)
    settings = load_settings(data_dir, jobs=jobs)
    tally, gone, started = Tally(), Gone(), time.monotonic()
    try:
        run_async(lambda: _index(settings, paths, tally, gone, terminal, prune=prune))
    except BaseException:
        if tally.files:
            _report(terminal, tally, gone, started, json=json, complete=False)
        raise
    _report(terminal, tally, gone, started, json=json, complete=True)
    if tally.failed and tally.failed == tally.files:
        return Exit.ERROR
    return Exit.PARTIAL if tally.failed else Exit.OK


async def _index(
    settings: Settings, paths: Sequence[Path], tally: Tally, gone: Gone, terminal: Terminal, *, prune: bool
) -> None:
    await fill(settings, paths, tally, terminal)
    async with open_session(settings) as session:
        await find_gone(session, paths, gone, prune=prune)
        if stale := await session.stale():
            terminal.note(
                f"{counted(stale, 'drawing has', 'drawings have')} fingerprints of another version,"
                " which searches leave out: dedup2d rebuild makes them anew"
            )


async def fill(
    settings: Settings,
    paths: Sequence[Path],
    tally: Tally,
    terminal: Terminal,
    *,
    directory: Path | None = None,
) -> None:
    """Put everything below *paths* into the index in *directory*, showing how far it is."""

    def failed(failure: Failure) -> None:
        terminal.warn(f"{shown_path(failure.source)}: {visible(failure.reason)}")

    def warned(source: str, warning: str) -> None:
        terminal.note(f"dedup2d: {shown_path(source)}: warning: {visible(warning)}")

    async with open_session(settings, directory=directory) as session:
        indexer = Indexer(
            vision=session.vision,
            tenant_id=session.tenant_id,
            max_bytes=settings.max_upload_bytes,
            workers=settings.engine_processes,
            own=settings.data_dir,
            failed=failed,
            warned=warned,
            tally=tally,
        )
        with terminal.progress("Indexing") as progress:
            await indexer.run(paths, progress, counts=terminal.shows_progress)


def _report(
    terminal: Terminal, tally: Tally, gone: Gone, started: float, *, json: bool, complete: bool
) -> None:
    seconds = time.monotonic() - started
    if json:
        terminal.json({**_as_json(tally, gone), "complete": complete, "seconds": round(seconds, 3)})
        return
    terminal.line(f"{summary(tally)} in {seconds:.1f} s")
    if gone.pruned:
        terminal.line(f"{counted(gone.pruned, 'drawing')} removed whose files are gone")
    for source in gone.sources[:10]:
        terminal.note(f"gone: {shown_path(source)}")
    if gone.files:
        more = f" ({gone.files - 10:,} not shown)" if gone.files > 10 else ""
        terminal.note(
            f"{counted(gone.files, 'indexed file is', 'indexed files are')} gone{more}: --prune removes them"
        )


def _as_json(tally: Tally, gone: Gone) -> dict[str, Any]:
    return {
        "files": tally.files,
        "added": tally.added,
        "replaced": tally.replaced,
        "unchanged": tally.unchanged,
        "skipped": tally.skipped,
        "failed": tally.failed,
        "drawings": tally.drawings,
        "failures": [asdict(failure) for failure in tally.failures],
        "warnings": [{"source": source, "warning": warning} for source, warning in tally.warnings],
        "gone": gone.files,
        "gone_sources": list(gone.sources),
        "pruned": gone.pruned,
    }


def summary(tally: Tally) -> str:
    """Return what was done as one line."""
    parts = [
        f"{tally.added:,} added" if tally.added or not tally.files else "",
        f"{tally.replaced:,} replaced" if tally.replaced else "",
        f"{tally.unchanged:,} unchanged" if tally.unchanged else "",
        f"{tally.skipped:,} skipped" if tally.skipped else "",
        f"{tally.failed:,} failed" if tally.failed else "",
    ]
    new = f" ({counted(tally.drawings, 'drawing')})" if tally.drawings else ""
    return f"{counted(tally.files, 'file')}{new}: " + ", ".join(filter(None, parts))
