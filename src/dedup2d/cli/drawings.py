"""`dedup2d drawings`, `dedup2d remove` and `dedup2d rebuild`: what is in the index."""

from __future__ import annotations

import json as jsonlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from dedup2d.cli.exits import Exit
from dedup2d.cli.options import DataDir, Json, PageLimit, PageToken, Quiet, at_least_one, load_settings
from dedup2d.cli.session import Session, open_session, run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.cli.text import counted, shown_path, visible
from dedup2d.codec import to_json
from dedup2d.errors import DrawingNotFoundError
from dedup2d.settings import Settings
from dedup2d.types import Drawing, DrawingPage, RebuildResult

__all__ = ["drawings", "rebuild", "remove"]

_COLUMNS = (
    Column("drawing", wraps=True),
    Column("page", number=True),
    Column("sheet"),
    Column("format"),
    Column("indexed"),
    Column("id"),
)


def drawings(
    *,
    limit: PageLimit = 50,
    page_token: PageToken = None,
    all_: Annotated[
        bool, Parameter(name="--all", negative="", show_default=False, help="List all, page after page.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    List the drawings in the index, newest first.

    With --json and --all each page is one JSON document on a line.
    """
    terminal = Terminal(quiet=quiet)
    settings = load_settings(data_dir)
    return run_async(
        lambda: _list(settings, terminal, 500 if all_ else limit, page_token, all_pages=all_, json=json)
    )


async def _list(
    settings: Settings, terminal: Terminal, limit: int, token: str | None, *, all_pages: bool, json: bool
) -> int:
    async with open_session(settings) as session:
        async for page in _pages(session, limit, token, all_pages=all_pages):
            if json:
                terminal.json(jsonlib.loads(to_json(page)))
            else:
                _show(terminal, page, all_pages=all_pages)
            if not page.total:
                return Exit.NOTHING
    return Exit.OK


async def _pages(
    session: Session, limit: int, token: str | None, *, all_pages: bool
) -> AsyncIterator[DrawingPage]:
    while True:
        page = await session.vision.drawings(session.tenant_id, limit=limit, page_token=token)
        yield page
        token = page.next_page_token
        if token is None or not all_pages:
            return


def _show(terminal: Terminal, page: DrawingPage, *, all_pages: bool) -> None:
    if not page.total:
        terminal.note("the index has no drawings yet: dedup2d index FOLDER puts some in")
        return
    terminal.table(_COLUMNS, (_row(drawing) for drawing in page.drawings))
    if page.next_page_token and not all_pages:
        shown = counted(len(page.drawings), "drawing")
        terminal.note(f"{shown} of {page.total:,}; more with --all or --page-token {page.next_page_token}")


def _row(drawing: Drawing) -> tuple[str, ...]:
    return (
        shown_path(drawing.source) if drawing.source else drawing.file_name,
        str(drawing.page),
        drawing.sheet,
        drawing.format,
        datetime.fromtimestamp(drawing.created_at, UTC).astimezone().strftime("%Y-%m-%d %H:%M"),
        drawing.drawing_id,
    )


def remove(
    *ids: Annotated[str, Parameter(name="ID", show_default=False)],
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Remove drawings from the index; the files stay as they are.

    Args:
        ids: As `dedup2d drawings` and `dedup2d search` show them.
    """
    at_least_one(ids, "ID", "remove")
    terminal = Terminal(quiet=quiet)
    removed = run_async(lambda: _remove(load_settings(data_dir), ids, terminal))
    if json:
        terminal.json({"removed": removed, "not_found": [one for one in ids if one not in removed]})
    else:
        terminal.note(f"{counted(len(removed), 'drawing')} removed")
    if len(removed) == len(ids):
        return Exit.OK
    return Exit.PARTIAL if removed else Exit.ERROR


async def _remove(settings: Settings, ids: Sequence[str], terminal: Terminal) -> list[str]:
    removed: list[str] = []
    async with open_session(settings) as session:
        for one in dict.fromkeys(ids):
            try:
                await session.vision.remove(session.tenant_id, one)
            except DrawingNotFoundError as error:
                terminal.error(visible(str(error)))
            else:
                removed.append(one)
    return removed


def rebuild(*, json: Json = False, quiet: Quiet = False, data_dir: DataDir = None) -> int:
    """
    Make all fingerprints of the index anew, after an upgrade of dedup2d say.

    Works from the pictures that the index keeps: the files are not needed. Searches may go on meanwhile.
    """
    terminal = Terminal(quiet=quiet)
    terminal.note("making fingerprints anew ...")
    result = run_async(lambda: _rebuild(load_settings(data_dir)))
    if json:
        terminal.json(jsonlib.loads(to_json(result)))
    else:
        terminal.line(result.message)
    return Exit.OK if result.success else Exit.PARTIAL


async def _rebuild(settings: Settings) -> RebuildResult:
    async with open_session(settings) as session:
        return await session.vision.rebuild(session.tenant_id)
