"""`dedup2d jobs`: the jobs of a tenant, and what to do about those that ended badly."""

from __future__ import annotations

import json as jsonlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

from attrs import evolve
from cyclopts import App, Parameter, validators

from dedup2d.build import build_jobs, build_service
from dedup2d.cli.exits import Exit
from dedup2d.cli.options import DataDir, Json, PageLimit, PageToken, Quiet, at_least_one, load_settings
from dedup2d.cli.session import run_async
from dedup2d.cli.terminal import Column, Terminal
from dedup2d.cli.text import counted, visible
from dedup2d.codec import to_json
from dedup2d.directories import check_writable
from dedup2d.errors import Dedup2DError
from dedup2d.observe import Observer
from dedup2d.protocols import JobStore
from dedup2d.retrying import Dead, JobStateError, dead_of
from dedup2d.retrying import retry as retry_job
from dedup2d.service import Dedup2D
from dedup2d.settings import Settings
from dedup2d.tenants import check_tenant_id
from dedup2d.types import CallbackStatus, Job, JobPage, JobStatus

__all__ = ["app", "cancel", "dead", "list_jobs", "redeliver", "retry", "show"]

app = App(
    name="jobs",
    help="List, show, cancel and retry jobs, and see which ended badly. Run it with the environment of the"
    " service.",
    help_format="markdown",
    help_epilogue="Exit codes: see `dedup2d --help`.",
    usage="Usage: dedup2d jobs COMMAND [OPTIONS]",
)

_COLUMNS = (
    Column("job"),
    Column("status"),
    Column("submitted (UTC)"),
    Column("seconds", number=True),
    Column("attempts", number=True),
    Column("callback"),
    Column("file", wraps=True),
    Column("why", wraps=True),
)
_DEAD_COLUMNS = (
    Column("job"),
    Column("ended (UTC)"),
    Column("file", wraps=True),
    Column("why", wraps=True),
)
_SECRET = ("lease_token", "callback_lease_token", "callback_url")

Tenant = Annotated[
    str | None, Parameter(name="--tenant", help="Whose jobs. [default: $DEDUP2D_TENANT, else default]")
]


