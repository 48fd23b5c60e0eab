"""`dedup2d keys`: the keys that a service takes."""

from __future__ import annotations

import json as jsonlib
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

from attrs import evolve
from cyclopts import App, Parameter

from dedup2d.audit import audit, operator
from dedup2d.cli.exits import Exit
from dedup2d.cli.options import DataDir, Json, PageLimit, PageToken, Quiet, at_least_one, load_settings
from dedup2d.cli.session import run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.cli.text import counted, visible
from dedup2d.codec import to_json
from dedup2d.directories import check_writable
from dedup2d.errors import InvalidParameterError
from dedup2d.keys import KeyPage, KeyState, KeyStore, Scope, StoredKey
from dedup2d.keys.build import build_key_store, key_secrets, secrets_for_new_keys
from dedup2d.keys.making import KeyMaker, MadeKey
from dedup2d.logs import configure_logging
from dedup2d.settings import Settings

__all__ = ["app", "create", "list_keys", "revoke"]

app = App(
    name="keys",
    help="Create, list and revoke the keys that a service takes.",
    help_format="markdown",
    help_epilogue="Exit codes: see `dedup2d --help`.",
    usage="Usage: dedup2d keys COMMAND [OPTIONS]",
)

_SOON = "Services that run take note within seconds."
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,6})([mhdw])")
_EXPIRY_RULE = "a duration such as 12h, 90d, 52w, or a date such as 2027-01-31 (UTC), in the future"
_COLUMNS = (
    Column("key"),
    Column("tenant"),
    Column("may"),
    Column("state"),
    Column("created (UTC)"),
    Column("expires (UTC)"),
    Column("name", wraps=True),
)


