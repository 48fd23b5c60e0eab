"""Checks of a JobStore: claiming, keeping, giving back, finishing and canceling jobs."""

from __future__ import annotations

from attrs import evolve

from dedup2d.errors import InvalidParameterError, JobNotFoundError, LeaseLostError
from dedup2d.protocols import JobStore
from dedup2d.testing.clock import ManualClock
from dedup2d.testing.expecting import expect, expect_same, refused, together
from dedup2d.testing.job_making import RESULT, TOKEN, admit, claim, complete, ids, take_all
from dedup2d.types import Job, JobStatus, Lane

__all__ = ["CHECKS"]


async def claims_what_has_waited_longest(store: JobStore, clock: ManualClock) -> None:
    start = clock()
    for name, age in (("young", 1), ("b", 5), ("a", 5), ("oldest", 9)):
        await admit(store, clock, name, created_at=start - age, tenant_id=name)
    claimed = [await store.claim(f"token-{n}", lease_seconds=10) for n in range(5)]
    found = [job and job.job_id for job in claimed]
    expect_same(found, ["oldest", "a", "b", "young", None], "oldest first, then by id, then nothing")


async def claims_in_the_lanes_asked_for(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "cad", created_at=clock() - 9, lane=Lane.CAD)
    await admit(store, clock, "main")
    expect_same(
        await store.claim("other", lease_seconds=10, job_id="cad", lanes=[Lane.MAIN]),
        None,
        "a job of another lane, asked for by id",
    )
    expect_same(
        ids(filter(None, [await store.claim(TOKEN, lease_seconds=10, lanes=[Lane.MAIN]) for _ in range(2)])),
        ["main"],
        "only the jobs of the lane",
    )
    either = await store.claim(TOKEN, lease_seconds=10, lanes=list(Lane))
    expect_same(either and (either.job_id, either.lane), ("cad", Lane.CAD), "several lanes may be asked for")


async def claims_set_the_lease(store: JobStore, clock: ManualClock) -> None:
    job = await admit(store, clock, "job")
    clock.advance(5)
    claimed = await store.claim(TOKEN, lease_seconds=60)
    wanted = evolve(
        job,
        status=JobStatus.IN_PROGRESS,
        attempts=1,
        started_at=clock(),
        lease_token=TOKEN,
        lease_expires_at=clock() + 60,
    )
    expect_same(claimed, wanted, "a claimed job")
    expect_same(
        await store.get("job"), evolve(wanted, lease_token=None), "it is stored, its token kept secret"
    )


async def claims_by_id_only_what_waits(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 3)
    expect_same((await claim(store, "job-1")).job_id, "job-1", "a younger job can be claimed by its id")
    expect_same(
        await store.claim("other", lease_seconds=10, job_id="job-1"),
        None,
        "a job in progress cannot be claimed",
    )
    await complete(store, "job-1")
    expect_same(await store.claim("other", lease_seconds=10, job_id="job-1"), None, "nor can a final one")
    expect_same(
        ids([await claim(store, "job-0"), await claim(store, "job-2")]), ["job-0", "job-2"], "the others can"
    )


async def gives_each_job_to_one_of_many_claimers(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 20)
    outcomes = await together([lambda n=n: store.claim(f"token-{n}", lease_seconds=10) for n in range(50)])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    claimed = [job for job in outcomes if isinstance(job, Job)]
    expect_same(sorted(ids(claimed)), sorted(f"job-{n}" for n in range(20)), "50 claimers share no job of 20")
    for job in claimed:
        await complete(store, job.job_id, job.lease_token or "")


