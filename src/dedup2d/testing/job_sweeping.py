"""Checks of a JobStore: lost leases, expiry and counts."""

from __future__ import annotations

from attrs import evolve

from dedup2d.errors import JobNotFoundError, LeaseLostError
from dedup2d.protocols import ExpiringJobs, JobStore
from dedup2d.testing.clock import ManualClock
from dedup2d.testing.expecting import expect, expect_same, refused, together
from dedup2d.testing.job_making import TOKEN, admit, claim, complete, ids, take_all
from dedup2d.types import JobCounts, JobStatus, Swept

__all__ = ["CHECKS"]


async def a_lease_runs_out_just_past_its_end(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    claimed = await claim(store, "job", lease_seconds=60)
    clock.advance(60)
    swept = await store.sweep(max_losses=3, ttl_seconds=10)
    expect_same(swept, Swept(), "at the end of its lease a job is still held")
    clock.advance(0.001)
    swept = await store.sweep(max_losses=3, ttl_seconds=10)
    expect_same((swept.lost, swept.ready, swept.failed), (1, ("job",), ()), "past it the job is ready again")
    job = await store.get("job")
    expect(job.last_error, "the job says why it was given back")
    wanted = evolve(
        claimed,
        status=JobStatus.PENDING,
        losses=1,
        lease_token=None,
        lease_expires_at=None,
        last_error=job.last_error,
    )
    expect_same(job, wanted, "a job whose worker was lost")
    for call in (
        lambda: store.heartbeat("job", TOKEN, lease_seconds=10),
        lambda: store.release("job", TOKEN),
        lambda: complete(store, "job"),
    ):
        with refused(LeaseLostError, "the lost worker no longer holds the job"):
            await call()
    await claim(store, "job", "next")
    with refused(LeaseLostError, "nor when another holds it"):
        await complete(store, "job", TOKEN)
    await complete(store, "job", "next")


async def fails_a_job_that_loses_too_many_workers(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    for losses in (1, 2):
        await claim(store, "job", lease_seconds=10)
        clock.advance(11)
        await store.sweep(max_losses=3, ttl_seconds=50)
        expect_same((await store.get("job")).losses, losses, "the losses")
    await claim(store, "job", lease_seconds=10)
    await store.release("job", TOKEN)
    await claim(store, "job", lease_seconds=10)
    clock.advance(11)
    swept = await store.sweep(max_losses=3, ttl_seconds=50)
    job = await store.get("job")
    found = (job.status, job.losses, job.error_code, job.finished_at, job.expires_at, job.lease_expires_at)
    wanted = (JobStatus.FAILED, 3, "WORKER_LOST", clock(), clock() + 50, None)
    expect_same(found, wanted, "the third loss fails the job")
    expect(job.error, "its error is told in words")
    expect_same((swept.lost, swept.failed, swept.ready), (1, (job,), ()), "the sweep gives the failed job")


async def cancels_a_lost_job_that_was_to_be_canceled(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    await claim(store, "job", lease_seconds=10)
    await store.cancel("job", "tenant", ttl_seconds=5)
    clock.advance(11)
    swept = await store.sweep(max_losses=1, ttl_seconds=50)
    job = await store.get("job")
    found = (job.status, job.finished_at, job.expires_at)
    expect_same(
        found, (JobStatus.CANCELED, clock(), clock() + 50), "it is canceled, neither failed nor pending"
    )
    expect_same((swept.lost, swept.failed, swept.ready), (1, (), ()), "the sweep")


async def hides_expired_jobs_before_they_are_swept(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 2)
    await claim(store, "job-0")
    done = await complete(store, "job-0", ttl_seconds=100)
    clock.advance(100)
    expect_same(await store.get("job-0"), done, "at its expiry a job is there")
    expect_same((await store.sweep(max_losses=3, ttl_seconds=10)).expired, (), "and not swept")
    clock.advance(0.001)
    with refused(JobNotFoundError, "past its expiry it is not found"):
        await store.get("job-0")
    page = await store.list("tenant")
    expect_same((ids(page.jobs), page.total), (["job-1"], 1), "nor listed")
    page = await store.list("tenant", status=JobStatus.COMPLETED)
    expect_same((ids(page.jobs), page.total), ([], 0), "nor by its status")
    if isinstance(store, ExpiringJobs):
        expect_same(await store.count_expired(), 1, "it counts as expired")
    swept = await store.sweep(max_losses=3, ttl_seconds=10)
    expect_same(ids(swept.expired), ["job-0"], "the sweep deletes and gives it")
    expect_same(swept.expired[0].file_key, done.file_key, "with its file, which is the caller's to delete")
    expect_same((await store.sweep(max_losses=3, ttl_seconds=10)).expired, (), "once")
    if isinstance(store, ExpiringJobs):
        expect_same(await store.count_expired(), 0, "and no longer counts")
    await admit(store, clock, "job-0")
    expect_same((await store.get("job-0")).result, None, "nothing of it is left")


async def never_expires_what_is_not_final(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 2)
    await claim(store, "job-0", lease_seconds=10**9)
    clock.advance(10**8)
    swept = await store.sweep(max_losses=3, ttl_seconds=1)
    expect_same(swept, Swept(ready=("job-1",)), "waiting and running jobs stay")
    expect_same((await store.list("tenant")).total, 2, "both are listed")


async def sweeps_in_portions(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 15)
    for number in range(5):
        await claim(store, f"job-{number}")
        await complete(store, f"job-{number}", ttl_seconds=5)
        await claim(store, f"job-{number + 5}", lease_seconds=10 + number)
    clock.advance(100)
    portions = [await store.sweep(max_losses=1, ttl_seconds=1000, limit=2) for _ in range(4)]
    found = [(swept.lost, len(swept.failed), len(swept.expired), len(swept.ready)) for swept in portions]
    wanted = [(2, 2, 2, 2), (2, 2, 2, 2), (1, 1, 1, 2), (0, 0, 0, 2)]
    expect_same(found, wanted, "each portion has at most two lost, expired and ready jobs")
    expect_same(portions[0].ready, ("job-10", "job-11"), "ready are the oldest")
    swept = await store.sweep(max_losses=1, ttl_seconds=1000)
    expect_same(
        swept.ready, tuple(f"job-{n}" for n in range(10, 15)), "all that wait are ready, oldest first"
    )


async def one_of_many_sweeps_counts(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 5)
    for number in range(5):
        await claim(store, f"job-{number}", lease_seconds=10)
    clock.advance(11)
    swept = await together([lambda: store.sweep(max_losses=3, ttl_seconds=10) for _ in range(5)])
    lost = sum(each.lost for each in swept if isinstance(each, Swept))
    expect_same(lost, 5, "five sweeps at once find each of five lost leases once")
    losses = [(await store.get(f"job-{number}")).losses for number in range(5)]
    expect_same(losses, [1] * 5, "each job has one loss")


async def counts_what_waits_and_runs(store: JobStore, clock: ManualClock) -> None:
    expect_same(await store.counts(), JobCounts(), "an empty store")
    start = clock()
    for number in range(4):
        await admit(store, clock, f"job-{number}", created_at=start + number, tenant_id=f"tenant-{number}")
    await claim(store, "job-0")
    wanted = JobCounts(pending=3, in_progress=1, oldest_pending_at=start + 1)
    expect_same(await store.counts(), wanted, "of all tenants")
    await store.release("job-0", TOKEN, delay_seconds=50)
    wanted = JobCounts(pending=4, in_progress=0, oldest_pending_at=start)
    expect_same(await store.counts(), wanted, "a released job waits, since it was made")
    for number in range(4):
        await store.cancel(f"job-{number}", f"tenant-{number}", ttl_seconds=50)
    expect_same(await store.counts(), JobCounts(), "final jobs are not counted")


CHECKS = (
    a_lease_runs_out_just_past_its_end,
    fails_a_job_that_loses_too_many_workers,
    cancels_a_lost_job_that_was_to_be_canceled,
    hides_expired_jobs_before_they_are_swept,
    never_expires_what_is_not_final,
    sweeps_in_portions,
    one_of_many_sweeps_counts,
    counts_what_waits_and_runs,
)
