"""A job store in memory: for tests, and for services that may forget at a restart."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from heapq import heappop, heappush
from itertools import islice
from types import TracebackType
from typing import Self

from anyio.lowlevel import checkpoint
from attrs import evolve

from dedup2d.errors import CallbackQueueFullError, InvalidParameterError, JobNotFoundError, JobQueueFullError
from dedup2d.jobs import callback_steps, steps
from dedup2d.paging import check_limit, make_token, read_token
from dedup2d.protocols import MAX_CALLBACKS
from dedup2d.types import CallbackStatus, Job, JobCounts, JobPage, JobStatus, Lane, SearchResult, Swept

__all__ = ["MemoryJobStore"]

_Place = tuple[float, str]
"""`created_at` and `job_id`: the order of jobs."""


class MemoryJobStore:
    """
    A `JobStore` that lives and dies with its process, for one event loop.

    Each method takes its step without awaiting anything in between, which makes it atomic.
    Active jobs are bounded by `max_jobs` of `admit`; final ones stay until a sweep finds them expired.

    Args:
        clock: gives the Unix time.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._pending: list[_Place] = []
        self._running: set[str] = set()
        self._expiry: list[_Place] = []
        self._callbacks: list[_Place] = []
        self._waiting: Counter[str] = Counter()
        self._tenants: defaultdict[str, list[_Place]] = defaultdict(list)
        self._active: Counter[str] = Counter()
        self._keys: dict[tuple[str, str], str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    async def admit(
        self,
        job: Job,
        *,
        max_jobs: int,
        max_jobs_per_tenant: int,
        max_callbacks_per_tenant: int = MAX_CALLBACKS,
    ) -> Job:
        await checkpoint()
        new = steps.admissible(job)
        known = self._same_key(new)
        if known is not None:
            return steps.repeated(known, new)
        if new.job_id in self._jobs:
            raise InvalidParameterError("job_id", new.job_id, "an id that no job has")
        if len(self._pending) + len(self._running) >= max_jobs:
            raise JobQueueFullError(max_jobs)
        if self._active[new.tenant_id] >= max_jobs_per_tenant:
            raise JobQueueFullError(max_jobs_per_tenant, per_tenant=True)
        if new.callback_url is not None and self._waiting[new.tenant_id] >= max_callbacks_per_tenant:
            raise CallbackQueueFullError(max_callbacks_per_tenant)
        self._add(new)
        return new

    async def get(self, job_id: str, tenant_id: str | None = None) -> Job:
        await checkpoint()
        return steps.public(self._visible(job_id, tenant_id))

    async def list(
        self,
        tenant_id: str,
        *,
        status: JobStatus | None = None,
        limit: int = 50,
        page_token: str | None = None,
    ) -> JobPage:
        await checkpoint()
        check_limit(limit)
        before = None if page_token is None else read_token("jobs", page_token)
        total = sum(1 for _ in self._newest(tenant_id, status, None))
        jobs = tuple(islice(self._newest(tenant_id, status, before), limit + 1))
        page, more = jobs[:limit], len(jobs) > limit
        return JobPage(
            jobs=tuple(evolve(steps.public(job), result=None) for job in page),
            total=total,
            next_page_token=make_token("jobs", *_place(page[-1])) if more else None,
        )

    async def claim(
        self,
        token: str,
        *,
        lease_seconds: float,
        job_id: str | None = None,
        lanes: Collection[Lane] | None = None,
    ) -> Job | None:
        await checkpoint()
        now = self._clock()
        job = next(self._claimable(now, lanes), None) if job_id is None else self._jobs.get(job_id)
        if job is None or not steps.claimable(job, now, lanes):
            return None
        return self._replace(steps.claim(job, token, lease_seconds=lease_seconds, now=now))

    async def heartbeat(
        self, job_id: str, token: str, *, lease_seconds: float, progress: str | None = None
    ) -> bool:
        await checkpoint()
        job = steps.held(self._jobs.get(job_id), job_id, token)
        now = self._clock()
        beaten = steps.heartbeat(job, lease_seconds=lease_seconds, progress=progress, now=now)
        return self._replace(beaten).cancel_requested

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
        await checkpoint()
        job = steps.held(self._jobs.get(job_id), job_id, token)
        now = self._clock()
        done = steps.finish(
            job,
            status=status,
            expires_at=now + ttl_seconds,
            now=now,
            result=result,
            error_code=error_code,
            error=error,
        )
        return self._replace(done)

    async def release(
        self, job_id: str, token: str, *, delay_seconds: float = 0.0, error: str | None = None
    ) -> Job:
        await checkpoint()
        job = steps.held(self._jobs.get(job_id), job_id, token)
        now = self._clock()
        return self._replace(steps.release(job, delay_seconds=delay_seconds, error=error, now=now))

    async def cancel(self, job_id: str, tenant_id: str, *, ttl_seconds: float) -> Job:
        await checkpoint()
        job = self._visible(job_id, tenant_id)
        return steps.public(self._replace(steps.cancel(job, ttl_seconds=ttl_seconds, now=self._clock())))

    async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
        await checkpoint()
        now = self._clock()
        over = (self._jobs[job_id] for job_id in self._running)
        lost = sorted((job for job in over if steps.lease_ran_out(job, now)), key=_lease_end)[:limit]
        changed = [
            self._replace(steps.lose(job, max_losses=max_losses, ttl_seconds=ttl_seconds, now=now))
            for job in lost
        ]
        return Swept(
            lost=len(changed),
            failed=tuple(job for job in changed if job.status is JobStatus.FAILED),
            expired=tuple(islice(self._drop_expired(now), limit)),
            ready=tuple(job.job_id for job in islice(self._claimable(now), limit)),
        )

    async def count_expired(self) -> int:
        await checkpoint()
        now = self._clock()
        return sum(steps.expired(job, now) for job in self._jobs.values())

    async def claim_callback(
        self, token: str, *, lease_seconds: float, passing_over: Collection[str] = ()
    ) -> Job | None:
        await checkpoint()
        now = self._clock()
        due = (self._jobs[job_id] for due, job_id in self._callbacks if due <= now)
        job = next(
            (job for job in due if job.tenant_id not in passing_over and callback_steps.claimable(job, now)),
            None,
        )
        if job is None:
            return None
        return self._replace(callback_steps.claim(job, token, lease_seconds=lease_seconds, now=now))

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
        await checkpoint()
        job = callback_steps.held(self._jobs.get(job_id), job_id, token)
        back = callback_steps.retry(
            job,
            delay_seconds=delay_seconds,
            now=self._clock(),
            attempted=attempted,
            http_status=http_status,
            error=error,
        )
        return evolve(self._replace(back), result=None)

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
        await checkpoint()
        job = callback_steps.held(self._jobs.get(job_id), job_id, token)
        done = callback_steps.finish(
            job,
            status=status,
            ttl_seconds=ttl_seconds,
            now=self._clock(),
            http_status=http_status,
            error=error,
        )
        return evolve(self._replace(done), result=None)

    async def redeliver(self, job_id: str, tenant_id: str) -> Job:
        await checkpoint()
        job = self._visible(job_id, tenant_id)
        again = self._replace(callback_steps.redeliver(job, self._clock()))
        return evolve(steps.public(again), result=None)

    async def counts(self) -> JobCounts:
        await checkpoint()
        return JobCounts(
            pending=len(self._pending),
            in_progress=len(self._running),
            oldest_pending_at=self._pending[0][0] if self._pending else None,
        )

    def _same_key(self, job: Job) -> Job | None:
        if job.idempotency_key is None:
            return None
        known = self._jobs.get(self._keys.get((job.tenant_id, job.idempotency_key), ""))
        return None if known is None or steps.expired(known, self._clock()) else known

    def _visible(self, job_id: str, tenant_id: str | None) -> Job:
        job = self._jobs.get(job_id)
        foreign = job is not None and tenant_id is not None and job.tenant_id != tenant_id
        if job is None or foreign or steps.expired(job, self._clock()):
            raise JobNotFoundError(job_id)
        return job

    def _newest(self, tenant_id: str, status: JobStatus | None, before: _Place | None) -> Iterator[Job]:
        now = self._clock()
        places = self._tenants.get(tenant_id, [])
        start = len(places) if before is None else bisect_left(places, before)
        for index in range(start - 1, -1, -1):
            job = self._jobs[places[index][1]]
            if status in (None, job.status) and not steps.expired(job, now):
                yield job

    def _claimable(self, now: float, lanes: Collection[Lane] | None = None) -> Iterator[Job]:
        waiting = (self._jobs[job_id] for _, job_id in self._pending)
        return (job for job in waiting if steps.claimable(job, now, lanes))

    def _add(self, job: Job) -> None:
        insort(self._tenants[job.tenant_id], _place(job))
        if job.idempotency_key is not None:
            self._keys[job.tenant_id, job.idempotency_key] = job.job_id
        self._active[job.tenant_id] += 1
        self._jobs[job.job_id] = job
        self._index(job)

    def _replace(self, job: Job) -> Job:
        old = self._jobs[job.job_id]
        if old.status is not job.status:
            self._unindex(old)
            self._index(job)
        if job.status.final:
            self._index_final(old, job)
        self._jobs[job.job_id] = job
        return job

    def _index_final(self, old: Job, job: Job) -> None:
        """Note when *job*, which was *old* before, expires and when its callback is due."""
        if job.expires_at is not None and (job.expires_at != old.expires_at or not old.status.final):
            heappush(self._expiry, (job.expires_at, job.job_id))
        self._forget_callback(old)
        due = callback_steps.due_at(job)
        if due is not None:
            insort(self._callbacks, (due, job.job_id))
            self._waiting[job.tenant_id] += 1

    def _forget_callback(self, job: Job) -> None:
        due = callback_steps.due_at(job)
        if due is not None:
            del self._callbacks[bisect_left(self._callbacks, (due, job.job_id))]
            self._waiting[job.tenant_id] -= 1
            if not self._waiting[job.tenant_id]:
                del self._waiting[job.tenant_id]

    def _index(self, job: Job) -> None:
        if job.status is JobStatus.PENDING:
            insort(self._pending, _place(job))
        elif job.status is JobStatus.IN_PROGRESS:
            self._running.add(job.job_id)
        else:
            self._leave(job.tenant_id)

    def _unindex(self, job: Job) -> None:
        self._running.discard(job.job_id)
        if job.status is JobStatus.PENDING:
            del self._pending[bisect_left(self._pending, _place(job))]

    def _leave(self, tenant_id: str) -> None:
        self._active[tenant_id] -= 1
        if not self._active[tenant_id]:
            del self._active[tenant_id]

    def _drop_expired(self, now: float) -> Iterator[Job]:
        while self._expiry and now > self._expiry[0][0]:
            job = self._jobs.get(heappop(self._expiry)[1])
            # What was noted may be old: a callback makes its job stay longer.
            if job is not None and steps.expired(job, now):
                yield self._drop(job.job_id)

    def _drop(self, job_id: str) -> Job:
        job = self._jobs.pop(job_id)
        self._forget_callback(job)
        places = self._tenants[job.tenant_id]
        del places[bisect_left(places, _place(job))]
        if not places:
            del self._tenants[job.tenant_id]
        # A newer job may have taken the key since this one expired.
        key = (job.tenant_id, job.idempotency_key or "")
        if self._keys.get(key) == job_id:
            del self._keys[key]
        return evolve(job, result=None)


def _place(job: Job) -> _Place:
    return job.created_at, job.job_id


def _lease_end(job: Job) -> _Place:
    return job.lease_expires_at or 0.0, job.job_id
