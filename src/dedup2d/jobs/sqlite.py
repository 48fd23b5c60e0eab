"""A job store in one SQLite file: for one machine, and any number of its processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from sqlite3 import Connection

from attrs import evolve

from dedup2d.database_async import AsyncDatabase, InDatabase
from dedup2d.errors import CallbackQueueFullError, InvalidParameterError, JobQueueFullError
from dedup2d.jobs import callback_steps, rows, steps
from dedup2d.paging import check_limit, read_token
from dedup2d.protocols import MAX_CALLBACKS
from dedup2d.types import CallbackStatus, Job, JobCounts, JobPage, JobStatus, Lane, SearchResult, Swept

__all__ = ["SQLiteJobStore"]


class SQLiteJobStore(InDatabase):
    """
    A `JobStore` in one file of a local disk, which several processes may use at once.

    What a method has done survives a crash of the process or the machine. Steps that write come one
    after the other, those that read go on meanwhile, all in threads. Deleted jobs leave room that
    is used again.

    Args:
        path: the file, made if missing together with its directory.
        busy_seconds: how long a step waits for writers of other processes.
        clock: gives the Unix time.

    Raises (when entered):
        StoreVersionError: a newer version of dedup2d wrote the file.
        StoreUnavailableError: the file cannot be opened, or stays locked.
    """

    def __init__(
        self, path: Path | str, *, busy_seconds: float = 30.0, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(AsyncDatabase(Path(path), rows.KIND, busy_seconds=busy_seconds))
        self._clock = clock

    async def admit(
        self,
        job: Job,
        *,
        max_jobs: int,
        max_jobs_per_tenant: int,
        max_callbacks_per_tenant: int = MAX_CALLBACKS,
    ) -> Job:
        new = steps.admissible(job)

        def step(connection: Connection) -> Job:
            known = rows.same_key(connection, new, self._clock())
            if known is not None:
                return steps.repeated(known, new)
            if rows.find(connection, new.job_id) is not None:
                raise InvalidParameterError("job_id", new.job_id, "an id that no job has")
            if rows.active(connection) >= max_jobs:
                raise JobQueueFullError(max_jobs)
            if rows.active(connection, new.tenant_id) >= max_jobs_per_tenant:
                raise JobQueueFullError(max_jobs_per_tenant, per_tenant=True)
            most = max_callbacks_per_tenant
            if new.callback_url is not None and rows.callbacks(connection, new.tenant_id) >= most:
                raise CallbackQueueFullError(most)
            rows.insert(connection, new)
            return new

        return await self._database.write(step)

    async def get(self, job_id: str, tenant_id: str | None = None) -> Job:
        def step(connection: Connection) -> Job:
            return steps.public(rows.visible(connection, job_id, tenant_id, self._clock()))

        return await self._database.read(step)

    async def list(
        self,
        tenant_id: str,
        *,
        status: JobStatus | None = None,
        limit: int = 50,
        page_token: str | None = None,
    ) -> JobPage:
        check_limit(limit)
        before = None if page_token is None else read_token("jobs", page_token)

        def step(connection: Connection) -> JobPage:
            return rows.page(
                connection,
                tenant_id=tenant_id,
                status=status,
                limit=limit,
                before=before,
                now=self._clock(),
            )

        return await self._database.read(step)

    async def claim(
        self,
        token: str,
        *,
        lease_seconds: float,
        job_id: str | None = None,
        lanes: Collection[Lane] | None = None,
    ) -> Job | None:
        def step(connection: Connection) -> Job | None:
            now = self._clock()
            job = rows.first(connection, now, lanes) if job_id is None else rows.find(connection, job_id)
            if job is None or not steps.claimable(job, now, lanes):
                return None
            return rows.update(connection, steps.claim(job, token, lease_seconds=lease_seconds, now=now))

        return await self._database.write(step)

    async def heartbeat(
        self, job_id: str, token: str, *, lease_seconds: float, progress: str | None = None
    ) -> bool:
        def beat(job: Job, now: float) -> Job:
            return steps.heartbeat(job, lease_seconds=lease_seconds, progress=progress, now=now)

        return (await self._change(job_id, token, beat)).cancel_requested

    async def finish(
        self,
        job_id: str,
        token: str,
        *,
        status: JobStatus,
        ttl_seconds: float,
        result: SearchResult | None = None,
        error_code: str | None = None,
        error: str | None = None,
    ) -> Job:
        def finish(job: Job, now: float) -> Job:
            return steps.finish(
                job,
                status=status,
                expires_at=now + ttl_seconds,
                now=now,
                result=result,
                error_code=error_code,
                error=error,
            )

        return await self._change(job_id, token, finish)

    async def release(
        self, job_id: str, token: str, *, delay_seconds: float = 0.0, error: str | None = None
    ) -> Job:
        def release(job: Job, now: float) -> Job:
            return steps.release(job, delay_seconds=delay_seconds, error=error, now=now)

        return await self._change(job_id, token, release)

    async def cancel(self, job_id: str, tenant_id: str, *, ttl_seconds: float) -> Job:
        def step(connection: Connection) -> Job:
            now = self._clock()
            job = rows.visible(connection, job_id, tenant_id, now)
            canceled = steps.cancel(job, ttl_seconds=ttl_seconds, now=now)
            return steps.public(job if canceled is job else rows.update(connection, canceled))

        return await self._database.write(step)

    async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
        def step(connection: Connection) -> Swept:
            now = self._clock()
            lost = [
                rows.update(
                    connection, steps.lose(job, max_losses=max_losses, ttl_seconds=ttl_seconds, now=now)
                )
                for job in rows.lost(connection, now, limit)
            ]
            return Swept(
                lost=len(lost),
                failed=tuple(job for job in lost if job.status is JobStatus.FAILED),
                expired=rows.drop_gone(connection, now, limit),
                ready=rows.ready(connection, now, limit),
            )

        swept = await self._database.write(step)
        if swept.expired:
            await self._database.maintain(_give_back_pages)
        return swept

    async def count_expired(self) -> int:
        return await self._database.read(lambda connection: rows.count_gone(connection, self._clock()))

    async def claim_callback(
        self, token: str, *, lease_seconds: float, passing_over: Collection[str] = ()
    ) -> Job | None:
        def step(connection: Connection) -> Job | None:
            now = self._clock()
            job = rows.due_callback(connection, now, passing_over)
            if job is None:
                return None
            claimed = callback_steps.claim(job, token, lease_seconds=lease_seconds, now=now)
            return rows.update(connection, claimed)

        due = await self._database.read(
            lambda connection: rows.any_callback(connection, self._clock(), passing_over)
        )
        return await self._database.write(step) if due else None

    async def retry_callback(
        self,
        job_id: str,
        token: str,
        *,
        delay_seconds: float,
        attempted: bool = True,
        http_status: int | None = None,
        error: str | None = None,
    ) -> Job:
        def retry(job: Job, now: float) -> Job:
            return callback_steps.retry(
                job,
                delay_seconds=delay_seconds,
                now=now,
                attempted=attempted,
                http_status=http_status,
                error=error,
            )

        return await self._change_callback(job_id, token, retry)

    async def finish_callback(
        self,
        job_id: str,
        token: str,
        *,
        status: CallbackStatus,
        ttl_seconds: float,
        http_status: int | None = None,
        error: str | None = None,
    ) -> Job:
        def finish(job: Job, now: float) -> Job:
            return callback_steps.finish(
                job, status=status, ttl_seconds=ttl_seconds, now=now, http_status=http_status, error=error
            )

        return await self._change_callback(job_id, token, finish)

    async def redeliver(self, job_id: str, tenant_id: str) -> Job:
        def step(connection: Connection) -> Job:
            now = self._clock()
            job = evolve(rows.visible(connection, job_id, tenant_id, now), result=None)
            return steps.public(rows.update(connection, callback_steps.redeliver(job, now)))

        return await self._database.write(step)

    async def counts(self) -> JobCounts:
        return await self._database.read(rows.counts)

    async def _change_callback(self, job_id: str, token: str, change: Callable[[Job, float], Job]) -> Job:
        def step(connection: Connection) -> Job:
            job = callback_steps.held(rows.record(connection, job_id), job_id, token)
            return rows.update(connection, change(job, self._clock()))

        return await self._database.write(step)

    async def _change(self, job_id: str, token: str, change: Callable[[Job, float], Job]) -> Job:
        def step(connection: Connection) -> Job:
            job = steps.held(rows.find(connection, job_id), job_id, token)
            return rows.update(connection, change(job, self._clock()))

        return await self._database.write(step)


def _give_back_pages(connection: Connection) -> None:
    # `execute` takes one step only, which gives back one page.
    connection.executescript("PRAGMA incremental_vacuum(1000)")