@app.command(name="list")
def list_jobs(
    *,
    tenant: Tenant = None,
    status: Annotated[JobStatus | None, Parameter(help="Only jobs of this status.")] = None,
    limit: PageLimit = 50,
    page_token: PageToken = None,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """List the jobs of a tenant, newest first."""
    terminal, settings = Terminal(quiet=quiet), load_settings(data_dir)
    tenant_id = check_tenant_id(tenant or settings.tenant)

    async def work() -> JobPage:
        async with _store(settings) as jobs:
            return await jobs.list(tenant_id, status=status, limit=limit, page_token=page_token)

    page = run_async(work)
    if json:
        terminal.json(
            {
                "jobs": [_as_json(job) for job in page.jobs],
                "total": page.total,
                "next_page_token": page.next_page_token,
            }
        )
    else:
        _show_page(terminal, page, tenant_id, status)
    return Exit.OK if page.total else Exit.NOTHING


@app.command
def show(
    job: Annotated[str, Parameter(name="JOB", show_default=False)],
    /,
    *,
    json: Json = False,
    data_dir: DataDir = None,
) -> int:
    """
    Show all that is known of a job of any tenant.

    Args:
        job: Its id.
    """
    terminal, settings = Terminal(), load_settings(data_dir)

    async def work() -> Job:
        async with _store(settings) as jobs:
            return await jobs.get(job)

    found = run_async(work)
    if json:
        terminal.json({**_as_json(found), "result": jsonlib.loads(to_json(found.result))})
        return Exit.OK
    terminal.table((Column("field"), Column("value", wraps=True)), _fields(found))
    return Exit.OK


@app.command
def cancel(
    *jobs: Annotated[str, Parameter(name="JOB", show_default=False)],
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Cancel jobs: at once while they wait, within the next heartbeat while they run.

    Exits with 3 if some, with 2 if all of them were final or not there.

    Args:
        jobs: Their ids.
    """
    at_least_one(jobs, "JOB", "jobs cancel")

    async def one(service: Dedup2D, job: Job) -> Job:
        after = await service.cancel(job.tenant_id, job.job_id)
        if job.status.final:
            raise JobStateError(f"job {job.job_id} is {job.status} already")
        return after

    return _each(jobs, one, "canceled", json=json, quiet=quiet, data_dir=data_dir)


@app.command
def retry(
    *jobs: Annotated[str, Parameter(name="JOB", show_default=False)],
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Submit failed or canceled jobs anew, as new jobs, where their drawings are still there.

    They are unless DEDUP2D_FILE_STORAGE_CLEANUP_ON_FINISH is on, which it is by default. The ids of the new
    jobs go to stdout. Exits with 3 if some, with 2 if none could be retried.

    Args:
        jobs: Their ids.
    """
    at_least_one(jobs, "JOB", "jobs retry")

    async def one(service: Dedup2D, job: Job) -> Job:
        return await retry_job(service, job.job_id, job.tenant_id)

    return _each(jobs, one, "retried", json=json, quiet=quiet, data_dir=data_dir)


@app.command
def redeliver(
    *jobs: Annotated[str, Parameter(name="JOB", show_default=False)],
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    Have the callbacks of final jobs sent again, under the same message id; their attempts begin anew.

    A process that runs jobs sends them. Exits with 3 if some, with 2 if none can be.

    Args:
        jobs: Their ids.
    """
    at_least_one(jobs, "JOB", "jobs redeliver")
    return _each(jobs, _redelivered, "sent again", json=json, quiet=quiet, data_dir=data_dir)


@app.command
def dead(
    *,
    tenant: Tenant = None,
    limit: Annotated[
        int,
        Parameter(
            name=("--limit", "-n"),
            help="Most jobs listed, 1 to 10,000.",
            validator=validators.Number(gte=1, lte=10_000),
        ),
    ] = 100,
    redeliver: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Have the callbacks among what is listed sent again."
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    data_dir: DataDir = None,
) -> int:
    """
    List the jobs of a tenant that failed, and those whose callback did not arrive, with the reason.

    Exits with 1 if there are none. What to do: `dedup2d jobs retry`, `dedup2d jobs redeliver`.
    """
    terminal, settings = Terminal(quiet=quiet), load_settings(data_dir)
    tenant_id = check_tenant_id(tenant or settings.tenant)

    async def work() -> tuple[list[Dead], bool]:
        async with _store(settings) as jobs:
            return await _some(dead_of(jobs, tenant_id), limit)

    found, more = run_async(work)
    if json:
        terminal.json({"dead": [_dead_as_json(one) for one in found], "more": more})
    elif found:
        terminal.table(_DEAD_COLUMNS, map(_dead_row, found))
    if more:
        terminal.note(f"there are more: raise --limit ({limit})")
    if not found:
        terminal.note(f"no job of tenant {tenant_id} failed, and no callback: --tenant names another")
        return Exit.NOTHING
    callbacks = tuple(one.job.job_id for one in found if one.callback_failed)
    if redeliver and callbacks:
        return _each(callbacks, _redelivered, "sent again", quiet=quiet, data_dir=data_dir)
    return Exit.OK


async def _redelivered(service: Dedup2D, job: Job) -> Job:
    return await service.redeliver(job.tenant_id, job.job_id)


def _each(
    jobs: tuple[str, ...],
    one: Callable[[Dedup2D, Job], Awaitable[Job]],
    done: str,
    *,
    json: bool | None = None,
    quiet: bool,
    data_dir: str | None,
) -> int:
    """Do *one* with each of *jobs*, the next also after an error; *json* None writes nothing to stdout."""
    terminal, settings = Terminal(quiet=quiet), load_settings(data_dir)
    found = run_async(partial(_each_in_service, settings, jobs, one, terminal))
    if json:
        terminal.json({"jobs": [{"of": before.job_id, **_as_json(after)} for before, after in found]})
    elif json is False:
        for _, after in found:
            terminal.line(after.job_id)
    if found:
        terminal.note(f"{counted(len(found), 'job')}: {done}")
    if len(found) == len(jobs):
        return Exit.OK
    return Exit.PARTIAL if found else Exit.ERROR


async def _each_in_service(
    settings: Settings,
    jobs: tuple[str, ...],
    one: Callable[[Dedup2D, Job], Awaitable[Job]],
    terminal: Terminal,
) -> list[tuple[Job, Job]]:
    found = []
    async with build_service(settings, Observer(), concurrency=0) as service:
        for job_id in dict.fromkeys(jobs):
            try:
                before = await service.jobs.get(job_id)
                found.append((before, await one(service, before)))
            except Dedup2DError as error:
                terminal.error(visible(str(error)))
    return found


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[JobStore]:
    if settings.async_backend == "inprocess":
        check_writable(settings.data_dir, "DEDUP2D_DATA_DIR")
    async with build_jobs(settings) as jobs:
        yield jobs


async def _some(found: AsyncIterator[Dead], most: int) -> tuple[list[Dead], bool]:
    """Return the first of *found*, and whether there are more."""
    some: list[Dead] = []
    async for one in found:
        if len(some) == most:
            return some, True
        some.append(one)
    return some, False


def _show_page(terminal: Terminal, page: JobPage, tenant_id: str, status: JobStatus | None) -> None:
    if not page.total:
        which = f"{status} jobs" if status else "jobs"
        terminal.note(f"there are no {which} of tenant {tenant_id}: --tenant names another")
        return
    terminal.table(_COLUMNS, map(_row, page.jobs))
    if page.next_page_token:
        shown = f"{len(page.jobs):,} of {counted(page.total, 'job')}"
        terminal.note(f"{shown}; more with --page-token {page.next_page_token}")


def _row(job: Job) -> tuple[str, ...]:
    end = time.time() if job.finished_at is None else job.finished_at
    return (
        job.job_id,
        "canceling" if job.cancel_requested and not job.status.final else job.status,
        _time(job.created_at),
        f"{max(0.0, end - job.created_at):.1f}",
        str(job.attempts),
        job.callback_status or "",
        job.file_name,
        _why(job),
    )


def _why(job: Job) -> str:
    if job.status is JobStatus.FAILED:
        return f"{job.error_code}: {job.error}"
    if job.callback_status not in (None, CallbackStatus.SUCCESS) and job.callback_last_error:
        return f"callback: {job.callback_last_error}"
    return job.last_error or "" if not job.status.final else ""


def _dead_row(one: Dead) -> tuple[str, ...]:
    return one.job.job_id, _time(one.job.finished_at), one.job.file_name, one.reason


def _dead_as_json(one: Dead) -> dict[str, Any]:
    return {
        **_as_json(one.job),
        "job_failed": one.failed,
        "callback_failed": one.callback_failed,
        "reason": one.reason,
    }


def _fields(job: Job) -> list[tuple[str, str]]:
    shown = _as_json(job)
    rows = [(name, _text(name, value)) for name, value in shown.items() if value not in (None, "", {})]
    if job.result is not None:
        found = f"{len(job.result.duplicates)} duplicates, {len(job.result.similar)} similar"
        rows.append(("result", f"{found} (--json shows them)"))
    return rows


def _text(name: str, value: Any) -> str:
    if name.endswith("_at") and isinstance(value, float):
        return f"{_time(value)} UTC"
    return value if isinstance(value, str) else jsonlib.dumps(value)


def _as_json(job: Job) -> dict[str, Any]:
    """Return the job without its result, without what is secret, and with the host alone of its callback."""
    shown = jsonlib.loads(to_json(evolve(job, result=None)))
    for name in (*_SECRET, "result"):
        del shown[name]
    host = None if job.callback_url is None else urlsplit(job.callback_url).hostname
    return {**shown, "callback_host": host}


def _time(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
