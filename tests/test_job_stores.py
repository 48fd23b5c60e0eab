"""Job stores: the contract on each, and broken ones that the contract must refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from dedup2d.jobs.memory import MemoryJobStore
from dedup2d.protocols import JobStore
from dedup2d.testing import JOB_STORE_CHECKS, ContractError, ManualClock, check_job_store
from dedup2d.types import Job, JobCounts, JobPage, JobStatus, Lane, Swept
from tests.backends import JOB_STORES


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("check", JOB_STORE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", JOB_STORES)
async def test_contract(
    name: str, check: Callable[[JobStore, ManualClock], Awaitable[None]], tmp_path: Path
) -> None:
    """If this fails, jobs of this store can be lost, run twice at once, or be seen by the wrong tenant."""
    clock = ManualClock()
    with anyio.fail_after(30):
        async with JOB_STORES[name](clock, tmp_path) as store:
            await check(store, clock)


# -- broken stores, each wrong in one thing ---------------------------------------------------


class AdmitsInTwoSteps(MemoryJobStore):
    async def admit(self, job: Job, *, max_jobs: int, max_jobs_per_tenant: int, **more: int) -> Job:
        counts = await self.counts()
        if counts.pending + counts.in_progress >= max_jobs:
            max_jobs = 0
        return await super().admit(job, max_jobs=max_jobs and 10**6, max_jobs_per_tenant=max_jobs_per_tenant)


class ClaimsInTwoSteps(MemoryJobStore):
    async def claim(
        self,
        token: str,
        *,
        lease_seconds: float,
        job_id: str | None = None,
        lanes: Collection[Lane] | None = None,
    ) -> Job | None:
        chosen = (
            next(self._claimable(self._clock(), lanes), None) if job_id is None else self._jobs.get(job_id)
        )
        if chosen is None or chosen.status is not JobStatus.PENDING:
            return None
        await anyio.lowlevel.checkpoint()
        self._replace(evolve(self._jobs[chosen.job_id], status=JobStatus.PENDING))
        return await super().claim(token, lease_seconds=lease_seconds, job_id=chosen.job_id, lanes=lanes)


class ForgetsTenantLimit(MemoryJobStore):
    async def admit(self, job: Job, *, max_jobs: int, max_jobs_per_tenant: int, **more: int) -> Job:
        return await super().admit(job, max_jobs=max_jobs, max_jobs_per_tenant=10**6)


class LooksAtCapacityFirst(MemoryJobStore):
    def _same_key(self, job: Job) -> Job | None:
        return super()._same_key(job) if len(self._pending) + len(self._running) != 1 else None


class KeepsKeysForEver(MemoryJobStore):
    def _same_key(self, job: Job) -> Job | None:
        return self._jobs.get(self._keys.get((job.tenant_id, job.idempotency_key or ""), ""))


class DropsTheKeyOfAnother(MemoryJobStore):
    def _drop(self, job_id: str) -> Job:
        job = super()._drop(job_id)
        self._keys.pop((job.tenant_id, job.idempotency_key or ""), None)
        return job


class TellsLeaseTokens(MemoryJobStore):
    async def get(self, job_id: str, tenant_id: str | None = None) -> Job:
        return self._visible(job_id, tenant_id)


class ServesAnyTenant(MemoryJobStore):
    async def cancel(self, job_id: str, tenant_id: str, *, ttl_seconds: float) -> Job:
        job = await self.get(job_id)
        return await super().cancel(job_id, job.tenant_id, ttl_seconds=ttl_seconds)


class ShowsExpired(MemoryJobStore):
    def _newest(self, tenant_id: str, status: JobStatus | None, before: Any) -> Iterator[Job]:
        clock, self._clock = self._clock, lambda: 0.0
        yield from super()._newest(tenant_id, status, before)
        self._clock = clock


class ExpiresAtTheEnd(MemoryJobStore):
    """Takes a job away at its expiry, not past it."""

    def _visible(self, job_id: str, tenant_id: str | None) -> Job:
        clock, self._clock = self._clock, lambda: clock() + 1e-4
        try:
            return super()._visible(job_id, tenant_id)
        finally:
            self._clock = clock


class LosesAtTheEnd(MemoryJobStore):
    """Takes a lease away at its end, not past it."""

    async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
        clock, self._clock = self._clock, lambda: clock() + 1e-4
        try:
            return await super().sweep(max_losses=max_losses, ttl_seconds=ttl_seconds, limit=limit)
        finally:
            self._clock = clock


class ClaimsNewestFirst(MemoryJobStore):
    def _claimable(self, now: float, lanes: Collection[Lane] | None = None) -> Iterator[Job]:
        return iter(list(super()._claimable(now, lanes))[::-1])


class ClaimsTooEarly(MemoryJobStore):
    def _claimable(self, now: float, lanes: Collection[Lane] | None = None) -> Iterator[Job]:
        return super()._claimable(now + 1, lanes)

    async def claim(
        self,
        token: str,
        *,
        lease_seconds: float,
        job_id: str | None = None,
        lanes: Collection[Lane] | None = None,
    ) -> Job | None:
        for _, waiting in list(self._pending):
            self._replace(evolve(self._jobs[waiting], next_attempt_at=None))
        return await super().claim(token, lease_seconds=lease_seconds, job_id=job_id, lanes=lanes)


class RestartsTheClock(MemoryJobStore):
    async def claim(
        self,
        token: str,
        *,
        lease_seconds: float,
        job_id: str | None = None,
        lanes: Collection[Lane] | None = None,
    ) -> Job | None:
        job = await super().claim(token, lease_seconds=lease_seconds, job_id=job_id, lanes=lanes)
        return job and self._replace(evolve(job, started_at=self._clock()))


class BeatsWithoutLooking(MemoryJobStore):
    async def heartbeat(
        self, job_id: str, token: str, *, lease_seconds: float, progress: str | None = None
    ) -> bool:
        job = self._jobs.get(job_id)
        return await super().heartbeat(
            job_id, (job and job.lease_token) or token, lease_seconds=lease_seconds, progress=progress
        )


class BeatsFromTheOldEnd(MemoryJobStore):
    async def heartbeat(
        self, job_id: str, token: str, *, lease_seconds: float, progress: str | None = None
    ) -> bool:
        before = self._jobs[job_id].lease_expires_at if job_id in self._jobs else None
        wanted = await super().heartbeat(job_id, token, lease_seconds=lease_seconds, progress=progress)
        self._replace(evolve(self._jobs[job_id], lease_expires_at=(before or 0) + lease_seconds))
        return wanted


class FinishesWithoutLooking(MemoryJobStore):
    async def finish(self, job_id: str, token: str, **outcome: Any) -> Job:
        job = self._jobs.get(job_id)
        return await super().finish(job_id, (job and job.lease_token) or token, **outcome)


class FinishesTwice(MemoryJobStore):
    async def finish(self, job_id: str, token: str, **outcome: Any) -> Job:
        job = self._jobs.get(job_id)
        if job is not None and job.status.final:
            return job
        return await super().finish(job_id, token, **outcome)


class CancelsTheCompleted(MemoryJobStore):
    async def finish(self, job_id: str, token: str, *, status: JobStatus, **outcome: Any) -> Job:
        job = self._jobs.get(job_id)
        canceled = job is not None and job.cancel_requested
        return await super().finish(
            job_id, token, status=JobStatus.CANCELED if canceled else status, **outcome
        )


class ShowsStatusFirst(MemoryJobStore):
    async def finish(self, job_id: str, token: str, *, result: Any = None, **outcome: Any) -> Job:
        await super().finish(job_id, token, **outcome)
        await anyio.lowlevel.checkpoint()
        return self._replace(evolve(self._jobs[job_id], result=result))


class CountsReleasesAsLosses(MemoryJobStore):
    async def release(
        self, job_id: str, token: str, *, delay_seconds: float = 0.0, error: str | None = None
    ) -> Job:
        job = await super().release(job_id, token, delay_seconds=delay_seconds, error=error)
        return self._replace(evolve(job, losses=job.losses + 1))


class ReleasesTheCanceled(MemoryJobStore):
    async def release(
        self, job_id: str, token: str, *, delay_seconds: float = 0.0, error: str | None = None
    ) -> Job:
        if job_id in self._jobs:
            self._replace(evolve(self._jobs[job_id], cancel_requested=False))
        return await super().release(job_id, token, delay_seconds=delay_seconds, error=error)


class ProlongsFinalJobs(MemoryJobStore):
    async def cancel(self, job_id: str, tenant_id: str, *, ttl_seconds: float) -> Job:
        job = await super().cancel(job_id, tenant_id, ttl_seconds=ttl_seconds)
        if not job.status.final:
            return job
        return self._replace(evolve(job, expires_at=self._clock() + ttl_seconds))


class ExpiresWhatRuns(MemoryJobStore):
    """Takes the expiry that a cancel notes on a running job for its own."""

    def _newest(self, tenant_id: str, status: JobStatus | None, before: Any) -> Iterator[Job]:
        for job in super()._newest(tenant_id, status, before):
            if job.expires_at is None or self._clock() <= job.expires_at:
                yield job


class SweepsWithoutLimit(MemoryJobStore):
    async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
        return await super().sweep(max_losses=max_losses, ttl_seconds=ttl_seconds)


class FailsOneLossLate(MemoryJobStore):
    async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
        return await super().sweep(max_losses=max_losses + 1, ttl_seconds=ttl_seconds, limit=limit)


class WakesNobody(MemoryJobStore):
    async def sweep(self, *, max_losses: int, ttl_seconds: float, limit: int = 1000) -> Swept:
        swept = await super().sweep(max_losses=max_losses, ttl_seconds=ttl_seconds, limit=limit)
        return evolve(swept, ready=())


class PagesByNumber(MemoryJobStore):
    """Goes on after as many jobs as were shown, so that pages shift."""

    async def list(
        self,
        tenant_id: str,
        *,
        status: JobStatus | None = None,
        limit: int = 50,
        page_token: str | None = None,
    ) -> JobPage:
        if page_token is not None and not page_token.isdigit():
            return await super().list(tenant_id, status=status, limit=limit, page_token=page_token)
        start = int(page_token or 0)
        page = await super().list(tenant_id, status=status, limit=500)
        await super().list(tenant_id, limit=limit)
        more = str(start + limit) if len(page.jobs) > start + limit else None
        return evolve(page, jobs=page.jobs[start : start + limit], next_page_token=more)


class ListsResults(MemoryJobStore):
    async def list(self, tenant_id: str, **wanted: Any) -> JobPage:
        page = await super().list(tenant_id, **wanted)
        return evolve(page, jobs=tuple([await self.get(job.job_id) for job in page.jobs]))


class TotalsThePage(MemoryJobStore):
    async def list(self, tenant_id: str, **wanted: Any) -> JobPage:
        page = await super().list(tenant_id, **wanted)
        return evolve(page, total=len(page.jobs))


class GivesATokenTooMany(MemoryJobStore):
    async def list(self, tenant_id: str, *, limit: int = 50, **wanted: Any) -> JobPage:
        page = await super().list(tenant_id, limit=limit, **wanted)
        token = page.next_page_token or (page.jobs[-1].job_id if len(page.jobs) == limit else None)
        return evolve(page, next_page_token=token)


class CountsFinalJobs(MemoryJobStore):
    async def counts(self) -> JobCounts:
        return evolve(await super().counts(), in_progress=len(self._running) + len(self._expiry))


class SendsBeforeTheEnd(MemoryJobStore):
    """Lets a callback be claimed a little before its time."""

    async def claim_callback(self, token: str, **wanted: Any) -> Job | None:
        clock, self._clock = self._clock, lambda: clock() + 1e-3
        try:
            return await super().claim_callback(token, **wanted)
        finally:
            self._clock = clock


class ForgetsCallbacksOfTheCanceled(MemoryJobStore):
    async def cancel(self, job_id: str, tenant_id: str, *, ttl_seconds: float) -> Job:
        if job_id in self._jobs and self._jobs[job_id].status is JobStatus.PENDING:
            self._replace(evolve(self._jobs[job_id], callback_status=None))
        return await super().cancel(job_id, tenant_id, ttl_seconds=ttl_seconds)


class SendsToEverybody(MemoryJobStore):
    async def claim_callback(
        self, token: str, *, lease_seconds: float, passing_over: Collection[str] = ()
    ) -> Job | None:
        return await super().claim_callback(token, lease_seconds=lease_seconds)


class TellsCallbackTokens(MemoryJobStore):
    async def get(self, job_id: str, tenant_id: str | None = None) -> Job:
        return evolve(self._visible(job_id, tenant_id), lease_token=None)


class CountsWhatWasNotTried(MemoryJobStore):
    async def retry_callback(self, job_id: str, token: str, **outcome: Any) -> Job:
        return await super().retry_callback(job_id, token, **{**outcome, "attempted": True})


class ExpiresBeforeTheCallback(MemoryJobStore):
    async def retry_callback(self, job_id: str, token: str, **outcome: Any) -> Job:
        kept = self._jobs[job_id].expires_at if job_id in self._jobs else None
        back = await super().retry_callback(job_id, token, **outcome)
        self._replace(evolve(self._jobs[job_id], expires_at=kept))
        return evolve(back, expires_at=kept)


class EndsCallbacksWithoutLooking(MemoryJobStore):
    async def finish_callback(self, job_id: str, token: str, **outcome: Any) -> Job:
        job = self._jobs.get(job_id)
        held = job.callback_lease_token if job is not None else None
        return await super().finish_callback(job_id, held or token, **outcome)


class RedeliversForAnybody(MemoryJobStore):
    async def redeliver(self, job_id: str, tenant_id: str) -> Job:
        return await super().redeliver(job_id, (await self.get(job_id)).tenant_id)


class RedeliversUnderAnotherId(MemoryJobStore):
    async def redeliver(self, job_id: str, tenant_id: str) -> Job:
        job = await super().redeliver(job_id, tenant_id)
        return self._replace(evolve(job, callback_message_id="msg_other"))


BROKEN = [
    *(AdmitsInTwoSteps, ClaimsInTwoSteps, ForgetsTenantLimit, LooksAtCapacityFirst, KeepsKeysForEver),
    *(DropsTheKeyOfAnother, TellsLeaseTokens, ServesAnyTenant, ShowsExpired, ExpiresAtTheEnd, LosesAtTheEnd),
    *(ClaimsNewestFirst, ClaimsTooEarly, RestartsTheClock, BeatsWithoutLooking, BeatsFromTheOldEnd),
    *(FinishesWithoutLooking, FinishesTwice, CancelsTheCompleted, ShowsStatusFirst, CountsReleasesAsLosses),
    *(ReleasesTheCanceled, ProlongsFinalJobs, ExpiresWhatRuns, SweepsWithoutLimit, FailsOneLossLate),
    *(WakesNobody, PagesByNumber, ListsResults, TotalsThePage, GivesATokenTooMany, CountsFinalJobs),
    *(SendsBeforeTheEnd, ForgetsCallbacksOfTheCanceled, SendsToEverybody, TellsCallbackTokens),
    *(CountsWhatWasNotTried, ExpiresBeforeTheCallback, EndsCallbacksWithoutLooking, RedeliversForAnybody),
    *(RedeliversUnderAnotherId,),
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_contract_refuses_broken_stores(broken: Callable[..., MemoryJobStore]) -> None:
    """If this fails, somebody's broken store passes for one that keeps the contract."""
    with pytest.raises(ContractError):
        await check_job_store(lambda clock: broken(clock=clock), seconds=10)
