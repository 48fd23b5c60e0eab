"""
Jobs as rows of a SQLite database: the schema, the statements, and how to read and write a job.

Every function works on a connection inside a transaction of its caller.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from sqlite3 import Connection
from typing import Any

from attrs import evolve

from dedup2d.codec import from_json, to_json
from dedup2d.database import DatabaseKind
from dedup2d.errors import JobNotFoundError, StoreUnavailableError, StoreVersionError, UnreadableRecordError
from dedup2d.jobs import callback_steps, steps
from dedup2d.paging import make_token
from dedup2d.types import Job, JobCounts, JobPage, JobStatus, Lane, SearchResult

__all__ = [
    "KIND",
    "active",
    "any_callback",
    "callbacks",
    "count_gone",
    "counts",
    "drop_gone",
    "due_callback",
    "find",
    "first",
    "insert",
    "lost",
    "page",
    "ready",
    "record",
    "same_key",
    "update",
    "visible",
]

_log = logging.getLogger("dedup2d.jobs")

# The record is the truth; columns repeat of it what is searched by. `gone_after` is the
# expiry of a final job: that of a running one, noted by a cancel, does not count yet.
_CALLBACK_INDEX = """
CREATE INDEX jobs_callbacks ON jobs (callback_due, tenant_id, job_id) WHERE callback_due IS NOT NULL;
CREATE INDEX jobs_callbacks_of_tenant ON jobs (tenant_id) WHERE callback_due IS NOT NULL;
"""
_SCHEMA = f"""
CREATE TABLE jobs (
    job_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at REAL NOT NULL,
    next_attempt_at REAL,
    lease_expires_at REAL,
    gone_after REAL,
    idempotency_key TEXT,
    record TEXT NOT NULL,
    callback_due REAL
);
CREATE TABLE results (job_id TEXT PRIMARY KEY, result TEXT NOT NULL);
CREATE INDEX jobs_of_tenant ON jobs (tenant_id, created_at, job_id, gone_after);
CREATE INDEX jobs_by_status ON jobs (tenant_id, status, created_at, job_id, gone_after);
CREATE INDEX jobs_waiting ON jobs (created_at, job_id, next_attempt_at) WHERE status = 'pending';
CREATE INDEX jobs_running ON jobs (lease_expires_at, job_id) WHERE status = 'in_progress';
CREATE INDEX jobs_gone ON jobs (gone_after, job_id) WHERE gone_after IS NOT NULL;
CREATE INDEX jobs_by_key ON jobs (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
{_CALLBACK_INDEX}"""
_UPGRADES = {1: f"ALTER TABLE jobs ADD COLUMN callback_due REAL;{_CALLBACK_INDEX}"}

KIND = DatabaseKind(
    name="job store",
    application_id=0x6464326A,
    schema=_SCHEMA,
    version=2,
    upgrades=_UPGRADES,
    unavailable=partial(StoreUnavailableError, "job store"),
    newer=partial(StoreVersionError, "job store"),
)

_ALIVE = "(gone_after IS NULL OR gone_after >= :now)"
_ACTIVE = """
SELECT (SELECT count(*) FROM jobs WHERE status = 'pending')
     + (SELECT count(*) FROM jobs WHERE status = 'in_progress')
"""
_ACTIVE_OF_TENANT = "SELECT count(*) FROM jobs WHERE tenant_id = ? AND status IN ('pending', 'in_progress')"
_ONE = "SELECT record, result FROM jobs LEFT JOIN results USING (job_id) WHERE job_id = ?"
_OF_KEY = f"""
SELECT record, result FROM jobs LEFT JOIN results USING (job_id)
WHERE tenant_id = :tenant AND idempotency_key = :key AND {_ALIVE} LIMIT 1
"""  # noqa: S608 - of constants
_CLAIMABLE = """
FROM jobs WHERE status = 'pending' AND (next_attempt_at IS NULL OR next_attempt_at <= :now)
ORDER BY created_at, job_id LIMIT :limit
"""
_READY = f"SELECT job_id {_CLAIMABLE}"
_CLAIM = f"SELECT record {_CLAIMABLE}"
_LOST = """
SELECT record FROM jobs WHERE status = 'in_progress' AND lease_expires_at < ?
ORDER BY lease_expires_at, job_id LIMIT ?
"""
_GONE = """
SELECT job_id, record FROM jobs WHERE gone_after IS NOT NULL AND gone_after < ?
ORDER BY gone_after, job_id LIMIT ?
"""
_DUE_CALLBACKS = """
SELECT job_id FROM jobs WHERE callback_due IS NOT NULL AND callback_due <= ? AND tenant_id NOT IN ({marks})
ORDER BY callback_due, tenant_id, job_id LIMIT 100
"""
_POSTPONE = "UPDATE jobs SET callback_due = ? WHERE job_id = ?"
_UNREADABLE_SECONDS = 60.0
_CALLBACKS = "SELECT count(*) FROM jobs WHERE tenant_id = ? AND callback_due IS NOT NULL"
_RECORD = "SELECT record FROM jobs WHERE job_id = ?"
_COUNTS = """
SELECT (SELECT count(*) FROM jobs WHERE status = 'pending'),
       (SELECT count(*) FROM jobs WHERE status = 'in_progress'),
       (SELECT min(created_at) FROM jobs WHERE status = 'pending')
"""
_INSERT = """
INSERT INTO jobs (tenant_id, status, created_at, next_attempt_at, lease_expires_at, gone_after,
                  idempotency_key, record, callback_due, job_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = """
UPDATE jobs SET tenant_id = ?, status = ?, created_at = ?, next_attempt_at = ?, lease_expires_at = ?,
                gone_after = ?, idempotency_key = ?, record = ?, callback_due = ?
WHERE job_id = ?
"""


def _columns(job: Job) -> tuple[Any, ...]:
    return (
        job.tenant_id,
        job.status.value,
        job.created_at,
        job.next_attempt_at,
        job.lease_expires_at,
        job.expires_at if job.status.final else None,
        job.idempotency_key,
        to_json(evolve(job, result=None)).decode(),
        callback_steps.due_at(job),
        job.job_id,
    )


def insert(connection: Connection, job: Job) -> None:
    connection.execute(_INSERT, _columns(job))


def update(connection: Connection, job: Job) -> Job:
    connection.execute(_UPDATE, _columns(job))
    if job.result is not None:
        # Results are written once and read by `get` alone, so they do not weigh on the records.
        connection.execute(
            "INSERT OR IGNORE INTO results VALUES (?, ?)", (job.job_id, to_json(job.result).decode())
        )
    return job


def active(connection: Connection, tenant_id: str | None = None) -> int:
    """Count the jobs that are not final, of all tenants or of one."""
    if tenant_id is None:
        return _number(connection, _ACTIVE)
    return _number(connection, _ACTIVE_OF_TENANT, (tenant_id,))


def counts(connection: Connection) -> JobCounts:
    pending, running, oldest = connection.execute(_COUNTS).fetchone()
    return JobCounts(pending=pending, in_progress=running, oldest_pending_at=oldest)


def ready(connection: Connection, now: float, limit: int) -> tuple[str, ...]:
    """Return the ids of the jobs that can be claimed, oldest first."""
    return tuple(job_id for (job_id,) in connection.execute(_READY, {"now": now, "limit": limit}))


def lost(connection: Connection, now: float, limit: int) -> tuple[Job, ...]:
    """Return the jobs whose lease has run out, the first to do so first."""
    return tuple(_records(connection.execute(_LOST, (now, limit)).fetchall()))


def find(connection: Connection, job_id: str) -> Job | None:
    return _whole(connection.execute(_ONE, (job_id,)).fetchone())


def record(connection: Connection, job_id: str) -> Job | None:
    """Return the job without its result, which may be long."""
    row = connection.execute(_RECORD, (job_id,)).fetchone()
    return None if row is None else from_json(row[0], Job)


def callbacks(connection: Connection, tenant_id: str) -> int:
    """Count the callbacks of the tenant that wait or are on their way."""
    return _number(connection, _CALLBACKS, (tenant_id,))


def any_callback(connection: Connection, now: float, passing_over: Collection[str]) -> bool:
    """Say whether a callback may be due: who only looks keeps nobody from writing."""
    return bool(_due_callbacks(connection, now, passing_over))


def due_callback(connection: Connection, now: float, passing_over: Collection[str]) -> Job | None:
    """Return the job, with its result, whose callback has been due longest."""
    for job_id in _due_callbacks(connection, now, passing_over):
        try:
            job = find(connection, job_id)
        except UnreadableRecordError:
            _log.exception("a job's callback cannot be read; it is tried later", extra={"job_id": job_id})
            connection.execute(_POSTPONE, (now + _UNREADABLE_SECONDS, job_id))
            continue
        if job is not None and callback_steps.claimable(job, now):
            return job
    return None


def _due_callbacks(connection: Connection, now: float, passing_over: Collection[str]) -> list[str]:
    query = _DUE_CALLBACKS.format(marks=",".join("?" * len(passing_over)))
    return [job_id for (job_id,) in connection.execute(query, (now, *passing_over))]


def _whole(row: tuple[str, str | None] | None) -> Job | None:
    if row is None:
        return None
    record, result = row
    job = from_json(record, Job)
    return job if result is None else evolve(job, result=from_json(result, SearchResult))


def first(connection: Connection, now: float, lanes: Collection[Lane] | None) -> Job | None:
    """Return the job that has waited longest; other lanes are passed over one by one."""
    rows = connection.execute(_CLAIM, {"now": now, "limit": -1})
    return next((job for job in _records(rows) if lanes is None or job.lane in lanes), None)


def _records(rows: Iterable[tuple[str]]) -> Iterator[Job]:
    """Give the jobs, without those that another version or a damage made unreadable."""
    for (record,) in rows:
        try:
            yield from_json(record, Job)
        except UnreadableRecordError:
            # One such job must not keep all others from being listed and run.
            _log.exception("a job's record was left out")


def same_key(connection: Connection, job: Job, now: float) -> Job | None:
    if job.idempotency_key is None:
        return None
    wanted = {"tenant": job.tenant_id, "key": job.idempotency_key, "now": now}
    return _whole(connection.execute(_OF_KEY, wanted).fetchone())


def visible(connection: Connection, job_id: str, tenant_id: str | None, now: float) -> Job:
    job = find(connection, job_id)
    foreign = job is not None and tenant_id is not None and job.tenant_id != tenant_id
    if job is None or foreign or steps.expired(job, now):
        raise JobNotFoundError(job_id)
    return job


def page(
    connection: Connection,
    *,
    tenant_id: str,
    status: JobStatus | None,
    limit: int,
    before: tuple[float, str] | None,
    now: float,
) -> JobPage:
    fitting = f"FROM jobs WHERE tenant_id = :tenant AND {_ALIVE}"
    fitting += "" if status is None else " AND status = :status"
    place = "" if before is None else " AND (created_at, job_id) < (:created_at, :job_id)"
    created_at, job_id = before or (0.0, "")
    wanted = {
        "tenant": tenant_id,
        "now": now,
        "status": status,
        "created_at": created_at,
        "job_id": job_id,
        "limit": limit + 1,
    }
    order = "ORDER BY created_at DESC, job_id DESC LIMIT :limit"
    columns = "created_at, job_id, record"
    rows = connection.execute(f"SELECT {columns} {fitting}{place} {order}", wanted).fetchall()
    page, more = rows[:limit], len(rows) > limit
    return JobPage(
        jobs=tuple(steps.public(job) for job in _records(row[2:] for row in page)),
        total=_number(connection, f"SELECT count(*) {fitting}", wanted),
        next_page_token=make_token("jobs", *page[-1][:2]) if more else None,
    )


def count_gone(connection: Connection, now: float) -> int:
    return _number(connection, "SELECT count(*) FROM jobs WHERE gone_after < ?", (now,))


def drop_gone(connection: Connection, now: float, limit: int) -> tuple[Job, ...]:
    gone = connection.execute(_GONE, (now, limit)).fetchall()
    ids = [row[:1] for row in gone]
    connection.executemany("DELETE FROM results WHERE job_id = ?", ids)
    connection.executemany("DELETE FROM jobs WHERE job_id = ?", ids)
    return tuple(_records(row[1:] for row in gone))


def _number(connection: Connection, query: str, wanted: Any = ()) -> int:
    return int(connection.execute(query, wanted).fetchone()[0])