@app.command
def create(
    tenant: Annotated[
        str | None,
        Parameter(help="Whose jobs and index it opens. [default: $DEDUP2D_TENANT, else default]"),
    ] = None,
    /,
    *,
    scope: Annotated[
        list[Scope] | None,
        Parameter(
            negative="",
            help="What it may do: search (search, jobs, read the index), index (change the index), admin"
            " (change the tenant's configuration). May be given several times. [default: search]",
        ),
    ] = None,
    expires: Annotated[
        str | None, Parameter(help="When it ends: 12h, 90d, 52w, or a date. [default: never]")
    ] = None,
    name: Annotated[str, Parameter(help="What it is for, as lists show it.", show_default=False)] = "",
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Create a key and show it, this once: only a hash of it is kept.

    The key alone goes to stdout. Once there is a key, services ask for one, and may listen on other addresses
    than loopback.
    """
    terminal, settings = Terminal(quiet=quiet), load_settings(data_dir)
    tenant_id = settings.tenant if tenant is None else tenant
    seconds = None if expires is None else _seconds_until(expires, time.time())

    async def work() -> MadeKey:
        async with _open(settings) as store:
            maker = KeyMaker(store, await secrets_for_new_keys(settings, store))
            return await maker.create(
                tenant_id, scope or [Scope.SEARCH], name=name, by=operator(), seconds=seconds
            )

    made = run_async(work)
    _audit(settings, "key.create", made.record)
    if json:
        terminal.json({"key": made.text, **_as_json(made.record)})
        return Exit.OK
    terminal.line(made.text)
    key = made.record
    terminal.note(
        f"key {key.key_id} of tenant {key.tenant_id}: may {_scopes(key)}; {_end(key)}."
        f" Keep it now: it is shown this once. {_SOON}"
    )
    return Exit.OK


@app.command(name="list")
def list_keys(
    *,
    tenant: Annotated[str | None, Parameter(help="Only the keys of this tenant. [default: all]")] = None,
    limit: PageLimit = 50,
    page_token: PageToken = None,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    List keys, newest first, also those that expired or were revoked.

    Keys of DEDUP2D_API_KEYS are not among them.
    """
    terminal, settings = Terminal(quiet=quiet), load_settings(data_dir)

    async def work() -> KeyPage:
        async with _open(settings) as store:
            return await store.list(tenant_id=tenant, limit=limit, page_token=page_token)

    page = run_async(work)
    if json:
        terminal.json(
            {
                "keys": [_as_json(key) for key in page.keys],
                "total": page.total,
                "next_page_token": page.next_page_token,
            }
        )
    else:
        _show(terminal, page, settings)
    return Exit.OK if page.total else Exit.NOTHING


@app.command
def revoke(
    *keys: Annotated[str, Parameter(name="KEY", show_default=False)],
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Revoke keys, for ever.

    Args:
        keys: Their ids, as `dedup2d keys list` shows them.
    """
    at_least_one(keys, "KEY", "keys revoke")
    terminal, settings = Terminal(quiet=quiet), load_settings(data_dir)
    found = run_async(lambda: _revoke(settings, keys, terminal))
    for key in found:
        _audit(settings, "key.revoke", key)
    if json:
        terminal.json({"revoked": [_as_json(key) for key in found]})
    elif found:
        terminal.note(f"{counted(len(found), 'key')} revoked. {_SOON}")
    if len(found) == len(keys):
        return Exit.OK
    return Exit.PARTIAL if found else Exit.ERROR


async def _revoke(settings: Settings, keys: tuple[str, ...], terminal: Terminal) -> list[StoredKey]:
    found = []
    async with _open(settings) as store:
        maker = KeyMaker(store, key_secrets(settings))
        for key in keys:
            try:
                found.append(await maker.revoke(key, by=operator()))
            except InvalidParameterError as error:
                terminal.error(visible(str(error)))
    return found


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[KeyStore]:
    if settings.async_backend == "inprocess":
        check_writable(settings.data_dir, "DEDUP2D_DATA_DIR")
    async with build_key_store(settings) as store:
        yield store


def _seconds_until(text: str, now: float) -> float:
    """Return how long it is until *text*."""
    if match := _DURATION.fullmatch(text.strip().lower()):
        seconds = float(int(match[1]) * _SECONDS[match[2]])
    else:
        try:
            when = datetime.fromisoformat(text.strip())
        except ValueError:
            raise InvalidParameterError("--expires", text, _EXPIRY_RULE) from None
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now
    if seconds < 1:
        raise InvalidParameterError("--expires", text, _EXPIRY_RULE)
    return seconds


def _show(terminal: Terminal, page: KeyPage, settings: Settings) -> None:
    if settings.api_keys:
        terminal.note(f"besides {counted(len(settings.api_keys), 'key')} of DEDUP2D_API_KEYS:")
    if not page.total:
        terminal.note("no keys are stored: dedup2d keys create makes one")
        return
    terminal.table(_COLUMNS, (_row(key) for key in page.keys))
    if page.next_page_token:
        shown = f"{len(page.keys):,} of {counted(page.total, 'key')}"
        terminal.note(f"{shown}; more with --page-token {page.next_page_token}")


def _row(key: StoredKey) -> tuple[str, ...]:
    state = key.state(time.time())
    shown = f"revoked {_day(key.revoked_at)}" if state is KeyState.REVOKED else state.value
    return (
        key.key_id,
        key.tenant_id,
        _scopes(key),
        shown,
        _day(key.created_at),
        _day(key.expires_at),
        key.name,
    )


def _scopes(key: StoredKey) -> str:
    return ", ".join(scope for scope in Scope if scope in key.scopes)


def _day(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _end(key: StoredKey) -> str:
    return "never expires" if key.expires_at is None else f"expires {_day(key.expires_at)} UTC"


def _as_json(key: StoredKey) -> dict[str, object]:
    shown = jsonlib.loads(to_json(evolve(key, digest="", secret_id="")))
    del shown["digest"], shown["secret_id"]
    return {**shown, "scopes": sorted(key.scopes), "state": key.state(time.time()).value}


def _audit(settings: Settings, what: str, key: StoredKey) -> None:
    """Write the line of the audit log; who sits at a terminal is told what was done anyway."""
    if settings.log_format == "auto" and sys.stderr.isatty():
        return
    configure_logging(level=settings.log_level, form=settings.log_format)
    audit(
        what,
        who=operator(),
        tenant_id=key.tenant_id,
        request_id=uuid4().hex,
        key_id=key.key_id,
        scopes=sorted(key.scopes),
        expires_at=key.expires_at,
    )
