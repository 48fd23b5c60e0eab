"""`dedup2d scan`: all drawings of a folder against each other."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated

from attrs import define, field
from cyclopts import Parameter

from dedup2d.cli.exits import Exit
from dedup2d.cli.gone import Gone, find_gone
from dedup2d.cli.groups import Group, find_groups
from dedup2d.cli.index import fill, summary
from dedup2d.cli.indexing import Tally
from dedup2d.cli.listing import as_json, table_rows, write_csv
from dedup2d.cli.options import (
    DataDir,
    Duplicate,
    Jobs,
    Json,
    ModeOption,
    Preset,
    Quiet,
    Similar,
    load_settings,
    search_params,
)
from dedup2d.cli.outputs import check_output
from dedup2d.cli.report import Report, write_report
from dedup2d.cli.scanning import EnginePictures, Scanner
from dedup2d.cli.session import Session, open_session, run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.cli.text import counted, source_of, visible
from dedup2d.errors import InvalidParameterError
from dedup2d.settings import Settings
from dedup2d.types import MAX_RESULTS_LIMIT, Relation, SearchParams

__all__ = ["scan"]

_COLUMNS = (
    Column("group", number=True),
    Column("relation"),
    Column("similarity", number=True),
    Column("drawing", wraps=True),
    Column("page", number=True),
    Column("id"),
)
_RELATIONS = (Relation.EXACT, Relation.IDENTICAL, Relation.REVISION, Relation.MIRRORED)


def scan(
    folder: Path,
    /,
    *,
    relation: Annotated[
        tuple[Relation, ...],
        Parameter(
            negative="",
            show_default=False,
            help="What puts drawings into one group; may be given several times."
            " [default: exact, identical, revision, mirrored]",
        ),
    ] = _RELATIONS,
    preset: Preset = None,
    mode: ModeOption = None,
    duplicate_threshold: Duplicate = None,
    similar_threshold: Similar = None,
    csv: Annotated[Path | None, Parameter(help="Write the groups as a table for a spreadsheet.")] = None,
    html: Annotated[
        Path | None, Parameter(help="Write a report with pictures: one file, to be opened in a browser.")
    ] = None,
    check: Annotated[
        bool, Parameter(negative="", show_default=False, help="Exit with 1 if any group was found.")
    ] = False,
    index: Annotated[
        Path | None,
        Parameter(help="Keep what was read here. [default: below the data directory, one for each folder]"),
    ] = None,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Find duplicates and revisions within a folder: all its drawings against each other.

    What was read is kept, so the next scan of the folder reads only what has changed. `dedup2d search`
    does not see it.

    Args:
        folder: Read with all folders in it.
    """
    if not folder.is_dir():
        raise InvalidParameterError("FOLDER", str(folder), "an existing folder (for files: dedup2d compare)")
    check_output("--csv", csv)
    check_output("--html", html)
    settings = load_settings(data_dir, jobs=jobs)
    scanned = _Scan(
        folder=folder.resolve(),
        terminal=Terminal(quiet=quiet),
        settings=settings,
        params=search_params(
            preset=preset,
            mode=mode,
            duplicate_threshold=duplicate_threshold,
            similar_threshold=similar_threshold,
            max_results=MAX_RESULTS_LIMIT,
        ),
        relations=frozenset(relation),
        directory=index or _own_index(settings, folder.resolve()),
    )
    run_async(lambda: scanned.run(html))
    scanned.show(json=json, csv=csv)
    if scanned.tally.failed:
        return Exit.PARTIAL
    return Exit.NOTHING if check and scanned.groups else Exit.OK


def _own_index(settings: Settings, folder: Path) -> Path:
    name = hashlib.sha256(source_of(folder).encode()).hexdigest()[:16]
    return settings.data_dir / "scans" / name


@define(kw_only=True)
class _Scan:
    """One scan: what was asked for, and what was found."""

    folder: Path
    terminal: Terminal
    settings: Settings
    params: SearchParams
    relations: frozenset[Relation]
    directory: Path
    tally: Tally = field(factory=Tally)
    drawings: int = 0
    groups: list[Group] = field(factory=list)

    async def run(self, html: Path | None) -> None:
        await fill(self.settings, [self.folder], self.tally, self.terminal, directory=self.directory)
        async with open_session(self.settings, directory=self.directory) as session:
            await find_gone(session, [self.folder], Gone(), prune=True)
            if await session.stale():
                self.terminal.note("making fingerprints of another version anew ...")
                await session.vision.rebuild(session.tenant_id)
            scanner = Scanner(
                session=session,
                params=self.params,
                relations=self.relations,
                workers=self.settings.engine_processes,
            )
            with self.terminal.progress("Comparing") as progress:
                await scanner.run(progress)
            self.drawings = len(scanner.drawings)
            self.groups = find_groups(scanner.drawings.values(), scanner.links)
            if html is not None:
                await self._write_report(session, html)

    async def _write_report(self, session: Session, path: Path) -> None:
        report = Report(
            folder=source_of(self.folder),
            created=f"{datetime.now().astimezone():%Y-%m-%d %H:%M} · {summary(self.tally)}",
            drawings=self.drawings,
            groups=self.groups,
            failures=self.tally.failures,
            failed=self.tally.failed,
        )
        with self.terminal.progress("Drawing") as progress:
            progress.total(min(len(self.groups), report.budget.groups))
            await write_report(path, report, EnginePictures(session, self.params), advance=progress.advance)
        self.terminal.note(f"report written to {visible(str(path))}")

    def show(self, *, json: bool, csv: Path | None) -> None:
        """Write the groups where they are wanted."""
        folder = source_of(self.folder)
        if csv is not None:
            write_csv(csv, self.groups, folder)
            self.terminal.note(f"table written to {visible(str(csv))}")
        self.terminal.note(
            f"{counted(len(self.groups), 'group')} among {counted(self.drawings, 'drawing')};"
            f" {summary(self.tally)}"
        )
        if json:
            self.terminal.json(as_json(self.groups, folder, self.tally, self.drawings))
        elif self.groups:
            self.terminal.table(_COLUMNS, table_rows(self.groups, folder))