async def gives_one_job_to_one_of_many_claimers(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    outcomes = await together(
        [lambda n=n: store.claim(f"token-{n}", lease_seconds=10, job_id="job") for n in range(20)]  # type: ignore[misc]  # mypy knows no defaults of lambdas
    )
    expect_same(sum(isinstance(job, Job) for job in outcomes), 1, "one of 20 gets the job that all ask for")


async def heartbeats_extend_the_lease(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    claimed = await claim(store, "job", lease_seconds=60)
    clock.advance(30)
    wanted = await store.heartbeat("job", TOKEN, lease_seconds=60, progress="l1")
    expect_same(wanted, False, "no cancel was asked for")
    beaten = evolve(claimed, lease_token=None, lease_expires_at=clock() + 60, progress="l1")
    expect_same(await store.get("job"), beaten, "the lease runs from the heartbeat, progress is noted")
    await store.heartbeat("job", TOKEN, lease_seconds=10)
    shorter = evolve(beaten, lease_expires_at=clock() + 10)
    expect_same(await store.get("job"), shorter, "no progress given leaves the last")
    await store.cancel("job", "tenant", ttl_seconds=50)
    expect_same(await store.heartbeat("job", TOKEN, lease_seconds=60), True, "a cancel is made known")


async def a_lease_is_held_until_a_sweep_takes_it(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    await claim(store, "job", lease_seconds=60)
    clock.advance(61)
    expect_same(
        await store.claim("other", lease_seconds=9, job_id="job"), None, "it cannot be claimed before"
    )
    await store.heartbeat("job", TOKEN, lease_seconds=60)
    swept = await store.sweep(max_losses=3, ttl_seconds=10)
    expect_same((swept.lost, swept.ready), (0, ()), "a late heartbeat saves the lease")
    clock.advance(61)
    done = await complete(store, "job")
    expect_same(done.status, JobStatus.COMPLETED, "a late finish counts")


async def serves_the_holder_alone(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 2)
    await claim(store, "job-0")
    before = await store.get("job-0")
    for job_id, token in (
        ("job-0", "wrong"),
        ("job-0", ""),
        ("job-1", TOKEN),
        ("job-1", ""),
        ("gone", TOKEN),
    ):
        await refuse_all(store, job_id, token, f"{token!r} does not hold {job_id}")
    expect_same(await store.get("job-0"), before, "nothing is changed by those")
    expect_same((await store.get("job-1")).status, JobStatus.PENDING, "nor the pending job")


async def refuse_all(store: JobStore, job_id: str, token: str, contract: str) -> None:
    with refused(LeaseLostError, f"heartbeat: {contract}"):
        await store.heartbeat(job_id, token, lease_seconds=10)
    with refused(LeaseLostError, f"release: {contract}"):
        await store.release(job_id, token)
    with refused(LeaseLostError, f"finish: {contract}"):
        await complete(store, job_id, token)


async def finishes_with_result(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    claimed = await claim(store, "job")
    await store.heartbeat("job", TOKEN, lease_seconds=60, progress="l4")
    clock.advance(7)
    done = await store.finish("job", TOKEN, status=JobStatus.COMPLETED, ttl_seconds=100, result=RESULT)
    wanted = evolve(
        claimed,
        status=JobStatus.COMPLETED,
        finished_at=clock(),
        expires_at=clock() + 100,
        lease_token=None,
        lease_expires_at=None,
        result=RESULT,
    )
    expect_same(done, wanted, "a completed job has no lease and no progress")
    expect_same(await store.get("job"), wanted, "status and result are there together")


async def finishes_with_error(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    await claim(store, "job")
    await store.release("job", TOKEN, error="not now")
    await claim(store, "job")
    for status in (JobStatus.PENDING, JobStatus.IN_PROGRESS):
        with refused(InvalidParameterError, f"{status} is not final"):
            await store.finish("job", TOKEN, status=status, ttl_seconds=10)
    await store.finish(
        "job", TOKEN, status=JobStatus.FAILED, ttl_seconds=10, error_code="UNREADABLE_DRAWING", error="why"
    )
    job = await store.get("job")
    found = (job.status, job.error_code, job.error, job.last_error, job.result, job.next_attempt_at)
    wanted = (JobStatus.FAILED, "UNREADABLE_DRAWING", "why", None, None, None)
    expect_same(found, wanted, "a failed job")


async def a_final_job_never_changes(store: JobStore, clock: ManualClock) -> None:
    for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELED):
        name = status.value
        await admit(store, clock, name)
        await claim(store, name)
        final = await store.finish(name, TOKEN, status=status, ttl_seconds=1000)
        await refuse_all(store, name, TOKEN, f"nobody holds a {name} job")
        clock.advance(100)
        canceled = await store.cancel(name, "tenant", ttl_seconds=5000)
        expect_same(canceled, final, f"canceling a {name} job leaves it as it is")
        swept = await store.sweep(max_losses=1, ttl_seconds=10)
        expect_same((swept.lost, swept.expired), (0, ()), f"a sweep leaves a {name} job")
        expect_same(await store.get(name), final, f"a {name} job is as it was")


async def one_of_many_finishes_counts(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    await claim(store, "job")

    async def finish(number: int) -> Job:
        return await store.finish(
            "job", TOKEN, status=JobStatus.FAILED, ttl_seconds=10, error=str(number), error_code="INTERNAL"
        )

    outcomes = await together([lambda n=n: finish(n) for n in range(10)])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    won = [job for job in outcomes if isinstance(job, Job)]
    lost = [error for error in outcomes if isinstance(error, LeaseLostError)]
    expect_same((len(won), len(lost)), (1, 9), "of 10 finishes at once one wins, the others lost the lease")
    expect_same((await store.get("job")).error, won[0].error, "what the winner wrote is stored")


async def shows_status_and_result_together(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 5)
    for number in range(5):
        await claim(store, f"job-{number}")

    async def watch(name: str) -> bool:
        for _ in range(1000):
            job = await store.get(name)
            if job.status.final or job.result is not None:
                return job.status is JobStatus.COMPLETED and job.result == RESULT
        return True

    async def finish(name: str) -> bool:
        await complete(store, name)
        return True

    names = [f"job-{number}" for number in range(5)]
    outcomes = await together([lambda n=n, do=do: do(n) for n in names for do in (watch, finish)])  # type: ignore[misc]  # mypy knows no defaults of lambdas
    expect(all(each is True for each in outcomes), "whoever sees completed gets the result")


async def releases_after_a_delay(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    first = await claim(store, "job")
    started = clock()
    clock.advance(1)
    released = await store.release("job", TOKEN, delay_seconds=30, error="the engine is away")
    wanted = evolve(
        first,
        status=JobStatus.PENDING,
        lease_token=None,
        lease_expires_at=None,
        next_attempt_at=clock() + 30,
        last_error="the engine is away",
    )
    expect_same(released, wanted, "a released job waits, without a loss")
    expect_same(await store.get("job"), wanted, "it is stored so")
    await refuse_all(store, "job", TOKEN, "the lease of a released job is over")
    clock.advance(29.999)
    for job_id in (None, "job"):
        early = await store.claim("next", lease_seconds=10, job_id=job_id)
        expect_same(early, None, "it cannot be claimed before its time")
    expect_same((await store.sweep(max_losses=3, ttl_seconds=9)).ready, (), "nor is it ready")
    clock.set(wanted.next_attempt_at or 0)
    expect_same((await store.sweep(max_losses=3, ttl_seconds=9)).ready, ("job",), "at its time it is ready")
    again = await claim(store, "job", "next")
    found = (again.attempts, again.started_at, again.next_attempt_at, again.losses)
    expect_same(found, (2, started, None, 0), "attempts, first start, next attempt, losses of a second claim")


async def a_released_job_does_not_hold_up_others(store: JobStore, clock: ManualClock) -> None:
    await take_all(store, clock, 2)
    await claim(store, "job-0")
    await store.release("job-0", TOKEN, delay_seconds=30)
    clock.advance(10)
    job = await store.claim(TOKEN, lease_seconds=10)
    expect_same(job and job.job_id, "job-1", "what is not due is passed over")
    await store.release("job-1", TOKEN)
    job = await store.claim(TOKEN, lease_seconds=10)
    expect_same(job and job.job_id, "job-1", "without a delay it can be claimed at once")


async def a_release_after_a_cancel_cancels(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    await claim(store, "job")
    await store.cancel("job", "tenant", ttl_seconds=500)
    clock.advance(1)
    await store.cancel("job", "tenant", ttl_seconds=200)
    expiry = clock() + 200
    clock.advance(2)
    released = await store.release("job", TOKEN, delay_seconds=30, error="stopping")
    found = (released.status, released.finished_at, released.expires_at, released.next_attempt_at)
    wanted = (JobStatus.CANCELED, clock(), expiry, None)
    expect_same(found, wanted, "a job to be canceled is canceled when it is released, with the last expiry")
    expect_same(await store.get("job"), released, "it is stored so")


async def cancels_a_waiting_job_at_once(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    clock.advance(3)
    canceled = await store.cancel("job", "tenant", ttl_seconds=100)
    found = (canceled.status, canceled.finished_at, canceled.expires_at)
    expect_same(found, (JobStatus.CANCELED, clock(), clock() + 100), "a pending job is canceled at once")
    expect_same(await store.get("job"), canceled, "it is stored so")
    expect_same(await store.claim(TOKEN, lease_seconds=10), None, "it cannot be claimed")
    expect_same((await store.counts()).pending, 0, "it no longer waits")


async def marks_a_running_job_for_cancel(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    await claim(store, "job", lease_seconds=10_000)
    marked = await store.cancel("job", "tenant", ttl_seconds=100)
    found = (marked.status, marked.cancel_requested, marked.lease_token, marked.finished_at)
    expect_same(found, (JobStatus.IN_PROGRESS, True, None, None), "a running job is marked")
    clock.advance(101)
    swept = await store.sweep(max_losses=3, ttl_seconds=10)
    expect_same((swept.lost, swept.expired), (0, ()), "it does not expire while it runs")
    expect_same((await store.list("tenant")).total, 1, "it is listed")
    done = await complete(store, "job", ttl_seconds=70)
    ended = (done.status, done.result, done.expires_at)
    expect_same(
        ended, (JobStatus.COMPLETED, RESULT, clock() + 70), "a cancel that came too late changes nothing"
    )


async def cancels_nothing_that_has_expired(store: JobStore, clock: ManualClock) -> None:
    await admit(store, clock, "job")
    await store.cancel("job", "tenant", ttl_seconds=5)
    clock.advance(6)
    with refused(JobNotFoundError, "an expired job cannot be canceled"):
        await store.cancel("job", "tenant", ttl_seconds=5)


CHECKS = (
    claims_what_has_waited_longest,
    claims_in_the_lanes_asked_for,
    claims_set_the_lease,
    claims_by_id_only_what_waits,
    gives_each_job_to_one_of_many_claimers,
    gives_one_job_to_one_of_many_claimers,
    heartbeats_extend_the_lease,
    a_lease_is_held_until_a_sweep_takes_it,
    serves_the_holder_alone,
    finishes_with_result,
    finishes_with_error,
    a_final_job_never_changes,
    one_of_many_finishes_counts,
    shows_status_and_result_together,
    releases_after_a_delay,
    a_released_job_does_not_hold_up_others,
    a_release_after_a_cancel_cancels,
    cancels_a_waiting_job_at_once,
    marks_a_running_job_for_cancel,
    cancels_nothing_that_has_expired,
)
